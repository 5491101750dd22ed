"""Import patterns of the operators that only choose or move codes: pooling, upsampling, concat, slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from codesign.onnx_conv import pads_of
from codesign.onnx_site import INCONSISTENT, Site
from codesign.onnx_values import (
    NO_SHAPE,
    REFUSED,
    Act,
    Poison,
    Refused,
    Unknown,
    Value,
    is_power_of_two,
)
from codesign.ops import Concat, MaxPool, Slice, Upsample


def maxpool(site: Site) -> Value:
    site.codes()
    kernel = site.wholes("kernel_shape", (), 2)
    sy, sx = site.wholes("strides", (1, 1))
    pads = (0, 0, 0, 0)
    if kernel in ((2, 2), (3, 3)):
        pads = pads_of(site, (kernel[0], kernel[1]), sy)
    else:
        site.note(f"has the kernel {list(kernel)}, expected 2x2 or 3x3", "Use such a max-pool.")
    if sy != sx or sy not in (1, 2, 3, 4):
        site.note(f"has strides {sy},{sx}, expected 1, 2, 3 or 4 on both axes", "Use such a stride.")
    if (dilations := site.wholes("dilations", (1, 1))) != (1, 1):
        site.note(f"has dilations {list(dilations)}, expected 1", "Use a max-pool without dilation.")
    site.check()
    act = site.act()
    if site.whole("ceil_mode", 0) and 0 not in act.shape:
        pads = _with_last_window(act.shape, kernel, sy, pads)
        if max(pads) > max(kernel) // 2:
            raise Refused("has ceil_mode 1 and a last window mostly beyond the map", "Use ceil_mode=False.")
    return site.view(MaxPool((kernel[0], kernel[1]), (sy, sx), pads), act)


def _with_last_window(
    shape: tuple[int, int, int], kernel: tuple[int, ...], stride: int, pads: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Pads that make room for a window that begins on the map and reaches beyond it, as ceil_mode wants it."""
    found = list(pads)
    for i in (0, 1):
        end = shape[i] + pads[i]
        start = ((end + pads[i + 2] - kernel[i]) // stride + 1) * stride
        if (end + pads[i + 2] - kernel[i]) % stride and start < end:
            found[i + 2] = start + kernel[i] - end
    return found[0], found[1], found[2], found[3]


def resize(site: Site) -> Value:
    act = site.codes()
    mode = site.text("mode", "nearest")
    if mode != "nearest":
        site.note(f"has mode {mode}, expected nearest", "Upsample with mode nearest.")
        site.guess = Poison()  # it would make new values, and a quantizer behind it is in its place
    wanted = _factors(site, act)
    if wanted is not None and wanted != [1.0, 1.0, 2.0, 2.0]:
        shown = ",".join(f"{s:g}" for s in wanted)
        site.note(f"scales N,C,H,W by {shown or 'unknown factors'}, expected 1,1,2,2", "Upsample by 2.")
    elif mode == "nearest":
        _sampling(site)
    site.check()
    return site.view(Upsample(2), site.act())


def _factors(site: Site, act: Act | None) -> list[float] | None:
    """Factors of N, C, H, W; [] where the node gives none; None where they depend on something refused."""
    try:
        scales, sizes = site.const(2), site.ints(3)
    except Unknown:
        return None
    except Refused as error:
        site.note(error.reason, error.remedy)
        return None
    axes = [a % 4 for a in site.wholes("axes", range(4), count=-1)]
    factors = [1.0] * 4
    if scales is not None and scales.size == len(axes):
        for axis, factor in zip(axes, scales.reshape(-1), strict=True):
            factors[axis] = float(factor)
        return factors
    if (
        sizes is None
        or len(sizes) != len(axes)
        or site.text("keep_aspect_ratio_policy", "stretch") != "stretch"
    ):
        return []
    if act is None or 0 in act.shape:
        return None
    h, w, c = act.shape
    for axis, size in zip(axes, sizes, strict=True):
        factors[axis] = size / (1, c, h, w)[axis] if axis else 1.0
    return factors


def _sampling(site: Site) -> None:
    """Note a choice of pixels that is not each pixel twice."""
    where, rounding = site.text("coordinate_transformation_mode", "half_pixel"), site.text(
        "nearest_mode", "round_prefer_floor"
    )  # fmt: skip
    out = np.arange(4)
    source = {
        "asymmetric": out / 2,
        "half_pixel": (out + 0.5) / 2 - 0.5,
        "pytorch_half_pixel": (out + 0.5) / 2 - 0.5,
    }
    rounded: dict[str, Callable[[Any], Any]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda v: np.ceil(v - 0.5),
        "round_prefer_ceil": lambda v: np.floor(v + 0.5),
    }
    reads = rounded[rounding](source[where]) if where in source and rounding in rounded else None
    if reads is None or not np.array_equal(np.maximum(reads, 0), out // 2):
        site.note(
            f"samples with {where} and {rounding}, which does not repeat each pixel",
            "Use coordinate_transformation_mode asymmetric with nearest_mode floor.",
        )


def concat(site: Site) -> Value:
    acts = [site.feature(i) for i in range(len(site.inputs))]
    known = [act for act in acts if act is not None]
    if site.whole("axis", 1) not in (1, -3):
        site.note(f"joins axis {site.whole('axis', 1)}, expected 1 (channels)", "Join channels.")
    if len({a.scale for a in known}) > 1:
        shown = ", ".join(
            f"2^{int(np.log2(a.scale))}" if is_power_of_two(a.scale) else f"{a.scale:.6g}" for a in known
        )
        site.note(
            f"joins maps of scales {shown}, expected equal scales", "Share one quantizer among its inputs."
        )
    if len({a.elem.signed for a in known}) > 1:
        shown = ", ".join(str(a.elem) for a in known)
        site.note(
            f"joins {shown}, expected all signed or all unsigned", "Share one quantizer among its inputs."
        )
    site.check()
    if None in acts:
        raise Unknown  # the scale of one is that of all, but the known one may be the wrong one
    low, high = min(a.lo for a in known), max(a.hi for a in known)
    widest, flat = max((a.elem for a in known), key=lambda elem: elem.bits), known[0].flat
    site.guess = Act(REFUSED, NO_SHAPE, known[0].scale, widest, low, high, flat)
    sources = [site.importer.value(act) for act in known]
    name, type_ = site.emit(Concat(), *sources)
    h, w, c = type_.shape
    return Act(name, (h, w, c), known[0].scale, type_.elem, low, high, flat)


def split(site: Site) -> tuple[Value, ...]:
    act = site.codes()
    if site.whole("axis", 0) not in (1, -3):
        site.note(f"splits axis {site.whole('axis', 0)}, expected 1 (channels)", "Split channels.")
    site.check()
    act, sizes = site.act(), site.ints(1)
    channels, parts = act.shape[2], len(site.node.output)
    if not channels:
        raise Unknown
    if sizes is None:
        size = -(-channels // parts)
        sizes = [min(size, channels - i * size) for i in range(parts)]
    if sum(sizes) != channels or min(sizes) < 1 or len(sizes) != parts:
        raise Refused(f"splits {channels} channels into {sizes}", INCONSISTENT)
    starts = np.cumsum([0, *sizes])
    held = replace(act, source=site.importer.value(act))
    return tuple(
        site.view(Slice(int(a), int(b)), held) if b - a < channels else held
        for a, b in zip(starts, starts[1:], strict=False)
    )


def slice_(site: Site) -> Value:
    act = site.codes()
    starts, stops = site.ints(1), site.ints(2)
    if starts is None or stops is None:
        raise Refused("has no starts or ends", INCONSISTENT)
    axes = site.ints(3) or list(range(len(starts)))
    steps = site.ints(4) or [1] * len(starts)
    if not len(starts) == len(stops) == len(axes) == len(steps):
        raise Refused("has starts, ends, axes and steps of different counts", INCONSISTENT)
    h, w, c = NO_SHAPE if act is None else act.shape
    sizes, bounds = {1: c, 2: h, 3: w}, (0, c)
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        size = sizes.get(axis % 4, 1)
        if step != 1:
            site.note(f"has step {step}, expected 1", "Take neighbouring channels.")
        elif axis % 4 == 1:
            bounds = slice(start, stop).indices(size)[:2]
        elif axis % 4 == 0 or not _everything(start, stop, size):
            site.note(f"cuts axis {axis}, expected 1 (channels)", "Slice channels only.")
    site.check()
    act = site.act()
    return act if bounds == (0, c) and c else site.view(Slice(*bounds), act)


def _everything(start: int, stop: int, size: int) -> bool:
    """Whether start..stop is all of an axis; of one whose size is not known (0): whether it may be."""
    return slice(start, stop).indices(size)[:2] == (0, size) if size else start <= 0 <= stop
