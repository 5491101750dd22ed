"""What a design takes, cycle by cycle: the C++ that is synthesised, run and counted. All of it *simulated*.

    found = simulate(bundle.hls, program, load_board("ultra96"))

One frame runs through the design's own sources, compiled with sim/cycles/ in the include path. Every pipelined loop
reports its iterations, streams, memories and ports (untraced.hpp); the processes of each dataflow region are then
played against each other, with streams as deep as the sources say, and with the board's memory behind the ports
(sim/cycles/network.hpp, dram.hpp). Assumptions about that memory are those of codesign/dram.py. Assumed of the tool
is that loops reach their stated II and depth, and that a run of consecutive words becomes one request.

A design fails if a memory on chip is accessed more often in a cycle than it has ports, or if it deadlocks.
"""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.board import Board
from codesign.bundle import Bundle
from codesign.compiled import texts
from codesign.csim import Engine, EngineFailed
from codesign.dram import ASSUMPTIONS, Dram, dram
from codesign.emit import sources as emit_sources
from codesign.errors import CodesignError
from codesign.program import Program
from codesign.status import status_text

KIND = "simulated"  # the word that goes with every figure of this module
FAILED = -3


class DesignFailed(CodesignError):
    """Hardware made of these sources would not work: it hangs, or a memory lacks a port."""


@dataclass(frozen=True)
class Process:
    """One process of a region. Cycles: `busy` begin an iteration, `fill` are others of a pipelined loop, `control`
    lie outside of loops; `stalls` by what it waited for, such as "full windowed" or "read features".
    """

    name: str
    busy: int
    fill: int
    control: int
    end: int
    stalls: Mapping[str, int]


@dataclass(frozen=True)
class Stream:
    """One FIFO: its depth, the most it held, and the cycles in which somebody waited at its ends."""

    name: str
    depth: int
    most: int
    empty: int
    full: int


@dataclass(frozen=True)
class Region:
    """What runs at the same time: the processes of a step, or one alone. `moved_bytes` are whole blocks of memory."""

    name: str
    step: int
    cycles: int
    processes: tuple[Process, ...]
    streams: tuple[Stream, ...]
    read_bytes: int
    written_bytes: int
    moved_bytes: int
    requests: int
    bursts: int
    dram_busy: int

    @property
    def bound(self) -> str:
        """The process that was at work most of the time, or DRAM."""
        work = {"DRAM": self.dram_busy} | {p.name: p.busy + p.fill + p.control for p in self.processes}
        return max(work, key=lambda name: work[name])


@dataclass(frozen=True)
class StepCycles:
    """One step: `before` are the cycles that nothing else overlaps, from the end of the step before."""

    index: int
    name: str
    cycles: int
    before: int
    bound: str
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class Simulation:
    """One frame on a board."""

    board: str
    clock_hz: int
    lanes: int
    names: tuple[str, ...]
    regions: tuple[Region, ...]

    @property
    def cycles(self) -> int:
        return sum(region.cycles for region in self.regions)

    @property
    def seconds(self) -> float:
        """One frame, from start to done; the time of a host is not in it."""
        return self.cycles / self.clock_hz

    @property
    def read_bytes(self) -> int:
        return sum(region.read_bytes for region in self.regions)

    @property
    def written_bytes(self) -> int:
        return sum(region.written_bytes for region in self.regions)

    @property
    def header(self) -> int:
        """Cycles before the first step: the program's header and the check of all steps."""
        return sum(region.cycles for region in self.regions if region.step < 0)

    @property
    def steps(self) -> tuple[StepCycles, ...]:
        found = []
        for index, name in enumerate(self.names):
            mine = [r for r in self.regions if r.step == index]
            body = next((r for r in mine if r.name == "step"), None)
            found.append(StepCycles(
                index, name, sum(r.cycles for r in mine), sum(r.cycles for r in mine if r is not body),
                "" if body is None else body.bound,
                sum(r.read_bytes for r in mine), sum(r.written_bytes for r in mine),
            ))  # fmt: skip
        return tuple(found)

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
            "assumptions": ASSUMPTIONS,
            "steps": [asdict(step) for step in self.steps],
            "regions": [asdict(region) | {"bound": region.bound} for region in self.regions],
        }


def of_bundle(bundle: Bundle, board: Board, names: Sequence[Sequence[str]] = ()) -> Simulation:
    """One frame of a bundle, whose pictures change no cycle. Sources of another version may not fit what counts here.

    Raises CodesignError for such sources, and what `simulate` raises.
    """
    emitted = emit_sources(bundle.config)
    found = {path: bundle.hls / path for path in emitted}
    others = [p for p, file in found.items() if not file.is_file() or file.read_text("utf-8") != emitted[p]]
    if others:
        raise CodesignError(f"{bundle.hls}: {len(others)} files are not what this version of codesign writes, expected "
                            "its own to simulate them. Build the bundle again, or leave out --simulate.")  # fmt: skip
    return simulate(bundle.hls, bundle.program, board, names)


def simulate(
    design: Mapping[str, str] | Path,
    program: Program,
    board: Board,
    names: Sequence[Sequence[str]] = (),
    feeds: Mapping[str, npt.NDArray[Any]] | None = None,
) -> Simulation:
    """One frame. `feeds` are inputs (H, W, C) of integer codes, else any codes: they change no cycle but which banks
    are read. `names` are the nodes of each step, where the program's steps carry none.

    Raises DesignFailed where the hardware would, EngineFailed on a program that the engine refuses.
    """
    sources = texts(design)
    engine = Engine(sources, "cycles")
    library = ctypes.CDLL(str(engine.path))
    library.codesign_cycles_report.restype = ctypes.c_char_p
    library.codesign_cycles_start.argtypes = (ctypes.c_char_p,)
    memory, rng = program.memory(), np.random.default_rng(0)
    for name, port in program.inputs.items():
        low, high = (-128, 127) if port.signed else (0, 255)
        codes = rng.integers(low, high, port.shape, endpoint=True) if feeds is None else feeds[name]
        port.write(memory, program.lanes, codes)
    wrong = library.codesign_cycles_start(facts(sources, dram(board, program.lanes)).encode())
    assert wrong == 0, "the library does not understand its facts"
    status = engine.start(memory, program.lanes, program.base)
    report = library.codesign_cycles_report().decode()
    if status == FAILED:
        raise DesignFailed(f"design: {report}. Correct the sources, or build the bundle again.")
    if status != 0:
        raise EngineFailed(status, status_text(status))
    given = [tuple(step.nodes) for step in program.steps]
    given = [tuple(n) or g for n, g in zip(names, given, strict=True)] if names else given
    regions = tuple(_region(found) for found in json.loads(f"[{report}]"))
    labels = tuple(" + ".join(nodes) or f"step {i}" for i, nodes in enumerate(given))
    return Simulation(board.name, board.clock_mhz * 1_000_000, program.lanes, labels, regions)


def facts(sources: Mapping[str, str], memory: Dram) -> str:
    """What sources and board say, in the form of sim/cycles/cycles.cpp."""
    synthesised = {n: t for n, t in sources.items() if not n.startswith(("sim/", "native/", "vendor"))}
    text = "\n".join(synthesised.values())
    lines = [f"stream {name} {depth}" for name, depth in depths(text).items()]
    lines += [f"split {name}" for name in re.findall(r"^\s*CODESIGN_IN_BRAM\(([\w.]+)\)", text, re.M)]
    lines += [f"port {name}" for name in re.findall(r"#pragma HLS INTERFACE m_axi .*\bbundle=(\w+)", text)]
    lines.append(f"memory {memory.bytes_per_cycle!r} {memory.word_bytes} {memory.beats} {memory.burst} "
                 f"{memory.outstanding} {memory.latency} {memory.block}")  # fmt: skip
    return "\n".join(lines)


def depths(text: str) -> dict[str, int]:
    """Of every stream whose depth the text states: `#pragma HLS STREAM variable=NAME depth=N`."""
    found: dict[str, int] = {}
    for name, depth in re.findall(r"#pragma HLS STREAM variable=(\w+) depth=(\d+)", text):
        assert found.setdefault(name, int(depth)) == int(depth), f"{name}: two depths"
    return found


def _region(found: dict[str, Any]) -> Region:
    found["processes"] = tuple(Process(**process) for process in found["processes"])
    found["streams"] = tuple(Stream(**stream) for stream in found["streams"])
    return Region(**found)
