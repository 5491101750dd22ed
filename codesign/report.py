"""One table of what a design was said to be, and what it turned out to be: estimated, synthesized, simulated, after
place and route, measured.

Every figure stands under the word for where it comes from:

    estimated      counted from the program and the engine's structure by codesign
    synthesized    Vivado HLS or Vitis HLS, before place and route
    simulated      the RTL in co-simulation
    post-route     Vivado, from the routed netlist; its power is an estimate of its own
    measured       a board. Figures from the software device carry that name and are never called measured

What was not run is None here and a note says how to run it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from codesign import units as parts
from codesign.board import Board, bundle_board
from codesign.bundle import MANIFEST, load
from codesign.contract import TOP_FUNCTION, Contract, Verdict, broken, compare, contract, unproven
from codesign.csynth import Csynth, csynth
from codesign.estimate import Estimate, estimate
from codesign.evidence import SOFTWARE, VERSION, bench_of, check_whole, record_of
from codesign.reports import (
    Cells,
    Cosim,
    Instance,
    Power,
    ReportError,
    Timing,
    cosim,
    power,
    timing,
    utilization,
)
from codesign.resources import resources

REPORTS = Path("synthesis/reports")
SOURCES = ("estimated", "synthesized", "simulated", "post-route", "measured")
SAME_CLOCK = 0.01  # relative: a clock is made by dividing another, and periods are printed with three digits
SIZES = ("DSP", "BRAM36", "URAM", "LUT", "FF")

Figures = dict[str, "float | None"]  # by source


@dataclass(frozen=True)
class Report:
    """What is known of a bundle. `speed` and `size` are figures by source; failures are against the contract."""

    directory: Path
    board: Board
    tool: str | None  # of the synthesis
    speed: dict[str, Figures]  # by quantity
    size: dict[str, dict[str, Figures]]  # by unit, then by kind of cell
    available: dict[str, int]
    loops: tuple[Verdict, ...]
    timing: Timing | None
    power: Power | None
    bench: Mapping[str, Any] | None
    notes: tuple[str, ...]
    failures: tuple[str, ...]

    @property
    def last(self) -> str:
        """The word for figures of bench.json."""
        return SOFTWARE if self.bench is not None and self.bench["source"] != "board" else "measured"

    def to_json(self) -> dict[str, Any]:
        def named(figures: Figures) -> dict[str, float | None]:
            return {self.last if k == "measured" else k: v for k, v in figures.items()}

        return {
            "format": "codesign-report",
            "version": VERSION,
            "board": self.board.name,
            "tool": self.tool,
            "speed": {quantity: named(figures) for quantity, figures in self.speed.items()},
            "size": {
                unit: {kind: named(figures) for kind, figures in kinds.items()}
                for unit, kinds in self.size.items()
            },
            "available": self.available,
            "loops": [
                {"function": v.promise.function, "loop": v.promise.label, "file": v.promise.file,
                 "line": v.promise.line, "promised_ii": v.promise.ii, "state": v.state,
                 "found": [{"module": f.module, "loop": f.name, "ii": f.ii, "depth": f.depth} for f in v.found]}
                for v in self.loops
            ],
            "timing": None if self.timing is None else asdict(self.timing),
            "power": None if self.power is None else asdict(self.power),
            "bench": self.bench,
            "notes": self.notes,
            "failures": self.failures,
        }  # fmt: skip


def report(directory: Path) -> Report:
    """All that the files of a bundle tell.

    Raises BundleError, BoardError, ContractError or ReportError for files that are missing where others say they
    should be, cut short, or of another design.
    """
    bundle = load(directory)
    manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    record, bench = record_of(directory, manifest), bench_of(directory)
    folder = directory / REPORTS
    if record is not None:
        check_whole(folder)
    synthesis = csynth(folder) if (folder / "csynth.xml").exists() else None
    simulated = cosim(folder / "cosim.rpt") if (folder / "cosim.rpt").exists() else None
    placed = utilization(folder / "utilization.rpt") if (folder / "utilization.rpt").exists() else None
    times = timing(folder / "timing.rpt") if (folder / "timing.rpt").exists() else None
    watts = power(folder / "power.rpt") if (folder / "power.rpt").exists() else None
    board = _clocked(bundle_board(directory, bundle.board), record, synthesis)
    cost = estimate(bundle.program, bundle.config, board, manifest.get("nodes", ()))
    promised = contract(bundle.hls)
    verdicts = () if synthesis is None else tuple(compare(promised, synthesis))
    notes, failures = _remarks(directory, board, synthesis, simulated, times, watts, bench)
    return Report(
        directory=directory,
        board=board,
        tool=None if synthesis is None else synthesis.tool,
        speed=_speed(cost, board, synthesis, simulated, times, watts, bench),
        size=_size(parts.estimated(resources(bundle.config), promised),
                   None if synthesis is None else parts.synthesized(synthesis, promised),
                   None if placed is None else _routed(placed, promised, folder)),
        available={"DSP": board.dsps, "BRAM36": board.bram36, "URAM": board.uram, "LUT": board.luts,
                   "FF": board.ffs},
        loops=verdicts, timing=times, power=watts, bench=bench, notes=tuple(notes),
        failures=(*broken(verdicts), *unproven(verdicts), *failures),
    )  # fmt: skip


def _clocked(board: Board, record: Mapping[str, Any] | None, synthesis: Csynth | None) -> Board:
    """The board at the clock of the synthesis, so that estimates are comparable."""
    asked = record.get("clock_mhz") if record is not None else None
    if not isinstance(asked, (int, float)):
        asked = None if synthesis is None else 1e3 / synthesis.target_ns
    return board if asked is None else replace(board, clock_mhz=round(asked))


def _remarks(
    directory: Path,
    board: Board,
    synthesis: Csynth | None,
    simulated: Cosim | None,
    times: Timing | None,
    watts: Power | None,
    bench: Mapping[str, Any] | None,
) -> tuple[list[str], list[str]]:
    """What a reader should know, and what is wrong."""
    notes, failures = [], []
    if synthesis is None:
        notes.append(f"No synthesis: run `codesign synth {directory}` where Vivado is installed.")
    else:
        if synthesis.top != TOP_FUNCTION:
            raise ReportError(f"{directory / REPORTS}: reports of {synthesis.top}, expected {TOP_FUNCTION}. They "
                              "belong to another design; run `codesign synth` again.")  # fmt: skip
        if not _same_part(synthesis.part, board.part):
            failures.append(f"Part: synthesized for {synthesis.part}, the board has {board.part}")
        if not synthesis.clock_met:
            notes.append(
                f"{synthesis.tool} expects {synthesis.estimated_ns:g} ns, more than {synthesis.target_ns:g} ns less "
                f"{synthesis.uncertainty_ns:g} ns for routing: timing may fail."
            )
        if simulated is None:
            notes.append("The RTL was not simulated.")
        if times is None:
            notes.append("Not placed and routed.")
    if simulated is not None and not simulated.passed:
        failures.append("Co-simulation: the RTL differs from the C++, expected no difference")
    if times is not None:
        if not times.met:
            worst = f", worst from {times.worst}" if times.worst else ""
            slack = f"setup {times.wns:g} ns, hold {times.whs:g} ns"
            failures.append(f"Timing: not met, worst slack {slack}, {times.failing} endpoints{worst}")
        period = _period(times, board)
        if abs(period * board.clock_mhz / 1e3 - 1) > SAME_CLOCK:
            failures.append(f"Clock: routed for {1e3 / period:.1f} MHz, asked for {board.clock_mhz} MHz")
    if watts is not None:
        notes.append(f"Power after routing is Vivado's estimate, confidence {watts.confidence}.")
    if bench is None:
        notes.append("Nothing measured: run `codesign bench` with a board.")
        return notes, failures
    if bench["source"] == SOFTWARE:
        notes.append(
            "The last column comes from the software device: the driver works; how fast is not known."
        )
    rail = _rail(bench)
    if rail is not None:
        notes.append(f"Power of the board: rail {rail[0]}, {rail[1]:.2f} W busy, {rail[2]:.2f} W idle.")
    exact = bench.get("bit_exact", {})
    if exact.get("differences"):
        differ = f"{exact['differences']} values differ from C simulation in {exact['vectors']} frames"
        failures.append(f"Bench: {differ}, expected none")
    return notes, failures


def _same_part(reported: str, asked: str) -> bool:
    """xc7z020-clg400-1 is xc7z020clg400-1; a temperature grade at the end may be missing."""
    a, b = (text.lower().replace("-", "") for text in (reported, asked))
    return a.startswith(b) or b.startswith(a)


def _period(times: Timing, board: Board) -> float:
    """Of the routed clock that is nearest to the one asked for, in ns."""
    return min(times.clocks.values(), key=lambda period: abs(period - 1e3 / board.clock_mhz))


def _routed(placed: Instance, promised: Contract, folder: Path) -> dict[str, Cells]:
    found = parts.routed(placed, promised, TOP_FUNCTION)
    if parts.ENGINE not in found:
        raise ReportError(f"{folder / 'utilization.rpt'}: has no instance of {TOP_FUNCTION}, expected the routed "
                          "design with the engine in it. Run `codesign synth` again.")  # fmt: skip
    return found


def _speed(
    cost: Estimate,
    board: Board,
    synthesis: Csynth | None,
    simulated: Cosim | None,
    times: Timing | None,
    watts: Power | None,
    bench: Mapping[str, Any] | None,
) -> dict[str, Figures]:
    """Quantities a frame, by source. A bench's DRAM traffic is shown only if it was measured, not counted."""
    said: Mapping[str, Any] = {} if bench is None else bench
    cycles = None if simulated is None else simulated.maximum
    rail = _rail(said)
    return {
        "clock asked for, MHz": _figures(estimated=board.clock_mhz),
        "clock reached, MHz": _figures(
            synthesized=None if synthesis is None else 1e3 / synthesis.estimated_ns,
            **{"post-route": None if times is None else 1e3 / (_period(times, board) - times.wns)},
        ),
        "engine, cycles": _figures(estimated=cost.cycles, simulated=cycles),
        "engine, ms": _figures(
            estimated=cost.seconds * 1e3,
            simulated=None if cycles is None else cycles / cost.clock_hz * 1e3,
            measured=said.get("engine_ms", {}).get("median"),
        ),
        "picture to boxes, ms": _figures(measured=said.get("latency_ms", {}).get("median")),
        "frames/s": _figures(
            estimated=1 / cost.seconds,
            simulated=None if not cycles else cost.clock_hz / cycles,
            measured=said.get("frames_per_s"),
        ),
        "DRAM, bytes": _figures(
            estimated=cost.read_bytes + cost.written_bytes,
            measured=said.get("dram_bytes_per_frame") if said.get("dram_kind") == "measured" else None,
        ),
        "power, W": _figures(
            measured=None if rail is None else rail[1],
            **{"post-route": None if watts is None else watts.total},
        ),
    }


def _rail(bench: Mapping[str, Any]) -> tuple[str, float, float] | None:
    """Name, W while busy, and W while idle, of the rail with most power: it is or feeds the others."""
    rails = bench.get("power_w") or {}
    return max(((name, r["busy"], r["idle"]) for name, r in rails.items()), key=lambda r: r[1], default=None)


def _figures(**known: float | None) -> Figures:
    return {source: known.get(source) for source in SOURCES}


def _size(
    estimated: Mapping[str, parts.Counted],
    synthesized: Mapping[str, Cells] | None,
    routed: Mapping[str, Cells] | None,
) -> dict[str, dict[str, Figures]]:
    """Cells by unit; `engine` is all of them together, OUTSIDE what the bitstream holds beside it."""
    known: dict[str, Mapping[str, parts.Counted | Cells]] = {
        "estimated": {**estimated, "engine": sum(estimated.values(), parts.Counted())},
        "synthesized": {} if synthesized is None else {**synthesized, "engine": parts.whole(synthesized)},
        "post-route": {} if routed is None else {**routed, "engine": parts.whole(routed)},
    }
    units = [*estimated, "engine", *([parts.OUTSIDE] if routed is not None else [])]
    return {
        unit: {
            kind: _figures(**{source: _cells(found.get(unit), kind) for source, found in known.items()})
            for kind in SIZES
        }
        for unit in units
    }


def _cells(found: parts.Counted | Cells | None, kind: str) -> float | None:
    """One kind of cells; estimates count no LUT and FF."""
    value = getattr(found, kind.lower(), None)
    return None if value is None else float(value)
