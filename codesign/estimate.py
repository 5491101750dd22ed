"""What a program costs before anything is synthesised: cycles, DRAM traffic, frames a second. All of it *estimated*.

Counted from the steps that the engine walks and nothing else: codesign/stages.py gives the cycles of the processes of a
step by the contracts of hls_templates/*.hpp, and codesign/dram.py what is assumed of the memory. Before the first step,
header and descriptors are read and checked, and its parameters are brought. A step is its descriptor, then its
processes, which overlap: the slowest of them, after the first word has reached it and until its last has left. The
parameters of the step after it are read meanwhile, and can be what takes longest; what a step has to wait for comes
behind the one before (codesign/walk.py). Where branches skip steps, a frame is one way through the program.
codesign/cycles.py simulates the same; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.board import Board
from codesign.descriptor import SEGMENT_INTS, STEP_INTS, int_words
from codesign.dram import ASSUMPTIONS, USABLE, Dram, dram
from codesign.engine_config import EngineConfig
from codesign.ports import Bytes, Ints
from codesign.program import HEADER_INTS, Program
from codesign.stages import chain, described_cycles, matrices, parameter_cycles, read_cycles
from codesign.step import Step, window_tables
from codesign.transfers import loaded, steering_words, stored
from codesign.walk import Turn, Way, walk, ways
from codesign.windows import FILTERS, REQUANT_WORDS

KIND = "estimated"  # the word that goes with every figure of this module
SKIPPED, BRANCH = "skipped", "branch"  # of steps that do not run


@dataclass(frozen=True)
class StepCost:
    """One step. Cycles of the engine's clock, bytes of DRAM; `macs` without those of padded lanes."""

    index: int
    name: str
    bound: str  # compute, window, load, store, DRAM or parameters: what would have to be faster; or SKIPPED, BRANCH
    cycles: int
    stages: dict[str, int]  # that overlap, by name; those by the contracts, and "DRAM"
    parameters: int  # cycles to read the next step's weights and tables, beside the stages
    read_bytes: int
    written_bytes: int
    array_macs: int  # by the pointwise array
    window_macs: int  # by depthwise and deformable windows
    efficiency: float  # array_macs a cycle, of those the array can do

    @property
    def macs(self) -> int:
        return self.array_macs + self.window_macs


@dataclass(frozen=True)
class Estimate:
    """A program on a board."""

    board: str
    clock_hz: int
    lanes: int
    steps: tuple[StepCost, ...]
    header: int  # cycles to read the program's header and to check all steps
    array: int  # multiply-accumulates of the pointwise array in a cycle

    @property
    def cycles(self) -> int:
        return self.header + sum(step.cycles for step in self.steps)

    @property
    def seconds(self) -> float:
        """One frame, from start to done; the time of a host is not in it."""
        return self.cycles / self.clock_hz

    @property
    def read_bytes(self) -> int:
        return HEADER_INTS * 4 + sum(step.read_bytes for step in self.steps)

    @property
    def written_bytes(self) -> int:
        return sum(step.written_bytes for step in self.steps)

    @property
    def macs(self) -> int:
        return sum(step.macs for step in self.steps)

    @property
    def efficiency(self) -> float:
        """MACs of the pointwise array in a frame's cycles, of those it can do."""
        return sum(step.array_macs for step in self.steps) / (self.cycles * self.array)

    def by_bound(self) -> dict[str, int]:
        """Cycles of the steps that each bound limits, largest first."""
        found: dict[str, int] = {}
        for step in self.steps:
            found[step.bound] = found.get(step.bound, 0) + step.cycles
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "board": self.board,
            "clock_mhz": self.clock_hz / 1e6,
            "lanes": self.lanes,
            "cycles": self.cycles,
            "milliseconds": self.seconds * 1e3,
            "frames_per_s": 1 / self.seconds,
            "dram_read_bytes": self.read_bytes,
            "dram_written_bytes": self.written_bytes,
            "macs": self.macs,
            "mac_efficiency": self.efficiency,
            "cycles_by_bound": self.by_bound(),
            "assumptions": ASSUMPTIONS,
            "steps": [asdict(step) | {"macs": step.macs} for step in self.steps],
        }


def estimate(
    program: Program,
    config: EngineConfig,
    board: Board,
    names: Sequence[Sequence[str]] = (),
    macs: Sequence[tuple[int, int]] = (),
    jumps: Mapping[int, bool] | None = None,
) -> Estimate:
    """Cost of one frame. `names` are the nodes of each step, where the program's steps carry none.

    `macs` are those of used_macs for each step, where they are known: counting them takes longer than the rest. `jumps`
    says what the branches decide; without it, what takes longest.
    """
    memory = dram(board, program.lanes)
    given = [tuple(step.nodes) for step in program.steps]
    given = [tuple(n) or g for n, g in zip(names, given, strict=True)] if names else given
    counted = macs or [used_macs(s, program.lanes) for s in program.steps]
    if jumps is None:
        jumps = extremes(program, config, board)[1].jumps if any(s.branch for s in program.steps) else {}
    paths = [_Path() for _ in program.steps]
    first = 0.0  # of the parameters that come before the first step
    for turn in walk(program.steps, jumps):
        if turn.reads is not None:
            paths[turn.reads].described += 1
            paths[turn.reads].looks += turn.looks
        if turn.step is not None:
            paths[turn.step].runs = True
            paths[turn.step].brings = turn.brings
        elif turn.brings is not None:
            alone = parameter_cycles(program.steps[turn.brings], config, memory)
            first, paths[turn.brings].alone = (alone, 0.0) if turn.brings == 0 else (first, alone)
    steps = tuple(
        _step(i, " + ".join(nodes) or f"step {i}", program.steps, paths[i], config, memory, used)
        for i, (nodes, used) in enumerate(zip(given, counted, strict=True))
    )
    checks = sum(described_cycles(step, memory) for step in program.steps)
    header = ceil(read_cycles(int_words(HEADER_INTS, program.lanes), memory) + checks + first)
    return Estimate(board.name, memory.clock_hz, program.lanes, steps, header, array_macs(config))


@dataclass
class _Path:
    """What a frame's walk does with a step."""

    described: int = 0  # how often its descriptor is read, after all have been checked
    looks: int = 0  # numbers that a branch reads
    alone: float = 0.0  # cycles in which its parameters come beside an idle step
    runs: bool = False
    brings: int | None = None  # the step whose parameters come beside it


def extremes(program: Program, config: EngineConfig, board: Board) -> tuple[Way, Way]:
    """The fastest frame and the slowest, by what branches decide; cycles beside those of Estimate.header."""
    memory, steps, known = dram(board, program.lanes), program.steps, {}

    def cycles(turn: Turn) -> float:
        if turn not in known:
            known[turn] = _turn_cycles(turn, steps, config, memory)
        return known[turn]

    return ways(steps, cycles)


def _turn_cycles(turn: Turn, steps: Sequence[Step], config: EngineConfig, memory: Dram) -> float:
    before = 0.0 if turn.reads is None else described_cycles(steps[turn.reads], memory)
    before += read_cycles(1, memory) if turn.looks else 0.0
    after = [] if turn.brings is None else [steps[turn.brings]]
    parameters = ceil(sum(parameter_cycles(s, config, memory) for s in after))
    if turn.step is None:
        return before + (parameters if turn.brings != 0 else 0.0)  # those of the first step are the header's
    return before + max(chain(steps[turn.step], config, memory, after).cycles, parameters)


def array_macs(config: EngineConfig) -> int:
    """Multiply-accumulates of the pointwise arrays in a cycle."""
    return config.arrays * config.pixels * config.lanes**2 // config.turns


def used_macs(step: Step, lanes: int) -> tuple[int, int]:
    """Multiply-accumulates by the array and by the window, without lanes whose weights are all zero."""
    array = window = 0
    groups = step.groups if step.window in FILTERS and step.varied is None else 0
    filters = (
        (step.window_parameters, groups, step.out_height * step.out_width),
        (step.middle_parameters, step.pointwise_out if step.middle_stride else 0, prod(step.middle_shape)),
    )
    for blob, words, pixels in filters:
        if blob is not None:
            taps = blob[: 9 * words].reshape(words, 9, lanes)
            window += pixels * 9 * int(np.count_nonzero(taps.any(axis=1)))
    if step.varied is not None:
        lanes_used = step.varied.reshape(-1, 9, lanes).any(axis=1)
        window += 9 * int(np.count_nonzero(lanes_used))
    if step.mixing is not None and step.bank is not None:
        window = int(np.count_nonzero(step.bank))
    elif step.mixing is not None and step.window_parameters is not None:
        times = 1 if step.mixing.kind == "pick" else step.groups // step.mixing.out
        window = (
            step.height
            * step.width
            * times
            * int(_channels(step.window_parameters, window_tables(step)).sum())
        )
    if step.rows is not None:  # weights are computed: all lanes of what comes in count
        channels, at = _channels(step.rows, sum(m.out for m in matrices(step))), 0
        for matrix in matrices(step):
            outputs = int(channels[at : at + matrix.out].sum())
            array += matrix.height * matrix.width * matrix.into * lanes * outputs
            at += matrix.out
        return array, window
    for matrix, blob in zip(
        matrices(step), (step.pointwise_parameters, step.second_parameters), strict=False
    ):
        assert blob is not None
        shape = (matrix.out, matrix.into, matrix.passes, (lanes + 1) // 2, lanes)
        # [output word, input word, pass, j, output lane], two input lanes 2j and 2j + 1 a byte
        code = blob[: prod(shape[:4])].reshape(shape)
        # [output word, input word, j, half, output lane]; a weight of two passes is zero if both halves are
        used: npt.NDArray[np.bool_] = np.any(np.stack([code & 15, code >> 4], axis=4) != 0, axis=2)
        outputs = int(np.count_nonzero(np.any(used, axis=(1, 2, 3))))
        inputs = int(np.count_nonzero(np.any(used, axis=(0, 4))))
        array += matrix.height * matrix.width * inputs * outputs
    return array, window


def _channels(rows: Bytes, words: int) -> Ints:
    """Of requantization rows of so many words of channels: how many lanes of each have one."""
    table = rows.reshape(words, -1, rows.shape[1])
    told_by = (
        4 if table.shape[1] == REQUANT_WORDS else 10
    )  # by the factor, which may be 0 in wide ones; by the shift
    return np.asarray(np.count_nonzero(table[:, told_by], axis=1))


def _step(
    index: int,
    name: str,
    steps: Sequence[Step],
    path: _Path,
    config: EngineConfig,
    memory: Dram,
    macs: tuple[int, int],
) -> StepCost:
    lanes, step = config.lanes, steps[index]
    entries = len(step.load) + len(step.store)
    descriptor = int_words(STEP_INTS, lanes) + int_words(SEGMENT_INTS * entries, lanes)
    read = descriptor * (1 + path.described) + path.looks
    before = ceil(
        path.described * described_cycles(step, memory) + path.looks * read_cycles(1, memory) + path.alone
    )
    if not path.runs:
        return StepCost(
            index, name, SKIPPED if step.branch is None else BRANCH, before, {}, 0, lanes * read, 0, 0, 0, 0.0
        )
    after = [] if path.brings is None else [steps[path.brings]]
    parameters = ceil(sum(parameter_cycles(s, config, memory) for s in after))
    found = chain(step, config, memory, after)
    words = loaded(step, config).moved + steering_words(step)
    array, window = macs
    cycles = before + max(found.cycles, parameters)
    return StepCost(
        index=index, name=name, bound="parameters" if parameters > found.cycles else _bound(step, found.stages),
        cycles=cycles, stages=found.stages, parameters=parameters,
        read_bytes=lanes * (read + step.brought_words(lanes) + words),
        written_bytes=lanes * stored(step, config).moved, array_macs=array, window_macs=window,
        efficiency=array / (cycles * array_macs(config)),
    )  # fmt: skip


def _bound(step: Step, found: dict[str, int]) -> str:
    """The slowest stage. Where several are, the one that does work is named before those that pass words on."""
    works = [n for n, on in (("compute", step.pointwise != "none"), ("window", step.window != "pass")) if on]
    order = [*works, "DRAM", "load", "offsets", "store", "window", "compute"]
    return max(order, key=lambda n: (found[n], -order.index(n)))


def roof(board: Board, array: int, macs_per_byte: float) -> float:
    """MACs a second that an array of so many a cycle, or the memory at that many MACs a byte, allow."""
    return min(array * board.clock_mhz * 1e6, USABLE * board.dram_bytes_per_s * macs_per_byte)
