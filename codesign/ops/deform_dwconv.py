"""Depthwise 3x3 convolution whose window is a square of side 2d+1, d chosen per pixel.

    out[y,x,c] = sum over i,j in {-1,0,1} of  w[i+1,j+1,c] * in[s*y + i*d[y,x], s*x + j*d[y,x], c]

Samples outside the map are zero. With d = 1 this is an ordinary depthwise convolution with pads 1.
Offsets are integers in [0, max_offset], so no interpolation is needed (CoDeNet, arXiv 2006.08357,
section 3, with the rounding and the bound made part of the definition).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, IntType, TensorType
from codesign.ops.op import corner_products, product_bounds, show, window

PADS = (1, 1, 1, 1)


@dataclass(frozen=True, repr=False)
class DeformDwConv:
    """Inputs: x (H, W, C), d (H', W', 1), weight (3, 3, C). Result: accumulator (H', W', C)."""

    max_offset: int = 7
    stride: tuple[int, int] = (1, 1)

    __repr__ = show

    def infer(self, x: TensorType, d: TensorType, weight: TensorType) -> TensorType:
        if self.max_offset < 0 or min(self.stride) < 1:
            raise TypeMismatch(
                f"max_offset {self.max_offset}, stride {self.stride}: expected positive numbers"
            )
        h, w = window(x.shape, (3, 3), self.stride, PADS)
        if d.shape != (h, w, 1):
            raise TypeMismatch(f"offset is {d}, expected one value per output pixel: [{h},{w},1]")
        if weight.shape != (3, 3, x.shape[2]):
            raise TypeMismatch(f"weight is {weight}, expected [3,3,{x.shape[2]}]")
        if d.elem.signed:
            raise TypeMismatch(f"offset is {d.elem}, which may be negative, expected an unsigned type")
        if d.elem.max > self.max_offset and d.elem != IntType.holding(0, self.max_offset):
            raise TypeMismatch(
                f"offset is {d.elem}, which exceeds max_offset={self.max_offset}. "
                f"Export the offset with {IntType.holding(0, self.max_offset).bits} bits, or raise max_offset"
            )
        low, high = corner_products(x, weight, 9)
        return TensorType((h, w, x.shape[2]), IntType.holding(low, high))

    def run(self, x: Array, d: Array, weight: Array) -> Array:
        assert 0 <= d.min() and d.max() <= self.max_offset, "offset out of its bound"
        n, h, w, c = x.shape
        _, oh, ow, _ = d.shape
        image = np.arange(n)[:, None, None]
        out = np.zeros((n, oh, ow, c), np.result_type(x, weight))
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                row = np.arange(oh)[:, None] * self.stride[0] + i * d[..., 0]
                col = np.arange(ow)[None, :] * self.stride[1] + j * d[..., 0]
                inside = (0 <= row) & (row < h) & (0 <= col) & (col < w)
                sample = x[image, row.clip(0, h - 1), col.clip(0, w - 1)] * inside[..., None]
                out += sample * weight[i + 1, j + 1]
        return out

    def bounds(self, x: Bounds, d: Bounds, weight: Array) -> Bounds:
        if int(d.high.max()) > self.max_offset:
            raise TypeMismatch(
                f"offset reaches {d.high.max()}, expected at most max_offset={self.max_offset}"
            )
        return product_bounds(x, weight, (0, 1))

    def macs(self, x: TensorType, d: TensorType, weight: TensorType) -> int:
        return prod(self.infer(x, d, weight).shape) * 9
