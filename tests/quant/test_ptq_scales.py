"""Scales and codes of post-training quantization: what the model file wants of them, for any weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.ptq_scales import (
    EXACT,
    activation_exponent,
    exact_bias,
    mantissa,
    rounded,
    rounded_in_turn,
    snr,
    weight_scales,
)


@settings(max_examples=60)
@given(
    st.integers(1, 5),
    st.sampled_from([1, 9, 100, 3000]),
    st.sampled_from([4, 8]),
    st.floats(1e-6, 1e3),
    st.floats(0, 1e4),
    st.integers(0, 99),
)
def test_scales_are_of_the_contract_and_sums_stay_exact(channels, inputs, bits, size, bias_size, seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, size, (channels, inputs)) * rng.choice([1, 0.01, 0], (channels, 1))
    bias = rng.normal(0, bias_size, channels)
    scale = weight_scales(rows, bits, 255, bias)
    assert set(mantissa(scale).tolist()) <= {1, 3, 5, 7}
    codes = rounded(rows, scale, bits)
    top = (1 << (bits - 1)) - 1
    assert np.abs(codes).max(initial=0) <= top
    stored = exact_bias(bias, scale, codes, 255)
    reach = (np.abs(codes).sum(axis=1) * 255 + np.abs(stored)) * mantissa(scale)
    assert (reach < EXACT).all()
    np.testing.assert_array_less(np.abs(stored * scale - bias), scale * 0.5 + 1e-9)  # no bias is cut off


@given(st.integers(1, 8), st.floats(0.01, 1e4), st.integers(0, 99))
def test_weights_within_the_range_are_off_by_a_step_at_most(channels, size, seed):
    rows = np.random.default_rng(seed).normal(0, size, (channels, 16))
    scale = weight_scales(rows, 8, 255, np.zeros(channels))
    off = np.abs(rounded(rows, scale, 8) * scale[:, None] - rows)
    assert (off <= np.maximum(scale[:, None] / 2, np.abs(rows) * 0.15) * (1 + 1e-9)).all()


def test_mantissas():
    assert mantissa(np.array([0.25, 3.0, 5 * 2.0**-9, 6.0, 7.0, 1.0])).tolist() == [1, 3, 5, 3, 7, 1]


@pytest.mark.parametrize("seed", range(4))
def test_rounding_in_turn_loses_less_on_inputs_that_go_together(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2000, 6)) @ rng.normal(size=(6, 24)) + 0.1 * rng.normal(size=(2000, 24))
    rows = rng.normal(size=(8, 24))
    scale = weight_scales(rows, 4, 255, np.zeros(8))
    exact = x @ rows.T
    plain = x @ (rounded(rows, scale, 4) * scale[:, None]).T
    turned = x @ (rounded_in_turn(rows, scale, 4, x.T @ x / len(x)) * scale[:, None]).T
    assert snr(exact, turned) > snr(exact, plain) + 2


def test_rounding_in_turn_is_rounding_where_inputs_have_nothing_to_do_with_each_other():
    rows = np.random.default_rng(0).normal(size=(5, 12))
    scale = weight_scales(rows, 4, 255, np.zeros(5))
    np.testing.assert_array_equal(rounded_in_turn(rows, scale, 4, np.eye(12)), rounded(rows, scale, 4))


def test_activation_exponents():
    even = np.linspace(0, 15.9, 5000)
    assert activation_exponent([even], 8, False) == 4  # 255 / 16
    assert activation_exponent([even - 8], 8, True) == 4
    assert activation_exponent([np.append(even / 8, 2.2)], 8, False) == 7  # one far value is clipped
    assert activation_exponent([np.zeros(5)], 8, False) > 30
