"""Sum over a whole map, one number a channel: a mean whose division is part of the requantization behind it.

out[0,0,c] = sum over y,x of  in[y,x,c]
"""

from __future__ import annotations

from dataclasses import dataclass

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, IntType, TensorType
from codesign.ops.op import show


@dataclass(frozen=True, repr=False)
class GlobalSum:
    """Input: x (H, W, C); `size` is its (H, W). Result: accumulator (1, 1, C)."""

    size: tuple[int, int]

    __repr__ = show

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]

    def infer(self, x: TensorType) -> TensorType:
        if len(x.shape) != 3 or x.shape[:2] != self.size:
            raise TypeMismatch(f"input is {x}, expected a map of {self.size[0]}x{self.size[1]}")
        low, high = x.elem.min * self.pixels, x.elem.max * self.pixels
        return TensorType((1, 1, x.shape[2]), IntType.holding(low, high))

    def run(self, x: Array) -> Array:
        total: Array = x.sum(axis=(1, 2), keepdims=True)
        return total

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(x.low * self.pixels, x.high * self.pixels)

    def macs(self, x: TensorType) -> int:
        return 0
