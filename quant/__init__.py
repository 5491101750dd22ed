"""Training, quantization and export of detectors with deformable convolutions.

Importing this package costs nothing: the modules that need torch import it themselves, and `quant.data` is
numpy and Pillow alone.
"""
