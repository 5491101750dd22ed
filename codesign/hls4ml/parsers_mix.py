"""Handlers of hls4ml's parsers for gates of whole maps and what they open. Nodes of `codesign.channels_last`:

    GlobalSum(x, f, b)           y = f * (sum of x over the map) + b
    Table(x, v)                  y = v[code of x], codes of `bits` bits in steps of 2^exponent
    ChannelMix(x, r, f, b)       y = f * (sum over `parts` of r * x) + b
    MixedConv(x, r, w, s, b)     y = s * conv(x, W) + b,   W = clamp(RHE((sum over k of r_k * w_k) / s))

Maps are (N, H, W, C), gates r (N, 1, 1, K), f, s and b numbers a channel, w (Co, K, Ci, kh, kw). RHE rounds
half to even, clamp is to +-(2^(`bits` - 1) - 1). hls4ml finds a handler
by the operator's or the class's name alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from typing import Any

import numpy as np

from codesign.errors import TypeMismatch
from codesign.hls4ml.parsers import CHANNELS_LAST, REMEDY, attributes_of

Shapes = Sequence[Sequence[int]]


def global_sum(node: Any, input_names: Sequence[str], input_shapes: Shapes, graph: Any) -> dict[str, Any]:
    return _node(node, input_names, "GlobalSum2D", input_shapes[0][1:], (1, 1, input_shapes[0][3]))


def table(node: Any, input_names: Sequence[str], input_shapes: Shapes, graph: Any) -> dict[str, Any]:
    values, shape = attributes_of(node), input_shapes[0][1:]
    return _node(
        node, input_names, "CodeTable", shape, shape, **{n: values[n] for n in ("bits", "signed", "exponent")}
    )


def channel_mix(node: Any, input_names: Sequence[str], input_shapes: Shapes, graph: Any) -> dict[str, Any]:
    parts, shape = attributes_of(node).get("parts", 1), input_shapes[0][1:]
    return _node(node, input_names, "ChannelMix2D", shape, (*shape[:2], shape[2] // parts), n_parts=parts)


def mixed_conv(node: Any, input_names: Sequence[str], input_shapes: Shapes, graph: Any) -> dict[str, Any]:
    values = attributes_of(node)
    shape, (filters, experts, _, *kernel) = input_shapes[0][1:], input_shapes[2]
    window = values.get("strides", [1, 1]), values.get("pads", [0] * 4)
    return _node(
        node, input_names, "MixedConv2D", shape,
        **mixed_window(shape, filters, kernel, *window), n_experts=experts, mixed_bits=values["bits"],
    )  # fmt: skip


def mixed_window(
    shape: Sequence[int], filters: int, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int]
) -> dict[str, Any]:
    """Of a mixed convolution of a map (H, W, C); pads top, left, bottom, right."""
    padded = [shape[i] + pads[i] + pads[i + 2] for i in range(2)]
    height, width = ((p - k) // s + 1 for p, k, s in zip(padded, kernel, strides, strict=True))
    sides = ("top", "left", "bottom", "right")
    return {
        "out": (height, width, filters),
        "filt_height": kernel[0],
        "filt_width": kernel[1],
        "stride_height": strides[0],
        "stride_width": strides[1],
        **{f"pad_{side}": pad for side, pad in zip(sides, pads, strict=True)},
    }


def _node(
    node: Any, inputs: Sequence[str], becomes: str, shape: Sequence[int], out: Sequence[int], **more: Any
) -> dict[str, Any]:
    if node.domain != CHANNELS_LAST:
        raise TypeMismatch(
            f"{node.op_type} {node.name!r}: is channels first, expected channels last. {REMEDY}."
        )
    return {
        "class_name": "ParameterNode",
        "becomes": becomes,
        "name": node.name,
        "inputs": list(inputs),
        "outputs": list(node.output),
        "data_format": "channels_last",
        **_map(shape, out),
        **more,
    }


def _map(shape: Sequence[int], out: Sequence[int]) -> dict[str, int]:
    """Geometry of a layer from a map (H, W, C) to another."""
    values = (*shape[:2], *out[:2], shape[2], out[2])
    names = ("in_height", "in_width", "out_height", "out_width", "n_chan", "n_filt")
    return dict(zip(names, values, strict=True))


def _torch(
    name: str, inputs: Sequence[str], kind: str, shape: Sequence[int], out: Sequence[int], **more: Any
) -> tuple[dict[str, Any], list[int]]:
    """The layer of a torch module, and the shape (N, C, H, W) of its result; `out` is (H, W, C)."""
    layer = {"class_name": kind, "name": name, "inputs": list(inputs), "data_format": "channels_first"}
    n, channels, *size = shape
    return {**layer, **_map((*size, channels), out), **more}, [n, out[2], *out[:2]]


def torch_mean(
    operation: str, name: str, inputs: Sequence[str], shapes: Shapes, node: Any, module: Any, reader: Any, config: Any
) -> tuple[dict[str, Any], list[int]]:  # fmt: skip
    """quant.hls4ml_modules.FixedMean."""
    _, channels, height, width = shapes[0]
    pixels = height * width
    if pixels & (pixels - 1):
        raise TypeMismatch(
            f"{name}: is the mean of {height}x{width} pixels, expected a power of two of them. Take another size, or "
            "give hls4ml the model file."
        )
    factor: dict[str, Any] = {"factor_data": np.full(channels, 1.0 / pixels), "bias_data": np.zeros(channels)}
    return _torch(name, inputs, "GlobalSum2D", shapes[0], (1, 1, channels), **factor)


def torch_table(
    operation: str, name: str, inputs: Sequence[str], shapes: Shapes, node: Any, module: Any, reader: Any, config: Any
) -> tuple[dict[str, Any], list[int]]:  # fmt: skip
    """quant.hls4ml_modules.FixedTable."""
    _, channels, height, width = shapes[0]
    values = module.values.numpy()
    bits, exponent = len(values).bit_length() - 1, int(log2(module.scale))
    more = {"bits": bits, "signed": int(module.lo < 0), "exponent": exponent}
    shape = (height, width, channels)
    return _torch(name, inputs, "CodeTable", shapes[0], shape, table_data=values, **more)


def torch_gates(
    operation: str, name: str, inputs: Sequence[str], shapes: Shapes, node: Any, module: Any, reader: Any, config: Any
) -> tuple[dict[str, Any], list[int]]:  # fmt: skip
    """quant.hls4ml_modules.FixedGates, inputs the map and its gates."""
    _, channels, height, width = shapes[0]
    out = channels // module.parts
    factor: dict[str, Any] = {"factor_data": np.ones(out), "bias_data": np.zeros(out)}
    return _torch(
        name, inputs, "ChannelMix2D", shapes[0], (height, width, out), n_parts=module.parts, **factor
    )


def torch_mixture(
    operation: str, name: str, inputs: Sequence[str], shapes: Shapes, node: Any, module: Any, reader: Any, config: Any
) -> tuple[dict[str, Any], list[int]]:  # fmt: skip
    """quant.hls4ml_modules.FixedMixture, inputs the map and the gates."""
    from codesign.hls4ml.layers_mix import MixedConv2D

    weight = module.weight.double().numpy()
    filters, experts, _, *kernel = weight.shape
    window = mixed_window(
        [*shapes[0][2:], shapes[0][1]], filters, kernel, (1, 1), [k // 2 for k in (*kernel, *kernel)]
    )
    data = MixedConv2D.data(weight, module.step.double().numpy(), module.bias.double().numpy())
    parameters: dict[str, Any] = {f"{key}_data": value for key, value in data.items()}
    return _torch(
        name,
        inputs,
        "MixedConv2D",
        shapes[0],
        **window,
        n_experts=experts,
        mixed_bits=module.bits,
        **parameters,
    )


ONNX = {"GlobalSum": global_sum, "Table": table, "ChannelMix": channel_mix, "MixedConv": mixed_conv}
TORCH = {
    "FixedMean": torch_mean,
    "FixedTable": torch_table,
    "FixedGates": torch_gates,
    "FixedMixture": torch_mixture,
}
