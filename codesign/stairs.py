"""Lines of real steps, and integer requantizations with the very same codes: proven step by step, in whole numbers.

A file asks of a channel's sum a for T(a) = clamp(round_half_even(ratio * a + term), lo, hi). That is a stair; so is
what the accelerator computes, and both are equal within a range of sums if each step of T is one of the other. `Steps`
lists at which sums a code must have been reached and at which not; `wide_factors` solves them for a WideRequant.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor, frexp

from codesign.ops.wide_requant import CONSTANT, FACTOR, MOST_RIGHT, PRODUCT_BITS

Pairs = list[tuple[int, int]]


@dataclass(frozen=True)
class Stairs:
    """a -> clamp(round_half_even(ratio * a + term), lo, hi)."""

    ratio: Fraction
    term: Fraction
    lo: int
    hi: int

    def code(self, value: Fraction) -> int:
        """Of a real value: round() takes the even one of two that are as near, as ONNX does."""
        return min(max(round(value), self.lo), self.hi)


@dataclass(frozen=True)
class Steps:
    """Of stairs with a ratio above 0, between two sums: pairs (j, a), in which the code of a is above j (`reached`) or
    is not (`missed`). Any rising stair that agrees with these agrees with every sum between the two.
    """

    reached: Pairs
    missed: Pairs
    level: int | None  # the one code, where all sums have the same

    @classmethod
    def of(cls, stairs: Stairs, low: int, high: int) -> Steps:
        least, most = (stairs.code(stairs.ratio * a + stairs.term) for a in (low, high))
        if least == most:
            return cls([], [], least)
        firsts = [(j, _first(j, stairs.ratio, stairs.term)) for j in range(least, most)]
        reached, missed = list(firsts), [(j, a - 1) for j, a in firsts]
        if least > stairs.lo:
            reached.insert(0, (least - 1, low))
        if most < stairs.hi:
            missed.append((most, high))
        return cls(reached, missed, None)


def _first(j: int, ratio: Fraction, term: Fraction) -> int:
    """The least a whose code is above j."""
    at = (Fraction(2 * j + 1, 2) - term) / ratio
    return ceil(at) if at.denominator > 1 or j % 2 else int(at) + 1


def factors(factor: Fraction, bits: int) -> list[tuple[int, int]]:
    """mult, shift with mult * 2^-shift nearest below and above `factor`, mult of so many bits."""
    shift = bits - frexp(factor)[1]
    while factor * Fraction(2) ** shift >= 1 << bits:
        shift -= 1
    while factor * Fraction(2) ** shift < 1 << (bits - 1):
        shift += 1
    below = floor(factor * Fraction(2) ** shift)
    return [(mult, shift) for mult in (below, below + 1)]


@lru_cache(maxsize=4096)
def wide_factors(stairs: Stairs, low: int, high: int) -> tuple[int, int, int, int] | None:
    """bias, mult, shift, ties of a WideRequant with the same code for every sum in low..high, mult as narrow as it can
    be; None if there are none.
    """
    if stairs.ratio == 0:
        return 2 * stairs.code(stairs.term), 0, 1, 0
    sign = -1 if stairs.ratio < 0 else 1
    rising = Stairs(abs(stairs.ratio), stairs.term, stairs.lo, stairs.hi)
    ends = (low, high) if sign > 0 else (-high, -low)
    steps = Steps.of(rising, *ends)
    if steps.level is not None:
        return 2 * steps.level, 0, 1, 0
    for near in (False, True):
        for bits in range(1, FACTOR.bits):
            for mult, shift in factors(rising.ratio, bits):
                ties = (
                    mult.bit_length() - 2 if near else 0
                )  # within a quarter to a half of what a sum of 1 changes
                if not 1 <= shift <= MOST_RIGHT or not 0 <= ties < shift or mult > FACTOR.max:
                    continue
                bias = _constant(steps, mult, shift, ties)
                if bias is not None and _fits(bias, mult, ends):
                    return bias, sign * mult, shift, ties
    return None


def _constant(steps: Steps, mult: int, shift: int, ties: int) -> int | None:
    """What is added to the products so that each step is where it must be; None if nothing is."""

    def threshold(j: int) -> int:  # of P, to be above j
        return ((2 * j + 1) << (shift - 1)) + (1 - (1 << ties) if j % 2 else 1 << ties)

    least = max(threshold(j) - mult * a for j, a in steps.reached)
    most = min(threshold(j) - 1 - mult * a for j, a in steps.missed)
    return (least + most) // 2 if least <= most else None


def _fits(bias: int, mult: int, ends: tuple[int, int]) -> bool:
    products = [abs(mult * a + bias) for a in ends]
    return CONSTANT.min <= bias <= CONSTANT.max and max(products) < 1 << PRODUCT_BITS
