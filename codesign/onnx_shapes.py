"""Import patterns of what changes the shape of a map: the channel shuffle, rows of all values, and Shape itself."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from codesign.onnx_site import INCONSISTENT, Site
from codesign.onnx_values import (
    NO_SHAPE,
    REFUSED,
    Acc,
    Act,
    Codes,
    Const,
    Grouped,
    Poison,
    Raw,
    Refused,
    Unknown,
    Value,
)
from codesign.ops import Shuffle

SHUFFLE = "Shuffle as Reshape, Transpose of axes 1 and 2, Reshape; nothing else may be reshaped."


def reshape(site: Site) -> Value:
    value = site.input(0)
    if isinstance(value, Codes):
        return _reshaped(site, value)
    grouped_from = value if isinstance(value, Grouped) else None
    dims = site.ints(1) or []
    if isinstance(value, (Act, Acc)) and (len(dims) == 2 or value.flat):
        return _row_reshape(site, value, dims)
    act = grouped_from.of if grouped_from is not None else site.feature()
    site.check()
    if act is None or 0 in act.shape:
        return _unknown_reshape(site, act, grouped_from, dims)
    h, w, c = act.shape
    before: tuple[int, ...] = (c, h, w)
    if grouped_from is not None:
        tail = (grouped_from.groups, c // grouped_from.groups)
        before = (*(tail[::-1] if grouped_from.swapped else tail), h, w)
    wanted = _resolved(site, before, dims)
    if wanted == (c, h, w):
        if grouped_from is not None and grouped_from.swapped:
            return site.view(Shuffle(grouped_from.groups), act)
        return act
    grouped = len(wanted) in (3, 4) and wanted[0] * wanted[1] == c and wanted[2:] in ((h, w), (h * w,))
    if grouped and grouped_from is None:
        return Grouped(act, wanted[0], False, site.where)
    raise Refused(
        f"changes {list(before)} per image into {list(wanted)}, which is no channel shuffle", SHUFFLE
    )


def _row_reshape(site: Site, value: Act | Acc, dims: list[int]) -> Value:
    """All of a map into a row, or a row back into the map that it was or that has one pixel."""
    h, w, c = value.shape
    if 0 in value.shape:
        raise Unknown
    wanted = _resolved(site, (h * w * c,) if value.flat else (c, h, w), dims)
    if wanted not in ((h * w * c,), (c, h, w)):
        raise Refused(
            f"changes {[c, h, w]} per image into {list(wanted)}", "Flatten all of an image, or none."
        )
    return replace(value, flat=len(wanted) == 1)


def _unknown_reshape(site: Site, act: Act | None, grouped: Grouped | None, dims: list[int]) -> Value:
    """A reshape of a map of unknown shape: judged by the batch and the number of axes alone."""
    if dims and site.importer.batch is not None and dims[0] not in (-1, 0, site.importer.batch):
        raise _moves_images(dims)
    if len(dims) not in (4, 5) or (grouped is not None and len(dims) == 5):
        raise Refused(f"changes the map into {dims}, which is no channel shuffle", SHUFFLE)
    if grouped is not None:
        return replace(grouped.of, source=REFUSED, shape=NO_SHAPE)
    if act is None or len(dims) == 4:
        raise Unknown
    return Grouped(act, dims[1], False, site.where)


def _moves_images(dims: list[int]) -> Refused:
    return Refused(f"moves elements between images (to {dims})", "Keep the batch as the first axis.")


def _reshaped(site: Site, value: Codes) -> Codes:
    """A quantized parameter in another shape, such as a bias as [1,C,1,1]."""
    dims = site.ints(1) or []
    scale = np.broadcast_to(value.scale, value.codes.shape)
    try:
        return replace(value, codes=value.codes.reshape(dims), scale=scale.reshape(dims))
    except ValueError:
        raise Refused(f"changes {list(value.codes.shape)} into {dims}", INCONSISTENT) from None


def _resolved(site: Site, before: tuple[int, ...], dims: list[int]) -> tuple[int, ...]:
    """The per-image shape that Reshape's `dims` (with its 0 and -1) mean."""
    batch, total = site.importer.batch, prod(before)
    keep_zero = bool(site.whole("allowzero", 0))
    if len(dims) < 2 or (dims[0] not in (-1, batch) and (dims[0] != 0 or keep_zero)):
        raise _moves_images(dims)
    rest = [before[i] if d == 0 and i < len(before) and not keep_zero else d for i, d in enumerate(dims[1:])]
    if rest.count(-1) == 1 and dims[0] != -1:
        others = -prod(rest)
        rest = [total // others if d == -1 and others else d for d in rest]
    if prod(rest) != total or min(rest) < 1:
        raise Refused(f"changes {list(before)} per image into {dims}", INCONSISTENT)
    return tuple(rest)


def transpose(site: Site) -> Value:
    value, perm = site.input(0), list(site.wholes("perm", (), count=-1))
    if isinstance(value, Codes):
        return _transposed(value, perm)
    shuffles = perm in ([0, 2, 1, 3, 4], [0, 2, 1, 3])
    if isinstance(value, Grouped):
        if shuffles:
            return Grouped(value.of, value.groups, not value.swapped, site.where)
    else:
        act = site.feature()
        if perm == [0, 1, 2, 3] or (isinstance(value, Poison) and shuffles):
            site.check()
            if act is None:
                raise Unknown
            return act
    raise Refused(f"permutes axes by {perm}, which is no channel shuffle", "Keep the layout N,C,H,W.")


def _transposed(value: Codes, perm: list[int]) -> Codes:
    """A quantized parameter with its axes in another order, its scales with it."""
    rank = value.codes.ndim
    order = perm or list(reversed(range(rank)))
    if sorted(order) != list(range(rank)):
        raise Refused(f"permutes {rank} axes by {perm}", INCONSISTENT)
    scale = value.scale.reshape((1,) * (rank - value.scale.ndim) + value.scale.shape)
    return replace(value, codes=value.codes.transpose(order), scale=scale.transpose(order))


def shape(site: Site) -> Value:
    value = site.input(0)
    if isinstance(value, Poison) or (isinstance(value, (Act, Acc, Raw)) and 0 in value.shape):
        site.guess = Poison(constant=True)
        raise Unknown
    if not isinstance(value, (Act, Acc, Raw)):
        raise Refused("takes the shape of something that is no feature map", INCONSISTENT)
    h, w, c = value.shape
    first = site.importer.batch or -1  # what Reshape wants for an open batch
    dims = np.array([first, h * w * c] if isinstance(value, (Act, Acc)) and value.flat else [first, c, h, w])
    return Const(dims[site.whole("start", 0) : site.whole("end", len(dims))])
