"""Sum of maps, each channel of each multiplied by a gate that is computed from the image.

    out[y,x,c] = sum over k < parts of  gates[k*C + c] * in[y,x,k*C + c]

With one part it is a gate a channel (squeeze and excitation, arXiv 1709.01507), with two or more it chooses among
branches (selective kernels, arXiv 1903.06586).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, IntType, TensorType
from codesign.ops.op import show

GATE = IntType(8, signed=False)


@dataclass(frozen=True, repr=False)
class Mix:
    """Inputs: x (H, W, parts*C), gates (1, 1, parts*C) unsigned. Result: accumulator (H, W, C)."""

    parts: int = 1

    __repr__ = show

    def infer(self, x: TensorType, gates: TensorType) -> TensorType:
        check_parts(x, self.parts)
        check_gates(gates, x.shape[2])
        ends = [v * gates.elem.max * self.parts for v in (x.elem.min, x.elem.max)]
        return TensorType((*x.shape[:2], x.shape[2] // self.parts), IntType.holding(*ends))

    def run(self, x: Array, gates: Array) -> Array:
        total: Array = (x * gates).reshape(*x.shape[:3], self.parts, -1).sum(axis=3)
        return total

    def bounds(self, x: Bounds, gates: Bounds) -> Bounds:
        """Each product's range holds 0, so that partial sums lie in the range too."""
        low = np.minimum(x.low * gates.high, 0).reshape(self.parts, -1).sum(axis=0)
        return Bounds(low, np.maximum(x.high * gates.high, 0).reshape(self.parts, -1).sum(axis=0))

    def macs(self, x: TensorType, gates: TensorType) -> int:
        return prod(x.shape)


def check_parts(x: TensorType, parts: int) -> None:
    if len(x.shape) != 3 or parts < 1 or x.shape[2] % parts:
        raise TypeMismatch(f"input is {x}, expected [H,W,C] with channels in multiples of parts={parts}")


def check_gates(gates: TensorType, count: int) -> None:
    if gates.shape != (1, 1, count):
        raise TypeMismatch(f"gates are {gates}, expected [1,1,{count}]")
    if gates.elem.signed or gates.elem.bits > GATE.bits:
        raise TypeMismatch(f"gates are {gates.elem}, expected at most {GATE}")
