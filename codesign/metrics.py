"""Accuracy of detections: AP at IoU 0.5 (Pascal VOC 2007's eleven points, and the area under the curve of VOC
2010 on), and COCO's AP over IoU 0.50:0.95, by class and by size, by the library faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from codesign.decode import Detections
from codesign.errors import ToolMissing

Floats = npt.NDArray[np.float64]

# COCO's sizes: area of the object's box from (included) to (included), in square pixels of the picture.
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 10**10)}
FEW = 20  # one object more or less found is a step of 1 / objects in recall: below this, of more than 0.05


class Truth(Protocol):
    """What is on one picture; `quant.data.Sample` is one."""

    @property
    def boxes(self) -> npt.NDArray[np.float32]: ...
    @property
    def labels(self) -> npt.NDArray[np.int64]: ...
    @property
    def difficult(self) -> npt.NDArray[np.bool_]: ...


@dataclass(frozen=True)
class Objects:
    """The truth of one picture without its pixels: boxes (k, 4), labels (k,), difficult (k,)."""

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    difficult: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SizeScore:
    """The objects of one of SIZES; nan if there are none."""

    size: str
    objects: int
    ap50: float  # as COCO counts it: 101 recalls
    coco_ap: float


@dataclass(frozen=True)
class ClassScore:
    name: str
    objects: int  # that count: not difficult
    ap50: float  # nan if there is no object
    ap50_voc07: float
    coco_ap: float
    sizes: tuple[SizeScore, ...]


@dataclass(frozen=True)
class Scores:
    """Means run over the classes that have objects. `coco_ap` is AP at IoU 0.50:0.95."""

    images: int
    ap50: float
    ap50_voc07: float
    coco_ap: float
    per_class: tuple[ClassScore, ...]
    sizes: tuple[SizeScore, ...]


def score(truths: Sequence[Truth], found: Sequence[Detections], classes: Sequence[str]) -> Scores:
    """All figures for detections of the same pictures in the same order. Raises ToolMissing without the library."""
    assert len(truths) == len(found)
    table = coco_precision(truths, found, classes)
    rows = []
    for label, name in enumerate(classes):
        recall, precision, count = curve(truths, found, label)
        area, voc07 = (area_ap(recall, precision), voc07_ap(recall, precision)) if count else (np.nan, np.nan)
        of_class = table[:, :, label : label + 1]
        sizes = _sizes(truths, of_class, label)
        rows.append(ClassScore(name, count, area, voc07, _mean(of_class[..., 0]), sizes))
    present = [r for r in rows if r.objects]
    mean50, mean07 = (
        float(np.mean([getattr(r, key) for r in present])) if present else float("nan")
        for key in ("ap50", "ap50_voc07")
    )
    overall = _mean(table[..., 0])
    return Scores(len(truths), mean50, mean07, overall, tuple(rows), _sizes(truths, table))


def _sizes(truths: Sequence[Truth], table: Floats, label: int | None = None) -> tuple[SizeScore, ...]:
    """Scores by size, of one label or of all: `table` holds the precision of those classes."""
    areas = [np.zeros(0)]
    for truth in truths:
        counted = ~truth.difficult if label is None else ~truth.difficult & (truth.labels == label)
        areas.append(
            np.prod([_xywh(box)[2:] for box in truth.boxes[counted]], axis=1) if counted.any() else []
        )
    every = np.concatenate(areas)
    return tuple(
        SizeScore(
            size,
            int(np.sum((low <= every) & (every <= high))),
            _mean(table[0, ..., 1 + i]),
            _mean(table[..., 1 + i]),
        )
        for i, (size, (low, high)) in enumerate(SIZES.items())
    )


def _mean(precision: Floats) -> float:
    """Mean over thresholds, recalls and those classes that have objects (the others hold -1)."""
    known = precision[precision > -1]
    return float(np.mean(known)) if known.size else float("nan")


def curve(
    truths: Sequence[Truth], found: Sequence[Detections], label: int, threshold: float = 0.5
) -> tuple[Floats, Floats, int]:
    """Recall and precision after each detection of one class, best score first, and the number of objects.

    The rule of the VOC development kit: a detection belongs to the object it overlaps most; if that overlap
    reaches the threshold it is right the first time and wrong again, and does not count if the object is
    difficult. Equal scores keep the order of pictures.
    """
    order, hits = [], []  # per detection: its score, and 1 right, 0 wrong, -1 not counted
    count = 0
    for truth, seen in zip(truths, found, strict=True):
        mine = truth.labels == label
        boxes, difficult = truth.boxes[mine], truth.difficult[mine]
        count += int(np.sum(~difficult))
        chosen = np.flatnonzero(seen.labels == label)
        chosen = chosen[np.argsort(-seen.scores[chosen], kind="stable")]
        overlaps = iou(seen.boxes[chosen], boxes)
        taken = np.zeros(len(boxes), bool)
        for row, index in enumerate(chosen):
            best = int(np.argmax(overlaps[row])) if len(boxes) else -1
            verdict = 0
            if best >= 0 and overlaps[row, best] >= threshold:
                verdict = -1 if difficult[best] else int(not taken[best])
                taken[best] |= not difficult[best]
            order.append(float(seen.scores[index]))
            hits.append(verdict)
    ranked = np.asarray(hits, np.int64)[np.argsort(-np.asarray(order), kind="stable")]
    right, wrong = np.cumsum(ranked == 1), np.cumsum(ranked == 0)
    precision = right / np.maximum(right + wrong, 1)
    return right / max(count, 1), precision, count


def iou(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> Floats:
    """Intersection over union of every box of `a` (n, 4) with every box of `b` (m, 4), as (n, m)."""
    wide_a, wide_b = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    low, high = np.maximum(wide_a[..., :2], wide_b[..., :2]), np.minimum(wide_a[..., 2:], wide_b[..., 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(np.maximum(v[..., 2:] - v[..., :2], 0), axis=2) for v in (wide_a, wide_b)]
    result: Floats = common / np.maximum(areas[0] + areas[1] - common, np.finfo(np.float64).tiny)
    return result


def voc07_ap(recall: Floats, precision: Floats) -> float:
    """Mean over recall 0, 0.1, ... 1 of the best precision at that recall or more (VOC 2007)."""
    steps = [precision[recall >= t / 10 - 1e-12] for t in range(11)]  # 3 of 10 found is a recall of 0.3
    return float(np.mean([s.max() if len(s) else 0.0 for s in steps]))


def area_ap(recall: Floats, precision: Floats) -> float:
    """Area under the monotonic envelope of the curve (VOC 2010 on)."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def coco_precision(truths: Sequence[Truth], found: Sequence[Detections], classes: Sequence[str]) -> Floats:
    """COCO's precision at (IoU 0.50:0.95, recall 0:1 in 101 steps, class, all and each of SIZES); -1 without objects.

    Difficult objects are entered as crowds, which COCO neither demands nor punishes.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise ToolMissing(
            "COCO AP: the package faster-coco-eval is not installed. Install it with: pip install faster-coco-eval"
        ) from None
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image, (truth, seen) in enumerate(zip(truths, found, strict=True), 1):
        for box, label, hard in zip(truth.boxes, truth.labels, truth.difficult, strict=True):
            bbox = _xywh(box)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": int(label) + 1, "bbox": bbox}
                | {"area": bbox[2] * bbox[3], "iscrowd": int(hard)}
            )
        for box, label, value in zip(seen.boxes, seen.labels, seen.scores, strict=True):
            results.append(
                {"image_id": image, "category_id": int(label) + 1, "bbox": _xywh(box), "score": float(value)}
            )
    if not results:
        return _nothing_found(truths, len(classes))
    dataset = {
        "images": [{"id": i + 1} for i in range(len(truths))],
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(classes)],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # the library reports its progress on stdout
        truth_set = COCO(dataset)
        evaluation = COCOeval_faster(truth_set, truth_set.loadRes(results), "bbox")
        evaluation.params.areaRngLbl = ["all", *SIZES]
        evaluation.params.areaRng = [[0, 10**10], *map(list, SIZES.values())]
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"], np.float64)[..., -1]


def _nothing_found(truths: Sequence[Truth], classes: int) -> Floats:
    """The precision of no detection at all, which the library does not take: 0 where there are objects."""
    table = np.full((10, 101, classes, 1 + len(SIZES)), -1.0)
    for truth in truths:
        for box, label in zip(truth.boxes[~truth.difficult], truth.labels[~truth.difficult], strict=True):
            _, _, width, height = _xywh(box)
            fits = [low <= width * height <= high for low, high in SIZES.values()]
            table[:, :, label, np.flatnonzero([True, *fits])] = 0.0
    return table


def _xywh(box: Any) -> list[float]:
    x1, y1, x2, y2 = map(float, box)
    return [x1, y1, x2 - x1, y2 - y1]
