import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.fast import kernels
from codesign.ir import Bounds, Graph, IntType, TensorType
from codesign.ops import DeformDwConv, DwConv, SampledDwConv
from tests.kernels import needs_deform_conv
from tests.models import I4, I8, Builder
from tests.onnx_models import nchw, nhwc, run_node

SIDES = st.integers(1, 8)
OPS = st.builds(
    lambda bound, grid, masks, stride: SampledDwConv(bound, min(grid, 3 if bound > 7 else 4), *masks, (stride, stride)),
    st.sampled_from([0, 1, 3, 7, 8]),
    st.integers(0, 4),
    st.sampled_from([(0, 0), (0, 63), (-128, 127)]),
    st.sampled_from([1, 2]),
)  # fmt: skip


def case(h, w, c, op, seed):
    """Codes beyond the bounds too, and exactly at them."""
    rng = np.random.default_rng(seed)
    oh, ow = ((side - 1) // op.stride[0] + 1 for side in (h, w))
    x = rng.integers(-128, 128, (2, h, w, c))
    samples = rng.integers(-128, 128, (2, oh, ow, op.channels))
    ends = rng.choice([-op.limit, op.limit, 0, 1 - op.limit], samples.shape)
    return x, np.where(rng.random(samples.shape) < 0.4, ends, samples), rng.integers(-7, 8, (3, 3, c))


@given(SIDES, SIDES, st.integers(1, 3), OPS, st.integers(0, 99))
def test_equals_the_definition_sample_by_sample(h, w, c, op, seed):
    x, samples, weight = case(h, w, c, op, seed)
    one, expected = 1 << op.grid, np.zeros((*samples.shape[:3], c), np.int64)
    for n, y, z in np.ndindex(*samples.shape[:3]):
        for k in range(9):
            dy, dx = (max(-op.limit, min(op.limit, int(v))) for v in samples[n, y, z, 2 * k : 2 * k + 2])
            m = max(op.mask_low, min(op.mask_high, int(samples[n, y, z, 18 + k]))) if op.masked else 1
            for i in range(h):
                for j in range(w):  # a tent of one pixel around where the tap looks
                    away_y = abs((y * op.stride[0] + k // 3 - 1 - i) * one + dy)
                    away_x = abs((z * op.stride[1] + k % 3 - 1 - j) * one + dx)
                    share = max(0, one - away_y) * max(0, one - away_x)
                    expected[n, y, z] += weight[k // 3, k % 3] * m * share * x[n, i, j]
    np.testing.assert_array_equal(op.run(x, samples, weight), expected)


@needs_deform_conv
@given(SIDES, SIDES, st.integers(1, 4), OPS, st.integers(0, 99))
def test_equals_onnxruntimes_deformconv(h, w, c, op, seed):
    """In float64, which holds every sum."""
    x, samples, weight = case(h, w, c, op, seed)
    double = [nchw(a).astype(np.float64) for a in (x, samples)]
    offsets = double[1][:, :18].clip(-op.limit, op.limit) / (1 << op.grid)
    masks = double[1][:, 18:].clip(op.mask_low, op.mask_high) if op.masked else np.ones_like(offsets[:, :9])
    table = weight.transpose(2, 0, 1)[:, None].astype(np.float64)
    window = {"kernel_shape": [3, 3], "strides": op.stride, "pads": [1] * 4, "group": c, "offset_group": 1}
    got = run_node("DeformConv", [double[0], table, offsets, np.zeros(c), masks], **window)
    np.testing.assert_array_equal(op.run(x, samples, weight), nhwc(got, 4.0**-op.grid))


@given(SIDES, SIDES, st.integers(1, 4), OPS, st.integers(0, 99))
def test_the_fast_kernel_and_the_proven_range(h, w, c, op, seed):
    x, samples, weight = case(h, w, c, op, seed)
    elem = TensorType((h, w, c), I8), TensorType(samples.shape[1:], I8)
    graph = Graph({"x": elem[0], "s": elem[1]}, (), (), {"w": weight}, {"w": I4})
    b = Builder()
    b.inputs, b.types = dict(graph.inputs), graph.types()
    b.values = {"x": x, "s": samples, "w": weight}
    b.consts, b.const_types = {"w": weight}, {"w": I4}
    b.add("y", op, "x", "s", "w")
    graph = b.graph(("y",))
    wanted, proven = op.run(x, samples, weight), graph.bounds()["y"]
    np.testing.assert_array_equal(kernels(graph)["y"](x, samples), wanted)
    assert (proven.low <= wanted).all() and (wanted <= proven.high).all()
    assert graph.types()["y"].elem.min <= wanted.min() and wanted.max() <= graph.types()["y"].elem.max


def test_the_proven_range_is_reached():
    op, x, weight = SampledDwConv(1, 2, -3, 5), np.full((1, 3, 3, 1), -128), np.full((3, 3, 1), 7)
    samples = np.zeros((1, 3, 3, 27), int)
    ends = Bounds(np.array([-128]), np.array([-128]))
    proven = op.bounds(ends, Bounds(np.array([-128]), np.array([127])), weight)
    for mask, end in ((5, proven.low), (-3, proven.high)):
        samples[..., 18:] = mask
        assert op.run(x, samples, weight)[0, 1, 1] == end == -128 * 16 * mask * 63


@given(SIDES, SIDES, st.sampled_from([1, 2]), st.integers(0, 2))
def test_is_an_ordinary_convolution_where_every_offset_is_zero(h, w, stride, grid):
    op = SampledDwConv(3, grid, stride=(stride, stride))
    x, samples, weight = case(h, w, 3, op, seed=0)
    expected = DwConv((stride, stride)).run(x, weight)
    np.testing.assert_array_equal(op.run(x, 0 * samples, weight), expected << 2 * grid)


@given(SIDES, SIDES, st.integers(0, 99))
def test_is_a_square_window_where_offsets_are_a_template(h, w, seed):
    op = SampledDwConv(6, 2)
    x, samples, weight = case(h, w, 3, op, seed)
    d = np.random.default_rng(seed).integers(0, 8, (*samples.shape[:3], 1))
    template = np.array([v for i in (-1, 0, 1) for j in (-1, 0, 1) for v in (i, j)])
    np.testing.assert_array_equal(
        op.run(x, 4 * (d - 1) * template, weight), DeformDwConv(7).run(x, d, weight) << 4
    )


X, W = TensorType((4, 6, 2), I8), TensorType((3, 3, 2), I4)


@pytest.mark.parametrize(
    ("op", "samples", "text"),
    [
        (SampledDwConv(3), TensorType((4, 6, 1), I8), r"samples are i8\[4,6,1\], expected offsets: \[4,6,18\]"),
        (SampledDwConv(3, 0, 0, 9), TensorType((4, 6, 18), I8), r"expected offsets and masks: \[4,6,27\]"),
        (SampledDwConv(3), TensorType((4, 6, 18), IntType(8, False)), "samples are u8, expected at most i8"),
        (SampledDwConv(-1), TensorType((4, 6, 18), I8), "max_offset -1, stride .*: expected positive numbers"),
        (SampledDwConv(1, 5), TensorType((4, 6, 18), I8), r"offsets in steps of 2\^-5, expected 2\^0 to 2\^-4"),
        (SampledDwConv(8, 4), TensorType((4, 6, 18), I8), r"offsets to 8 in steps of 2\^-4 exceed i8\. Use a coarser"),
        (SampledDwConv(3, 0, 5, 1), TensorType((4, 6, 27), I8), r"masks 5\.\.1, expected a range inside i8"),
    ],
)  # fmt: skip
def test_refuses(op, samples, text):
    with pytest.raises(TypeMismatch, match=text):
        op.infer(X, samples, W)


def test_refuses_other_weights():
    with pytest.raises(TypeMismatch, match=r"weight is i4\[3,3,1\], expected \[3,3,2\]"):
        SampledDwConv().infer(X, TensorType((4, 6, 18), I8), TensorType((3, 3, 1), I4))


def test_types_and_macs():
    op, samples = SampledDwConv(7, 2, 0, 63), TensorType((4, 6, 27), I8)
    assert str(op.infer(X, samples, W)) == "i25[4,6,2]"  # 9 * 128 * 8 * 16 * 63
    assert op.macs(X, samples, W) == 4 * 6 * 2 * 9
    assert repr(op) == "SampledDwConv(max_offset=7, grid=2, mask_low=0, mask_high=63, stride=1x1)"
