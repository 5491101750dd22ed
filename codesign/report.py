"""One table of what a design was said to be, and what it turned out to be: estimated, simulated, synthesized, after
place and route, measured.

Every figure stands under the word for where it comes from (figures.py). Those from the software device carry that
name and are never called measured. What was not run is None here, and a note says how to run it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from codesign import figures as told
from codesign import units as parts
from codesign.board import Board, bundle_board
from codesign.bundle import MANIFEST, load
from codesign.contract import TOP_FUNCTION, Contract, Verdict, broken, compare, contract, unproven
from codesign.csynth import Csynth, Module, csynth
from codesign.cycles import of_bundle
from codesign.estimate import estimate
from codesign.evidence import SOFTWARE, VERSION, bench_of, check_whole, record_of
from codesign.figures import Figures, period_of, rail_of
from codesign.near import generated
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
SAME_CLOCK = 0.002  # relative: periods are printed with three digits


@dataclass(frozen=True)
class Evidence:
    """What lies in a bundle beside the design; None for what was not run."""

    synthesis: Csynth | None
    rtl: Cosim | None
    placed: Instance | None
    timing: Timing | None
    power: Power | None
    bench: Mapping[str, Any] | None


@dataclass(frozen=True)
class Report:
    """What is known of a bundle, figures by source. Failures are against the contract."""

    directory: Path
    board: Board
    tool: str | None  # of the synthesis
    speed: dict[str, Figures]  # by quantity
    cycles: dict[str, Figures]  # of a frame in which a unit works, by unit
    size: dict[str, dict[str, Figures]]  # by unit, then by kind of cell
    available: dict[str, int]
    loops: tuple[Verdict, ...]
    modules: Mapping[str, Module]  # as they were synthesized
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
            "cycles": {unit: named(figures) for unit, figures in self.cycles.items()},
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
            "modules": {
                name: asdict(module.cells) | {"latency": module.latency} for name, module in self.modules.items()
            },
            "timing": None if self.timing is None else asdict(self.timing),
            "power": None if self.power is None else asdict(self.power),
            "bench": self.bench,
            "notes": self.notes,
            "failures": self.failures,
        }  # fmt: skip


def report(directory: Path, simulated: bool = False) -> Report:
    """All that the files of a bundle tell, and with `simulated` what cycle-level simulation of the design adds.

    Raises BundleError, BoardError, ContractError or ReportError for files that are missing where others say they
    should be, cut short, or of another design; simulating raises ToolMissing without a C++ compiler, DesignFailed.
    """
    bundle = load(directory)
    manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    record, found = record_of(directory, manifest), _evidence(directory)
    if record is not None:
        check_whole(directory / REPORTS)
    board = _clocked(bundle_board(directory, bundle.board), record, found.synthesis)
    promised = contract(bundle.hls)
    verdicts = () if found.synthesis is None else tuple(compare(promised, found.synthesis))
    notes, failures = _remarks(directory, board, found)
    inside, windows = generated(bundle.program)
    if windows:
        said = (
            "yes"
            if inside == windows
            else f"{inside} of {windows}, others pass through DRAM"
            if inside
            else "no"
        )
        notes.append(f"Kernels, masks and offsets that the network generates stay on chip: {said}.")
    nodes = manifest.get("nodes", ())
    cost = estimate(bundle.program, bundle.config, board, nodes)
    played = of_bundle(bundle, board, nodes) if simulated else None
    return Report(
        directory=directory,
        board=board,
        tool=None if found.synthesis is None else found.synthesis.tool,
        speed=told.speed(cost, board, played, found.synthesis, found.rtl, found.timing, found.power, found.bench),
        cycles=told.cycles(cost, played, verdicts, promised),
        size=told.size(parts.estimated(resources(bundle.config), promised, board),
                       None if found.synthesis is None else parts.synthesized(found.synthesis, promised),
                       None if found.placed is None else _routed(found.placed, promised, directory)),
        available={"DSP": board.dsps, "BRAM36": board.bram36, "URAM": board.uram, "LUT": board.luts,
                   "FF": board.ffs},
        loops=verdicts,
        modules={} if found.synthesis is None else found.synthesis.modules,
        timing=found.timing, power=found.power, bench=found.bench, notes=tuple(notes),
        failures=(*broken(verdicts), *unproven(verdicts), *failures),
    )  # fmt: skip


def _evidence(directory: Path) -> Evidence:
    folder = directory / REPORTS

    def there(name: str) -> bool:
        return (folder / name).exists()

    return Evidence(
        synthesis=csynth(folder) if there("csynth.xml") else None,
        rtl=cosim(folder / "cosim.rpt") if there("cosim.rpt") else None,
        placed=utilization(folder / "utilization.rpt") if there("utilization.rpt") else None,
        timing=timing(folder / "timing.rpt") if there("timing.rpt") else None,
        power=power(folder / "power.rpt") if there("power.rpt") else None,
        bench=bench_of(directory),
    )


def _clocked(board: Board, record: Mapping[str, Any] | None, synthesis: Csynth | None) -> Board:
    """The board at the clock of the synthesis, so that estimates are comparable."""
    asked = record.get("clock_mhz") if record is not None else None
    if not isinstance(asked, (int, float)):
        asked = None if synthesis is None else 1e3 / synthesis.target_ns
    return board if asked is None else replace(board, clock_mhz=round(asked))


def _remarks(directory: Path, board: Board, found: Evidence) -> tuple[list[str], list[str]]:
    """What a reader should know, and what is wrong."""
    notes, failures = [], []
    synthesis, times, bench = found.synthesis, found.timing, found.bench
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
        if found.rtl is None:
            notes.append("The RTL was not simulated.")
        if times is None:
            notes.append("Not placed and routed.")
    if found.rtl is not None and not found.rtl.passed:
        failures.append("Co-simulation: the RTL differs from the C++, expected no difference")
    if times is not None:
        if not times.met:
            worst = f", worst from {times.worst}" if times.worst else ""
            slack = f"setup {times.wns:g} ns, hold {times.whs:g} ns"
            failures.append(f"Timing: not met, worst slack {slack}, {times.failing} endpoints{worst}")
        routed, asked = 1e3 / period_of(times, board), board.fabric_mhz(board.clock_mhz)
        if abs(routed / asked - 1) > SAME_CLOCK:
            failures.append(f"Clock: routed for {routed:.1f} MHz, asked for {asked:.1f} MHz")
    if found.power is not None:
        notes.append(f"Power after routing is Vivado's estimate, confidence {found.power.confidence}.")
    if bench is None:
        notes.append("Nothing measured: run `codesign bench` with a board.")
        return notes, failures
    if bench["source"] == SOFTWARE:
        notes.append(
            "The last column comes from the software device: the driver works; how fast is not known."
        )
    rail = rail_of(bench)
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


def _routed(placed: Instance, promised: Contract, directory: Path) -> dict[str, Cells]:
    found = parts.routed(placed, promised, TOP_FUNCTION)
    if parts.ENGINE not in found:
        path = directory / REPORTS / "utilization.rpt"
        raise ReportError(f"{path}: has no instance of {TOP_FUNCTION}, expected the routed design with the engine in "
                          "it. Run `codesign synth` again.")  # fmt: skip
    return found
