"""Operators whose factors are computed from the image: their formulas, and their twins."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("brevitas", reason="needs the extra [quant]")

from codesign.ops import Mix, MixedConv, Pick
from quant.calibrate import calibrate
from quant.dynamic import BLOCKS
from quant.dynamic.channel_gate import BranchGate, ChannelMix
from quant.dynamic.fdconv import FourierMixedConv2d, ModulationError, bands
from quant.dynamic.gates import Gate
from quant.dynamic.mixed_conv import MixedBlock, MixedConv2d, QuantMixedConv2d
from quant.dynamic.pick_or_mix import PickOrMix
from quant.export import ExportError, onnx_outputs, to_onnx, torch_outputs
from quant.layers import plain
from quant.models import build, mac_count
from quant.onnx_graph import accumulator_bounds
from quant.quantize import fold, quantize_model, weight_layers
from tests.quant.dynamics import SIZE, assert_the_same_bits_everywhere, twin
from tests.quant.twins import SMALL, images

MIXED = ("condconv", "condconv-dense", "parameternet", "fdconv")
NODES = {
    **dict.fromkeys(MIXED, "MixedConv"), "pick-or-mix": "PickOrMix", "selective-kernel": "ChannelMix",
    "squeeze-excite": "Mul",
}  # fmt: skip


OPS = {
    **dict.fromkeys(("condconv", "parameternet"), MixedConv()), "pick-or-mix": Pick(2, 128), "squeeze-excite": Mix(),
    **dict.fromkeys(("condconv-dense", "fdconv"), MixedConv((3, 3), pads=(1, 1, 1, 1))), "selective-kernel": Mix(2),
}  # fmt: skip


@pytest.mark.parametrize("kernel", [1, 3])
def test_each_image_has_the_weights_that_its_gates_mix(kernel):
    torch.manual_seed(kernel)
    op = MixedConv2d(5, 7, kernel, 3).double()
    op.bias = nn.Parameter(torch.randn(7, dtype=torch.float64))
    x, r = (torch.randn(*s, dtype=torch.float64) for s in ((2, 5, 6, 4), (2, 3, 1, 1)))
    kernels = op.weight.view(7, 3, 5, kernel, kernel)
    for n in range(2):
        weight = sum(r[n, k, 0, 0] * kernels[:, k] for k in range(3))
        wanted = nn.functional.conv2d(x[n : n + 1], weight, op.bias, padding=kernel // 2)
        torch.testing.assert_close(op(x, r)[n : n + 1], wanted)
    assert torch.autograd.gradcheck(op, (x.requires_grad_(), r.requires_grad_()))


@pytest.mark.parametrize("name", MIXED)
def test_the_order_in_memory_does_not_matter(name):
    """Training keeps maps and weights with their channels last."""
    quantized = copy.deepcopy(twin(name)).train()
    x = images(2, SIZE)
    (wanted,) = quantized(x)
    (got,) = quantized.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    got.square().sum().backward()
    torch.testing.assert_close(
        got, wanted, atol=quantized.head.act.act_quant.scale().item(), rtol=0
    )  # sum order


def test_channels_times_their_gates_by_hand():
    rng = np.random.default_rng(0)
    x, r = rng.integers(-9, 9, (2, 6, 3, 2)).astype(np.float32), rng.random((2, 6, 1, 1)).astype(np.float32)
    for parts in (1, 2, 3):
        size = 6 // parts
        wanted = sum((x * r)[:, k * size : (k + 1) * size] for k in range(parts))
        np.testing.assert_allclose(
            ChannelMix(parts)(torch.from_numpy(x), torch.from_numpy(r)), wanted, rtol=1e-6
        )


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_picks_and_means_by_hand(threshold):
    rng = np.random.default_rng(1)
    x = rng.integers(-9, 9, (2, 8, 3, 2)).astype(np.float32)
    r = (rng.integers(0, 256, (2, 2, 1, 1)) / 256).astype(np.float32)
    r[0, 0] = 0.5
    got = PickOrMix(4, threshold)(torch.from_numpy(x), torch.from_numpy(r)).numpy()
    for n in range(2):
        for s in range(2):
            members, gate = x[n, s::2], r[n, s, 0, 0]
            chosen = members.max(0) if gate < threshold else members.mean(0)
            np.testing.assert_array_equal(got[n, s], chosen * gate)


def test_kernels_of_disjoint_frequencies_add_up_to_one_plane():
    torch.manual_seed(2)
    op = FourierMixedConv2d(6, 8, 3, 4)
    kernels = op.bank().view(8, 4, 6, 3, 3)
    planes = kernels.permute(1, 0, 3, 2, 4).reshape(4, 24, 18)
    energy = torch.fft.rfft2(planes).abs()
    held = energy > 1e-4 * energy.max()
    assert held.any((1, 2)).all() and held.sum(0).max() == 1
    rows, columns = torch.meshgrid(torch.fft.fftfreq(24), torch.fft.rfftfreq(18), indexing="ij")
    centre = ((energy * torch.hypot(rows, columns)).sum((1, 2)) / energy.sum((1, 2))).tolist()
    assert centre == sorted(centre)
    whole = torch.fft.irfft2(torch.view_as_complex(op.spectrum), s=(24, 18), norm="ortho")
    torch.testing.assert_close(planes.sum(0), whole)
    assert op.spectrum.numel() < 1.25 * whole.numel()  # a plain convolution has as many
    x, r = torch.randn(2, 6, 4, 4), torch.rand(2, 4, 1, 1)
    settled = op.settled()
    assert type(settled) is MixedConv2d
    torch.testing.assert_close(settled(x, r), op(x, r))


@pytest.mark.parametrize(("rows", "columns", "count"), [(6, 6, 2), (24, 18, 4), (12, 9, 3)])
def test_every_frequency_is_in_one_band(rows, columns, count):
    found = bands(rows, columns, count)
    assert found.shape == (count, rows, columns // 2 + 1) and torch.equal(
        found.sum(0), torch.ones_like(found[0])
    )
    mirrored = found[:, 1:].flip(1)
    assert torch.equal(found[:, 1:], mirrored)  # what is conjugate stays together, so that planes are real
    assert all(0.4 / count < share < 1.8 / count for share in found.mean((1, 2)).tolist())


def test_band_modulation_is_refused():
    with pytest.raises(ModulationError) as caught:
        FourierMixedConv2d(4, 4, 3, 2, band_modulation=True)
    assert str(caught.value) == (
        "fdconv: band_modulation is on, which filters each map by its frequencies, and no DFT of a map is whole in "
        "integers; expected the kernels of disjoint frequencies alone. Leave it out."
    )


def test_gates_see_the_mean_alone_and_those_of_two_branches_add_up_to_one():
    torch.manual_seed(3)
    x = torch.randn(2, 6, 4, 4)
    shuffled = x.flatten(2)[:, :, torch.randperm(16)].view_as(x)
    for gate, count in ((Gate(6, 0, 4), 4), (Gate(6, 3, 5, "softmax", signed=True), 5), (BranchGate(3), 6)):
        r = gate(x)
        assert r.shape == (2, count, 1, 1) and 0 <= r.min() and r.max() <= 1
        torch.testing.assert_close(gate(shuffled), r)
        if count == 5:
            torch.testing.assert_close(r.sum(1), torch.ones(2, 1, 1))
        if count == 6:
            torch.testing.assert_close(r[:, :3] + r[:, 3:], torch.ones(2, 3, 1, 1))


@pytest.mark.parametrize("name", NODES)
def test_folding_changes_nothing(name):
    torch.manual_seed(4)
    model = build(replace(SMALL, spatial=name))
    for k in range(3):
        model.train()(images(2, SMALL.size, k))
    x, model = images(1), model.eval()
    folded = fold(model)
    assert not [m for m in folded.decoder.modules() if isinstance(m, nn.BatchNorm2d)]
    for a, b in zip(folded(x), model(x), strict=True):
        torch.testing.assert_close(
            a, b, atol=1e-3, rtol=1e-3
        )  # float32 through twenty layers, in another order


@pytest.mark.parametrize("name", NODES)
def test_the_same_bits_from_torch_to_the_cpp(name):
    quantized = twin(name)
    assert [n.op_type for n in to_onnx(quantized, SIZE).graph.node].count(NODES[name]) == 1
    graph, values = assert_the_same_bits_everywhere(quantized)
    (node,) = [n for n in graph.nodes if isinstance(n.op, Mix | MixedConv | Pick)]
    assert node.op == OPS[name]
    gates = values[node.inputs[1]]
    assert gates.shape == (2, 1, 1, {"selective-kernel": 16, "squeeze-excite": 8}.get(name, 4))
    assert len(np.unique(gates)) > 2
    if name == "selective-kernel":  # but where one of them is cut off at 255
        assert set(np.unique(gates[..., :8] + gates[..., 8:])) <= {255, 256}


@pytest.mark.parametrize("preset", ["w8a8", "w4a8-m3", "w4a4"])
@pytest.mark.parametrize("name", ["condconv-dense", "selective-kernel"])
def test_other_presets(name, preset):
    assert_the_same_bits_everywhere(twin(name, preset))


@pytest.mark.parametrize("name", MIXED)
def test_what_is_mixed_and_its_mixture_are_codes(name):
    quantized, seen = twin(name), []
    layer = quantized.block.mix.conv
    assert isinstance(layer, QuantMixedConv2d) and "block.mix.conv" in weight_layers(quantized)
    hook = layer.register_forward_hook(lambda m, args, out: seen.append((args, out)))
    try:
        quantized(
            torch.cat([images(2, SIZE, seed=8), torch.full((1, 3, *SIZE), 0.75), -torch.ones(1, 3, *SIZE)])
        )
    finally:
        hook.remove()
    (x, r), out = seen[0]
    bank = plain(layer.weight_quant(layer.weight))
    codes = bank / layer.weight_quant.tensor_quant.scale()
    assert torch.equal(codes, codes.round()) and 20 < codes.abs().max() <= 127
    gates = plain(r) * 256
    assert torch.equal(gates, gates.round()) and len(gates.unique()) > 4  # they depend on the image
    weights = layer._mixed(bank, plain(r)) / layer.mixed.scale()
    assert torch.equal(weights, weights.round()) and weights.abs().max() == 7
    assert (weights != weights[:1]).any()
    step = (x.scale * layer.mixed.scale()).view(1, -1, 1, 1)
    assert torch.equal(out / step, (out / step).round())
    largest = accumulator_bounds(to_onnx(quantized, SIZE))["block.mix.conv"]
    assert (out / step).abs().max() <= largest < 2**24


def test_a_mixture_is_trained_with_its_rounding():
    torch.manual_seed(5)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.input_quant, self.gate = nn.Identity(), Gate(3, 0, 3, signed=True)
            self.mix = MixedBlock(MixedConv2d(3, 6, 1, 3))

        def forward(self, x):
            x = self.input_quant(x)
            return self.mix(x, self.gate(x))

    quantized = quantize_model(Net().eval())
    calibrate(quantized, [images(2, SIZE)])
    layer = quantized.mix.conv
    x = images(2, SIZE, 3)
    trained = plain(quantized.train()(x))
    trained.square().sum().backward()
    assert layer.weight.grad.abs().sum() > 0 and layer.mixed.log2_scale.grad.abs().sum() > 0
    assert quantized.gate.excite.weight.grad.abs().sum() > 0
    evaluated = plain(quantized.eval()(x))
    # The bias alone is finer while training: less than a step of the accumulator, so at most one code of the output.
    assert (trained - evaluated).abs().max() <= quantized.mix.act.act_quant.scale()


def test_products_are_counted_with_those_of_the_mixture():
    base, pixels = mac_count(replace(SMALL, spatial="depthwise")), [2 * 1, 4 * 2, 8 * 4]
    widths = list(zip((48, 24, 16), (24, 16, 16), strict=True))
    gates = sum(4 * cin for cin, _ in widths)
    assert mac_count(replace(SMALL, spatial="condconv")) == base + gates + sum(4 * a * b for a, b in widths)
    dense = mac_count(replace(SMALL, spatial="dense", kernel=3))
    assert mac_count(replace(SMALL, spatial="fdconv")) == dense + gates + sum(36 * a * b for a, b in widths)
    hidden = [max(8, c // 4) for c in (48, 24, 16)]
    more = sum(2 * h * c + p * c for h, (c, _), p in zip(hidden, widths, pixels, strict=True))
    assert mac_count(replace(SMALL, spatial="squeeze-excite")) == base + more


@pytest.mark.parametrize("name", ["condconv", "pick-or-mix", "selective-kernel"])
def test_nodes_of_ours_have_no_form_in_qcdq(name):
    with pytest.raises(ExportError, match=r"have no form in qcdq, expected deformable layers alone"):
        to_onnx(twin(name), SIZE, flavour="qcdq")


def test_gates_of_channels_have_one():
    quantized, x = twin("squeeze-excite"), images(2, SIZE, seed=6)
    (wanted,), (got,) = torch_outputs(quantized, x), onnx_outputs(to_onnx(quantized, SIZE, flavour="qcdq"), x)
    np.testing.assert_array_equal(got, wanted)


def test_sets_have_sizes_that_divide_exactly():
    with pytest.raises(ValueError, match="sets of 3 channels, expected 2, 4, 8 or 16"):
        PickOrMix(3, 0.5)
    assert set(NODES) < set(BLOCKS)
