"""The whole ablation: costs, runs, and after each run table and picture of what there is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from codesign.errors import CodesignError
from quant.ablation.costs import Cost, costs
from quant.ablation.results import markdown, picture, rows
from quant.ablation.runs import SETS, Run, accuracy_of, backbone, perform, read_recipes, recipe_of, runs
from quant.ablation.variants import VARIANTS
from quant.data.specs import load
from quant.pipeline import configuration
from quant.recipe import Recipe
from quant.train import Report

COSTS, RESULTS, TABLE, PICTURE = "costs.json", "results.json", "ablation.md", "ablation.png"
Say = Callable[[str], None]


class AblationError(CodesignError):
    """An ablation cannot begin."""


def ablate(
    out: Path,
    data: Sequence[str] = ("scenes", "bccd"),
    variants: Sequence[str] = (),
    seeds: int = 1,
    start: Path | None = None,
    integers: bool = True,
    report: Report | None = None,
    say: Say | None = None,
) -> str:
    """Do what is missing of an ablation in `out`, and return its table. A killed one goes on where it was.

    `variants`: only these are trained now. `integers`: those that the engine runs are quantized too.
    Raises AblationError for an unknown variant.
    """
    say = say or (lambda _: None)
    known = [v.name for v in VARIANTS]
    unknown = [v for v in variants if v not in known]
    if unknown:
        raise AblationError(
            f"ablation: {', '.join(unknown)} is unknown, expected {', '.join(known)}. Name some of them."
        )
    if bad := [d for d in data if d not in SETS] or (not data and ["nothing"]):
        raise AblationError(
            f"ablation: {', '.join(bad)} is no data of it, expected {', '.join(SETS)}. Name one."
        )
    recipes = read_recipes(data)
    first = recipes[data[0]]
    classes = {
        name: len(load(recipe.data).classes) for name, recipe in recipes.items()
    }  # or a set is missing
    counted = _costs(out, first, classes[data[0]], say)
    backbone(out, first, start, report)
    every = list(runs(out, data, known, seeds))
    for run in every:
        if variants and run.variant.name not in variants:
            continue
        say(f"{run.variant.title} on {run.data}, seed {run.seed}")
        integer = integers and counted[run.variant.name].kind == "estimated"
        perform(run, recipe_of(run, recipes, out), integer, report, say)
        _publish(out, every, counted, data, seeds, recipes)
    return _publish(out, every, counted, data, seeds, recipes)


def _costs(out: Path, recipe: Recipe, classes: int, say: Say) -> dict[str, Cost]:
    path = out / COSTS
    if not path.is_file():
        say("estimating what each operator costs")
        size = max(p.shape for p in recipe.float_stage.phases)
        found = costs(replace(configuration(recipe, classes), size=size))
        _write(path, json.dumps({k: asdict(v) for k, v in found.items()}, indent=2) + "\n")
    return {k: Cost(**v) for k, v in json.loads(path.read_text()).items()}


def _publish(
    out: Path,
    every: Sequence[Run],
    counted: dict[str, Cost],
    data: Sequence[str],
    seeds: int,
    recipes: dict[str, Recipe],
) -> str:
    table = rows(every, counted)
    trained = {d: sum(p.images for p in r.float_stage.phases) for d, r in recipes.items()}
    sizes = {
        d: "x".join(map(str, max(p.shape for p in r.float_stage.phases)[::-1])) for d, r in recipes.items()
    }
    network = f"{recipes[data[0]].model}, float, " + ", ".join(
        f"{n:,} images of {sizes[d]} of {d}" for d, n in trained.items()
    )
    text = markdown(table, data, seeds, network)
    results = [
        {"data": r.data, "variant": r.variant.name, "seed": r.seed, **accuracy_of(r)}
        for r in every
        if accuracy_of(r)
    ]
    _write(out / RESULTS, json.dumps(results, indent=2) + "\n")
    _write(out / TABLE, text)
    picture(table, data).savefig(out / PICTURE, dpi=80)
    return text


def _write(path: Path, text: str) -> None:
    """Written beside, then renamed; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    os.replace(beside, path)
