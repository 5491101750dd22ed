"""A process of its own for one design of hls4ml: `python -m codesign.hls4ml.child LIBRARY FUNCTION IN.npz OUT.npz`.

hls4ml's C++ aborts where something is wrong in it, and takes the process along. IN holds float32 arrays in the order of
the function's inputs, `i0` (N, ...) and on, and `sizes`, the elements of each output; OUT gets `o0` (N, elements) and
on.
"""

from __future__ import annotations

import ctypes
import sys

import numpy as np


def main(library: str, function: str, source: str, target: str) -> None:
    with np.load(source) as loaded:
        sizes = loaded["sizes"]
        inputs = [np.ascontiguousarray(loaded[f"i{k}"], np.float32) for k in range(len(loaded.files) - 1)]
    outputs = [np.zeros((len(inputs[0]), size), np.float32) for size in sizes]
    call = getattr(ctypes.CDLL(library), function)
    call.restype, call.argtypes = None, [ctypes.c_void_p] * (len(inputs) + len(outputs))
    for n in range(len(inputs[0])):
        call(*(array[n].ctypes.data for array in (*inputs, *outputs)))
    np.savez(target, **{f"o{k}": array for k, array in enumerate(outputs)})  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
