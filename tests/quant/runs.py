"""A folder of a run whose float network is there at once, because it was never trained."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from quant.data.specs import load
from quant.models import build
from quant.pipeline import begin, configuration
from quant.recipe import parse_recipe

RECIPE = {
    "model": "codenet-tiny",
    "data": "scenes:split=train,seed=1",
    "held_out": "scenes:split=test,count=3,size=64,seed=0",
    "validation": "scenes:split=val,count=2,size=64,seed=0",
    "calibration": 8,
    "options": {
        "size": [64, 64],
        "widths": [8, 8, 8, 8, 16],
        "repeats": [1, 1, 1],
        "decoder": [8, 8, 8],
        "head": 8,
    },
    "float": {"lr": 1e-3, "phases": [{"size": 64, "images": 64}]},
    "qat": {"lr": 1e-4, "phases": [{"size": 64, "images": 8, "batch": 4}]},
}


def small_run(folder: Path, seed: int = 0) -> Path:
    recipe = parse_recipe({**RECIPE, "seed": seed}, "test")
    begin(recipe, folder)
    torch.manual_seed(seed)
    model = build(configuration(recipe, len(load(recipe.data).classes))).eval()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "float.safetensors")
    return folder
