"""The training loop, for float and for quantization-aware training alike.

A run is a pure function of (model, stage, data, seed): image k of the run is decided by k alone, so a run that was
interrupted continues with the image it would have seen next. Several processes (torchrun) split every batch.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from codesign.errors import CodesignError
from quant.data.augment import augment
from quant.data.scenes import Scenes
from quant.data.types import Dataset, Sample, letterboxed
from quant.losses import detection_loss, targets
from quant.models import STRIDE, CoDeNet
from quant.recipe import Phase, Stage


class TrainingError(CodesignError):
    """A run cannot start or go on."""


@dataclass(frozen=True)
class Progress:
    """Told to the caller every few steps. `images_per_s` is of this process group, since the last report."""

    step: int
    steps: int
    size: int
    batch: int
    loss: float
    parts: dict[str, float]
    lr: float
    images_per_s: float


# One step of Adam moves an offset by about lr times the sum of its inputs: hundreds of channels, a whole pixel.
OFFSET_RATE = 0.05
# Quantizers' scales are trained as log2 and act when they cross a half: they need larger steps than weights. In the
# last fifth of a stage they stand still, so that the weights settle on a grid that no longer changes.
SCALE_RATE, SCALES_SETTLE = 10.0, 0.8

Report = Callable[[Progress], None]


def quick_malloc() -> None:
    """Keep glibc from returning large blocks to the system after each step: training on a CPU runs twice as fast.

    Measured on config a at 256 x 256, batch 8, one thread: 9.5 against 15.8 images/s.
    """
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its largest
            libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def pixels_to_input(images: Tensor) -> Tensor:
    """uint8 (N,H,W,3) -> float (N,3,H,W) in [-1, 1): (pixel - 128) / 128, exact, channel-last in memory."""
    return ((images.permute(0, 3, 1, 2).float() - 128) / 128).contiguous(memory_format=torch.channels_last)


class TrainingImages(TorchDataset[tuple[Tensor, Tensor]]):
    """Image number k of a run, with its targets. Scenes are drawn anew; other sets are permuted and augmented."""

    def __init__(self, data: Dataset, phase: Phase, seed: int) -> None:
        self.data, self.size, self.seed = data, phase.size, seed
        self.scenes: Scenes | None = None
        if isinstance(data, Scenes):
            self.scenes = Scenes(data.split, data.count, phase.size, data.seed, phase.window or None)
        self.order: tuple[int, Any] = (-1, None)

    def source(self, k: int) -> Sample:
        """The sample that image k is made from, as it is in the data set."""
        epoch, at = divmod(k, len(self.data))
        if self.order[0] != epoch:
            self.order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.data)))
        return self.data[int(self.order[1][at])]

    def sample(self, k: int) -> Sample:
        if self.scenes is not None:
            return self.scenes.draw(k)
        varied = augment(self.source(k), np.random.default_rng([self.seed, k, 1]))
        return letterboxed(varied, self.size, self.size)

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor]:
        s = self.sample(k)
        keep = ~s.difficult
        cells = self.size // STRIDE
        t = targets(s.boxes[keep], s.labels[keep], len(self.data.classes), cells, cells, STRIDE)
        return torch.from_numpy(s.image.copy()), torch.from_numpy(t.stacked())


class TrainingCrops(TrainingImages):
    """Single objects with their labels: what a backbone is pretrained on."""

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor]:
        if self.scenes is not None:
            image, label = self.scenes.crop(k)
        else:
            rng = np.random.default_rng([self.seed, k, 2])
            image, label = cut_object(augment(self.source(k), rng), self.size, rng)
        return torch.from_numpy(image.copy()), torch.tensor(label)


def cut_object(sample: Sample, size: int, rng: np.random.Generator) -> tuple[Any, int]:
    """A square window around a random object, (size, size, 3) uint8, and its label; label -1 if there is none."""
    if len(sample.labels) == 0:
        return np.full((size, size, 3), 128, np.uint8), -1
    k = int(rng.integers(len(sample.labels)))
    x1, y1, x2, y2 = sample.boxes[k]
    side = max(x2 - x1, y2 - y1) / rng.uniform(0.5, 0.95)
    cx, cy = ((x1 + x2) + side * rng.uniform(-0.2, 0.2)) / 2, ((y1 + y2) + side * rng.uniform(-0.2, 0.2)) / 2
    box = tuple(round(float(v)) for v in (cx - side / 2, cy - side / 2, cx + side / 2, cy + side / 2))
    window = Image.fromarray(sample.image).crop(box).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(window), int(sample.labels[k])


class Classifier(nn.Module):
    """Backbone and neck of a detector, sharing their parameters, with a linear classifier behind every stage.

    Supervision at every depth (arXiv 1409.5185): without it the first steps of a net this deep learn nothing.
    """

    def __init__(self, detector: CoDeNet) -> None:
        super().__init__()
        self.stem, self.stages, self.neck = detector.stem, detector.stages, detector.neck
        config = detector.config
        self.linear = nn.ModuleList(nn.Linear(c, config.classes) for c in config.widths[1:])

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        logits = []
        for stage, linear in zip([*self.stages, self.neck], self.linear, strict=True):
            x = stage(x)
            logits.append(linear(x.mean((2, 3))))
        return logits


Loss = Callable[[Any, Tensor], tuple[Tensor, dict[str, float]]]


def classification_loss(logits: list[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of all classifiers and accuracy of the last; label -1 is left out."""
    known = labels >= 0
    right = (logits[-1].argmax(1) == labels)[known].float().mean()
    losses = [nn.functional.cross_entropy(v, labels, ignore_index=-1) for v in logits]
    return torch.stack(losses).sum(), {"last": float(losses[-1].detach()), "accuracy": float(right)}


def detector_loss(model: CoDeNet, stage: Stage) -> Loss:
    kind = cast(Literal["giou", "l1"], stage.box_loss)
    return lambda outputs, target: detection_loss(outputs, target, model.config.size_unit, kind)


def schedule(stage: Stage, step: int) -> float:
    """Learning rate: linear warm-up, then a cosine to zero."""
    rise = max(1, int(stage.steps * stage.warmup))
    if step < rise:
        return stage.lr * (step + 1) / rise
    return float(stage.lr * 0.5 * (1 + np.cos(np.pi * (step - rise) / max(1, stage.steps - rise))))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay on convolution weights only. `factor` multiplies the learning rate: see OFFSET_RATE and SCALE_RATE."""
    groups: dict[str, list[nn.Parameter]] = {"scales": [], "offsets": [], "weights": [], "rest": []}
    for name, p in model.named_parameters():
        if p.requires_grad:
            scale, offset = name.endswith("log2_scale"), ".offset." in name
            groups[
                "scales" if scale else "offsets" if offset else "weights" if p.ndim == 4 else "rest"
            ].append(p)
    factors = {"scales": SCALE_RATE, "offsets": OFFSET_RATE}
    return [
        {
            "params": params,
            "name": kind,
            "weight_decay": weight_decay if kind == "weights" else 0.0,
            "factor": factors.get(kind, 1.0),
        }
        for kind, params in groups.items()
    ]


def world() -> tuple[int, int]:
    """(rank, processes) as torchrun says."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def _batches(
    images: TorchDataset[tuple[Tensor, Tensor]],
    phase: Phase,
    first: int,
    steps: int,
    offset: int,
    workers: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches `first`.. of a phase; `offset` images of the run came before the phase."""
    rank, processes = world()
    share = phase.batch // processes
    start = [offset + b * phase.batch + rank * share for b in range(first, steps)]
    order = [[k + i for i in range(share)] for k in start]
    loader = DataLoader(
        images,
        batch_sampler=order,
        num_workers=workers,
        prefetch_factor=8 if workers else None,
    )
    return iter(cast(Any, loader))


def train(
    model: nn.Module,
    stage: Stage,
    images: Callable[[Phase], TorchDataset[tuple[Tensor, Tensor]]],
    loss_of: Loss,
    out: Path,
    name: str,
    report: Report | None = None,
    workers: int = 1,
    every: int = 50,
    save_every_s: float = 120.0,
    validate: Callable[[], float] | None = None,
    validations: int = 8,
) -> None:
    """Train in place. State goes to `out/name.*`; a second call resumes, or returns at once if all is done.

    `validate` is called `validations` times, the model in evaluation mode; what it returns is logged as "ap50".
    Files: name.safetensors (parameters and buffers), name.state.pt (optimizer, step), name.log.jsonl (progress).
    """
    rank, processes = world()
    bad = [p.batch for p in stage.phases if p.batch % processes]
    if bad:
        raise TrainingError(
            f"train: batch {bad[0]} does not divide among {processes} processes. Change either."
        )
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) if processes > 1 else 0)
    device = device if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cpu":
        quick_malloc()
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(parameter_groups(model, stage.weight_decay), lr=stage.lr)
    step = _resume(model, optimizer, out, name)
    if rank == 0:
        _forget(out, name, step)
    net: nn.Module = model
    if processes > 1:
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        net = nn.parallel.DistributedDataParallel(model)
    model.train()
    at, seen, shown = 0, 0, 0
    since, saved = time.monotonic(), time.monotonic()
    total, parts, reported = 0.0, dict[str, float](), 0
    for phase in stage.phases:
        count = phase.images // phase.batch
        first = max(0, step - at)
        batches = _batches(images(phase), phase, first, count, seen, workers) if first < count else iter(())
        for pixels, target in batches:
            rate = schedule(stage, step)
            for group in optimizer.param_groups:
                settled = group["name"] == "scales" and step >= SCALES_SETTLE * stage.steps
                group["lr"] = 0.0 if settled else rate * group["factor"]
            loss, pieces = loss_of(net(pixels_to_input(pixels.to(device))), target.to(device))
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"train: loss is {loss.item()} at step {step}. Lower lr ({stage.lr}) and resume."
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            step += 1
            shown += phase.batch
            reported += 1
            total += float(loss.detach())
            for key, value in pieces.items():
                parts[key] = parts.get(key, 0.0) + value
            if step % every == 0:
                now = time.monotonic()
                mean = {k: v / reported for k, v in parts.items()}
                speed = shown / (now - since)
                line = Progress(
                    step, stage.steps, phase.size, phase.batch, total / reported, mean, rate, speed
                )
                total, parts, reported, since, shown = 0.0, {}, 0, now, 0
                if rank == 0:
                    _log(out, name, asdict(line))
                    if report:
                        report(line)
                if rank == 0 and now - saved > save_every_s:
                    _save(model, optimizer, out, name, step)
                    saved = now
            if validate and rank == 0 and step % max(1, stage.steps // validations) == 0:
                began = time.monotonic()
                model.eval()
                _log(out, name, {"step": step, "ap50": validate()})
                model.train()
                since += time.monotonic() - began  # the speed shown is that of training
        at += count
        seen += phase.images
    if rank == 0:
        _save(model, optimizer, out, name, step)
    model.eval()


def _log(out: Path, name: str, line: dict[str, Any]) -> None:
    with (out / f"{name}.log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")


def _forget(out: Path, name: str, step: int) -> None:
    """Drop from the log what an interrupted run did after the state that is resumed."""
    path = out / f"{name}.log.jsonl"
    if path.is_file():
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if json.loads(line)["step"] <= step))


def _save(model: nn.Module, optimizer: torch.optim.Optimizer, out: Path, name: str, step: int) -> None:
    """Written beside, then renamed: an interruption leaves the last good state."""
    tensors = {k: v.detach().contiguous().clone() for k, v in model.state_dict().items()}
    save_file(tensors, out / f"{name}.safetensors.new")
    torch.save({"optimizer": optimizer.state_dict(), "step": step}, out / f"{name}.state.pt.new")
    for suffix in ("safetensors", "state.pt"):
        os.replace(out / f"{name}.{suffix}.new", out / f"{name}.{suffix}")


def _resume(model: nn.Module, optimizer: torch.optim.Optimizer, out: Path, name: str) -> int:
    weights, state = out / f"{name}.safetensors", out / f"{name}.state.pt"
    if not weights.is_file() or not state.is_file():
        return 0
    try:
        load_weights(model, weights)
        saved = torch.load(state, weights_only=True, map_location=next(model.parameters()).device)
        optimizer.load_state_dict(saved["optimizer"])
    except CodesignError:
        raise
    except Exception as error:
        raise TrainingError(
            f"{state}: cannot be resumed ({error}). Delete it, or name another output folder."
        ) from None
    return int(saved["step"])


def load_weights(model: nn.Module, path: Path) -> None:
    """Parameters and buffers from a safetensors file. Raises TrainingError if they are not this model's."""
    try:
        tensors = load_file(path)
    except Exception as error:
        raise TrainingError(f"{path}: cannot be read ({error}), expected a safetensors checkpoint.") from None
    own = model.state_dict()
    wrong = [k for k in own if k not in tensors or tensors[k].shape != own[k].shape] + [
        k for k in tensors if k not in own
    ]
    if wrong:
        raise TrainingError(
            f"{path}: {len(wrong)} tensors are not this model's, the first is {wrong[0]}. "
            "Name the model and the number of classes it was trained with."
        )
    model.load_state_dict(tensors)
