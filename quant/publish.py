"""The last step of a run: model.onnx, measured as integers, with its card and pictures.

Beside MODEL.onnx: MODEL.json (the card, also inside the file under codesign.card), MODEL.md (the same for people),
MODEL.curves.png (loss over the run) and MODEL.samples.png (held-out images with what the integer network finds).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from PIL import Image

from codesign.decode import Detections
from codesign.draw import draw
from codesign.images import letterbox, to_codes
from codesign.rungs import Runner, integer_runner
from quant.data.specs import load
from quant.data.types import Dataset
from quant.evaluate import detector_meta
from quant.export import ExportError, export_onnx
from quant.models import mac_count
from quant.pipeline import FIGURES, accuracy, configuration, quantized_model
from quant.preset import names, preset_name
from quant.recipe import RECIPES, Recipe, load_recipe

CARD = "codesign.card"  # key of the card in the file's metadata
CHECKED = 8  # held-out images that torch and onnxruntime are compared on
SYNTHETIC = """ `scenes` is a synthetic set: it measures detection and
geometry, not generalization to photographs of real objects."""
SHEET = (6, 4)  # columns and rows of the sample sheet


def export_run(
    recipe: Recipe,
    run: Path,
    target: Path,
    say: Callable[[str], None] | None = None,
    flavour: Literal["qonnx", "qcdq"] = "qonnx",
) -> dict[str, Any]:
    """Export the quantized network of a run, measure the file on the held-out data, write card and pictures.

    `flavour` qcdq writes QuantizeLinear and DequantizeLinear. A text RUN/notes.txt goes into the card.
    Returns the card. Raises ExportError or TrainingError; then `target` is as it was.
    """
    say = say or (lambda _: None)
    twin, data = quantized_model(recipe, run)
    config = configuration(recipe, len(data.classes))
    held_out = load(recipe.held_out)
    meta = detector_meta(config, data.classes)
    say(f"comparing torch and onnxruntime on {CHECKED} images")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.stem}.draft.onnx")
    try:
        report = export_onnx(twin, draft, config.size, meta, flavour, _inputs(held_out, config.size))
        say(f"measuring the integer network on {recipe.held_out}")
        runner = integer_runner(draft)
        figures = json.loads((run / FIGURES).read_text())
        card = {
            "name": recipe.title,
            "commands": [
                f"codesign train {recipe.title} -o RUN" + (" --start OTHER" if recipe.start else ""),
                "codesign quantize RUN" + _preset_option(recipe),
                f"codesign export RUN -o {target.name}",
            ],
            "classes": list(data.classes),
            "size": list(config.size),
            "parameters": figures["parameters"],
            "macs": mac_count(config),
            "preset": preset_name(recipe.preset),
            "data": recipe.data,
            "held_out": recipe.held_out,
            "seed": recipe.seed,
            "images": {stage: sum(p.images for p in s.phases) for stage, s in _stages(recipe)},
            "training": _training(run),
            "notes": notes.read_text().strip() if (notes := run / "notes.txt").is_file() else "",
            **{k: figures[k] for k in ("float", "ptq", "fake-quant") if k in figures},
            "integer": accuracy(runner, recipe.held_out),
            "export": {
                "compared": report.compared,
                "different": report.different,
                "largest_accumulator": report.largest_accumulator,
            },
        }
        model = onnx.load(draft)
        onnx.helper.set_model_props(model, {**_props(model), CARD: json.dumps(card)})
        draft.write_bytes(model.SerializeToString())
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    target.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    target.with_suffix(".md").write_text(card_text(card, target.stem))
    _curves(run).savefig(target.with_suffix(".curves.png"), dpi=80)
    sheet(runner, held_out).save(target.with_suffix(".samples.png"), optimize=True)
    return card


def _preset_option(recipe: Recipe) -> str:
    """What the command needs to say of a preset that is not the recipe's own.

    Those that are no file of ours are in the run's recipe.json.
    """
    name, theirs = preset_name(recipe.preset), Recipe.preset
    if (RECIPES / f"{recipe.title}.toml").is_file():
        theirs = load_recipe(recipe.title).preset
    return "" if name == preset_name(theirs) else f" -p {name if name in names() else 'PRESET'} -o RUN"


def _stages(recipe: Recipe) -> list[tuple[str, Any]]:
    return [("pretrain", recipe.pretrain_stage), ("float", recipe.float_stage), ("qat", recipe.qat_stage)]


def _props(model: onnx.ModelProto) -> dict[str, str]:
    return {p.key: p.value for p in model.metadata_props}


def _inputs(data: Dataset, size: tuple[int, int]) -> torch.Tensor:
    codes = [to_codes(letterbox(data[i].image, *size)[0]) for i in range(min(CHECKED, len(data)))]
    return torch.from_numpy(np.stack(codes)).permute(0, 3, 1, 2).float() / 128


def _log(run: Path, stage: str, key: str = "loss") -> list[dict[str, Any]]:
    path = run / f"{stage}.log.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [line for line in lines if key in line]


def _training(run: Path) -> dict[str, Any]:
    """Where and how long: the device's kind, and hours of the three stages from their logs."""
    hours = {}
    for stage in ("pretrain", "float", "qat"):
        lines = _log(run, stage)
        steps = np.diff([0, *(entry["step"] for entry in lines)])
        seconds = sum(n * e["batch"] / e["images_per_s"] for n, e in zip(steps, lines, strict=True))
        hours[stage] = round(float(seconds) / 3600, 2)
    device = (
        torch.cuda.get_device_name(0)
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} thread"
    )
    return {"device": device, "hours": hours}


def card_text(card: dict[str, Any], stem: str) -> str:
    """The card as Markdown."""
    rows = [
        ("float", "float parent, torch"),
        ("ptq", "calibrated and bias-corrected, not trained, torch"),
        ("fake-quant", "trained with quantization, torch"),
        ("integer", "integers, what the hardware computes"),
    ]
    table = "\n".join(
        f"| {title} | {card[key]['ap50']:.3f} | {card[key]['ap50_voc07']:.3f} | {card[key]['coco_ap']:.3f} |"
        for key, title in rows
        if key in card
    )
    hours, images, export = card["training"]["hours"], card["images"], card["export"]
    commands = "\n".join(f"    {c}" for c in card["commands"])
    notes = f"\n{card['notes']}\n" if card["notes"] else ""
    synthetic = SYNTHETIC if card["held_out"].startswith("scenes") else ""
    width, height = card["size"][1], card["size"][0]
    return f"""# {card["name"]}

{width}x{height} input, {card["parameters"]:,} parameters, {card["macs"] / 1e9:.3f} GMAC, preset {card["preset"]}.
Classes: {", ".join(card["classes"])}.

| network | AP50 | AP50 (VOC07) | COCO AP |
|---|---|---|---|
{table}

Measured on `{card["held_out"]}`, one pass, no flip averaging.{synthetic}

Trained on `{card["data"]}` with seed {card["seed"]}: {images["pretrain"]:,} single objects,
{images["float"]:,} images in float and {images["qat"]:,} with quantization;
{hours["pretrain"]}, {hours["float"]} and {hours["qat"]} hours on {card["training"]["device"]}.
At export {export["different"]} of {export["compared"]:,} output values differed between torch and onnxruntime.
The recipe is `quant/recipes/{card["name"]}.toml`; the same commands train it again:

{commands}
{notes}
![held-out samples with what the integer network finds]({stem}.samples.png)

![loss]({stem}.curves.png)
"""


def _curves(run: Path) -> Any:
    """Loss of each stage, and AP50 where it was measured, over the images seen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    stages = [s for s in ("pretrain", "float", "qat") if _log(run, s)]
    if not stages:
        raise ExportError(f"{run}: holds no training log, expected float.log.jsonl. Train again.")
    for axes, stage in zip(np.atleast_1d(figure.subplots(1, len(stages))), stages, strict=True):
        lines = _log(run, stage)
        seen = np.cumsum(
            [e["batch"] * n for e, n in zip(lines, np.diff([0, *(e["step"] for e in lines)]), strict=True)]
        )
        axes.plot(seen / 1000, [e["loss"] for e in lines], label="loss", linewidth=1)
        for part in lines[0]["parts"]:
            axes.plot(seen / 1000, [e["parts"][part] for e in lines], label=part, linewidth=1)
        axes.set(
            title=stage,
            xlabel="thousand images",
            ylim=(0, np.percentile([e["loss"] for e in lines], 98) * 1.4),  # with room for the legends
        )
        if measured := _log(run, stage, "ap50"):
            images = np.interp([e["step"] for e in measured], [e["step"] for e in lines], seen / 1000)
            right = axes.twinx()
            right.plot(images, [e["ap50"] for e in measured], "k.--", label="AP50, validation", linewidth=1)
            right.set_ylim(0, 1)
            right.legend(fontsize=7, loc="upper left")
        axes.legend(fontsize=7, loc="upper right")
        axes.grid(alpha=0.3)
    return figure


def sheet(runner: Runner, data: Dataset, side: int = 200) -> Image.Image:
    """Held-out images in a grid: above what is there, below what is found (scores from 0.3)."""
    columns, rows = SHEET
    canvas = Image.new("RGB", (columns * side, rows * side), "white")
    for k in range(min(columns * rows // 2, len(data))):
        sample = data[k]
        truth = Detections(sample.boxes, sample.labels, np.ones(len(sample.labels), np.float32))
        found = runner.detect(sample.image).above(0.3)
        for line, boxes in enumerate((truth, found)):
            picture = draw(sample.image, boxes, tuple(data.classes), 2 * side, with_scores=bool(line))
            tile = Image.fromarray(picture).resize((side - 2, side - 2), Image.Resampling.LANCZOS)
            canvas.paste(tile, (k % columns * side, (k // columns * 2 + line) * side))
    return canvas.quantize(128)
