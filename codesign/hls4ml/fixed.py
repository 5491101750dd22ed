"""Ranges of sums of fixed-point numbers, and the types that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hls4ml.model.types import FixedPrecisionType

from codesign.ir import IntType


@dataclass(frozen=True)
class Range:
    """Numbers low..high in steps of 2^-fraction, both counted in steps."""

    low: int
    high: int
    fraction: int

    def __add__(self, other: Range) -> Range:
        fraction = max(self.fraction, other.fraction)
        a, b = self._finer(fraction), other._finer(fraction)
        return Range(a.low + b.low, a.high + b.high, fraction)

    def __mul__(self, other: Range) -> Range:
        corners = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Range(min(corners), max(corners), self.fraction + other.fraction)

    def sums(self, count: int) -> Range:
        """Of up to so many of these numbers: 0 and every partial sum lie in it."""
        return Range(count * min(0, self.low), count * max(0, self.high), self.fraction)

    @property
    def type(self) -> Any:
        codes = IntType.holding(self.low, self.high)
        return FixedPrecisionType(codes.bits, codes.bits - self.fraction, codes.signed)

    def _finer(self, fraction: int) -> Range:
        up = fraction - self.fraction
        return Range(self.low << up, self.high << up, fraction)


def range_of(precision: Any) -> Range:
    """Of a type; hls4ml's integer types have no fraction."""
    codes = IntType(precision.width, bool(precision.signed))
    return Range(codes.min, codes.max, precision.width - precision.integer)
