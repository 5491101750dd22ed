"""CenterNet targets and losses (arXiv 1904.07850, sections 3 and 4), in cells of the output grid.

Published: focal loss on Gaussian peaks, L1 on size and centre at the object's cell (`box_loss="l1"`, weights 0.1 and
1). Default here: generalized IoU over the whole peak (arXiv 1902.09630), so that every cell near the centre learns the
box. The two have not been compared on the shipped networks. With "giou" an object counts as its area does; with
"giou-even" objects count alike, for data whose classes differ in size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from quant.clamps import clamp

Floats = npt.NDArray[np.float32]
BoxLoss: TypeAlias = Literal["giou", "giou-even", "l1"]
# A centre moved by a seventh of the side keeps an IoU of about 0.7 (CornerNet's rule, arXiv 1808.01244); no peak is
# narrower than that of a side of 4.2 cells.
SIGMAS, NARROWEST = 7, 0.6


@dataclass(frozen=True)
class Targets:
    """heat (C,h,w) in 0..1; box (4,h,w) = width, height, x, y relative to the cell; weight (h,w); centre (h,w) 0/1."""

    heat: Floats
    box: Floats
    weight: Floats
    centre: Floats

    def stacked(self) -> Floats:
        """One array (C+6,h,w), so that a batch is one copy."""
        return np.concatenate([self.heat, self.box, self.weight[None], self.centre[None]])


def targets(
    boxes: Floats, labels: npt.NDArray[np.int64], classes: int, height: int, width: int, stride: int
) -> Targets:
    """Training targets of one image. boxes (k,4) x1 y1 x2 y2 in image pixels; height and width of the grid."""
    heat = np.zeros((classes, height, width), np.float32)
    box = np.zeros((4, height, width), np.float32)
    weight = np.zeros((height, width), np.float32)
    centre = np.zeros((height, width), np.float32)
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for k in np.argsort(-area):  # small objects last: they own the cells they share
        x1, y1, x2, y2 = boxes[k] / stride
        w, h, cx, cy = x2 - x1, y2 - y1, (x1 + x2) / 2, (y1 + y2) / 2
        ix, iy = int(cx), int(cy)
        if w <= 0 or h <= 0 or not (0 <= ix < width and 0 <= iy < height):
            continue
        sx, sy = max(w / SIGMAS, NARROWEST), max(h / SIGMAS, NARROWEST)
        gx, gy = np.exp(-((columns - ix) ** 2) / (2 * sx * sx)), np.exp(-((rows - iy) ** 2) / (2 * sy * sy))
        peak = gy[:, None] * gx[None]
        np.maximum(heat[labels[k]], peak, out=heat[labels[k]])
        heat[labels[k], iy, ix] = 1
        own = peak > 0.5
        weight[own] = peak[own]
        box[0, own], box[1, own] = w, h
        box[2, own] = np.broadcast_to(cx - columns[None], peak.shape)[own]
        box[3, own] = np.broadcast_to(cy - rows[:, None], peak.shape)[own]
        centre[iy, ix] = 1
    return Targets(heat, box, weight, centre)


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Penalty-reduced focal loss, alpha 2, beta 4, per object. logits and heat (N,C,h,w)."""
    logits = logits.clamp(-12, 12)
    p = torch.sigmoid(logits)
    positive = heat == 1
    count = positive.sum().clamp(min=1)
    at = F.logsigmoid(logits[positive]) * (1 - p[positive]) ** 2
    around = F.logsigmoid(-logits) * p**2 * (1 - heat) ** 4 * ~positive
    return -(at.sum() + around.sum()) / count


def giou_loss(size: Tensor, shift: Tensor, box: Tensor, weight: Tensor, even: bool = False) -> Tensor:
    """1 - GIoU of predicted and true box, averaged over the cells of all peaks with their Gaussian weight.

    `even`: each cell's weight is divided by the area of its object's peak, so that a small object is worth a large one.
    """
    cells = weight > 0
    mass = weight[cells]
    predicted = torch.cat([size, shift], 1).permute(0, 2, 3, 1)[cells]
    wanted = box.permute(0, 2, 3, 1)[cells]
    if even:
        mass = mass / (math.pi * (wanted[:, :2] / SIGMAS).clamp(min=NARROWEST).prod(1))

    def corners(v: Tensor) -> tuple[Tensor, Tensor]:
        half = clamp(v[:, :2], 0.1, torch.inf) / 2  # a size below zero must find its way back
        return v[:, 2:] - half, v[:, 2:] + half

    (p1, p2), (t1, t2) = corners(predicted), corners(wanted)
    inter = (torch.minimum(p2, t2) - torch.maximum(p1, t1)).clamp(min=0).prod(1)
    union = (p2 - p1).prod(1) + (t2 - t1).prod(1) - inter
    hull = (torch.maximum(p2, t2) - torch.minimum(p1, t1)).prod(1)
    loss = 1 - inter / union + (hull - union) / hull
    return (loss * mass).sum() / mass.sum().clamp(min=1)


def l1_loss(size: Tensor, shift: Tensor, box: Tensor, centre: Tensor) -> Tensor:
    """The published regression losses at the objects' own cells: 0.1 * L1 of the size + L1 of the centre."""
    at = centre.unsqueeze(1)
    count = centre.sum().clamp(min=1)
    return (0.1 * ((size - box[:, :2]).abs() * at).sum() + ((shift - box[:, 2:]).abs() * at).sum()) / count


def detection_loss(
    outputs: tuple[Any, Any, Any], target: Tensor, size_unit: float, box_loss: BoxLoss = "giou"
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one batch and its parts. `target` (N,C+6,h,w) as `Targets.stacked`."""
    heat, size, shift = (o.value if hasattr(o, "value") else o for o in outputs)
    classes = heat.shape[1]
    wanted, box = target[:, :classes], target[:, classes : classes + 4]
    weight, centre = target[:, classes + 4], target[:, classes + 5]
    hm = focal_loss(heat, wanted)
    if box_loss.startswith("giou"):
        regression = 5 * giou_loss(size * size_unit, shift, box, weight, even=box_loss == "giou-even")
    else:
        regression = l1_loss(size * size_unit, shift, box, centre)
    return hm + regression, {"heatmap": float(hm.detach()), "box": float(regression.detach())}


def imitation_loss(outputs: Sequence[Any], wanted: Sequence[Tensor]) -> Tensor:
    """Distance of (heat map, size, centre) from those of another network, for distillation (arXiv 1503.02531).

    Kullback-Leibler divergence of the heat maps' probabilities; L1 of size and centre. Both per object that the other
    network sees: cells count by its largest probability there.
    """
    heat, size, shift = (o.value if hasattr(o, "value") else o for o in outputs)
    p = torch.sigmoid(wanted[0])
    seen = p.amax(1, keepdim=True)
    mass = seen.sum().clamp(min=1)
    divergence = p * (F.logsigmoid(wanted[0]) - F.logsigmoid(heat))
    divergence = divergence + (1 - p) * (F.logsigmoid(-wanted[0]) - F.logsigmoid(-heat))
    boxes = ((size - wanted[1]).abs() * seen).sum() + ((shift - wanted[2]).abs() * seen).sum()
    return (divergence.sum() + boxes) / mass
