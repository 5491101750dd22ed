"""The verb that predicts: estimate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from codesign.cli_common import (
    FAILED,
    Choose,
    Json,
    chosen_of,
    err,
    fail,
    note,
    out,
    print_json,
    table,
    tracked,
    verb,
    working,
    write_beside,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from codesign.board import Board
    from codesign.bundle import Bundle
    from codesign.cycles import Simulation
    from codesign.estimate import Estimate
    from codesign.latency import Latency, Ways
    from codesign.switch import Decision

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
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="A data spec, as of `codesign eval`: min, mean and max where blocks are skipped.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures of it.")] = None,
    choose: Choose = None,
    as_json: Json = False,
) -> None:
    """Estimate speed and size from the bundle's program: cycles, frames/s, DRAM bytes, DSP, BRAM, and what limits.

    Every figure is estimated or, with --simulate, simulated; none is measured. Where the network skips what a frame
    does not need, the table is of the slowest frame; the fastest is given with it, and --data says what pictures of a
    data set take, and --choose what it would be with other decisions. Exit code 1 if the design is over the
    board's budget, or if its hardware would hang or access a memory more often than it has ports.
    """
    from codesign.board import bundle_board, load_board
    from codesign.budget import budget, over_budget
    from codesign.bundle import MANIFEST, load
    from codesign.dram import ASSUMPTIONS
    from codesign.estimate import KIND
    from codesign.estimate import estimate as estimated
    from codesign.resources import NOT_COUNTED, resources
    from codesign.switch import switched

    with working("Counting"):
        found = load(bundle)
        chosen = chosen_of(found, choose)
        found = replace(found, program=switched(found.program, chosen))
        facts = load_board(board) if board else bundle_board(bundle, found.board)
        names = json.loads((bundle / MANIFEST).read_text(encoding="utf-8")).get("nodes", ())
        cost = estimated(found.program, found.config, facts, names)
        parts = resources(found.config)
        excess = over_budget(found.config, facts)
    ways = _ways(found, facts, names, chosen)
    if data is not None and ways is None:
        fail(
            f"codesign estimate: {bundle} skips nothing, expected a network with branches for --data. Leave it out."
        )
    seen = _of_pictures(ways, data, limit) if ways is not None and data is not None else None
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
        if ways is not None:
            low, high = ways.bounds()
            extra["branches"] = {"kind": KIND, "milliseconds": {"min": low * 1e3, "max": high * 1e3}}
        if seen is not None:
            extra["frames"] = {"data": data, **seen.to_json()}
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
        if ways is not None:
            _frames(ways, seen, data)
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


def _ways(
    bundle: Bundle, board: Board, names: Sequence[Sequence[str]], chosen: Mapping[Decision, str]
) -> Ways | None:
    """What branches of a bundle's program decide; None where it has none."""
    from codesign.latency import Ways, decided
    from codesign.onnx_io import import_model

    if not any(step.branch is not None for step in bundle.program.steps):
        return None
    return Ways(decided(import_model(bundle.model), chosen), bundle.program, bundle.config, board, names)


def _of_pictures(ways: Ways, data: str, limit: int | None) -> Latency:
    """What the pictures of a data set take."""
    from codesign.errors import DataError
    from codesign.images import letterbox, to_codes
    from codesign.rungs import picture_input
    from quant.data import load as load_data

    dataset, name = load_data(data), picture_input(ways.graph, data)
    (height, width, _), elem = ways.graph.inputs[name].shape, ways.graph.inputs[name].elem
    count = min(len(dataset), limit or len(dataset))
    if not count:
        raise DataError(f"{data}: is empty, expected at least one picture. Name another split or directory.")
    return ways.of(
        {name: to_codes(letterbox(dataset[i].image, height, width)[0], elem.signed)[None]}
        for i in tracked(range(count), "Looking")
    )


def _frames(ways: Ways, seen: Latency | None, data: str | None) -> None:
    """The fastest and the slowest frame; and those of a data set."""
    low, high = ways.bounds()
    out.print(
        f"Frames skip what they do not need: {low * 1e3:.2f} to {high * 1e3:.2f} ms estimated, by what branches decide."
    )
    if seen is None:
        return
    shares = ", ".join(f"{escape(name)} {share:.0%}" for name, share in seen.taken.items())
    out.print(
        f"[bold]{seen.least * 1e3:.2f} / {seen.mean * 1e3:.2f} / {seen.most * 1e3:.2f} ms[/] min / mean / max "
        f"estimated over {seen.frames} pictures of {escape(str(data))}. Computed in: {shares}."
    )


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
