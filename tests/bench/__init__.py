"""Benchmarks: our times beside others' on the same models. `make bench` runs them."""

import os

# One thread for everybody, and before numpy, torch or onnxruntime are loaded.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
