"""Dynamic operators as torch modules: their formulas, and their very bits from the quantized twin to the C++."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.kernels import needs_deform_conv

pytest.importorskip("brevitas", reason="needs the extra [quant]")

from codesign.ops import SampledDwConv
from quant.calibrate import calibrate
from quant.dynamic import BLOCKS
from quant.dynamic.dcnv4 import DCNv4Block
from quant.dynamic.involution import InvolutionBlock
from quant.dynamic.sampling import MASKS, SampledSum
from quant.export import ExportError, to_onnx
from quant.models import build, mac_count
from quant.quantize import quantize_model
from tests.quant.dynamics import SIZE, assert_the_same_bits_everywhere, twin
from tests.quant.twins import SMALL, images

SUMS = {"dcnv4": SampledDwConv(3, 2, -128, 127), "involution": SampledDwConv(1, 0, -128, 127)}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_stage_of_the_decoder(name):
    """Twice as high and wide, and every parameter learns."""
    torch.manual_seed(0)
    model = build(replace(SMALL, spatial=name)).train()
    x = torch.randn(2, 48, 4, 3)
    y = model.decoder[0](x)
    assert y.shape == (2, 24, 8, 6)
    for p in model.decoder[0].parameters():
        p.data.add_(torch.randn_like(p) * 0.1)
    model.decoder[0](x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.decoder[0].parameters())


@needs_deform_conv
@pytest.mark.parametrize("name", SUMS)
def test_the_same_bits_from_torch_to_the_cpp(name):
    graph, values = assert_the_same_bits_everywhere(twin(name))
    found = [n for n in graph.nodes if isinstance(n.op, SampledDwConv)]
    assert [n.op for n in found] == [SUMS[name]] * 4
    samples = values[found[0].inputs[1]]
    assert np.ptp(samples[..., 18:]) > 60
    assert (np.abs(samples[..., :18]).max() >= 12) if name == "dcnv4" else not samples[..., :18].any()


@pytest.mark.parametrize("moves", [True, False])
def test_the_sum_of_samples_by_hand(moves):
    """At whole steps, pixel by pixel."""
    rng = np.random.default_rng(4)
    x = rng.integers(-9, 9, (1, 3, 5, 6)).astype(np.float32)
    raw = rng.integers(-3, 4, (1, 27, 5, 6)).astype(np.float32)
    wanted = np.zeros_like(x)
    for y in range(5):
        for z in range(6):
            for k in range(9):
                dy, dx = raw[0, 2 * k : 2 * k + 2, y, z].clip(-2, 2) if moves else (0, 0)
                row, column = int(y + k // 3 - 1 + dy), int(z + k % 3 - 1 + dx)
                if 0 <= row < 5 and 0 <= column < 6:
                    wanted[0, :, y, z] += raw[0, 18 + k, y, z] * x[0, :, row, column]
    op = SampledSum(2, 2, moves)
    for op.exact in (False, True):
        got = op(torch.from_numpy(x), torch.from_numpy(raw if moves else raw[:, 18:]))
        np.testing.assert_array_equal(got.numpy(), wanted)


def test_the_twin_samples_in_steps():
    op, raw = SampledSum(2, 1), torch.full((1, 27, 3, 3), 0.3)
    x = torch.arange(9.0).view(1, 1, 3, 3)
    raw[:, 18:] = 9.0
    loose = op(x, raw)
    op.exact = True
    raw[:, :18] = 0.5
    raw[:, 18:] = MASKS[1]
    fixed = op(x, raw)
    raw[:, :18] = 0.3
    assert torch.equal(op(x, raw), fixed) and not torch.equal(loose, fixed)
    assert MASKS == (-4.0, 3.96875)


def test_windows_that_do_not_move_stay_so_while_training():
    net = twin("involution").train()
    try:
        net(images(2, SIZE))[0].square().sum().backward()
        for group in net.block.groups:
            grad = group.predict.weight.grad
            assert not grad[:18].any() and grad[18:].any() and not group.predict.weight[:18].any()
    finally:
        net.zero_grad()
        net.eval()


@pytest.mark.parametrize("name", SUMS)
def test_products_of_samples_are_counted(name):
    config = replace(SMALL, spatial=name)
    plain = mac_count(replace(SMALL, spatial="depthwise"))
    pixels = [(SMALL.size[0] >> k) * (SMALL.size[1] >> k) for k in (5, 4, 3)]
    predicted = {"dcnv4": lambda c: 4 * 27 * c, "involution": lambda c: c // 4 * c + 4 * 9 * (c // 4)}[name]
    assert mac_count(config) - plain == sum(
        p * predicted(c) for p, c in zip(pixels, (48, 24, 16), strict=True)
    )


def test_names_in_the_file():
    """Of modules: so that reports say which layer something is of."""
    names = Counter(n.name for n in to_onnx(twin("dcnv4"), SIZE).graph.node)
    assert names["block.groups.3.window"] == names["block.groups.0.predict"] == 1
    assert not [n for n in names if "handler" in n or "weight_quant" in n]


REFUSALS = [
    (lambda: DCNv4Block(6, 4, 7, 2), "DCNv4Block: 6 channels in 4 groups, expected a multiple"),
    (lambda: InvolutionBlock(9, 4), "InvolutionBlock: 9 channels in 4 groups, expected a multiple"),
    (lambda: SampledSum(0), "SampledSum: bound 0, fraction_bits 0, expected at least 1, and 0 to 4"),
    (lambda: SampledSum(1, 5), "SampledSum: bound 1, fraction_bits 5, expected at least 1, and 0 to 4"),
]


@pytest.mark.parametrize(("make", "message"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


def test_masks_have_no_form_in_qcdq():
    with pytest.raises(ExportError, match=r"have masks beside offsets, expected offsets alone in qcdq"):
        to_onnx(twin("dcnv4"), SIZE, flavour="qcdq")


def test_sums_that_floats_do_not_hold_are_refused():
    """Sixteenths of a pixel and masks of 8 bits: 9 * 128 * 128 * 256."""

    class Net(nn.Module):
        outputs = ("y",)

        def __init__(self):
            super().__init__()
            self.input_quant, self.block = nn.Identity(), DCNv4Block(3, 4, 1, 4, groups=1)

        def forward(self, x):
            return (self.block(self.input_quant(x)),)

    net = quantize_model(Net().eval())
    calibrate(net, [images(1, (32, 32))])
    with pytest.raises(ExportError, match=r"^export: sums of block\.groups\.0\.window can exceed 2\^24"):
        to_onnx(net, (32, 32))
