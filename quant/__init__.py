"""Training, quantization and export of detectors with deformable convolutions.

Importing this package costs nothing: the modules that need torch import it themselves, and `quant.data` is
numpy and Pillow alone.
"""

import warnings

# Brevitas tells at import that an accelerator for something else is missing.
warnings.filterwarnings("ignore", message="fast_hadamard_transform package not found")
