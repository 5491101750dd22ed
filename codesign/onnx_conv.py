"""Import patterns of the convolutions: dense, depthwise and square deformable, with bias and ReLU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from codesign.ir import Array, IntType, TensorType
from codesign.onnx_quant import quantized
from codesign.onnx_site import INCONSISTENT, Site, node_name
from codesign.onnx_values import Acc, Act, Affine, Codes, Const, Floats, Refused, Value, odd_and_exponent
from codesign.ops import Conv, DeformDwConv, DwConv
from codesign.ops.op import Op

MAX_OFFSET = 8  # rows of the ring grow with the bound: 2 * 8 + 2
MAX_WEIGHT_BITS = 8
MANTISSAS = (1, 3, 5, 7)  # odd parts of 1, 4, 5, 6, 7
# (row, column) of the nine taps in DeformConv's channel order, for a window of side 3.
TEMPLATE = np.array([k for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (i, j)], np.float64)
BIAS_REMEDY = "Quantize the bias with 32 bits at the scale of the input times the scale of the weight."


def conv(site: Site) -> Value:
    x = site.act(0)
    weight = _weight(site)
    cout, cin, kh, kw = weight.codes.shape
    group, channels = site.whole("group", 1), x.shape[2]
    depthwise = group == channels == cout and cin == 1 and group > 1
    if group != 1 and not depthwise:
        site.note(
            f"has {group} groups with {channels} input and {cout} output channels, expected 1 group or depthwise",
            "Use a dense or a depthwise convolution.",
        )
    kernel, stride, pads = _window(site, weight, strides=(1, 2) if depthwise else (1, 2, 4))
    if kernel not in ((1, 1), (3, 3)) or (depthwise and kernel != (3, 3)):
        expected = "3x3" if depthwise else "1x1 or 3x3"
        site.note(f"has a {kh}x{kw} kernel, expected {expected}", "Use such a kernel, or several of them.")
    codes = weight.codes[:, 0].transpose(1, 2, 0) if depthwise else weight.codes.transpose(2, 3, 1, 0)
    op = DwConv(stride, pads, kernel) if depthwise else Conv(kernel, stride, pads)
    return _accumulate(site, op, x, (), weight, codes, bias=2)


def square_deform_conv(site: Site) -> Value:
    """codesign::SquareDeformConv(x, w, d[, b]): d is rounded and clipped to 0..max_offset by the node itself."""
    x = site.act(0)
    bound = site.whole("max_offset", -1)
    if bound > MAX_OFFSET or bound < 1:
        raise _beyond(bound)
    raw = site.input(2)
    d = quantized(raw, 1.0, IntType.holding(0, bound), 0, bound) if isinstance(raw, Acc) else site.act(2)
    d = replace(d, lo=max(d.lo, 0), hi=min(d.hi, bound))
    site.importer.offsets.setdefault(site.node.input[2], d)
    return _deform(site, x, d, bound, bias=3)


def deform_conv(site: Site) -> Value:
    """DeformConv(x, w, (q - 1) * template[, b]) with q an integer quantizer, perhaps clipped."""
    offsets = site.input(2)
    if not isinstance(offsets, Affine):
        site.act(2)
        raise Refused(
            "its offsets are free, expected one integer per pixel times the 3x3 square",
            "Train the square variant, with offsets (d - 1) * template.",
        )
    if not (np.array_equal(offsets.factor, TEMPLATE) and np.array_equal(offsets.term, -TEMPLATE)):
        raise Refused(
            "its offsets are not (d - 1) times the 3x3 square",
            "Compute offset 2k as row_k * (d - 1) and 2k + 1 as column_k * (d - 1), taps row by row.",
        )
    if site.input(4) is not None:
        raise Refused("has a mask", "Use deformable convolution without modulation.")
    if site.whole("offset_group", 1) != 1:
        raise Refused(
            f"has {site.whole('offset_group', 1)} offset groups, expected 1", "Share one offset map."
        )
    q = offsets.of
    if q.lo < 0:
        raise Refused(
            f"its offset may be {q.lo}, expected 0 or more", "Clip the quantized offset to 0..max_offset."
        )
    if q.hi > MAX_OFFSET:
        raise _beyond(q.hi)
    return _deform(site, site.act(0), q, q.hi, bias=3)


def _beyond(bound: int) -> Refused:
    return Refused(
        f"its offset reaches {bound}, expected a bound between 1 and {MAX_OFFSET}",
        f"Train with max_offset of at most {MAX_OFFSET}.",
    )


def _deform(site: Site, x: Act, d: Act, bound: int, bias: int) -> Value:
    weight = _weight(site)
    cout, cin, kh, kw = weight.codes.shape
    group = site.whole("group", 1)
    _, stride, pads = _window(site, weight, strides=(1, 2))
    if (kh, kw) != (3, 3) or pads != (1, 1, 1, 1):
        site.note(
            f"has a {kh}x{kw} kernel with pads {list(pads)}, expected 3x3 with pads 1", "Use 3x3, pads 1."
        )
    if not group == x.shape[2] == cout or cin != 1:
        site.note(
            f"has {group} groups with {x.shape[2]} input and {cout} output channels, expected depthwise",
            "Use a depthwise deformable convolution followed by a 1x1 convolution.",
        )
    if d.shape[2] != 1 or d.scale != 1.0:
        site.note(
            f"its offset has {d.shape[2]} channels at scale {d.scale:g}, expected 1 channel at scale 1",
            "Quantize one offset per pixel with scale 1.",
        )
    site.check()
    bounded = replace(d, elem=IntType.holding(0, bound))
    if isinstance(d.source, str):
        raise Refused(
            "its offset is no convolution's result", "Compute the offset by a convolution of its own."
        )
    codes = weight.codes[:, 0].transpose(1, 2, 0)
    return _accumulate(site, DeformDwConv(bound, stride), x, (bounded,), weight, codes, bias)


def _weight(site: Site) -> Codes:
    value = site.input(1)
    if isinstance(value, Const):
        raise Refused("its weight is not quantized", "Put a Quant of at most 8 bits behind the weight.")
    if not isinstance(value, Codes):
        raise Refused("its weight is computed while the network runs", "Use constant weights.")
    if value.codes.ndim != 4:
        raise Refused(
            f"has a weight of {value.codes.ndim} axes, expected 4", "Use two-dimensional convolutions."
        )
    if not value.elem.signed or value.elem.bits > MAX_WEIGHT_BITS:
        raise Refused(
            f"its weight is {value.elem}, expected signed, at most 8 bits", "Quantize it to 4 or 8 bits."
        )
    return value


def _window(
    site: Site, weight: Codes, strides: Sequence[int]
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    kh, kw = weight.codes.shape[2:]
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
    return (kh, kw), (sy, sx), pads_of(site, (kh, kw))


def pads_of(site: Site, kernel: tuple[int, int]) -> tuple[int, int, int, int]:
    """Pads as (top, left, bottom, right)."""
    auto = site.text("auto_pad", "NOTSET")
    if auto not in ("NOTSET", "VALID"):
        site.note(f"has auto_pad {auto}, expected explicit pads", "Export with explicit padding.")
        return 0, 0, 0, 0
    pads = (0, 0, 0, 0) if auto == "VALID" else site.wholes("pads", (0, 0, 0, 0))
    top, left, bottom, right = pads
    most = kernel[0] // 2
    if min(pads) < 0 or max(pads) > most:
        site.note(f"has pads {list(pads)}, expected 0..{most} on every side", f"Pad by {most}.")
    return top, left, bottom, right


def _accumulate(
    site: Site, op: Op, x: Act, more: tuple[Act, ...], weight: Codes, codes: Array, bias: int
) -> Acc:  # fmt: skip
    channels, importer = weight.codes.shape[0], site.importer
    if weight.scale.size not in (1, channels):
        raise Refused("its weight's scale is neither one number nor one per output channel", INCONSISTENT)
    scale = np.broadcast_to(weight.scale.reshape(-1), (channels,)) * x.scale
    odd, _ = odd_and_exponent(scale)
    wrong = [c for c in range(channels) if odd[c] not in MANTISSAS]
    if wrong:
        listed = ", ".join(map(str, wrong[:4])) + (", ..." if len(wrong) > 4 else "")
        site.note(
            f"its weight scale {scale[wrong[0]] / x.scale:.9g} is not m * 2^-e with m in 1, 4..7 "
            f"(output channels {listed}; {len(wrong)} of {channels})",
            "Quantize weights with power-of-two scales, or with the 3-bit mantissa.",
        )
    site.check()
    inputs = [importer.value(act) for act in (x, *more)]
    name = node_name(site.node, weight.origin)
    weight_type = TensorType(codes.shape, weight.elem)
    out = op.infer(*(importer.types[s] for s in inputs), weight_type)
    name = importer.unique(name)
    importer.taken.discard(name)
    weights = importer.constant(f"{name}.weight", codes, weight.elem)
    name, _ = site.emit(op, *inputs, weights, name=name)
    h, w, c = out.shape
    acc = Acc(name, site.where, (h, w, c), scale, np.zeros(c, np.int64))
    given = site.input(bias)
    return acc if given is None else _with_bias(acc, given)


def _with_bias(acc: Acc, value: Value) -> Acc:
    """Add a constant per channel; it must be a whole number of accumulator steps, exactly."""
    if isinstance(value, Codes):
        real: Floats = value.codes * value.scale
    elif isinstance(value, Const):
        real = value.array.astype(np.float64)
    else:
        raise Refused("its bias is computed while the network runs", "Use a constant bias.")
    channels = acc.shape[2]
    if real.size not in (1, channels):
        raise Refused(f"its bias has {real.size} numbers for {channels} channels", INCONSISTENT)
    real = np.broadcast_to(real.reshape(-1), (channels,))
    codes = np.rint(real / acc.scale)
    if not np.array_equal(codes * acc.scale, real):
        wrong = int(np.flatnonzero(codes * acc.scale != real)[0])
        raise Refused(
            f"its bias {real[wrong]:.9g} (channel {wrong}) is not a multiple of the accumulator's step "
            f"{acc.scale[wrong]:.9g}",
            BIAS_REMEDY,
        )
    bias = acc.bias + codes.astype(np.int64)
    if np.abs(bias).max() > IntType(32).max:
        raise Refused("its bias does not fit 32 bits", BIAS_REMEDY)
    return replace(acc, bias=bias)


def add(site: Site) -> Value:
    """Acc + constant is a bias; offsets - 1 belongs to DeformConv; anything else is refused."""
    a, b = site.input(0), site.input(1)
    if isinstance(b, Acc):
        a, b = b, a
    if isinstance(a, Acc) and isinstance(b, (Codes, Const)):
        if (a.low, a.high) != (-np.inf, np.inf):
            raise Refused("adds a constant after a ReLU or Clip", "Quantize the ReLU's result first.")
        array = b.codes if isinstance(b, Codes) else b.array
        if array.size > 1 and (array.ndim < 3 or array.shape[-2:] != (1, 1)):
            raise Refused("adds a constant that varies over the map", "Only a bias per channel can be added.")
        return _with_bias(a, b)
    return offset_arithmetic(site)


def offset_arithmetic(site: Site) -> Value:
    """Add, Sub or Mul of a one-channel map of scale 1 and a constant: offsets for DeformConv."""
    op, a, b = site.node.op_type, site.input(0), site.input(1)
    swapped = isinstance(a, Const)
    value, constant = (b, a) if swapped else (a, b)
    if isinstance(value, Act) and value.shape[2] == 1 and value.scale == 1.0:
        value = Affine(value, np.ones(1), np.zeros(1), site.where)
    if not isinstance(value, Affine) or not isinstance(constant, Const):
        remedy = "Join branches by Concat." if op == "Add" else "Leave it out, or fold it into a convolution."
        raise Refused("is element-wise arithmetic on feature maps", remedy)
    array = constant.array.astype(np.float64)
    if array.size not in (1, 18) or (array.size == 18 and array.shape[-3:] != (18, 1, 1)):
        raise Refused(f"multiplies offsets by {list(array.shape)}, expected [1,18,1,1]", INCONSISTENT)
    k, factor, term = array.reshape(-1), value.factor, value.term
    if op == "Mul":
        factor, term = factor * k, term * k
    else:
        sign_value, sign_constant = (-1, 1) if swapped and op == "Sub" else (1, -1 if op == "Sub" else 1)
        factor, term = sign_value * factor, sign_value * term + sign_constant * k
    return Affine(value.of, factor + 0 * term, term + 0 * factor, site.where)
