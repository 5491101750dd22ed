"""The verb that predicts: estimate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from codesign.cli_common import FAILED, Json, err, note, out, print_json, table, verb, working, write_beside


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  codesign estimate bundle --picture roofline.png")(estimate)


@verb
def estimate(
    bundle: Annotated[Path, typer.Argument(help="A bundle directory that `codesign build` made.")],
    board: Annotated[
        str | None, typer.Option(help="A board's name, or the path of its TOML (else the bundle's).")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Write the roofline here, as PNG.")] = None,
    as_json: Json = False,
) -> None:
    """Estimate speed and size from the bundle's program: cycles, frames/s, DRAM bytes, DSP, BRAM, and what limits.

    Every figure is estimated, none is measured. Exit code 1 if the design is over the board's budget.
    """
    from codesign.board import bundle_board, load_board
    from codesign.bundle import MANIFEST, load
    from codesign.dram import ASSUMPTIONS
    from codesign.estimate import KIND
    from codesign.estimate import estimate as estimated
    from codesign.resources import NOT_COUNTED, budget, over_budget, resources

    with working("Counting"):
        found = load(bundle)
        facts = load_board(board) if board else bundle_board(bundle, found.board)
        names = json.loads((bundle / MANIFEST).read_text(encoding="utf-8")).get("nodes", ())
        cost = estimated(found.program, found.config, facts, names)
        parts = resources(found.config)
        excess = over_budget(found.config, facts)
    if picture is not None:
        from codesign.roofline import picture as drawn

        write_beside(picture, drawn(cost, facts))
    if as_json:
        used = {what: {"needs": need, "has": have} for what, need, have in budget(parts, facts)}
        units = {u.name: {"DSP": u.dsps, "BRAM18": u.bram18, "LUT": u.luts} for u in parts.units}
        size = {
            "kind": KIND,
            "budget": used,
            "units": units,
            "not_counted": NOT_COUNTED,
            "over_budget": excess,
        }
        print_json(cost.to_json() | {"resources": size})
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
        units_of = [
            (u.name, str(u.dsps or ""), f"{u.bram18 / 2:g}" if u.bram18 else "", str(u.luts or ""))
            for u in parts.units
        ]
        dsps, blocks, _, luts = (f"{need} of {have}" for _, need, have in budget(parts, facts))
        units_of.append(("[bold]all[/]", dsps, blocks, luts))
        table(f"Size, {KIND}", ("unit", "DSP", "BRAM36", "LUT"), units_of)
        note(f"Assumed: {ASSUMPTIONS}. Not counted: {NOT_COUNTED}.")
        if picture is not None:
            out.print(f"Roofline: {escape(str(picture))}")
    if excess:
        err.print(f"[bold red]over budget:[/] {escape(excess)}")
        raise typer.Exit(FAILED)


def _short(name: str) -> str:
    """The nodes of a step without the requantization that follows each."""
    nodes = name.split(" + ")
    return " + ".join(n for i, n in enumerate(nodes) if i == 0 or n != f"{nodes[i - 1]}.q")
