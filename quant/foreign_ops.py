"""What each operator of a foreign float file becomes: a function from its Site, and a line in PATTERNS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.float_net import CURVE, Layer
from quant.foreign_curves import curve
from quant.foreign_quant import dequantize_linear, quant, quantize_linear
from quant.foreign_site import Site, Tensor, Unsupported, Value, centre_tap
from quant.foreign_views import concat, depth_to_space, flatten, max_pool, pads_of, pair, resize
from quant.foreign_window import average_pool

LINEAR = ("Conv", "ConvTranspose")
CLIPPED = ("Conv", "ConvTranspose", "Add")


def conv(site: Site) -> Value:
    x, weight, bias = site.tensor(), site.needed(1, "weight"), site.array(2, "bias")
    if weight.ndim != 4:
        raise Unsupported(
            f"has a weight of {weight.ndim} axes, expected 4", "Use two-dimensional convolutions."
        )
    group, (kh, kw) = int(site.attrs.get("group", 1)), weight.shape[2:]
    strides = pair(site, "strides")
    if pair(site, "dilations") != [1, 1]:
        raise Unsupported(f"has dilations {pair(site, 'dilations')}, expected 1", "Use no dilation.")
    if group not in (1, x.shape[0]) or (group > 1 and len(weight) != group):
        raise Unsupported(
            f"has {group} groups with {x.shape[0]} input and {len(weight)} output channels, expected 1 group or "
            "depthwise",
            "Use one of the two.",
        )
    pads = pads_of(site, x, (kh, kw), strides)
    attrs = {"group": group, "kernel_shape": [kh, kw], "strides": strides, "pads": pads}
    out = [(x.shape[1 + i] + pads[i] + pads[i + 2] - (kh, kw)[i]) // strides[i] + 1 for i in (0, 1)]
    layer = Layer("Conv", site.name, [x.name], [site.node.output[0]], attrs, _f32(weight), _maybe(bias))
    return site.reader.add(layer, (len(weight), *out))[0]


def conv_transpose(site: Site) -> Value:
    x, weight, bias = site.tensor(), site.needed(1, "weight"), site.array(2, "bias")
    group, strides, extra = (
        int(site.attrs.get("group", 1)),
        pair(site, "strides"),
        pair(site, "output_padding", 0),
    )
    pads = [int(v) for v in site.attrs.get("pads", [0] * 4)]
    kernel = list(weight.shape[2:])
    if site.text("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in site.attrs:
        raise Unsupported("has auto_pad or output_shape, expected explicit pads", "Export it so.")
    attrs = {
        "group": group,
        "kernel_shape": kernel,
        "strides": strides,
        "pads": pads,
        "output_padding": extra,
    }
    out = [strides[i] * (x.shape[1 + i] - 1) + kernel[i] - pads[i] - pads[i + 2] + extra[i] for i in (0, 1)]
    layer = Layer(
        "ConvTranspose", site.name, [x.name], [site.node.output[0]], attrs, _f32(weight), _maybe(bias)
    )
    return site.reader.add(layer, (weight.shape[1] * group, *out))[0]


def batch_norm(site: Site) -> Value:
    x = site.tensor()
    scale, shift, mean, variance = (site.needed(i).astype(np.float64) for i in (1, 2, 3, 4))
    factor = scale / np.sqrt(variance + float(site.attrs.get("epsilon", 1e-5)))
    return affine(site, x, factor, shift - mean * factor)


def affine(site: Site, x: Tensor, factor: NDArray[Any], shift: NDArray[Any]) -> Value:
    """x * factor + shift by channel: folded into the layer before, or a layer of its own."""
    layer = site.reader.last(x, *LINEAR)
    if layer is None:
        return site.reader.add(centre_tap(site.name, x, factor, shift), x.shape)[0]
    layer.scaled(factor, shift)
    return x


def arithmetic(site: Site) -> Value:
    """Add, Sub, Mul, Div with a constant per channel, or Add of two maps."""
    op, (a, b) = site.node.op_type, (site.inputs[0], site.inputs[1])
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if op not in ("Add", "Sum") or len(site.inputs) != 2:
            raise Unsupported("is element-wise arithmetic on two maps", "Only two maps can be added.")
        if a.shape != b.shape or len(a.shape) != 3:
            shown = f"{list(a.shape)} and {list(b.shape)}"
            raise Unsupported(f"adds maps of {shown}, expected one shape", "Add maps of one shape.")
        layer = Layer("Add", site.name, [a.name, b.name], [site.node.output[0]])
        return site.reader.add(layer, a.shape)[0]
    swapped = not isinstance(a, Tensor)
    x, constant = (b, a) if swapped else (a, b)
    assert isinstance(x, Tensor) and constant is not None and not isinstance(constant, Tensor)
    table = _by_channel(constant, x)
    one, none = np.ones(x.shape[0]), np.zeros(x.shape[0])
    if op == "Div" and swapped:
        raise Unsupported("divides by a map", "Leave it out.")
    factor, shift = {
        "Add": (one, table),
        "Sum": (one, table),
        "Sub": (-one, table) if swapped else (one, -table),
        "Mul": (table, none),
        "Div": (1 / table if op == "Div" else one, none),
    }[op]
    return affine(site, x, factor, shift)


def _by_channel(constant: NDArray[Any], x: Tensor) -> NDArray[Any]:
    array = constant.astype(np.float64)
    axes = len(x.shape)
    shape = (1,) * (axes - array.ndim) + array.shape[-axes:] if array.ndim <= axes else array.shape[1:]
    if array.size == x.shape[0] == int(np.prod(x.shape)):  # one number a channel, whatever axes it has
        return array.reshape(-1)
    if array.size == 1:
        return np.full(x.shape[0], float(array.reshape(-1)[0]))
    if len(shape) != axes or shape[0] != x.shape[0] or any(n != 1 for n in shape[1:]):
        raise Unsupported(
            f"has a constant of shape {list(constant.shape)} for {list(x.shape)}, expected one number a channel",
            "Only what is one number a channel can be folded.",
        )
    return array.reshape(-1)


def relu(site: Site) -> Value:
    return clipped(site, 0.0, np.inf)


def clip(site: Site) -> Value:
    ends = []
    for i, (name, default) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
        given = site.array(i)
        value = site.attrs.get(name, default) if given is None else float(given.reshape(-1)[0])
        ends.append(float(value) if abs(value) < 3e38 else default)
    x = site.inputs[0]
    if isinstance(x, Tensor) and x.codes is not None:  # limits of codes
        ends = [x.codes.real(v) for v in ends]
    return clipped(site, ends[0], ends[1])


def clipped(site: Site, low: float, high: float) -> Value:
    x = site.tensor(axes=len(t.shape) + 1 if isinstance(t := site.inputs[0], Tensor) else 4)
    layer = _clippable(site, x)
    if layer is not None:
        layer.low, layer.high = max(layer.low, low), max(min(layer.high, high), low)
        return x
    if x == site.reader.input:
        if not site.reader.pixels.within(low, high):
            raise Unsupported("clips the image", "Begin with a convolution.")
        return x
    made = site.reader.maker.get(x.name)
    if made is None or not made.computes or made.low < low or made.high > high:
        layer = centre_tap(site.name, x, np.ones(x.shape[0]), np.zeros(x.shape[0]))
        x = site.reader.add(layer, x.shape)[0]  # type: ignore[assignment]
        layer.low, layer.high = low, high
    return x


def _clippable(site: Site, x: Tensor) -> Layer | None:
    """The layer that computes what nothing else reads, perhaps moved since: limits may come before a move."""
    name, reader = x.name, site.reader
    while name in reader.maker and reader.reads[name] == 1:
        layer = reader.maker[name]
        if layer.computes:
            return layer
        if layer.op not in ("DepthToSpace", "MaxPool", "Resize"):
            return None
        name = layer.inputs[0]
    return None


def same(site: Site) -> Value:
    return site.inputs[0]


def last_activation(site: Site) -> Value:
    """A monotonic function at the network's end: what it is taken of keeps the order, and becomes the result."""
    if site.node.output[0] not in {info.name for info in site.reader.model.graph.output}:
        raise Unsupported(
            "is no function of each number alone", "Take it of the network's result, or leave it out."
        )
    site.reader.notes.append(f"{site.node.output[0]}: is given before its {site.node.op_type}")
    return site.inputs[0]


def global_average(site: Site) -> Value:
    """Sums of 3x3 windows, three by three, until one pixel is left: depthwise convolutions of equal weights."""
    x = site.tensor()
    if site.node.op_type == "ReduceMean":
        given = site.attrs.get("axes", site.array(1, "axes"))
        if sorted(int(v) % 4 for v in (given if given is not None else ())) != [2, 3]:
            raise Unsupported("averages other axes than height and width", "Average whole maps.")
    elif site.node.op_type == "AveragePool" and list(site.attrs["kernel_shape"]) != list(x.shape[1:]):
        return average_pool(site)
    channels, count, stage = x.shape[0], float(x.shape[1] * x.shape[2]), 0
    while x.shape[1:] != (1, 1):
        sizes = [-(-n // 3) for n in x.shape[1:]]
        missing = [3 * o - n for o, n in zip(sizes, x.shape[1:], strict=True)]
        pads = [*(m // 2 for m in missing), *(m - m // 2 for m in missing)]
        weight = 9.0 if sizes != [1, 1] else count
        count /= weight
        table = np.full((channels, 1, 3, 3), 1 / weight, np.float32)
        attrs = {"group": channels, "kernel_shape": [3, 3], "strides": [3, 3], "pads": pads}
        name = f"{site.name}.{stage}"
        layer = Layer("Conv", name, [x.name], [f"{name}.out"], attrs, table)
        (made,) = site.reader.add(layer, (channels, *sizes))
        assert isinstance(made, Tensor)
        x, stage = made, stage + 1
    return x if len(site.node.output) and site.attrs.get("keepdims", 1) else Tensor(x.name, x.shape[:1])


def gemm(site: Site) -> Value:
    """A matrix product with all of a map is a convolution whose window is the map."""
    x, weight = site.inputs[0], site.needed(1, "weight")
    if not isinstance(x, Tensor):
        raise Unsupported("multiplies a constant", "Simplify the file.")
    if site.node.op_type == "Gemm":
        if int(site.attrs.get("transA", 0)) or float(site.attrs.get("alpha", 1)) != 1:
            raise Unsupported("has transA or alpha", "Export it without.")
        weight = weight if int(site.attrs.get("transB", 0)) else weight.T
    else:
        weight = weight.T
    shape = x.shape if len(x.shape) == 3 else (*x.shape, 1, 1)
    if weight.ndim != 2 or weight.shape[1] != int(np.prod(shape)):
        raise Unsupported(
            f"multiplies {list(x.shape)} by {list(weight.shape[::-1])}, expected one row of the map's size",
            "Flatten the map before.",
        )
    bias = site.array(2, "bias") if site.node.op_type == "Gemm" else None
    kernel = _f32(weight.reshape(len(weight), *shape))
    attrs = {"group": 1, "kernel_shape": list(shape[1:]), "strides": [1, 1], "pads": [0] * 4}
    vector = None if bias is None else _f32(np.broadcast_to(bias.reshape(-1), (len(weight),)))
    layer = Layer("Conv", site.name, [x.name], [site.node.output[0]], attrs, kernel, vector)
    return site.reader.add(layer, (len(weight), 1, 1))[0]


def pad(site: Site) -> Value:
    raise Unsupported("pads a map by itself", "Let the convolution behind it pad.")


def _f32(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)


def _maybe(array: NDArray[Any] | None) -> NDArray[np.float32] | None:
    return None if array is None else _f32(array)


def refuse(reason: str, remedy: str) -> Callable[[Site], Value]:
    def pattern(site: Site) -> Value:
        raise Unsupported(reason, remedy)

    return pattern


SLOPES = refuse("has a slope a channel, expected one for all", "Use ReLU, or LeakyRelu.")

PATTERNS: dict[str, Callable[[Site], Value | list[Value]]] = {
    "Add": arithmetic,
    "AveragePool": global_average,
    "BatchNormalization": batch_norm,
    "Clip": clip,
    "Concat": concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "DepthToSpace": depth_to_space,
    "Div": arithmetic,
    "DequantizeLinear": dequantize_linear,
    "Dropout": same,
    "Flatten": flatten,
    "Gemm": gemm,
    "GlobalAveragePool": global_average,
    "Identity": same,
    "MatMul": gemm,
    "MaxPool": max_pool,
    "Mul": arithmetic,
    "Pad": pad,
    "ReduceMean": global_average,
    "Relu": relu,
    "Quant": quant,
    "QuantizeLinear": quantize_linear,
    "Reshape": flatten,
    "Resize": resize,
    "Sigmoid": last_activation,
    "Softmax": last_activation,
    "Squeeze": flatten,
    "Sub": arithmetic,
    "Sum": arithmetic,
    "Upsample": resize,
    "PRelu": SLOPES,
    CURVE: curve,
}
