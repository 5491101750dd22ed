"""Pictures of every kind to pixels and codes; every broken one gives one clear error."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from codesign import images
from codesign.errors import DataError
from codesign.images import letterbox, read_image, to_codes

RED = (200, 30, 10)


def saved(folder: Path, image: Image.Image, name: str = "x.png", **options: object) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "YCbCr"])
def test_colour_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (4, 3), RED)
    image = image.quantize(2) if mode == "P" else image.convert(mode)
    # Compressed, because Pillow 12 cannot read back the plain YCbCr it writes.
    tif = {"name": "x.tif", "compression": "tiff_lzw"} if mode in ("CMYK", "YCbCr") else {}
    pixels = read_image(saved(tmp_path, image, **tif))
    assert (pixels.shape, pixels.dtype) == ((3, 4, 3), np.uint8)
    assert np.abs(pixels.astype(int) - RED).max() <= 2  # YCbCr rounds twice


@pytest.mark.parametrize(("mode", "value"), [("1", 1), ("L", 77), ("LA", (77, 255))])
def test_grey_modes_become_three_equal_channels(tmp_path: Path, mode: str, value: object) -> None:
    pixels = read_image(saved(tmp_path, Image.new(mode, (2, 2), value)))
    assert pixels.tolist() == np.full((2, 2, 3), 255 if mode == "1" else 77).tolist()


def test_sixteen_bits_keep_their_upper_eight(tmp_path: Path) -> None:
    deep = np.asarray([[0, 255, 256, 32768, 65535]], np.uint16)
    pixels = read_image(saved(tmp_path, Image.fromarray(deep)))
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (1, 2), (0, 0, 0, 0))
    clear.putpixel((0, 1), (0, 0, 0, 255))
    assert read_image(saved(tmp_path, clear))[:, 0, 0].tolist() == [255, 0]
    palette = Image.new("P", (1, 1), 3)
    palette.putpalette(bytes(768))
    assert read_image(saved(tmp_path, palette, "p.png", transparency=3)).tolist() == [[[255, 255, 255]]]


def test_exif_orientation_is_obeyed(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1), RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    assert read_image(saved(tmp_path, image, exif=exif)).shape == (2, 1, 3)


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (3, 3), c) for c in (RED, (0, 0, 0))]
    path = saved(tmp_path, frames[0], "x.gif", save_all=True, append_images=frames[1:])
    assert read_image(path)[0, 0].tolist() == list(RED)


def png_bytes() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


def error_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_image(path)
    return str(caught.value).replace(str(path), "x.png")


def test_a_missing_file() -> None:
    assert error_of(Path("none/x.png")) == "x.png: no such file, expected a picture. Check the path."


def test_a_directory(tmp_path: Path) -> None:
    assert error_of(tmp_path) == "x.png: is a directory, expected a picture. Name the files in it."


@pytest.mark.parametrize(
    ("content", "what"), [(b"", "is empty"), (b"hello", "is not a picture that Pillow can read")]
)
def test_no_picture(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    assert error_of(path) == f"x.png: {what}, expected JPEG, PNG or the like. Convert it first."


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_picture(tmp_path: Path, kept: float) -> None:
    path, whole = tmp_path / "x.png", png_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert error_of(path).startswith("x.png: is damaged (")
    assert error_of(path).endswith("), expected a whole picture. Get it again.")


@settings(max_examples=60, deadline=None)
@given(position=st.integers(8, 11000), value=st.integers(0, 255))
def test_a_corrupt_picture_is_read_or_refused_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    content = bytearray(png_bytes())
    content[position % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "corrupt.png"
    path.write_bytes(content)
    with contextlib.suppress(DataError):  # the one other allowed outcome
        assert read_image(path).shape[2] == 3


def test_a_huge_picture_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    path = saved(tmp_path, Image.new("L", (11, 10)))
    assert error_of(path) == "x.png: has 11 x 10 pixels, expected at most 100 in all. Scale it down first."


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, Image.new("L", (30, 30)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert error_of(path) == "x.png: is too large, expected at most 100,000,000 pixels. Scale it down first."


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("F", (2, 2), 0.5), "x.tif")
    assert error_of(path) == "x.png: has float pixels, expected 8 or 16 bits. Convert it to PNG first."


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (8, 12, 3)).astype(np.uint8)
    boxed, placement = letterbox(picture, 8, 12)
    assert boxed is picture
    boxes = np.asarray([[1, 2, 3, 4]], np.float32)
    assert np.array_equal(placement.to_network(boxes), boxes)


def test_letterbox_centres_on_the_value_whose_code_is_zero() -> None:
    boxed, placement = letterbox(np.full((10, 20, 3), 255, np.uint8), 40, 40)
    assert boxed.shape == (40, 40, 3)
    assert (boxed[10:30] == 255).all()
    assert (to_codes(boxed)[:10] == 0).all()
    assert (to_codes(boxed)[30:] == 0).all()
    assert (placement.scale, placement.offset) == ((2.0, 2.0), (0, 10))


@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    target=st.tuples(st.integers(1, 80), st.integers(1, 80)),
)
def test_boxes_return_from_the_network_to_where_they_were(
    shape: tuple[int, int], target: tuple[int, int]
) -> None:
    boxed, placement = letterbox(np.zeros((*shape, 3), np.uint8), *target)
    assert boxed.shape == (*target, 3)
    whole = np.asarray([[0, 0, shape[1], shape[0]]], np.float32)
    inside = placement.to_network(whole)
    assert inside.min() >= 0
    assert inside[0, 2] <= target[1] + 1e-3  # float32 of a number below 81
    assert inside[0, 3] <= target[0] + 1e-3
    assert np.abs(placement.to_image(inside) - whole).max() < 1e-3 * max(shape)  # float32 there and back


def test_codes_are_pixel_minus_128() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert to_codes(every).dtype == np.int8
    assert np.array_equal(to_codes(every), every.astype(int) - 128)
