"""Drawing: every box in its class's colour, labels inside the picture, nothing else touched."""

from __future__ import annotations

import numpy as np

from codesign.decode import Detections
from codesign.draw import colour, draw, sheet


def one(box: list[float], label: int = 0) -> Detections:
    return Detections(
        np.asarray([box], np.float32), np.asarray([label], np.int64), np.asarray([0.5], np.float32)
    )


def test_colours_differ_and_go_on_after_the_palette() -> None:
    assert len({colour(i) for i in range(80)}) == 80


def test_the_box_has_its_colour_and_far_pixels_stay() -> None:
    picture = np.zeros((700, 700, 3), np.uint8)
    drawn = draw(picture, one([200, 300, 400, 500]), ("thing",))
    assert drawn.shape == picture.shape
    assert tuple(drawn[400, 200]) == colour(0)
    assert not drawn[:250].any()
    assert not drawn[550:].any()
    assert not picture.any()


def test_small_pictures_are_enlarged_and_boxes_with_them() -> None:
    drawn = draw(np.zeros((32, 64, 3), np.uint8), one([32, 8, 60, 24], 3), ("a", "b", "c", "d"))
    assert drawn.shape == (320, 640, 3)
    assert tuple(drawn[160, 321]) == colour(3)


def test_boxes_at_or_over_the_edge_and_long_names_are_drawn() -> None:
    for box in ([0, 0, 1, 1], [-5, -5, 800, 800], [699, 699, 700, 700]):
        assert draw(np.zeros((700, 700, 3), np.uint8), one(box), ("a very long name " * 9,)).any()


def test_without_detections_the_picture_is_unchanged() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (640, 480, 3)).astype(np.uint8)
    assert np.array_equal(draw(picture, Detections(), ()), picture)


def test_a_sheet_holds_every_picture_at_one_height() -> None:
    pictures = [np.full((10 + i, 20, 3), 50 * i, np.uint8) for i in range(5)]
    page = sheet(pictures, height=40, gap=2)
    assert page.shape[0] == 3 * 42 - 2  # two a row
    assert set(np.unique(page)) == {0, 50, 100, 150, 200, 255}
    assert np.array_equal(sheet(pictures[:1], height=10), pictures[0])
