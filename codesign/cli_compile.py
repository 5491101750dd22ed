"""Verbs of the compiler: zoo, inspect, build."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from codesign.cli_common import Json, figure, note, out, print_json, table, verb, working
from codesign.errors import PlanError

SHOWN = 5  # engines of a search
Model = Annotated[str, typer.Argument(help="A model.onnx, a bundle, or the name of a shipped model.")]


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  codesign zoo")(zoo)
    app.command(epilog="Example:  codesign inspect codenet-tiny")(inspect)
    app.command(epilog="Example:  codesign build codenet-a --board ultra96 -o bundle")(build)


@verb
def zoo(as_json: Json = False) -> None:
    """List the trained models that come with the package, with their accuracy."""
    from codesign.shipped import models

    shipped = models()
    if as_json:
        print_json([{"name": m.name, "path": str(m.path), **m.card} for m in shipped])
        return
    rows = []
    for m in shipped:
        ap = [figure(m.ap50(rung)) for rung in ("float", "fake-quant", "integer")]
        data, megabytes = escape(str(m.card.get("data", "-"))), f"{m.path.stat().st_size / 1e6:.1f}"
        rows.append((f"[bold]{m.name}[/]", data, m.input_size(), *ap, megabytes))
    columns = ("model", "trained on", "input", "AP50 float", "fake-quant", "integer", "MB")
    table("Shipped models", columns, rows, left=2)
    note("Each name can be given to inspect, build and eval.")


@verb
def inspect(model: Model, as_json: Json = False) -> None:
    """Show every layer: its integers, its multiply-accumulates, and the step of the engine that runs it.

    A model that cannot be compiled is refused with every reason at once (exit code 2).
    """
    from codesign.layers import IN_ADDRESSES, layers, places
    from codesign.onnx_io import import_model
    from codesign.plan import plan
    from codesign.shipped import find_model

    with working("Reading the model"):
        graph = import_model(find_model(model))
        found = layers(graph)
        where = places(plan(graph).program)
    if as_json:
        print_json([{**asdict(la), "runs_in": where.get(la.name, IN_ADDRESSES)} for la in found])
        return
    rows = [
        (escape(la.name), la.op, "x".join(map(str, la.shape)), la.output, la.weight, la.accumulator)
        + (f"{la.macs:,}" if la.macs else "", f"{la.parameters:,}" if la.parameters else "")
        + (where.get(la.name, IN_ADDRESSES),)
        for la in found
    ]
    columns = ("layer", "operator", "output", "bits", "weights", "sums", "MACs", "parameters", "runs in")
    table(f"{model}: {len(found)} layers", columns, rows, left=6)
    out.print(
        f"{sum(la.macs for la in found) / 1e6:,.1f} M multiply-accumulates an image, "
        f"{sum(la.parameters for la in found):,} parameters. Everything runs in the accelerator, nothing is refused."
    )


@verb
def build(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="The bundle directory to write.")],
    board: Annotated[str, typer.Option(help="A board's name, or the path of its TOML.")] = "ultra96",
    lanes: Annotated[
        int | None, typer.Option(help="Bytes a word: 1, 2, 4, 8 or 16 (else the board's).")
    ] = None,
    array: Annotated[
        str | None,
        typer.Option(
            help="PIXELSxTURNS: pixels computed at once, and turns for a word of outputs (else 1x1)."
        ),
    ] = None,
    search: Annotated[
        bool,
        typer.Option(
            "--search", help="Take the lanes and the array that are estimated fastest among those that fit."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Compile a model into a bundle: HLS C++, the program the engine walks, weights, manifest.

    The directory is written beside and then renamed: an interrupted build leaves an earlier one as it was. --search
    takes seconds; what it looked at is printed, and all of its figures are estimated.
    """
    with working("Searching and building" if search else "Building"):
        facts = build_bundle(model, output, board, lanes, _array(array), search)
    if as_json:
        print_json(facts)
        return
    if search:
        rows = [
            (
                str(c["lanes"]),
                f"{c['pixels']}x{c['turns']}",
                f"{c['frames_per_s']:.1f}",
                str(c["dsps"]),
                str(c["bram36"]),
            )
            + (f"{c['luts']:,}", "" if c["fits"] else "too large")
            for c in facts["choices"][:SHOWN]
        ]
        head = ("lanes", "array", "frames/s", "DSP", "BRAM36", "LUT", "")
        table(f"{len(facts['choices'])} engines estimated, the first one taken", head, rows)
    out.print(
        f"{escape(str(output))}: {facts['steps']} steps, {facts['lanes']} lanes for {facts['board']}, program "
        f"{facts['program_bytes']:,} bytes, memory {facts['memory_bytes']:,} bytes."
    )
    note(f"Next: codesign verify {output}")


def _array(text: str | None) -> tuple[int, int] | None:
    """(pixels, turns) of PIXELSxTURNS."""
    if text is None:
        return None
    pixels, times, turns = text.partition("x")
    if not (
        times and pixels.isdecimal() and turns.isdecimal() and 1 <= int(pixels) <= 64 and int(turns) >= 1
    ):
        raise PlanError(
            f"--array: {text!r}, expected PIXELSxTURNS, such as 5x2. Use 1x1 for the smallest array."
        )
    return int(pixels), int(turns)


def build_bundle(
    model: str,
    output: Path,
    board: str,
    lanes: int | None = None,
    array: tuple[int, int] | None = None,
    search: bool = False,
) -> dict[str, Any]:
    """The work of `build`, which `demo` does too. Returns what there is to say about the bundle."""
    from codesign.board import CARRIED, load_board
    from codesign.bundle import write
    from codesign.emit import sources
    from codesign.explore import Choice, explore
    from codesign.onnx_io import import_model
    from codesign.plan import plan
    from codesign.shipped import find_model

    facts = load_board(board)
    path = find_model(model)
    graph = import_model(path)
    choices: tuple[Choice, ...] = ()
    if search:
        made, choices = explore(graph, facts, lanes, array)
    else:
        made = plan(graph, lanes or facts.lanes, array=array or (1, 1))
    program = made.program
    write(
        output,
        made.config,
        program,
        sources(made.config),
        path,
        board=facts.name,
        scales=graph.scales,
        meta=graph.meta,
        carried={CARRIED: facts.own} if facts.own else {},
    )
    return {
        "bundle": str(output),
        "board": facts.name,
        "lanes": program.lanes,
        "array": [made.config.pixels, made.config.turns],
        "choices": [c.to_json() for c in choices],
        "steps": len(program.steps),
        "program_bytes": int(program.encode().size),
        "memory_bytes": program.memory_words * program.lanes,
    }
