"""COCO detection json: a folder of pictures and one annotation file (cocodataset.org, format-data).

Category ids need not be contiguous: labels count the categories in the order of their ids, and `category_ids`
gives them back. Crowd annotations become `difficult`: they are neither to be found nor to be missed.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from codesign.errors import DataError
from codesign.images import read_image
from quant.data.types import Sample, arrays
from quant.data.voc import raise_together


class Coco:
    """A COCO data set. The json is read at once, pictures when they are asked for. Raises DataError."""

    def __init__(self, images: Path | str, annotations: Path | str) -> None:
        self.images, self.annotations = Path(images), Path(annotations)
        if not self.images.is_dir():
            raise DataError(
                f"{self.images}: no such directory, expected a folder of pictures. Check images=."
            )
        content = _read(self.annotations)
        categories = sorted(content["categories"], key=lambda c: c["id"])
        self.classes = tuple(str(c["name"]) for c in categories)
        self.category_ids = tuple(int(c["id"]) for c in categories)
        self._files = {im["id"]: str(im["file_name"]) for im in content["images"]}
        self.ids = list(self._files)
        if not self.ids:
            raise DataError(f'{self.annotations}: lists no picture, expected at least one under "images".')
        self._objects = self._sort(content["annotations"])
        lost = [f for f in self._files.values() if not (self.images / f).is_file()]
        raise_together(
            f"{self.annotations}", [f"{self.images / f}: this picture is listed but missing" for f in lost]
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        image_id = self.ids[index]
        path = self.images / self._files[image_id]
        image = read_image(path)
        height, width = image.shape[:2]
        boxes, labels, crowd = self._objects[image_id]
        boxes = np.clip(boxes, 0, np.asarray([width, height, width, height], np.float32))
        solid = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
        return Sample(image, boxes[solid], labels[solid], crowd[solid], image_id, path)

    def _sort(self, annotations: list[dict[str, Any]]) -> dict[Any, Any]:
        """Image id -> (boxes, labels, crowd)."""
        index = {c: i for i, c in enumerate(self.category_ids)}
        lists: dict[Any, tuple[list[Any], list[int], list[bool]]] = {i: ([], [], []) for i in self.ids}
        problems = []
        for position, item in enumerate(annotations):
            name = f"annotation {item.get('id', position)}"
            box = item.get("bbox")
            if item.get("image_id") not in lists:
                problems.append(f'{name}: its image_id {item.get("image_id")!r} is not under "images"')
            elif item.get("category_id") not in index:
                problems.append(
                    f'{name}: its category_id {item.get("category_id")!r} is not under "categories"'
                )
            elif not _is_box(box):
                problems.append(f"{name}: its bbox is {box!r}, expected [x, y, width, height]")
            else:
                x, y, w, h = map(float, box)
                boxes, labels, crowd = lists[item["image_id"]]
                boxes.append((x, y, x + w, y + h))
                labels.append(index[item["category_id"]])
                crowd.append(bool(item.get("iscrowd", 0)))
        raise_together(f"{self.annotations}", problems)
        return {i: arrays(*content) for i, content in lists.items()}


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(v, (int, float)) and math.isfinite(v) for v in box)
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected COCO json. Check annotations=.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}), expected COCO json.") from None
    except ValueError as error:
        raise DataError(f"{path}: not json ({error}), expected COCO json.") from None
    need = {"images": ("id", "file_name"), "categories": ("id", "name"), "annotations": ()}
    missing = [k for k in need if not isinstance(content, dict) or not isinstance(content.get(k), list)]
    if missing:
        raise DataError(
            f"{path}: has no list {', '.join(repr(k) for k in missing)}, expected COCO json with images, "
            "categories and annotations. Use an instances_*.json file."
        )
    for key, fields in need.items():
        for i, item in enumerate(content[key]):
            lacking = [f for f in fields if not isinstance(item, dict) or f not in item]
            if lacking or not isinstance(item, dict):
                raise DataError(
                    f"{path}: {key}[{i}] has no {', '.join(lacking) or 'fields'}, expected COCO json."
                )
    return content  # type: ignore[no-any-return]
