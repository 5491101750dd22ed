"""Scale an accumulator back to a narrow type, per channel, in integers only.

    P = (acc + bias[c]) * mult[c]        out = clamp(RHE(P, shift[c]), lo, hi)
    RHE(a, n) = (a + 2^(n-1) - 1 + ((a >> n) & 1)) >> n   for n > 0;   a << -n   otherwise

RHE is round half to even, as in numpy, torch, ONNX Round and QONNX ROUND: it costs the hardware one
carry-in, and makes every stage of the flow agree bit for bit. ReLU is lo = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, IntType, TensorType
from codesign.ops.op import show

# Any other shift gives the same results as the nearer of these two while out has at most 16 bits and P at
# most 40: the importer clamps to them, so hardware needs no wider shifter.
SHIFT_MIN, SHIFT_MAX = -16, 40
ACC = IntType(32)  # acc + bias must fit


@dataclass(frozen=True, repr=False)
class Requant:
    """Inputs: acc (H, W, C), bias (C,) i32, mult (C,) u8, shift (C,) i8. Result: (H, W, C) of `out`."""

    out: IntType
    lo: int
    hi: int

    __repr__ = show

    def infer(self, acc: TensorType, *tables: TensorType) -> TensorType:
        limits = (("bias", ACC), ("mult", IntType(8, False)), ("shift", IntType(8)))
        return self._inferred(acc, tables, limits)

    def _inferred(
        self, acc: TensorType, tables: tuple[TensorType, ...], limits: tuple[tuple[str, IntType], ...]
    ) -> TensorType:
        if len(tables) != len(limits):
            raise TypeMismatch(f"has {len(tables)} tables, expected {', '.join(name for name, _ in limits)}")
        for table, (name, most) in zip(tables, limits, strict=True):
            if table.shape != acc.shape[-1:]:
                raise TypeMismatch(f"{name} is {table}, expected one value per channel: [{acc.shape[-1]}]")
            if table.elem.min < most.min or table.elem.max > most.max:
                raise TypeMismatch(f"{name} is {table.elem}, expected at most {most}")
        if not self.out.min <= self.lo <= self.hi <= self.out.max:
            raise TypeMismatch(f"clamps to {self.lo}..{self.hi}, expected a range inside {self.out}")
        return TensorType(acc.shape, self.out)

    def run(self, acc: Array, *tables: Array) -> Array:
        return self.free(acc, *tables).clip(self.lo, self.hi)

    def free(self, acc: Array, *tables: Array) -> Array:
        """The result before it is clamped."""
        bias, mult, shift = tables
        return round_half_even((acc + bias) * mult, shift)

    def bounds(self, acc: Bounds, *tables: Array) -> Bounds:
        bias, _, shift = tables
        low, high = acc.low + bias, acc.high + bias
        if int(low.min()) < ACC.min or int(high.max()) > ACC.max:
            bits = IntType.holding(min(int(low.min()), -1), int(high.max())).bits
            raise TypeMismatch(f"accumulator and bias need {bits} bits, expected at most {ACC.bits}")
        if int(shift.min()) < SHIFT_MIN or int(shift.max()) > SHIFT_MAX:
            raise TypeMismatch(f"shifts by {shift.min()}..{shift.max()}, expected {SHIFT_MIN}..{SHIFT_MAX}")
        return Bounds(self.run(acc.low, *tables), self.run(acc.high, *tables))

    def macs(self, *inputs: TensorType) -> int:
        return 0


def round_half_even(a: Array, n: Array) -> Array:
    """a / 2^n rounded to the nearest integer, ties to even; a * 2^-n where n <= 0. Shapes broadcast."""
    right = np.maximum(n, 1)
    rounded = (a + (np.int64(1) << (right - 1)) - 1 + ((a >> right) & 1)) >> right
    return np.where(n > 0, rounded, a << np.maximum(-n, 0))
