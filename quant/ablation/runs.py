"""Runs of the ablation. Every one is a run folder as `codesign train` makes them, so that a killed one goes on.

DIR/backbone.safetensors       what all variants begin with
DIR/DATA/VARIANT-SEED          recipe.json, float.*, figures.json; with quantization also qat.*
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from quant.ablation.studies import variant
from quant.ablation.variants import Variant
from quant.data.specs import load, reseeded
from quant.feed import TrainingCrops
from quant.models import build
from quant.objectives import Classifier, classification_loss
from quant.pipeline import FIGURES, configuration, float_model, opened, quantize_trained, seeded, train_float
from quant.publish import export_run
from quant.recipe import Recipe, load_recipe
from quant.train import Report, TrainingError, train

HERE = Path(__file__).parent
SETS = {
    "scenes": HERE / "scenes.toml",
    "bccd": HERE / "bccd.toml",
}  # in this order: each begins with the one before
FIRST_SEED = (
    100  # of training: apart from those of networks to begin with, whose decoders it would draw again
)
BACKBONE, MODEL = "backbone.safetensors", "model.onnx"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One network: a variant on a data set with a seed."""

    data: str
    variant: Variant
    seed: int
    folder: Path

    def figures(self) -> dict[str, Any]:
        """What has been measured; empty before."""
        path = self.folder / FIGURES
        found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        return found


def runs(out: Path, data: Iterable[str], variants: Iterable[str], seeds: int) -> Iterator[Run]:
    """All runs; a seed is complete before the next begins, so that a part of them compares."""
    for seed in range(seeds):
        for name in variants:
            for d in data:
                yield Run(d, variant(name), seed, out / d / f"{name}-{seed}")


def recipe_of(run: Run, recipes: dict[str, Recipe], out: Path) -> Recipe:
    """The recipe of a run: the first set begins with the backbone, others with the same variant after the first.

    A seed has scenes and an order of its own, the same for all variants: their differences are of pairs.
    """
    base, first = recipes[run.data], next(iter(recipes))
    start = out / BACKBONE if run.data == first else out / first / run.folder.name
    bare = replace(base.pretrain_stage, phases=())
    options = {**base.options, **run.variant.options}
    data = reseeded(base.data, FIRST_SEED + run.seed)
    return replace(
        base, seed=FIRST_SEED + run.seed, data=data, start=str(start), options=options, pretrain_stage=bare
    )


def read_recipes(data: Iterable[str]) -> dict[str, Recipe]:
    return {name: load_recipe(str(SETS[name])) for name in data}


def backbone(out: Path, recipe: Recipe, start: Path | None, report: Report | None) -> Path:
    """The backbone that all variants begin with: a run's, or one pretrained here. Returns its file."""
    path = out / BACKBONE
    if path.is_file():
        return path
    if start is not None:
        model = float_model(opened(start), start)[0]
    elif recipe.pretrain_stage.phases:
        data = load(recipe.data)
        seeded(recipe.seed)
        model = build(configuration(recipe, len(data.classes)))
        crops = lambda phase: TrainingCrops(data, phase, recipe.seed)  # noqa: E731
        train(Classifier(model), recipe.pretrain_stage, crops, classification_loss, out, "pretrain", report)
    else:
        raise TrainingError("ablation: no backbone to begin with. Give --start, or a recipe with [pretrain].")
    out.mkdir(parents=True, exist_ok=True)
    shared = ("stem.", "stages.", "neck.", "heads.")
    kept = {k: v.cpu().contiguous() for k, v in model.state_dict().items() if k.startswith(shared)}
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(kept, beside)
    beside.replace(path)
    return path


def perform(
    run: Run, recipe: Recipe, integer: bool, report: Report | None = None, say: Say | None = None
) -> None:
    """Train and measure what is missing of a run; with `integer` quantize, export and measure the integers too."""
    if "float" not in run.figures():
        train_float(recipe, run.folder, report, say)
    if integer and "fake-quant" not in run.figures():
        quantize_trained(recipe, run.folder, report, say)
    if integer and not (run.folder / MODEL).is_file():
        export_run(recipe, run.folder, run.folder / MODEL, say)


def accuracy_of(run: Run) -> dict[str, float]:
    """AP50 of what has been measured of a run: "float", and "integer" of the exported file."""
    found = {k: v["ap50"] for k, v in run.figures().items() if k == "float"}
    card = (run.folder / MODEL).with_suffix(".json")
    if card.is_file():
        found["integer"] = json.loads(card.read_text())["integer"]["ap50"]
    return found
