"""Import patterns of Add, and of what makes larger maps of channels: ConvTranspose and DepthToSpace."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from codesign.ir import Array, Bounds
from codesign.onnx_conv import MAX_WEIGHT_BITS, accumulated_scale, shape_of, with_bias
from codesign.onnx_deform import add as add_constant
from codesign.onnx_requant import QUANTIZE
from codesign.onnx_site import INCONSISTENT, Site, constant_like, node_name
from codesign.onnx_values import (
    REFUSED,
    Acc,
    Act,
    Affine,
    Codes,
    Poison,
    Refused,
    Unknown,
    Value,
    is_power_of_two,
    unknown_sums,
)
from codesign.ops import Add, Conv, DepthToSpace, Shuffle
from codesign.ops.add import MAX_SHIFT
from codesign.ops.op import product_bounds

BOTH = "Put a quantizer of 8 bits before each side of the Add."


def add(site: Site) -> Value:
    """Two quantized maps are added; with a constant it is a bias or arithmetic on offsets."""
    a, b = site.input(0), site.input(1)
    if len(site.inputs) != 2:
        raise Refused(f"adds {len(site.inputs)} maps, expected 2", "Add two maps at a time.")
    if constant_like(a) or constant_like(b) or isinstance(a, Affine) or isinstance(b, Affine):
        return add_constant(site)
    left, right = site.feature(0), site.feature(1)
    site.guess = unknown_sums(site.where)
    site.check()
    if left is None or right is None:
        raise Unknown
    h, w, c = left.shape
    if left.shape != right.shape and 0 not in (*left.shape, *right.shape):
        raise Refused(f"adds maps of [{c},{h},{w}] and {_nchw(right)}", "Add maps of one shape.")
    ratios = [x.scale / min(left.scale, right.scale) for x in (left, right)]
    if not all(map(is_power_of_two, ratios)):
        raise Refused(
            f"adds maps of scales {left.scale:.6g} and {right.scale:.6g}, expected a power of two between them",
            QUANTIZE,
        )
    shifts = [int(np.log2(ratio)) for ratio in ratios]
    if max(shifts) > MAX_SHIFT:
        raise Refused(
            f"adds maps of scales {left.scale:g} and {right.scale:g}, expected a ratio of at most "
            f"{1 << MAX_SHIFT}",
            "Quantize both to more similar ranges.",
        )
    values = [site.importer.value(act) for act in (left, right)]
    name, _ = site.emit(Add(*shifts), *values)
    step = np.full(c, min(left.scale, right.scale))
    low, high = (
        np.full(c, sum(v << s for v, s in zip(ends, shifts, strict=True)), np.int64)
        for ends in ((left.lo, right.lo), (left.hi, right.hi))
    )
    return Acc(name, site.where, left.shape, step, np.zeros(c, np.int64), reach=(low, high), flat=left.flat)


def _nchw(act: Act) -> str:
    h, w, c = act.shape
    return f"[{c},{h},{w}]"


@dataclass(frozen=True)
class Phases:
    """A transposed convolution of stride 2 as an ordinary one whose channels are the four pixels it makes of one."""

    weight: Array  # (k, k, Cin, 4 * Cout)
    pad: int

    @classmethod
    def of(cls, weight: Array, pads: tuple[int, int]) -> Phases:
        """From weights [Cin, Cout, kh, kw] and the pads at top and left.

        Output row 2*y + i takes tap t from input row y + (i + pad - t) / 2, where that is whole.
        """
        cin, cout, kh, kw = weight.shape
        rows, columns = _sources(kh, pads[0]), _sources(kw, pads[1])
        reach = max(abs(o) for _, _, o in (*rows, *columns))
        side = 2 * reach + 1
        out = np.zeros((side, side, cin, 2, 2, cout), np.int64)
        for i, ti, oi in rows:
            for j, tj, oj in columns:
                out[oi + reach, oj + reach, :, i, j] = weight[:, :, ti, tj]
        return cls(out.reshape(side, side, cin, 4 * cout), reach)


def _sources(kernel: int, pad: int) -> list[tuple[int, int, int]]:
    """Phase, tap, and how many rows below its own the input row is."""
    return [(i, t, (i + pad - t) // 2) for i in (0, 1) for t in range(kernel) if (i + pad - t) % 2 == 0]


def conv_transpose(site: Site) -> Value:
    x = site.feature(0)
    site.guess = unknown_sums(site.where)
    weight, group = site.input(1), site.whole("group", 1)
    shape = shape_of(weight)
    if len(shape) != 4:
        raise Refused(f"has a weight of {len(shape)} axes, expected 4", "Use two-dimensional convolutions.")
    if isinstance(weight, Codes) and (not weight.elem.signed or weight.elem.bits > MAX_WEIGHT_BITS):
        site.note(
            f"its weight is {weight.elem}, expected signed, at most 8 bits", "Quantize it to 4 or 8 bits."
        )
    elif not isinstance(weight, (Codes, Poison)):
        site.note("its weight is not quantized", "Put a Quant of at most 8 bits behind the weight.")
    if (strides := site.wholes("strides", (1, 1))) != (2, 2):
        site.note(f"has strides {list(strides)}, expected 2 on both axes", "Upsample by 2.")
    if (dilations := site.wholes("dilations", (1, 1))) != (1, 1):
        site.note(f"has dilations {list(dilations)}, expected 1", "Use no dilation.")
    if (auto := site.text("auto_pad", "NOTSET")) != "NOTSET":
        site.note(f"has auto_pad {auto}, expected explicit pads", "Export with explicit padding.")
    _grows_by_two(site, shape)
    if group != 1 and not (group == shape[0] and shape[1] == 1):
        site.note(f"has {group} groups, expected 1 group or depthwise", "Use one of the two.")
    cout = shape[1] * group
    axis = 1 if group == 1 else 0
    scale = None if not isinstance(weight, Codes) else accumulated_scale(site, x, weight, cout, axis)
    acc = unknown_sums(site.where, cout, scale)
    site.guess = acc
    given = site.input(2)
    if given is not None:
        try:
            acc = with_bias(acc, given)
        except Refused as error:
            site.note(error.reason, error.remedy)
        except Unknown:
            pass
    site.check()
    if x is None or not isinstance(weight, Codes):
        raise Unknown
    top, left, _, _ = site.wholes("pads", (0, 0, 0, 0))
    codes = weight.codes
    if group > 1:  # as a dense one: each channel sees itself alone
        codes = codes * np.eye(group, dtype=np.int64)[:, :, None, None]
    phases = Phases.of(codes, (top, left))
    importer, name = site.importer, node_name(site.node, weight.origin)
    constant = importer.constant(f"{name}.weight", phases.weight, weight.elem)
    op = Conv(phases.weight.shape[:2], (1, 1), (phases.pad,) * 4)
    inner, _ = site.emit(op, importer.value(x), constant, name=f"{name}.phases")
    held, type_ = site.emit(DepthToSpace(), inner, name=name)
    h, w, c = type_.shape
    bounds = product_bounds(_held(x), phases.weight, (0, 1, 2))
    reach = (bounds.low.reshape(4, c).min(axis=0), bounds.high.reshape(4, c).max(axis=0))
    return replace(acc, node=held, shape=(h, w, c), reach=reach)


def _held(x: Act) -> Bounds:
    return Bounds(*(np.full(x.shape[2], v, np.int64) for v in (x.lo, x.hi)))


def _grows_by_two(site: Site, shape: tuple[int, ...]) -> None:
    pads, extra = site.wholes("pads", (0, 0, 0, 0)), site.wholes("output_padding", (0, 0))
    kernel = shape[2:]
    reach = max(abs(o) for k, p in zip(kernel, pads, strict=False) for _, _, o in _sources(k, p))
    grown = [kernel[i] - pads[i] - pads[i + 2] + extra[i] for i in (0, 1)]
    if grown != [2, 2] or reach > 1 or "output_shape" in site.attrs:
        site.note(
            f"has a {kernel[0]}x{kernel[1]} kernel with pads {list(pads)} and output_padding {list(extra)}, "
            "expected a map exactly twice as large",
            "Use a 2x2 kernel, 3x3 with pads 1 and output_padding 1, or 4x4 with pads 1.",
        )


def depth_to_space(site: Site) -> Value:
    value = site.input(0)
    if (block := site.whole("blocksize", 0)) != 2:
        site.note(f"has blocksize {block}, expected 2", "Use a block of 2x2 pixels.")
    mode = site.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        site.note(f"has mode {mode}, expected DCR or CRD", INCONSISTENT)
    if isinstance(value, Acc):
        site.guess = unknown_sums(site.where)
        site.check()
        return _spread_sums(site, value, mode == "CRD")
    act = site.codes()
    site.check()
    act = site.act() if act is None else act
    if mode == "CRD":
        act = site.view(Shuffle(max(act.shape[2] // 4, 1)), act)
    return site.view(DepthToSpace(), act)


def _spread_sums(site: Site, acc: Acc, interleaved: bool) -> Acc:
    """Of sums: what the four pixels share of a channel (scale, bias, limits) must be one."""
    if acc.node == REFUSED:
        raise Unknown
    source, c = acc.node, acc.shape[2] // 4
    order = np.arange(4 * c)
    if interleaved:
        order = order.reshape(c, 4).T.reshape(-1)
        source, _ = site.emit(Shuffle(c), source)
    term = np.zeros(4 * c) if acc.shift is None else acc.shift
    scale, term = (table[order].reshape(4, c) for table in (acc.scale, term))
    bias = acc.bias[order].reshape(4, c)
    if np.any(scale != scale[:1]) or np.any(bias != bias[:1]) or np.any(term != term[:1]):
        raise Refused(
            "makes pixels of channels with unequal scales or biases before they are quantized",
            "Put the quantizer before the DepthToSpace.",
        )
    held, type_ = site.emit(DepthToSpace(), source)
    h, w, channels = type_.shape
    reach = None
    if acc.reach is not None:
        low, high = (table[order].reshape(4, c) for table in acc.reach)
        reach = (low.min(axis=0), high.max(axis=0))
    shift = None if acc.shift is None else term[0]
    shape = (h, w, channels)
    return replace(
        acc, node=held, shape=shape, scale=scale[0], bias=bias[0], shift=shift, reach=reach, weight=""
    )
