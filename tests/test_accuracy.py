"""Evaluation over a data set: classes matched by name, figures of perfect and blind detectors."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.accuracy import class_table, evaluate_detector
from codesign.decode import Detections
from codesign.errors import DataError
from quant.data import Sample

DATA = ("cat", "dog", "owl")


def samples() -> list[Sample]:
    boxes = np.asarray([[2, 2, 12, 12], [20, 5, 30, 25]], np.float32)
    image = np.zeros((32, 32, 3), np.uint8)
    return [
        Sample(image + i, boxes, np.asarray(labels, np.int64), np.zeros(2, bool), i)
        for i, labels in enumerate([(0, 1), (1, 0), (2, 0)])
    ]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_classes_are_matched_by_name(threads: int) -> None:
    """The model numbers its classes otherwise, has one the data lacks, and lacks one the data has."""
    model = ("dog", "fox", "cat")
    truth = dict(enumerate(samples()))

    def detect(image: np.ndarray) -> Detections:
        sample = truth[int(image[0, 0, 0])]
        labels = [model.index(DATA[n]) if DATA[n] in model else 1 for n in sample.labels]
        return Detections(sample.boxes, np.asarray(labels, np.int64), np.asarray([0.9, 0.8], np.float32))

    result = evaluate_detector(detect, model, samples(), DATA, (10, 20, 30), threads=threads)
    assert [found["image_id"] for found in result.results] == [0, 0, 1, 1, 2]
    assert [c.ap50 for c in result.scores.per_class] == [1.0, 1.0, 0.0]
    assert result.scores.ap50 == pytest.approx(2 / 3)  # a mean of floats
    assert result.lacking == ("owl",)
    assert result.results[0] == {
        "image_id": 0, "category_id": 10, "category": "cat", "bbox": [2.0, 2.0, 10.0, 10.0], "score": 0.9,
    }  # fmt: skip


def test_a_blind_detector_scores_zero() -> None:
    result = evaluate_detector(lambda image: Detections(), DATA, samples(), DATA)
    assert (result.scores.ap50, result.scores.coco_ap, result.scores.images) == (0.0, 0.0, 3)


def test_an_empty_data_set_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        evaluate_detector(lambda image: Detections(), DATA, [], DATA, where="voc:x:test")
    assert str(caught.value) == (
        "voc:x:test: is empty, expected at least one picture. Name another split or directory."
    )


def test_no_common_class_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        class_table(("a", "b"), tuple("cdefghij"), "voc:x:test")
    assert str(caught.value) == (
        "voc:x:test: has the classes c, d, e, f, g, h, ..., but the model detects a, b. "
        "Use a model that was trained on these classes."
    )
