"""What a detection data set is: samples with pixels, boxes and labels, in one convention.

Boxes are continuous pixel coordinates (x1, y1, x2, y2) with the origin at the top left corner of the top left
pixel: a box that covers exactly the first pixel is (0, 0, 1, 1). Areas need no "+ 1".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from codesign.images import letterbox


@dataclass(frozen=True)
class Sample:
    """One picture and what is on it.

    image (H, W, 3) uint8 RGB; boxes (k, 4) float32 x1 y1 x2 y2 in pixels; labels (k,) int64, index into
    `Dataset.classes`; difficult (k,) bool: finding or missing this object counts for nothing.
    """

    image: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    difficult: npt.NDArray[np.bool_]
    image_id: int | str
    path: Path | None = None


@runtime_checkable
class Dataset(Protocol):
    """A sequence of samples; reading one twice gives the same one, unless the set documents otherwise."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def arrays(
    boxes: list[tuple[float, float, float, float]], labels: list[int], difficult: list[bool]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Lists as the arrays of a Sample, of the right shape when they are empty too."""
    return (
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(labels, np.int64).reshape(-1),
        np.asarray(difficult, np.bool_).reshape(-1),
    )


def letterboxed(sample: Sample, height: int, width: int) -> Sample:
    """The sample at the network's input size: picture scaled and centred, boxes mapped with it."""
    image, placement = letterbox(sample.image, height, width)
    return replace(sample, image=image, boxes=placement.to_network(sample.boxes))
