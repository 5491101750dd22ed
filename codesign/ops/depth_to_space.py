"""Four groups of channels become the four pixels of a map twice as high and wide.

    out[2*y + i, 2*x + j, c] = in[y, x, (2*i + j) * C + c]     i and j in {0, 1}

With a convolution before it that makes all four, this is a transposed convolution of stride 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, TensorType
from codesign.ops.op import show

PHASES = 4


@dataclass(frozen=True, repr=False)
class DepthToSpace:
    """Input: x (H, W, 4*C). Result: (2H, 2W, C)."""

    __repr__ = show

    def infer(self, x: TensorType) -> TensorType:
        if len(x.shape) != 3 or x.shape[2] % PHASES:
            raise TypeMismatch(f"input is {x}, expected [H,W,C] with channels in multiples of {PHASES}")
        return TensorType((2 * x.shape[0], 2 * x.shape[1], x.shape[2] // PHASES), x.elem)

    def run(self, x: Array) -> Array:
        n, h, w, c = x.shape
        phases = x.reshape(n, h, w, 2, 2, c // PHASES)
        return phases.transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c // PHASES)

    def bounds(self, x: Bounds) -> Bounds:
        low, high = x.low.reshape(PHASES, -1), x.high.reshape(PHASES, -1)
        return Bounds(np.min(low, axis=0), np.max(high, axis=0))

    def macs(self, x: TensorType) -> int:
        return 0
