"""Accuracy figures against values worked out by hand and against the COCO library."""

from __future__ import annotations

import math

import numpy as np
import pytest

from codesign.decode import Detections
from codesign.metrics import Objects, area_ap, coco_ap, curve, iou, score, voc07_ap


def objects(boxes: list[list[float]], labels: list[int], difficult: list[bool] | None = None) -> Objects:
    return Objects(
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(labels, np.int64),
        np.asarray(difficult or [False] * len(labels), bool),
    )


def found(boxes: list[list[float]], labels: list[int], scores: list[float]) -> Detections:
    return Detections(
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(labels, np.int64),
        np.asarray(scores, np.float32),
    )


A, B, C, FAR = [0, 0, 10, 10], [20, 20, 30, 30], [40, 0, 50, 10], [100, 100, 110, 110]


def test_overlap_of_boxes() -> None:
    a = np.asarray([A, [0, 0, 10, 5], [3, 3, 3, 3]], np.float32)
    b = np.asarray([A, B], np.float32)
    assert iou(a, b).tolist() == [[1.0, 0.0], [0.5, 0.0], [0.0, 0.0]]
    assert iou(a, b[:0]).shape == (3, 0)


def test_a_perfect_detector_scores_one() -> None:
    truth = [objects([A, B], [0, 1]), objects([C], [0])]
    seen = [found([A, B], [0, 1], [0.9, 0.8]), found([C], [0], [0.7])]
    figures = score(truth, seen, ("x", "y"))
    assert (figures.ap50, figures.ap50_voc07, figures.images) == (1.0, 1.0, 2)
    assert figures.coco_ap == pytest.approx(1.0, abs=1e-6)  # the library divides by total + eps


def test_known_curve_right_wrong_right_of_three() -> None:
    """Right, wrong, right with 3 objects: recall 1/3 1/3 2/3, precision 1 1/2 2/3."""
    truth = [objects([A, B, C], [0, 0, 0])]
    seen = [found([A, FAR, B], [0, 0, 0], [0.9, 0.8, 0.7])]
    recall, precision, count = curve(truth, seen, 0)
    assert count == 3
    assert recall.tolist() == [1 / 3, 1 / 3, 2 / 3]
    assert precision.tolist() == [1, 1 / 2, 2 / 3]
    # recall 0 .1 .2 .3 at precision 1; .4 .5 .6 at 2/3; the rest 0
    assert math.isclose(voc07_ap(recall, precision), (4 * 1 + 3 * 2 / 3) / 11)
    assert math.isclose(area_ap(recall, precision), 1 / 3 * 1 + 1 / 3 * 2 / 3)


def test_recall_of_three_tenths_counts_at_three_tenths() -> None:
    recall = np.arange(1, 4) / 10  # 3 / 10 in floats is below 0.3 on some grids
    assert math.isclose(voc07_ap(recall, np.ones(3)), 4 / 11)


def test_the_second_detection_of_an_object_is_wrong_and_order_follows_the_score() -> None:
    truth = [objects([A], [0])]
    recall, precision, _ = curve(truth, [found([A, A], [0, 0], [0.5, 0.9])], 0)
    assert (recall.tolist(), precision.tolist()) == ([1, 1], [1, 0.5])


def test_difficult_objects_neither_help_nor_hurt() -> None:
    truth = [objects([A, B], [0, 0], [False, True])]
    seen = [found([B, B, A], [0, 0, 0], [0.9, 0.8, 0.7])]
    recall, precision, count = curve(truth, seen, 0)
    assert count == 1
    assert recall.tolist() == [0, 0, 1]
    assert precision[-1] == 1
    assert score(truth, seen, ("x",)).ap50 == 1.0


def test_overlap_of_exactly_one_half_is_a_hit() -> None:
    recall, _, _ = curve([objects([A], [0])], [found([[0, 0, 10, 5]], [0], [0.9])], 0)
    assert recall.tolist() == [1]


def test_classes_without_objects_are_left_out_of_the_mean() -> None:
    figures = score([objects([A], [0])], [found([A, B], [0, 1], [0.9, 0.9])], ("x", "y"))
    assert figures.ap50 == 1.0
    assert math.isnan(figures.per_class[1].ap50)


def test_nothing_found_and_nothing_to_find() -> None:
    nothing = found([], [], [])
    assert score([objects([A], [0])], [nothing], ("x",)).coco_ap == 0.0
    assert math.isnan(score([objects([], [])], [nothing], ("x",)).coco_ap)


def test_area_ap_agrees_with_the_coco_library_at_one_threshold() -> None:
    """COCO samples 101 recalls, so the two differ by a step of the curve: 1 / 101 + 1 / objects."""
    generator = np.random.default_rng(3)
    truth, seen = [], []
    for _ in range(40):
        corner = generator.integers(0, 80, (4, 2))
        boxes = np.concatenate([corner, corner + generator.integers(8, 20, (4, 2))], axis=1)
        truth.append(objects(boxes.tolist(), [0] * 4))
        moved = boxes + generator.integers(-3, 4, boxes.shape)
        seen.append(found(moved.tolist(), [0] * 4, generator.random(4).tolist()))
    recall, precision, _ = curve(truth, seen, 0)
    full = score(truth, seen, ("x",))
    assert 0.1 < full.coco_ap < full.ap50 < 1
    averaged = np.mean([area_ap(*curve(truth, seen, 0, t)[:2]) for t in np.arange(0.5, 0.96, 0.05)])
    assert abs(averaged - coco_ap(truth, seen, ("x",))) < 1 / 101 + 1 / 160
