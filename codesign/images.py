"""Pictures: any file to RGB pixels, and from there to the network's integer codes and back.

Letterboxing keeps the aspect ratio: scale to fit, centre, fill with grey 128, whose code is 0, which is also what
convolutions pad with. Only reading of files needs Pillow: a board without it letterboxes what a camera gives.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from codesign.errors import DataError, ToolMissing
from codesign.resize import resize

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]

MAX_PIXELS = 100_000_000  # 300 MB as RGB: more than any camera makes, less than what hurts a laptop
FILL = 128


@dataclass(frozen=True)
class Placement:
    """Where a picture of `size` (height, width) lies in the network's input: x_net = x * scale_x + left."""

    size: tuple[int, int]
    scale: tuple[float, float]  # x, y; they differ by the rounding to whole pixels only
    offset: tuple[int, int]  # left, top

    def to_network(self, boxes: Boxes) -> Boxes:
        """Boxes (k, 4) of the picture in pixels of the network's input."""
        return (boxes * self._scale() + self._offset()).astype(np.float32)

    def to_image(self, boxes: Boxes) -> Boxes:
        """Boxes (k, 4) of the network's input in pixels of the picture, clipped to it."""
        height, width = self.size
        back = (boxes - self._offset()) / self._scale()
        return np.clip(back, 0, np.asarray([width, height, width, height])).astype(np.float32)

    def _scale(self) -> npt.NDArray[np.float64]:
        return np.asarray([*self.scale, *self.scale], np.float64)

    def _offset(self) -> npt.NDArray[np.float64]:
        return np.asarray([*self.offset, *self.offset], np.float64)


def read_image(path: Path | str) -> Pixels:
    """Pixels (H, W, 3) uint8 RGB of a picture file, turned as its EXIF orientation says.

    Grey, palette and CMYK become RGB, transparency is laid on white, 16 bits become the upper 8, and of an
    animation the first frame is taken. Raises DataError, and ToolMissing without Pillow.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise ToolMissing(
            "Pillow: not installed, and pictures are read with it. Install it: pip install pillow"
        ) from None
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow warns of oddities in metadata, and of sizes checked below
            with Image.open(path) as image:
                _check_size(path, image)
                return _rgb(path, ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected a picture. Check the path.") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a directory, expected a picture. Name the files in it.") from None
    except PermissionError:
        raise DataError(
            f"{path}: may not be read, expected a picture. Check the file's permissions."
        ) from None
    except UnidentifiedImageError:
        what = "is empty" if path.stat().st_size == 0 else "is not a picture that Pillow can read"
        raise DataError(f"{path}: {what}, expected JPEG, PNG or the like. Convert it first.") from None
    except Image.DecompressionBombError:
        what = f"is too large, expected at most {MAX_PIXELS:,} pixels"
        raise DataError(f"{path}: {what}. Scale it down first.") from None
    except MemoryError:
        raise DataError(f"{path}: does not fit into memory. Scale it down first.") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        EOFError,
    ) as error:
        # Pillow's decoders raise all of these on corrupt data
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: is damaged ({reason}), expected a whole picture. Get it again.") from None


def _check_size(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{path}: has {width} x {height} pixels, expected at most {MAX_PIXELS:,} in all. Scale it down first."
        )
    if width * height == 0:
        raise DataError(f"{path}: has {width} x {height} pixels, expected at least one. Get it again.")


def _rgb(path: Path, image: Image.Image) -> Pixels:
    from PIL import Image

    if image.mode == "F":
        raise DataError(f"{path}: has float pixels, expected 8 or 16 bits. Convert it to PNG first.")
    if image.mode == "I" or image.mode.startswith(
        "I;16"
    ):  # 16-bit grey; Pillow's own conversion saturates at 255
        grey = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"), np.uint8)


def letterbox(image: Pixels, height: int, width: int) -> tuple[Pixels, Placement]:
    """Picture (H, W, 3) scaled to fit (height, width) and centred on grey. A picture that fits is left as it is."""
    h, w = image.shape[:2]
    factor = min(height / h, width / w)
    new_h, new_w = (max(1, min(limit, round(side * factor))) for limit, side in ((height, h), (width, w)))
    top, left = (height - new_h) // 2, (width - new_w) // 2
    placement = Placement((h, w), (new_w / w, new_h / h), (left, top))
    if (new_h, new_w) != (h, w):
        image = resize(image, new_h, new_w)
    if (new_h, new_w) == (height, width):
        return image, placement
    canvas = np.full((height, width, 3), FILL, np.uint8)
    canvas[top : top + new_h, left : left + new_w] = image
    return canvas, placement


def to_codes(image: Pixels, signed: bool = True) -> npt.NDArray[np.int8 | np.uint8]:
    """Input codes, same shape: pixel - 128 as int8 (scale 2^-7 in our networks), or unsigned the pixels."""
    return (image ^ np.uint8(128)).view(np.int8) if signed else image
