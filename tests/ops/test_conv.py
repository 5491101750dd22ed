import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.ir import Bounds, IntType, TensorType
from codesign.ops import Conv
from tests.onnx_models import nchw, nhwc, run_node

X8, W4 = IntType(8), IntType(4)
SIDES = st.integers(1, 7)


@given(
    SIDES,
    SIDES,
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 2, 4]),
    st.data(),
)
def test_equals_onnxruntime(h, w, cin, cout, kernel, stride, data):
    pads = tuple(data.draw(st.integers(0, kernel // 2)) for _ in range(4))
    if h + pads[0] + pads[2] < kernel or w + pads[1] + pads[3] < kernel:
        pads = (kernel // 2,) * 4
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.integers(-128, 128, (2, h, w, cin))
    weight = rng.integers(-7, 8, (kernel, kernel, cin, cout))
    op = Conv((kernel, kernel), (stride, stride), pads)
    window = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "pads": pads}
    expected = nhwc(run_node("Conv", [nchw(x), weight.transpose(3, 2, 0, 1).astype(np.float32)], **window))
    result = op.run(x, weight)
    np.testing.assert_array_equal(result, expected)
    assert result.shape[1:] == op.infer(TensorType((h, w, cin), X8), TensorType(weight.shape, W4)).shape


def test_accumulator_type_comes_from_the_corners_and_its_range_from_the_weights():
    op, x = Conv(), TensorType((4, 4, 1024), IntType(8, False))
    assert str(op.infer(x, TensorType((1, 1, 1024, 2), W4))) == "i22[4,4,2]"
    weight = np.zeros((1, 1, 1024, 2), np.int64)
    weight[0, 0, :3] = [[7, -1], [0, -7], [1, 0]]
    bounds = op.bounds(Bounds(np.zeros(1024, int), np.full(1024, 255)), weight)
    assert bounds.low.tolist() == [0, -8 * 255]
    assert bounds.high.tolist() == [8 * 255, 0]
    assert str(bounds.elem) == "i12"


def test_counts_macs():
    assert Conv((3, 3), (4, 4), (1, 1, 1, 1)).macs(
        TensorType((256, 256, 3), X8), TensorType((3, 3, 3, 24), X8)
    ) == (64 * 64 * 9 * 3 * 24)


@pytest.mark.parametrize(
    ("op", "x", "weight", "text"),
    [
        (Conv(), (4, 4, 3), (1, 1, 2, 8), r"weight is i4\[1,1,2,8\], expected \[1,1,3,Cout\]"),
        (Conv((3, 3)), (2, 4, 3), (3, 3, 3, 8), "a 3x3 window does not fit the map 2x4"),
        (
            Conv(stride=(0, 1)),
            (4, 4, 3),
            (1, 1, 3, 8),
            r"stride \(0, 1\), pads .*: expected positive numbers",
        ),
        (Conv(pads=(1, 0, 0, 0)), (4, 4, 3), (1, 1, 3, 8), "reach outside the kernel"),
        (Conv(), (4, 4), (1, 1, 3, 8), r"input has shape \[4, 4\], expected \[H,W,C\]"),
    ],
)
def test_refuses(op, x, weight, text):
    with pytest.raises(TypeMismatch, match=text):
        op.infer(TensorType(x, X8), TensorType(weight, W4))
