"""Dense convolution into an accumulator.

    out[y,x,o] = sum over i,j,c of  w[i,j,c,o] * in[s*y + i - top, s*x + j - left, c]

Samples outside the map are zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, IntType, TensorType
from codesign.ops.op import check_window, corner_products, product_bounds, show, taps, window


@dataclass(frozen=True, repr=False)
class Conv:
    """Inputs: x (H, W, Cin), weight (kh, kw, Cin, Cout). Result: accumulator (H', W', Cout)."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right

    __repr__ = show

    def infer(self, x: TensorType, weight: TensorType) -> TensorType:
        check_window(self.kernel, self.stride, self.pads)
        h, w = window(x.shape, self.kernel, self.stride, self.pads)
        if len(weight.shape) != 4 or weight.shape[:3] != (*self.kernel, x.shape[2]):
            expected = f"[{self.kernel[0]},{self.kernel[1]},{x.shape[2]},Cout]"
            raise TypeMismatch(f"weight is {weight}, expected {expected}")
        low, high = corner_products(x, weight, prod(weight.shape[:3]))
        return TensorType((h, w, weight.shape[3]), IntType.holding(low, high))

    def run(self, x: Array, weight: Array) -> Array:
        kernels = weight.reshape(-1, *weight.shape[2:])
        parts = taps(x, self.kernel, self.stride, self.pads, fill=0)
        acc: Array = np.sum([part @ w for part, w in zip(parts, kernels, strict=True)], axis=0)
        return acc

    def bounds(self, x: Bounds, weight: Array) -> Bounds:
        return product_bounds(x, weight, (0, 1, 2))

    def macs(self, x: TensorType, weight: TensorType) -> int:
        h, w, _ = self.infer(x, weight).shape
        return h * w * prod(weight.shape)
