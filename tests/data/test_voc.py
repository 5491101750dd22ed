"""Pascal VOC directories with the quirks that labelling tools leave in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codesign.errors import DataError
from quant.data import Dataset, letterboxed
from quant.data.voc import VOC_CLASSES, Voc


def item(name: str, box: str, extra: str = "") -> str:
    tags = "".join(
        f"<{t}>{v}</{t}>" for t, v in zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=True)
    )
    return f"<object><name>{name}</name>{extra}<bndbox>{tags}</bndbox></object>"


def make(
    root: Path, files: dict[str, str], split: str | None = "test", size: tuple[int, int] = (40, 30)
) -> Path:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{body}</annotation>")
        Image.new("RGB", size).save(root / "JPEGImages" / f"{name}.jpg")
    if split is not None:
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{n}\n" for n in files))
    return root


def test_boxes_are_one_based_and_inclusive(tmp_path: Path) -> None:
    data = Voc(make(tmp_path, {"a": item("cat", "1 1 40 30")}), "test")
    assert isinstance(data, Dataset)
    sample = data[0]
    assert sample.boxes.tolist() == [[0, 0, 40, 30]]  # the whole picture
    assert (sample.image.shape, sample.image_id, sample.labels.tolist()) == (
        (30, 40, 3),
        "a",
        [VOC_CLASSES.index("cat")],
    )
    assert (sample.boxes.dtype, sample.labels.dtype, sample.difficult.dtype) == (
        np.float32,
        np.int64,
        np.bool_,
    )


def test_quirks_that_do_no_harm(tmp_path: Path) -> None:
    body = (
        item("dog", "2.5 3.25 10.75 9", "<truncated/><difficult></difficult>")
        + item("dog", "0 -4 99 99", "<difficult>1</difficult>")  # sticks out
        + item(" dog ", "5 5 4 9")  # no area
        + item("dog", "1 1 9 9", "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>")
    )
    data = Voc(make(tmp_path, {"a": body, "b": ""}), "test")
    assert data[0].boxes.tolist() == [[1.5, 2.25, 10.75, 9], [0, 0, 40, 30], [0, 0, 9, 9]]
    assert data[0].difficult.tolist() == [False, True, False]
    assert data.dropped == 1
    assert data[1].boxes.shape == (0, 4)


def test_image_sets_of_one_class_have_a_second_column(tmp_path: Path) -> None:
    root = make(tmp_path, {"a": item("cat", "1 1 9 9"), "b": item("cat", "1 1 9 9")})
    (root / "ImageSets/Main/cat_test.txt").write_text("a  1\nb -1\n\n")
    assert Voc(root, "cat_test").ids == ["a", "b"]


def test_all_needs_no_image_sets_and_own_names_are_sorted_over_all_splits(tmp_path: Path) -> None:
    root = make(tmp_path, {"a": item("zebra", "1 1 9 9"), "b": item("ant", "1 1 9 9")}, split=None)
    (root / "ImageSets/Main/one.txt").write_text("a\n")
    assert Voc(root, "all").ids == ["a", "b"]
    one = Voc(root, "one")
    assert (one.classes, one[0].labels.tolist()) == (("ant", "zebra"), [1])


def test_other_suffixes_and_the_filename_tag(tmp_path: Path) -> None:
    root = make(tmp_path, {"a": "<filename>odd name.jpg</filename>", "b": ""})
    (root / "JPEGImages/a.jpg").rename(root / "JPEGImages/odd name.jpg")
    (root / "JPEGImages/b.jpg").unlink()
    Image.new("L", (5, 4)).save(root / "JPEGImages/b.png")
    data = Voc(root, "test")
    assert [data[i].image.shape for i in range(2)] == [(30, 40, 3), (4, 5, 3)]


def message(root: Path, split: str = "test") -> str:
    with pytest.raises(DataError) as caught:
        Voc(root, split)
    return str(caught.value).replace(str(root), "DIR")


def test_a_missing_directory(tmp_path: Path) -> None:
    assert message(tmp_path / "x") == (
        "DIR: no such directory, expected a Pascal VOC directory. Check the path."
    )


def test_a_directory_of_something_else(tmp_path: Path) -> None:
    assert message(tmp_path) == (
        "DIR: has no Annotations and no JPEGImages folder, expected a Pascal VOC directory. "
        "Point at the folder that holds Annotations, JPEGImages and ImageSets."
    )


def test_an_unknown_split(tmp_path: Path) -> None:
    assert message(make(tmp_path, {"a": ""}), "val") == (
        "DIR: has no split 'val' (ImageSets/Main/val.txt), expected one of test, all. Name one of them."
    )


def test_missing_image_sets(tmp_path: Path) -> None:
    assert message(make(tmp_path, {"a": ""}, split=None)) == (
        "DIR: has no split 'test' (ImageSets/Main/test.txt), expected one of all. Name one of them."
    )


def test_an_empty_split(tmp_path: Path) -> None:
    make(tmp_path, {"a": ""})
    (tmp_path / "ImageSets/Main/test.txt").write_text("\n \n")
    assert message(tmp_path) == (
        "DIR: the split 'test' is empty, expected one picture's name a line in ImageSets/Main/test.txt. "
        "Fill it, or use the split 'all'."
    )


def test_no_annotation_at_all(tmp_path: Path) -> None:
    assert message(make(tmp_path, {}), "all") == (
        "DIR: Annotations holds no .xml file, expected one a picture. Check the path."
    )


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    good = {
        "a": "",
        "b": "",
        "c": item("cat", "1 1 nan 9"),
        "d": item("", "1 1 9 9"),
        "e": item("cat", "1 1 x 9"),
        "f": "<object><name>cat</name></object>",
    }
    root = make(tmp_path, good)
    (root / "JPEGImages/a.jpg").unlink()
    (root / "Annotations/b.xml").write_text("<annotation>")
    (root / "ImageSets/Main/test.txt").write_text("a\nb\nc\nd\ne\nf\ng\n")
    assert message(root) == (
        "DIR, split 'test': 7 problems. Mend or remove these files.\n"
        "  DIR/Annotations/a.xml: its picture JPEGImages/a.jpg is missing\n"
        "  DIR/Annotations/b.xml: not XML (no element found: line 1, column 12)\n"
        "  DIR/Annotations/c.xml: object 0 (cat) has no <bndbox> of four numbers\n"
        "  DIR/Annotations/d.xml: object 0 has no <name>\n"
        "  DIR/Annotations/e.xml: object 0 (cat) has no <bndbox> of four numbers\n"
        "  ... and 2 more"
    )


def test_names_outside_the_given_classes(tmp_path: Path) -> None:
    root = make(tmp_path, {"a": item("cat", "1 1 9 9")})
    with pytest.raises(DataError) as caught:
        Voc(root, "test", ("dog", "cow"))
    assert str(caught.value) == (
        f"{root}, split 'test': objects named cat are none of the classes dog, cow. "
        "Give the data set's own class names."
    )


def test_blood_cells(bccd: Path) -> None:
    data = Voc(bccd, "test")
    assert (len(data), data.classes) == (72, ("Platelets", "RBC", "WBC"))
    assert [len(Voc(bccd, s)) for s in ("train", "val", "trainval", "all")] == [205, 87, 292, 364]
    sample = data[0]
    assert sample.image.shape == (480, 640, 3)
    assert len(sample.boxes) == len(sample.labels) == len(sample.difficult) > 0
    small = letterboxed(sample, 256, 256)
    assert small.image.shape == (256, 256, 3)
    assert (
        np.abs(small.boxes - (sample.boxes * 0.4 + np.asarray([0, 32, 0, 32], np.float32))).max() < 1e-4
    )  # float32
