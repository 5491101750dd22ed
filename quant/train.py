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
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from codesign.errors import CodesignError
from quant.feed import pixels_to_input
from quant.objectives import Loss
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


# Quantizers' scales are trained as log2 and act when they cross a half: they need larger steps than weights. In the
# last fifth of a stage they stand still, so that the weights settle on a grid that no longer changes.
SCALE_RATE, SCALES_SETTLE = 10.0, 0.8

Report = Callable[[Progress], None]


def quick_malloc() -> None:
    """Keep glibc from returning large blocks to the system after each step.

    Single runs on a busy machine: 9.5 against 15.8 images/s at 256 x 256, no difference at 128 x 128.
    """
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its largest
            libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def schedule(stage: Stage, step: int) -> float:
    """Learning rate: linear warm-up, then a cosine to zero."""
    rise = max(1, int(stage.steps * stage.warmup))
    if step < rise:
        return stage.lr * (step + 1) / rise
    return float(stage.lr * 0.5 * (1 + np.cos(np.pi * (step - rise) / max(1, stage.steps - rise))))


def parameter_groups(model: nn.Module, stage: Stage) -> list[dict[str, Any]]:
    """Decay on convolution weights only. `factor` multiplies the learning rate: see SCALE_RATE.

    Offsets have the stage's `offset_rate`: one step of Adam moves one by about lr times the sum of its inputs, hundreds
    of channels, a whole pixel.
    """
    groups: dict[str, list[nn.Parameter]] = {"scales": [], "offsets": [], "weights": [], "rest": []}
    for name, p in model.named_parameters():
        if p.requires_grad:
            scale, offset = name.endswith("log2_scale"), ".offset." in name
            groups[
                "scales" if scale else "offsets" if offset else "weights" if p.ndim == 4 else "rest"
            ].append(p)
    factors = {"scales": SCALE_RATE, "offsets": stage.offset_rate}
    return [
        {
            "params": params,
            "name": kind,
            "weight_decay": stage.weight_decay if kind == "weights" else 0.0,
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
    optimizer = torch.optim.AdamW(parameter_groups(model, stage), lr=stage.lr)
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
    """An interruption leaves the last good state."""
    torch.save({"optimizer": optimizer.state_dict(), "step": step}, out / f"{name}.state.pt.new")
    save_weights(model, out / f"{name}.safetensors")
    os.replace(out / f"{name}.state.pt.new", out / f"{name}.state.pt")


def save_weights(model: nn.Module, path: Path) -> None:
    """Parameters and buffers, written beside, then renamed."""
    tensors = {k: v.detach().contiguous().clone() for k, v in model.state_dict().items()}
    beside = path.with_name(f"{path.name}.new")
    save_file(tensors, beside)
    os.replace(beside, path)


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


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Raises TrainingError if there is no such file, or it is none of safetensors."""
    try:
        return load_file(path)
    except Exception as error:
        raise TrainingError(f"{path}: cannot be read ({error}), expected a safetensors checkpoint.") from None


def load_weights(model: nn.Module, path: Path) -> None:
    """Parameters and buffers from a safetensors file. Raises TrainingError if they are not this model's."""
    tensors = tensors_of(path)
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
