"""The figures of a report, each under the word for where it comes from.

estimated      counted from the program and the engine's structure by codesign
simulated      the design's own C++, run and counted cycle by cycle by codesign
synthesized    Vivado HLS or Vitis HLS, before place and route
co-simulated   the RTL with the test bench, by the same tool
post-route     Vivado, from the routed netlist; its power is an estimate of its own
measured       a board
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codesign import units as parts
from codesign.board import Board
from codesign.contract import Contract, Verdict
from codesign.csynth import Csynth
from codesign.cycles import Simulation
from codesign.estimate import Estimate
from codesign.reports import Cells, Cosim, Power, Timing

SOURCES = ("estimated", "simulated", "synthesized", "co-simulated", "post-route", "measured")
SIZES = ("DSP", "BRAM36", "URAM", "LUT", "FF")

Figures = dict[str, "float | None"]  # by source


def period_of(times: Timing, board: Board) -> float:
    """Of the routed clock that is nearest to the one asked for, in ns."""
    return min(times.clocks.values(), key=lambda period: abs(period - 1e3 / board.clock_mhz))


def speed(
    cost: Estimate,
    board: Board,
    simulated: Simulation | None,
    synthesis: Csynth | None,
    rtl: Cosim | None,
    times: Timing | None,
    watts: Power | None,
    bench: Mapping[str, Any] | None,
) -> dict[str, Figures]:
    """Quantities a frame, by source. A bench's DRAM traffic is shown only if it was measured, not counted."""
    said: Mapping[str, Any] = {} if bench is None else bench
    cycles = None if rtl is None else rtl.maximum
    rail = rail_of(said)
    return {
        "clock asked, MHz": _figures(estimated=board.clock_mhz),
        "clock reached, MHz": _figures(
            synthesized=None if synthesis is None else 1e3 / synthesis.estimated_ns,
            **{"post-route": None if times is None else 1e3 / (period_of(times, board) - times.wns)},
        ),
        "engine, cycles": _figures(
            estimated=cost.cycles,
            simulated=None if simulated is None else simulated.cycles,
            **{"co-simulated": cycles},
        ),
        "engine, ms": _figures(
            estimated=cost.seconds * 1e3,
            simulated=None if simulated is None else simulated.seconds * 1e3,
            measured=said.get("engine_ms", {}).get("median"),
            **{"co-simulated": None if cycles is None else cycles / cost.clock_hz * 1e3},
        ),
        "image to boxes, ms": _figures(measured=said.get("latency_ms", {}).get("median")),
        "frames/s": _figures(
            estimated=1 / cost.seconds,
            simulated=None if simulated is None else 1 / simulated.seconds,
            measured=said.get("frames_per_s"),
            **{"co-simulated": None if not cycles else cost.clock_hz / cycles},
        ),
        "DRAM, bytes": _figures(
            estimated=cost.read_bytes + cost.written_bytes,
            simulated=None if simulated is None else simulated.read_bytes + simulated.written_bytes,
            measured=said.get("dram_bytes_per_frame") if said.get("dram_kind") == "measured" else None,
        ),
        "power, W": _figures(
            measured=None if rail is None else rail[1],
            **{"post-route": None if watts is None else watts.total},
        ),
    }


def rail_of(bench: Mapping[str, Any]) -> tuple[str, float, float] | None:
    """Name, W while busy, and W while idle, of the rail with most power: it is or feeds the others."""
    rails = bench.get("power_w") or {}
    return max(((name, r["busy"], r["idle"]) for name, r in rails.items()), key=lambda r: r[1], default=None)


def _figures(**known: float | None) -> Figures:
    return {source: known.get(source) for source in SOURCES}


def cycles(
    cost: Estimate,
    simulated: Simulation | None,
    verdicts: Sequence[Verdict],
    design: Contract,
) -> dict[str, Figures]:
    """Cycles in a frame in which each unit works; units overlap. Synthesized: the estimate at the intervals found."""
    known = parts.cycles_estimated(cost, design)
    played = {} if simulated is None else parts.cycles_simulated(simulated, design)
    slower = parts.slower(verdicts, design)
    return {
        unit: _figures(
            estimated=known.get(unit),
            simulated=played.get(unit),
            synthesized=None if unit not in known or unit not in slower else known[unit] * slower[unit],
        )
        for unit in parts.units_of(design)
        if unit in known or unit in played
    }


def size(
    estimated: Mapping[str, Cells],
    synthesized: Mapping[str, Cells] | None,
    routed: Mapping[str, Cells] | None,
) -> dict[str, dict[str, Figures]]:
    """Cells by unit; `engine` is all of them together, OUTSIDE what the bitstream holds beside it."""
    known: dict[str, Mapping[str, Cells]] = {
        "estimated": {**estimated, "engine": sum(estimated.values(), Cells())},
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


def _cells(found: Cells | None, kind: str) -> float | None:
    """One kind of cells."""
    value = getattr(found, kind.lower(), None)
    return None if value is None else float(value)
