"""Import patterns of means: of windows, and of whole maps. A mean is a sum that is divided when it is requantized.

The division is no rounding of its own: it is part of the requantization's factor, which has to give every possible sum
the very code that the file has (see onnx_requant).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codesign.ir import IntType
from codesign.onnx_conv import MAX_KERNEL, pads_of
from codesign.onnx_site import Site, node_name
from codesign.onnx_values import Acc, Act, Refused, Shape, Unknown, Value, unknown_sums
from codesign.ops import Conv, DwConv, GlobalSum
from codesign.ops.op import Op

SMALLER = "Average windows of at most 5x5, with a quantizer behind each, or use `codesign quantize`."


def average_pool(site: Site) -> Value:
    act = site.feature()
    site.guess = unknown_sums(site.where)
    kernel = site.wholes("kernel_shape", (), -1)
    if len(kernel) != 2:
        raise Refused(
            f"averages {len(kernel)} axes, expected height and width", "Use two-dimensional pooling."
        )
    sy, sx = site.wholes("strides", (1, 1))
    if sy != sx or sy not in (1, 2, 3, 4):
        site.note(f"has strides {sy},{sx}, expected 1, 2, 3 or 4 on both axes", "Use such a stride.")
    if site.whole("ceil_mode", 0):
        site.note("has ceil_mode 1, expected 0", "Use ceil_mode=False.")
    if (dilations := site.wholes("dilations", (1, 1))) != (1, 1):
        site.note(f"has dilations {list(dilations)}, expected 1", "Use a mean without dilation.")
    pads = (0, 0, 0, 0)
    if max(kernel) <= MAX_KERNEL:
        pads = pads_of(site, (kernel[0], kernel[1]), sy)
        if any(pads) and not site.whole("count_include_pad", 0):
            site.note(
                "averages fewer numbers at the edge, which its factor cannot follow",
                "Use count_include_pad=True, or no pads.",
            )
    return _mean(site, act, (kernel[0], kernel[1]), (sy, sy), pads)


def global_average(site: Site) -> Value:
    act = site.feature()
    site.guess = unknown_sums(site.where)
    if act is None or 0 in act.shape:
        site.check()
        raise Unknown
    if max(act.shape[:2]) <= MAX_KERNEL:
        return _mean(site, act, act.shape[:2], (1, 1), (0, 0, 0, 0))
    h, w, c = act.shape
    name, _ = site.emit(GlobalSum((h, w)), site.importer.value(act))
    return _divided(site, act, name, (1, 1, c), h * w, [h * w * act.lo, h * w * act.hi], "")


def reduce_mean(site: Site) -> Value:
    """ReduceMean over height and width."""
    axes = site.wholes("axes", (), -1) or tuple(site.ints(1) or ())
    if sorted(a % 4 for a in axes) != [2, 3]:
        shown = f"the axes {list(axes)}" if axes else "every axis"
        raise Refused(f"averages {shown}, expected height and width", "Average whole maps.")
    made = global_average(site)
    if site.whole("keepdims", 1):
        return made
    assert isinstance(made, Acc)
    return replace(made, flat=True)


def _mean(
    site: Site,
    act: Act | None,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> Acc:
    if max(kernel) > MAX_KERNEL:
        site.note(f"averages {kernel[0]}x{kernel[1]} pixels, expected at most 5x5", SMALLER)
    site.check()
    if act is None:
        raise Unknown
    channels, area, importer = act.shape[2], kernel[0] * kernel[1], site.importer
    source = importer.value(act)
    name = importer.unique(node_name(site.node))
    importer.taken.discard(name)
    op: Op
    if channels == 1:
        ones, op = np.ones((*kernel, 1, 1), np.int64), Conv(kernel, stride, pads)
    else:
        side = 3 if max(kernel) <= 3 else 5
        before = [_spare(side, k, p, q) for k, p, q in zip(kernel, pads[:2], pads[2:], strict=True)]
        if None in before:
            raise Refused(f"has pads {list(pads)}, which no window of {side}x{side} has", "Use smaller pads.")
        top, left = (b or 0 for b in before)
        ones = np.zeros((side, side, channels), np.int64)
        ones[top : top + kernel[0], left : left + kernel[1]] = 1
        behind = [side - k - b for k, b in zip(kernel, (top, left), strict=True)]
        grown = (pads[0] + top, pads[1] + left, pads[2] + behind[0], pads[3] + behind[1])
        op = DwConv(stride, grown, (side, side))
    weights = importer.constant(f"{name}.weight", ones, IntType(4))
    name, type_ = site.emit(op, source, weights, name=name)
    h, w, c = type_.shape
    ends = [area * act.lo, area * act.hi, *([0] if any(pads) else [])]
    return _divided(site, act, name, (h, w, c), area, ends, weights)


def _divided(site: Site, act: Act, name: str, shape: Shape, area: int, ends: list[int], weight: str) -> Acc:
    """Sums of `area` numbers, somewhere between the `ends`, as a mean."""
    c = shape[2]
    low, high = np.full(c, min(ends), np.int64), np.full(c, max(ends), np.int64)
    scale, bias = np.full(c, act.scale), np.zeros(c, np.int64)
    if area & (area - 1) == 0:  # dividing by a power of two is exact
        scale, area = scale / area, 1
    return Acc(name, site.where, shape, scale, bias, over=area, reach=(low, high), weight=weight)


def _spare(side: int, kernel: int, before: int, behind: int) -> int | None:
    """How many empty taps come before a smaller window, so that the pads stay within half of the larger."""
    return next(
        (
            i
            for i in range(side - kernel + 1)
            if before + i <= side // 2 and behind + side - kernel - i <= side // 2
        ),
        None,
    )
