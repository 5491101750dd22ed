"""What a comparison knows of one pair of layers; codesign/compare.py says what each figure means."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from codesign.trace import Clipped, Grid, Layer, Real

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass
class Range:
    """Codes of one side's map that occurred, and how many values its Requant cut off."""

    grid: Grid
    low: int = 1 << 60
    high: int = -(1 << 60)
    clipped: Clipped | None = None  # None where no Requant makes the map, or its inputs are not seen

    @property
    def used(self) -> float:
        return (self.high - self.low + 1) / (self.grid.elem.max - self.grid.elem.min + 1)

    def add(self, real: Real, clipped: Clipped | None) -> None:
        codes = self.grid.codes(real)
        self.low, self.high = min(self.low, int(codes.min())), max(self.high, int(codes.max()))
        if clipped is not None:
            before = self.clipped or Clipped(0, 0)
            self.clipped = Clipped(before.below + clipped.below, before.above + clipped.above)


@dataclass
class Figures:
    """A pair of layers, over all pictures so far."""

    a: Layer
    b: Layer
    index: int  # in B's order
    range_a: Range | None
    range_b: Range | None
    values: int = 0
    different: int = 0
    signal: float = 0.0
    noise: float = 0.0
    alone_signal: float = 0.0
    alone_noise: float = 0.0
    alone_known: bool = True
    seen: bool = True  # on both sides: a simulation does not hold what is only addresses
    worst: float = 0.0  # largest absolute difference, in real values
    products: Floats = field(default_factory=lambda: np.zeros(0))  # sums of a*a, a*b, b*b by channel
    by_channel: Floats = field(default_factory=lambda: np.zeros(0))  # noise, alone where that is known
    edges: Floats = field(default_factory=lambda: np.zeros(0))  # of the histograms' bins, in real values
    counts_a: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    counts_b: Counts = field(default_factory=lambda: np.zeros(0, np.int64))
    inputs_noise: float | None = None  # largest noise-to-signal ratio among the inputs that both sides have

    @property
    def lsb(self) -> float | None:
        """Real value of one code, B's where both have codes."""
        found = self.range_b or self.range_a
        return None if found is None else found.grid.scale

    @property
    def sqnr(self) -> float:
        return decibels(self.signal, self.noise)

    @property
    def fitted(self) -> float:
        """SQNR after each channel of A has been scaled to be nearest to B's."""
        return self._fitted(self.products)

    @property
    def by_factors(self) -> float:
        """What factors by channel gain over one factor for all, in dB."""
        return self.fitted - self._fitted(self.products.sum(axis=1, keepdims=True))

    def _fitted(self, products: Floats) -> float:
        aa, ab, bb = products
        rest = bb - np.where(aa > 0, ab**2 / np.where(aa > 0, aa, 1), 0)
        return decibels(float(bb.sum()), max(float(rest.sum()), float(bb.sum()) * 1e-12))

    @property
    def alone(self) -> float:
        return -10 * math.log10(self.born) if self.born > 0 else math.inf

    @property
    def born(self) -> float:
        """Noise of this layer alone, as a share of its signal."""
        if self.alone_known:
            return noise_ratio(self.alone_signal, self.alone_noise)
        return max(noise_ratio(self.signal, self.noise) - (self.inputs_noise or 0.0), 0.0)

    @property
    def worst_channel(self) -> tuple[int, float] | None:
        """The channel with the most noise, and its share of the layer's noise."""
        total = float(self.by_channel.sum())
        if not total:
            return None
        channel = int(self.by_channel.argmax())
        return channel, float(self.by_channel[channel]) / total


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise); infinite where there is no noise."""
    ratio = noise_ratio(signal, noise)
    return -10 * math.log10(ratio) if ratio else math.inf


def noise_ratio(signal: float, noise: float) -> float:
    return noise / max(signal, 1e-300) if noise else 0.0
