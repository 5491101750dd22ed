import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.ir import Bounds, IntType, TensorType
from codesign.ops import DeformDwConv, DwConv
from tests.kernels import needs_deform_conv
from tests.onnx_models import TEMPLATE, nchw, nhwc, run_node

SIDES = st.integers(1, 8)


def case(h, w, c, stride, bound, seed):
    rng = np.random.default_rng(seed)
    shape = ((h - 1) // stride + 1, (w - 1) // stride + 1)
    x = rng.integers(-128, 128, (2, h, w, c))
    return x, rng.integers(0, bound + 1, (2, *shape, 1)), rng.integers(-7, 8, (3, 3, c))


@given(
    SIDES,
    SIDES,
    st.integers(1, 4),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 3, 7, 8]),
    st.integers(0, 99),
)
def test_equals_the_definition_sample_by_sample(h, w, c, stride, bound, seed):
    x, d, weight = case(h, w, c, stride, bound, seed)
    expected = np.zeros((*d.shape[:3], c), np.int64)
    for n, y, z in np.ndindex(*d.shape[:3]):
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                sy, sx = y * stride + i * d[n, y, z, 0], z * stride + j * d[n, y, z, 0]
                if 0 <= sy < h and 0 <= sx < w:
                    expected[n, y, z] += weight[i + 1, j + 1] * x[n, sy, sx]
    np.testing.assert_array_equal(DeformDwConv(bound, (stride, stride)).run(x, d, weight), expected)


@needs_deform_conv
@given(
    SIDES,
    SIDES,
    st.integers(1, 4),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 3, 7, 8]),
    st.integers(0, 99),
)
def test_equals_onnxruntimes_deformconv(h, w, c, stride, bound, seed):
    x, d, weight = case(h, w, c, stride, bound, seed)
    offsets = nchw(d - 1) * np.reshape(TEMPLATE, (1, 18, 1, 1)).astype(np.float32)
    window = {"kernel_shape": [3, 3], "strides": [stride] * 2, "pads": [1] * 4, "group": c, "offset_group": 1}
    table = weight.transpose(2, 0, 1)[:, None].astype(np.float32)
    expected = nhwc(run_node("DeformConv", [nchw(x), table, offsets], **window))
    np.testing.assert_array_equal(DeformDwConv(bound, (stride, stride)).run(x, d, weight), expected)


@given(SIDES, SIDES, st.sampled_from([1, 2]))
def test_is_an_ordinary_convolution_where_every_offset_is_one(h, w, stride):
    x, d, weight = case(h, w, 3, stride, 1, seed=0)
    expected = DwConv((stride, stride)).run(x, weight)
    np.testing.assert_array_equal(DeformDwConv(7, (stride, stride)).run(x, np.ones_like(d), weight), expected)


def test_each_image_of_a_batch_has_its_own_offsets():
    x, _, weight = case(6, 6, 2, 1, 7, seed=0)
    x[1] = x[0]
    d = np.stack([np.full((6, 6, 1), 1), np.full((6, 6, 1), 5)])
    both, op = DeformDwConv(7).run(x, d, weight), DeformDwConv(7)
    np.testing.assert_array_equal(both[1:], op.run(x[1:], d[1:], weight))
    assert (both[0] != both[1]).any()


X, W = TensorType((4, 6, 2), IntType(8)), TensorType((3, 3, 2), IntType(4))


@pytest.mark.parametrize(
    ("bound", "d", "text"),
    [
        (7, TensorType((4, 6, 1), IntType(4, False)), r"offset is u4, which exceeds max_offset=7\. "
         "Export the offset with 3 bits, or raise max_offset"),
        (7, TensorType((4, 6, 1), IntType(4)), "offset is i4, which may be negative, expected an unsigned type"),
        (7, TensorType((4, 6, 18), IntType(3, False)), r"expected one value per output pixel: \[4,6,1\]"),
        (-1, TensorType((4, 6, 1), IntType(3, False)), "max_offset -1, stride .*: expected positive numbers"),
    ],
)  # fmt: skip
def test_refuses(bound, d, text):
    with pytest.raises(TypeMismatch, match=text):
        DeformDwConv(bound).infer(X, d, W)


def test_refuses_offsets_that_can_exceed_the_bound():
    x = Bounds(np.zeros(2, int), np.full(2, 255))
    with pytest.raises(TypeMismatch, match=r"^offset reaches 7, expected at most max_offset=5$"):
        DeformDwConv(5).bounds(x, Bounds(np.array([0]), np.array([7])), np.ones((3, 3, 2), int))


def test_a_bound_that_fills_no_type_is_allowed():
    assert str(DeformDwConv(5).infer(X, TensorType((4, 6, 1), IntType(3, False)), W)) == "i15[4,6,2]"
    assert DeformDwConv(5).macs(X, TensorType((4, 6, 1), IntType(3, False)), W) == 4 * 6 * 2 * 9
