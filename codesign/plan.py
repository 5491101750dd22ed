"""From a graph to the program of an engine: layouts, weight tiles over output groups, addresses.

    planned = plan(graph, lanes=16)
    planned.config    the constants of the engine: computed from the graph, or given and checked
    planned.program   steps with addresses, inputs and outputs

The meaning of a graph never depends on anything decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil

import numpy as np

from codesign import pack
from codesign.drafts import Dense, Draft, Window, drafts, image_packing, only_gathered, readers
from codesign.errors import PlanError
from codesign.fit import Limits, Work, check_fits, grown, least_rows, needs, unchained
from codesign.ir import Graph
from codesign.late import full_size
from codesign.layout import (
    Buffer,
    Layout,
    Readers,
    Run,
    View,
    aligned,
    allocate,
    free_order,
    load_order,
    phase_order,
    runs_of_words,
    views,
)
from codesign.near import Places, keep_near, most_near
from codesign.ports import Bytes, Ints, Piece, Port
from codesign.program import (
    LEAST_NEAR,
    MAX_STEPS,
    EngineConfig,
    Program,
    Sampling,
    Segment,
    Step,
    program_words,
)

TO_THE_END = 1 << 30


@dataclass(frozen=True)
class Plan:
    """How a graph runs on an engine."""

    config: EngineConfig
    program: Program
    far: Program = field(compare=False, repr=False)  # without maps that stay on chip
    buffers: tuple[Buffer, ...] = field(
        compare=False, repr=False
    )  # of it, from the beginning of the arena on

    def on(self, config: EngineConfig) -> Plan:
        """With an engine that differs in its arrays and in its memories for maps, which change no other step."""
        keeps = config.near_words >= LEAST_NEAR
        program = keep_near(self._places, config.near_words) if keeps else self.far
        return Plan(config, program, self.far, self.buffers)

    @cached_property
    def most_near(self) -> int:
        """Words of each of the memories for maps, beyond which no more maps stay on chip."""
        return most_near(self._places)

    @cached_property
    def _places(self) -> Places:
        return Places(self.far, self.buffers)


def plan(
    graph: Graph,
    lanes: int = 16,
    config: EngineConfig | None = None,
    *,
    arrays: int = 1,
    array: tuple[int, int] = (1, 1),
    limits: Limits = Limits(),  # noqa: B008 -- frozen
    fuse: bool = True,
    apart: Collection[str] = (),
    keep: bool = False,
    base: int = 0,
) -> Plan:
    """Plan a graph for `lanes` lanes and so many arrays of (pixels, turns), or for the engine that `config` describes.

    `limits` are of an engine that has no `config`. `fuse=False` stores every window's result, `apart` those named;
    `keep` gives every stored tensor memory of its own, so that all of
    them can be compared. `base` is the word address of the program. Raises PlanError where the engine has no
    unit for a node, or names each constant of the config that is too small.
    """
    lanes = lanes if config is None else config.lanes
    arrays = arrays if config is None else config.arrays
    if lanes not in (1, 2, 4, 8, 16, 32, 64):
        raise PlanError(f"lanes: {lanes}, expected a power of two from 1 to 64. Use 16.")
    if config is None and (array[0] < 1 or array[1] < 1 or lanes % array[1]):
        raise PlanError(
            f"array: {array[0]} pixels in {array[1]} turns, expected turns that divide {lanes} lanes. Use {array[0]}x1."
        )
    alone, graph = set(apart), graph.late
    while True:
        made = drafts(graph, fuse, alone)
        read = readers(graph, made)
        packing = config.pack_log2 if config is not None else image_packing(graph, made, lanes)
        layouts, work = _layouts(graph, made, read, lanes, packing)
        slots = least_rows(work) if config is None else config.ring_rows
        longest = limits.row_words if config is None else config.row_words
        most = TO_THE_END if config is None else config.window_groups
        # A window on its own can be computed some channels at a time; one that is fused needs all of them at once.
        fused = [w for w in work if w.draft.absorbed]
        wide = {
            w.draft.absorbed
            for w in fused
            if w.row_words > w.capacity(slots, longest) or len(w.order) > min(most, longest)
        }
        for w in work:
            wide |= unchained(w, len(layouts[w.draft.name].order), lanes, arrays, config, limits)
        if not wide:
            break
        alone |= wide
    needed = needs(graph, work, layouts, packing, slots)
    if grows := config is None:
        config = grown(needed, work, layouts, lanes, arrays, array, limits)
    check_fits(config, needed)
    ranges = [_parts(w, layouts, config) for w in work]
    cut, refined = _cut(work, ranges, layouts, lanes)
    most = max((max(len(w.runs), len(cut[w.draft.name].segments)) for w in refined), default=0)
    if grows and most > config.max_segments:
        config = replace(config, max_segments=most)
    if most <= config.max_segments:
        layouts, work = cut, refined
    parts = [(w, a, b) for w, found in zip(work, ranges, strict=True) for a, b in found]
    if len(parts) > MAX_STEPS:
        raise PlanError(f"model: {len(parts)} steps, expected at most {MAX_STEPS}. Raise weight_tiles.")
    _live(graph, parts, layouts, read, keep)
    buffers = tuple(b for layout in layouts.values() for b in layout.buffers)
    size = allocate(buffers, lanes)
    # Addresses do not change sizes: a first rendering tells where the arena can begin.
    steps = tuple(_step(w, a, b, layouts, config, 0) for w, a, b in parts)
    begin = aligned(base + program_words(steps, lanes), lanes)
    steps = tuple(_placed(step, begin) for step in steps)
    types, every = graph.types(), views(graph)

    def port(name: str) -> Port:
        whole = full_size(graph, name)
        h, w, c = types[whole].shape
        pieces = _pieces(every[whole], (h, w), layouts, lanes, begin)
        return Port(name, (h, w, c), types[whole].elem.signed, pieces)

    kept = [name for name in layouts if keep]
    program = Program(
        lanes, base, (begin, begin + size), steps, {n: port(n) for n in graph.inputs},
        {n: port(n) for n in graph.outputs}, {n: port(n) for n in kept},
    )  # fmt: skip
    return Plan(config, program, program, buffers).on(config)


def _layouts(
    graph: Graph, made: tuple[Draft, ...], read: Mapping[str, list[Readers]], lanes: int, packing: int
) -> tuple[dict[str, Layout], list[Work]]:
    layouts: dict[str, Layout] = {}
    for name, type_ in graph.inputs.items():
        h, w, c = type_.shape
        if type_.elem.bits > 8:
            raise PlanError(f"{name}: is {type_.elem}, expected 8 bits at most. Quantize the input.")
        fits = packing > 0 and c <= lanes >> packing and only_gathered(graph, name, made)
        order, segments = free_order(read[name], lanes)
        layouts[name] = Layout((h, w, c), type_.elem.signed, order, segments, 1 << packing if fits else 1)
    work: list[Work] = []
    stored: Ints
    spread = {d.view[0][0]: d for d in made if d.spread}
    for draft in made:
        runs, order = load_order(draft.view, layouts, lanes)
        packed = any(layouts[run.tensor].pack > 1 for run in runs)
        rows, halves = _matrix_rows(draft, order, 1 << packing if packed else 1)
        middle = second = order[:0]
        if draft.front is not None and draft.dense is not None:
            count = len(draft.front.channels)
            middle = np.append(np.arange(count), np.full(-count % lanes, -1)).reshape(-1, lanes)
            second = np.append(np.array(draft.joined, np.int64), -1)[middle]
        again = draft.front is not None and _in_halves(draft.dense)
        work.append(Work(draft, runs, order, packed, rows, halves, middle, second, again))
        if draft.spread:
            stored, _ = free_order(read[draft.name], lanes)
            segments = ((0, len(stored)),)
        elif draft.name in spread:
            pixels = spread[draft.name]
            stored, segments = phase_order(pixels.view, free_order(read[pixels.name], lanes)[0])
        elif draft.dense is None:
            stored, segments = order, runs_of_words(order, read[draft.name])
        else:
            stored, segments = free_order(read[draft.name], lanes)
        layouts[draft.name] = Layout(draft.out_shape, draft.signed, stored, segments)
    return layouts, work


def _in_halves(dense: Dense | None) -> bool:
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


def _parts(w: Work, layouts: Mapping[str, Layout], config: EngineConfig) -> list[tuple[int, int]]:
    """Ranges of output words, each with rows and weights that fit on chip."""
    words = len(layouts[w.draft.name].order)
    if w.draft.spread:  # ranges of the columns, of which a row may be too long
        words, most = w.draft.shape[1], (config.row_words + config.input_words) // len(w.order)
    elif w.draft.front is not None:
        return [(0, words)]
    elif w.draft.dense is not None:
        most = config.arrays * min(config.weight_tiles // (len(w.rows) * w.passes), config.output_words)
        if w.draft.pool:
            most = min(most, config.pool_groups, config.pool_words // w.line_width)
    elif w.draft.window is not None and w.divisible:
        most = w.most_words(config.ring_rows, config.row_words)
        if w.draft.window.weight is not None:
            most = min(most, config.window_groups)
    else:
        return [(0, words)]
    count = ceil(words / most)
    bounds = [round(i * words / count) for i in range(count + 1)]
    return list(zip(bounds, bounds[1:], strict=False))


def _cut(
    work: list[Work], ranges: list[list[tuple[int, int]]], layouts: Mapping[str, Layout], lanes: int
) -> tuple[dict[str, Layout], list[Work]]:
    """With segments that end where the steps of a draft do: what one writes, or reads of a window, is then one run.

    Otherwise each pixel would be a request of its own, which takes as long as a long one begins.
    """
    cuts: dict[str, set[int]] = {name: set() for name in layouts}
    phases = {w.draft.view[0][0] for w in work if w.draft.spread}  # whose segments are rows of pixels
    for w, found in zip(work, ranges, strict=True):
        if w.draft.spread or w.draft.name in phases:
            continue
        starts = {a for a, _ in found[1:]}
        cuts[w.draft.name] |= starts
        at = 0
        for run in w.runs if w.draft.dense is None else ():
            first = layouts[run.tensor].segments[run.segment][0] + run.first
            cuts[run.tensor] |= {first + start - at for start in starts if at <= start < at + run.count}
            at += run.count
    new = {}
    for name, layout in layouts.items():
        segments = []
        for first, count in layout.segments:
            inside = [first, *sorted(c for c in cuts[name] if first < c < first + count), first + count]
            segments += [(a, b - a) for a, b in zip(inside, inside[1:], strict=False)]
        new[name] = replace(layout, segments=tuple(segments), buffers=[])
    return new, [replace(w, runs=load_order(w.draft.view, new, lanes)[0]) for w in work]


def _live(
    graph: Graph, parts: list[tuple[Work, int, int]], layouts: Mapping[str, Layout],
    read: Mapping[str, list[Readers]], keep: bool,
) -> None:  # fmt: skip
    """Buffers of every layout with their lives: from the first step that writes to the last that reads."""
    first: dict[str, int] = {}
    last: dict[str, int] = {f"output {name}": TO_THE_END for name in graph.outputs}
    for i, (w, _, _) in enumerate(parts):
        first.setdefault(w.draft.name, i)
        last[w.draft.name] = last[f"offset of {w.draft.name}"] = i
    for name, layout in layouts.items():
        h, _, _ = layout.shape
        pixels = h * layout.row_words if layout.pack > 1 else h * layout.shape[1]
        written = last.get(name, -1)
        for a, count in layout.segments:
            channels = [c for c in layout.order[a : a + count].reshape(-1).tolist() if c >= 0]
            users = [last[r] for c in channels for r in read[name][c]]
            end = TO_THE_END if keep else max([written, *users])
            begin = -1 if keep else first.get(name, -1)
            layout.buffers.append(Buffer(pixels * count, begin, end))


def _segment(run: Run, layouts: Mapping[str, Layout]) -> Segment:
    layout = layouts[run.tensor]
    stride = layout.segments[run.segment][1]
    address = layout.buffers[run.segment].address + run.first
    return Segment(address, run.count, stride, run.up, layout.signed)


def _loads(w: Work, a: int, b: int, layouts: Mapping[str, Layout]) -> tuple[Segment, ...]:
    """Segments that a step loads; of a window that is divided, words [a, b) of each pixel."""
    if w.draft.dense is not None:
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


def _step(w: Work, a: int, b: int, layouts: Mapping[str, Layout], config: EngineConfig, begin: int) -> Step:
    draft, lanes = w.draft, config.lanes
    if draft.spread:
        return _spread_step(w, a, b, layouts, config)
    window = draft.window or Window("pass", (3, 3), (1, 1), (0, 0))
    order = w.order if draft.dense is not None else w.order[a:b]
    out_height, out_width = draft.unpooled if draft.pool else draft.out_shape[:2]
    if draft.front is not None:
        out_height, out_width = draft.front.shape
    step = Step(
        nodes=draft.nodes, load=_loads(w, a, b, layouts),
        store=_stores(layouts[draft.name], a, b), height=draft.shape[0], width=draft.shape[1],
        groups=len(order), out_height=out_height, out_width=out_width, packed=w.packed,
        pool_stride=draft.pool, load_pixels=max(1, config.chunk_words // len(order)),
        store_pixels=max(1, config.chunk_words // (b - a)),
        window=window.kind, kernel=window.kernel[0], stride=window.stride, origin=window.origin,
        reach=window.reach,
    )  # fmt: skip
    if window.tables is not None and window.weight is not None:
        t = window.tables
        rows = pack.requant_rows(t.bias, t.mult, t.shift, order)
        blob = np.concatenate([pack.depthwise_taps(window.weight, order), rows])
        step = replace(step, window_clamp=t.clamp, window_parameters=blob)
    if window.sampling is not None:
        step = replace(
            step, offset=_samples(draft, window.sampling, layouts, lanes), sampling=window.sampling
        )
    elif draft.offset:
        (run,), place = load_order(draft.offset, layouts, lanes)
        step = replace(step, offset=replace(_segment(run, layouts), signed=False),
                       offset_lane=int(np.flatnonzero(place[0] == 0)[0]))  # fmt: skip
    return _multiplying(step, w, layouts[draft.name].order[a:b], config.arrays)


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


def _multiplying(step: Step, w: Work, columns: Ints, arrays: int) -> Step:
    """With what the arrays do: each half of the words, or one after the other."""
    draft = w.draft
    if draft.dense is None:
        return step
    first, rows, halves, middle = draft.dense, w.rows, w.halves, draft.front
    mine = -(-len(columns) // arrays)
    ours, others = columns[:mine], columns[mine:]
    if middle is not None:
        first, ours, others = middle.dense, np.append(np.array(middle.channels), -1)[w.middle], columns
        rows, halves = w.second_rows, w.second_halves
        t, weight = middle.window.tables, middle.window.weight
        assert t is not None and weight is not None
        taps = [pack.depthwise_taps(weight, w.middle), pack.requant_rows(t.bias, t.mult, t.shift, w.middle)]
        step = replace(
            step, middle_stride=middle.window.stride[0], middle_clamp=t.clamp, middle_parameters=np.concatenate(taps)
        )  # fmt: skip
    step = replace(
        step, pointwise=_mode(w.halves), pointwise_in=len(w.rows), pointwise_out=len(ours),
        pointwise_clamp=first.tables.clamp, pointwise_parameters=_matrix(first, w.rows, ours, w.halves),
    )  # fmt: skip
    if not len(others):
        return step
    return replace(
        step, second=_mode(halves), second_out=len(others), second_clamp=draft.dense.tables.clamp,
        second_parameters=_matrix(draft.dense, rows, others, halves),
    )  # fmt: skip


def _mode(halves: bool) -> str:
    return "int8" if halves else "int4"


def _matrix(dense: Dense, rows: Ints, columns: Ints, halves: bool) -> Bytes:
    """Tiles and requantization rows of one array."""
    weight, t = dense.weight, dense.tables
    tiles = pack.pointwise_tiles(weight.reshape(-1, weight.shape[3]), rows, columns, halves)
    return np.concatenate([tiles, pack.requant_rows(t.bias, t.mult, t.shift, columns)])


def _placed(step: Step, begin: int) -> Step:
    """The step with its arena moved from 0 to `begin`."""

    def move(segment: Segment) -> Segment:
        return replace(segment, address=segment.address + begin)

    return replace(
        step, load=tuple(map(move, step.load)), store=tuple(map(move, step.store)),
        offset=None if step.offset is None else move(step.offset),
    )  # fmt: skip


def _pieces(
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
