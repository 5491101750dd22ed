"""Any function of a code, as a table: activation functions between two quantizers.

    out[y,x,c] = values[in[y,x,c] mod 256]

A code's lower eight bits count, so that negative codes -k find entry 256 - k; of codes of fewer bits some entries are
never read. One table serves all channels of a map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, IntType, TensorType
from codesign.ops.op import show

ENTRIES = 256


@dataclass(frozen=True, repr=False)
class Table:
    """Inputs: x (H, W, C) of at most 8 bits, values (256,). Result: (H, W, C) of `out`."""

    out: IntType

    __repr__ = show

    def infer(self, x: TensorType, values: TensorType) -> TensorType:
        if len(x.shape) != 3 or x.elem.bits > 8:
            raise TypeMismatch(f"input is {x}, expected a map of at most 8 bits")
        if self.out.bits > 8:
            raise TypeMismatch(f"makes {self.out}, expected at most 8 bits")
        if values.shape != (ENTRIES,):
            raise TypeMismatch(f"values are {values}, expected [{ENTRIES}]")
        if values.elem.min < self.out.min or values.elem.max > self.out.max:
            raise TypeMismatch(f"values are {values}, expected at most {self.out}")
        return TensorType(x.shape, self.out)

    def run(self, x: Array, values: Array) -> Array:
        found: Array = values[x & (ENTRIES - 1)]
        return found

    def bounds(self, x: Bounds, values: Array) -> Bounds:
        """Of each channel, the least and the largest entry of the codes that it may have."""
        codes = np.arange(int(x.low.min()), int(x.high.max()) + 1)
        found = self.run(codes, values)
        inside = (x.low[:, None] <= codes) & (codes <= x.high[:, None])
        low = np.where(inside, found, self.out.max).min(axis=1)
        return Bounds(low, np.where(inside, found, self.out.min).max(axis=1))

    def macs(self, x: TensorType, values: TensorType) -> int:
        return 0
