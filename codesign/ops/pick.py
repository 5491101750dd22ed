"""Of each set of channels either the largest or the mean, by a gate that also scales it (Pick-or-Mix).

    out[y,x,s] = gates[s] * parts * max over z of in[y,x,z*S + s]   if gates[s] < threshold
                 gates[s] * sum over z of in[y,x,z*S + s]           otherwise

for z < parts, so that both are `parts` times what they mean and nothing is rounded. A set is strided; sets of
neighbouring channels are a shuffle before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, IntType, TensorType
from codesign.ops.mix import GATE, check_gates, check_parts
from codesign.ops.op import show


@dataclass(frozen=True, repr=False)
class Pick:
    """Inputs: x (H, W, parts*S), gates (1, 1, S) unsigned. Result: accumulator (H, W, S)."""

    parts: int = 2
    threshold: int = 128  # of the gate's codes; 0: always the mean, 256: always the largest

    __repr__ = show

    def infer(self, x: TensorType, gates: TensorType) -> TensorType:
        check_parts(x, self.parts)
        check_gates(gates, x.shape[2] // self.parts)
        if not 0 <= self.threshold <= GATE.max + 1:
            raise TypeMismatch(f"threshold is {self.threshold}, expected 0..{GATE.max + 1}")
        ends = [v * gates.elem.max * self.parts for v in (x.elem.min, x.elem.max)]
        return TensorType((*x.shape[:2], x.shape[2] // self.parts), IntType.holding(*ends))

    def run(self, x: Array, gates: Array) -> Array:
        sets = x.reshape(*x.shape[:3], self.parts, -1)
        picked = np.where(gates < self.threshold, self.parts * sets.max(axis=3), sets.sum(axis=3))
        scaled: Array = gates * picked
        return scaled

    def bounds(self, x: Bounds, gates: Bounds) -> Bounds:
        low, high = (v.reshape(self.parts, -1) for v in (x.low, x.high))
        least = np.minimum(self.parts * low.max(axis=0), low.sum(axis=0))
        most = np.maximum(self.parts * high.max(axis=0), high.sum(axis=0))
        ends = [v * g for v in (least, most) for g in (gates.low, gates.high)]
        return Bounds(np.min(ends, axis=0), np.max(ends, axis=0))

    def macs(self, x: TensorType, gates: TensorType) -> int:
        return prod(x.shape) // self.parts
