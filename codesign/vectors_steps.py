"""Single steps of a program as programs of their own: what RTL co-simulation runs.

Co-simulation gives each memory port a copy of the memory, so that a port never sees what another wrote in the same
run: there, a frame is one step, moved with its data into a memory of `COSIM_WORDS` words. One step of every kind is
taken, the cheapest, and of its image no more rows than the ring of rows needs to come round: RTL is simulated at some
thousand cycles a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from codesign.csim import Engine, EngineFailed, Frame
from codesign.engine_config import EngineConfig
from codesign.near import spilled, with_copies
from codesign.ports import Bytes
from codesign.program import Program
from codesign.status import status_text
from codesign.step import POINTWISE, Segment, Step
from codesign.windows import UNRINGED

COSIM_WORDS = 65536  # depth of the ports in top.cpp
COSIM_BASE = 0  # the program comes first, the arena after it


def cosim_steps(program: Program, config: EngineConfig) -> tuple[list[int], int]:
    """Indices of the cheapest step of each kind that fits, in order, and how many kinds have none."""
    best: dict[tuple[object, ...], tuple[int, int]] = {}
    kinds = set()
    far = spilled(program, config)
    for index, (whole, its_far) in enumerate(zip(program.steps, far.steps, strict=True)):
        if whole.branch is not None:
            continue
        step = _cropped(whole, config)
        kinds.add(_kind(step))
        if _moved(program, config, step, _cropped(its_far, config)) is not None:
            found = (_work(step), index)
            best[_kind(step)] = min(found, best.get(_kind(step), found))
    return sorted(index for _, index in best.values()), len(kinds) - len(best)


def _work(step: Step) -> int:
    """About the cycles of a step: words of parameters, then what its busiest stage takes, one word a cycle."""
    tiles = POINTWISE.index(step.pointwise) * step.pointwise_in * step.pointwise_out
    more = POINTWISE.index(step.second) * step.second_in * step.second_out
    return step.parameter_words + max(
        step.height * step.width * step.groups, step.out_height * step.out_width * max(tiles, more)
    )


def _kind(step: Step) -> tuple[object, ...]:
    """What tells one path through the engine from another."""
    upsampled = any(s.up for s in step.load)
    strided = any(s.stride > s.count for s in (*step.load, *step.store))
    several = len(step.load) > 1, len(step.store) > 1
    arrays = step.pointwise, step.second, step.middle_stride, step.pool_stride
    near = any(s.near for s in step.load), any(s.near for s in step.store), step.offset and step.offset.near
    taps = None if step.sampling is None else (step.sampling.taps, step.sampling.border)
    window = step.window, taps, "" if step.mixing is None else step.mixing.kind, step.weights is not None
    return window, step.kernel, step.packed, step.stride, arrays, upsampled, strided, several, near


def _cropped(step: Step, config: EngineConfig) -> Step:
    """A step on its first rows: enough for the ring of rows to come round, in a fraction of the cycles.

    Rows of the input and of the result are related at the bottom as they were.
    """
    if step.window in UNRINGED:  # it needs the whole map, or makes something else of it
        return step
    stride = 1 if step.window == "pass" else step.stride[0]
    rest = step.height - (step.out_height - 1) * stride
    enough = 8 if step.window == "pass" else -(-(config.ring_rows + 4) // stride)
    for rows in range(enough, step.out_height):
        height = (rows - 1) * stride + rest
        whole = all(height % (1 << s.up) == 0 for s in step.load)
        if whole and (step.offset is None or rows % (1 << step.offset.up) == 0):
            varied = (
                None if step.varied is None else step.varied[: len(step.varied) // step.out_height * rows]
            )
            return replace(step, height=height, out_height=rows, varied=varied)
    return step


def _unchanged(step: Step) -> int:
    """Rows of a cropped step's result that are those of the whole step: they reach no row that was cut off."""
    rows = step.out_height
    if step.window not in ("pass", *UNRINGED):
        below = 1 + max(step.reach, step.kernel)
        rows = max(0, min(rows, -(-(step.height - below) // step.stride[0])))
    for stride in (step.middle_stride, step.pool_stride):
        if stride:
            rows = max(0, (rows - 2) // stride + 1)
    return rows


def _extents(step: Step, config: EngineConfig) -> list[tuple[Segment, int]]:
    """Each segment of a step, offsets included, with the words from its first to its last (layout.hpp)."""
    row = (step.width + (1 << config.pack_log2) - 1) >> config.pack_log2
    found = []
    for segment in step.load if step.bank is None else ():
        pixels = (
            step.height * row if step.packed else (step.height >> segment.up) * (step.width >> segment.up)
        )
        found.append((segment, pixels))
    height, width = step.stored_shape
    found += [(segment, height * width) for segment in step.store]
    if step.weights is not None:
        places = zip(step.weights, step.tiles(config.lanes), strict=True)
        found += [(Segment(at, words, words), 1) for at, words in places if words]
    if step.mixing is not None and step.offset is not None:
        found.append((step.offset, 1))
    elif step.offset is not None:
        up = step.offset.up
        found.append((step.offset, (step.out_height >> up) * (step.out_width >> up)))
    return [(segment, (pixels - 1) * segment.stride + segment.count) for segment, pixels in found]


def _places(step: Step, config: EngineConfig) -> list[tuple[int, int, int]]:
    """Ranges of memory that a step touches: (address, words, address in the small arena, which starts at 0)."""
    ranges = sorted((s.address, s.address + words) for s, words in _extents(step, config))
    merged: list[list[int]] = []
    for begin, end in ranges:
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    found, at = [], 0
    for begin, end in merged:
        found.append((begin, end - begin, at))
        at += end - begin
    return found


def _moved(program: Program, config: EngineConfig, step: Step, far: Step) -> Program | None:
    """A program of this step alone, in a memory of its own; None if that is too small.

    `far` is the step with all its maps in DRAM, whence those on chip are brought.
    """
    places = _places(far, config)
    alone = Program(program.lanes, COSIM_BASE, (0, 0), with_copies(step, far), {}, {}, wide=program.wide)
    first = COSIM_BASE + alone.encode().size // program.lanes
    if first + places[-1][1] + places[-1][2] > COSIM_WORDS:
        return None

    def move(segment: Segment) -> Segment:
        begin, _, at = next(p for p in places if p[0] <= segment.address < p[0] + p[1])
        return replace(segment, address=first + at + segment.address - begin)

    new = replace(
        far,
        load=far.load if far.bank is not None else tuple(map(move, far.load)),
        store=tuple(map(move, far.store)),
        offset=None if far.offset is None else move(far.offset),
    )
    if far.weights is not None:
        tiles = [
            Segment(at, 1, 1) if words else None
            for at, words in zip(far.weights, far.tiles(program.lanes), strict=True)
        ]
        first_tiles, second_tiles = (0 if t is None else move(t).address for t in tiles)
        new = replace(new, weights=(first_tiles, second_tiles))
    arena = (first, first + places[-1][1] + places[-1][2])
    return Program(program.lanes, COSIM_BASE, arena, with_copies(step, new), {}, {}, wide=program.wide)


def step_frames(
    program: Program,
    far: Program,
    config: EngineConfig,
    engine: Engine,
    fresh: Bytes,
    feed: dict[str, np.ndarray],
    steps: Sequence[int],
) -> list[Frame]:
    """Walk the program step by step on one picture; a frame for each step of `steps`. `far` keeps nothing on chip.

    Branches are passed by: every step runs, also those that a frame skips.
    """
    lanes, memory = program.lanes, fresh.copy()
    for name, port in program.inputs.items():
        port.write(memory, lanes, feed[name])
    frames = []
    for index, step in enumerate(far.steps):
        if step.branch is not None:
            continue
        before = memory.copy() if index in steps else None
        code = Program(lanes, program.base, far.arena, (step,), {}, {}, wide=program.wide).encode()
        memory[program.base * lanes : program.base * lanes + code.size] = code
        run(engine, memory, lanes, program.base)
        if before is not None:
            frames.append(_step_frame(program, config, engine, (program.steps[index], step), before, memory))
    return frames


def _step_frame(
    program: Program,
    config: EngineConfig,
    engine: Engine,
    found: tuple[Step, Step],
    before: Bytes,
    after: Bytes,
) -> Frame:
    lanes, (near, step) = program.lanes, (_cropped(step, config) for step in found)
    moved = _moved(program, config, near, step)
    assert moved is not None  # cosim_steps chose it
    first = moved.arena[0]
    small = np.zeros(COSIM_WORDS * lanes, np.uint8)
    whole, mask, same = small.copy(), small.copy(), small.copy()
    patches = [(COSIM_BASE * lanes, moved.encode())]
    for begin, words, at in _places(step, config):
        there, here = begin * lanes, (first + at) * lanes
        patches.append((here, before[there : there + words * lanes].copy()))
        whole[here : here + words * lanes] = after[there : there + words * lanes]
    stored = [s for step in moved.steps for s in step.store if not (s.near or s.steers)]
    for segment in stored:
        height, width = step.stored_shape
        for marks, rows in ((mask, height), (same, _unchanged(step))):
            pixels = segment.address + np.arange(rows * width) * segment.stride
            marks.reshape(-1, lanes)[(pixels[:, None] + np.arange(segment.count)).reshape(-1)] = 1
    for at, data in patches:
        small[at : at + data.size] = data
    run(engine, small, lanes, COSIM_BASE)
    assert np.array_equal(small[same != 0], whole[same != 0]), "a moved step computes something else"
    begin, end = (bound * lanes for bound in moved.arena)
    return Frame(patches, [(begin, small[begin:end].copy(), mask[begin:end].copy())])


def run(engine: Engine, memory: Bytes, lanes: int, program: int) -> None:
    """One run of the engine. Raises EngineFailed."""
    status = engine.start(memory, lanes, program)
    if status != 0:
        raise EngineFailed(status, status_text(status))
