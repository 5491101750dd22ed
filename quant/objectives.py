"""What a run learns: single objects by a classifier on the backbone, then detection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from quant.losses import BoxLoss, detection_loss, imitation_loss
from quant.models import CoDeNet
from quant.recipe import Stage

Loss = Callable[[Any, Tensor], tuple[Tensor, dict[str, float]]]


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


def classification_loss(logits: list[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of all classifiers and accuracy of the last; label -1 is left out."""
    known = labels >= 0
    right = (logits[-1].argmax(1) == labels)[known].float().mean()
    losses = [nn.functional.cross_entropy(v, labels, ignore_index=-1) for v in logits]
    return torch.stack(losses).sum(), {"last": float(losses[-1].detach()), "accuracy": float(right)}


class Distilled:
    """A loss plus `weight` times the distance to what the float parent says of the same images.

    Remembers what the student reads by a hook, so that the training loop need not know.
    """

    def __init__(self, loss: Loss, student: nn.Module, parent: nn.Module, weight: float) -> None:
        self.loss, self.parent, self.weight = loss, parent.eval(), weight
        self.images: Tensor | None = None
        student.register_forward_pre_hook(self._remember)

    def _remember(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self.images = args[0]

    def __call__(self, outputs: Any, target: Tensor) -> tuple[Tensor, dict[str, float]]:
        assert self.images is not None
        with torch.no_grad():
            wanted = self.parent.to(self.images.device)(self.images)
        imitation = imitation_loss(outputs, wanted)
        loss, parts = self.loss(outputs, target)
        return loss + self.weight * imitation, {**parts, "imitation": float(imitation.detach())}


def detector_loss(model: CoDeNet, stage: Stage) -> Loss:
    kind = cast(BoxLoss, stage.box_loss)
    return lambda outputs, target: detection_loss(outputs, target, model.config.size_unit, kind)
