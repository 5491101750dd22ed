"""Verbs of the compiler: zoo, inspect, build."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from codesign.cli_common import Json, figure, note, out, print_json, table, verb, working

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
        rows.append(
            (f"[bold]{m.name}[/]", escape(str(m.card.get("data", "-"))), m.size(), *ap, m.megabytes())
        )
    columns = ("model", "trained on", "input", "AP50 float", "fake-quant", "integer", "MB")
    table("Shipped models", columns, rows, left=2)
    note("Each name can be given to inspect, build and eval.")


@verb
def inspect(model: Model, as_json: Json = False) -> None:
    """Show every layer: its integers, its multiply-accumulates, and the step of the engine that runs it.

    A model that cannot be compiled is refused with every reason at once (exit code 2).
    """
    from codesign.layers import layers
    from codesign.onnx_io import load_graph
    from codesign.shipped import find_model

    with working("Reading the model"):
        graph = load_graph(find_model(model))
        found = layers(graph)
    if as_json:
        print_json([asdict(layer) for layer in found])
        return
    rows = [
        (escape(la.name), la.op, la.shape, la.bits, la.weight_bits, f"{la.macs:,}" if la.macs else "-")
        + (f"{la.parameters:,}" if la.parameters else "-", la.where)
        for la in found
    ]
    table(
        f"{model}: {len(found)} layers",
        ("layer", "operator", "output", "bits", "weights", "MACs", "parameters", "runs in"),
        rows,
        left=5,
    )
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
    as_json: Json = False,
) -> None:
    """Compile a model into a bundle: HLS C++, the program the engine walks, weights, manifest.

    The directory is written beside and then renamed: an interrupted build leaves an earlier one as it was.
    """
    facts = build_bundle(model, output, board, lanes)
    if as_json:
        print_json(facts)
        return
    note(
        f"{output}: {facts['steps']} steps, {facts['lanes']} lanes for {facts['board']}, {facts['bytes']:,} bytes."
    )
    note(f"Next: codesign verify {output}")


def build_bundle(model: str, output: Path, board: str, lanes: int | None = None) -> dict[str, Any]:
    """The work of `build`, which `demo` does too. Returns what there is to say about the bundle."""
    raise AssertionError
