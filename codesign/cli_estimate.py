"""The verb that predicts: estimate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from codesign.cli_common import FAILED, Json, err, note, out, print_json, table, verb, working, write_beside

if TYPE_CHECKING:
    from codesign.cycles import Simulation
    from codesign.estimate import Estimate

SIMULATED = "simulated"


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  codesign estimate bundle --picture roofline.png")(estimate)


@verb
def estimate(
    bundle: Annotated[Path, typer.Argument(help="A bundle directory that `codesign build` made.")],
    board: Annotated[
        str | None, typer.Option(help="A board's name, or the path of its TOML (else the bundle's).")
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Also simulate a frame, cycle by cycle. Needs a C++ compiler.")
    ] = False,
    picture: Annotated[Path | None, typer.Option(help="Write the roofline here, as PNG.")] = None,
    as_json: Json = False,
) -> None:
    """Estimate speed and size from the bundle's program: cycles, frames/s, DRAM bytes, DSP, BRAM, and what limits.

    Every figure is estimated or, with --simulate, simulated; none is measured. Exit code 1 if the design is over the
    board's budget, or if its hardware would hang or access a memory more often than it has ports.
    """
    from codesign.board import bundle_board, load_board
    from codesign.budget import budget, over_budget
    from codesign.bundle import MANIFEST, load
    from codesign.dram import ASSUMPTIONS
    from codesign.estimate import KIND
    from codesign.estimate import estimate as estimated
    from codesign.resources import NOT_COUNTED, resources

    with working("Counting"):
        found = load(bundle)
        facts = load_board(board) if board else bundle_board(bundle, found.board)
        names = json.loads((bundle / MANIFEST).read_text(encoding="utf-8")).get("nodes", ())
        cost = estimated(found.program, found.config, facts, names)
        parts = resources(found.config)
        excess = over_budget(found.config, facts)
    counted: Simulation | None = None
    if simulate:
        from codesign.cycles import DesignFailed, of_bundle

        try:
            with working("Simulating"):
                counted = of_bundle(found, facts, names)
        except DesignFailed as error:
            err.print(f"[bold red]error:[/] {escape(str(error))}")
            raise typer.Exit(FAILED) from None
    if picture is not None:
        from codesign.roofline import picture as drawn

        write_beside(picture, drawn(cost, facts))
    if as_json:
        used = {what: {"needs": need, "has": have} for what, need, have in budget(parts, facts)}
        units = {
            u.name: {"DSP": u.dsps, "BRAM18": u.bram18, "URAM": u.uram, "LUT": u.luts, "FF": u.ffs}
            for u in parts.units
        }
        size = {
            "kind": KIND,
            "budget": used,
            "units": units,
            "not_counted": NOT_COUNTED,
            "over_budget": excess,
        }
        extra = {} if counted is None else {"simulated": counted.to_json()}
        print_json(cost.to_json() | {"resources": size} | extra)
    else:
        rows = [
            (
                escape(s.name),
                s.bound,
                f"{s.cycles:,}",
                f"{s.macs:,}",
                f"{s.efficiency:.0%}" if s.array_macs else "",
            )
            + (f"{s.read_bytes:,}", f"{s.written_bytes:,}")
            for s in cost.steps
        ]
        head = ("step", "limited by", "cycles", "MACs", "efficiency", "DRAM read", "written")
        table(f"{bundle}: {KIND} on {facts.name}, {facts.clock_mhz} MHz", head, rows, left=2)
        shares = ", ".join(f"{name} {n / cost.cycles:.0%}" for name, n in cost.by_bound().items())
        out.print(
            f"[bold]{1 / cost.seconds:.1f} frames/s[/] {KIND} ({cost.cycles:,} cycles, {cost.seconds * 1e3:.2f} ms). "
            f"{cost.macs / 1e6:,.1f} M MACs at {cost.efficiency:.0%} of {cost.array} a cycle. "
            f"DRAM {cost.read_bytes / 1e6:.2f} MB read, {cost.written_bytes / 1e6:.2f} MB written.\n"
            f"Time by what limits it: {shares}."
        )
        if counted is not None:
            _beside(cost, counted)
        columns = ("DSP", "BRAM36", "URAM", "LUT", "FF")
        counts = [(u.name, (u.dsps, u.bram18 / 2, u.uram, u.luts, u.ffs)) for u in parts.units]
        dsps, luts = parts.on(facts)
        if parts.products:
            rest = (dsps - parts.dsps, 0, 0, luts - parts.luts, 0)
            counts.append(("products between loops, in DSPs while there are any", rest))
        shown = [(name, *(f"{n:.7g}" if n else "" for n in found)) for name, found in counts]
        shown.append(("[bold]all[/]", *(f"{need} of {have}" for _, need, have in budget(parts, facts))))
        table(f"Size, {KIND}", ("unit", *columns), shown)
        note(f"Assumed: {ASSUMPTIONS}. Not counted: {NOT_COUNTED}.")
        if picture is not None:
            out.print(f"Roofline: {escape(str(picture))}")
    if excess:
        err.print(f"[bold red]over budget:[/] {escape(excess)}")
        raise typer.Exit(FAILED)


def _beside(cost: Estimate, counted: Simulation) -> None:
    """What was simulated, and how far the estimate is from it."""
    rows = [
        (
            escape(s.name), s.bound, f"{s.cycles:,}", f"{s.before:,}",
            f"{e.cycles:,}", f"{e.cycles / s.cycles - 1:+.1%}",
        )
        for s, e in zip(counted.steps, cost.steps, strict=True)
    ]  # fmt: skip
    head = ("step", "limited by", "cycles", "before it begins", "estimated", "off by")
    table(f"The same, {SIMULATED}", head, rows, left=2)
    out.print(
        f"[bold]{1 / counted.seconds:.1f} frames/s[/] {SIMULATED} ({counted.cycles:,} cycles, "
        f"{counted.seconds * 1e3:.2f} ms); estimated {cost.cycles / counted.cycles - 1:+.1%}. "
        f"DRAM {counted.read_bytes / 1e6:.2f} MB read, {counted.written_bytes / 1e6:.2f} MB written. "
        "No memory lacks a port, and no stream deadlocks."
    )
