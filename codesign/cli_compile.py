"""Verbs of the compiler: zoo, inspect, build."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.markup import escape

from codesign.cli_common import Json, figure, note, out, print_json, table, verb, working
from codesign.errors import PlanError


class Flow(str, Enum):
    engine = "engine"
    hls4ml = "hls4ml"


class Io(str, Enum):
    stream = "stream"
    parallel = "parallel"


class Pixels(str, Enum):
    unit = "unit"
    pixels = "pixels"


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


PixelsOption = Annotated[
    Pixels | None,
    typer.Option(
        help="The model's image has no quantizer, and is 8-bit pixels as 0..1 (unit) or as they are (pixels)."
    ),
]


@contextmanager
def _given_pixels(model: str, pixels: Pixels | None) -> Iterator[str]:
    """The model; with `pixels` a copy for as long as it is needed, whose image has a quantizer."""
    if pixels is None:
        yield model
        return
    import onnx

    from codesign.errors import ModelRefused
    from codesign.onnx_image import with_image_quantizer
    from codesign.onnx_read import load
    from codesign.shipped import find_model

    where, found = load(find_model(model))
    made = with_image_quantizer(found, pixels.value, where)
    with TemporaryDirectory() as folder:
        path = Path(folder) / Path(where).name
        onnx.save(made, path)
        try:
            yield str(path)
        except ModelRefused as error:
            raise ModelRefused(where, error.problems, error.done) from None


@verb
def inspect(model: Model, pixels: PixelsOption = None, as_json: Json = False) -> None:
    """Show every layer: its integers, its multiply-accumulates, and the step of the engine that runs it.

    A model that cannot be compiled is refused with every reason at once (exit code 2).
    """
    from codesign.layers import IN_ADDRESSES, layers, places
    from codesign.onnx_io import import_model
    from codesign.plan import plan
    from codesign.shipped import find_model

    with working("Reading the model"), _given_pixels(model, pixels) as given:
        graph = import_model(find_model(given))
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
        int | None, typer.Option(help="Bytes a word: 1, 2, 4, 8 or 16 (else the fastest that fits).")
    ] = None,
    array: Annotated[
        str | None,
        typer.Option(
            help="PIXELSxTURNS: pixels computed at once, and turns for a word of outputs (else the fastest that fits)."
        ),
    ] = None,
    flow: Annotated[
        Flow,
        typer.Option(
            help="An engine and its program, or one streaming design of hls4ml for a small network."
        ),
    ] = Flow.engine,
    io: Annotated[Io, typer.Option(help="How the layers of hls4ml's design are joined.")] = Io.stream,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="MODEL", help="Make the engine large enough for this model, too."),
    ] = None,
    engine: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE", help="Take the engine of this bundle: one bitstream for both (else a new one)."
        ),
    ] = None,
    pixels: PixelsOption = None,
    as_json: Json = False,
) -> None:
    """Compile a model into a bundle: HLS C++, the program the engine walks, weights, manifest.

    The engine is the one that is estimated fastest among those that fit the board. The search takes seconds, once for
    each model and board; --lanes and --array together leave nothing to search, nor a budget. The directory is written
    beside and then renamed: an interrupted build leaves an earlier one as it was.

    With --flow hls4ml every layer is hardware of its own: small networks only, and a refusal names what is too large.
    `verify` and `report` read what it writes.
    """
    if flow is Flow.hls4ml:
        if lanes is not None or array is not None:
            raise PlanError("--flow hls4ml: has neither lanes nor an array. Leave --lanes and --array out.")
        if also or engine is not None:
            raise PlanError("--flow hls4ml: has no engine to share. Leave --also and --engine out.")
        with _given_pixels(model, pixels) as given:
            _build_streaming(given, output, board, io, as_json)
        return
    with working("Building") as say, _given_pixels(model, pixels) as given:
        facts = build_bundle(given, output, board, lanes, _array(array), say, also or (), engine)
    if as_json:
        print_json(facts)
        return
    out.print(
        f"{escape(str(output))}: {facts['steps']} steps, {facts['lanes']} lanes for {facts['board']}, program "
        f"{facts['program_bytes']:,} bytes, memory {facts['memory_bytes']:,} bytes."
    )
    if facts["choices"]:
        out.print(engine_text(facts))
        note(f"{len(facts['choices'])} engines estimated{' in an earlier search' if facts['kept'] else ''}.")
    note(f"Next: codesign verify {output}")


def _build_streaming(model: str, output: Path, board: str, io: Io, as_json: bool) -> None:
    from codesign.board import load_board
    from codesign.hls4ml.project import build as build_project
    from codesign.onnx_io import import_model
    from codesign.shipped import find_model

    with working("Building") as say:
        facts, path = load_board(board), find_model(model)
        made = build_project(import_model(path), path, output, facts, f"io_{io.value}", say)
    if as_json:
        print_json(made)
        return
    estimated = made["estimated"]
    out.print(
        f"{escape(str(output))}: {estimated['layers']} layers of hls4ml {made['hls4ml']} for {facts.name}, backend "
        f"{made['backend']}; {sum(estimated['multipliers'].values()):,} multipliers, FIFOs of "
        f"{estimated['bram36']:g} of {facts.bram36} BRAM36 estimated."
    )
    if made["instead"]:
        note(f"An IP core, no bitstream: {made['instead']}.")
    note(f"Next: codesign verify {output}")


def engine_text(facts: dict[str, Any]) -> str:
    """What a search took; then the next best, and where the board's budget ends."""
    (taken, *others), budget = facts["choices"], facts["budget"]
    names = (("DSP", "dsps"), ("BRAM36", "bram36"), ("LUT", "luts"))
    size = ", ".join(f"{taken[k]:,} of {budget[what]:,} {what}" for what, k in names)
    text = f"Engine: {taken['engine']}: {taken['frames_per_s']:.1f} frames/s estimated, {size}.\n"
    if others:
        larger = ", but larger" if others[0]["frames_per_s"] > taken["frames_per_s"] else ""
        text += f"Next best: {others[0]['engine']}: {others[0]['frames_per_s']:.1f} frames/s{larger}. "
    return text + (f"The budget ends: {facts['end']}." if facts["end"] else "No larger engine is faster.")


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
    say: Callable[[str], None] = lambda text: None,
    also: Sequence[str] = (),
    engine: Path | None = None,
) -> dict[str, Any]:
    """The work of `build`, which `demo` does too. Returns what there is to say about the bundle.

    Lanes and array that are not given are searched; `say` hears how far that is. The engine holds the models of `also`,
    too; or it is that of the bundle `engine`, and the board is that bundle's.
    """
    from codesign.board import CARRIED, bundle_board, load_board
    from codesign.budget import placed
    from codesign.bundle import load, write
    from codesign.emit import sources
    from codesign.explore import explore
    from codesign.onnx_io import import_model
    from codesign.plan import plan
    from codesign.room import with_maps
    from codesign.shared_engine import holding, planned_for, take_synthesis
    from codesign.shipped import find_model

    shared = load(engine) if engine is not None else None
    facts = bundle_board(shared.directory, shared.board) if shared is not None else load_board(board)
    path = find_model(model)
    graph = import_model(path)
    others = {name: import_model(find_model(name)) for name in also}
    searched: dict[str, Any] = {"choices": [], "end": "", "kept": False}
    apart: tuple[str, ...] = ()
    if shared is not None:
        if lanes is not None or array is not None or others:
            raise PlanError("--engine: leaves nothing to --lanes, --array and --also. Leave them out.")
        made = planned_for(graph, shared)
    elif lanes is not None and array is not None:
        made = plan(graph, lanes, array=array)
        made = made.on(with_maps(placed(made.config, facts), made.most_near, facts, made.most_steering))
    else:
        found = explore(graph, facts, lanes, array, say)
        made, apart = found.plan, found.apart
        searched = {"choices": [c.to_json() for c in found.choices], "end": found.end, "kept": found.kept}
    if others and (config := holding(made.config, others, facts)) != made.config:
        made = plan(graph, config=config, apart=apart)
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
    if shared is not None:
        take_synthesis(shared.directory, output)
    return {
        "bundle": str(output),
        "board": facts.name,
        "lanes": program.lanes,
        "arrays": made.config.arrays,
        "array": [made.config.pixels, made.config.turns],
        "budget": {"DSP": facts.dsps, "BRAM36": facts.bram36, "LUT": facts.luts},
        "steps": len(program.steps),
        "program_bytes": int(program.encode().size),
        "memory_bytes": program.memory_words * program.lanes,
        **searched,
    }
