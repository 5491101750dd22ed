"""Integer decoding against a plain-loop reference, with its pinned ties."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.decode import (
    META,
    Detections,
    Detector,
    NotADetector,
    coco_results,
    decode,
    peaks,
    sigmoid,
    suppress,
    top_peaks,
)
from codesign.images import Placement

DESCRIPTION = {
    "classes": ["cat", "dog"],
    "stride": 4,
    "size_unit": 16.0,
    "heads": {"heatmap": "hm", "size": "wh", "offset": "reg"},
}
SCALES = {"hm": 2**-4, "wh": 2**-7, "reg": 2**-6}


def detector() -> Detector:
    return Detector.from_meta({META: json.dumps(DESCRIPTION)}, SCALES)


def loop_top_peaks(heat: np.ndarray, top: int) -> list[tuple[int, int, int, int]]:
    height, width, classes = heat.shape
    found = []
    for c in range(classes):
        for y in range(height):
            for x in range(width):
                around = [
                    int(heat[v, u, c])
                    for v in range(max(0, y - 1), min(height, y + 2))
                    for u in range(max(0, x - 1), min(width, x + 2))
                ]
                if heat[y, x, c] >= max(around):
                    found.append((c, y, x, int(heat[y, x, c])))
    return sorted(found, key=lambda p: (-p[3], p[0], p[1], p[2]))[:top]


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 4)),
    low=st.sampled_from([-128, -3, -1]),
    top=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.int8, np.int32, np.int64]),
)
def test_peaks_and_ties_equal_a_plain_loop(
    shape: tuple[int, int, int], low: int, top: int, seed: int, dtype: type
) -> None:
    heat = np.random.default_rng(seed).integers(low, 1 - low, shape).clip(-128, 127).astype(dtype)
    expected = loop_top_peaks(heat, top)
    for values in (heat, heat.astype(np.float32)):
        cells, logits = top_peaks(values, top)
        assert [(*c, v) for c, v in zip(cells.tolist(), logits.tolist(), strict=True)] == expected


def test_equal_logits_come_by_class_then_row_then_column() -> None:
    heat = np.full((2, 3, 2), -128, np.int8)
    assert top_peaks(heat, 7)[0].tolist() == [
        [0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 1], [0, 1, 2], [1, 0, 0],
    ]  # fmt: skip


def test_a_cell_beside_a_higher_one_is_no_peak_and_beside_an_equal_one_is() -> None:
    heat = np.asarray([[5, 4, 5, 5]], np.int8)[:, :, None]
    assert peaks(heat)[0, :, 0].tolist() == [True, False, True, True]


def maps() -> dict[str, np.ndarray]:
    hm = np.full((8, 6, 2), -100, np.int32)
    hm[3, 2, 1] = 16  # logit 1
    wh = np.zeros((8, 6, 2), np.int32)
    wh[3, 2] = (16, 32)  # 2 x 4 cells
    reg = np.zeros((8, 6, 2), np.int32)
    reg[3, 2] = (32, 16)  # + 0.5, + 0.25
    return {"hm": hm, "wh": wh, "reg": reg}


def test_a_box_is_where_the_equation_says() -> None:
    found = decode(maps(), detector())
    assert len(found) == 2  # elsewhere the size is zero; the other class has its plateau here too
    assert found.boxes[0].tolist() == [6.0, 5.0, 14.0, 21.0]  # centre (2.5, 3.25) cells, 2 x 4 cells, times 4
    assert found.labels[0] == 1
    assert found.scores[0] == np.float32(1 / (1 + math.exp(-1)))


def test_boxes_are_in_pixels_of_the_picture_and_clipped_to_it() -> None:
    placement = Placement(size=(10, 20), scale=(2.0, 2.0), offset=(0, 6))
    assert decode(maps(), detector(), placement).boxes[0].tolist() == [3.0, 0.0, 7.0, 7.5]


def test_scores_do_not_overflow() -> None:
    assert sigmoid(np.asarray([-2000.0, 0.0, 2000.0])).tolist() == [0.0, 0.5, 1.0]


def test_detections_become_coco_results() -> None:
    found = Detections(
        np.asarray([[1, 2, 4, 8]], np.float32), np.asarray([1], np.int64), np.asarray([0.75], np.float32)
    )
    entry = {
        "image_id": "a",
        "category_id": 2,
        "category": "dog",
        "bbox": [1.0, 2.0, 3.0, 6.0],
        "score": 0.75,
    }
    assert coco_results(found, "a", ("cat", "dog")) == [entry]
    assert coco_results(found, "a", ("cat", "dog"), (7, 90)) == [entry | {"category_id": 90}]
    assert found.above(0.8).boxes.shape == (0, 4)


def without(key: str) -> str:
    return json.dumps({k: v for k, v in DESCRIPTION.items() if k != key})


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (
            {},
            "m.onnx: has no metadata 'codesign.detector', expected the classes and heads of a detector. "
            "Export it with `codesign export`.",
        ),
        (
            {META: without("stride")},
            "m.onnx: metadata 'codesign.detector' is not understood (KeyError: 'stride'), expected classes, stride, "
            "size_unit and heads. Export it with `codesign export`.",
        ),
        (
            {META: json.dumps(DESCRIPTION | {"heads": {"heatmap": "hm", "size": "size", "offset": "reg"}})},
            "m.onnx: metadata 'codesign.detector' names outputs size that the model lacks. "
            "Export it with `codesign export`.",
        ),
        (
            {META: json.dumps(DESCRIPTION | {"classes": []})},
            "m.onnx: metadata 'codesign.detector' names no class. Export it with `codesign export`.",
        ),
    ],
)
def test_a_model_that_is_no_detector_is_refused(meta: dict[str, str], message: str) -> None:
    with pytest.raises(NotADetector) as caught:
        Detector.from_meta(meta, SCALES, "m.onnx")
    assert str(caught.value) == message


def loop_suppress(boxes: list[list[float]], labels: list[int], limit: float) -> list[int]:
    kept: list[int] = []
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        for k in kept:
            a1, b1, a2, b2 = boxes[k]
            w, h = min(x2, a2) - max(x1, a1), min(y2, b2) - max(y1, b1)
            shared = max(w, 0) * max(h, 0)
            union = max(x2 - x1, 0) * max(y2 - y1, 0) + max(a2 - a1, 0) * max(b2 - b1, 0) - shared
            if labels[i] == labels[k] and shared > limit * union:
                break
        else:
            kept.append(i)
    return kept


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 30), limit=st.sampled_from([0.25, 0.5, 0.75]))
def test_suppression_equals_a_plain_loop(seed: int, count: int, limit: float) -> None:
    rng = np.random.default_rng(seed)
    boxes = rng.integers(0, 12, (count, 4)).astype(np.float32)  # small grid: many overlaps, some without area
    labels = rng.integers(0, 2, count)
    assert suppress(boxes, labels, limit).tolist() == loop_suppress(boxes.tolist(), labels.tolist(), limit)


def test_two_peaks_of_one_object_are_one_detection_only_where_the_model_asks() -> None:
    maps = {
        "hm": np.full((8, 8, 2), -128, np.int8),
        "wh": np.full((8, 8, 2), 32, np.int8),  # 4 cells
        "reg": np.zeros((8, 8, 2), np.int8),
    }
    maps["hm"][3, 2, 0], maps["hm"][3, 4, 0], maps["hm"][3, 3, 1] = 20, 10, 15
    maps["reg"][3, 2, 0], maps["reg"][3, 4, 0] = 64, -64  # both say that the centre is at column 3
    asking = Detector.from_meta({META: json.dumps({**DESCRIPTION, "nms_iou": 0.5})}, SCALES)
    strong = [decode(maps, d).above(0.5) for d in (detector(), asking)]
    assert [found.labels.tolist() for found in strong] == [[0, 1, 0], [0, 1]]


def test_a_limit_outside_its_range_is_refused() -> None:
    with pytest.raises(NotADetector, match="nms_iou is 1.5, expected between 0 and 1"):
        Detector.from_meta({META: json.dumps({**DESCRIPTION, "nms_iou": 1.5})}, SCALES)


def test_sizes_as_logarithms_rows_first_and_centres_of_cells() -> None:
    """As CenterFace has them: the box around the middle of a cell, its size e to the value."""
    description = DESCRIPTION | {"size_unit": 1.0, "size_form": "exp", "axes": "yx", "centre": 0.5}
    other = Detector.from_meta({META: json.dumps(description)}, SCALES)
    heat = np.full((3, 4, 2), -128, np.int8)
    heat[1, 2, 1] = 64
    size, offset = np.zeros((3, 4, 2), np.int8), np.zeros((3, 4, 2), np.int8)
    size[1, 2], offset[1, 2] = (64, 127), (16, -32)  # e^0.5 high, e^0.992 wide; a quarter down, a half left
    (box,) = decode({"hm": heat, "wh": size, "reg": offset}, other).above(0.5).boxes
    middle, extent = np.array([2.0, 1.75]), np.exp([127 / 128, 0.5])
    np.testing.assert_allclose(box, 4 * np.concatenate([middle - extent / 2, middle + extent / 2]), rtol=1e-6)
    with pytest.raises(NotADetector, match="size_form log and axes xy, expected linear or exp, xy or yx"):
        Detector.from_meta({META: json.dumps(DESCRIPTION | {"size_form": "log"})}, SCALES)
