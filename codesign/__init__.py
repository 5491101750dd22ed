"""Quantized deformable-convolution networks, from ONNX to an FPGA accelerator."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`custom_op`, by which qonnx finds the operators of the domain `codesign`: loaded only when it asks."""
    if name == "custom_op":
        from importlib import import_module  # not an import statement, which would take it to boards as well

        return import_module("codesign.qonnx_ops").custom_op
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
