"""From a run's folder to what is shipped: the model file, its card, its curves, and a sheet of its data.

The card travels twice: beside the model as json, and inside it as metadata `codesign.card`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from PIL import Image
from torch import Tensor

from codesign.decode import Detections
from codesign.draw import draw, sheet
from codesign.images import to_codes
from codesign.rungs import integer_runner
from quant.data.specs import load
from quant.data.types import Dataset, letterboxed
from quant.evaluate import detector_meta
from quant.export import export_onnx
from quant.pipeline import FIGURES, accuracy, configuration, quantized_model
from quant.recipe import Recipe

CARD = "codesign.card"
COMPARED = 8  # held-out pictures on which torch and onnxruntime are compared before anything is written
SHOWN = 12  # pictures of the sheet


def export_run(recipe: Recipe, run: Path, target: Path, say: Callable[[str], object]) -> dict[str, Any]:
    """Write `target` and, beside it, its card (.json), curves (-curves.png) and samples (-samples.png).

    The file is compared with torch bit for bit, then its integers are measured on the held-out data: that is the
    accuracy which is published. Returns the card. Raises TrainingError, ExportError, DataError.
    """
    twin, data = quantized_model(recipe, run)
    config = configuration(recipe, len(data.classes))
    held_out = load(recipe.held_out)
    meta = detector_meta(config, data.classes)
    say(f"Exporting, and comparing with torch on {min(COMPARED, len(held_out))} pictures")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.stem}.{os.getpid()}.onnx")
    try:
        report = export_onnx(twin.cpu(), draft, config.size, meta, samples=_samples(held_out, config.size))
        say(f"Measuring the integers on {recipe.held_out}")
        figures = json.loads((run / FIGURES).read_text()) if (run / FIGURES).is_file() else {}
        card = {
            "name": target.stem,
            "model": recipe.model,
            "input": list(config.size),
            "classes": list(data.classes),
            "data": recipe.data,
            "held_out": recipe.held_out,
            "seed": recipe.seed,
            "preset": recipe.preset,
            **figures,
            "integer": accuracy(integer_runner(draft), recipe),
            "export": {"compared": report.compared, "different": report.different},
            "recipe": recipe.to_dict(),
        }
        model = onnx.load(draft)
        onnx.helper.set_model_props(
            model, {p.key: p.value for p in model.metadata_props} | {CARD: json.dumps(card)}
        )
        draft.write_bytes(model.SerializeToString())
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    target.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    say("Drawing curves and samples")
    curves(run, target.with_name(f"{target.stem}-curves.png"), figures)
    _sheet(held_out, target.with_name(f"{target.stem}-samples.png"))
    return card


def _samples(held_out: Dataset, size: tuple[int, int]) -> Tensor:
    images = [letterboxed(held_out[i], *size).image for i in range(min(COMPARED, len(held_out)))]
    return torch.from_numpy(to_codes(np.stack(images)).copy()).permute(0, 3, 1, 2).float() / 128


def _sheet(held_out: Dataset, path: Path) -> None:
    """Held-out pictures with what is to be found on them."""
    shown = []
    for i in range(min(SHOWN, len(held_out))):
        sample = held_out[i]
        truth = Detections(sample.boxes, sample.labels, np.ones(len(sample.labels), np.float32))
        shown.append(draw(sample.image, truth, held_out.classes, with_scores=False))
    Image.fromarray(sheet(shown, height=320)).save(path, optimize=True)


def curves(run: Path, path: Path, figures: dict[str, Any]) -> None:
    """Loss of every stage of a run over its steps, and the accuracies measured after them."""
    from matplotlib.figure import Figure

    stages = [s for s in ("pretrain", "float", "qat") if (run / f"{s}.log.jsonl").is_file()]
    page = Figure(figsize=(4.2 * max(1, len(stages)), 3.2), layout="constrained")
    axes = page.subplots(1, max(1, len(stages)), squeeze=False)[0]
    for axis, stage in zip(axes, stages, strict=False):
        lines = [json.loads(line) for line in (run / f"{stage}.log.jsonl").read_text().splitlines()]
        axis.plot([p["step"] for p in lines], [p["loss"] for p in lines], linewidth=1)
        measured = figures.get({"float": "float", "qat": "fake-quant"}.get(stage, ""), {})
        after = f", AP50 {measured['ap50']:.3f} after it" if "ap50" in measured else ""
        axis.set(title=f"{stage}{after}", xlabel="step", ylabel="loss")
        axis.grid(alpha=0.3)
    page.savefig(path, dpi=120)
