"""Values, gradients and scales of the quantizers, against Brevitas' own and against definitions."""

import math

import pytest
import torch
from brevitas.core.function_wrapper import Identity
from brevitas.core.quant import IntQuant

from quant.quantizers import ActFakeQuant, WeightFakeQuant
from quant.scales import (
    best_log2_scale,
    covering_log2_scale,
    integer_range,
    lsq_log2_scale,
    quantize_to,
    to_grid,
)


def act(signed: bool, log2: float = -4.0) -> ActFakeQuant:
    quantizer = ActFakeQuant(8, signed, False, None)
    quantizer.log2_scale.data.fill_(log2)
    return quantizer


@pytest.mark.parametrize(
    ("bits", "signed", "narrow", "expected"),
    [
        (8, False, False, (0, 255)),
        (8, True, False, (-128, 127)),
        (4, True, True, (-7, 7)),
        (8, True, True, (-127, 127)),
    ],
)
def test_integer_ranges(bits, signed, narrow, expected):
    assert integer_range(bits, signed, narrow) == expected


@pytest.mark.parametrize("signed", [False, True])
def test_values_are_brevitas_values(signed):
    x = torch.cat([torch.randn(10_000) * 6, torch.arange(-600, 600) / 32])  # the second half: ties
    y, scale, zero, bits = act(signed)(x)
    theirs = IntQuant(narrow_range=False, signed=signed, input_view_impl=Identity())(scale, zero, bits, x)
    assert torch.equal(y, theirs)


def test_ties_go_to_even_and_saturate():
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 300.0, -300.0])
    assert quantize_to(x, torch.tensor(1.0), -128, 127).tolist() == [0, 2, 2, 0, -2, 127, -128]


def test_power_of_two_grid():
    assert to_grid(torch.tensor([-3.4, -3.6, 0.2])).tolist() == [2**-3, 2**-4, 1.0]


def test_mantissa_grid_has_three_bits():
    s = to_grid(torch.linspace(-9, -2, 999), mantissa=3)
    fraction, _ = torch.frexp(s)
    assert set((fraction * 8).tolist()) == {4.0, 5.0, 6.0, 7.0}
    ratio = s / torch.exp2(torch.linspace(-9, -2, 999))
    assert ratio.min() >= 8 / 9 and ratio.max() <= 8 / 7  # half a step of the mantissa, at its smallest


@pytest.mark.parametrize(("bits", "mantissa"), [(4, 1), (8, 1), (4, 3)])
def test_first_weight_scales_have_the_least_error(bits, mantissa):
    torch.manual_seed(0)
    w = torch.randn(6, 5, 3, 3) * torch.rand(6, 1, 1, 1)
    hi = integer_range(bits, True, True)[1]
    chosen = torch.exp2(best_log2_scale(w, hi, mantissa)).view(-1, 1, 1, 1)

    def error(scale):
        return (quantize_to(w, scale, -hi, hi) - w).square().sum((1, 2, 3))

    grid = [m * 2.0**-e for e in range(14) for m in ([1] if mantissa == 1 else [4, 5, 6, 7])]
    best = torch.stack([error(torch.full((6, 1, 1, 1), s)) for s in grid]).amin(0)
    assert torch.allclose(error(chosen), best, rtol=1e-5)  # the grid may hold a scale twice as fine, as good


def test_weight_scales_stay_mild_where_there_is_no_weight():
    w = torch.randn(4, 8, 1, 1)
    w[2] = 0
    assert best_log2_scale(w, 7)[2] > -14


def test_gradient_passes_inside_and_stops_outside():
    x = torch.tensor([-1.0, 0.1, 3.0, 15.9, 16.1], requires_grad=True)
    act(signed=False)(x)[0].sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]  # u8 at 2^-4 ends at 15.94


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_scale_gradient_is_lsqs(signed, layout):
    torch.manual_seed(0)
    x = (torch.randn(2, 3, 5, 7) * 8).to(memory_format=layout)
    g = torch.randn(2, 3, 5, 7).to(memory_format=layout)
    quantizer = act(signed)
    y = quantizer.quantize(x)
    y.backward(g)
    scale, lo, hi = 2.0**-4, quantizer.lo, quantizer.hi
    # d y / d s by cases; below an unsigned range the value is zero whatever the scale
    inside = (x > (lo - 0.5 if lo else 0.0) * scale) & (x < (hi + 0.5) * scale)
    slope = torch.where(inside, (y - x) / scale, y / scale)
    expected = (g * slope).double().sum() * scale * math.log(2) / math.sqrt(x.numel() * hi)
    assert torch.allclose(quantizer.log2_scale.grad.double(), expected, rtol=1e-3, atol=1e-5)


def test_weight_scale_gradients_are_per_channel():
    torch.manual_seed(0)
    w = torch.randn(4, 3, 1, 1)
    quantizer = WeightFakeQuant(4, True, 1, "mse", "plain", True, [w])
    y = quantizer.quantize(w)
    g = torch.zeros_like(w)
    g[2] = 1.0
    y.backward(g)
    assert quantizer.log2_scale.grad.shape == (4,)
    assert quantizer.log2_scale.grad.nonzero().flatten().tolist() == [2]


def test_fixed_scale_is_no_parameter():
    assert not list(ActFakeQuant(8, True, False, -7.0).parameters())


@pytest.mark.parametrize(("bits", "mantissa"), [(2, 1), (4, 1), (8, 1), (4, 3)])
def test_covering_scales_clip_nothing_and_no_finer_one_does(bits, mantissa):
    torch.manual_seed(0)
    w = torch.randn(64, 5, 3, 3) * torch.rand(64, 1, 1, 1)
    hi = integer_range(bits, True, True)[1]
    chosen = to_grid(covering_log2_scale(w, hi, mantissa), mantissa)
    grid = torch.tensor(
        sorted({m * 2.0**-e for e in range(-4, 16) for m in ([1] if mantissa == 1 else [4, 5, 6, 7])})
    )
    peak = w.flatten(1).abs().amax(1) / hi
    assert torch.equal(chosen, grid[torch.searchsorted(grid, peak * (1 - 2.0**-20))])


def test_lsq_starts_at_two_means_over_the_root_of_the_largest_code():
    torch.manual_seed(0)
    w = torch.randn(5, 7, 3, 3)
    expected = 2 * w.abs().mean((1, 2, 3)) / math.sqrt(7)
    assert torch.allclose(torch.exp2(lsq_log2_scale(w, 7, 3)), expected)


def test_dorefa_bends_weights_keeps_their_peaks_and_bakes_what_it_computed():
    torch.manual_seed(0)
    w = torch.randn(6, 4, 3, 3)
    quantizer = WeightFakeQuant(4, True, 1, "max", "tanh", False, [w])
    assert not list(quantizer.parameters())
    bent = quantizer.shaped(w)
    assert torch.allclose(bent.abs().amax((1, 2, 3)), w.abs().amax((1, 2, 3)))
    ratio = bent / (w / w.abs().amax((1, 2, 3), keepdim=True)).tanh()
    assert torch.allclose(ratio, ratio[:, :1, :1, :1].expand_as(ratio))
    before = quantizer(w)[0]
    quantizer.bake(w)
    assert torch.equal(w, bent) and torch.equal(quantizer(w)[0], before)


def test_dorefa_begins_with_the_weights_that_were_trained():
    torch.manual_seed(0)
    w = torch.randn(6, 4, 3, 3) * torch.tensor([0.0, 1e-3, 0.1, 1.0, 13.0, 100.0]).view(6, 1, 1, 1)
    quantizer = WeightFakeQuant(4, True, 1, "max", "tanh", False, [w])
    latent = w.clone()
    quantizer.unbake(latent)
    assert torch.allclose(quantizer.shaped(latent), w)  # tanh and its inverse in float32


def test_dorefa_bends_large_channels_no_more_than_small_ones():
    torch.manual_seed(0)
    w = torch.randn(4, 1, 3, 3)
    factors = torch.tensor([2.0**-6, 1.0, 4.0, 32.0]).view(4, 1, 1, 1)
    small, large = (
        WeightFakeQuant(4, True, 1, "max", "tanh", False, [x]).shaped(x) for x in (w, w * factors)
    )
    assert torch.equal(small * factors, large)  # powers of two: not a bit is lost
    bent, plain = large / large.abs().amax((1, 2, 3), keepdim=True), w / w.abs().amax((1, 2, 3), keepdim=True)
    assert (bent - plain).abs().max() < 0.108  # tanh(x) / tanh(1) is at most 0.1074 above x for x of 0 to 1
