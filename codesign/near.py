"""Which maps stay on chip between steps: those that fit, first those that save the most traffic for their room.

An engine has two memories of `near_words` words for maps. A step reads one of them and writes the other
(hls_templates/engine.hpp says why): all that it reads on chip lies in one memory, all that it writes there in
the other. Maps for which this leaves no place stay in DRAM, as inputs, outputs and offsets do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.layout import Buffer, allocate
from codesign.ports import Ints
from codesign.program import Program
from codesign.step import Segment, Step


@dataclass(frozen=True, eq=False)
class _Map:
    """A buffer, by its index, and the steps that write and read it."""

    index: int
    buffer: Buffer
    writers: frozenset[int]
    readers: frozenset[int]

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
        self.offsets = {index(step.offset, i) for i, step in enumerate(program.steps) if step.offset}
        self.maps = self._maps()

    def _maps(self) -> list[_Map]:
        """Those that steps write and read, and nobody else."""
        count, found = len(self.program.steps), []
        for i, buffer in enumerate(self.buffers):
            writers = frozenset(step for step in range(count) if i in self.stores[step])
            readers = frozenset(step for step in range(count) if i in self.loads[step])
            inside = buffer.first >= 0 and buffer.last < count
            if inside and writers and readers and i not in self.offsets:
                found.append(_Map(i, buffer, writers, readers))
        return found

    def moved(self, at: int, near: Mapping[int, int]) -> Step:
        """A step with those segments on chip whose buffers have an address there."""
        step, begin = self.program.steps[at], self.program.arena[0]

        def home(segment: Segment, index: int) -> Segment:
            if index not in near:
                return segment
            inside = segment.address - begin - self.buffers[index].address
            return replace(segment, address=near[index] + inside, near=True)

        load = tuple(map(home, step.load, self.loads[at])) if self.loads[at] else step.load
        return replace(step, load=load, store=tuple(map(home, step.store, self.stores[at])))


def keep_near(places: Places, words: int) -> Program:
    """The program with as many maps on chip as two memories of `words` words hold; it computes the same."""
    near, reads = _chosen(places, words)
    steps = (replace(places.moved(i, near), near=reads.get(i, 0)) for i in range(len(places.program.steps)))
    return replace(places.program, steps=tuple(steps))


def most_near(places: Places) -> int:
    """Words of each memory beyond which no more maps stay on chip."""
    near, _ = _chosen(places, sum(b.size for b in places.buffers))
    return max((address + places.buffers[i].size for i, address in near.items()), default=0)


def _chosen(places: Places, words: int) -> tuple[dict[int, int], dict[int, int]]:
    """Addresses of the buffers that stay on chip, by index, and which memory each step reads."""
    groups: list[_Group] = []
    maps = [m for m in places.maps if m.buffer.size <= words]
    for map_ in sorted(maps, key=lambda m: (-m.saved, m.index)):
        groups = _with(groups, map_, len(places.program.steps), words)
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


def spilled(program: Program, words: int) -> Program:
    """The program with the two memories of `words` words behind its arena in DRAM: each step can start alone."""
    end = program.arena[1]

    def home(segment: Segment, memory: int) -> Segment:
        return (
            replace(segment, address=end + memory * words + segment.address, near=False)
            if segment.near
            else segment
        )

    steps = tuple(
        replace(
            step, near=0, load=tuple(home(s, step.near) for s in step.load),
            store=tuple(home(s, 1 - step.near) for s in step.store),
        )
        for step in program.steps
    )  # fmt: skip
    if steps == program.steps:
        return program
    return replace(program, arena=(program.arena[0], end + 2 * words), steps=steps)


def with_copies(step: Step, far: Step) -> tuple[Step, ...]:
    """A step that finds and leaves its maps on chip, between steps that bring them and take them away.

    `far` is the same step with all segments in DRAM.
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
    load = tuple(h if h.near else f for h, f in zip(step.load, far.load, strict=True))
    store = tuple(h if h.near else f for h, f in zip(step.store, far.store, strict=True))
    return (*brought, replace(far, load=load, store=store, near=step.near), *taken)


def _copy(source: Segment, target: Segment, height: int, width: int, near: int) -> Step:
    """A step that moves a segment and computes nothing."""
    return Step(
        nodes=(), load=(replace(source, up=0),), store=(replace(target, up=0, signed=False),), height=height,
        width=width, groups=source.count, out_height=height, out_width=width, near=near,
    )  # fmt: skip
