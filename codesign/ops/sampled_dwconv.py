"""Depthwise 3x3 convolution whose taps each look somewhere else, bounded: DCNv1, and DCNv2 with masks.

    out[y,x,c] = sum over taps k = 3i + j of  w[i,j,c] * m_k * X_k[c]
    X_k[c] = sum over r, s in {0,1} of  in[row + r, col + s, c] * share(r, dy) * share(s, dx)
    row = stride*y + i - 1 + floor(dy / G),   col = stride*x + j - 1 + floor(dx / G),   G = 2^grid
    share(1, d) = d mod G,   share(0, d) = G - d mod G

dy, dx are channels 2k and 2k + 1 of `samples` in steps of 1/G pixel, limited to +-max_offset*G; m_k is its channel
18 + k, limited to mask_low..mask_high, and 1 where the two are equal: then `samples` has 18 channels. Samples outside
the map are zero. With grid 0 a sample is one pixel: nearest. All of it is exact, so the result is G^2 times finer than
in * w * m (arXiv 1703.06211 and 1811.11168, with the bound and the grid made part of the definition).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, IntType, TensorType
from codesign.ops.op import corner_products, product_bounds, show, window

PADS = (1, 1, 1, 1)
TAPS = 9
MOST_GRID = 4
CODE = IntType(8)  # of an offset or a mask


@dataclass(frozen=True, repr=False)
class SampledDwConv:
    """Inputs: x (H, W, C), samples (H', W', 18 or 27), weight (3, 3, C). Result: accumulator (H', W', C)."""

    max_offset: int = 7
    grid: int = 0
    mask_low: int = 0
    mask_high: int = 0
    stride: tuple[int, int] = (1, 1)

    __repr__ = show

    @property
    def masked(self) -> bool:
        return self.mask_low != self.mask_high

    @property
    def channels(self) -> int:
        """Of `samples`."""
        return TAPS * (3 if self.masked else 2)

    @property
    def limit(self) -> int:
        """Largest offset, in steps of the grid."""
        return self.max_offset << self.grid

    def infer(self, x: TensorType, samples: TensorType, weight: TensorType) -> TensorType:
        if self.max_offset < 0 or min(self.stride) < 1:
            raise TypeMismatch(
                f"max_offset {self.max_offset}, stride {self.stride}: expected positive numbers"
            )
        if not 0 <= self.grid <= MOST_GRID:
            raise TypeMismatch(f"offsets in steps of 2^-{self.grid}, expected 2^0 to 2^-{MOST_GRID}")
        if self.limit > CODE.max:
            raise TypeMismatch(
                f"offsets to {self.max_offset} in steps of 2^-{self.grid} exceed {CODE}. Use a coarser grid"
            )
        if not CODE.min <= self.mask_low <= self.mask_high <= CODE.max:
            raise TypeMismatch(f"masks {self.mask_low}..{self.mask_high}, expected a range inside {CODE}")
        h, w = window(x.shape, (3, 3), self.stride, PADS)
        if samples.shape != (h, w, self.channels):
            raise TypeMismatch(
                f"samples are {samples}, expected {'offsets and masks' if self.masked else 'offsets'}: "
                f"[{h},{w},{self.channels}]"
            )
        if samples.elem.min < CODE.min or samples.elem.max > CODE.max:
            raise TypeMismatch(f"samples are {samples.elem}, expected at most {CODE}")
        if weight.shape != (3, 3, x.shape[2]):
            raise TypeMismatch(f"weight is {weight}, expected [3,3,{x.shape[2]}]")
        low, high = corner_products(x, weight, TAPS)
        largest = max(abs(self.mask_low), abs(self.mask_high)) if self.masked else 1
        most = max(-low, high) * largest << 2 * self.grid
        return TensorType((h, w, x.shape[2]), IntType.holding(-most, most))

    def limited(self, samples: Array) -> tuple[Array, Array]:
        """Offsets (..., 9, 2) and masks (..., 9) as they are used."""
        offsets = samples[..., : 2 * TAPS].clip(-self.limit, self.limit)
        offsets = offsets.reshape(*samples.shape[:-1], TAPS, 2)
        if not self.masked:
            return offsets, np.ones_like(offsets[..., 0])
        return offsets, samples[..., 2 * TAPS :].clip(self.mask_low, self.mask_high)

    def corners(self, offsets: Array, tap: int) -> Iterator[tuple[Array, Array, Array]]:
        """For each of a tap's four neighbours: row and column from the output pixel's own, and its share."""
        one = 1 << self.grid
        (dy, dx), i, j = np.moveaxis(offsets[..., tap, :], -1, 0), tap // 3 - 1, tap % 3 - 1
        top, left, down, right = dy >> self.grid, dx >> self.grid, dy & (one - 1), dx & (one - 1)
        for r, across in ((0, one - down), (1, down)):
            for s, along in ((0, one - right), (1, right)):
                yield top + i + r, left + j + s, across * along

    def run(self, x: Array, samples: Array, weight: Array) -> Array:
        n, h, w, c = x.shape
        _, oh, ow, _ = samples.shape
        offsets, masks = self.limited(samples)
        image = np.arange(n)[:, None, None]
        out = np.zeros((n, oh, ow, c), np.result_type(x, weight))
        for tap in range(TAPS):
            for above, beside, share in self.corners(offsets, tap):
                row = np.arange(oh)[:, None] * self.stride[0] + above
                col = np.arange(ow)[None, :] * self.stride[1] + beside
                inside = (0 <= row) & (row < h) & (0 <= col) & (col < w)
                sample = x[image, row.clip(0, h - 1), col.clip(0, w - 1)]
                out += sample * (inside * share * masks[..., tap])[..., None] * weight[tap // 3, tap % 3]
        return out

    def bounds(self, x: Bounds, samples: Bounds, weight: Array) -> Bounds:
        """A sample lies between the least and the largest of x and zero, times G^2, times one of the masks' ends."""
        low, high = np.minimum(x.low, 0) << 2 * self.grid, np.maximum(x.high, 0) << 2 * self.grid
        if self.masked:
            ends = [v * m for v in (low, high) for m in (self.mask_low, self.mask_high)]
            low, high = np.min(ends, axis=0), np.max(ends, axis=0)
        return product_bounds(Bounds(low, high), weight, (0, 1))

    def macs(self, x: TensorType, samples: TensorType, weight: TensorType) -> int:
        """Of weights; what mixes four neighbours or multiplies by a mask is not counted."""
        return prod(self.infer(x, samples, weight).shape) * TAPS
