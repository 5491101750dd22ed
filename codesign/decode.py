"""From raw integer head maps to boxes (CenterNet, arXiv 1904.07850, section 4).

Everything that selects works on integers, so it has one answer on every machine: a peak is a cell of the heat map
that is no less than its eight neighbours; of all peaks the `top` highest logits count, equal ones in the order
lower class, row, column. The sigmoid is monotonic and only turns the chosen logits into scores.

A model may ask for suppression (`nms_iou`): of two boxes of one class that overlap by more, the lower one goes. The
published network does without, and its decoder of stride 32 then finds many objects twice.

    centre = (column + reg_x, row + reg_y)   size = (wh_x, wh_y) * size_unit   box = (centre -+ size / 2) * stride

Other networks of this family give the logarithm of the size, rows before columns, or centres from the middle of a cell:
`size_form` exp, `axes` yx and `centre` say so.

The head maps of a float network are decoded by the same functions, with scales of 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.errors import CodesignError
from codesign.images import Placement

Values = npt.NDArray[Any]  # integers of any width, or floats of a float network

META = "codesign.detector"  # the key of the model's metadata that describes its heads
TOP = 100


class NotADetector(CodesignError):
    """The model does not say how its outputs become boxes."""


@dataclass(frozen=True)
class Detector:
    """How a network's outputs are read. `scales`: real value of 1 LSB of each output, by name."""

    classes: tuple[str, ...]
    stride: int
    size_unit: float
    heatmap: str
    size: str
    offset: str
    scales: Mapping[str, float]
    nms_iou: float | None = (
        None  # boxes of one class that overlap by more are one object; None: no suppression
    )
    size_form: str = "linear"  # or "exp": the size is size_unit * e^value
    axes: str = "xy"  # or "yx": order of the two channels of size and offset
    centre: float = 0.0  # what is added to both offsets

    @classmethod
    def from_meta(
        cls, meta: Mapping[str, str], scales: Mapping[str, float], where: str = "model"
    ) -> Detector:
        """Reads metadata `codesign.detector`. Raises NotADetector."""
        if META not in meta:
            raise NotADetector(
                f"{where}: has no metadata {META!r}, expected the classes and heads of a detector. "
                "Export it with `codesign export`."
            )
        try:
            content = json.loads(meta[META])
            heads = content["heads"]
            found = cls(
                tuple(str(c) for c in content["classes"]),
                int(content["stride"]),
                float(content["size_unit"]),
                str(heads["heatmap"]),
                str(heads["size"]),
                str(heads["offset"]),
                dict(scales),
                None if content.get("nms_iou") is None else float(content["nms_iou"]),
                str(content.get("size_form", "linear")),
                str(content.get("axes", "xy")),
                float(content.get("centre", 0.0)),
            )
            if found.size_form not in ("linear", "exp") or found.axes not in ("xy", "yx"):
                raise ValueError(
                    f"size_form {found.size_form} and axes {found.axes}, expected linear or exp, xy or yx"
                )
            if found.nms_iou is not None and not 0 < found.nms_iou < 1:
                raise ValueError(f"nms_iou is {found.nms_iou}, expected between 0 and 1")
        except (ValueError, KeyError, TypeError) as error:
            raise NotADetector(
                f"{where}: metadata {META!r} is not understood ({type(error).__name__}: {error}), expected classes, "
                "stride, size_unit and heads. Export it with `codesign export`."
            ) from None
        missing = [h for h in (found.heatmap, found.size, found.offset) if h not in scales]
        if missing or not found.classes:
            lack = f"names outputs {', '.join(missing)} that the model lacks" if missing else "names no class"
            raise NotADetector(f"{where}: metadata {META!r} {lack}. Export it with `codesign export`.")
        return found


@dataclass(frozen=True)
class Detections:
    """Boxes (n, 4) float32 x1 y1 x2 y2 in pixels, labels (n,), scores (n,) in 0..1, best first."""

    boxes: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    labels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.labels)

    def above(self, score: float) -> Detections:
        keep = self.scores >= score
        return Detections(self.boxes[keep], self.labels[keep], self.scores[keep])


def peaks(heat: Values) -> npt.NDArray[np.bool_]:
    """Cells (H, W, C) that are no less than their eight neighbours of the same class (those inside the map)."""
    height, width, _ = heat.shape
    low = -np.inf if heat.dtype.kind == "f" else np.iinfo(heat.dtype).min
    padded = np.full((height + 2, width + 2, heat.shape[2]), low, heat.dtype)
    padded[1:-1, 1:-1] = heat
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    highest: Values = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    result: npt.NDArray[np.bool_] = heat >= highest
    return result


def top_peaks(heat: Values, top: int = TOP) -> tuple[npt.NDArray[np.int64], Values]:
    """The `top` highest peaks as (n, 3) class, row, column, and their logits (n,); ties in that order of columns."""
    label, row, column = np.nonzero(peaks(heat).transpose(2, 0, 1))  # in the order that breaks ties
    logit = heat[row, column, label].astype(np.float64 if heat.dtype.kind == "f" else np.int64)
    best = np.argsort(-logit, kind="stable")[:top]
    return np.stack([label, row, column], axis=1).astype(np.int64)[best], logit[best]


def decode(
    outputs: Mapping[str, Values], detector: Detector, placement: Placement | None = None, top: int = TOP
) -> Detections:
    """Boxes of one picture from its head maps (H, W, C) of integer codes.

    With `placement` the boxes are in pixels of the original picture, clipped to it, and those that fall outside
    are dropped; without it they are in pixels of the network's input. Boxes without area are dropped.
    """
    (label, row, column), logit = (v.T for v in top_peaks(outputs[detector.heatmap], top))
    order = slice(None, None, -1 if detector.axes == "yx" else 1)
    shift = outputs[detector.offset][row, column, order].astype(np.float64) * detector.scales[detector.offset]
    shift = shift + detector.centre
    size = outputs[detector.size][row, column, order].astype(np.float64) * detector.scales[detector.size]
    size = (np.exp(size) if detector.size_form == "exp" else size) * detector.size_unit
    centre = np.stack([column, row], axis=1) + shift
    boxes = (np.concatenate([centre - size / 2, centre + size / 2], axis=1) * detector.stride).astype(
        np.float32
    )
    if detector.nms_iou is not None:
        kept = suppress(boxes, label, detector.nms_iou)
        boxes, label, logit = boxes[kept], label[kept], logit[kept]
    if placement is not None:
        boxes = placement.to_image(boxes)
    solid = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    scores = sigmoid(logit * detector.scales[detector.heatmap])
    return Detections(boxes[solid], label[solid], scores[solid])


def suppress(
    boxes: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], limit: float
) -> npt.NDArray[np.int64]:
    """Indices of the boxes (n, 4), best first, that no better kept box of their class overlaps by IoU > limit."""
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T, np.float64)
    wide = np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1)
    high = np.minimum(y2[:, None], y2) - np.maximum(y1[:, None], y1)
    shared = np.maximum(wide, 0) * np.maximum(high, 0)
    area = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    # Multiplied out, so that boxes without area need no special case.
    over = (shared > limit * (area[:, None] + area - shared)) & (labels[:, None] == labels)
    kept: list[int] = []
    standing = np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if standing[i]:
            kept.append(i)
            standing &= ~over[i]
    return np.asarray(kept, np.int64)


def sigmoid(x: Values) -> npt.NDArray[np.float32]:
    """1 / (1 + e^-x) without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)


def coco_results(
    detections: Detections,
    image_id: int | str,
    classes: tuple[str, ...],
    category_ids: tuple[int, ...] | None = None,
) -> list[dict[str, Any]]:
    """Entries of a COCO result file. Category ids count from 1 unless the data set's own are given.

    The class name is written too (`category`): readers of the format ignore keys they do not know.
    """
    entries = []
    for (x1, y1, x2, y2), label, score in zip(
        detections.boxes, detections.labels, detections.scores, strict=True
    ):
        entries.append(
            {
                "image_id": image_id,
                "category_id": category_ids[label] if category_ids else int(label) + 1,
                "category": classes[label],
                "bbox": [_short(v) for v in (x1, y1, x2 - x1, y2 - y1)],
                "score": _short(score, 5),
            }
        )
    return entries


def _short(value: Any, digits: int = 2) -> float:
    number = round(float(value), digits)
    assert math.isfinite(number)
    return number
