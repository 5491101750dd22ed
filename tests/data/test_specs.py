"""Data specs: each form once, and each mistake once with its whole message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codesign.errors import DataError
from quant.data import Sample, letterboxed, load, scenes
from quant.data.coco import Coco
from quant.data.specs import FORMS, reseeded
from quant.data.voc import Voc
from tests.data.test_coco import make as make_coco
from tests.data.test_voc import make as make_voc


def test_voc_and_coco(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "with:colon", {"a": ""})
    voc = load(f"voc:{root}:test")
    assert isinstance(voc, Voc)
    assert len(voc) == 1
    images, annotations = make_coco(tmp_path)
    coco = load(f"coco:images={images},annotations={annotations}")
    assert isinstance(coco, Coco)
    assert len(coco) == 2


def test_variables_stand_for_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_voc(tmp_path, {"a": ""})
    monkeypatch.setenv("CELLS", str(root))
    assert [len(load(f"voc:{name}:test")) for name in ("$CELLS", "${CELLS}")] == [1, 1]
    monkeypatch.delenv("CELLS")
    with pytest.raises(DataError) as caught:
        load("voc:$CELLS:test")
    assert str(caught.value) == (
        "data 'voc:$CELLS:test': CELLS is not set, expected the folder of the data in it. Set it: CELLS=DIR."
    )


def test_scenes_take_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "Scenes", lambda **given: given)
    default = {"split": "test", "count": 500, "size": 256, "seed": 0}
    assert load("scenes") == load("scenes:") == default
    assert load("scenes:count=7,split=train") == default | {"count": 7, "split": "train"}


def test_scenes_without_their_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes.photographs.cache_clear()
    monkeypatch.setattr(scenes, "find_spec", lambda name: None)
    with pytest.raises(DataError) as caught:
        load("scenes:")
    assert str(caught.value) == (
        "data 'scenes:': scenes: the photographs of skimage are not installed. "
        "Run: pip install scikit-image scikit-learn"
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", f"not a data spec, expected {FORMS}."),
        ("voc", f"not a data spec, expected {FORMS}."),
        ("imagenet:x", f"not a data spec, expected {FORMS}."),
        ("voc:somewhere", "expected voc:DIR:SPLIT, for example voc:data/VOC2007:test. Add what is missing."),
        ("voc::test", "expected voc:DIR:SPLIT, for example voc:data/VOC2007:test. Add what is missing."),
        (
            "coco:images=x",
            "has no annotations=, expected coco:images=DIR,annotations=FILE. Add it.",
        ),
        (
            "coco:",
            "has no images= and no annotations=, expected coco:images=DIR,annotations=FILE. Add it.",
        ),
        (
            "coco:images=x,ann=y",
            "'ann=y' is not understood, expected NAME=VALUE with NAME one of images, annotations. Correct the spec.",
        ),
        (
            "scenes:train",
            "'train' is not understood, expected NAME=VALUE with NAME one of split, count, size, seed. "
            "Correct the spec.",
        ),
        (
            "scenes:split=x,count=0,size=1e3,seed=-1",
            "split is 'x', expected train, val or test; count is '0', expected a whole number of at least 1; "
            "size is '1e3', expected a whole number of at least 32; seed is '-1', expected a whole number of at "
            "least 0. Correct the spec.",
        ),
    ],
)
def test_mistakes(spec: str, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        load(spec)
    assert str(caught.value) == f"data {spec!r}: {expected}"


def test_a_letterboxed_sample_keeps_its_labels() -> None:
    sample = Sample(
        np.zeros((10, 20, 3), np.uint8),
        np.asarray([[0, 0, 20, 10]], np.float32),
        np.asarray([2], np.int64),
        np.asarray([True]),
        "x",
    )
    boxed = letterboxed(sample, 40, 40)
    assert boxed.boxes.tolist() == [[0, 10, 40, 30]]
    assert (boxed.labels.tolist(), boxed.difficult.tolist(), boxed.image_id) == ([2], [True], "x")


def test_other_images_of_the_same_data() -> None:
    assert reseeded("scenes:split=train,seed=1", 100) == "scenes:split=train,seed=101"
    assert reseeded("scenes", 3) == "scenes:seed=3"
    assert reseeded("voc:photos:train", 3) == "voc:photos:train"
