import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.ir import Bounds, IntType, TensorType
from codesign.ops import DwConv
from tests.onnx_models import nchw, nhwc, run_node

SIDES = st.integers(1, 7)


@given(SIDES, SIDES, st.integers(1, 5), st.sampled_from([1, 2]), st.integers(0, 99))
def test_equals_onnxruntime(h, w, c, stride, seed):
    rng = np.random.default_rng(seed)
    x, weight = rng.integers(0, 256, (2, h, w, c)), rng.integers(-7, 8, (3, 3, c))
    op = DwConv((stride, stride))
    window = {"kernel_shape": [3, 3], "strides": [stride, stride], "pads": [1] * 4, "group": c}
    table = weight.transpose(2, 0, 1)[:, None].astype(np.float32)
    np.testing.assert_array_equal(op.run(x, weight), nhwc(run_node("Conv", [nchw(x), table], **window)))


def test_types_ranges_and_macs():
    op, x = DwConv((2, 2)), TensorType((9, 6, 5), IntType(8, False))
    weight = TensorType((3, 3, 5), IntType(4))
    assert str(op.infer(x, weight)) == "i16[5,3,5]"
    assert op.macs(x, weight) == 5 * 3 * 5 * 9
    bounds = op.bounds(Bounds(np.zeros(1, int), np.full(1, 255)), np.full((3, 3, 1), -7))
    assert (bounds.low.tolist(), bounds.high.tolist()) == ([-63 * 255], [0])


def test_refuses_another_number_of_channels():
    with pytest.raises(TypeMismatch, match=r"^weight is i4\[3,3,4\], expected \[3,3,5\]$"):
        DwConv().infer(TensorType((4, 4, 5), IntType(8)), TensorType((3, 3, 4), IntType(4)))
