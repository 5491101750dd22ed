"""Scale an accumulator back to a narrow type by a factor of up to 32 bits, with a constant as fine as its product.

    P = acc * mult[c] + bias[c]        n = shift[c]
    out = clamp((P + 2^(n-1) + d) >> n, lo, hi)    d = 2^ties[c] - 1 where P >> n is odd, else -2^ties[c]

With ties = 0 that is RHE(P, n) of Requant. A Requant's bias is whole in units of the accumulator, which is too coarse
for a factor that is no small integer times a power of two; this one meets any line of real steps (codesign/stairs.py).
`ties` is for factors that have halves to be rounded to even and yet no exact mult, as 1/6 of a mean: what lies within
2^ties of a half is taken for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, IntType, TensorType
from codesign.ops.requant import Requant

FACTOR, CONSTANT = IntType(32), IntType(48)
PRODUCT_BITS = 62  # |P| is below 2^62, so that 64 bits hold every sum
MOST_RIGHT = 60  # kMostWideShift of rows.hpp


@dataclass(frozen=True, repr=False)
class WideRequant(Requant):
    """Inputs: acc (H, W, C), bias (C,) i48, mult (C,) i32, shift (C,) 1..60, ties (C,) below it. Result: of `out`."""

    def infer(self, acc: TensorType, *tables: TensorType) -> TensorType:
        limits = (("bias", CONSTANT), ("mult", FACTOR), ("shift", IntType(8)), ("ties", IntType(8)))
        return self._inferred(acc, tables, limits)

    def free(self, acc: Array, *tables: Array) -> Array:
        bias, mult, shift, ties = tables
        product, one = acc * mult + bias, np.int64(1)
        near = np.where((product >> shift) & 1, (one << ties) - 1, -(one << ties))
        return (product + (one << (shift - 1)) + near) >> shift

    def bounds(self, acc: Bounds, *tables: Array) -> Bounds:
        bias, mult, shift, ties = tables
        ends = [[int(v) for v in end] for end in (acc.low, acc.high)]
        most = max(abs(a * int(m) + int(b)) for end in ends for a, m, b in zip(end, mult, bias, strict=True))
        if most >= 1 << PRODUCT_BITS:
            raise TypeMismatch(f"accumulator times mult plus bias needs {most.bit_length() + 1} bits, expected at "
                               f"most {PRODUCT_BITS + 1}")  # fmt: skip
        if int(shift.min()) < 1 or int(shift.max()) > MOST_RIGHT:
            raise TypeMismatch(f"shifts by {shift.min()}..{shift.max()}, expected 1..{MOST_RIGHT}")
        if int(ties.min()) < 0 or np.any(ties >= shift):
            raise TypeMismatch(f"has ties {ties.min()}..{ties.max()}, expected 0 to less than its shift")
        one, other = self.run(acc.low, *tables), self.run(acc.high, *tables)
        return Bounds(np.minimum(one, other), np.maximum(one, other))


def widened(bias: Array, mult: Array, shift: Array) -> tuple[Array, Array, Array, Array]:
    """bias, mult, shift, ties with which a WideRequant is the Requant of these tables, bit for bit."""
    up = np.maximum(1 - shift, 0)
    factor = mult << up
    return bias * factor, factor, np.maximum(shift, 1), np.zeros_like(shift)
