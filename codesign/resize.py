"""Scaling of pictures with one answer everywhere, so that a board finds what the host finds, to the last bit.

Each pixel of the result weighs those of the picture under a triangle as wide as the larger of one pixel there and one
here, so that shrinking averages. Weights are integers of 22 fractional bits (Pillow, src/libImaging/Resample.c, 8 bits
a channel). Columns are done first and rounded to 8 bits, then rows: the order is ours, because Pillow 13 changed its
own (python-pillow/Pillow pull request 9549). Pillow does the work, one axis a call, where it is installed; boards need
not have it, and numpy gives the same bits a few times slower.
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

BITS = 22  # fractional bits of a weight
Pixels = npt.NDArray[np.uint8]


def resize(image: Pixels, height: int, width: int) -> Pixels:
    """A picture (H, W, 3) scaled to (height, width, 3)."""
    scaled = _by_pillow if has_pillow() else _along
    if image.shape[1] != width:
        image = scaled(image, 1, width)
    if image.shape[0] != height:
        image = scaled(image, 0, height)
    return image


@lru_cache(maxsize=1)
def has_pillow() -> bool:
    return find_spec("PIL") is not None


def _by_pillow(image: Pixels, axis: int, size: int) -> Pixels:
    from PIL import Image

    height, width = (size, image.shape[1]) if axis == 0 else (image.shape[0], size)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _along(image: Pixels, axis: int, size: int) -> Pixels:
    """One axis of a picture scaled to `size`. Sums stay under 256 * 2^22 and fit 32 bits."""
    total: npt.NDArray[np.int32] | None = None
    shape = [1, 1, 1]
    shape[axis] = size
    for index, weight in zip(*_taps(image.shape[axis], size), strict=True):
        part = np.take(image, index, axis=axis) * weight.reshape(shape)
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    total += 1 << (BITS - 1)
    total >>= BITS
    return total.clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=16)
def _taps(before: int, after: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """For each tap: the pixel read and its weight for every pixel of the result, both (taps, after)."""
    scale = before / after
    reach = max(scale, 1.0)
    count = math.ceil(reach) * 2 + 1
    index = np.zeros((count, after), np.int64)
    weights = np.zeros((count, after), np.float64)
    for i in range(after):
        centre = (i + 0.5) * scale
        first = max(int(centre - reach + 0.5), 0)
        last = min(int(centre + reach + 0.5), before)
        total = 0.0
        for k in range(last - first):
            weights[k, i] = max(0.0, 1.0 - abs((k + first - centre + 0.5) * (1.0 / reach)))
            total += weights[k, i]
            index[k, i] = first + k
        weights[:, i] *= 1.0 / total
    return index, np.floor(weights * (1 << BITS) + 0.5).astype(np.int32)
