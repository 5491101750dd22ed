"""The verb that compares: report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from codesign.cli_common import FAILED, Json, err, fail, figure, note, out, print_json, table, verb, working

if TYPE_CHECKING:
    from codesign.contract import Verdict
    from codesign.figures import Figures
    from codesign.report import Report

WHOLE = ("engine, cycles", "design, cycles", "DRAM, bytes")


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  codesign report bundle --json")(report)


@verb
def report(
    bundle: Annotated[Path, typer.Argument(help="A bundle directory, with or without a synthesis.")],
    simulate: Annotated[
        bool,
        typer.Option("--simulate", help="Simulate a frame cycle by cycle too: a minute, and a C++ compiler."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare what was estimated with what was synthesized, placed and routed, and measured, unit by unit.

    Exit code 1 if a loop's initiation interval is not what its pragma promises, co-simulation differs, or timing is
    not met.
    """
    from codesign.bundle import is_streaming
    from codesign.report import report as found_in

    with working("Simulating a frame" if simulate else "Reading reports"):
        found = _streaming(bundle, simulate) if is_streaming(bundle) else found_in(bundle, simulate)
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)
    for failure in found.failures:
        err.print(f"[bold red]failed:[/] {escape(failure)}")
    if found.failures:
        raise typer.Exit(FAILED)


def _streaming(directory: Path, simulate: bool) -> Report:
    from codesign.hls4ml import project
    from codesign.hls4ml.report import report as found_in

    if simulate:
        fail(f"--simulate: {directory} holds a design of hls4ml, whose cycles its tools count. Leave it out.")
    return found_in(project.load(directory))


def _print(found: Report) -> None:
    from codesign.figures import SIZES, SOURCES

    tool = f", {found.tool}" if found.tool else ""
    title = f"{escape(str(found.directory))}: {found.board.title}, {found.board.clock_mhz} MHz{tool}"
    columns = ("a frame", *(found.last if s == "measured" else s for s in SOURCES))
    rows = []
    for quantity, figures in found.speed.items():
        form = ",.0f" if quantity in WHOLE else ",.2f"
        rows.append((quantity, *(figure(figures[s], form) for s in SOURCES)))
    table(title, columns, rows)
    rows = [
        (unit, *(figure(figures[s], ",.0f") for s in ("estimated", "simulated", "synthesized")))
        for unit, figures in found.cycles.items()
    ]
    title = "Cycles of a frame in which each unit works; units overlap"
    table(title, ("unit", "estimated", "simulated", "at the synthesized intervals"), rows)
    kinds = [k for k in SIZES if k != "URAM" or found.board.uram]
    rows = [
        (f"[bold]{unit}[/]" if unit == "engine" else unit, *(_trio(sizes[kind]) for kind in kinds))
        for unit, sizes in found.size.items()
    ]
    rows.append(("the board has", *(f"{found.available[kind]:,}" for kind in kinds)))
    table("Size: estimated / synthesized / post-route", ("unit", *kinds), rows)
    if found.loops:
        table("Initiation intervals of pipelined loops", ("loop", "", "promised", "synthesized", "depth"),
              [_loop(verdict) for verdict in found.loops], left=2)  # fmt: skip
    if found.timing is not None:
        state = "met" if found.timing.met else "[bold red]not met[/]"
        clocks = ", ".join(f"{name} {period:g} ns" for name, period in found.timing.clocks.items())
        out.print(
            f"Timing {state}: worst slack {found.timing.wns:g} ns (hold {found.timing.whs:g}), {escape(clocks)}."
        )
    if found.power is not None:
        out.print(
            f"Power after routing, Vivado's estimate: {found.power.total:.2f} W, of which {found.power.static:.2f} W "
            f"static; confidence {escape(found.power.confidence)}."
        )
    for text in found.notes:
        note(text)


def _trio(figures: Figures) -> str:
    shown = [figures["estimated"], figures["synthesized"], figures["post-route"]]
    if all(value is None for value in shown):
        return "-"
    return " / ".join(figure(value, ",g" if value == round(value or 0, 1) else ",.1f") for value in shown)


def _loop(verdict: Verdict) -> tuple[str, ...]:
    promise = verdict.promise
    found = sorted(
        {("?" if f.ii is None else str(f.ii)) if f.pipelined else "not pipelined" for f in verdict.found}
    )
    depths = sorted({f.depth for f in verdict.found if f.depth is not None})
    colour = {"met": "green", "differs": "bold red", "missing": "bold red"}[verdict.state]
    said = ", ".join(found) or "in no report"
    return (
        f"{promise.function}: {promise.label}",
        f"[{colour}]{verdict.state}[/]",
        "any" if promise.ii is None else str(promise.ii),
        said,
        ", ".join(map(str, depths)) or "-",
    )
