"""Verbs for networks from elsewhere: `quantize` of an ONNX file, and classify."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from codesign.cli_common import Json, fail, figure, note, print_json, table, verb, working

LARGEST = 4096  # pixels on a side
SHOWN = 8  # layers that lose most


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  codesign classify bundle photo.jpg")(classify)


def quantize_onnx(
    model: Path,
    calibrate: Path | None,
    output: Path | None,
    bits: int,
    size: str | None,
    pixels: str | None,
    mean: str | None,
    std: str | None,
    bgr: bool,
    detector: Path | None,
    labels: Path | None,
    as_json: bool,
) -> None:
    """`codesign quantize model.onnx`: post-training quantization of a float file."""
    from codesign.errors import ModelRefused
    from codesign.onnx_io import import_model
    from quant.ptq_run import Wish, quantize_file
    from quant.ptq_write import write_model

    if calibrate is None:
        fail(f"{model}: no pictures to calibrate on were given. Add --calibrate FOLDER.")
    assert calibrate is not None
    target = output or model.with_name(f"{model.stem}.w{bits}a8.onnx")
    if target.resolve() == model.resolve():
        fail(f"{target}: is the float model itself, expected another name. Choose another -o.")
    wish = Wish(
        _pixels(pixels, mean, std, bgr), bits, _size(size), detector=_json(detector), labels=_lines(labels)
    )
    draft = target.with_name(f".{target.stem}.draft.onnx")
    with working("Quantizing") as say:
        found, meta, figures = quantize_file(model, calibrate, wish, say)
        try:
            write_model(found, draft, meta)
            import_model(draft)  # what cannot be compiled is refused here, with every reason
            os.replace(draft, target)
        except ModelRefused as error:
            raise ModelRefused(str(model), error.problems) from None
        finally:
            draft.unlink(missing_ok=True)
    if as_json:
        print_json({"model": str(target), **figures})
        return
    table(
        f"{target}: agreement with the float network on {figures['images']} pictures",
        ("output", "signal to noise, dB"),
        [(escape(name), figure(value, ".1f")) for name, value in figures["outputs"].items()],
    )
    worst = sorted(figures["layers"].items(), key=lambda pair: pair[1])[:SHOWN]
    note("Layers that lose most, dB: " + ", ".join(f"{name} {value:.1f}" for name, value in worst))
    for text in figures["notes"]:
        note(text)
    note(f"Next: codesign build {target} -o bundle, then codesign verify bundle.")


def _pixels(name: str | None, mean: str | None, std: str | None, bgr: bool) -> Any:
    from quant.foreign_site import Pixels
    from quant.ptq_run import PIXELS

    if name is not None and name not in PIXELS:
        fail(f"--pixels: {name!r}, expected {', '.join(PIXELS)}. Or give --mean and --std.")
    if name is None and (mean is None or std is None):
        fail(
            "codesign quantize: how the network reads pixels was not said, expected --pixels "
            f"{', '.join(PIXELS)}, or --mean and --std of pixels 0..1. Ask whoever trained it."
        )
    base = PIXELS[name or "unit"]
    return Pixels(
        _numbers("--mean", mean) if mean else base.mean, _numbers("--std", std) if std else base.std, bgr
    )


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) not in (1, 3) or (option == "--std" and min(found, default=0) <= 0):
        fail(f"{option}: {text!r}, expected one number or three, as in 0.5,0.5,0.5. Give them so.")
    return found * (3 // len(found))


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdigit() and 0 < int(p) <= LARGEST for p in parts):
        fail(f"--size: {text!r}, expected HEIGHTxWIDTH, at most {LARGEST}, as in 320x320. Give it so.")
    return int(parts[0]), int(parts[1])


def _json(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fail(f"{path}: cannot be read ({error}), expected JSON as docs/model-file.md describes it. Check it.")
    return dict(content)


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        fail(f"{path}: cannot be read ({error}), expected one label a line. Check it.")


@verb
def classify(
    bundle: Annotated[Path, typer.Argument(help="A bundle directory that `codesign build` made.")],
    images: Annotated[list[Path], typer.Argument(help="Pictures of any size and kind.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to show for each.")] = 5,
    as_json: Json = False,
) -> None:
    """Name what pictures show with the simulated accelerator, for networks with one score a class.

    Scores are a softmax of what the C++ computes. Labels are those given to `codesign quantize --labels`.
    """
    from codesign.bundle import load
    from codesign.classify import Classifier
    from codesign.cli_detect import file_names, read_all
    from codesign.parallel import in_order
    from codesign.rungs import csim_runner

    found_bundle = load(bundle)
    classifier = Classifier.from_meta(found_bundle.meta, found_bundle.scales, str(bundle))
    pictures = read_all(images)
    with working("Compiling the C++ (once for each design)"):
        runner = csim_runner(found_bundle)
    every = in_order(lambda p: classifier.best(runner.maps(p), top), pictures, runner.threads)
    results = dict(zip(file_names(images), every, strict=True))
    if as_json:
        print_json(
            {name: [{"label": la, "score": round(s, 5)} for la, s in f] for name, f in results.items()}
        )
        return
    rows = [
        (name, ", ".join(f"{escape(label)} {score:.2f}" for label, score in found))
        for name, found in results.items()
    ]
    table("What the pictures show", ("picture", f"best {top}"), rows, left=2)
