"""A range of channels: out = in[:, :, start:stop]."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, TensorType
from codesign.ops.op import show


@dataclass(frozen=True, repr=False)
class Slice:
    """Input: x (H, W, C). Result: (H, W, stop - start)."""

    start: int
    stop: int

    __repr__ = show

    def infer(self, x: TensorType) -> TensorType:
        if len(x.shape) != 3 or not 0 <= self.start < self.stop <= x.shape[2]:
            raise TypeMismatch(f"channels {self.start}..{self.stop} of {x}, expected a range inside it")
        return TensorType((*x.shape[:2], self.stop - self.start), x.elem)

    def run(self, x: Array) -> Array:
        return x[..., self.start : self.stop]

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(x.low[self.start : self.stop], x.high[self.start : self.stop])

    def macs(self, x: TensorType) -> int:
        return 0
