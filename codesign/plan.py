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

from codesign.cuts import cut_segments, word_ranges
from codesign.drafts import drafts, gate_reader, image_packing, readers
from codesign.engine_config import LEAST_NEAR, EngineConfig
from codesign.errors import PlanError
from codesign.fit import Limits, check_fits, grown, holds, least_rows, needs, unchained
from codesign.ir import Graph
from codesign.layout import Buffer, Layout, Readers, aligned, allocate, views
from codesign.layouts import layouts_of
from codesign.mixing import gate_orders, part_orders, weights_name
from codesign.near import Places, keep_near, most_near
from codesign.ops import WideRequant
from codesign.ports import Port
from codesign.program import Program, program_words
from codesign.skips import Jump, Slot, guards, ordered, with_jumps
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
        layouts, work = layouts_of(graph, made, read, lanes, packing, orders)
        if gates := gate_orders(work, lanes):
            orders |= gates
            layouts, work = layouts_of(graph, made, read, lanes, packing, orders)
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
    ranges = [word_ranges(w, layouts, config) for w in work]
    cut, refined = cut_segments(work, ranges, layouts, lanes, orders)
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
