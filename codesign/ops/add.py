"""Sum of two maps into an accumulator, each in steps of its own.

    out[y,x,c] = a[y,x,c] * 2^left + b[y,x,c] * 2^right

Maps of unequal scales 2^-fa and 2^-fb meet in steps of the finer one, left = max(fa, fb) - fa and right alike, so
that nothing is rounded before the Requant behind the sum: both sides and the sum are requantized in one rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, IntType, TensorType
from codesign.ops.op import show

MAX_SHIFT = 6  # 2^6 is the largest power of two among 8-bit weights


@dataclass(frozen=True, repr=False)
class Add:
    """Inputs: a and b, both (H, W, C). Result: accumulator (H, W, C)."""

    left: int = 0
    right: int = 0

    __repr__ = show

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        if len(a.shape) != 3 or a.shape != b.shape:
            raise TypeMismatch(f"inputs are {a}, {b}, expected maps of one shape")
        if not (0 <= self.left <= MAX_SHIFT and 0 <= self.right <= MAX_SHIFT):
            raise TypeMismatch(f"shifts by {self.left} and {self.right}, expected 0..{MAX_SHIFT}")
        low = (a.elem.min << self.left) + (b.elem.min << self.right)
        return TensorType(
            a.shape, IntType.holding(low, (a.elem.max << self.left) + (b.elem.max << self.right))
        )

    def run(self, a: Array, b: Array) -> Array:
        return (a << self.left) + (b << self.right)

    def bounds(self, a: Bounds, b: Bounds) -> Bounds:
        return Bounds(self.run(a.low, b.low), self.run(a.high, b.high))

    def macs(self, a: TensorType, b: TensorType) -> int:
        return 0
