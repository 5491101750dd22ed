"""What helps: the same trained networks quantized in many ways, each measured on the integer rung.

    python -m quant.study runs/tiny runs/tiny-1 runs/tiny-2 -o study      goes on where it stopped
    python -m quant.study -o study --table                                the table of what is there

Each RUN is a folder with a trained float network; seeds make the spread. Every way is exported, imported by the
compiler's own importer and run as integers on the recipe's held-out data: no figure is from a simulation of integers in
floats. Results are kept in study/study.jsonl under a key of the float network's content, the preset and the settings.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codesign.errors import CodesignError
from codesign.rungs import integer_runner
from quant.data.specs import load
from quant.data.types import Dataset, Sample
from quant.evaluate import detector_meta, torch_runner
from quant.export import export_onnx
from quant.lines import Lines, digest
from quant.models import CoDeNet
from quant.objectives import Distilled, detector_loss
from quant.pipeline import accuracy, calibration_images, configuration, float_model, images_of, opened, seeded
from quant.posttraining import post_training
from quant.preset import Preset, variant
from quant.recipe import Recipe
from quant.train import train

RESULTS = "study.jsonl"
SETTINGS = {"calibration": 64, "qat_images": 2000}


@dataclass(frozen=True)
class Way:
    """One row of the table: a preset with changes, trained with quantization or not."""

    title: str
    preset: Preset
    qat: bool = False


def _way(title: str, base: str, qat: bool = False, **changes: Any) -> Way:
    return Way(title, variant(base, base, **changes), qat)


BIAS = ("bias",)
WAYS = (
    _way("W4A8, calibration max, no correction", "w4a8", calibration="max", steps=()),
    _way("W4A8, calibration 99.99th percentile, no correction", "w4a8", calibration="percentile", steps=()),
    _way("W4A8, calibration MSE, no correction", "w4a8", steps=()),
    _way("W4A8, MSE, bias correction", "w4a8", steps=BIAS),
    _way("W4A8, max, bias correction", "w4a8", calibration="max", steps=BIAS),
    _way("W4A8, MSE, cross-layer equalization, bias", "w4a8", steps=("equalize", "bias")),
    _way("W4A8, MSE, GPTQ, bias", "w4a8", steps=("gptq", "bias")),
    _way("W4A8, MSE, GPFQ, bias", "w4a8", steps=("gpfq", "bias")),
    _way("W4A8, MSE, learned rounding, bias", "w4a8", steps=("round", "bias")),
    _way("W4A8 with 3-bit mantissas, MSE, bias", "w4a8-m3", steps=BIAS),
    _way("W4A8 with 3-bit mantissas, MSE, GPTQ, bias", "w4a8-m3", steps=("gptq", "bias")),
    _way("W4A8 with 3-bit mantissas, MSE, learned rounding, bias", "w4a8-m3", steps=("round", "bias")),
    _way("W4A8 with 8-bit depthwise, MSE, bias", "w4a8-dw8", steps=BIAS),
    _way(
        "W4A8 with 8-bit depthwise and 3-bit mantissas, MSE, GPTQ, bias",
        "w4a8-dw8-m3",
        steps=("gptq", "bias"),
    ),
    _way(
        "W4A8 with 8-bit depthwise and 3-bit mantissas, MSE, learned rounding, bias",
        "w4a8-dw8-m3",
        steps=("round", "bias"),
    ),
    _way("W8A8, MSE, bias correction", "w8a8", steps=BIAS),
    _way("W4A4, MSE, bias correction", "w4a4", steps=BIAS),
    _way("W2A8, MSE, bias correction", "w2a8", steps=BIAS),
    _way("W4A8, trained", "w4a8", True),
    _way("W4A8, trained from GPTQ", "w4a8", True, steps=("gptq", "bias")),
    _way("W4A8, trained, scales standing still", "w4a8", True, learn_scales=False),
    _way("W4A8, trained with distillation", "w4a8-distill", True),
    _way("W4A8 with 3-bit mantissas, trained", "w4a8-m3", True),
    _way("W4A8 in the manner of LSQ, trained", "w4a8-lsq", True),
    _way("W4A8 in the manner of DoReFa, trained", "w4a8-dorefa", True),
    _way("W4A4, trained", "w4a4", True),
    _way("W2A8, trained", "w2a8", True),
    _way("W8A8, trained", "w8a8", True),
)


def study(
    run: Path, out: Path, ways: Sequence[Way] = WAYS, settings: dict[str, int] | None = None, say: Any = None
) -> list[dict[str, Any]]:
    """Quantize one run's float network in every way and measure. Results that are there already are not made again."""
    say = say or (lambda _: None)
    settings = {**SETTINGS, **(settings or {})}
    recipe = replace(opened(run), calibration=settings["calibration"])
    lines = Lines(out / RESULTS)
    model, data = float_model(recipe, run)
    config = configuration(recipe, len(data.classes))
    source = digest(run / "float.safetensors", recipe.held_out, settings["calibration"])
    base = lines.get(digest(source, "float"))
    if base is None:
        figures = accuracy(torch_runner(model, config, data.classes), recipe.held_out)
        base = _put(lines, digest(source, "float"), run, recipe, "float parent", figures, {}, 0.0)
    results, batches, held_out = [base], None, InMemory(load(recipe.held_out))
    for way in ways:
        key = digest(source, _meaning(way.preset), settings["qat_images"] if way.qat else 0)
        record = lines.get(key)
        if record is None:
            say(f"{run}: {way.title}")
            began = time.monotonic()
            if batches is None:
                batches = calibration_images(recipe, data, model)
            seeded(recipe.seed)
            twin = post_training(model, way.preset, batches)
            if way.qat:
                _train(model, twin, recipe, data, way, settings["qat_images"], out / "work" / key)
            path = out / "work" / f"{key}.onnx"
            figures = _integers(twin.eval(), config, data.classes, recipe.held_out, held_out, path)
            shutil.rmtree(out / "work" / key, ignore_errors=True)
            how = {**settings, "preset": way.preset.to_dict(), "qat": way.qat}
            record = _put(lines, key, run, recipe, way.title, figures, how, time.monotonic() - began)
        results.append(record)
    return results


class InMemory:
    """A data set whose samples are made once."""

    def __init__(self, data: Dataset) -> None:
        self.data, self.classes = data, data.classes
        self.samples: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, k: int) -> Sample:
        if k not in self.samples:
            self.samples[k] = self.data[k]
        return self.samples[k]


def _meaning(plan: Preset) -> dict[str, Any]:
    return {k: v for k, v in plan.to_dict().items() if k not in ("name", "about")}


def _put(
    lines: Lines,
    key: str,
    run: Path,
    recipe: Recipe,
    title: str,
    figures: dict[str, float],
    how: Any,
    took: float,
) -> dict[str, Any]:
    about = {"model": recipe.model, "seed": recipe.seed, "held_out": recipe.held_out, "run": run.name}
    trained = sum(p.images for p in recipe.float_stage.phases)
    machine = {"cpu": _cpu(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    return lines.put(
        key,
        title=title,
        **about,
        float_images=trained,
        **figures,
        how=how,
        seconds=round(took, 1),
        machine=machine,
    )


def _train(
    model: CoDeNet, twin: nn.Module, recipe: Recipe, data: Any, way: Way, images: int, work: Path
) -> None:
    """Training with quantization, cut to so many images of the recipe's last phase."""
    stage = recipe.qat_stage
    last = stage.phases[-1]
    stage = replace(stage, phases=(replace(last, images=images),))
    loss = detector_loss(model, stage)
    if way.preset.distill:
        loss = Distilled(loss, twin, model, way.preset.distill)
    seeded(recipe.seed + 1)
    train(twin, stage, images_of(recipe, data, recipe.seed + 1), loss, work, "qat", save_every_s=30)


def _integers(
    twin: nn.Module, config: Any, classes: tuple[str, ...], spec: str, data: Dataset, path: Path
) -> dict[str, float]:
    """Accuracy of the exported file as integers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        export_onnx(twin, path, config.size, detector_meta(config, classes))
        return accuracy(integer_runner(path), spec, data)
    finally:
        path.unlink(missing_ok=True)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown: for each model the ways in order, mean and standard deviation over the runs, and every run's figure."""
    blocks = []
    for model in sorted({r["model"] for r in records}):
        mine = [r for r in records if r["model"] == model]
        parents = {(r["run"], r["seed"]): r["ap50"] for r in mine if r["title"] == "float parent"}
        runs = sorted(parents)
        titles = ["float parent", *(w.title for w in WAYS)]
        head = "".join(f" seed {seed} |" for _, seed in runs)
        rows = [f"| {model} | runs | AP50 | against float |{head}", "|---|---|---|---|" + "---|" * len(runs)]
        for title in titles:
            got = {(r["run"], r["seed"]): r["ap50"] for r in mine if r["title"] == title}
            if not got:
                continue
            drops = [got[k] - parents[k] for k in got]
            each = "".join(f" {got[k]:.3f} |" if k in got else " - |" for k in runs)
            rows.append(
                f"| {title} | {len(got)} | {_spread([*got.values()])} | {_spread(drops, '+')} |{each}"
            )
        blocks.append("\n".join(rows))
    return "\n\n".join(blocks) + "\n"


def _spread(values: Sequence[float], sign: str = "") -> str:
    """Mean ± standard deviation of the sample."""
    mean = format(statistics.fmean(values), f"{sign}.3f")
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m quant.study", description=__doc__.splitlines()[0])  # type: ignore
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--only", action="append", default=[], help="ways whose title has this; may be repeated"
    )
    parser.add_argument("--calibration", type=int, default=SETTINGS["calibration"], help="images")
    parser.add_argument("--qat-images", type=int, default=SETTINGS["qat_images"])
    parser.add_argument("--table", action="store_true", help="print the table")
    given = parser.parse_args(arguments)
    ways = [w for w in WAYS if not given.only or any(t in w.title for t in given.only)]
    settings = {"calibration": given.calibration, "qat_images": given.qat_images}
    try:
        for run in given.runs:
            study(run, given.output, ways, settings, lambda text: sys.stderr.write(f"{text}\n"))
    except CodesignError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if given.table or not given.runs:
        sys.stdout.write(table([*Lines(given.output / RESULTS).records.values()]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
