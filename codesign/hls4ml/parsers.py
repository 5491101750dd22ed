"""Handlers of hls4ml's parsers: ONNX nodes and torch modules -> the dictionaries that its layers are made of.

hls4ml finds a handler by the operator's or the class's name alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codesign.errors import TypeMismatch

CHANNELS_LAST = "codesign.channels_last"  # domain of our nodes in files for hls4ml
REMEDY = "Write the file with codesign.hls4ml.channels_last"


def square_deform(
    node: Any, input_names: Sequence[str], input_shapes: Sequence[Sequence[int]], graph: Any
) -> dict[str, Any]:
    """codesign.channels_last::SquareDeformConv(x (N, H, W, C), w (C, 1, 3, 3), d (N, H', W', 1)[, b])."""
    values = _attributes(node)
    if node.domain != CHANNELS_LAST:
        raise TypeMismatch(
            f"SquareDeformConv {node.name!r}: is channels first, expected channels last. {REMEDY}."
        )
    (_, height, width, channels), weight, (_, out_height, out_width, _) = input_shapes[:3]
    if list(weight) != [channels, 1, 3, 3] or values.get("pads", [1] * 4) != [1] * 4:
        raise TypeMismatch(
            f"SquareDeformConv {node.name!r}: weight {list(weight)} with pads {values.get('pads')}, expected "
            f"[{channels},1,3,3] with pads 1. {REMEDY}."
        )
    x, w, d, *bias = input_names
    stride = values.get("strides", [1, 1])
    return {
        "class_name": "SquareDeformNode",
        "name": node.name,
        "inputs": [x, d, w, *bias],
        "outputs": list(node.output),
        "data_format": "channels_last",
        "in_height": height,
        "in_width": width,
        "out_height": out_height,
        "out_width": out_width,
        "n_chan": channels,
        "stride_height": stride[0],
        "stride_width": stride[1],
        "max_offset": values["max_offset"],
    }


def upsample(
    node: Any, input_names: Sequence[str], input_shapes: Sequence[Sequence[int]], graph: Any
) -> dict[str, Any]:
    """codesign.channels_last::NearestUpsample(x (N, H, W, C)), factor: hls4ml's own handler of Resize takes the width
    for the height.
    """
    ((_, height, width, channels),), factor = input_shapes[:1], _attributes(node)["factor"]
    return {
        "class_name": "Resize",
        "name": node.name,
        "inputs": list(input_names[:1]),
        "outputs": list(node.output),
        "data_format": "channels_last",
        "algorithm": "nearest",
        "in_height": height,
        "in_width": width,
        "out_height": height * factor,
        "out_width": width * factor,
        "n_chan": channels,
    }


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


ONNX = {"SquareDeformConv": square_deform, "NearestUpsample": upsample}
TORCH: dict[str, Any] = {}
