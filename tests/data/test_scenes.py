"""The made data set: deterministic, within the picture, of every class, apart between splits."""

import numpy as np
import pytest

from quant.data.scenes import Scenes, photographs
from quant.data.shapes import CLASSES, SHAPES, densify


def test_at_least_ten_classes():
    assert len(CLASSES) == 12


def test_the_same_index_is_the_same_scene_and_another_is_not():
    a, b = Scenes("train", 8, 96, seed=1), Scenes("train", 8, 96, seed=1)
    assert np.array_equal(a[3].image, b[3].image) and np.array_equal(a[3].boxes, b[3].boxes)
    assert not np.array_equal(a[3].image, a[4].image)
    assert not np.array_equal(a[3].image, Scenes("train", 8, 96, seed=2)[3].image)
    assert not np.array_equal(a[3].image, Scenes("val", 8, 96, seed=1)[3].image)


def test_the_splits_share_no_photograph():
    splits = [{p.tobytes() for p in photographs(split)} for split in ("train", "val", "test")]
    assert [len(s) for s in splits] == [12, 2, 3] and len(set.union(*splits)) == 17


def test_training_varies_its_backgrounds_and_held_out_scenes_show_photographs_as_they_are():
    from quant.data.scenes import _background, _varied

    photos = photographs("train")
    grey = tuple(
        p for p in photos if len(set(p.getpixel((10, 10)))) == 1 and p.convert("L").convert("RGB") == p
    )
    assert len(grey) >= 5
    plain = [
        np.ptp(np.asarray(_background(np.random.default_rng(k), grey, 32)), axis=2).max() for k in range(40)
    ]
    varied = [
        np.ptp(np.asarray(_varied(np.random.default_rng(k), grey, 32)), axis=2).max() for k in range(40)
    ]
    assert max(plain) == 0 and 20 < sum(v > 0 for v in varied) < 40
    assert Scenes("train")._behind is _varied
    assert Scenes("val")._behind is Scenes("test")._behind is _background


def test_boxes_are_inside_and_of_the_stated_sizes():
    seen = set()
    for sample in (Scenes("test", 60, 128)[i] for i in range(60)):
        assert len(sample.boxes) == len(sample.labels) <= 6 and sample.image.shape == (128, 128, 3)
        seen |= set(sample.labels.tolist())
        for x1, y1, x2, y2 in sample.boxes:
            assert 0 <= x1 < x2 <= 128 and 0 <= y1 < y2 <= 128
            assert 0.15 * 128 <= max(x2 - x1, y2 - y1) <= 0.56 * 128
    assert seen == set(range(12))


def test_a_window_shows_larger_and_fewer_objects():
    whole, window = Scenes("train", 40, 128), Scenes("train", 40, 128, reference=256)
    count = [sum(len(s[i].labels) for i in range(40)) for s in (whole, window)]
    side = [
        np.mean([np.ptp(b.reshape(2, 2), axis=0).max() for i in range(40) for b in s[i].boxes])
        for s in (whole, window)
    ]
    assert count[1] < count[0] and side[1] > 1.3 * side[0]


@pytest.mark.parametrize("name", CLASSES)
def test_shapes_are_finite_polygons_with_a_body(name):
    for seed in range(20):
        parts = SHAPES[name](np.random.default_rng(seed))
        assert any(p.kind == "body" for p in parts)
        for part in parts:
            dense = densify(part.points)
            assert (
                np.isfinite(dense).all()
                and len(dense) >= len(part.points) >= 3
                and np.abs(dense).max() <= 1.3
            )


def test_crops_hold_one_object():
    image, label = Scenes("train", 1, 64).crop(5)
    assert image.shape == (64, 64, 3) and 0 <= label < 12


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="split is 'x', expected one of train, val, test"):
        Scenes("x")
    with pytest.raises(ValueError, match="count=0, size=256"):
        Scenes(count=0)
    with pytest.raises(IndexError):
        Scenes(count=2)[2]
