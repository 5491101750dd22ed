"""Handlers of hls4ml's parsers: ONNX nodes and torch modules -> the dictionaries that its layers are made of.

hls4ml finds a handler by the operator's or the class's name alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.errors import TypeMismatch
from codesign.ir import IntType

CHANNELS_LAST = "codesign.channels_last"  # domain of our nodes in files for hls4ml
REMEDY = "Write the file with codesign.hls4ml.channels_last"


def square_deform(
    node: Any, input_names: Sequence[str], input_shapes: Sequence[Sequence[int]], graph: Any
) -> dict[str, Any]:
    """codesign.channels_last::SquareDeformConv(x (N, H, W, C), w (C, 1, 3, 3), d (N, H', W', 1)[, b])."""
    values = attributes_of(node)
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
    ((_, height, width, channels),), factor = input_shapes[:1], attributes_of(node)["factor"]
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


def attributes_of(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def torch_window(
    operation: str, name: str, inputs: Sequence[str], shapes: Sequence[Sequence[int]], node: Any, module: Any,
    reader: Any, config: Any,
) -> tuple[dict[str, Any], list[int]]:  # fmt: skip
    """quant.hls4ml_modules.FixedWindow: a convolution of one group, or a depthwise one."""
    weight = module.weight.numpy()
    filters, per_group, *kernel = weight.shape
    channels = shapes[0][1]
    if module.groups not in (1, channels) or (module.groups > 1 and filters != channels):
        raise TypeMismatch(
            f"{name}: has {module.groups} groups for {channels} channels and {filters} filters, expected one group or "
            "a depthwise convolution. Build it for the engine."
        )
    layer, out = _window(name, inputs, shapes[0], kernel, module.stride, module.padding, filters)
    depthwise = module.groups > 1
    layer["class_name"] = "DepthwiseConv2D" if depthwise else "Conv2D"
    layer["depthwise_data" if depthwise else "weight_data"] = weight
    layer["depthwise_quantizer"] = layer["weight_quantizer"] = exact_type(weight)
    layer["bias_data"], layer["bias_quantizer"] = module.bias.numpy(), exact_type(module.bias.numpy())
    for side, pad in zip(("top", "left"), module.padding, strict=True):
        layer[f"pad_{side}"] = layer[f"pad_{'bottom' if side == 'top' else 'right'}"] = pad
    layer.update(filt_height=kernel[0], filt_width=kernel[1], dilation=1, depth_multiplier=1)
    return layer, out


def torch_square_deform(
    operation: str, name: str, inputs: Sequence[str], shapes: Sequence[Sequence[int]], node: Any, module: Any,
    reader: Any, config: Any,
) -> tuple[dict[str, Any], list[int]]:  # fmt: skip
    """quant.hls4ml_modules.FixedSquareDeform, inputs the map and the raw offsets."""
    weight = module.weight.numpy()
    layer, out = _window(name, inputs, shapes[0], (3, 3), (module.stride,) * 2, (1, 1), len(weight))
    bias = np.zeros(len(weight))
    layer.update(class_name="SquareDeform2D", max_offset=module.bound, weight_data=weight, bias_data=bias)
    layer["weight_quantizer"], layer["bias_quantizer"] = exact_type(weight), exact_type(bias)
    return layer, out


def torch_quantizer(
    operation: str, name: str, inputs: Sequence[str], shapes: Sequence[Sequence[int]], node: Any, module: Any,
    reader: Any, config: Any,
) -> tuple[dict[str, Any], list[int]]:  # fmt: skip
    """quant.hls4ml_modules.FixedQuantizer: a linear activation, to which TypeFixedQuantizer gives its type."""
    from hls4ml.model.quantizers import QuantNodeQuantizer
    from hls4ml.model.types import FixedPrecisionType

    elem, exponent = IntType.holding(module.lo, module.hi), int(np.log2(module.scale))
    narrow = module.lo == -module.hi
    if not narrow and (module.lo, module.hi) != (elem.min, elem.max):
        raise TypeMismatch(
            f"{name}: clamps to {module.lo}..{module.hi}, which no fixed-point type saturates to. "
            "Build it for the engine."
        )
    saturation = "SAT_SYM" if narrow else "SAT"
    type_ = FixedPrecisionType(elem.bits, elem.bits + exponent, elem.signed, "RND_CONV", saturation)
    layer = {
        "class_name": "Activation",
        "activation": "linear",
        "name": name,
        "inputs": list(inputs),
        "data_format": "channels_first",
        "quantizer": QuantNodeQuantizer(type_),
        "fixed_quantizer": True,
    }
    return layer, list(shapes[0])


def _window(
    name: str, inputs: Sequence[str], shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int],
    pads: Sequence[int], filters: int,
) -> tuple[dict[str, Any], list[int]]:  # fmt: skip
    """What every layer with a window has, and the shape (N, C, H, W) of its result."""
    batch, channels, *size = shape
    out = [(s + 2 * p - k) // t + 1 for s, p, k, t in zip(size, pads, kernel, stride, strict=True)]
    layer = {
        "name": name,
        "inputs": list(inputs),
        "data_format": "channels_first",
        "in_height": size[0],
        "in_width": size[1],
        "out_height": out[0],
        "out_width": out[1],
        "n_chan": channels,
        "n_filt": filters,
        "stride_height": stride[0],
        "stride_width": stride[1],
    }
    return layer, [batch, filters, *out]


def exact_type(values: npt.NDArray[Any]) -> Any:
    """The quantizer of the narrowest signed fixed-point type that holds all of these numbers, which it keeps."""
    from hls4ml.model.quantizers import QuantNodeQuantizer
    from hls4ml.model.types import FixedPrecisionType

    exponent = 0
    numbers = values.astype(np.float64)
    if numbers.any():
        mantissa, power = np.frexp(numbers[numbers != 0])
        whole = np.ldexp(mantissa, 53).astype(np.int64)
        exponent = int((power - 53 + np.log2((whole & -whole).astype(np.float64)).astype(int)).min())
    codes = np.ldexp(numbers, -exponent)
    elem = IntType.holding(min(int(codes.min()), -1), int(codes.max()))
    return QuantNodeQuantizer(FixedPrecisionType(elem.bits, elem.bits + exponent, True, "RND_CONV", "SAT"))


ONNX = {"SquareDeformConv": square_deform, "NearestUpsample": upsample}
TORCH = {
    "FixedWindow": torch_window,
    "FixedSquareDeform": torch_square_deform,
    "FixedQuantizer": torch_quantizer,
}
