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
from codesign.draft import Dense, Draft
from codesign.drafts import drafts, gate_reader, image_packing, ones, only_gathered, readers
from codesign.engine_config import LEAST_NEAR, EngineConfig
from codesign.errors import PlanError
from codesign.fit import Limits, Work, check_fits, grown, holds, least_rows, needs, unchained
from codesign.ir import Graph
from codesign.layout import (
    Buffer,
    Layout,
    Readers,
    Run,
    aligned,
    allocate,
    free_order,
    load_order,
    phase_order,
    phases_as_loaded,
    runs_of_words,
    views,
)
from codesign.mixing import gate_orders, loaded_parts, part_orders, weights_name, weights_work
from codesign.near import Places, keep_near, most_near
from codesign.ops import WideRequant
from codesign.ports import Ints, Port
from codesign.program import Program, program_words
from codesign.skips import Jump, Slot, guards, moved_order, ordered, selected_order, with_jumps
from codesign.step import MAX_STEPS
from codesign.steps import jump_of, pieces_of, placed, step_of

TO_THE_END = 1 << 30


@dataclass(frozen=True)
class Plan:
    """How a graph runs on an engine."""

    config: EngineConfig
    program: Program
    far: Program = field(compare=False, repr=False)  # without maps that stay on chip
    buffers: tuple[Buffer, ...] = field(
        compare=False, repr=False
    )  # of `far`; addresses from its arena's beginning

    def on(self, config: EngineConfig) -> Plan:
        """With an engine that differs in its arrays and in its memories for maps, which change no other step."""
        keeps = max(config.near_words, config.steer_words) >= LEAST_NEAR
        program = keep_near(self._places, config.near_words, config.steer_words) if keeps else self.far
        return Plan(config, program, self.far, self.buffers)

    @cached_property
    def most_near(self) -> int:
        """Words of each of the memories for maps, beyond which no more maps stay on chip."""
        return most_near(self._places, self._places.maps)

    @cached_property
    def most_steering(self) -> int:
        """The same of the memories for what steers windows, of maps with several bytes a pixel.

        An offset a pixel, or a gate a channel, is moved in no time beside the rest: it alone is not worth the memories.
        """
        return most_near(self._places, [m for m in self._places.steering if m.first])

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
    alone, late = set(apart), graph.late
    graph = late.graph
    while True:
        made = ordered(graph, drafts(graph, fuse, alone), keep)
        read = readers(graph, made)
        packing = config.pack_log2 if config is not None else image_packing(graph, made, lanes)
        orders = part_orders(graph, made, lanes)
        layouts, work = _layouts(graph, made, read, lanes, packing, orders)
        if gates := gate_orders(work, lanes):
            orders |= gates
            layouts, work = _layouts(graph, made, read, lanes, packing, orders)
        slots = least_rows(work) if config is None else config.ring_rows
        longest = limits.row_words if config is None else config.row_words
        most = TO_THE_END if config is None else config.window_groups
        # A window on its own can be computed some channels at a time; one that is fused needs all of them at once.
        fused = [w for w in work if w.draft.absorbed]
        wide = {
            w.draft.absorbed
            for w in fused
            if (w.ringed and (w.row_words > w.capacity(slots, longest) or len(w.order) > min(most, longest)))
            or (not w.ringed and config is not None and not holds(w, config))
        }
        for w in work:
            wide |= unchained(w, len(layouts[w.draft.stores].order), lanes, arrays, config, limits)
        if not wide:
            break
        alone |= wide
    has_wide = any(isinstance(node.op, WideRequant) for node in graph.nodes)
    rows_wide = has_wide or (config is not None and config.is_wide)
    needed = needs(graph, work, layouts, packing, slots, lanes, rows_wide)
    if grows := config is None:
        config = grown(needed, work, layouts, lanes, arrays, array, limits)
    check_fits(config, needed)
    ranges = [_parts(w, layouts, config) for w in work]
    cut, refined = _cut(work, ranges, layouts, lanes, orders)
    most = max((max(len(w.runs), len(cut[w.draft.stores].segments)) for w in refined), default=0)
    if grows and most > config.max_segments:
        config = replace(config, max_segments=most)
    if most <= config.max_segments:
        layouts, work = cut, refined
    parts = [(w, a, b) for w, found in zip(work, ranges, strict=True) for a, b in found]
    known = guards(graph, made, keep)
    known |= {weights_name(d.name): known[d.name] for d in made if d.gates}
    walked = with_jumps(parts, known)
    if len(walked) > MAX_STEPS:
        raise PlanError(f"model: {len(walked)} steps, expected at most {MAX_STEPS}. Raise weight_tiles.")
    _live(graph, walked, layouts, read, keep)
    buffers = tuple(b for layout in layouts.values() for b in layout.buffers)
    size = allocate(buffers, lanes)
    # Addresses do not change sizes: a first rendering tells where the arena can begin.
    steps = tuple(
        jump_of(slot, layouts, lanes) if isinstance(slot, Jump) else step_of(*slot, layouts, config, 0)
        for slot in walked
    )
    begin = aligned(base + program_words(steps, lanes), lanes)
    steps = tuple(placed(step, begin) for step in steps)
    types, every = graph.types(), views(graph)

    def port(name: str) -> Port:
        whole = late.full.get(name, name)
        h, w, c = types[whole].shape
        pieces = pieces_of(every[whole], (h, w), layouts, lanes, begin)
        return Port(name, (h, w, c), types[whole].elem.signed, pieces)

    kept = [name for name in layouts if keep and name in types]
    program = Program(
        lanes, base, (begin, begin + size), steps, {n: port(n) for n in graph.inputs},
        {n: port(n) for n in graph.outputs}, {n: port(n) for n in kept}, config.is_wide,
    )  # fmt: skip
    return Plan(config, program, program, buffers).on(config)


def _layouts(
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


def _parts(w: Work, layouts: Mapping[str, Layout], config: EngineConfig) -> list[tuple[int, int]]:
    """Ranges of output words, each with rows and weights that fit on chip."""
    words = len(layouts[w.draft.stores].order)
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
        if w.draft.window.tables is not None:
            most = min(most, config.window_groups)
        if not w.ringed:
            most = min(most, config.window_groups, config.global_words)
    elif w.draft.window is None and w.divisible:
        most = config.row_words + config.input_words
    else:
        return [(0, words)]
    count = ceil(words / most)
    bounds = [round(i * words / count) for i in range(count + 1)]
    return list(zip(bounds, bounds[1:], strict=False))


def _cut(
    work: list[Work],
    ranges: list[list[tuple[int, int]]],
    layouts: Mapping[str, Layout],
    lanes: int,
    fixed: Collection[str],
) -> tuple[dict[str, Layout], list[Work]]:
    """With segments that end where the steps of a draft do: what one writes, or reads of a window, is then one run.

    Otherwise each pixel would be a request of its own, which takes as long as a long one begins.
    """
    cuts: dict[str, set[int]] = {name: set() for name in layouts}
    phases = {w.draft.view[0][0] for w in work if w.draft.spread}  # whose segments are rows of pixels
    for w, found in zip(work, ranges, strict=True):
        if w.draft.spread or w.draft.name in phases or w.draft.name in fixed:
            continue
        starts = {a for a, _ in found[1:]}
        cuts[w.draft.stores] |= starts
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
    return new, [replace(w, runs=_runs(w, new, lanes)) for w in work]


def _runs(w: Work, layouts: Mapping[str, Layout], lanes: int) -> tuple[Run, ...]:
    if not w.draft.view:
        return ()
    if w.draft.window is not None and w.draft.window.mixing is not None:
        return loaded_parts(w.draft, layouts, lanes)[0]
    return load_order(w.draft.view, layouts, lanes)[0]


def _live(
    graph: Graph, walked: list[Slot], layouts: Mapping[str, Layout],
    read: Mapping[str, list[Readers]], keep: bool,
) -> None:  # fmt: skip
    """Buffers of every layout with their lives: from the first step that writes to the last that reads."""
    first: dict[str, int] = {}
    last: dict[str, int] = {f"output {name}": TO_THE_END for name in graph.outputs}
    wrote: dict[str, int] = {}
    for i, slot in enumerate(walked):
        if isinstance(slot, Jump):
            if slot.condition is not None:
                last[gate_reader(slot.condition)] = i
            continue
        draft = slot[0].draft
        first.setdefault(draft.stores, i)
        wrote[draft.stores] = last[draft.name] = last[f"offset of {draft.name}"] = i
    for name, layout in layouts.items():
        h, _, _ = layout.shape
        pixels = h * layout.row_words if layout.pack > 1 else h * layout.shape[1]
        written = wrote.get(name, -1)
        for a, count in layout.segments:
            channels = [c for c in layout.order[a : a + count].reshape(-1).tolist() if c >= 0]
            users = [last[r] for c in channels for r in read[name][c]]
            end = TO_THE_END if keep else max([written, *users])
            begin = -1 if keep else first.get(name, -1)
            layout.buffers.append(Buffer(pixels * count, begin, end))
