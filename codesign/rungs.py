"""One detector, run in several ways that must agree: picture in, head maps of integers out.

Every way takes input codes (N, H, W, 3) int8 and returns {output: (N, H, W, C) integers}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.decode import Detections, Detector, decode
from codesign.images import Pixels, letterbox, to_codes

Codes = npt.NDArray[np.int8]
Maps = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Runner:
    """A network of `height` x `width` input that runs on one rung of the ladder."""

    rung: str
    height: int
    width: int
    detector: Detector
    run: Callable[[Codes], Maps]

    def detect(self, image: Pixels) -> Detections:
        """Boxes of one picture of any size, in its own pixels."""
        boxed, placement = letterbox(image, self.height, self.width)
        return decode(self._maps(boxed), self.detector, placement)

    def maps(self, image: Pixels) -> dict[str, npt.NDArray[Any]]:
        """Head maps (H, W, C) of one picture of any size."""
        return self._maps(letterbox(image, self.height, self.width)[0])

    def _maps(self, boxed: Pixels) -> dict[str, npt.NDArray[Any]]:
        return {name: array[0] for name, array in self.run(to_codes(boxed)[None]).items()}
