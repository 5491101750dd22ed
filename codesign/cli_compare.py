"""The verb that finds a bad layer: compare."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from codesign.cli_common import (
    FAILED,
    Json,
    err,
    fail,
    finite,
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
    from codesign.compare import Comparison
    from codesign.compare_figures import Figures, Range
    from codesign.trace import Real, Tracer

SHOWN = 15  # layers in the table
SCALED = 5  # layers that differ by factors: more than one bad layer makes
NOISE = 2  # frames of noise where the input is no picture


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  codesign compare float.onnx model.onnx --images a.jpg -o compared")(compare)


@verb
def compare(
    a: Annotated[
        str,
        typer.Argument(metavar="A[@RUNG]", help="The reference: a model.onnx, a bundle or a shipped model."),
    ],
    b: Annotated[str, typer.Argument(metavar="B[@RUNG]", help="What is compared with it.")],
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "--images", "-i", help="Pictures of any size; may be repeated (else a shipped one and noise)."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Pictures of a data set, as `codesign eval` takes it.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many pictures of --data.")] = 8,
    equalized: Annotated[
        bool,
        typer.Option(
            "--equalized", help="B's channels may be scaled, as equalization does: scale A's alike first."
        ),
    ] = False,
    layers: Annotated[int, typer.Option(min=1, help="So many layers in the table.")] = SHOWN,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write overview.png, worst.png and compare.json here."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Where two models, or two rungs of one, differ: layer by layer, the layer where most is lost first.

    \b
    Rungs (MODEL@RUNG):
      onnx          the file as it is in onnxruntime: float, or fake-quantized
      integer       the integer graph in numpy (a quantized file, unless told otherwise)
      onnx-integer  the integer-valued ONNX in onnxruntime
      csim          the C++ with native types (a bundle, unless told otherwise)
      csim-ap       the C++ with ap_int types

    Layers are matched by name; those left over in order, where kind and shape agree. "Alone" is the loss of a layer
    itself: A's layer on B's inputs against B's result (or B's layer on A's inputs where A is float). Rungs of one
    model must not differ in any value: exit code 1 if they do.
    """
    from codesign.compare import channel_factors
    from codesign.compare import compare as compared
    from codesign.trace_rungs import open_sides

    with working("Preparing both sides"):
        side_a, side_b = open_sides(a, b)
    feeds = list(_feeds(side_a, side_b, images or [], data, limit))
    factors = channel_factors(side_a, side_b, tracked(feeds, "Scaling")) if equalized else None
    found = compared(side_a, side_b, tracked(feeds, "Comparing"), factors)
    content = _json(found)
    if output is not None:
        from codesign.compare_pictures import overview, worst_layers

        pictures = {"overview.png": overview(found), "worst.png": worst_layers(found)}
        for name, png in pictures.items():
            write_beside(output / name, png)
        write_beside(output / "compare.json", (json.dumps(finite(content), indent=1) + "\n").encode())
    if as_json:
        print_json(content)
    else:
        _tables(found, layers)
        if output is not None:
            note(f"{output}: overview.png, worst.png and compare.json")
    if found.must_agree and found.different:
        err.print(f"[bold red]differs:[/] {escape(_first(found))}")
        raise typer.Exit(FAILED)


def _feeds(
    a: Tracer, b: Tracer, images: list[Path], data: str | None, limit: int
) -> Iterator[Mapping[str, Real]]:
    """Real inputs of both sides: pictures where they take pictures, else noise over all codes."""
    import numpy as np

    from codesign.cli_detect import read_all
    from codesign.images import letterbox, to_codes
    from codesign.shipped import samples
    from codesign.trace import input_grid

    shapes, generator = a.inputs, np.random.default_rng(0)
    grids = {name: input_grid(a, b, k) for k, name in enumerate(shapes)}

    def noise() -> dict[str, Real]:
        return {
            name: grid.real(generator.integers(grid.lo, grid.hi + 1, (1, *shapes[name])))
            for name, grid in grids.items()
        }

    ((name, shape), *others) = shapes.items()
    takes_pictures = (
        not others and shape[2] == 3 and (grids[name].lo, grids[name].hi) in ((-128, 127), (0, 255))
    )
    if not takes_pictures:
        if images or data:
            shown = ", ".join(f"{n} {list(s)}" for n, s in shapes.items())
            fail(f"{a.title}: its inputs are {shown}, expected one picture. Leave out --images and --data.")
        note("The input is no picture: compared on noise.")
        yield from (noise() for _ in range(NOISE))
        return
    if data is not None:
        from quant.data import load

        dataset = load(data)
        pictures = [dataset[i].image for i in range(min(len(dataset), limit))]
    else:
        pictures = []
    pictures += read_all(images)
    chosen = pictures or read_all(samples()[:1])
    for picture in chosen:
        codes = to_codes(letterbox(picture, *shape[:2])[0], grids[name].lo < 0)
        yield {name: grids[name].real(codes[None])}
    if not pictures:
        yield noise()


def _json(found: Comparison) -> dict[str, Any]:
    """Infinite decibels (no difference at all) become null, which JSON has."""
    rank = {id(f): i for i, f in enumerate(found.ranked, start=1)}
    return {
        "a": found.a.title,
        "b": found.b.title,
        "pictures": found.pictures,
        "values": found.values,
        "different": found.different,
        "must_agree": found.must_agree,
        "matched": {
            "by_name": found.matching.by_name,
            "in_order": found.matching.in_order,
        },
        "only_a": found.matching.only_a,
        "only_b": found.matching.only_b,
        "unseen": found.unseen,
        "layers": [{"rank": rank[id(f)], **_entry(f)} for f in found.layers],
    }


def _entry(f: Figures) -> dict[str, Any]:
    channel = f.worst_channel
    return {
        "name": f.b.name,
        "name_in_a": f.a.name,
        "operator": f.b.op,
        "shape": f.b.shape,
        "values": f.values,
        "different": f.different,
        "sqnr_db": f.sqnr,
        "alone_db": f.alone,
        "fitted_db": f.fitted,
        "alone_is_measured": f.alone_known,
        "inputs_db": _inputs(f),
        "max_difference": f.worst,
        "max_difference_lsb": None if f.lsb is None else f.worst / f.lsb,
        "worst_channel": None if channel is None else {"channel": channel[0], "share_of_noise": channel[1]},
        "range_a": _range(f.range_a),
        "range_b": _range(f.range_b),
    }


def _inputs(f: Figures) -> float:
    """SQNR of the worst input; infinite where there is no noise, nan where none is known."""
    if f.inputs_noise is None:
        return math.nan
    return -10 * math.log10(f.inputs_noise) if f.inputs_noise else math.inf


def _range(of: Range | None) -> dict[str, Any] | None:
    if of is None:
        return None
    clipped = None if of.clipped is None else {"below": of.clipped.below, "above": of.clipped.above}
    return {
        "scale": of.grid.scale, "type": str(of.grid.elem), "limits": [of.grid.lo, of.grid.hi],
        "codes": [of.low, of.high], "used": of.used, "clipped": clipped,
    }  # fmt: skip


def _tables(found: Comparison, most: int) -> None:
    from codesign.compare_pictures import decibel_text

    rows = []
    for i, f in enumerate(found.ranked[:most], start=1):
        channel = f.worst_channel
        lsb = "-" if f.lsb is None else f"{f.worst / f.lsb:.3g}"
        inputs = "-" if f.inputs_noise is None else decibel_text(_inputs(f))
        rows.append(
            (str(i), escape(f.b.name), f.b.op, decibel_text(f.alone), decibel_text(f.sqnr), inputs, lsb)
            + (_clipped(f, f.range_b or f.range_a), _used(f.range_b or f.range_a))
            + ("" if channel is None else f"{channel[0]}: {channel[1]:.0%}",)
        )
    table(
        f"A {found.a.title}, B {found.b.title}: {len(found.layers)} layers, {found.pictures} pictures, worst first",
        (
            "",
            "layer",
            "operator",
            "alone",
            "SQNR",
            "inputs",
            "max LSB",
            "clipped",
            "used",
            "noisiest channel",
        ),
        rows,
        left=3,
    )
    out.print(f"[bold]{found.different:,} of {found.values:,}[/] values differ.")
    if found.different:
        out.print(f"Most is lost in [bold]{escape(found.ranked[0].b.name)}[/].")
    matching = found.matching
    left = [
        f"{len(names)} only in {side}"
        for side, names in (("A", matching.only_a), ("B", matching.only_b))
        if names
    ]
    if found.equalized >= SCALED:
        note(
            f"{found.equalized} layers differ mostly by a factor per channel, as equalization leaves them: if B was "
            "equalized, add --equalized."
        )
    if found.unseen:
        left.append(f"{len(found.unseen)} are only addresses in the simulation")
    note(
        f"Matched {matching.by_name} by name, {matching.in_order} in order"
        + (f"; {', '.join(left)} (--json names them)" if left else "")
        + ". Clipped: below / above the codes of B, in % of values; below 0 a ReLU does so on purpose."
    )


def _clipped(f: Figures, of: Range | None) -> str:
    if of is None or of.clipped is None:
        return "-"
    below, above = (100 * n / f.values for n in (of.clipped.below, of.clipped.above))
    relu = " ReLU" if of.grid.lo == 0 and of.clipped.below else ""
    return f"{below:.2f}{relu} / {above:.2f}"


def _used(of: Range | None) -> str:
    return "-" if of is None else f"{of.low}..{of.high} {of.used:.0%}"


def _first(found: Comparison) -> str:
    layer = next(f for f in found.layers if f.different)
    return f"first in {layer.b.name}, in {layer.different:,} of {layer.values:,} values; no rung may differ"
