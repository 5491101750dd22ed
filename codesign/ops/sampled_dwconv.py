"""Depthwise convolution whose taps each look somewhere else, bounded: DCNv1, and DCNv2 with masks.

    out[y,x,c] = sum over taps k of  w[k,c] * m_k * X_k[c]
    X_k[c] = sum over r, s in {0,1} of  in[floor(Y) + r, floor(X) + s, c] * share(r, Y) * share(s, X)
    Y = stride*y + i_k + dy / G,   X = stride*x + j_k + dx / G,   G = 2^grid
    share(1, v) = G * (v - floor(v)),   share(0, v) = G - share(1, v)

Taps lie in a row, a column or a square around the pixel: k is row-major in a kernel of K = 3x3, 1x9, 9x1 or 1x1, and
(i_k, j_k) its place from the middle. dy, dx are channels 2k and 2k + 1 of `samples` in steps of 1/G pixel, limited to
+-max_offset*G; m_k is its channel 2K + k, limited to mask_low..mask_high, and 1 where the two are equal: then `samples`
has 2K channels. With `still`, it has the K masks alone, and all offsets are zero. Samples outside the map are zero;
with `border`, Y and X are limited to the map before anything else is made of them, as grid_sample does with
padding_mode "border". With grid 0 a sample is one pixel: nearest. All of it is exact, so the result is G^2 times finer
than in * w * m (arXiv 1703.06211 and 1811.11168, with the bound and the grid made part of the definition; rows and
columns of nine taps are those of arXiv 2307.08388, one tap that of 2308.15085, masks alone those of 2103.06255).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, IntType, TensorType
from codesign.ops.op import corner_products, product_bounds, show, window

KERNELS = {"3x3": (3, 3), "1x9": (1, 9), "9x1": (9, 1), "1x1": (1, 1)}
TAPS = 9  # at most
MOST_GRID = 4
CODE = IntType(8)  # of an offset or a mask


@dataclass(frozen=True, repr=False)
class SampledDwConv:
    """Inputs: x (H, W, C), samples (H', W', 2K or 3K), weight (kh, kw, C). Result: accumulator (H', W', C)."""

    max_offset: int = 7
    grid: int = 0
    mask_low: int = 0
    mask_high: int = 0
    stride: tuple[int, int] = (1, 1)
    taps: str = "3x3"
    border: bool = False  # what lies outside the map is its nearest pixel, else zero
    still: bool = False  # without offsets

    __repr__ = show

    @property
    def masked(self) -> bool:
        return self.mask_low != self.mask_high

    @property
    def kernel(self) -> tuple[int, int]:
        return KERNELS[self.taps]

    @property
    def count(self) -> int:
        """Of taps."""
        return prod(self.kernel)

    @property
    def reach(self) -> int:
        """Rows above and below a pixel that its samples may come from."""
        return self.kernel[0] // 2 + self.max_offset

    @property
    def offsets(self) -> int:
        """Channels of `samples` before the masks."""
        return 0 if self.still else 2 * self.count

    @property
    def channels(self) -> int:
        """Of `samples`."""
        return self.offsets + (self.count if self.masked else 0)

    @property
    def limit(self) -> int:
        """Largest offset, in steps of the grid."""
        return self.max_offset << self.grid

    def infer(self, x: TensorType, samples: TensorType, weight: TensorType) -> TensorType:
        if self.taps not in KERNELS:
            raise TypeMismatch(f"taps {self.taps}, expected {', '.join(KERNELS)}")
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
        if self.still and (self.max_offset or not self.masked):
            raise TypeMismatch(
                f"max_offset {self.max_offset}, masks {self.mask_low}..{self.mask_high}: expected 0 and a range of "
                "masks where there are no offsets"
            )
        if not CODE.min <= self.mask_low <= self.mask_high <= CODE.max:
            raise TypeMismatch(f"masks {self.mask_low}..{self.mask_high}, expected a range inside {CODE}")
        kh, kw = self.kernel
        h, w = window(x.shape, self.kernel, self.stride, (kh // 2, kw // 2, kh // 2, kw // 2))
        if samples.shape != (h, w, self.channels):
            raise TypeMismatch(
                f"samples are {samples}, expected {'offsets and masks' if self.masked else 'offsets'}: "
                f"[{h},{w},{self.channels}]"
            )
        if samples.elem.min < CODE.min or samples.elem.max > CODE.max:
            raise TypeMismatch(f"samples are {samples.elem}, expected at most {CODE}")
        if weight.shape != (kh, kw, x.shape[2]):
            raise TypeMismatch(f"weight is {weight}, expected [{kh},{kw},{x.shape[2]}]")
        low, high = corner_products(x, weight, self.count)
        largest = max(abs(self.mask_low), abs(self.mask_high)) if self.masked else 1
        most = max(-low, high) * largest << 2 * self.grid
        return TensorType((h, w, x.shape[2]), IntType.holding(-most, most))

    def limited(self, samples: Array) -> tuple[Array, Array]:
        """Offsets (..., K, 2) and masks (..., K) as they are used."""
        offsets = np.zeros((*samples.shape[:-1], self.count, 2), samples.dtype)
        if not self.still:
            offsets = samples[..., : self.offsets].clip(-self.limit, self.limit).reshape(offsets.shape)
        if not self.masked:
            return offsets, np.ones_like(offsets[..., 0])
        return offsets, samples[..., self.offsets :].clip(self.mask_low, self.mask_high)

    def corners(
        self, offsets: Array, tap: int, size: tuple[int, int]
    ) -> Iterator[tuple[Array, Array, Array]]:
        """For each of a tap's four neighbours: its row and column (N, H', W') in a map of that size, and its share."""
        one, (kh, kw) = 1 << self.grid, self.kernel
        (dy, dx), i, j = np.moveaxis(offsets[..., tap, :], -1, 0), tap // kw - kh // 2, tap % kw - kw // 2
        y = dy + (np.arange(dy.shape[1])[:, None] * self.stride[0] + i) * one
        x = dx + (np.arange(dx.shape[2]) * self.stride[1] + j) * one
        if self.border:
            y, x = y.clip(0, (size[0] - 1) * one), x.clip(0, (size[1] - 1) * one)
        top, left, down, right = y >> self.grid, x >> self.grid, y & (one - 1), x & (one - 1)
        for r, across in ((0, one - down), (1, down)):
            for s, along in ((0, one - right), (1, right)):
                yield top + r, left + s, across * along

    def run(self, x: Array, samples: Array, weight: Array) -> Array:
        n, h, w, c = x.shape
        offsets, masks = self.limited(samples)
        image, table = np.arange(n)[:, None, None], weight.reshape(self.count, c)
        out = np.zeros((*samples.shape[:3], c), np.result_type(x, weight))
        for tap in range(self.count):
            for row, col, share in self.corners(offsets, tap, (h, w)):
                inside = (0 <= row) & (row < h) & (0 <= col) & (col < w)
                sample = x[image, row.clip(0, h - 1), col.clip(0, w - 1)]
                out += sample * (inside * share * masks[..., tap])[..., None] * table[tap]
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
        return prod(self.infer(x, samples, weight).shape) * self.count
