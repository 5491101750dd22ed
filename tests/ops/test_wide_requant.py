"""Wide requantization: against fractions, and against the narrow one."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.ir import Bounds, IntType, TensorType
from codesign.ops import Requant, WideRequant
from codesign.ops.wide_requant import CONSTANT, FACTOR, widened

I8 = IntType(8)


def array(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@given(
    st.integers(-(2**29), 2**29),
    st.integers(FACTOR.min, FACTOR.max),
    st.integers(CONSTANT.min, CONSTANT.max),
    st.integers(1, 60),
    st.integers(0, 59),
)
def test_is_the_equation(acc, mult, bias, shift, ties):
    ties = min(ties, shift - 1)
    op, product = WideRequant(I8, -128, 127), acc * mult + bias
    floor = product // 2**shift
    near = product - floor * 2**shift - 2 ** (shift - 1)  # from half a step
    up = near >= (1 - 2**ties if floor % 2 else 2**ties)
    got = op.run(array(acc), *map(array, (bias, mult, shift, ties)))[0]
    assert got == max(-128, min(127, floor + up))
    if ties == 0:
        assert got == max(-128, min(127, round(Fraction(product, 2**shift))))


@given(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**28), 2**28),
    st.integers(0, 255),
    st.integers(-16, 40),
)
def test_widened_is_the_narrow_one(acc, bias, mult, shift):
    tables = [array(v) for v in (bias, mult, shift)]
    narrow, wide = Requant(I8, -128, 127), WideRequant(I8, -128, 127)
    assert narrow.run(array(acc), *tables) == wide.run(array(acc), *widened(*tables))


def test_range_follows_factors_of_either_sign():
    bounds = WideRequant(I8, -128, 127).bounds(
        Bounds(array(-10, -10), array(20, 20)), array(0, 4), array(8, -8), array(2, 2), array(0, 0)
    )
    assert (bounds.low.tolist(), bounds.high.tolist()) == ([-20, -39], [40, 21])


@pytest.mark.parametrize(
    ("tables", "text"),
    [
        ((0, 1, 0, 0), "shifts by 0..0, expected 1..60"),
        ((0, 1, 61, 0), "shifts by 61..61, expected 1..60"),
        ((0, 1, 4, 4), "has ties 4..4, expected 0 to less than its shift"),
        ((1, -(2**31), 4, 0), "needs 64 bits, expected at most 63"),
    ],
)
def test_refuses_ranges(tables, text):
    acc = Bounds(array(-(2**31)), array(2**31))
    with pytest.raises(TypeMismatch, match=text):
        WideRequant(I8, -128, 127).bounds(acc, *map(array, tables))


def test_refuses_types():
    types = [TensorType((2,), t) for t in (IntType(49), IntType(32), I8, I8)]
    op, acc = WideRequant(I8, -128, 127), TensorType((1, 1, 2), IntType(20))
    with pytest.raises(TypeMismatch, match="bias is i49, expected at most i48"):
        op.infer(acc, *types)
    with pytest.raises(TypeMismatch, match="has 3 tables, expected bias, mult, shift, ties"):
        op.infer(acc, *types[1:])
