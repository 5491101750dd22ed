"""Verbs that run the C++ and compare: csim, verify."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from codesign.cli_common import (
    FAILED,
    Json,
    err,
    fail,
    note,
    print_json,
    table,
    tracked,
    verb,
    working,
    write_beside,
)


class Kind(str, Enum):
    native = "native"
    ap = "ap"
    sanitize = "sanitize"


# `--images a.png b.png`: an option takes one value, so the others arrive as arguments.
More = Annotated[
    list[Path] | None, typer.Argument(metavar="IMAGE", help="More pictures.", show_default=False)
]


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  codesign csim bundle --images a.jpg b.jpg -o maps")(csim)
    app.command(epilog="Example:  codesign verify bundle --json")(verify)


@verb
def csim(
    bundle: Annotated[Path, typer.Argument(help="A bundle directory that `codesign build` made.")],
    more: More = None,
    images: Annotated[list[Path] | None, typer.Option("--images", "-i", help="Pictures of any size.")] = None,
    kind: Annotated[
        Kind, typer.Option(help="Types of the C++: native integers, or Xilinx's ap_int.")
    ] = Kind.native,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write raw maps as NAME.npz here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the accelerator's C++ on pictures and show its raw integer maps.

    Maps are integers (height, width, channels); digests of equal maps are equal on every machine.
    """
    import numpy as np

    from codesign.bundle import load
    from codesign.cli_detect import file_names, read_all
    from codesign.parallel import in_order
    from codesign.rungs import csim_runner

    def simulated(picture: Any) -> tuple[dict[str, Any], float]:
        start = time.perf_counter()
        maps = {k: np.ascontiguousarray(v) for k, v in runner.maps(picture).items()}
        return maps, time.perf_counter() - start

    found = load(bundle)
    paths = [*(images or []), *(more or [])]
    if not paths:
        fail("codesign csim: no picture given, expected at least one. Add --images photo.jpg.")
    pictures = read_all(paths)
    with working("Compiling the C++ (once for each design)"):
        runner = csim_runner(found, kind.value)
    records: list[dict[str, Any]] = []
    every = tracked(in_order(simulated, pictures, runner.threads), "Simulating", len(pictures))
    for name, (maps, seconds) in zip(file_names(paths), every, strict=True):
        if output is not None:
            stream = io.BytesIO()
            np.savez_compressed(stream, allow_pickle=False, **maps)
            write_beside(output / f"{name}.npz", stream.getvalue())
        for key, array in maps.items():
            digest = hashlib.sha256(array.astype("<i4").tobytes()).hexdigest()[:16]
            record = {"picture": name, "output": key, "shape": list(array.shape), "sha256": digest}
            records.append(
                record | {"min": int(array.min()), "max": int(array.max()), "seconds": round(seconds, 4)}
            )
    if as_json:
        print_json(records)
        return
    rows = [
        (r["picture"], r["output"], "x".join(map(str, r["shape"])), r["sha256"], str(r["min"]), str(r["max"]))
        + (f"{r['seconds'] * 1000:.0f}",)
        for r in records
    ]
    table(
        f"C simulation, {kind.value} types",
        ("picture", "map", "shape", "digest", "min", "max", "ms"),
        rows,
        4,
    )


@verb
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle directory that `codesign build` made.")],
    more: More = None,
    images: Annotated[
        list[Path] | None,
        typer.Option("--images", "-i", help="Pictures to compare on (else: shipped ones and noise)."),
    ] = None,
    lanes: Annotated[
        str,
        typer.Option(
            metavar="N,N,...",
            help="Also plan for these numbers of lanes: 1, 2, 4, 8, 16 (else the bundle's only).",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Compare every rung of the ladder with the one before, bit for bit. Exit code 1 on any difference.

    From the model's torch figures (quoted from its card) over onnxruntime and the integer graph to the bundle's own
    C++, with native and with ap_int types. What cannot be run here says so.
    """
    from codesign.bundle import is_streaming, load
    from codesign.difference import failed
    from codesign.hls4ml import project
    from codesign.hls4ml import verify as streaming
    from codesign.ladder import climb

    counts = _lanes(lanes)
    if is_streaming(bundle):
        if counts:
            fail(f"--lanes: {bundle} holds a design of hls4ml, which has none. Leave it out.")
        design = project.load(bundle)
        pictures = _pictures([*(images or []), *(more or [])])
        with working("Verifying") as say:
            rungs = streaming.climb(design, pictures, say)
    else:
        found = load(bundle)
        pictures = _pictures([*(images or []), *(more or [])])
        with working("Verifying") as say:
            rungs = climb(found, pictures, say, counts)
    if as_json:
        print_json([asdict(r) for r in rungs])
    else:
        show_ladder(rungs, str(bundle))
    if failed(rungs):
        raise typer.Exit(FAILED)


def _lanes(text: str) -> list[int]:
    """`1,2,4` as numbers, each once."""
    from codesign.board import LANES

    allowed = {str(lanes): lanes for lanes in LANES}
    parts = [part.strip() for part in text.split(",")] if text else []
    wrong = [part for part in parts if part not in allowed]
    if wrong:
        fail(
            f"--lanes: {', '.join(map(repr, wrong))}, expected numbers out of {', '.join(allowed)}. "
            "Separate them by commas."
        )
    return list(dict.fromkeys(allowed[part] for part in parts))


def _pictures(images: Sequence[Path]) -> list[Any]:
    from codesign.cli_detect import read_all
    from codesign.shipped import samples

    return read_all(images or samples()[:1])


MARKS = {
    "ok": "[green]✓ ok[/]",
    "fail": "[bold red]✗ FAIL[/]",
    "quoted": "[cyan]quoted[/]",
    "not run": "[dim]not run[/]",
}


def show_ladder(rungs: Sequence[Any], title: str) -> None:
    """The ladder as a table; what differs is said again on stderr."""
    rows = []
    for rung in rungs:
        against = "-" if rung.against is None else str(rung.against)
        said = escape(rung.note.partition("\n")[0])
        counts = (f"{rung.compared:,}", f"{rung.different:,}") if rung.compared else ("-", "-")
        rows.append((str(rung.number), rung.name, against, MARKS[rung.status], said, *counts))
    table(
        f"Ladder of {title}",
        ("#", "rung", "against", "status", "note", "compared", "different"),
        rows,
        left=5,
    )
    for rung in rungs:
        if rung.status == "fail":
            err.print(f"[bold red]rung {rung.number} differs:[/] {escape(rung.note)}")
    if not any(r.status == "fail" for r in rungs):
        note("No difference between the rungs that were run.")
