"""Accuracy figures against values worked out by hand and against the COCO library."""

from __future__ import annotations

import math

import numpy as np
import pytest

from codesign.decode import Detections
from codesign.metrics import SIZES, Objects, area_ap, curve, iou, score, voc07_ap


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
    assert abs(averaged - full.coco_ap) < 1 / 101 + 1 / 160


def test_sizes_are_those_of_coco_and_known_detectors_get_their_figures() -> None:
    """One object on either side of each bound, and one on it, which COCO counts in both; a hit for small ones only."""
    boxes = [[0, 0, 10, 10], [50, 0, 82, 32], [0, 200, 50, 250], [300, 0, 396, 96], [0, 400, 200, 600]]
    truth = [objects(boxes, [0, 0, 0, 0, 1], None)]
    seen = [found(boxes[:2], [0, 0], [0.9, 0.8])]
    figures = score(truth, seen, ("x", "y", "z"))
    assert [(s.size, s.objects) for s in figures.sizes] == [("small", 2), ("medium", 3), ("large", 2)]
    small, medium, large = figures.per_class[0].sizes
    assert (small.objects, medium.objects, large.objects) == (2, 3, 1)
    assert small.ap50 == pytest.approx(1.0, abs=1e-6)  # the library divides by total + eps
    assert medium.ap50 == pytest.approx(34 / 101, abs=1e-6)  # one of three: recalls 0 to 0.33
    assert (large.ap50, large.coco_ap) == (0.0, 0.0)
    assert figures.sizes[2].coco_ap == 0.0
    assert figures.per_class[1].coco_ap == 0.0
    assert math.isnan(figures.per_class[1].sizes[0].coco_ap)
    assert math.isnan(figures.per_class[2].coco_ap)
    assert figures.coco_ap == pytest.approx(np.mean([c.coco_ap for c in figures.per_class[:2]]))


def test_a_blind_detector_has_zeros_where_there_are_objects() -> None:
    figures = score([objects([A, [0, 0, 40, 40]], [0, 0], [False, True])], [found([], [], [])], ("x", "y"))
    assert [(s.objects, s.coco_ap) for s in figures.sizes[:1]] == [(1, 0.0)]
    assert all(math.isnan(s.coco_ap) for s in figures.sizes[1:])
    assert math.isnan(figures.per_class[1].coco_ap)


def test_sizes_agree_with_the_librarys_own_summary() -> None:
    from faster_coco_eval import COCO, COCOeval_faster

    generator = np.random.default_rng(5)
    corner, side = generator.integers(0, 200, (60, 2)), generator.integers(4, 160, (60, 2))
    boxes = np.concatenate([corner, corner + side], axis=1)
    labels, moved = generator.integers(0, 3, 60), boxes + generator.integers(-4, 5, boxes.shape)
    values = generator.random(60).tolist()
    figures = score(
        [objects(boxes.tolist(), labels.tolist())], [found(moved.tolist(), labels.tolist(), values)], ("x", "y", "z")
    )  # fmt: skip

    def entries(boxes: np.ndarray) -> list[dict[str, object]]:
        return [
            {"id": i + 1, "image_id": 1, "category_id": int(k) + 1, "iscrowd": 0}
            | {"bbox": [float(v) for v in (x, y, x2 - x, y2 - y)], "area": float((x2 - x) * (y2 - y))}
            for i, ((x, y, x2, y2), k) in enumerate(zip(boxes, labels, strict=True))
        ]

    categories = [{"id": i, "name": str(i)} for i in (1, 2, 3)]
    truth = COCO({"images": [{"id": 1}], "annotations": entries(boxes), "categories": categories})
    results = [e | {"score": float(np.float32(v))} for e, v in zip(entries(moved), values, strict=True)]
    evaluation = COCOeval_faster(truth, truth.loadRes(results), "bbox")
    evaluation.run()
    assert (figures.coco_ap, *(s.coco_ap for s in figures.sizes)) == tuple(evaluation.stats[[0, 3, 4, 5]])
    assert [s.size for s in figures.sizes] == list(SIZES)
