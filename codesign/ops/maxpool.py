"""Largest sample of a window, per channel.

    out[y,x,c] = max over i,j of  in[s*y + i - top, s*x + j - left, c]     samples inside the map only

Padding never wins: hardware pads unsigned maps with 0 and signed ones with the type's minimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.ir import Array, Bounds, TensorType
from codesign.ops.op import check_window, show, taps, window


@dataclass(frozen=True, repr=False)
class MaxPool:
    """Input: x (H, W, C). Result: (H', W', C) of the same element type."""

    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (2, 2)
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)  # top, left, bottom, right

    __repr__ = show

    def infer(self, x: TensorType) -> TensorType:
        check_window(self.kernel, self.stride, self.pads)
        h, w = window(x.shape, self.kernel, self.stride, self.pads)
        return TensorType((h, w, x.shape[2]), x.elem)

    def run(self, x: Array) -> Array:
        outside = np.iinfo(np.int64).min
        largest: Array = np.max(taps(x, self.kernel, self.stride, self.pads, fill=outside), axis=0)
        return largest

    def bounds(self, x: Bounds) -> Bounds:
        return x

    def macs(self, x: TensorType) -> int:
        return 0
