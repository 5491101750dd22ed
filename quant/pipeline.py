"""From a recipe to a model file: train in float, quantize, train again, export, and measure every step.

One folder holds a run. `recipe.json` in it says what the run is, so that later steps need the folder alone:

    train       float.safetensors, float.state.pt, float.log.jsonl, figures.json
    quantize    qat.safetensors, qat.state.pt, qat.log.jsonl, figures.json
    export      model.onnx, model.json (the card), curves.png, samples.png
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from codesign.accuracy import evaluate_detector
from codesign.rungs import Runner
from quant.data.specs import load
from quant.data.types import Dataset
from quant.dynamic.tvconv import TVConv
from quant.dynamic.ways import choosers, teach
from quant.evaluate import torch_runner
from quant.feed import TrainingCrops, TrainingImages, pixels_to_input
from quant.models import ZOO, CoDeNet, ModelConfig, build, model_config, parameter_count
from quant.objectives import Classifier, Distilled, classification_loss, detector_loss
from quant.posttraining import post_training
from quant.preset import Given, names, preset
from quant.quantize import quantize_model
from quant.recipe import Phase, Recipe, Stage, parse_recipe
from quant.train import Report, TrainingError, load_weights, save_weights, tensors_of, train, world

RECIPE, FIGURES = "recipe.json", "figures.json"
JUDGED = 640  # images that choices of a frame's way are learned from
Say = Callable[[str], None]


def configuration(recipe: Recipe, classes: int) -> ModelConfig:
    """The network of a recipe. Raises TrainingError for an unknown model or option."""
    if recipe.model not in ZOO:
        raise TrainingError(
            f"model {recipe.model!r}: unknown, expected one of {', '.join(ZOO)}. Correct the recipe."
        )
    try:
        return replace(model_config(recipe.model, classes), **recipe.options)
    except TypeError as error:
        raise TrainingError(f"options of {recipe.model}: {error}. Correct the recipe.") from None


def begin(recipe: Recipe, out: Path) -> None:
    """Claim a folder for a run. Raises TrainingError if another run lives there."""
    path, text = out / RECIPE, json.dumps(recipe.to_dict(), indent=2) + "\n"
    if path.is_file() and opened(out) != recipe:
        raise TrainingError(f"{out}: holds a run of another recipe. Name another folder, or delete this one.")
    if world()[0] == 0:
        _write(path, text)


def opened(out: Path) -> Recipe:
    """The recipe of a run's folder. Raises TrainingError if there is none."""
    path = out / RECIPE
    try:
        data = json.loads(path.read_text())
        data = {k.removesuffix("_stage"): v for k, v in data.items()}
        return parse_recipe(data, str(path))
    except FileNotFoundError:
        raise TrainingError(
            f"{out}: holds no run, expected {RECIPE} in it. Run `codesign train` first."
        ) from None
    except (ValueError, KeyError, AttributeError) as error:
        raise TrainingError(f"{path}: damaged ({error}). Train again into another folder.") from None


def seeded(seed: int) -> None:
    torch.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


def float_model(recipe: Recipe, out: Path) -> tuple[CoDeNet, Dataset]:
    """The trained float network of a run, in evaluation mode, and its training data."""
    data = load(recipe.data)
    model = build(configuration(recipe, len(data.classes)))
    path = out / "float.safetensors"
    if not path.is_file():
        raise TrainingError(f"{out}: the float network is not trained yet. Run `codesign train` first.")
    load_weights(model, path)
    return model.eval(), data


def train_float(
    recipe: Recipe, out: Path, report: Report | None = None, say: Say | None = None
) -> dict[str, Any]:
    """Train (or go on training) the float network of a recipe in `out`. Returns the run's figures."""
    data = load(recipe.data)
    begin(recipe, out)
    seeded(recipe.seed)
    model = build(configuration(recipe, len(data.classes)))
    if recipe.start:
        begin_with(model, Path(recipe.start), data.classes)
    pretrain, stage = recipe.pretrain_stage, recipe.float_stage
    if pretrain.phases and not (out / "float.state.pt").is_file():
        crops = lambda phase: TrainingCrops(data, phase, recipe.seed, recipe.upside_down)  # noqa: E731
        train(Classifier(model), pretrain, crops, classification_loss, out, "pretrain", report)
    loss = detector_loss(model, stage)
    train(model, stage, images_of(recipe, data, recipe.seed), loss, out, "float", report)
    if choosers(model) and world()[0] == 0:
        if say:
            say("learning what each frame needs")
        seeded(recipe.seed)
        teach(model, _judged(recipe, data, model), loss)
        save_weights(model, out / "float.safetensors")
    return measured(recipe, out, "float", model, data.classes, say)


def _judged(recipe: Recipe, data: Dataset, model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Images of the last phase behind those of training, with their targets, for `teach`."""
    phase = recipe.float_stage.phases[-1]
    images, device = images_of(recipe, data, recipe.seed)(phase), next(model.parameters()).device
    first = sum(p.images for p in recipe.float_stage.phases)
    for k in range(first, first + JUDGED, 16):
        pixels, targets = zip(*(images[i] for i in range(k, k + 16)), strict=True)
        yield pixels_to_input(torch.stack(pixels).to(device)), torch.stack(targets).to(device)


def begin_with(model: CoDeNet, source: Path, classes: tuple[str, ...] = ()) -> None:
    """Copy float parameters: all of another run's network, or what a safetensors file holds.

    Those of the other run's classes are left out, unless they are the `classes` of this network.

    Raises TrainingError if they are not this network's.
    """
    if source.suffix == ".safetensors":
        given = tensors_of(source)
    else:
        other, data = float_model(opened(source), source)
        last = f"heads.hm.{len(cast(nn.Sequential, model.heads['hm'])) - 1}."
        same = data.classes == classes
        given = {k: v for k, v in other.state_dict().items() if same or not k.startswith(last)}
    for name, module in model.named_modules():
        if isinstance(module, TVConv) and (key := f"{name}.affinity") in given:
            given[key] = module.resized(given[key])  # of images of another size
    own = model.state_dict()
    wrong = [k for k, v in given.items() if k not in own or own[k].shape != v.shape]
    if wrong:
        raise TrainingError(
            f"{source}: {len(wrong)} tensors are not this network's, the first is {wrong[0]}. "
            "Start from a run of the same model."
        )
    model.load_state_dict(given, strict=False)


def images_of(recipe: Recipe, data: Dataset, seed: int) -> Callable[[Phase], TrainingImages]:
    return lambda phase: TrainingImages(data, phase, seed, recipe.upside_down)


def calibration_batches(
    recipe: Recipe, data: Dataset, phase: Phase, device: torch.device
) -> Iterator[Tensor]:
    """Images as a phase has them, that training itself has not seen (they follow its last), eight at a time."""
    images = images_of(recipe, data, recipe.seed)(phase)
    first = sum(p.images for p in recipe.float_stage.phases)
    for k in range(first, first + recipe.calibration, 8):
        pixels = [images[i][0] for i in range(k, min(k + 8, first + recipe.calibration))]
        yield pixels_to_input(torch.stack(pixels).to(device))


def quantize_trained(
    recipe: Recipe, out: Path, report: Report | None = None, say: Say | None = None, qat: bool = True
) -> dict[str, Any]:
    """Quantize a run's float network: calibration, bias correction, then training with quantization.

    With `qat` false it stops before the training (post-training quantization). Returns the run's figures.
    """
    model, data = float_model(recipe, out)
    plan = preset(recipe.preset)
    figures: dict[str, Any] = {}
    if (out / "qat.state.pt").is_file():
        twin = quantize_model(model, plan)
    else:
        twin = post_training(model, plan, calibration_images(recipe, data, model), say)
        figures = measured(recipe, out, "ptq", twin, data.classes, say)
    stage = recipe.qat_stage if qat else Stage((), recipe.qat_stage.lr)
    seeded(recipe.seed + 1)
    images, validate = images_of(recipe, data, recipe.seed + 1), validation(recipe, twin, data.classes)
    loss = detector_loss(model, stage)
    if plan.distill:
        loss = Distilled(loss, twin, model, plan.distill)
    train(twin, stage, images, loss, out, "qat", report, validate=validate)
    return measured(recipe, out, "fake-quant", twin, data.classes, say) if qat else figures


def calibration_images(recipe: Recipe, data: Dataset, model: nn.Module) -> list[Tensor]:
    """The batches a network of this run is calibrated on, on its device."""
    largest = replace(max(recipe.qat_stage.phases, key=lambda p: p.shape), window=0)
    return list(calibration_batches(recipe, data, largest, next(model.parameters()).device))


def derived(run: Path, out: Path, given: Given, seed: int | None = None, data: str | None = None) -> Recipe:
    """Make `out` a run of its own with the float network of `run` and another preset. Returns its recipe.

    `seed` and `data`: others than the run's, for its calibration and training with quantization.

    Raises TrainingError if `run` is not trained yet, or `out` holds another run; PresetError.
    """
    plan = preset(given)
    shipped = plan.name in names() and preset(plan.name) == plan
    recipe = replace(opened(run), preset=plan.name if shipped else plan.to_dict())
    recipe = replace(
        recipe, seed=recipe.seed if seed is None else seed, data=recipe.data if data is None else data
    )
    if not (run / "float.safetensors").is_file():
        raise TrainingError(f"{run}: the float network is not trained yet. Run `codesign train` first.")
    out.mkdir(parents=True, exist_ok=True)
    begin(recipe, out)
    for path in (*run.glob("pretrain.log.jsonl"), *run.glob("float.*")):
        if not (out / path.name).exists():
            beside = out / f"{path.name}.new"
            shutil.copyfile(path, beside)
            os.replace(beside, out / path.name)
    figures = run / FIGURES
    if figures.is_file() and not (out / FIGURES).exists():
        known = json.loads(figures.read_text())
        _write(
            out / FIGURES,
            json.dumps({k: known[k] for k in ("float", "parameters") if k in known}, indent=2) + "\n",
        )
    return recipe


def quantized_model(recipe: Recipe, out: Path) -> tuple[nn.Module, Dataset]:
    """The quantized network of a run, in evaluation mode, and its training data."""
    data = load(recipe.data)
    twin = quantize_model(build(configuration(recipe, len(data.classes))), recipe.preset)
    path = out / "qat.safetensors"
    if not path.is_file():
        raise TrainingError(f"{out}: the network is not quantized yet. Run `codesign quantize` first.")
    load_weights(twin, path)
    return twin.eval(), data


def validation(recipe: Recipe, model: nn.Module, classes: tuple[str, ...]) -> Callable[[], float] | None:
    """AP50 of a network in training on the recipe's validation data, if it names some."""
    if not recipe.validation:
        return None
    config = configuration(recipe, len(classes))
    return lambda: accuracy(torch_runner(model, config, classes), recipe.validation)["ap50"]


def accuracy(runner: Runner, spec: str, data: Dataset | None = None) -> dict[str, float]:
    """AP50 (area and VOC07) and COCO AP on a data spec; `data` is what it names, if it is at hand."""
    data = load(spec) if data is None else data
    samples = (data[i] for i in range(len(data)))
    scores = evaluate_detector(
        runner.detect, runner.detector.classes, samples, data.classes, where=spec
    ).scores
    return {"ap50": scores.ap50, "ap50_voc07": scores.ap50_voc07, "coco_ap": scores.coco_ap}


def measured(
    recipe: Recipe, out: Path, key: str, model: nn.Module, classes: tuple[str, ...], say: Say | None = None
) -> dict[str, Any]:
    """Measure a network on the held-out data and add the figures to the run's."""
    path = out / FIGURES
    figures: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    if world()[0] == 0:
        if say:
            say(f"measuring {key} on {recipe.held_out}")
        config = configuration(recipe, len(classes))
        figures[key] = accuracy(torch_runner(model.eval(), config, classes), recipe.held_out)
        figures["parameters"] = parameter_count(build(config))
        _write(path, json.dumps(figures, indent=2) + "\n")
    return figures


def _write(path: Path, text: str) -> None:
    """Written beside, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(path.suffix + ".new")
    beside.write_text(text)
    os.replace(beside, path)
