"""Import pattern of dense and depthwise convolutions, and what all convolutions share: weight, window, bias.

A pattern judges all that the node says (attributes, weight, bias) and all that it reads before it stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.ir import Bounds, IntType, TensorType
from codesign.onnx_site import INCONSISTENT, Site, constant_like, node_name
from codesign.onnx_values import (
    NO_SHAPE,
    Acc,
    Act,
    Codes,
    Const,
    Floats,
    Poison,
    Refused,
    Unknown,
    Value,
    unknown_sums,
)
from codesign.ops import Conv, DwConv, VariedDwConv
from codesign.ops.op import Op

MAX_WEIGHT_BITS = 8
MAX_KERNEL = 5
DEPTHWISE = ((3, 3), (5, 5))
PER_CHANNEL = "Quantize weights with one scale, or one per output channel."
BIAS_REMEDY = "Quantize the bias with 32 bits at the scale of the input times the scale of the weight."


@dataclass(frozen=True)
class Weight:
    """The weight [cout, cin, kh, kw]; None and 0 stand for what was refused."""

    codes: Codes | None
    cout: int
    cin: int  # of one group
    kernel: tuple[int, int]
    group: int


@dataclass(frozen=True)
class Window:
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]


def conv(site: Site) -> Value:
    x = site.feature(0)
    site.guess = unknown_sums(site.where)
    weight = weight_of(site)
    channels = channels_of(x, weight)
    depthwise = weight.group == channels == weight.cout and weight.cin == 1 and weight.group > 1
    if weight.group != 1 and not depthwise and weight.cout:
        site.note(
            f"has {weight.group} groups with {channels} input and {weight.cout} output channels, "
            "expected 1 group or depthwise",
            "Use a dense or a depthwise convolution.",
        )
    w = window_of(site, weight, strides=(1, 2, 3, 4))
    if w.kernel[0] and not (w.kernel in DEPTHWISE if depthwise else max(w.kernel) <= MAX_KERNEL):
        expected, (kh, kw) = "3x3 or 5x5" if depthwise else "at most 5x5", w.kernel
        site.note(f"has a {kh}x{kw} kernel, expected {expected}", "Use such a kernel, or several of them.")
    op = DwConv(w.stride, w.pads, w.kernel) if depthwise else Conv(w.kernel, w.stride, w.pads)
    return accumulate(site, op, x, (), weight, bias=2)


def channels_of(x: Act | None, weight: Weight) -> int:
    """Input channels: of what is read or, where that was refused, as the weight has them."""
    return x.shape[2] if x is not None and x.shape[2] else weight.cin * weight.group


def check_weight(site: Site, value: Value | None) -> None:
    """Refuse all but constants of at most 8 signed bits."""
    if isinstance(value, Codes):
        if not value.elem.signed or value.elem.bits > MAX_WEIGHT_BITS:
            site.note(
                f"its weight is {value.elem}, expected signed, at most 8 bits", "Quantize it to 4 or 8 bits."
            )
    elif isinstance(value, Const):
        site.note("its weight is not quantized", "Put a Quant of at most 8 bits behind the weight.")
    elif not constant_like(value):
        site.note("its weight is computed while the network runs", "Use constant weights.")


def weight_of(site: Site) -> Weight:
    value, group = site.input(1), site.whole("group", 1)
    check_weight(site, value)
    shape = shape_of(value)
    if not shape and not isinstance(value, (Codes, Const)):
        kernel = site.wholes("kernel_shape", (0, 0))
        return Weight(None, 0, 0, (kernel[0], kernel[1]), group)
    if len(shape) != 4:
        raise Refused(f"has a weight of {len(shape)} axes, expected 4", "Use two-dimensional convolutions.")
    cout, cin, kh, kw = shape
    return Weight(value if isinstance(value, Codes) else None, cout, cin, (kh, kw), group)


def shape_of(value: Value | None) -> tuple[int, ...]:
    """Shape of a parameter; () where it was refused and has none that is known."""
    match value:
        case Codes():
            return value.codes.shape
        case Const():
            return value.array.shape
        case Poison():
            return value.shape
    return ()


def window_of(site: Site, weight: Weight, strides: Sequence[int]) -> Window:
    kh, kw = weight.kernel
    if site.wholes("kernel_shape", (kh, kw)) != (kh, kw):
        site.note(f"kernel_shape is not the weight's {kh}x{kw}", INCONSISTENT)
    if (dilations := site.wholes("dilations", (1, 1))) != (1, 1):
        site.note(
            f"has dilations {list(dilations)}, expected 1",
            "Use a square deformable convolution, or no dilation.",
        )
    sy, sx = site.wholes("strides", (1, 1))
    if sy != sx or sy not in strides:
        allowed = ", ".join(map(str, strides[:-1])) + f" or {strides[-1]}"
        site.note(f"has strides {sy},{sx}, expected {allowed} on both axes", "Use such a stride.")
    return Window((kh, kw), (sy, sx), pads_of(site, (kh, kw), sy))


def pads_of(site: Site, kernel: tuple[int, int], stride: int) -> tuple[int, int, int, int]:
    """Pads as (top, left, bottom, right); those that the file leaves to the size of the map are worked out."""
    auto = site.text("auto_pad", "NOTSET")
    most = kernel[0] // 2
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        x = site.input(0)
        height, width, _ = x.shape if isinstance(x, Act) else NO_SHAPE
        if not height:
            return most, most, most, most
        (top, bottom), (left, right) = (
            _same(size, k, stride, auto == "SAME_UPPER")
            for size, k in zip((height, width), kernel, strict=True)
        )
        return top, left, bottom, right
    if auto not in ("NOTSET", "VALID"):
        site.note(f"has auto_pad {auto}, which ONNX does not know", INCONSISTENT)
        return 0, 0, 0, 0
    pads = (0, 0, 0, 0) if auto == "VALID" else site.wholes("pads", (0, 0, 0, 0))
    top, left, bottom, right = pads
    wrong = min(pads) < 0 or max(top, bottom) > kernel[0] // 2 or max(left, right) > kernel[1] // 2
    if wrong and kernel[0]:
        site.note(f"has pads {list(pads)}, expected 0..{most} on every side", f"Pad by {most}.")
    return top, left, bottom, right


def _same(size: int, kernel: int, stride: int, upper: bool) -> tuple[int, int]:
    """Pads before and behind, such that every `stride`-th sample has a window; an odd one behind where `upper`."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return (total // 2, total - total // 2) if upper else (total - total // 2, total // 2)


def accumulate(
    site: Site,
    op: Op,
    x: Act | None,
    more: tuple[Act | None, ...],
    weight: Weight,
    bias: int,
    finer: float = 1.0,
) -> Acc:
    """The node and what it makes: `finer` times the step of a product of x and weight."""
    channels, importer = weight.cout, site.importer
    scale = None if weight.codes is None else accumulated_scale(site, x, weight.codes, weight.cout)
    acc = unknown_sums(site.where, channels, None if scale is None else scale * finer)
    site.guess = acc
    given = site.input(bias)
    if given is not None:
        try:
            acc = with_bias(acc, given)
        except Refused as error:
            site.note(error.reason, error.remedy)
        except Unknown:
            pass
    site.check()
    if x is None or weight.codes is None or None in more:
        raise Unknown
    inputs = [importer.value(act) for act in (x, *more) if act is not None]
    name = importer.unique(node_name(site.node, weight.codes.origin))
    importer.taken.discard(name)
    codes, elem = weight.codes.codes, weight.codes.elem
    held = [
        Bounds(*(np.full(act.shape[2], v, np.int64) for v in (act.lo, act.hi)))
        for act in (x, *more)
        if act is not None
    ]
    whole = isinstance(op, Conv | VariedDwConv)
    codes = codes.transpose(2, 3, 1, 0) if whole else codes[:, 0].transpose(1, 2, 0)
    out = op.infer(*(importer.types[s] for s in inputs), TensorType(codes.shape, elem))
    weights = importer.constant(f"{name}.weight", codes, elem)
    name, _ = site.emit(op, *inputs, weights, name=name)
    h, w, c = out.shape
    bounds = op.bounds(*held, codes)
    return replace(acc, node=name, shape=(h, w, c), reach=(bounds.low, bounds.high), weight=weights)


def accumulated_scale(site: Site, x: Act | None, weight: Codes, cout: int, axis: int = 0) -> Floats | None:
    """Real value of an accumulator's step, by channel; None where it is refused or not known."""
    shape = (1,) * (weight.codes.ndim - weight.scale.ndim) + weight.scale.shape
    if any(size > 1 and i != axis for i, size in enumerate(shape)):
        site.note("its weight's scale is neither one number nor one per output channel", PER_CHANNEL)
        return None
    scale = np.broadcast_to(weight.scale.reshape(-1), (cout,))
    return None if x is None else scale * x.scale


def with_bias(acc: Acc, value: Value) -> Acc:
    """Add a constant per channel: to the accumulator where it is a whole number of its steps."""
    if isinstance(value, Codes):
        real: Floats = value.codes * value.scale
    elif isinstance(value, Const):
        real = value.array.astype(np.float64)
    elif constant_like(value):
        raise Unknown
    else:
        raise Refused("its bias is computed while the network runs", "Use a constant bias.")
    channels = acc.shape[2]
    if real.size not in (1, channels) and channels:
        raise Refused(f"its bias has {real.size} numbers for {channels} channels", INCONSISTENT)
    if np.isnan(acc.scale).any():
        raise Unknown
    return shifted(acc, np.broadcast_to(real.reshape(-1), (channels,)))


def shifted(acc: Acc, real: Floats) -> Acc:
    """Add real numbers (C,)."""
    if acc.shift is None and acc.over == 1 and np.all(acc.scale > 0):
        codes = np.rint(real / acc.scale)
        if np.array_equal(codes * acc.scale, real):
            bias = acc.bias + codes.clip(-(2.0**62), 2.0**62).astype(np.int64)
            if np.abs(bias).max(initial=0) > IntType(32).max:
                raise Refused("its bias does not fit 32 bits", BIAS_REMEDY)
            return replace(acc, bias=bias)
    return replace(acc, shift=real + (0 if acc.shift is None else acc.shift))
