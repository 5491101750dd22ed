"""COCO json: crowds, gaps between category ids, and files that are not what they should be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from codesign.errors import DataError
from quant.data import Dataset
from quant.data.coco import Coco


def content() -> dict[str, Any]:
    return {
        "images": [{"id": 42, "file_name": "a.png"}, {"id": 7, "file_name": "b.png"}],
        "categories": [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 42, "category_id": 90, "bbox": [1, 2, 3.5, 4], "iscrowd": 0},
            {"id": 2, "image_id": 42, "category_id": 3, "bbox": [0, 0, 99, 99], "iscrowd": 1},
            {"id": 3, "image_id": 42, "category_id": 3, "bbox": [5, 5, 0, 2]},
        ],
    }


def make(folder: Path, change: Callable[[dict[str, Any]], object] = lambda c: None) -> tuple[Path, Path]:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 10)).save(folder / name)
    data = content()
    change(data)
    (folder / "x.json").write_text(json.dumps(data))
    return folder, folder / "x.json"


def test_boxes_labels_and_crowds(tmp_path: Path) -> None:
    data = Coco(*make(tmp_path))
    assert isinstance(data, Dataset)
    assert (len(data), data.classes, data.category_ids) == (2, ("cat", "dog"), (3, 90))
    sample = data[0]
    assert (sample.image_id, sample.image.shape) == (42, (10, 20, 3))
    assert sample.boxes.tolist() == [[1, 2, 4.5, 6], [0, 0, 20, 10]]  # clipped; the one without area is gone
    assert sample.labels.tolist() == [1, 0]
    assert sample.difficult.tolist() == [False, True]
    assert data[1].boxes.shape == (0, 4)  # a picture without objects stays in the set


def message(folder: Path, images: Path, annotations: Path) -> str:
    with pytest.raises(DataError) as caught:
        Coco(images, annotations)
    return str(caught.value).replace(str(folder), "DIR")


def test_missing_folder_and_file(tmp_path: Path) -> None:
    images, annotations = make(tmp_path)
    assert message(tmp_path, tmp_path / "no", annotations) == (
        "DIR/no: no such directory, expected a folder of pictures. Check images=."
    )
    assert message(tmp_path, images, tmp_path / "no.json") == (
        "DIR/no.json: no such file, expected COCO json. Check annotations=."
    )
    assert message(tmp_path, images, tmp_path) == "DIR: cannot be read (Is a directory), expected COCO json."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "x",
            "not json (Expecting value: line 1 column 1 (char 0)), expected COCO json.",
        ),
        (
            "[]",
            "has no list 'images', 'categories', 'annotations', expected COCO json with images, categories and "
            "annotations. Use an instances_*.json file.",
        ),
        (
            '{"images": [{"id": 1}], "categories": [], "annotations": []}',
            "images[0] has no file_name, expected COCO json.",
        ),
        (
            '{"images": [], "categories": [], "annotations": []}',
            'lists no picture, expected at least one under "images".',
        ),
    ],
)
def test_files_that_are_not_coco(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert message(tmp_path, tmp_path, path) == f"DIR/x.json: {expected}"


def test_all_bad_annotations_are_named_at_once(tmp_path: Path) -> None:
    def spoil(data: dict[str, Any]) -> None:
        first, second, third = data["annotations"]
        first["image_id"], second["category_id"], third["bbox"] = 1, 4, [1, 2]

    assert message(tmp_path, *make(tmp_path, spoil)) == (
        "DIR/x.json: 3 problems. Mend or remove these files.\n"
        '  annotation 1: its image_id 1 is not under "images"\n'
        '  annotation 2: its category_id 4 is not under "categories"\n'
        "  annotation 3: its bbox is [1, 2], expected [x, y, width, height]"
    )


def test_missing_pictures_are_named(tmp_path: Path) -> None:
    images, annotations = make(tmp_path)
    (tmp_path / "b.png").unlink()
    assert message(tmp_path, images, annotations) == (
        "DIR/x.json: 1 problem. Mend or remove these files.\n  DIR/b.png: this picture is listed but missing"
    )
