"""Verbs that look at pictures: detect, demo."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from codesign.cli_common import (
    FAILED,
    Json,
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

Score = Annotated[float, typer.Option("--score", min=0.0, max=1.0, help="Lowest score to show.")]


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  codesign detect bundle photo.jpg other.png -o out")(detect)
    app.command(epilog="Example:  codesign demo -o demo")(demo)


@verb
def detect(
    bundle: Annotated[Path, typer.Argument(help="A bundle directory that `codesign build` made.")],
    images: Annotated[list[Path], typer.Argument(help="Pictures of any size and kind.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Directory for pictures and detections.json.")
    ],
    score: Score = 0.3,
    as_json: Json = False,
) -> None:
    """Find objects in pictures with the simulated accelerator, and draw them.

    Writes NAME.png for every picture, and detections.json in COCO result format (boxes x, y, width, height).
    """
    from codesign.bundle import load
    from codesign.rungs import csim_runner

    found_bundle = load(bundle)
    pictures = read_all(images)
    with working("Compiling the C++ (once for each design)"):
        runner = csim_runner(found_bundle)
    results, rows = _detect(runner, pictures, images, output, score)
    if as_json:
        print_json(results)
    else:
        table("Detections", ("picture", "objects", "best"), rows, left=1)
        note(f"Pictures and detections.json are in {output}.")


def read_all(paths: Sequence[Path]) -> list[Any]:
    """All pictures, or one error that names every unreadable one."""
    from codesign.errors import DataError
    from codesign.images import read_image

    pictures, problems = [], []
    for path in paths:
        try:
            pictures.append(read_image(path))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n  ".join(problems))
    return pictures


def _detect(
    runner: Any, pictures: Sequence[Any], paths: Sequence[Path], output: Path, score: float
) -> tuple[list[dict[str, Any]], list[tuple[str, ...]]]:
    from codesign.decode import coco_results
    from codesign.draw import draw
    from codesign.parallel import in_order

    results: list[dict[str, Any]] = []
    drawn: list[tuple[str, Any]] = []
    rows: list[tuple[str, ...]] = []
    classes = runner.detector.classes
    every = in_order(lambda picture: runner.detect(picture).above(score), pictures, runner.threads)
    every = tracked(every, "Detecting", len(pictures))
    for name, picture, found in zip(file_names(paths), pictures, every, strict=True):
        results += coco_results(found, name, classes)
        drawn.append((name, draw(picture, found, classes)))
        best = f"{classes[found.labels[0]]} {found.scores[0]:.2f}" if len(found) else "-"
        rows.append((name, str(len(found)), best))
    for name, picture in drawn:
        write_beside(output / f"{name}.png", _png(picture))
    write_beside(output / "detections.json", (json.dumps(results, indent=1) + "\n").encode())
    return results, rows


def file_names(paths: Sequence[Path]) -> list[str]:
    """One file name stem a picture; equal ones are numbered."""
    seen: dict[str, int] = {}
    names = []
    for path in paths:
        count = seen[path.stem] = seen.get(path.stem, 0) + 1
        names.append(path.stem if count == 1 else f"{path.stem}-{count}")
    return names


def _png(picture: Any) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", optimize=True)
    return stream.getvalue()


@verb
def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Directory for everything the demo makes.")
    ] = Path("demo"),
    model: Annotated[str, typer.Option(help="A shipped model.")] = "codenet-a",
    board: Annotated[str, typer.Option(help="The board to build for.")] = "ultra96",
    score: Score = 0.3,
) -> None:
    """All of it, on a shipped model: build, simulate the C++, compare every rung, find objects, draw them.

    Needs the base install alone. Ends with detections.png, detections.json and the ladder. Exit code 1 if
    any rung differs.
    """
    from codesign.bundle import load
    from codesign.cli_compile import build_bundle
    from codesign.cli_verify import show_ladder
    from codesign.decode import coco_results
    from codesign.difference import failed
    from codesign.draw import draw, sheet
    from codesign.ladder import climb
    from codesign.rungs import csim_runner
    from codesign.shipped import samples

    paths = samples()
    if not paths:
        fail(
            "codesign demo: no sample pictures in this installation. Use `codesign build` and `codesign detect`."
        )
    pictures = read_all(paths)
    start = time.perf_counter()
    with working(f"Building {model} for {board}") as say:
        facts = build_bundle(model, output / "bundle", board, say=say)
        bundle = load(output / "bundle")
        say("Compiling the C++")
        runner = csim_runner(bundle)
    shape = "x".join(map(str, facts["array"]))
    out.print(
        f"[bold]1[/] built {model} for {board}: {facts['steps']} steps, {facts['lanes']} lanes, array {shape}"
    )
    found = [runner.detect(p).above(score) for p in tracked(pictures, "Simulating the C++")]
    classes = runner.detector.classes
    drawn = [draw(p, f, classes) for p, f in zip(pictures, found, strict=True)]
    entries = [coco_results(f, n, classes) for f, n in zip(found, file_names(paths), strict=True)]
    write_beside(output / "detections.png", _png(sheet(drawn)))
    write_beside(output / "detections.json", (json.dumps(sum(entries, []), indent=1) + "\n").encode())
    out.print(f"[bold]2[/] simulated {len(pictures)} pictures: {sum(map(len, found))} objects")
    for name, mine in zip(file_names(paths), entries, strict=True):
        said = ", ".join(f"{e['category']} {e['score']:.2f}" for e in mine) or "nothing"
        out.print(f"  {escape(name)}: {escape(said)}")
    with working("Comparing the rungs") as say:
        rungs = climb(bundle, pictures[:1], say)
    out.print("[bold]3[/] compared every rung with the one before")
    show_ladder(rungs, model)
    out.print(
        f"{output / 'detections.png'}, {output / 'detections.json'}: {time.perf_counter() - start:.0f} s in all"
    )
    if failed(rungs):
        raise typer.Exit(FAILED)
