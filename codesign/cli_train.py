"""Verbs of the torch side: train, quantize, export. They load torch when they are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from codesign.cli_common import (
    Json,
    fail,
    figure,
    needs_torch,
    note,
    print_json,
    table,
    verb,
    working,
)
from codesign.cli_watch import Watch

Folder = Annotated[Path, typer.Argument(help="The folder of a run, as `codesign train` made it.")]


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  codesign train codenet-tiny -o runs/tiny")(train)
    app.command(epilog="Example:  codesign quantize runs/tiny")(quantize)
    app.command(epilog="Example:  codesign export runs/tiny -o model.onnx")(export)


@verb
def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe that ships (codenet-a, codenet-tiny), or a TOML file.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the run; an interrupted one goes on.")
    ],
    data: Annotated[str | None, typer.Option(help="Train on this data spec instead of the recipe's.")] = None,
    held_out: Annotated[
        str | None, typer.Option(help="Measure on this data spec instead of the recipe's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed than the recipe's.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="Begin with the float network of this run, which may know other classes."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a network in float, as a recipe says. Resumes by itself; several processes with torchrun."""
    needs_torch("train")
    from quant.pipeline import train_float
    from quant.recipe import load_recipe

    wanted = load_recipe(recipe)
    given: dict[str, Any] = {"data": data, "held_out": held_out, "seed": seed, "start": start and str(start)}
    wanted = replace(wanted, **{k: v for k, v in given.items() if v is not None})
    with Watch("Training in float") as watch:
        figures = train_float(wanted, output, watch.report, watch.say)
    _show(figures, output, as_json)


@verb
def quantize(
    run: Folder,
    preset: Annotated[
        str | None,
        typer.Option(
            "-p", "--preset", help="Another preset than the recipe's: one that ships, or a TOML file."
        ),
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Find the bits of every layer under --budget or --drop.")
    ] = False,
    budget: Annotated[
        float | None, typer.Option(min=0, help="Of --search: kB (1000 bytes) of weights.")
    ] = None,
    drop: Annotated[
        float | None, typer.Option(min=0, help="Of --search: AP50 lost on validation data; 0.01 is a point.")
    ] = None,
    choices: Annotated[str, typer.Option(help="Of --search: bits a layer may get.")] = "4,8",
    qat: Annotated[
        bool, typer.Option(help="Train with quantization after calibration and bias correction.")
    ] = True,
    data: Annotated[
        str | None, typer.Option(help="Calibrate and train on this data spec instead of the run's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed than the run's.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder of a run of its own, else RUN; of a model.onnx the file to write, else MODEL.w8a8.onnx.",
        ),
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Pictures like those that the network will see.")
    ] = None,
    bits: Annotated[
        int, typer.Option(min=2, max=8, help="Of weights; first, last and depthwise layers keep 8.")
    ] = 8,
    size: Annotated[str | None, typer.Option(metavar="HxW", help="Input size (else the file's).")] = None,
    pixels: Annotated[
        str | None,
        typer.Option(
            help="What the network reads: pixels (0..255), unit (0..1), symmetric (-1..1), or imagenet (mean and std)."
        ),
    ] = None,
    mean: Annotated[str | None, typer.Option(help="Of pixels 0..1, one number or R,G,B.")] = None,
    std: Annotated[str | None, typer.Option(help="Of pixels 0..1, one number or R,G,B.")] = None,
    bgr: Annotated[bool, typer.Option("--bgr", help="The network reads blue first.")] = False,
    detector: Annotated[
        Path | None, typer.Option(help="JSON that says how its heads become boxes: docs/foreign.md.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Names of a classifier's classes, one a line.")] = None,
    as_json: Json = False,
) -> None:
    """Quantize a trained network: fold, calibrate, correct biases, then train with quantization.

    Presets: w4a8 (the default), w8a8, w4a4, w2a8, w4a8-m3, w4a8-dw8 and more: docs/quantization.md says what each is.
    --search measures what narrow weights cost each layer; search.json and search.png in the new folder show it.

    RUN may also be a float model.onnx from elsewhere, which is quantized on the pictures of --calibrate, without
    training and without torch. Options from --calibrate on are for such files.
    """
    if run.suffix == ".onnx":
        if search or any(given is not None for given in (preset, budget, drop, data, seed)):
            fail(
                f"{run}: --preset, --search, --data and --seed are for the folder of a run, not for a model file. "
                "Leave them out."
            )
        from codesign.cli_foreign import quantize_onnx

        quantize_onnx(run, calibrate, output, bits, size, pixels, mean, std, bgr, detector, labels, as_json)
        return
    if run.is_file():
        fail(f"{run}: is neither the folder of a run nor a model.onnx, expected one of them. Check the path.")
    needs_torch("quantize")
    from quant.pipeline import derived, opened, quantize_trained

    recipe = opened(run)
    if not search and (budget is not None or drop is not None):
        fail("codesign quantize: --budget and --drop go with --search. Add --search.")
    if output is None and (search or preset is not None):
        fail("codesign quantize: another preset makes a run of its own. Name its folder with -o.")
    if (seed is not None or data is not None) and (output is None or search):
        fail(
            "codesign quantize: --seed and --data make a run of its own, without --search. Name its folder with -o."
        )
    folder = output or run
    with Watch("Quantizing") as watch:
        if search:
            from quant.search import search as search_bits

            size_of_all = None if budget is None else 1000 * budget
            found = search_bits(run, folder, preset, size_of_all, drop, _choices(choices), watch.say)
            recipe = derived(run, folder, found)
        elif output is not None:
            recipe = derived(run, folder, preset if preset is not None else recipe.preset, seed, data)
        figures = quantize_trained(recipe, folder, watch.report, watch.say, qat)
    _show(figures, folder, as_json)


def _choices(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        fail(f"codesign quantize: --choices is {text!r}, expected whole numbers such as 4,8. Correct it.")


@verb
def export(
    run: Folder,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Model file (else RUN/model.onnx).")
    ] = None,
    qcdq: Annotated[
        bool,
        typer.Option("--qcdq", help="QuantizeLinear and DequantizeLinear nodes instead of QONNX's Quant."),
    ] = False,
    finn: Annotated[
        bool,
        typer.Option(
            "--finn", help="Of a model file, or of a run's model.onnx: whole numbers in FINN's form."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a quantized network as model.onnx, which stock onnxruntime runs bit-exactly, with its card.

    With --finn, RUN may also be a model.onnx, a bundle or a shipped model, and no torch is needed: docs/qonnx.md.
    """
    if finn:
        if qcdq:
            fail("codesign export: --finn and --qcdq are two formats. Choose one.")
        from codesign.cli_finn import export_for_finn

        export_for_finn(run, output, as_json)
        return
    needs_torch("export")
    from quant.pipeline import opened
    from quant.publish import export_run

    recipe = opened(run)
    target = output or run / "model.onnx"
    with working("Exporting") as say:
        card = export_run(recipe, run, target, say, "qcdq" if qcdq else "qonnx")
    if as_json:
        print_json(card)
    else:
        note(f"Wrote {target} and its card {target.with_suffix('.json')}.")


NAMES = {"float": "float", "ptq": "quantized, not trained", "fake-quant": "fake-quant", "integer": "integer"}


def _show(figures: dict[str, Any], run: Path, as_json: bool) -> None:
    if as_json:
        print_json(figures)
        return
    rows = [
        (title, *(figure(figures[key].get(k)) for k in ("ap50", "ap50_voc07", "coco_ap")))
        for key, title in NAMES.items()
        if isinstance(figures.get(key), dict)
    ]
    table(f"{run}, held-out data", ("network", "AP50", "AP50 VOC07", "COCO AP"), rows)
