"""The whole ablation: costs, runs, and after each run table and picture of what there is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from codesign.errors import CodesignError
from quant.ablation import comparison, results
from quant.ablation.costs import Cost, costs
from quant.ablation.runs import (
    FIRST_SEED,
    SETS,
    Run,
    accuracy_of,
    backbone,
    perform,
    read_recipes,
    recipe_of,
    runs,
)
from quant.ablation.studies import PUBLISHED, Study
from quant.data.specs import load
from quant.pipeline import configuration, opened
from quant.recipe import Recipe
from quant.train import Report

COSTS, RESULTS = "costs.json", "results.json"
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
    study: Study = PUBLISHED,
) -> str:
    """Do what is missing of a study in `out`, and return its table. A killed one goes on where it was.

    `variants`: only these are trained now. `integers`: those that the engine runs are quantized too.
    Studies may share a folder: what both have is trained once. Raises AblationError for an unknown variant,
    and for a `start` with a seed of the study's own.
    """
    say = say or (lambda _: None)
    known = study.names
    unknown = [v for v in variants if v not in known]
    if unknown:
        raise AblationError(
            f"ablation: {', '.join(unknown)} is unknown, expected {', '.join(known)}. Name some of them."
        )
    if bad := [d for d in data if d not in SETS] or (not data and ["nothing"]):
        raise AblationError(
            f"ablation: {', '.join(bad)} is no data of it, expected {', '.join(SETS)}. Name one."
        )
    last = FIRST_SEED + seeds - 1
    if start is not None and FIRST_SEED <= (theirs := opened(start).seed) <= last:
        raise AblationError(
            f"ablation: {start} was trained with seed {theirs}, expected none of the ablation's own, "
            f"{FIRST_SEED} to {last}: the decoder "
            "of its operator would begin as its own did, and fit the rest at once. Train it with another."
        )
    recipes = read_recipes(data)
    first = recipes[data[0]]
    classes = {
        name: len(load(recipe.data).classes) for name, recipe in recipes.items()
    }  # or a set is missing
    counted = _costs(out, study, first, classes[data[0]], say)
    backbone(out, first, start, report)
    every = list(runs(out, data, known, seeds))
    for run in every:
        if variants and run.variant.name not in variants:
            continue
        say(f"{run.variant.title} on {run.data}, seed {run.seed}")
        integer = integers and counted[run.variant.name].kind == "estimated"
        perform(run, recipe_of(run, recipes, out), integer, report, say)
        _publish(out, study, every, counted, data, seeds, recipes)
    return _publish(out, study, every, counted, data, seeds, recipes)


def _costs(out: Path, study: Study, recipe: Recipe, classes: int, say: Say) -> dict[str, Cost]:
    """From the file, as far as it has them. What is reckoned is so beside what runs: all of such a study or nothing."""
    path = out / COSTS
    kept = json.loads(path.read_text()) if path.is_file() else {}
    if missing := tuple(v for v in study.variants if v.name not in kept):
        say("estimating what each operator costs")
        if study.engine_only:
            study = replace(study, variants=missing)
        size = max(p.shape for p in recipe.float_stage.phases)
        found = costs(replace(configuration(recipe, classes), size=size), study)
        kept |= {k: asdict(v) for k, v in found.items()}
        _write(path, json.dumps(kept, indent=2) + "\n")
    return {k: Cost(**v) for k, v in kept.items()}


def _publish(
    out: Path,
    study: Study,
    every: Sequence[Run],
    counted: dict[str, Cost],
    data: Sequence[str],
    seeds: int,
    recipes: dict[str, Recipe],
) -> str:
    table = results.rows(every, counted, study.variants)
    trained = {d: sum(p.images for p in r.float_stage.phases) for d, r in recipes.items()}
    sizes = {
        d: "x".join(map(str, max(p.shape for p in r.float_stage.phases)[::-1])) for d, r in recipes.items()
    }
    network = f"{recipes[data[0]].model}, float, " + ", ".join(
        f"{n:,} images of {sizes[d]} of {d}" for d, n in trained.items()
    )
    shown = comparison if study.engine_only else results
    text = shown.markdown(table, data, seeds, network)
    measured = [
        {"data": r.data, "variant": r.variant.name, "seed": r.seed, **accuracy_of(r)}
        for r in every
        if accuracy_of(r)
    ]
    _write(out / RESULTS, json.dumps(measured, indent=2) + "\n")
    _write(out / f"{study.name}.md", text)
    shown.picture(table, data).savefig(out / f"{study.name}.png", dpi=80)
    return text


def _write(path: Path, text: str) -> None:
    """Written beside, then renamed; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    os.replace(beside, path)
