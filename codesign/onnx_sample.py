"""Import patterns of bounded deformable convolutions, whose taps each have an offset of their own.

DCNv1, and DCNv2 with masks; rows and columns of nine taps; and one tap whose position stays on the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from codesign.onnx_conv import accumulate, weight_of
from codesign.onnx_deform import MAX_OFFSET, check_depthwise
from codesign.onnx_deform import deform_conv as standard_deform_conv
from codesign.onnx_quant import quantized
from codesign.onnx_site import INCONSISTENT, Site
from codesign.onnx_values import Acc, Act, Poison, Refused, Value, is_power_of_two, unknown_sums
from codesign.ops import SampledDwConv
from codesign.ops.sampled_dwconv import CODE, KERNELS, MOST_GRID, TAPS

WINDOWS = ("3x3", "1x9", "9x1")


def bounded_deform_conv(site: Site) -> Value:
    """codesign::BoundedDeformConv(x, w, p[, b]): p are 18 offsets, rounded and clipped by the node itself."""
    x = site.feature(0)
    op = _operator(site, (0, 0))
    samples = None if op is None else _samples(site, op, 2.0**-op.grid)
    if samples is not None:
        site.importer.offsets.setdefault(site.node.input[2], samples)
    return sampled(site, x, samples, op, 1.0)


def border_deform_conv(site: Site) -> Value:
    """codesign::BorderDeformConv(x, w, p[, b]): p are 2 offsets; positions outside are those of the border."""
    x = site.feature(0)
    op = _operator(site, (0, 0))
    if (strides := site.wholes("strides", (1, 1))) != (1, 1):
        site.note(f"has strides {list(strides)}, expected 1", "Sample every pixel.")
    if op is not None:
        op = replace(op, border=True)
    samples = None if op is None else _samples(site, op, 2.0**-op.grid)
    if samples is not None:
        site.importer.offsets.setdefault(site.node.input[2], samples)
    return sampled(site, x, samples, op, 1.0, ("1x1",))


def modulated_deform_conv(site: Site) -> Value:
    """codesign::ModulatedDeformConv(x, w, p[, b]): p are 18 offsets, then 9 masks."""
    x = site.feature(0)
    bits, low, high = (site.whole(f"mask_{name}", 0) for name in ("bits", "low", "high"))
    op, samples = None, None
    if not (CODE.min <= low < high <= CODE.max and 0 <= bits < CODE.bits):
        site.note(
            f"has masks {low}..{high} in steps of 2^-{bits}, expected a range inside {CODE} and 2^0 to 2^-7",
            "Give masks such a range.",
        )
    else:
        op = _operator(site, (low, high))
    if op is not None:
        factors = np.repeat([2.0**op.grid, 2.0**bits], [2 * TAPS, TAPS])
        samples = _samples(site, op, 1.0, factors)
    return sampled(site, x, samples, op, 2.0**-bits)


def deform_conv(site: Site) -> Value:
    """The standard node: offsets that are codes of their own for each tap, or else those of a square window."""
    offsets = site.input(2)
    if not isinstance(offsets, Act) or offsets.shape[2] != 2 * TAPS or site.input(4) is not None:
        return standard_deform_conv(site)
    x = site.feature(0)
    if (groups := site.whole("offset_group", 1)) != 1:
        site.note(f"has {groups} offset groups, expected 1", "Share one offset map.")
    op = None
    grid = int(-np.log2(offsets.scale)) if is_power_of_two(offsets.scale) else -1
    if not 0 <= grid <= MOST_GRID:
        site.note(
            f"its offsets have steps of {offsets.scale:g}, expected 2^0 to 2^-{MOST_GRID}",
            "Use such a scale.",
        )
    else:
        most = max(-offsets.lo, offsets.hi)
        bound = max(1, -(-most >> grid))
        if not bound <= MAX_OFFSET or bound << grid > CODE.max:
            site.note(
                f"its offsets reach {most / 2**grid:g}, expected at most {min(MAX_OFFSET, CODE.max >> grid)} "
                f"in steps of 2^-{grid}",
                "Clip them before their DeformConv.",
            )
        else:
            op = SampledDwConv(bound, grid)
    return sampled(site, x, offsets, op, 1.0)


def sampled(
    site: Site,
    x: Act | None,
    samples: Act | None,
    op: SampledDwConv | None,
    mask_step: float,
    windows: Sequence[str] = WINDOWS,
) -> Value:
    """The node in the graph. `mask_step`: what a mask's code of 1 stands for. `windows`: of its kind."""
    site.guess = unknown_sums(site.where)
    weight = weight_of(site)
    stride = check_depthwise(site, x, weight, [KERNELS[name] for name in windows])
    if op is None:
        op = SampledDwConv()
    finer = mask_step * 4.0**-op.grid
    return accumulate(site, replace(op, stride=stride), x, (samples,), weight, bias=3, finer=finer)


def _operator(site: Site, masks: tuple[int, int]) -> SampledDwConv | None:
    """Bound and grid of the offsets; None where they are refused."""
    bound, grid = site.whole("max_offset", -1), site.whole("fraction_bits", 0)
    known = len(site.notes)
    if not 1 <= bound <= MAX_OFFSET:
        site.note(
            f"its offset reaches {bound}, expected a bound between 1 and {MAX_OFFSET}",
            f"Train with max_offset of at most {MAX_OFFSET}.",
        )
    if not 0 <= grid <= MOST_GRID:
        site.note(
            f"its offsets have {grid} bits of fraction, expected 0 to {MOST_GRID}",
            "Round them to such steps.",
        )
    elif bound << grid > CODE.max:
        site.note(
            f"its offsets to {bound} in steps of 2^-{grid} do not fit {CODE}", "Use fewer bits of fraction."
        )
    kernel = "x".join(map(str, site.wholes("kernel_shape", (3, 3))))
    taps = kernel if kernel in KERNELS else "3x3"  # others are refused with the weight
    return SampledDwConv(bound, grid, *masks, taps=taps) if len(site.notes) == known else None


def _samples(site: Site, op: SampledDwConv, step: float, factors: np.ndarray | None = None) -> Act | None:
    """Codes of the offsets and masks; with `factors` of their sums, by channel."""
    raw = site.input(2)
    if isinstance(raw, Poison) and not raw.constant:
        raw = unknown_sums(site.where)
    if not isinstance(raw, Acc):
        samples = site.feature(2)
        if samples is not None and (factors is not None or samples.scale != step):
            site.note(
                "its offsets are quantized already, in other steps than its own",
                "Give it what the convolution of the offsets makes.",
            )
            return None
        return _checked(site, op, samples)
    channels = raw.shape[2]
    if channels not in (0, op.channels):
        site.note(f"its offsets have {channels} channels, expected {op.channels}", INCONSISTENT)
        return None
    low, high = -op.limit, op.limit
    if factors is not None:
        raw = replace(raw, scale=raw.scale * factors if channels else raw.scale)
        low, high = min(low, op.mask_low), max(high, op.mask_high)
    try:
        return quantized(raw, step, CODE, low, high)
    except Refused as error:
        site.note(error.reason, error.remedy)
    return None


def _checked(site: Site, op: SampledDwConv, samples: Act | None) -> Act | None:
    if samples is not None and samples.shape[2] not in (0, op.channels):
        site.note(f"its offsets have {samples.shape[2]} channels, expected {op.channels}", INCONSISTENT)
        return None
    return samples
