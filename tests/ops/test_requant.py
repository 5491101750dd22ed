from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.ir import Bounds, IntType, TensorType
from codesign.ops import Requant
from codesign.ops.requant import SHIFT_MAX, SHIFT_MIN, round_half_even

I32, U8, I8 = IntType(32), IntType(8, False), IntType(8)
SUMS = st.integers(-(2**31), 2**31 - 1)


def array(*values):
    return np.array(values, np.int64)


@given(st.integers(-(2**40), 2**40), st.integers(SHIFT_MIN, SHIFT_MAX))
def test_rounding_is_python_s_own_half_to_even(a, n):
    assert round_half_even(array(a), array(n))[0] == round(Fraction(a) / Fraction(2) ** n)


@given(st.integers(-(2**20), 2**20), st.integers(1, 20))
def test_ties_go_to_even(k, n):
    tie = array((2 * k + 1) << (n - 1))  # k + 1/2 steps
    assert round_half_even(tie, array(n))[0] == k + (k % 2)


def test_half_up_would_differ():
    halves = np.arange(-8, 9)
    half_up = (halves + 1) >> 1
    assert (round_half_even(halves, array(1)) != half_up).any()
    np.testing.assert_array_equal(round_half_even(halves, array(1)), np.rint(halves / 2))


@given(st.lists(SUMS, min_size=1, max_size=8), st.integers(0, 255), st.integers(SHIFT_MIN, SHIFT_MAX))
def test_equals_exact_fractions(sums, mult, shift):
    op, acc = Requant(I8, -128, 127), np.array(sums, np.int64)[:, None]
    expected = [min(max(round(Fraction(a * mult) / Fraction(2) ** shift), -128), 127) for a in sums]
    result = op.run(acc, array(0), array(mult), array(shift))
    assert result[:, 0].tolist() == expected


@given(st.integers(-(2**31), 2**31 - 1), st.sampled_from([1, 3, 5, 7]), st.integers(-100, 100))
def test_shifts_beyond_the_limits_give_the_same_as_the_limits(acc, mult, shift):
    exact = min(max(round(Fraction(acc * mult) / Fraction(2) ** shift), -128), 127)
    clamped = min(max(shift, SHIFT_MIN), SHIFT_MAX)
    assert Requant(I8, -128, 127).run(array(acc), array(0), array(mult), array(clamped))[0] == exact


def test_every_channel_has_its_own_table_and_relu_is_lo_zero():
    acc = np.full((1, 1, 1, 4), -20)
    out = Requant(U8, 0, 200).run(acc, array(0, 21, 120, 120), array(1, 1, 1, 7), array(0, 0, 2, -3))
    assert out.ravel().tolist() == [0, 1, 25, 200]


def test_range_follows_the_tables():
    bounds = Requant(I8, -128, 127).bounds(
        Bounds(array(-100, 0), array(100, 10)), array(0, 5), array(1, 3), array(2, 0)
    )
    assert (bounds.low.tolist(), bounds.high.tolist()) == ([-25, 15], [25, 45])


@pytest.mark.parametrize(
    ("op", "tables", "text"),
    [
        (Requant(U8, 0, 256), (I32, U8, I8), "clamps to 0..256, expected a range inside u8"),
        (Requant(U8, 9, 8), (I32, U8, I8), "clamps to 9..8, expected a range inside u8"),
        (Requant(U8, 0, 255), (IntType(33), U8, I8), r"bias is i33\[2\], expected at most i32|bias is i33"),
        (Requant(U8, 0, 255), (I32, IntType(9, False), I8), "mult is u9, expected at most u8"),
        (Requant(U8, 0, 255), (I32, U8, IntType(9)), "shift is i9, expected at most i8"),
    ],
)
def test_refuses_types(op, tables, text):
    with pytest.raises(TypeMismatch, match=text):
        op.infer(TensorType((1, 1, 2), IntType(20)), *(TensorType((2,), t) for t in tables))


def test_refuses_tables_of_another_length():
    with pytest.raises(TypeMismatch, match=r"^mult is u8\[3\], expected one value per channel: \[2\]$"):
        Requant(U8, 0, 255).infer(
            TensorType((1, 1, 2), IntType(20)),
            TensorType((2,), I32),
            TensorType((3,), U8),
            TensorType((2,), I8),
        )


@pytest.mark.parametrize(
    ("high", "shift", "text"),
    [
        (2**31, 0, "accumulator and bias need 33 bits, expected at most 32"),
        (9, SHIFT_MAX + 1, "shifts by 41..41, expected -16..40"),
        (9, SHIFT_MIN - 1, "shifts by -17..-17, expected -16..40"),
    ],
)
def test_refuses_ranges(high, shift, text):
    with pytest.raises(TypeMismatch, match=text):
        Requant(U8, 0, 255).bounds(Bounds(array(0), array(high)), array(0), array(1), array(shift))
