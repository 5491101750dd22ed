"""Import patterns of square deformable convolutions, and of the arithmetic between an offset and its DeformConv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from codesign.ir import IntType
from codesign.onnx_conv import Weight, accumulate, channels_of, shape_of, weight_of, window_of, with_bias
from codesign.onnx_quant import quantized
from codesign.onnx_site import INCONSISTENT, Site, constant_like
from codesign.onnx_values import (
    REFUSED,
    Acc,
    Act,
    Affine,
    Const,
    Poison,
    Refused,
    Unknown,
    Value,
    unknown_sums,
)
from codesign.ops import DeformDwConv

MAX_OFFSET = 8  # rows of the ring grow with the bound: 2 * 8 + 2
# (row, column) of the nine taps in DeformConv's channel order, for a window of side 3.
TEMPLATE = np.array([k for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (i, j)], np.float64)


def square_deform_conv(site: Site) -> Value:
    """codesign::SquareDeformConv(x, w, d[, b]): d is rounded and clipped to 0..max_offset by the node itself."""
    x = site.feature(0)
    bound = site.whole("max_offset", -1)
    if not _bounded(site, bound):
        return _deform(site, x, None, 1)
    raw, d = site.input(2), None
    if isinstance(raw, Poison) and not raw.constant:
        raw = unknown_sums(site.where)
    if isinstance(raw, Acc):
        try:
            d = quantized(raw, 1.0, IntType.holding(0, bound), 0, bound)
        except Refused as error:
            site.note(error.reason, error.remedy)
    else:
        d = site.feature(2)
    if d is not None:
        d = replace(d, lo=max(d.lo, 0), hi=min(d.hi, bound))
        site.importer.offsets.setdefault(site.node.input[2], d)
    return _deform(site, x, d, bound)


def deform_conv(site: Site) -> Value:
    """DeformConv(x, w, (q - 1) * template[, b]) with q an integer quantizer, perhaps clipped."""
    x = site.feature(0)
    if site.input(4) is not None:
        site.note("has a mask", "Use deformable convolution without modulation.")
    if (groups := site.whole("offset_group", 1)) != 1:
        site.note(f"has {groups} offset groups, expected 1", "Share one offset map.")
    offsets = site.input(2)
    if not isinstance(offsets, Affine):
        if isinstance(offsets, (Act, Acc)):
            site.note(
                "its offsets are free, expected one integer per pixel times the 3x3 square",
                "Train the square variant, with offsets (d - 1) * template.",
            )
        else:
            site.feature(2)
        return _deform(site, x, None, 1)
    if not (np.array_equal(offsets.factor, TEMPLATE) and np.array_equal(offsets.term, -TEMPLATE)):
        site.note(
            "its offsets are not (d - 1) times the 3x3 square",
            "Compute offset 2k as row_k * (d - 1) and 2k + 1 as column_k * (d - 1), taps row by row.",
        )
    q = offsets.of
    if q.lo < 0:
        site.note(
            f"its offset may be {q.lo}, expected 0 or more", "Clip the quantized offset to 0..max_offset."
        )
    return _deform(site, x, q, q.hi if _bounded(site, q.hi) else 1)


def _bounded(site: Site, bound: int) -> bool:
    if 1 <= bound <= MAX_OFFSET:
        return True
    site.note(
        f"its offset reaches {bound}, expected a bound between 1 and {MAX_OFFSET}",
        f"Train with max_offset of at most {MAX_OFFSET}.",
    )
    return False


def _deform(site: Site, x: Act | None, d: Act | None, bound: int) -> Value:
    site.guess = unknown_sums(site.where)
    weight = weight_of(site)
    stride = check_depthwise(site, x, weight)
    more: tuple[Act | None, ...] = (None,)
    if d is not None:
        if d.shape[2] > 1 or d.scale != 1.0:
            site.note(
                f"its offset has {d.shape[2]} channels at scale {d.scale:g}, expected 1 channel at scale 1",
                "Quantize one offset per pixel with scale 1.",
            )
        elif isinstance(d.source, str) and d.source != REFUSED:
            site.note(
                "its offset is no convolution's result", "Compute the offset by a convolution of its own."
            )
        more = (replace(d, elem=IntType.holding(0, bound)),)
    return accumulate(site, DeformDwConv(bound, stride), x, more, weight, bias=3)


def _shown(kernel: tuple[int, int]) -> str:
    h, w = kernel
    return f"{h}x{w} with pads {h // 2}" + (f",{w // 2}" if h != w else "")


def check_depthwise(
    site: Site, x: Act | None, weight: Weight, kernels: Sequence[tuple[int, int]] = ((3, 3),)
) -> tuple[int, int]:
    """Refuse all but a depthwise window that its pads keep in the middle, stride 1 or 2; returns the stride."""
    w = window_of(site, weight, strides=(1, 2))
    kh, kw = w.kernel
    if (w.kernel not in kernels and kh) or w.pads != (kh // 2, kw // 2, kh // 2, kw // 2):
        site.note(
            f"has a {kh}x{kw} kernel with pads {list(w.pads)}, expected {' or '.join(map(_shown, kernels))}",
            f"Use {_shown(kernels[0]).replace(' with', ',')}.",
        )
    channels = channels_of(x, weight)
    if weight.cout and (not weight.group == channels == weight.cout or weight.cin != 1):
        site.note(
            f"has {weight.group} groups with {channels} input and {weight.cout} output channels, expected depthwise",
            "Use a depthwise deformable convolution followed by a 1x1 convolution.",
        )
    return w.stride


def add(site: Site) -> Value:
    """Acc + constant is a bias; offsets - 1 belongs to DeformConv; anything else is refused."""
    a, b = site.input(0), site.input(1)
    if isinstance(b, Acc):
        a, b = b, a
    if isinstance(a, Acc) and b is not None and constant_like(b):
        site.guess = replace(a, node=REFUSED)
        if (a.low, a.high) != (-np.inf, np.inf):
            raise Refused("adds a constant after a ReLU or Clip", "Quantize the ReLU's result first.")
        shape = shape_of(b)
        if prod(shape) > 1 and not a.flat and (len(shape) < 3 or shape[-2:] != (1, 1)):
            raise Refused("adds a constant that varies over the map", "Only a bias per channel can be added.")
        return with_bias(a, b)
    return offset_arithmetic(site)


def offset_arithmetic(site: Site) -> Value:
    """Add, Sub or Mul of a one-channel map of scale 1 and a constant: offsets for DeformConv."""
    op, a, b = site.node.op_type, site.input(0), site.input(1)
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Poison) and (one.constant or constant_like(other)):
            raise Unknown  # an offset or a bias, or else refused for other reasons
    swapped = isinstance(a, Const)
    value, constant = (b, a) if swapped else (a, b)
    if isinstance(value, Act) and value.shape[2] in (0, 1) and value.scale == 1.0:
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
