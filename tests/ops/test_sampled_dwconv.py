import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.fast import kernels
from codesign.ir import Bounds, IntType, TensorType
from codesign.onnx_io import export_integer
from codesign.ops import DeformDwConv, DwConv, SampledDwConv
from codesign.ops.sampled_dwconv import KERNELS
from tests.kernels import needs_deform_conv
from tests.models import I4, I8, Builder
from tests.onnx_models import nchw, nhwc, run_node, run_onnx

SIDES = st.integers(1, 8)


def op_of(bound, grid, masks, stride, taps, border):
    """A bound of zero with masks: these alone."""
    still = bound == 0 and masks != (0, 0)
    return SampledDwConv(
        bound, min(grid, 3 if bound > 7 else 4), *masks, (stride, stride), taps, border, still
    )


OPS = st.builds(
    op_of,
    st.sampled_from([0, 1, 3, 7, 8]),
    st.integers(0, 4),
    st.sampled_from([(0, 0), (0, 63), (-128, 127)]),
    st.sampled_from([1, 2]),
    st.sampled_from(list(KERNELS)),
    st.booleans(),
)


def case(h, w, c, op, seed):
    """Codes beyond the bounds too, and exactly at them."""
    rng = np.random.default_rng(seed)
    oh, ow = ((side - 1) // op.stride[0] + 1 for side in (h, w))
    x = rng.integers(-128, 128, (2, h, w, c))
    samples = rng.integers(-128, 128, (2, oh, ow, op.channels))
    ends = rng.choice([-op.limit, op.limit, 0, 1 - op.limit], samples.shape)
    return x, np.where(rng.random(samples.shape) < 0.4, ends, samples), rng.integers(-7, 8, (*op.kernel, c))


@given(SIDES, SIDES, st.integers(1, 3), OPS, st.integers(0, 99))
def test_equals_the_definition_sample_by_sample(h, w, c, op, seed):
    x, samples, weight = case(h, w, c, op, seed)
    one, expected, (kh, kw) = 1 << op.grid, np.zeros((*samples.shape[:3], c), np.int64), op.kernel
    for n, y, z in np.ndindex(*samples.shape[:3]):
        for k in range(kh * kw):
            dy = dx = 0
            if not op.still:
                dy, dx = (max(-op.limit, min(op.limit, int(v))) for v in samples[n, y, z, 2 * k : 2 * k + 2])
            m = max(op.mask_low, min(op.mask_high, int(samples[n, y, z, op.offsets + k]))) if op.masked else 1
            at_y = (y * op.stride[0] + k // kw - kh // 2) * one + dy
            at_x = (z * op.stride[1] + k % kw - kw // 2) * one + dx
            if op.border:
                at_y, at_x = max(0, min((h - 1) * one, at_y)), max(0, min((w - 1) * one, at_x))
            for i in range(h):
                for j in range(w):  # a tent of one pixel around where the tap looks
                    share = max(0, one - abs(at_y - i * one)) * max(0, one - abs(at_x - j * one))
                    expected[n, y, z] += weight[k // kw, k % kw] * m * share * x[n, i, j]
    np.testing.assert_array_equal(op.run(x, samples, weight), expected)


@needs_deform_conv
@given(SIDES, SIDES, st.integers(1, 4), OPS.filter(lambda op: not op.border), st.integers(0, 99))
def test_equals_onnxruntimes_deformconv(h, w, c, op, seed):
    """In float64, which holds every sum."""
    x, samples, weight = case(h, w, c, op, seed)
    double, count = [nchw(a).astype(np.float64) for a in (x, samples)], op.count
    offsets = np.zeros((2, 2 * count, *samples.shape[1:3]))
    if not op.still:
        offsets = double[1][:, : op.offsets].clip(-op.limit, op.limit) / (1 << op.grid)
    masks = np.ones_like(offsets[:, :count])
    if op.masked:
        masks = double[1][:, op.offsets :].clip(op.mask_low, op.mask_high)
    table = weight.transpose(2, 0, 1)[:, None].astype(np.float64)
    pads = [side // 2 for side in op.kernel] * 2
    window = {"kernel_shape": op.kernel, "strides": op.stride, "pads": pads, "group": c, "offset_group": 1}
    got = run_node("DeformConv", [double[0], table, offsets, np.zeros(c), masks], **window)
    np.testing.assert_array_equal(op.run(x, samples, weight), nhwc(got, 4.0**-op.grid))


@given(SIDES, SIDES, st.integers(1, 4), st.integers(0, 7), st.integers(0, 4), st.integers(0, 99))
def test_one_tap_with_border_is_onnxruntimes_gridsample(h, w, c, bound, grid, seed):
    """Coordinates of its grid are -1..1 from edge to edge, which float32 rounds by some 2^-20 of a pixel."""
    op = SampledDwConv(bound, grid, taps="1x1", border=True)
    x, samples, weight = case(h, w, c, op, seed)
    places = samples.clip(-op.limit, op.limit) / 2.0**grid + np.stack(
        np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), axis=-1
    )
    relative = (places[..., ::-1] * 2 + 1) / (w, h) - 1
    how = {"mode": "linear", "padding_mode": "border", "align_corners": 0}
    got = run_node("GridSample", [nchw(x).astype(np.float32), relative.astype(np.float32)], **how)
    wanted = op.run(x, samples, np.ones_like(weight))
    np.testing.assert_allclose(got.transpose(0, 2, 3, 1), wanted / 4.0**grid, atol=0.02)


@given(SIDES, SIDES, st.integers(1, 4), OPS, st.integers(0, 99))
def test_standard_onnx_gives_the_same(h, w, c, op, seed):
    x, samples, weight = case(h, w, c, op, seed)
    graph = alone(op, x, samples, weight)
    got = run_onnx(export_integer(graph), {"x": nchw(x), "s": nchw(samples)})
    np.testing.assert_array_equal(nhwc(got["y"]), op.run(x, samples, weight))


def alone(op, x, samples, weight):
    b = Builder()
    b.inputs = {name: TensorType(v.shape[1:], I8) for name, v in (("x", x), ("s", samples))}
    b.types, b.values = dict(b.inputs), {"x": x, "s": samples}
    b.add("y", op, "x", "s", b.const("w", weight, I4))
    return b.graph(("y",))


@given(SIDES, SIDES, st.integers(1, 4), OPS, st.integers(0, 99))
def test_the_fast_kernel_and_the_proven_range(h, w, c, op, seed):
    x, samples, weight = case(h, w, c, op, seed)
    graph = alone(op, x, samples, weight)
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
        (SampledDwConv(taps="9x9"), TensorType((4, 6, 18), I8), "taps 9x9, expected 3x3, 1x9, 9x1, 1x1"),
        (SampledDwConv(taps="1x1"), TensorType((4, 6, 18), I8), r"expected offsets: \[4,6,2\]"),
        (SampledDwConv(1, 0, 0, 1, still=True), TensorType((4, 6, 9), I8), "max_offset 1, masks 0..1: expected 0"),
        (SampledDwConv(0, still=True), TensorType((4, 6, 9), I8), "max_offset 0, masks 0..0: expected 0 and a range"),
        (SampledDwConv(3, 0, 5, 1), TensorType((4, 6, 27), I8), r"masks 5\.\.1, expected a range inside i8"),
    ],
)  # fmt: skip
def test_refuses(op, samples, text):
    with pytest.raises(TypeMismatch, match=text):
        op.infer(X, samples, W)


def test_refuses_other_weights():
    with pytest.raises(TypeMismatch, match=r"weight is i4\[3,3,1\], expected \[3,3,2\]"):
        SampledDwConv().infer(X, TensorType((4, 6, 18), I8), TensorType((3, 3, 1), I4))


def test_refuses_weights_of_another_kernel():
    with pytest.raises(TypeMismatch, match=r"weight is i4\[3,3,2\], expected \[1,9,2\]"):
        SampledDwConv(taps="1x9").infer(X, TensorType((4, 6, 18), I8), W)


def test_types_and_macs():
    op, samples = SampledDwConv(7, 2, 0, 63), TensorType((4, 6, 27), I8)
    assert str(op.infer(X, samples, W)) == "i25[4,6,2]"  # 9 * 128 * 8 * 16 * 63
    assert op.macs(X, samples, W) == 4 * 6 * 2 * 9
    assert repr(op).startswith(
        "SampledDwConv(max_offset=7, grid=2, mask_low=0, mask_high=63, stride=1x1, taps=3x3, "
    )
