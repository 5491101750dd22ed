"""One step of a program: its segments, weights and fields, from a draft that has its place on chip and in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from codesign import pack
from codesign.draft import Dense, Draft, Window
from codesign.engine_config import EngineConfig
from codesign.errors import PlanError
from codesign.fit import Work
from codesign.layout import Layout, Run, View, load_order
from codesign.mixing import gates_segment, weights_name, weights_step
from codesign.ports import Bytes, Ints, Piece
from codesign.skips import Jump
from codesign.step import Segment, Step, branch_step, tile_words
from codesign.windows import Branch, Sampling


def _segment(run: Run, layouts: Mapping[str, Layout]) -> Segment:
    layout = layouts[run.tensor]
    stride = layout.segments[run.segment][1]
    address = layout.buffers[run.segment].address + run.first
    return Segment(address, run.count, stride, run.up, layout.signed)


def _loads(w: Work, a: int, b: int, layouts: Mapping[str, Layout]) -> tuple[Segment, ...]:
    """Segments that a step loads; of a window that is divided, words [a, b) of each pixel."""
    if w.draft.dense is not None or not w.divisible:
        return tuple(_segment(run, layouts) for run in w.runs)
    found, at = [], 0
    for run in w.runs:
        low, high = max(a, at), min(b, at + run.count)
        if low < high:
            part = replace(run, first=run.first + low - at, count=high - low)
            found.append(_segment(part, layouts))
        at += run.count
    return tuple(found)


def _stores(layout: Layout, a: int, b: int) -> tuple[Segment, ...]:
    """Segments that words [a, b) of each pixel go to."""
    found = []
    for (first, count), buffer in zip(layout.segments, layout.buffers, strict=True):
        low, high = max(a, first), min(b, first + count)
        if low < high:
            found.append(Segment(buffer.address + low - first, high - low, count))
    return tuple(found)


def _spread_step(w: Work, a: int, b: int, layouts: Mapping[str, Layout], config: EngineConfig) -> Step:
    """Columns [a, b) of the phases to their pixels: the row of the upper ones, then that of the lower.

    Both are runs in memory, so a row of the phases counts as a pixel of many words.
    """
    (height, width, _), name = w.draft.shape, w.draft.name
    upper, lower = layouts[w.draft.view[0][0]].buffers
    words = 2 * len(layouts[name].order)  # of two neighbours in a row
    count, (address,) = (b - a) * words, (buffer.address for buffer in layouts[name].buffers)
    signed = layouts[name].signed
    load = [Segment(p.address + a * words, count, width * words, 0, signed) for p in (upper, lower)]
    store = [Segment(address + (i * width + a) * words, count, 2 * width * words) for i in (0, 1)]
    if b - a == width:
        store = [Segment(address, 2 * count, 2 * count)]
    return Step(
        nodes=w.draft.nodes, load=tuple(load), store=tuple(store), height=height, width=1, groups=2 * count,
        out_height=height, out_width=1, load_pixels=max(1, config.chunk_words // (2 * count)),
        store_pixels=max(1, config.chunk_words // (2 * count)),
    )  # fmt: skip


def step_of(w: Work, a: int, b: int, layouts: Mapping[str, Layout], config: EngineConfig, begin: int) -> Step:
    draft, lanes = w.draft, config.lanes
    if draft.spread:
        return _spread_step(w, a, b, layouts, config)
    if draft.window is not None and draft.window.mixture is not None:
        return weights_step(w, layouts, config)
    window = draft.window or Window("pass", (3, 3), (1, 1), (0, 0))
    order = w.order[a:b] if draft.dense is None and w.divisible else w.order
    leaves = w.leaves[a:b] if draft.dense is None and w.divisible else w.leaves
    out_height, out_width = draft.unpooled if draft.pool else draft.out_shape[:2]
    if draft.front is not None:
        out_height, out_width = draft.front.shape
    step = Step(
        nodes=draft.nodes, load=_loads(w, a, b, layouts),
        store=_stores(layouts[draft.stores], a, b), height=draft.shape[0], width=draft.shape[1],
        groups=len(order), out_height=out_height, out_width=out_width, packed=w.packed,
        pool_stride=draft.pool, load_pixels=max(1, config.chunk_words // len(order)),
        store_pixels=max(1, config.chunk_words // (b - a)),
        window=window.kind, kernel=window.kernel[0], stride=window.stride, origin=window.origin,
        reach=window.reach,
    )  # fmt: skip
    if window.tables is not None:
        t = window.tables
        blob = pack.requant_rows(t, leaves, config.is_wide)
        if window.weight is not None:
            blob = np.concatenate([pack.depthwise_taps(window.weight, order), blob])
        varied = None if window.varied is None else pack.varied_taps(window.varied, order)
        step = replace(step, window_clamp=t.clamp, window_parameters=blob, varied=varied)
    if window.sampling is not None:
        step = replace(
            step, offset=_samples(draft, window.sampling, layouts, lanes), sampling=window.sampling
        )
    elif window.mixing is not None:
        mixing = replace(window.mixing, out=len(leaves))
        step = replace(step, mixing=mixing, offset=gates_segment(w, layouts, lanes))
    elif draft.offset:
        (run,), place = load_order(draft.offset, layouts, lanes)
        step = replace(step, offset=replace(_segment(run, layouts), signed=False),
                       offset_lane=int(np.flatnonzero(place[0] == 0)[0]))  # fmt: skip
    if draft.table is not None:
        step = replace(step, table=pack.table(draft.table, lanes))
    if draft.gates:
        return _computed(step, w, a, layouts, layouts[draft.stores].order[a:b], config)
    return _multiplying(step, w, layouts[draft.stores].order[a:b], config)


def jump_of(jump: Jump, layouts: Mapping[str, Layout], lanes: int) -> Step:
    """The branch that a jump is."""
    if jump.condition is None:
        return branch_step(None, 0, Branch(jump.threshold, jump.target))
    tensor, channel, _ = gate = jump.condition.gate
    branch = Branch(jump.threshold, jump.target, f"{tensor}[{channel}]" if channel else tensor)
    (run,), place = load_order((gate,), layouts, lanes)
    where = replace(_segment(run, layouts), up=0)
    return branch_step(where, int(np.flatnonzero(place[0] == 0)[0]), branch, jump.names)


def _samples(draft: Draft, sampling: Sampling, layouts: Mapping[str, Layout], lanes: int) -> Segment:
    """Where offsets and masks of a pixel lie: in the order of their channels, from the first lane of a word on."""
    runs, order = load_order(draft.offset, layouts, lanes)
    count = len(draft.offset)
    flat = order.reshape(-1)[:count]
    if len(runs) != 1 or len(order) != sampling.words(lanes) or not np.array_equal(flat, np.arange(count)):
        raise PlanError(
            f"{draft.name}: its offsets lie in {len(runs)} places, expected all channels of one convolution in their "
            "order. Let nothing else read some of them."
        )
    return replace(_segment(runs[0], layouts), signed=False)


def _multiplying(step: Step, w: Work, columns: Ints, config: EngineConfig) -> Step:
    """With what the arrays do: each half of the words, or one after the other."""
    draft = w.draft
    if draft.dense is None:
        return step
    first, rows, halves, middle = draft.dense, w.rows, w.halves, draft.front
    mine = -(-len(columns) // config.arrays)
    ours, others = columns[:mine], columns[mine:]
    if middle is not None:
        first, ours, others = middle.dense, np.append(np.array(middle.channels), -1)[w.middle], columns
        rows, halves = w.second_rows, w.second_halves
        t, weight = middle.window.tables, middle.window.weight
        assert t is not None and weight is not None
        taps = [pack.depthwise_taps(weight, w.middle), pack.requant_rows(t, w.middle, config.is_wide)]
        step = replace(
            step, middle_stride=middle.window.stride[0], middle_clamp=t.clamp, middle_parameters=np.concatenate(taps)
        )  # fmt: skip
    step = replace(
        step, pointwise=_mode(w.halves), pointwise_in=len(w.rows), pointwise_out=len(ours),
        pointwise_clamp=first.tables.clamp, pointwise_parameters=_matrix(first, w.rows, ours, w.halves, config.is_wide),
    )  # fmt: skip
    if not len(others):
        return step
    return replace(
        step, second=_mode(halves), second_out=len(others), second_clamp=draft.dense.tables.clamp,
        second_parameters=_matrix(draft.dense, rows, others, halves, config.is_wide),
    )  # fmt: skip


def _computed(
    step: Step, w: Work, a: int, layouts: Mapping[str, Layout], columns: Ints, config: EngineConfig
) -> Step:
    """With arrays whose weights a step before has computed, those of output word `a` on."""
    dense, mine = w.draft.dense, -(-len(columns) // config.arrays)
    assert dense is not None
    t, others = dense.tables, len(columns) - mine
    step = replace(
        step, pointwise=_mode(w.halves), pointwise_in=len(w.rows), pointwise_out=mine, pointwise_clamp=t.clamp,
        rows=pack.requant_rows(t, columns, config.is_wide),
    )  # fmt: skip
    if others:
        step = replace(step, second=_mode(w.halves), second_out=others, second_clamp=t.clamp)
    (buffer,) = layouts[weights_name(w.draft.name)].buffers
    first = buffer.address + a * len(w.rows) * w.passes * tile_words(config.lanes)
    return replace(step, weights=(first, first + step.tiles(config.lanes)[0]))


def _mode(halves: bool) -> str:
    return "int8" if halves else "int4"


def _matrix(dense: Dense, rows: Ints, columns: Ints, halves: bool, wide: bool) -> Bytes:
    """Tiles and requantization rows of one array."""
    weight, t = dense.weight, dense.tables
    tiles = pack.pointwise_tiles(weight.reshape(-1, weight.shape[3]), rows, columns, halves)
    return np.concatenate([tiles, pack.requant_rows(t, columns, wide)])


def placed(step: Step, begin: int) -> Step:
    """The step with its arena moved from 0 to `begin`."""

    def move(segment: Segment) -> Segment:
        return replace(segment, address=segment.address + begin)

    weights = None if step.weights is None else (begin + step.weights[0], begin + step.weights[1])
    return replace(
        step, load=step.load if step.bank is not None else tuple(map(move, step.load)),
        store=tuple(map(move, step.store)), offset=None if step.offset is None else move(step.offset),
        weights=weights,
    )  # fmt: skip


def pieces_of(
    view: View, size: tuple[int, int], layouts: Mapping[str, Layout], lanes: int, begin: int
) -> tuple[Piece, ...]:
    """Where each channel of a view lies, by segment."""
    runs, order = load_order(view, layouts, lanes)
    pieces, at = [], 0
    for run in runs:
        layout = layouts[run.tensor]
        rows = order[at : at + run.count].reshape(-1)
        at += run.count
        width = size[1] >> run.up
        stride = layout.segments[run.segment][1]
        record = lanes // layout.pack if layout.pack > 1 else stride * lanes
        row = layout.row_words * lanes if layout.pack > 1 else width * record
        lanes_used = np.flatnonzero(rows >= 0)
        pieces.append(
            Piece(layout.buffers[run.segment].address + begin, row, record, run.up,
                  tuple(rows[lanes_used].tolist()), tuple((lanes_used + run.first * lanes).tolist()))
        )  # fmt: skip
    return tuple(pieces)
