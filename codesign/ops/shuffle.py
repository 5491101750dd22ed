"""Channel shuffle: out[c*groups + g] = in[g*(C/groups) + c] (ShuffleNet, arXiv 1707.01083, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, TensorType
from codesign.ops.op import show


@dataclass(frozen=True, repr=False)
class Shuffle:
    """Input: x (H, W, C) with C a multiple of `groups`. Result: the same type, channels permuted."""

    groups: int = 2

    __repr__ = show

    def infer(self, x: TensorType) -> TensorType:
        if len(x.shape) != 3 or self.groups < 1 or x.shape[2] % self.groups:
            raise TypeMismatch(f"input is {x}, expected channels in multiples of {self.groups}")
        return x

    def order(self, channels: int) -> Array:
        """The input channel that each output channel reads."""
        return np.arange(channels).reshape(self.groups, -1).T.reshape(-1)

    def run(self, x: Array) -> Array:
        return x[..., self.order(x.shape[-1])]

    def bounds(self, x: Bounds) -> Bounds:
        order = self.order(x.low.size)
        return Bounds(x.low[order], x.high[order])

    def macs(self, x: TensorType) -> int:
        return 0
