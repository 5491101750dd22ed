"""Pascal VOC directories: Annotations/*.xml, JPEGImages/*, ImageSets/Main/SPLIT.txt.

Coordinates in the XML are 1-based and inclusive (VOC development kit, 2007): pixel columns xmin..xmax become the
continuous interval [xmin - 1, xmax]. Files written by labelling tools deviate in ways that do no harm and are
read: float coordinates, empty or absent <truncated> and <difficult>, boxes that stick out of the picture
(clipped), boxes without area (dropped, counted in `dropped`).
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codesign.errors import DataError
from codesign.images import read_image
from quant.data.types import Sample, arrays

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

EVERYTHING = "all"  # the split that needs no ImageSets: every annotation there is
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".JPG", ".JPEG", ".PNG")


@dataclass(frozen=True)
class _Record:
    image: Path
    boxes: npt.NDArray[np.float32]
    names: tuple[str, ...]
    difficult: npt.NDArray[np.bool_]


class Voc:
    """One split of a VOC directory. Annotations are read at once, pictures when they are asked for.

    `classes`: given, or VOC's twenty when the split has no other name, or else every name in the directory,
    sorted (so that all splits of a directory number their classes alike). Raises DataError.
    """

    def __init__(self, root: Path | str, split: str, classes: tuple[str, ...] | None = None) -> None:
        self.root, self.split, self.dropped = Path(root), split, 0
        self.ids = _members(self.root, split)
        self._records: list[_Record] = []
        problems: list[str] = []
        for name in self.ids:
            try:
                self._records.append(self._read(name))
            except DataError as error:
                problems.append(str(error))
        raise_together(f"{self.root}, split {split!r}", problems)
        self.classes = classes if classes is not None else self._all_classes()
        index = {name: i for i, name in enumerate(self.classes)}
        unknown = {n for r in self._records for n in r.names if n not in index}
        if unknown:
            raise DataError(
                f"{self.root}, split {split!r}: objects named {', '.join(sorted(unknown))} are none of the classes "
                f"{', '.join(self.classes)}. Give the data set's own class names."
            )
        self._labels = [np.asarray([index[n] for n in r.names], np.int64).reshape(-1) for r in self._records]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        record = self._records[index]
        image = read_image(record.image)
        height, width = image.shape[:2]
        boxes = np.clip(record.boxes, 0, np.asarray([width, height, width, height], np.float32))
        solid = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
        return Sample(
            image,
            boxes[solid],
            self._labels[index][solid],
            record.difficult[solid],
            self.ids[index],
            record.image,
        )

    def _read(self, name: str) -> _Record:
        path = self.root / "Annotations" / f"{name}.xml"
        root = _parse(path)
        boxes, names, difficult = [], [], []
        for i, item in enumerate(root.findall("object")):
            label, box = (item.findtext("name") or "").strip(), _box(item.find("bndbox"))
            if not label:
                raise DataError(f"{path}: object {i} has no <name>")
            if box is None:
                raise DataError(f"{path}: object {i} ({label}) has no <bndbox> of four numbers")
            if box[2] <= box[0] or box[3] <= box[1]:
                self.dropped += 1
                continue
            boxes.append(box)
            names.append(label)
            difficult.append((item.findtext("difficult") or "").strip() in ("1", "true", "True"))
        found = _image_of(self.root, name, (root.findtext("filename") or "").strip())
        if found is None:
            raise DataError(f"{path}: its picture JPEGImages/{name}.jpg is missing")
        as_boxes, _, hard = arrays(boxes, [], difficult)
        return _Record(found, as_boxes, tuple(names), hard)

    def _all_classes(self) -> tuple[str, ...]:
        seen = {n for r in self._records for n in r.names}
        if seen <= set(VOC_CLASSES):
            return VOC_CLASSES
        for path in sorted((self.root / "Annotations").glob("*.xml")):
            if path.stem not in self.ids:
                seen |= {(o.findtext("name") or "").strip() for o in _parse(path).findall("object")}
        return tuple(sorted(seen - {""}))


def raise_together(where: str, problems: list[str], shown: int = 5) -> None:
    """Raises one DataError that names all problems (the first few in full) if there are any."""
    if problems:
        more = [f"... and {len(problems) - shown} more"] if len(problems) > shown else []
        lines = "\n  ".join([*problems[:shown], *more])
        plural = "problem" if len(problems) == 1 else "problems"
        raise DataError(f"{where}: {len(problems)} {plural}. Mend or remove these files.\n  {lines}")


def _members(root: Path, split: str) -> list[str]:
    if not root.is_dir():
        raise DataError(f"{root}: no such directory, expected a Pascal VOC directory. Check the path.")
    missing = [d for d in ("Annotations", "JPEGImages") if not (root / d).is_dir()]
    if missing:
        raise DataError(
            f"{root}: has no {' and no '.join(missing)} folder, expected a Pascal VOC directory. "
            "Point at the folder that holds Annotations, JPEGImages and ImageSets."
        )
    if split == EVERYTHING:
        ids = sorted(p.stem for p in (root / "Annotations").glob("*.xml"))
        if not ids:
            raise DataError(
                f"{root}: Annotations holds no .xml file, expected one a picture. Check the path."
            )
        return ids
    listing = root / "ImageSets" / "Main" / f"{split}.txt"
    if not listing.is_file():
        found = sorted(p.stem for p in listing.parent.glob("*.txt"))
        raise DataError(
            f"{root}: has no split {split!r} ({listing.relative_to(root)}), "
            f"expected one of {', '.join([*found, EVERYTHING])}. Name one of them."
        )
    ids = list(dict.fromkeys(line.split()[0] for line in listing.read_text().splitlines() if line.split()))
    if not ids:
        raise DataError(
            f"{root}: the split {split!r} is empty, expected one picture's name a line in "
            f"{listing.relative_to(root)}. Fill it, or use the split {EVERYTHING!r}."
        )
    return ids


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, but the split lists it") from None
    except (ElementTree.ParseError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path}: not XML ({error})") from None


def _box(element: ElementTree.Element | None) -> tuple[float, float, float, float] | None:
    """Continuous (x1, y1, x2, y2) of a <bndbox>, or None if it is not four finite numbers."""
    if element is None:
        return None
    try:
        x1, y1, x2, y2 = (float(element.findtext(k) or "") for k in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        return None
    box = (max(x1 - 1, 0.0), max(y1 - 1, 0.0), x2, y2)
    return box if all(map(math.isfinite, box)) else None


def _image_of(root: Path, name: str, filename: str) -> Path | None:
    folder = root / "JPEGImages"
    names = [name + s for s in _SUFFIXES] + ([Path(filename).name] if filename else [])
    return next((folder / n for n in names if (folder / n).is_file()), None)
