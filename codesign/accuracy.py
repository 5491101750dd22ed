"""Accuracy of a detector on a data set, on any rung of the ladder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from codesign.decode import Detections, coco_results
from codesign.errors import DataError
from codesign.images import Pixels
from codesign.metrics import Objects, Scores, score
from codesign.parallel import in_order


class Picture(Protocol):
    """One sample of a data set; `quant.data.Sample` is one."""

    @property
    def image(self) -> Pixels: ...
    @property
    def boxes(self) -> npt.NDArray[np.float32]: ...
    @property
    def labels(self) -> npt.NDArray[np.int64]: ...
    @property
    def difficult(self) -> npt.NDArray[np.bool_]: ...
    @property
    def image_id(self) -> int | str: ...


@dataclass(frozen=True)
class Evaluation:
    """Figures, the detections behind them as COCO results, and classes of the data that the model lacks."""

    scores: Scores
    results: list[dict[str, Any]]
    lacking: tuple[str, ...]


def evaluate_detector(
    detect: Callable[[Pixels], Detections],
    model_classes: Sequence[str],
    samples: Iterable[Picture],
    data_classes: Sequence[str],
    category_ids: tuple[int, ...] | None = None,
    where: str = "data",
    threads: int = 1,
) -> Evaluation:
    """Runs `detect` on every sample, on so many threads, which change no figure and no order.

    Classes are matched by name; those the model lacks count as never found.

    Raises DataError if no class is common to both, or the data set has no sample.
    """
    table = class_table(model_classes, data_classes, where)
    truths: list[Objects] = []
    found: list[Detections] = []
    results: list[dict[str, Any]] = []
    for sample, seen in in_order(lambda sample: (sample, detect(sample.image)), samples, threads):
        truths.append(Objects(sample.boxes, sample.labels, sample.difficult))
        labels = table[seen.labels]
        known = labels >= 0
        found.append(Detections(seen.boxes[known], labels[known], seen.scores[known]))
        results += coco_results(found[-1], sample.image_id, tuple(data_classes), category_ids)
    if not truths:
        raise DataError(f"{where}: is empty, expected at least one picture. Name another split or directory.")
    lacking = tuple(c for c in data_classes if c not in model_classes)
    return Evaluation(score(truths, found, data_classes), results, lacking)


def class_table(model: Sequence[str], data: Sequence[str], where: str) -> npt.NDArray[np.int64]:
    """Label of the data set for each label of the model, -1 where the data set has no such class."""
    index = {name: i for i, name in enumerate(data)}
    table = np.asarray([index.get(name, -1) for name in model], np.int64)
    if not (table >= 0).any():
        raise DataError(
            f"{where}: has the classes {_some(data)}, but the model detects {_some(model)}. "
            "Use a model that was trained on these classes."
        )
    return table


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])
