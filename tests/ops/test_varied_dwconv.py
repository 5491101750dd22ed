import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.fast import kernels
from codesign.ir import TensorType
from codesign.onnx_io import export_integer
from codesign.ops import DwConv, VariedDwConv
from tests.models import I4, I8, Builder
from tests.onnx_models import nchw, nhwc, run_onnx

SIDES = st.integers(1, 8)


def case(h, w, c, stride, seed):
    rng = np.random.default_rng(seed)
    size = ((side - 1) // stride + 1 for side in (h, w))
    return rng.integers(-128, 128, (2, h, w, c)), rng.integers(-128, 128, (*size, 9, c))


@given(SIDES, SIDES, st.integers(1, 3), st.sampled_from([1, 2]), st.integers(0, 99))
def test_equals_the_definition_pixel_by_pixel(h, w, c, stride, seed):
    x, weight = case(h, w, c, stride, seed)
    expected = np.zeros((2, *weight.shape[:2], c), np.int64)
    for y, z in np.ndindex(*weight.shape[:2]):
        for k in range(9):
            i, j = y * stride + k // 3 - 1, z * stride + k % 3 - 1
            if 0 <= i < h and 0 <= j < w:
                expected[:, y, z] += weight[y, z, k] * x[:, i, j]
    np.testing.assert_array_equal(VariedDwConv((stride, stride)).run(x, weight), expected)


@given(SIDES, SIDES, st.integers(1, 4), st.sampled_from([1, 2]), st.integers(0, 99))
def test_every_form_and_the_proven_range(h, w, c, stride, seed):
    x, weight = case(h, w, c, stride, seed)
    op, b = VariedDwConv((stride, stride)), Builder()
    b.add("y", op, b.input("x", (h, w, c)), b.const("w", weight, I8))
    graph = b.graph(("y",))
    wanted, proven = op.run(x, weight), graph.bounds()["y"]
    np.testing.assert_array_equal(kernels(graph)["y"](x), wanted)
    np.testing.assert_array_equal(nhwc(run_onnx(export_integer(graph), {"x": nchw(x)})["y"]), wanted)
    assert (proven.low <= wanted).all() and (wanted <= proven.high).all()


@given(SIDES, SIDES, st.sampled_from([1, 2]), st.integers(0, 99))
def test_is_an_ordinary_convolution_where_weights_are_the_same_everywhere(h, w, stride, seed):
    x, weight = case(h, w, 3, stride, seed)
    same = np.broadcast_to(weight[:1, :1], weight.shape)
    expected = DwConv((stride, stride)).run(x, weight[0, 0].reshape(3, 3, 3))
    np.testing.assert_array_equal(VariedDwConv((stride, stride)).run(x, same), expected)


X = TensorType((4, 6, 2), I8)


def test_types_and_macs():
    weight = TensorType((2, 3, 9, 2), I4)
    assert str(VariedDwConv((2, 2)).infer(X, weight)) == "i15[2,3,2]"  # 9 * 128 * 8
    assert VariedDwConv((2, 2)).macs(X, weight) == 2 * 3 * 2 * 9
    assert repr(VariedDwConv()) == "VariedDwConv(stride=1x1)"


@pytest.mark.parametrize(
    ("op", "shape", "text"),
    [
        (VariedDwConv(), (4, 6, 9, 3), r"weight is i4\[4,6,9,3\], expected \[4,6,9,2\]"),
        (VariedDwConv(), (3, 3, 2), r"weight is i4\[3,3,2\], expected \[4,6,9,2\]"),
        (VariedDwConv((0, 1)), (4, 6, 9, 2), r"stride \(0, 1\): expected positive numbers"),
    ],
)
def test_refuses(op, shape, text):
    with pytest.raises(TypeMismatch, match=text):
        op.infer(X, TensorType(shape, I4))
