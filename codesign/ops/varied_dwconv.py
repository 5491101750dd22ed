"""Depthwise 3x3 convolution with weights of its own at every pixel, known in advance: TVConv.

    out[y,x,c] = sum over taps k = 3i + j of  w[y,x,k,c] * in[stride*y + i - 1, stride*x + j - 1, c]

Samples outside the map are zero (arXiv 2203.10489: once a network is trained, the weights that it makes of its affinity
maps are constants).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, IntType, TensorType
from codesign.ops.op import corner_products, show, taps, window

KERNEL, PADS, TAPS = (3, 3), (1, 1, 1, 1), 9


@dataclass(frozen=True, repr=False)
class VariedDwConv:
    """Inputs: x (H, W, C), weight (H', W', 9, C). Result: accumulator (H', W', C)."""

    stride: tuple[int, int] = (1, 1)

    __repr__ = show

    def infer(self, x: TensorType, weight: TensorType) -> TensorType:
        if min(self.stride) < 1:
            raise TypeMismatch(f"stride {self.stride}: expected positive numbers")
        h, w = window(x.shape, KERNEL, self.stride, PADS)
        c = x.shape[2]
        if weight.shape != (h, w, TAPS, c):
            raise TypeMismatch(f"weight is {weight}, expected [{h},{w},{TAPS},{c}]")
        low, high = corner_products(x, weight, TAPS)
        return TensorType((h, w, c), IntType.holding(low, high))

    def run(self, x: Array, weight: Array) -> Array:
        parts = taps(x, KERNEL, self.stride, PADS, fill=0)
        out = np.zeros_like(parts[0], np.result_type(x, weight))
        for k, part in enumerate(parts):
            out += part * weight[:, :, k]
        return out

    def bounds(self, x: Bounds, weight: Array) -> Bounds:
        a, b = weight * np.minimum(x.low, 0), weight * np.maximum(x.high, 0)
        return Bounds(np.minimum(a, b).sum(2).min((0, 1)), np.maximum(a, b).sum(2).max((0, 1)))

    def macs(self, x: TensorType, weight: TensorType) -> int:
        return prod(self.infer(x, weight).shape) * TAPS
