"""The square deformable convolution as a layer of hls4ml, and whole models of codesign as hls4ml reads them.

    import codesign.hls4ml

    codesign.hls4ml.register()                            # once, before any model is converted
    model = codesign.hls4ml.channels_last("model.onnx")   # QONNX for hls4ml.converters.convert_from_onnx_model
    design = codesign.hls4ml.convert("model.onnx", "project", backend="Vitis", io_type="io_stream")

hls4ml 1.3 loads entry points for backends alone, before its converters exist, so that a layer is registered by a call.
hls4ml is imported by these calls and not before.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

BACKENDS = ("Vivado", "Vitis", "VivadoAccelerator")


def register() -> None:
    """Make the layer known to hls4ml's parsers, optimizer and backends. A second call changes nothing.

    Raises ToolMissing where hls4ml is not installed, or is one whose interfaces are others.
    """
    from codesign.hls4ml.registry import register as registered

    registered()


def channels_last(path: str | PathLike[str]) -> onnx.ModelProto:
    """A model file of codesign as the channels-last QONNX that hls4ml parses, with the same integers. What hls4ml has
    in io_parallel alone is written too.

    Raises ModelError or ModelRefused where codesign cannot read the file, and ModelRefused naming every layer that
    hls4ml cannot compute exactly.
    """
    from codesign.hls4ml.qonnx import write
    from codesign.onnx_io import import_model

    return write(import_model(path), str(path))


def convert(path: str | PathLike[str], output_dir: str | PathLike[str], **options: Any) -> Any:
    """The hls4ml ModelGraph of a model file, with types that keep every integer: `compile` and `predict` give what the
    file means. Options are those of hls4ml.converters.convert_from_onnx_model, such as backend, io_type and part.

    Raises as `register` and `channels_last` do.
    """
    from codesign.hls4ml.design import convert as converted
    from codesign.onnx_io import import_model

    return converted(import_model(path), str(path), output_dir, **options)
