"""What a program costs before anything is synthesised: cycles, DRAM traffic, frames a second. All of it *estimated*.

Counted from the steps that the engine walks and nothing else, by the cycle formulas in the contracts of
hls_templates/*.hpp, with words of `lanes` bytes:

    load         words loaded                         window     sum over rows of max(words in, words out)
    offsets      output pixels                        pointwise  pixels x words in x words out x passes
    store        words stored                         parameters words of weights and tables
    descriptor   4 x integers, read twice: to check the whole program, then to run the step

A step is its descriptor, then its parameters, then the slowest of its stages, which overlap; its DRAM traffic is one
more such stage. The memory gives USABLE of its peak to reads and writes together, a word that is wider than a port
takes several beats, and every phase that cannot begin before a first word has arrived waits READ_LATENCY_S. Depth of
pipelines (tens of cycles a loop), refresh and other users of the memory are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.board import Board
from codesign.program import (
    HEADER_INTS,
    SEGMENT_INTS,
    STEP_INTS,
    EngineConfig,
    Program,
    Step,
    int_words,
)

USABLE = 0.75  # of the memory's peak: rows that open and close, refresh, turning from reads to writes
READ_LATENCY_S = 200e-9  # port to memory and back: an assumption, of the order that HP ports show
KIND = "estimated"  # the word that goes with every figure of this module
PASSES = {"none": 0, "int4": 1, "int8": 2}  # of the pointwise array
ASSUMPTIONS = (
    f"{USABLE:.0%} of peak DRAM bandwidth, {READ_LATENCY_S * 1e9:.0f} ns before the first word of a phase, "
    "bursts otherwise without gaps, the board's default clock reached"
)


@dataclass(frozen=True)
class StepCost:
    """One step. Cycles of the engine's clock, bytes of DRAM; `macs` without those of padded lanes."""

    index: int
    name: str
    bound: str  # compute, window, load, store, DRAM or parameters: what would have to be faster
    cycles: int
    stages: dict[str, int]  # that overlap, by name; those by the contracts, and "DRAM"
    parameters: int  # cycles before they start: descriptor, weights and tables, and their latencies
    read_bytes: int
    written_bytes: int
    array_macs: int  # by the pointwise array
    window_macs: int  # by depthwise and deformable windows
    efficiency: float  # array_macs a cycle, of lanes x lanes

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
    header: int  # cycles to read the program's header

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
        """MACs of the pointwise array in a frame's cycles, of lanes x lanes each."""
        return sum(step.array_macs for step in self.steps) / (self.cycles * self.lanes**2)

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
    program: Program, config: EngineConfig, board: Board, names: Sequence[Sequence[str]] = ()
) -> Estimate:
    """Cost of one frame. `names` are the nodes of each step, where the program's steps carry none."""
    memory = _Memory(board, program.lanes)
    given = [tuple(step.nodes) for step in program.steps]
    given = [tuple(n) or g for n, g in zip(names, given, strict=True)] if names else given
    steps = tuple(
        _step(i, " + ".join(nodes) or f"step {i}", step, config, memory, program.lanes)
        for i, (step, nodes) in enumerate(zip(program.steps, given, strict=True))
    )
    header = 4 * HEADER_INTS + memory.latency
    return Estimate(board.name, board.clock_mhz * 1_000_000, program.lanes, steps, header)


class _Memory:
    """Cycles of the engine's clock that traffic takes on a board."""

    def __init__(self, board: Board, lanes: int) -> None:
        self.clock_hz = board.clock_mhz * 1_000_000
        self.bytes_per_cycle = USABLE * board.dram_bytes_per_s / self.clock_hz
        self.beats = ceil(8 * lanes / board.hp_width_bits)  # a word on a port
        self.latency = ceil(READ_LATENCY_S * self.clock_hz)
        self.lanes = lanes

    def cycles(self, *words: int) -> int:
        """For so many words on each of several ports, together."""
        shared = ceil(sum(words) * self.lanes / self.bytes_per_cycle)
        return max(shared, max(words, default=0) * self.beats)


def row_words(step: Step, config: EngineConfig) -> int:
    """Words of one input row."""
    return ceil(step.width / (1 << config.pack_log2)) if step.packed else step.width * step.groups


def window_words(step: Step, config: EngineConfig) -> int:
    """Words in which a pixel leaves the window."""
    if step.window != "gather":
        return step.groups
    taps = step.kernel**2
    return ceil(taps / (1 << config.pack_log2)) if step.packed else taps * step.groups


def window_cycles(step: Step, config: EngineConfig) -> int:
    """Of window.hpp: in every row the words that arrive or those that leave, whichever are more."""
    if step.window == "pass":
        return step.height * step.width * step.groups
    into, out = row_words(step, config), step.out_width * window_words(step, config)
    total = fetched = 0
    for y in range(-1, step.out_height):
        needed = min(step.origin[0] + y * step.stride[0] + step.stride[0] + step.reach + 1, step.height)
        target = step.height if y + 1 == step.out_height else max(needed, fetched)
        total += max((target - fetched) * into, 0 if y < 0 else out)
        fetched = target
    return total


def stages(step: Step, config: EngineConfig) -> dict[str, int]:
    """Cycles of the stages that overlap, by the contracts of the headers."""
    pixels = step.out_height * step.out_width
    into, passes = window_words(step, config), PASSES[step.pointwise]
    return {
        "compute": pixels * step.pointwise_in * step.pointwise_out * passes if passes else pixels * into,
        "load": step.height * row_words(step, config),
        "offsets": pixels if step.window == "deformable" else 0,
        "window": window_cycles(step, config),
        "store": pixels * (step.pointwise_out if passes else into),
    }


def used_macs(step: Step, lanes: int) -> tuple[int, int]:
    """Multiply-accumulates by the array and by the window, without lanes whose weights are all zero."""
    pixels, array, window = step.out_height * step.out_width, 0, 0
    if step.window in ("depthwise", "deformable") and step.window_parameters is not None:
        taps = step.window_parameters[: 9 * step.groups].reshape(step.groups, 9, lanes)
        window = pixels * 9 * int(np.count_nonzero(taps.any(axis=1)))
    if step.pointwise != "none" and step.pointwise_parameters is not None:
        shape = (step.pointwise_out, step.pointwise_in, PASSES[step.pointwise], (lanes + 1) // 2, lanes)
        # [output word, input word, pass, j, output lane], two input lanes 2j and 2j + 1 a byte
        code = step.pointwise_parameters[: prod(shape[:4])].reshape(shape)
        # [output word, input word, j, half, output lane]; a weight of two passes is zero if both halves are
        used: npt.NDArray[np.bool_] = np.any(np.stack([code & 15, code >> 4], axis=4) != 0, axis=2)
        outputs = int(np.count_nonzero(np.any(used, axis=(1, 2, 3))))
        inputs = int(np.count_nonzero(np.any(used, axis=(0, 4))))
        array = pixels * inputs * outputs
    return array, window


def _step(index: int, name: str, step: Step, config: EngineConfig, memory: _Memory, lanes: int) -> StepCost:
    entries = len(step.load) + len(step.store)
    descriptor = int_words(STEP_INTS, lanes) + int_words(SEGMENT_INTS * entries, lanes)
    # Two reads, of descriptor and segments, in each of two walks; weights and rows of each unit that has any.
    blocks = sum(2 for p in (step.window_parameters, step.pointwise_parameters) if p is not None)
    described = max(4 * (STEP_INTS + SEGMENT_INTS * entries), memory.cycles(descriptor))
    weights = max(step.parameter_words, memory.cycles(step.parameter_words))
    before = 2 * described + weights + (4 + blocks) * memory.latency
    found = stages(step, config)
    found["DRAM"] = memory.cycles(found["load"], found["offsets"], found["store"])
    slowest = max(found.values())
    body = slowest + memory.latency
    array, window = used_macs(step, lanes)
    return StepCost(
        index=index, name=name, bound="parameters" if before > body else _bound(step, found),
        cycles=before + body, stages=found, parameters=before,
        read_bytes=lanes * (2 * descriptor + step.parameter_words + found["load"] + found["offsets"]),
        written_bytes=lanes * found["store"], array_macs=array, window_macs=window,
        efficiency=array / ((before + body) * lanes**2),
    )  # fmt: skip


def _bound(step: Step, found: dict[str, int]) -> str:
    """The slowest stage. Where several are, the one that does work is named before those that pass words on."""
    works = [n for n, on in (("compute", step.pointwise != "none"), ("window", step.window != "pass")) if on]
    order = [*works, "DRAM", "load", "offsets", "store", "window", "compute"]
    return max(order, key=lambda n: (found[n], -order.index(n)))


def roof(board: Board, lanes: int, macs_per_byte: float) -> float:
    """MACs a second that the array, or the memory at that many MACs a byte, allow."""
    return min(lanes**2 * board.clock_mhz * 1e6, USABLE * board.dram_bytes_per_s * macs_per_byte)
