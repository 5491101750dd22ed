"""Import patterns of rows: what flattens a map or gives a row its axes back, and the matrix products that read it.

A row [N, K] is a map of one pixel, or a map that was flattened in the order channel, row, column. A product with it is
a convolution whose window is the whole map.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from codesign.onnx_conv import MAX_KERNEL, MAX_WEIGHT_BITS, Weight, accumulate, shape_of
from codesign.onnx_site import INCONSISTENT, Site
from codesign.onnx_values import Acc, Act, Codes, Const, Poison, Refused, Value, unknown_sums
from codesign.ops import Conv

ROW = "Multiply rows [N, K], as behind Flatten, by a constant matrix."


def flatten(site: Site) -> Value:
    """Flatten with axis 1, and a Squeeze of height and width."""
    value = site.input(0)
    if site.node.op_type == "Flatten":
        axis = site.whole("axis", 1)
        if axis != 1 and not (axis == -3 and not _is_flat(value)):
            site.note(f"flattens from axis {axis}, expected 1", "Keep the batch as the first axis.")
    else:
        axes = site.wholes("axes", (), -1) or tuple(site.ints(1) or ())
        if isinstance(value, (Act, Acc)) and 0 not in value.shape:
            ones = {i for i, size in enumerate(value.shape[:2], start=2) if size == 1}
            if sorted(a % 4 for a in axes) != [2, 3] or ones != {2, 3}:
                site.note(f"takes the axes {list(axes)} away, expected height and width of 1", "Use Flatten.")
    return flat(site, value)


def flat(site: Site, value: Value | None) -> Value:
    """The value as [N, C * H * W]."""
    if not isinstance(value, (Act, Acc)):
        value = site.act(0, rows=True)
    site.guess = replace(value, flat=True)
    site.check()
    return replace(value, flat=True)


def unsqueeze(site: Site) -> Value:
    """A row as a map of one pixel."""
    value = site.input(0)
    axes = site.wholes("axes", (), -1) or tuple(site.ints(1) or ())
    if not isinstance(value, (Act, Acc)):
        value = site.act(0, rows=True)
    if not value.flat or value.shape[:2] not in ((1, 1), (0, 0)) or sorted(a % 4 for a in axes) != [2, 3]:
        raise Refused(f"adds the axes {list(axes)} to a map", "Keep N,C,H,W.")
    return replace(value, flat=False)


def _is_flat(value: Value | None) -> bool:
    return isinstance(value, (Act, Acc)) and value.flat


def gemm(site: Site) -> Value:
    """A (N, K) by B, plus C: alpha and beta go into the scales."""
    if site.whole("transA", 0):
        site.note("has transA 1, which makes images of numbers", "Multiply rows from the left.")
    alpha, beta = site.real("alpha", 1.0), site.real("beta", 1.0)
    if alpha <= 0:
        site.note(f"has alpha {alpha:g}, expected more than 0", "Put it into the weight.")
    return _product(site, bool(site.whole("transB", 0)), alpha, beta)


def matmul(site: Site) -> Value:
    return _product(site, False, 1.0, 1.0)


def _product(site: Site, transposed: bool, alpha: float, beta: float) -> Value:
    x, given = site.row(), site.input(1)
    site.guess = unknown_sums(site.where)
    shape = shape_of(given)
    if isinstance(given, (Act, Acc)):
        raise Refused("multiplies two maps", ROW)
    if isinstance(given, Const):
        site.note("its weight is not quantized", "Put a Quant of at most 8 bits behind the weight.")
    if shape and len(shape) != 2:
        raise Refused(f"multiplies by {list(shape)}, expected a matrix", ROW)
    if isinstance(given, Codes) and (not given.elem.signed or given.elem.bits > MAX_WEIGHT_BITS):
        site.note(
            f"its weight is {given.elem}, expected signed, at most 8 bits", "Quantize it to 4 or 8 bits."
        )
    count, size = (shape if transposed else shape[::-1]) if shape else (0, 0)
    h, w, c = (0, 0, 0) if x is None else x.shape
    if shape and c and size != h * w * c:
        raise Refused(f"multiplies rows of {h * w * c} by {list(shape)}", INCONSISTENT)
    if max(h, w) > MAX_KERNEL:
        site.note(
            f"multiplies a map of {h}x{w} pixels, expected at most {MAX_KERNEL}x{MAX_KERNEL}",
            "Average or stride the map down before.",
        )
    codes = _kernel(given, transposed, (count, c, h, w), alpha) if isinstance(given, Codes) and c else None
    if (bias := site.input(2)) is not None:
        site.inputs[2] = _row(site, bias, count, beta)
    made = accumulate(site, Conv((h, w)), x, (), Weight(codes, count, c, (h, w), 1), bias=2)
    return replace(made, flat=True)


def _kernel(weight: Codes, transposed: bool, shape: tuple[int, ...], alpha: float) -> Codes:
    """The matrix as a kernel [Cout, C, H, W]."""
    rows, scale = weight.codes, np.broadcast_to(weight.scale, weight.codes.shape)
    if not transposed:
        rows, scale = rows.T, scale.T
    by_row = (
        scale[:, :1] if np.all(scale == scale[:, :1]) else scale
    )  # what differs within a row is refused as such
    kernel = by_row.reshape(-1, 1, 1, 1) if by_row.shape[1] == 1 else by_row.reshape(shape)
    return replace(weight, codes=np.ascontiguousarray(rows.reshape(shape)), scale=kernel * alpha)


def _row(site: Site, bias: Value, count: int, beta: float) -> Value:
    """The bias times `beta`; it must be the same for each image."""
    shape = shape_of(bias)
    if shape and prod(shape) != 1 and (shape[-1] != count or prod(shape) != count):
        site.note(f"adds {list(shape)} to rows of {count} numbers", "Add one row, the same to each image.")
        return Poison(constant=True)
    if isinstance(bias, Codes):
        return replace(bias, scale=bias.scale * beta)
    return Const(bias.array.astype(np.float64) * beta) if isinstance(bias, Const) else bias
