"""Concatenation along the channels. The inputs share one scale, so no arithmetic happens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, IntType, TensorType
from codesign.ops.op import show


@dataclass(frozen=True, repr=False)
class Concat:
    """Inputs: any number of (H, W, Ci), all signed or all unsigned. Result: (H, W, sum Ci)."""

    __repr__ = show

    def infer(self, *inputs: TensorType) -> TensorType:
        if not inputs or any(len(t.shape) != 3 for t in inputs) or len({t.shape[:2] for t in inputs}) > 1:
            raise TypeMismatch(f"inputs are {', '.join(map(str, inputs))}, expected maps of one size")
        if len({t.elem.signed for t in inputs}) > 1:
            listed = ", ".join(str(t.elem) for t in inputs)
            raise TypeMismatch(f"inputs are {listed}, expected all signed or all unsigned")
        elem = IntType(max(t.elem.bits for t in inputs), inputs[0].elem.signed)
        return TensorType((*inputs[0].shape[:2], sum(t.shape[2] for t in inputs)), elem)

    def run(self, *inputs: Array) -> Array:
        return np.concatenate(inputs, axis=3)

    def bounds(self, *inputs: Bounds) -> Bounds:
        return Bounds(np.concatenate([b.low for b in inputs]), np.concatenate([b.high for b in inputs]))

    def macs(self, *inputs: TensorType) -> int:
        return 0
