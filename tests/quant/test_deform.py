"""The deformable operator against onnxruntime's DeformConv, and its gradients."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from quant.clamps import round_clamp
from quant.deform import DeformConv2d, deform_conv, square_depthwise, square_offsets
from tests.kernels import needs_deform_conv


def ort_deform_conv(x, w, offset, stride=1, pad=1, dilation=1, groups=1):
    node = helper.make_node(
        "DeformConv",
        ["x", "w", "o"],
        ["y"],
        group=groups,
        kernel_shape=list(w.shape[2:]),
        strides=[stride] * 2,
        pads=[pad] * 4,
        dilations=[dilation] * 2,
    )
    arrays = {"x": x, "w": w, "o": offset}
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in arrays.items()]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)
    model = helper.make_model(
        helper.make_graph([node], "g", infos, [y]), opset_imports=[helper.make_opsetid("", 19)], ir_version=10
    )
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {n: a.numpy() for n, a in arrays.items()})[0]


SHAPES = [(7, 6), (1, 9), (8, 1), (1, 1)]


@needs_deform_conv
@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 4), (2, 1, 4), (1, 2, 1), (2, 2, 2)])
def test_bilinear_equals_onnxruntime(height, width, stride, dilation, groups):
    torch.manual_seed(height * 100 + width * 10 + stride)
    pad = dilation
    x, w = torch.randn(2, 4, height, width), torch.randn(8, 4 // groups, 3, 3)
    oh, ow = (height - 1) // stride + 1, (width - 1) // stride + 1
    offset = torch.randn(2, 18, oh, ow) * 5  # many land far outside
    ours = deform_conv(x, offset, w, stride, pad, dilation, groups).numpy()
    theirs = ort_deform_conv(x, w, offset, stride, pad, dilation, groups)
    # Both interpolate in float32, in another order: a few units in the last place of values of about 10.
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@needs_deform_conv
@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("bound", [1, 3, 7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_square_integer_sampling_equals_onnxruntime_exactly(height, width, bound, stride):
    rng = np.random.default_rng(bound)
    x = torch.from_numpy(rng.integers(-128, 128, (2, 3, height, width)).astype(np.float32))
    w = torch.from_numpy(rng.integers(-7, 8, (3, 1, 3, 3)).astype(np.float32))
    oh, ow = (height - 1) // stride + 1, (width - 1) // stride + 1
    d = torch.from_numpy(rng.integers(0, bound + 1, (2, 1, oh, ow)).astype(np.float32))
    d[0, 0, 0, 0] = bound
    ours = square_depthwise(x, d, w, stride, bound).numpy()
    theirs = ort_deform_conv(x, w, square_offsets(d), stride, groups=3)
    np.testing.assert_array_equal(ours, theirs)


def test_general_and_square_paths_agree():
    torch.manual_seed(0)
    x, raw = torch.randn(2, 5, 6, 7), torch.randn(2, 1, 6, 7) * 4
    fast = DeformConv2d(5, 5, groups=5)
    d = fast.limit(raw)
    # Sums of nine float products in another order.
    torch.testing.assert_close(
        fast(x, raw), deform_conv(x, square_offsets(d), fast.weight, groups=5), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("offsets", ["free", "bounded", "square"])
@pytest.mark.parametrize("groups", [1, 3])
def test_bilinear_gradients_are_exact(offsets, groups):
    torch.manual_seed(1)
    op = DeformConv2d(3, 3, groups=groups, offsets=offsets, sampling="bilinear", bound=2).double()
    x = torch.randn(1, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    raw = (
        torch.rand(1, op.offset_channels, 4, 5, dtype=torch.float64) + 0.25
    ).requires_grad_()  # off the kinks
    assert torch.autograd.gradcheck(lambda a, b, c: op.sample(a, op.limit(b), c), (x, raw, op.weight))


def test_square_integer_gradients_of_input_and_weight_are_exact():
    torch.manual_seed(2)
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(3, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    d = torch.randint(0, 4, (2, 1, 5, 4)).double()
    assert torch.autograd.gradcheck(lambda a, b: square_depthwise(a, d, b, 1, 3), (x, w))


def test_offset_gradient_is_the_central_difference_within_the_bound():
    torch.manual_seed(3)
    x, w = torch.randn(1, 4, 9, 9), torch.randn(4, 1, 3, 3)
    d = torch.randint(0, 4, (1, 1, 9, 9)).float().requires_grad_()
    g = torch.randn(1, 4, 9, 9)
    square_depthwise(x, d, w, 1, 3).backward(g)
    with torch.no_grad():
        up = square_depthwise(x, (d + 1).clamp(max=3), w, 1, 3)
        down = square_depthwise(x, (d - 1).clamp(min=0), w, 1, 3)
    # Sums of 36 float products in another order.
    torch.testing.assert_close(d.grad, ((up - down) * g).sum(1, keepdim=True) / 2, atol=1e-4, rtol=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=20), st.integers(1, 8))
def test_rounding_is_half_to_even_and_clamped(values, bound):
    d = torch.tensor(values)
    assert torch.equal(round_clamp(d, 0, bound), torch.from_numpy(np.rint(d.numpy())).clamp(0, bound))


@pytest.mark.parametrize(("sign", "expected"), [(1, [0, 1, 1, 1]), (-1, [-1, -1, -1, 0])])
def test_outside_the_bound_only_gradients_that_lead_back_pass(sign, expected):
    """A plain clamp would freeze offsets below zero for ever: the stage would stay a 1x1 convolution."""
    d = torch.tensor([-1.0, 0.4, 3.6, 9.0], requires_grad=True)
    (sign * round_clamp(d, 0, 7)).sum().backward()
    assert d.grad.tolist() == expected


def test_negative_offsets_are_clamped_to_zero_in_training_and_evaluation():
    """The published training code lets d go negative, which its hardware cannot represent."""
    op = DeformConv2d(2, 2, groups=2, bound=7)
    raw = torch.full((1, 1, 4, 4), -3.0)
    x = torch.randn(1, 2, 4, 4)
    for mode in (True, False):
        op.train(mode)
        centre = x * op.weight.sum((2, 3)).view(1, 2, 1, 1)  # d = 0: all nine taps read the centre
        torch.testing.assert_close(op(x, raw), centre, atol=1e-5, rtol=0)  # sum order


@pytest.mark.parametrize("bits", [0, 2, 4])
def test_bounded_offsets_and_masks_in_steps(bits):
    """Rounded half to even within the bounds; gradients pass, from outside only where they lead back."""
    op = DeformConv2d(
        4, 4, 4, offsets="bounded", sampling="bilinear", bound=2, fraction_bits=bits, masks=True
    )
    assert not op.on_grid and op.offset_channels == 27
    raw = torch.randn(1, 27, 5, 6, generator=torch.Generator().manual_seed(bits)) * 3
    used = op.limit(raw)
    assert torch.equal(used[:, :18], raw[:, :18].clamp(-2, 2))
    op.grid = op.fraction_bits  # as once it is quantized
    assert op.on_grid
    used = op.limit(raw.requires_grad_())
    rounded = torch.from_numpy(np.rint(raw[:, :18].detach().numpy() * 2**bits) / 2**bits).clamp(-2, 2)
    assert torch.equal(used[:, :18], rounded)
    codes = used[:, 18:] * 32
    assert torch.equal(codes, codes.round()) and codes.min() == 0 and codes.max() == 63
    used.sum().backward()
    inside = (raw[:, :18].abs() <= 2).detach()
    assert (raw.grad[:, :18][inside] == 1).all() and (raw.grad[:, :18][raw[:, :18] < -2] == 0).all()


def test_masks_multiply_each_tap():
    torch.manual_seed(4)
    op = DeformConv2d(3, 3, 3, offsets="bounded", sampling="bilinear", masks=True)
    x, raw = torch.randn(1, 3, 5, 5), torch.zeros(1, 27, 5, 5)
    for tap in range(9):
        raw[:, 18:] = 0
        raw[:, 18 + tap] = 0.5
        alone = torch.zeros_like(op.weight)
        alone[:, :, tap // 3, tap % 3] = op.weight[:, :, tap // 3, tap % 3] * 0.5
        expected = torch.nn.functional.conv2d(x, alone, padding=1, groups=3)
        torch.testing.assert_close(op(x, raw), expected, atol=1e-6, rtol=0)  # sum order


def test_masked_gradients_are_exact():
    torch.manual_seed(5)
    op = DeformConv2d(2, 2, 2, offsets="bounded", sampling="bilinear", bound=2, masks=True).double()
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    raw = (torch.rand(1, 27, 4, 4, dtype=torch.float64) + 0.25).requires_grad_()  # off the kinks
    assert torch.autograd.gradcheck(lambda a, b, c: op.sample(a, op.limit(b), c), (x, raw, op.weight))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": True}, "masks with square offsets, expected free or bounded ones"),
        ({"offsets": "bounded", "fraction_bits": 5}, "fraction_bits is 5, expected 0 to 4"),
    ],
)
def test_what_has_no_meaning_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DeformConv2d(1, 1, **options)


def test_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="unknown variant round/bilinear"):
        DeformConv2d(1, 1, offsets="round", sampling="bilinear")  # type: ignore[arg-type]
