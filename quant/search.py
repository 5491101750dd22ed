"""Finds the bits of every layer under a budget, from what each layer's narrow weights were measured to cost.

    sensitivity   all weights at the most bits but one layer's: how far the outputs move from the float parent's
    path          from all layers at the fewest bits upwards, each step the one that gains most for each byte
    size budget   the last point of the path that fits
    drop budget   the first point, by bisection, whose AP50 on the validation data is close enough to the float parent's

Costs of layers are taken to add up, as in HAWQ (arXiv 1905.03696). Then walking up the lower convex hulls of the layers
is the best order at each size that it passes, so that no search library is needed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codesign.errors import CodesignError
from quant.evaluate import torch_runner
from quant.lines import Lines, digest
from quant.losses import imitation_loss
from quant.pipeline import RECIPE, accuracy, calibration_images, configuration, float_model, opened
from quant.posttraining import Say, post_training
from quant.preset import Given, Preset, preset, variant
from quant.quantize import weight_layers
from quant.quantizers import WeightFakeQuant
from quant.scales import integer_range

MEASURED, CACHE, PICTURE = "search.json", "search.jsonl", "search.png"
SENSED = 32  # images that costs are measured on
Cost = dict[int, float]  # by bits


class SearchError(CodesignError):
    """No choice of bits keeps the budget, or the budget makes no sense."""


@dataclass(frozen=True)
class Layer:
    name: str
    weights: int
    cost: Cost

    def bytes(self, bits: int) -> float:
        return self.weights * bits / 8


@dataclass(frozen=True)
class Point:
    """A choice of bits: bytes of all weights, the costs' sum, and AP50 where it was measured."""

    bits: dict[str, int]
    bytes: float
    cost: float
    ap50: float | None = None


@dataclass
class Found:
    """What a search saw: `path` from fewest to most bits, `measured` points by their place on it, `chosen` place."""

    layers: list[Layer]
    path: list[Point]
    chosen: int
    float_ap50: float
    measured: dict[int, float] = field(default_factory=dict)


def hull(layer: Layer) -> list[tuple[float, int]]:
    """(gain for each byte, bits) of the steps up that are worth it, falling."""
    bits = sorted(layer.cost)
    at, steps = bits[0], []
    while at != bits[-1]:
        above = [b for b in bits if b > at]
        gains = {b: (layer.cost[at] - layer.cost[b]) / (layer.bytes(b) - layer.bytes(at)) for b in above}
        best = max(above, key=lambda b: (gains[b], b))
        steps.append((gains[best], best))
        at = best
    return steps


def upgrades(layers: Sequence[Layer]) -> list[Point]:
    """The path. Each point differs from the one before in one layer."""
    bits = {layer.name: min(layer.cost) for layer in layers}
    by_name = {layer.name: layer for layer in layers}
    steps = [(gain, k, layer.name, b) for layer in layers for k, (gain, b) in enumerate(hull(layer))]
    steps.sort(key=lambda s: (-s[0], s[1]))  # gains of one layer fall, so its steps stay in order

    def point() -> Point:
        total = sum(by_name[n].bytes(b) for n, b in bits.items())
        return Point(dict(bits), total, sum(by_name[n].cost[b] for n, b in bits.items()))

    path = [point()]
    for _, _, name, b in steps:
        bits[name] = b
        path.append(point())
    return path


def first_within(count: int, keeps: Callable[[int], bool]) -> int:
    """The first place of `count` that keeps the budget, if from there on all do; the last is known to."""
    low, high = -1, count - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high


@contextmanager
def at_bits(layer: Any, bits: int) -> Iterator[None]:
    """One layer's weights at other bits, with the scales that suit them."""
    q = layer.weight_quant.tensor_quant
    assert isinstance(q, WeightFakeQuant)
    before, scales = (q.lo, q.hi, q.bits), q.log2_scale.detach().clone()
    (q.lo, q.hi), q.bits = integer_range(bits, True, True), bits
    q.fit(layer.weight)
    try:
        yield
    finally:
        q.lo, q.hi, q.bits = before
        with torch.no_grad():
            q.log2_scale.copy_(scales)


@torch.no_grad()
def _distance(twin: nn.Module, batches: Sequence[Tensor], wanted: Sequence[Sequence[Tensor]]) -> float:
    total = sum(float(imitation_loss(twin(x), w)) for x, w in zip(batches, wanted, strict=True))
    return total / len(batches)


def sensitivities(
    model: nn.Module,
    base: Preset,
    choices: Sequence[int],
    batches: Sequence[Tensor],
    cache: Lines,
    about: str,
    say: Say,
) -> list[Layer]:
    """Every layer with what each choice of bits costs, above what the most bits cost."""
    most = max(choices)
    plan = variant(base, "widest", bits=dict.fromkeys(base.bits, most), layers={}, steps=(), shape="plain")
    twin = post_training(model, plan, batches).eval()
    with torch.no_grad():
        wanted = [model(x) for x in batches]
    floor: float | None = None
    found = []
    names = weight_layers(twin)
    for k, (name, layer) in enumerate(names.items()):
        say(f"measuring layer {k + 1} of {len(names)}: {name}")
        cost: Cost = {most: 0.0}
        for bits in sorted(set(choices) - {most}):
            key = digest(about, name, bits)
            record = cache.get(key)
            if record is None:
                if floor is None:
                    floor = _distance(twin, batches, wanted)
                with at_bits(layer, bits):
                    moved = _distance(twin, batches, wanted) - floor
                record = cache.put(key, layer=name, bits=bits, cost=max(0.0, moved))
            cost[bits] = record["cost"]
        found.append(Layer(name, int(layer.weight.numel()), cost))  # type: ignore[union-attr, operator, arg-type]
    return found


def search(
    run: Path,
    out: Path,
    given: Given | None = None,
    size: float | None = None,
    drop: float | None = None,
    choices: Sequence[int] = (4, 8),
    say: Say | None = None,
) -> Preset:
    """A mixed preset for a run: the best within `size` bytes of weights, or the smallest within `drop` AP50.

    Everything but the bits of the layers is as in `given`, or else the run's preset. Writes search.json and search.png,
    and search.jsonl to go on from, to `out`. Raises SearchError, PresetError or TrainingError.
    """
    say = say or (lambda _: None)
    if (size is None) == (drop is None):
        raise SearchError("search: expected one budget, a size or a drop. Give either.")
    if len(set(choices)) < 2 or any(not 2 <= b <= 8 for b in choices):
        raise SearchError(f"search: bits are {list(choices)}, expected two or more from 2 to 8. Give 4,8.")
    recipe = opened(run)
    base = preset(given if given is not None else recipe.preset)
    if not recipe.validation:
        raise SearchError(f"{run}: its recipe names no validation data, expected some to measure on. Add it.")
    if (out / RECIPE).is_file() and replace(opened(out), preset="w4a8") != replace(recipe, preset="w4a8"):
        raise SearchError(f"{out}: holds a run of another recipe. Name another folder, or delete this one.")
    model, data = float_model(recipe, run)
    batches = calibration_images(recipe, data, model)
    cache = Lines(out / CACHE)
    about = digest(run / "float.safetensors", base.to_dict(), sorted(set(choices)), recipe.to_dict())
    layers = sensitivities(model, base, choices, batches[: SENSED // 8], cache, about, say)
    path = upgrades(layers)
    config = configuration(recipe, len(data.classes))

    def ap50(what: Any, key: str, make: Callable[[], nn.Module]) -> float:
        record = cache.get(key)
        if record is None:
            figures = accuracy(torch_runner(make().eval(), config, data.classes), recipe.validation)
            record = cache.put(key, what=what, ap50=figures["ap50"])
        return float(record["ap50"])

    found = Found(layers, path, 0, ap50("float", digest(about, "float"), lambda: model))

    def measure(place: int) -> float:
        if place not in found.measured:
            say(f"measuring {path[place].bytes / 1000:.1f} kB of weights on {recipe.validation}")
            plan = mixed(base, path[place])
            key = digest(about, path[place].bits)
            found.measured[place] = ap50(place, key, lambda: post_training(model, plan, batches))
        return found.measured[place]

    if size is not None:
        fitting = [k for k, point in enumerate(path) if point.bytes <= size]
        if not fitting:
            raise SearchError(
                f"search: {size / 1000:g} kB is too small, expected at least {path[0].bytes / 1000:.1f}, with "
                f"all weights at {min(choices)} bits. Give a larger size, or fewer bits."
            )
        found.chosen = fitting[-1]
    else:
        assert drop is not None
        least = found.float_ap50 - drop
        if measure(len(path) - 1) < least:
            raise SearchError(
                f"search: with all weights at {max(choices)} bits AP50 falls by "
                f"{found.float_ap50 - measure(len(path) - 1):.3f}, expected at most {drop:g}. Allow a larger drop, "
                "or choose another preset."
            )
        found.chosen = first_within(len(path), lambda place: measure(place) >= least)
    for place in (0, found.chosen, len(path) - 1):
        measure(place)
    _write(out, found, recipe.validation)
    return mixed(base, path[found.chosen])


def mixed(base: Preset, point: Point) -> Preset:
    """The preset of a point. Every layer is named, so that nothing of the roles' bits is left."""
    return variant(base, "mixed", layers=dict(point.bits), about=f"{point.bytes / 1000:.1f} kB of weights")


def _write(out: Path, found: Found, validation: str) -> None:
    from quant.search_picture import picture

    shown = {
        "validation": validation,
        "float_ap50": found.float_ap50,
        "chosen": found.chosen,
        "layers": [{"name": x.name, "weights": x.weights, "cost": x.cost} for x in found.layers],
        "path": [
            {"bytes": p.bytes, "cost": p.cost, "ap50": found.measured.get(k)}
            for k, p in enumerate(found.path)
        ],
        "bits": found.path[found.chosen].bits,
    }
    out.mkdir(parents=True, exist_ok=True)
    beside = out / f"{MEASURED}.new"
    beside.write_text(json.dumps(shown, indent=1) + "\n")
    os.replace(beside, out / MEASURED)
    drawn = out / f".{PICTURE}"
    picture(found).savefig(drawn, dpi=100, format="png")
    os.replace(drawn, out / PICTURE)
