"""One of two maps, by a number that is computed from the frame: what only the other needs can be skipped.

    out = a  if gate >= threshold else  b

A block that may be skipped (SkipNet, arXiv 1711.09485) has its result as a and its input as b; an early exit
(BranchyNet, arXiv 1709.01686) has what it says as a and what the rest of the network says as b.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, IntType, TensorType
from codesign.ops.op import show


@dataclass(frozen=True, repr=False)
class Select:
    """Inputs: a (H, W, C), b of the same shape, both signed or both unsigned, gate (1, 1, 1). Result: (H, W, C)."""

    threshold: int

    __repr__ = show

    def infer(self, a: TensorType, b: TensorType, gate: TensorType) -> TensorType:
        if len(a.shape) != 3 or a.shape != b.shape:
            raise TypeMismatch(f"inputs are {a} and {b}, expected two maps of one size")
        if a.elem.signed != b.elem.signed:
            raise TypeMismatch(f"inputs are {a.elem} and {b.elem}, expected both signed or both unsigned")
        if gate.shape != (1, 1, 1):
            raise TypeMismatch(f"the gate is {gate}, expected one number: [1,1,1]")
        return TensorType(a.shape, IntType(max(a.elem.bits, b.elem.bits), a.elem.signed))

    def run(self, a: Array, b: Array, gate: Array) -> Array:
        return np.where(gate >= self.threshold, a, b)

    def bounds(self, a: Bounds, b: Bounds, gate: Bounds) -> Bounds:
        return Bounds(np.minimum(a.low, b.low), np.maximum(a.high, b.high))

    def macs(self, a: TensorType, b: TensorType, gate: TensorType) -> int:
        return 0
