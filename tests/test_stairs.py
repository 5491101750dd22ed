"""Factors that are searched for give the very codes of the real line, for every sum: against fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.ir import IntType
from codesign.ops import WideRequant
from codesign.stairs import Stairs, wide_factors


def codes(stairs: Stairs, low: int, high: int) -> list[int]:
    """round() is half to even."""
    return [
        min(max(round(stairs.ratio * a + stairs.term), stairs.lo), stairs.hi) for a in range(low, high + 1)
    ]


def wide(stairs: Stairs, low: int, high: int, found: tuple[int, int, int, int]) -> list[int]:
    op = WideRequant(IntType(9), stairs.lo, stairs.hi)
    tables = [np.array([v], np.int64) for v in found]
    result = op.run(np.arange(low, high + 1)[:, None], *tables)
    return result[:, 0].tolist()


@settings(max_examples=150)
@given(
    st.floats(1e-4, 40.0),
    st.floats(-300.0, 300.0),
    st.booleans(),
    st.integers(-3000, 3000),
    st.integers(0, 4000),
    st.integers(1, 8),
    st.booleans(),
)
def test_any_line_of_floats_has_a_wide_factor(ratio, term, falls, low, span, bits, signed):
    elem = IntType(bits, signed)
    stairs = Stairs(
        Fraction(float(np.float32(ratio))) * (-1 if falls else 1), Fraction(term), elem.min, elem.max
    )
    found = wide_factors(stairs, low, low + span)
    assert found is not None
    assert wide(stairs, low, low + span, found) == codes(stairs, low, low + span)


@pytest.mark.parametrize("area", [6, 35, 36, 49, 77, 100, 196, 784, 3136])
def test_means_of_any_area_round_halves_to_even(area):
    stairs, low, high = Stairs(Fraction(1, area), Fraction(0), -128, 127), -128 * area, 127 * area
    found = wide_factors(stairs, low, high)
    assert found is not None
    assert wide(stairs, low, high, found) == codes(stairs, low, high)
    assert (found[3] > 0) == (area % 2 == 0), "only even areas have halves"


def test_one_code_needs_no_product():
    assert wide_factors(Stairs(Fraction(1, 3), Fraction(400), 0, 255), -9, 9) == (510, 0, 1, 0)


def test_says_where_no_factor_is_wide_enough():
    assert wide_factors(Stairs(Fraction(1, 3**60), Fraction(0), -128, 127), -(3**62), 3**62) is None
