"""Which maps stay on chip between steps: those that fit, first those that save the most traffic for their room.

An engine has two memories of `near_words` words for maps. A step reads one of them and writes the other
(hls_templates/engine.hpp says why): all that it reads on chip lies in one memory, all that it writes there in
the other. Maps for which this leaves no place stay in DRAM, as inputs and outputs do.

What steers windows (offsets, masks, generated kernels, gates) is read by another process. For it there are two
memories of `steer_words` words, used in the same way and apart from the others; what a step loads as a map as well, or
a branch looks at, stays in DRAM.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.engine_config import LEAST_NEAR, EngineConfig
from codesign.layout import Buffer, allocate
from codesign.ports import Ints
from codesign.program import Program
from codesign.step import Segment, Step


@dataclass(frozen=True, eq=False)
class _Map:
    """A buffer, by its index, and the steps that write and read it; those that come `first` find a place first."""

    index: int
    buffer: Buffer
    writers: frozenset[int]
    readers: frozenset[int]
    first: bool = False

    @property
    def saved(self) -> float:
        """How often its words need not be moved, for each step that it takes up room."""
        return (len(self.writers) + len(self.readers)) / (self.buffer.last - self.buffer.first + 1)

    def reads(self, memory: int) -> dict[int, int]:
        """The memory that each of its steps reads, if the map lies in `memory`."""
        return dict.fromkeys(self.writers, 1 - memory) | dict.fromkeys(self.readers, memory)


@dataclass(frozen=True, eq=False)
class _Group:
    """Steps and maps that hang together: where one reads or lies decides it for all, and all can change places.

    `reads`: the memory that a step reads; `lies`: that of a map; `use`: (2, steps) words that are taken up.
    """

    reads: Mapping[int, int]
    lies: Mapping[_Map, int]
    use: Ints

    def turned(self) -> _Group:
        return _Group(
            {step: 1 - memory for step, memory in self.reads.items()},
            {map_: 1 - memory for map_, memory in self.lies.items()},
            self.use[::-1],
        )

    def joined(self, other: _Group) -> _Group:
        return _Group({**self.reads, **other.reads}, {**self.lies, **other.lies}, np.add(self.use, other.use))


class Places:
    """The buffers of a program, and which of them its segments lie in.

    `buffers` are those of plan.py, with addresses from the beginning of the arena; no two that live at a step overlap.
    """

    def __init__(self, program: Program, buffers: Sequence[Buffer]) -> None:
        self.program, self.buffers = program, buffers
        start, size, first, last = np.array(
            [(b.address, b.size, b.first, b.last) for b in buffers], np.int64
        ).T

        def index(segment: Segment, step: int) -> int:
            at = segment.address - program.arena[0]
            (found,) = np.flatnonzero((start <= at) & (at < start + size) & (first <= step) & (step <= last))
            return int(found)

        self.loads = [
            [] if step.bank is not None else [index(s, i) for s in step.load]
            for i, step in enumerate(program.steps)
        ]
        self.stores = [[index(s, i) for s in step.store] for i, step in enumerate(program.steps)]
        self.steered = [
            [] if step.offset is None or step.branch is not None else [index(step.offset, i)]
            for i, step in enumerate(program.steps)
        ]
        looks = [index(s.offset, i) for i, s in enumerate(program.steps) if s.branch is not None and s.offset]
        loaded, steering = ({i for found in of for i in found} for of in (self.loads, self.steered))
        self.maps = self._kept(self.loads, steering.union(looks))
        sampled = {i for i, step in enumerate(program.steps) if step.window == "sampled"}
        self.steering = [
            replace(m, first=not sampled.isdisjoint(m.readers))
            for m in self._kept(self.steered, loaded.union(looks))
        ]

    def _kept(self, reads: Sequence[Sequence[int]], others: Collection[int]) -> list[_Map]:
        """Buffers that steps write and read in this way, and nobody in another."""
        count, found = len(self.program.steps), []
        for i, buffer in enumerate(self.buffers):
            writers = frozenset(step for step in range(count) if i in self.stores[step])
            readers = frozenset(step for step in range(count) if i in reads[step])
            inside = buffer.first >= 0 and buffer.last < count
            if inside and writers and readers and i not in others:
                found.append(_Map(i, buffer, writers, readers))
        return found

    def moved(self, at: int, near: Mapping[int, int], steer: Mapping[int, int]) -> Step:
        """A step with those segments on chip whose buffers have an address there."""
        step, begin = self.program.steps[at], self.program.arena[0]

        def inside(segment: Segment, index: int) -> int:
            return segment.address - begin - self.buffers[index].address

        def home(segment: Segment, index: int) -> Segment:
            if index in near:
                return replace(segment, address=near[index] + inside(segment, index), near=True)
            if index in steer:
                return replace(segment, address=steer[index] + inside(segment, index), steers=True)
            return segment

        load = tuple(map(home, step.load, self.loads[at])) if self.loads[at] else step.load
        offset = step.offset
        for index in self.steered[at]:
            if offset is not None and index in steer:
                offset = replace(offset, address=steer[index] + inside(offset, index), near=True)
        return replace(step, load=load, store=tuple(map(home, step.store, self.stores[at])), offset=offset)


def keep_near(places: Places, words: int, steer_words: int) -> Program:
    """The program with as much on chip as two memories of `words` words for maps and two of `steer_words` hold.

    It computes the same.
    """
    count = len(places.program.steps)
    near, reads = _chosen(places.maps, count, words)
    steer, turns = _chosen(places.steering, count, steer_words)
    steps = (
        replace(places.moved(i, near, steer), near=reads.get(i, 0), steer=turns.get(i, 0))
        for i in range(count)
    )
    return replace(places.program, steps=tuple(steps))


def most_near(places: Places, maps: Sequence[_Map]) -> int:
    """Words of each memory beyond which no more of these maps stay on chip."""
    near, _ = _chosen(maps, len(places.program.steps), sum(m.buffer.size for m in maps))
    return max((address + places.buffers[i].size for i, address in near.items()), default=0)


def _chosen(every: Sequence[_Map], steps: int, words: int) -> tuple[dict[int, int], dict[int, int]]:
    """Addresses of the buffers that stay on chip, by index, and which memory each of so many steps reads."""
    groups: list[_Group] = []
    maps = [m for m in every if m.buffer.size <= words and words >= LEAST_NEAR]
    for map_ in sorted(maps, key=lambda m: (not m.first, -m.saved, m.index)):
        groups = _with(groups, map_, steps, words)
    lies = {map_: memory for group in groups for map_, memory in group.lies.items()}
    near: dict[int, int] = {}
    for memory in (0, 1):
        near |= _addresses([m for m, side in lies.items() if side == memory], words)
    return near, {step: memory for group in groups for step, memory in group.reads.items()}


def _with(groups: list[_Group], map_: _Map, steps: int, words: int) -> list[_Group]:
    """The groups with one more map, if its steps can read and write where it would lie, and if there is room."""
    use = np.zeros((2, steps), np.int64)
    use[0, map_.buffer.first : map_.buffer.last + 1] = map_.buffer.size
    mine = _Group(map_.reads(0), {map_: 0}, use)
    rest = []
    for group in groups:
        shared = [(memory, mine.reads[step]) for step, memory in group.reads.items() if step in mine.reads]
        if not shared:
            rest.append(group)
        elif len({theirs == ours for theirs, ours in shared}) == 2:
            return groups
        else:
            mine = mine.joined(group if shared[0][0] == shared[0][1] else group.turned())
    others = sum((group.use for group in rest), np.zeros((2, steps), np.int64))
    room, best = min(
        ((int((others + g.use).max()), g) for g in (mine, mine.turned())), key=lambda pair: pair[0]
    )
    return [*rest, best] if room <= words else groups


def _addresses(maps: Sequence[_Map], words: int) -> dict[int, int]:
    """Addresses by index; maps that find none because others divide the room are left out, the last ones first."""
    left = list(maps)
    while left:
        copies = [replace(m.buffer) for m in left]
        if allocate(copies) <= words:
            return {m.index: copy.address for m, copy in zip(left, copies, strict=True)}
        left.pop(max(i for i, copy in enumerate(copies) if copy.address + copy.size > words))
    return {}


def generated(program: Program) -> tuple[int, int]:
    """Steps whose kernels, masks or offsets of several bytes a pixel are on chip, and all that have any."""
    found = [s.offset.near for s in program.steps if s.window == "sampled" and s.offset is not None]
    return sum(found), len(found)


def spilled(program: Program, config: EngineConfig) -> Program:
    """The program with the memories on chip behind its arena in DRAM: each step can start alone."""
    end = program.arena[1]
    behind = end + 2 * config.near_words

    def home(segment: Segment, memory: int) -> Segment:
        if not segment.near:
            return segment
        return replace(segment, address=end + memory * config.near_words + segment.address, near=False)

    def steering(segment: Segment, memory: int) -> Segment:
        at = behind + memory * config.steer_words + segment.address
        return replace(segment, address=at, near=False, steers=False)

    steps = tuple(
        replace(
            step, near=0, steer=0, load=tuple(home(s, step.near) for s in step.load),
            store=tuple(
                steering(s, 1 - step.steer) if s.steers else home(s, 1 - step.near) for s in step.store
            ),
            offset=steering(step.offset, step.steer) if step.offset and step.offset.near else step.offset,
        )
        for step in program.steps
    )  # fmt: skip
    if steps == program.steps:
        return program
    return replace(program, arena=(program.arena[0], behind + 2 * config.steer_words), steps=steps)


def with_copies(step: Step, far: Step) -> tuple[Step, ...]:
    """A step that finds and leaves its maps on chip, between steps that bring them and take them away.

    `far` is the same step with all segments in DRAM. No step takes away what steers windows: it is left in DRAM, and
    brought to where the step finds it.
    """
    height, width = step.stored_shape
    brought = [
        _copy(there, here, step.height >> here.up, step.width >> here.up, 1 - step.near)
        for here, there in zip(step.load, far.load, strict=True)
        if here.near
    ]
    taken = [
        _copy(here, there, height, width, 1 - step.near)
        for here, there in zip(step.store, far.store, strict=True)
        if here.near
    ]
    offset = far.offset
    if step.offset is not None and far.offset is not None and step.offset.near:
        offset, up = step.offset, step.offset.up
        pixels = (1, 1) if step.mixing is not None else (step.out_height >> up, step.out_width >> up)
        target = replace(offset, near=False, steers=True)
        brought.append(replace(_copy(far.offset, target, *pixels, 0), steer=1 - step.steer))
    load = tuple(h if h.near else f for h, f in zip(step.load, far.load, strict=True))
    store = tuple(h if h.near else f for h, f in zip(step.store, far.store, strict=True))
    here = replace(far, load=load, store=store, offset=offset, near=step.near, steer=step.steer)
    return (*brought, here, *taken)


def _copy(source: Segment, target: Segment, height: int, width: int, near: int) -> Step:
    """A step that moves a segment and computes nothing."""
    return Step(
        nodes=(), load=(replace(source, up=0),), store=(replace(target, up=0, signed=False),), height=height,
        width=width, groups=source.count, out_height=height, out_width=width, near=near,
    )  # fmt: skip
