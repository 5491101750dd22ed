"""What a run is fed with: image number k with its target, as a function of k alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from codesign.resize import resize
from quant.data.augment import augment
from quant.data.scenes import Scenes
from quant.data.types import Dataset, Sample, letterboxed
from quant.losses import targets
from quant.models import STRIDE
from quant.recipe import Phase

KEPT = 512  # a data set of so few photographs is held in memory, shrunk


def pixels_to_input(images: Tensor) -> Tensor:
    """uint8 (N,H,W,3) -> float (N,3,H,W) in [-1, 1): (pixel - 128) / 128, exact, channel-last in memory."""
    return ((images.permute(0, 3, 1, 2).float() - 128) / 128).contiguous(memory_format=torch.channels_last)


class TrainingImages(TorchDataset[tuple[Tensor, Tensor]]):
    """Image number k of a run, with its targets. Scenes are drawn anew; other sets are permuted and augmented."""

    def __init__(self, data: Dataset, phase: Phase, seed: int, upside_down: bool = False) -> None:
        self.data, self.shape, self.seed, self.upside_down = data, phase.shape, seed, upside_down
        self.scenes: Scenes | None = None
        if isinstance(data, Scenes):
            self.scenes = Scenes(data.split, data.count, phase.size, data.seed, phase.window or None)
        self.order: tuple[int, Any] = (-1, None)
        self.kept: dict[int, Sample] = {}

    def source(self, k: int) -> Sample:
        """The sample that image k is made from, as it is in the data set."""
        epoch, at = divmod(k, len(self.data))
        if self.order[0] != epoch:
            self.order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.data)))
        number = int(self.order[1][at])
        sample = self.kept.get(number) or shrunk(self.data[number], *self.shape)
        if len(self.data) <= KEPT:
            self.kept[number] = sample
        return sample

    def sample(self, k: int) -> Sample:
        if self.scenes is not None:
            return self.scenes.draw(k)
        varied = augment(self.source(k), np.random.default_rng([self.seed, k, 1]), self.upside_down)
        return letterboxed(varied, *self.shape)

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor]:
        s = self.sample(k)
        keep = ~s.difficult
        cells = [side // STRIDE for side in s.image.shape[:2]]
        t = targets(s.boxes[keep], s.labels[keep], len(self.data.classes), *cells, STRIDE)
        return torch.from_numpy(s.image.copy()), torch.from_numpy(t.stacked())


class TrainingCrops(TrainingImages):
    """Single objects with their labels: what a backbone is pretrained on."""

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor]:
        if self.scenes is not None:
            image, label = self.scenes.crop(k)
        else:
            rng = np.random.default_rng([self.seed, k, 2])
            image, label = cut_object(augment(self.source(k), rng, self.upside_down), self.shape[0], rng)
        return torch.from_numpy(image.copy()), torch.tensor(label)


def shrunk(sample: Sample, height: int, width: int) -> Sample:
    """The sample, where it is larger, at 1.5 times the network's input: augmentation enlarges up to 1.4 times."""
    h, w = sample.image.shape[:2]
    scale = max(1.5 * height / h, 1.5 * width / w)
    if scale >= 1:
        return sample
    h, w = round(h * scale), round(w * scale)
    factor = np.float32([w / sample.image.shape[1], h / sample.image.shape[0]] * 2)
    return replace(sample, image=resize(sample.image, h, w), boxes=sample.boxes * factor)


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
