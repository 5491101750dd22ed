"""Quantized deformable-convolution networks, from ONNX to an FPGA accelerator."""

__version__ = "0.1.0"
