"""How stored tensors lie in memory, words in the order that suits their readers, and what each draft loads of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from codesign import pack
from codesign.draft import Dense, Draft
from codesign.drafts import ones, only_gathered
from codesign.errors import PlanError
from codesign.fit import Work
from codesign.ir import Graph
from codesign.layout import (
    Layout,
    Readers,
    free_order,
    load_order,
    phase_order,
    phases_as_loaded,
    runs_of_words,
)
from codesign.mixing import loaded_parts, weights_work
from codesign.ports import Ints
from codesign.skips import moved_order, selected_order


def layouts_of(
    graph: Graph,
    made: tuple[Draft, ...],
    read: dict[str, list[Readers]],
    lanes: int,
    packing: int,
    orders: Mapping[str, Ints],
) -> tuple[dict[str, Layout], list[Work]]:
    """Of every tensor that is stored, and the drafts with what they load. `orders` are those that some must have."""
    layouts: dict[str, Layout] = {}
    for name, type_ in graph.inputs.items():
        h, w, c = type_.shape
        if type_.elem.bits > 8:
            raise PlanError(f"{name}: is {type_.elem}, expected 8 bits at most. Quantize the input.")
        fits = packing > 0 and c <= lanes >> packing and only_gathered(graph, name, made)
        order, segments = _stored_order(name, read, lanes, orders)
        layouts[name] = Layout((h, w, c), type_.elem.signed, order, segments, 1 << packing if fits else 1)
    work: list[Work] = []
    stored: Ints
    spread = {d.view[0][0]: d for d in made if d.spread}
    pixels: dict[str, Ints] = {}  # orders of maps whose phases are moved as they lie
    for draft in made:
        if draft.window is not None and draft.window.mixing is not None:
            runs, order, leaves = loaded_parts(draft, layouts, lanes)
        else:
            runs, order = load_order(draft.view, layouts, lanes)
            leaves = order
        if draft.copies and draft.name in spread:
            found = phases_as_loaded(spread[draft.name].view, order)
            if found is not None and {layouts[run.tensor].signed for run in runs} == {draft.signed}:
                pixels[spread[draft.name].name] = found
                draft = replace(draft, dense=None)
        if (
            draft.into
            and draft.dense is None
            and not np.array_equal(order, selected_order(draft, layouts, order))
        ):
            draft = replace(draft, dense=ones(draft))  # the other side has stored channels in another order
        packed = any(layouts[run.tensor].pack > 1 for run in runs)
        rows, halves = _matrix_rows(draft, leaves, 1 << packing if packed else 1)
        middle = second = order[:0]
        if draft.front is not None and draft.dense is not None:
            count = len(draft.front.channels)
            middle = np.append(np.arange(count), np.full(-count % lanes, -1)).reshape(-1, lanes)
            second = np.append(np.array(draft.joined, np.int64), -1)[middle]
        again = draft.front is not None and _in_halves(draft.dense)
        here = Work(draft, runs, order, packed, rows, halves, middle, second, again, leaves, order[:0])
        if draft.spread:
            stored = pixels[draft.name] if draft.name in pixels else free_order(read[draft.name], lanes)[0]
            segments = ((0, len(stored)),)
        elif draft.name in spread and draft.dense is None:
            stored, half = order, len(order) // 2
            segments = ((0, half), (half, half))
        elif draft.name in spread:
            result = spread[draft.name]
            stored, segments = phase_order(result.view, free_order(read[result.name], lanes)[0])
        elif draft.into in layouts:
            stored, segments = layouts[draft.into].order, layouts[draft.into].segments
        elif draft.into and (moved := moved_order(draft, made, layouts, lanes)) is not None:
            stored, segments = moved, runs_of_words(moved, read[draft.into])
        elif draft.dense is None:
            stored, segments = leaves, runs_of_words(leaves, read[draft.stores])
        else:
            stored, segments = _stored_order(draft.stores, read, lanes, orders)
        if draft.gates:
            before, layout = weights_work(here, stored, lanes)
            work.append(before)
            layouts[before.draft.name] = layout
            read[before.draft.name] = [frozenset([draft.name])] * lanes
        work.append(here)
        if draft.stores not in layouts:
            layouts[draft.stores] = Layout(draft.out_shape, draft.signed, stored, segments)
    return layouts, work


def _stored_order(
    name: str, read: Mapping[str, list[Readers]], lanes: int, orders: Mapping[str, Ints]
) -> tuple[Ints, tuple[tuple[int, int], ...]]:
    """Order and segments of a tensor: the order that it must have, else one that suits its readers."""
    if name not in orders:
        return free_order(read[name], lanes)
    return orders[name], runs_of_words(orders[name], read[name])


def _in_halves(dense: Dense | None) -> bool:
    if dense is not None and dense.mixture is not None:
        return dense.mixture.most > 7
    return dense is not None and not pack.fits_int4(dense.weight)


def _matrix_rows(draft: Draft, order: Ints, packing: int) -> tuple[Ints, bool]:
    """Of the first array: rows of its matrix in physical order, and whether its weights are int8."""
    dense, joined = draft.dense, draft.joined
    if draft.front is not None:
        dense, joined = draft.front.dense, draft.front.joined
    if dense is None:
        return order[:0], False
    if draft.window is not None and draft.window.kind == "gather":
        kh, kw, channels, _ = dense.weight.shape
        return pack.gathered_order(order, (kh, kw), channels, packing), _in_halves(dense)
    if joined:
        return np.append(np.array(joined, np.int64), -1)[order], _in_halves(dense)
    return order, _in_halves(dense)
