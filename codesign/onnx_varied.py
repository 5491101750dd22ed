"""Import pattern of TVConv: a depthwise 3x3 with constant weights of each pixel's own."""

from __future__ import annotations

from codesign.onnx_conv import Weight, accumulate, check_weight, shape_of
from codesign.onnx_site import INCONSISTENT, Site
from codesign.onnx_values import Codes, Refused, Value, unknown_sums
from codesign.ops import VariedDwConv

TAPS = 9


def varied_conv(site: Site) -> Value:
    """codesign::VariedConv(x, w): w [C, 9, H, W], quantized with one scale a channel."""
    x, value = site.feature(0), site.input(1)
    site.guess = unknown_sums(site.where)
    check_weight(site, value)
    shape = shape_of(value) or (0, TAPS, 0, 0)
    if len(shape) != 4 or shape[1] != TAPS:
        raise Refused(f"has a weight {list(shape)}, expected [C, {TAPS}, H, W]", INCONSISTENT)
    c, _, h, w = shape
    if c and x is not None and 0 not in x.shape and x.shape != (h, w, c):
        found = [x.shape[2], *x.shape[:2]]
        site.note(
            f"has weights for a map of {[c, h, w]}, reads one of {found}",
            "Export at the size that it was trained for.",
        )
    weight = Weight(value if isinstance(value, Codes) else None, c, 1, (3, 3), c)
    return accumulate(site, VariedDwConv(), x, (), weight, bias=2)
