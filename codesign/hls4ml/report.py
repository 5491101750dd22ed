"""What is known of a design of hls4ml, in the form of codesign/report.py: estimated, and synthesized where hls4ml's own
build has left reports.
"""

from __future__ import annotations

from pathlib import Path

from codesign.board import bundle_board
from codesign.csynth import csynth
from codesign.figures import SIZES, SOURCES, Figures
from codesign.hls4ml.project import PROJECT, Streaming
from codesign.report import Report

REPORTS = Path(f"{PROJECT}_prj") / "solution1" / "syn" / "report"


def report(design: Streaming) -> Report:
    """Raises BoardError, or ReportError for reports that were cut short."""
    board = bundle_board(design.directory, design.board)
    folder = design.hls / REPORTS
    synthesis = csynth(folder) if (folder / "csynth.xml").exists() else None
    turns, multipliers = design.estimated["turns"], design.estimated["multipliers"]
    slowest = max(turns, key=lambda name: turns[name])
    latency = None if synthesis is None else synthesis.modules[synthesis.top].latency
    found = None if synthesis is None else synthesis.cells
    notes = [
        f"A frame takes at least {turns[slowest]:,} cycles, those of {slowest}; every layer works at once.",
        f"{sum(multipliers.values()):,} multipliers, one for each weight that is not zero or that a frame decides; "
        "in LUTs or DSPs.",
        "Estimated block RAM is that of the FIFOs, which hls4ml makes as deep as their maps.",
    ]
    if synthesis is None:
        notes.append(
            f"No synthesis: run build_prj.tcl in {design.hls} where the tool of {design.backend} is."
        )
    notes.append("Nothing measured.")
    whole = {kind: _figures(synthesized=getattr(found, kind.lower(), None)) for kind in SIZES}
    whole["BRAM36"]["estimated"] = design.estimated["bram36"]
    return Report(
        directory=design.directory,
        board=board,
        tool=None if synthesis is None else synthesis.tool,
        speed={
            "clock asked, MHz": _figures(estimated=board.clock_mhz),
            "clock reached, MHz": _figures(
                synthesized=None if synthesis is None else 1e3 / synthesis.estimated_ns
            ),
            "design, cycles": _figures(
                estimated=turns[slowest], synthesized=None if latency is None else latency[1]
            ),
            "frames/s": _figures(estimated=board.clock_mhz * 1e6 / turns[slowest]),
        },
        cycles={name: _figures(estimated=count) for name, count in turns.items()},
        size={"design": whole},
        available={"DSP": board.dsps, "BRAM36": board.bram36, "URAM": board.uram, "LUT": board.luts, "FF": board.ffs},
        loops=(), modules={} if synthesis is None else synthesis.modules, timing=None, power=None, bench=None,
        notes=tuple(notes), failures=(),
    )  # fmt: skip


def _figures(**known: float | None) -> Figures:
    return {source: known.get(source) for source in SOURCES}
