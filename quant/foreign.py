"""A float ONNX file from elsewhere -> FloatNet: constants computed, normalization folded, all that is left named.

    net = read_float("model.onnx", size=(320, 320), pixels=Pixels(mean=(0, 0, 0), std=(1 / 255,) * 3))

Each operator has a function in `quant.foreign_ops`. What has no exact place in the accelerator is refused, with every
node at once. No torch.
"""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np
import onnx

from codesign.errors import ModelError, ModelRefused, Problem
from quant.float_net import FloatNet
from quant.foreign_site import IMAGE, Pixels, Reader, Tensor, centre_tap

OPSETS = range(7, 24)


def read_float(
    source: str | PathLike[str] | onnx.ModelProto, pixels: Pixels, size: tuple[int, int] | None = None
) -> FloatNet:
    """The network with everything folded that can be. Raises ModelError, and ModelRefused with every reason."""
    from quant.foreign_curves import with_curves
    from quant.foreign_ops import PATTERNS
    from quant.foreign_window import narrower

    where, model = _load(source)
    model, curves = with_curves(model)
    reader = Reader(where, model, pixels, size)
    reader.curves = curves
    reader.walk(PATTERNS)
    outputs = []
    for info in model.graph.output:
        value = reader.env.get(info.name)
        if isinstance(value, Tensor) and value.name in reader.maker:
            outputs.append((info.name, value))
        elif info.name not in reader.refused:
            reader.problems.append(
                Problem(f"output {info.name!r}", "is not computed by the network", "Export the file again.")
            )
    if not reader.problems:
        _fold_pixels(reader, pixels)
        sizes = {t.name: (t.shape[1:] + (1, 1))[:2] for t in reader.env.values() if isinstance(t, Tensor)}
        sizes[IMAGE] = reader.input.shape[1:]
        reader.layers = narrower(reader.layers, sizes, reader.unique)
    if reader.problems:
        raise ModelRefused(where, reader.problems)
    _name_outputs(reader, outputs)
    _, height, width = reader.input.shape
    return FloatNet(IMAGE, (height, width), reader.layers, [name for name, _ in outputs], reader.notes)


def _load(source: str | PathLike[str] | onnx.ModelProto) -> tuple[str, onnx.ModelProto]:
    if isinstance(source, onnx.ModelProto):
        where, model = source.graph.name or "model", source
    else:
        where, path = str(source), Path(source)
        if not path.is_file():
            raise ModelError(f"{path}: no such file, expected an ONNX model. Check the path.")
        try:
            model = onnx.load(path)
        except Exception:  # protobuf and onnx raise several kinds
            raise ModelError(f"{path}: cannot be read as an ONNX model. Export it again.") from None
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if not versions or versions[0] not in OPSETS:
        said = f"uses ONNX opset {versions[0]}" if versions else "names no ONNX opset"
        raise ModelError(f"{where}: {said}, expected {OPSETS[0]} to {OPSETS[-1]}. Export it again.")
    return where, model


def _fold_pixels(reader: Reader, pixels: Pixels) -> None:
    """Let the first layers read (pixel - 128) / 128: channel order, mean and deviation go into their weights."""
    channels = reader.input.shape[0]
    mix, factor, shift = pixels.affine(channels)
    for layer in reader.layers:
        if reader.input.name not in layer.inputs:
            continue
        if layer.op != "Conv" or layer.group != 1 or layer.weight is None:
            reader.problems.append(
                Problem(
                    f"{layer.op} {layer.name!r}",
                    "reads the image and is no dense convolution, into which its normalization could be folded",
                    "Begin with a convolution.",
                )
            )
            continue
        weight = layer.weight.astype(np.float64)
        bias = np.zeros(len(weight)) if layer.bias is None else layer.bias
        layer.bias = (bias + np.einsum("ochw,c->o", weight, shift)).astype(np.float32)
        layer.weight = np.einsum("ochw,c,cr->orhw", weight, factor, mix).astype(np.float32)
        layer.inputs = [IMAGE if name == reader.input.name else name for name in layer.inputs]


def _name_outputs(reader: Reader, outputs: list[tuple[str, Tensor]]) -> None:
    """Results keep the names that they have in the file."""
    renamed: dict[str, str] = {}
    for name, tensor in outputs:
        if tensor.name in renamed:  # a result that is given twice gets a layer of its own
            layer = centre_tap(name, tensor, np.ones(tensor.shape[0]), np.zeros(tensor.shape[0]))
            reader.add(replace(layer, outputs=[name]), tensor.shape)
        else:
            renamed[tensor.name] = name
    for layer in reader.layers:
        layer.inputs = [renamed.get(x, x) for x in layer.inputs]
        layer.outputs = [renamed.get(x, x) for x in layer.outputs]
