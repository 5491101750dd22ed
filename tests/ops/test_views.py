"""Max-pool and the operators that only move codes, each against onnxruntime."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.ir import Bounds, IntType, TensorType
from codesign.ops import Concat, MaxPool, Shuffle, Slice, Upsample
from tests.onnx_models import nchw, nhwc, run_node

SIDES = st.integers(1, 7)
U8, I8 = IntType(8, False), IntType(8)


def maps(h, w, c, low=-128, seed=0):
    return np.random.default_rng(seed).integers(low, 128, (2, h, w, c))


def channel_bounds(*pairs):
    return Bounds(np.array([a for a, _ in pairs]), np.array([b for _, b in pairs]))


@given(SIDES, SIDES, st.sampled_from([1, 2]), st.booleans(), st.integers(0, 99))
def test_maxpool_equals_onnxruntime_and_padding_never_wins(h, w, stride, negative, seed):
    x = maps(h, w, 3, -128 if negative else 0, seed) - 128 * negative  # all below zero, or none
    op = MaxPool((3, 3), (stride, stride), (1, 1, 1, 1))
    window = {"kernel_shape": [3, 3], "strides": [stride] * 2, "pads": [1] * 4}
    np.testing.assert_array_equal(op.run(x), nhwc(run_node("MaxPool", [nchw(x)], **window)))


def test_maxpool_types():
    assert str(MaxPool().infer(TensorType((9, 6, 5), I8))) == "i8[5,3,5]"
    with pytest.raises(TypeMismatch, match="reach outside the kernel"):
        MaxPool((3, 3), (2, 2), (3, 1, 1, 1)).infer(TensorType((9, 6, 5), I8))


@given(SIDES, SIDES)
def test_upsample_equals_onnxruntime(h, w):
    x = maps(h, w, 3)
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    expected = nhwc(run_node("Resize", [nchw(x), None, np.array([1, 1, 2, 2], np.float32)], **how))
    np.testing.assert_array_equal(Upsample().run(x), expected)


def test_upsample_types():
    assert str(Upsample().infer(TensorType((3, 5, 2), U8))) == "u8[6,10,2]"
    with pytest.raises(TypeMismatch, match="^factor is 3, expected 2$"):
        Upsample(3).infer(TensorType((3, 5, 2), U8))


def test_concat_joins_channels_in_order():
    a, b = maps(2, 3, 4), maps(2, 3, 1, seed=1)
    out = Concat().run(a, b)
    np.testing.assert_array_equal(out[..., :4], a)
    np.testing.assert_array_equal(out[..., 4:], b)
    bounds = Concat().bounds(channel_bounds((0, 1), (2, 3)), channel_bounds((-1, 5)))
    assert (bounds.low.tolist(), bounds.high.tolist()) == ([0, 2, -1], [1, 3, 5])


def test_concat_types():
    x, y = TensorType((2, 3, 4), U8), TensorType((2, 3, 1), IntType(5, False))
    assert str(Concat().infer(x, y)) == "u8[2,3,5]"
    with pytest.raises(TypeMismatch, match="^inputs are u8, i8, expected all signed or all unsigned$"):
        Concat().infer(x, TensorType((2, 3, 1), I8))
    with pytest.raises(TypeMismatch, match="expected maps of one size$"):
        Concat().infer(x, TensorType((2, 2, 1), U8))
    with pytest.raises(TypeMismatch, match="expected maps of one size$"):
        Concat().infer()


def test_slice_takes_channels():
    x = maps(2, 3, 5)
    np.testing.assert_array_equal(Slice(1, 4).run(x), x[..., 1:4])
    bounds = Slice(1, 2).bounds(channel_bounds((0, 1), (2, 3), (4, 5)))
    assert (bounds.low.tolist(), bounds.high.tolist()) == ([2], [3])
    assert str(Slice(1, 4).infer(TensorType((2, 3, 5), I8))) == "i8[2,3,3]"
    with pytest.raises(TypeMismatch, match=r"^channels 3..6 of i8\[2,3,5\], expected a range inside it$"):
        Slice(3, 6).infer(TensorType((2, 3, 5), I8))


@given(st.integers(1, 4), st.integers(1, 6))
def test_shuffle_equals_reshape_transpose_reshape(groups, per_group):
    c = groups * per_group
    x = maps(2, 3, c)
    grouped = nchw(x).reshape(2, groups, per_group, 2, 3)
    expected = nhwc(run_node("Transpose", [grouped], perm=[0, 2, 1, 3, 4]).reshape(2, c, 2, 3))
    np.testing.assert_array_equal(Shuffle(groups).run(x), expected)
    order = Shuffle(groups).order(c)
    assert [order[i * groups + g] for i in range(per_group) for g in range(groups)] == [
        g * per_group + i for i in range(per_group) for g in range(groups)
    ]


def test_shuffle_types():
    bounds = Shuffle(2).bounds(channel_bounds((0, 0), (1, 1), (2, 2), (3, 3)))
    assert bounds.low.tolist() == [0, 2, 1, 3]
    with pytest.raises(TypeMismatch, match=r"^input is i8\[2,3,5\], expected channels in multiples of 2$"):
        Shuffle(2).infer(TensorType((2, 3, 5), I8))


@pytest.mark.parametrize("op", [MaxPool(), Upsample(), Concat(), Slice(0, 1), Shuffle(1)])
def test_views_cost_no_multiplications(op):
    assert op.macs(TensorType((4, 4, 2), U8)) == 0
