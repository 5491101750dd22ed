"""Dynamic operators as torch modules: their formulas, and their very bits from the quantized twin to the C++."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.kernels import needs_deform_conv

pytest.importorskip("brevitas", reason="needs the extra [quant]")

from codesign.errors import ModelRefused
from codesign.onnx_io import import_model
from codesign.ops import SampledDwConv, Table, VariedDwConv
from quant.calibrate import calibrate
from quant.dynamic import BLOCKS
from quant.dynamic.dcnv4 import DCNv4Block
from quant.dynamic.dysample import PHASES, BorderSample, DySample, spread
from quant.dynamic.involution import InvolutionBlock
from quant.dynamic.sampling import MASKS, SampledSum
from quant.dynamic.snake import SnakeWindow, Wander
from quant.dynamic.tvconv import TVConv, varied
from quant.export import ExportError, to_onnx
from quant.models import build, mac_count
from quant.quantize import quantize_model
from tests.onnx_models import edited
from tests.quant.dynamics import SIZE, assert_the_same_bits_everywhere, twin
from tests.quant.twins import SMALL, images
from tests.test_onnx_refusals import attrs, rewire

SUMS = {"dcnv4": SampledDwConv(3, 2, -128, 127), "involution": SampledDwConv(0, 0, -128, 127, still=True)}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_stage_of_the_decoder(name):
    """Twice as high and wide, and every parameter learns."""
    torch.manual_seed(0)
    model = build(replace(SMALL, spatial=name, size=(128, 96))).train()
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
    assert samples.shape[-1] == SUMS[name].channels and np.ptp(samples[..., -9:]) > 60
    assert name != "dcnv4" or np.abs(samples[..., :18]).max() >= 12


@needs_deform_conv
def test_samples_at_the_border():
    graph, values = assert_the_same_bits_everywhere(twin("dysample"))
    found = [n for n in graph.nodes if isinstance(n.op, SampledDwConv)]
    assert [n.op for n in found] == [SampledDwConv(2, 4, taps="1x1", border=True)] * 4
    samples = np.stack([values[n.inputs[1]] for n in found])
    assert samples.min() == -32 and samples.max() == 32


def test_weights_of_each_pixel_s_own():
    graph, values = assert_the_same_bits_everywhere(twin("tvconv"))
    (found,) = (n for n in graph.nodes if isinstance(n.op, VariedDwConv))
    weight = graph.consts[found.inputs[1]]
    assert weight.shape == (4, 8, 9, 8) and np.ptp(weight, axis=(0, 1)).max() > 3


@needs_deform_conv
def test_snakes_of_tanh_codes():
    graph, values = assert_the_same_bits_everywhere(twin("snake"))
    found = [n for n in graph.nodes if isinstance(n.op, SampledDwConv)]
    assert [n.op for n in found] == [SampledDwConv(4, 2, taps=taps) for taps in ("1x9", "9x1")]
    assert sum(isinstance(n.op, Table) for n in graph.nodes) == 2
    for node, other in zip(found, (1, 0), strict=True):  # one of the two offsets of each tap is zero
        samples = values[node.inputs[1]]
        assert not samples[..., other::2].any() and np.abs(samples).max() > 8
        assert np.abs(np.diff(samples[..., 1 - other :: 2], axis=-1)).max() <= 4  # a step is at most a pixel


@needs_deform_conv
@pytest.mark.parametrize("name", ["dcnv4", "dysample", "snake", "tvconv"])
def test_weights_of_eight_bits_and_scales_with_a_mantissa(name):
    assert_the_same_bits_everywhere(twin(name, "w4a8-dw8-m3"))


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


def test_border_sampling_is_grid_sample_s():
    """Positions as grid_sample has them, from -1 to 1 between the outer edges; float32 in another order."""
    torch.manual_seed(3)
    x, offset = torch.randn(2, 3, 5, 7), torch.randn(2, 2, 5, 7) * 1.5
    at = torch.stack(torch.meshgrid(torch.arange(5), torch.arange(7), indexing="ij")) + offset.clamp(-2, 2)
    grid = torch.stack([(2 * at[:, 1] + 1) / 7 - 1, (2 * at[:, 0] + 1) / 5 - 1], -1)
    wanted = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(BorderSample()(x, offset), wanted, atol=1e-5, rtol=0)
    op = BorderSample(2, 4)
    op.exact = True
    torch.testing.assert_close(op(x, offset), op(x, (offset * 16).round() / 16), atol=0, rtol=0)


def test_four_phases_become_the_pixels_between():
    x = torch.arange(2.0 * 12).view(1, 8, 1, 3)
    y = spread(x)
    assert y.shape == (1, 2, 2, 6)
    for k, (i, j) in enumerate(PHASES):
        assert torch.equal(y[:, :, i::2, j::2], x[:, 2 * k : 2 * k + 2])


def test_a_fresh_dysample_is_bilinear_upsampling():
    """But for offsets of less than 0.001 a unit of x."""
    torch.manual_seed(0)
    up, x = DySample(3), torch.rand(1, 3, 4, 6)
    wanted = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(up(x), wanted, atol=3e-3, rtol=0)


@pytest.mark.parametrize("row", [True, False])
def test_a_snake_wanders_step_by_step(row):
    steps = torch.arange(1.0, 9.0).view(1, 8, 1, 1)  # outwards: 1 to 4 of the first side, 5 to 8 of the other
    across = Wander(row)(steps).view(9, 2)
    assert across[:, int(not row)].tolist() == [10, 6, 3, 1, 0, 5, 11, 18, 26]
    assert not across[:, int(row)].any()


@pytest.mark.parametrize("row", [True, False])
def test_a_fresh_snake_is_straight(row):
    torch.manual_seed(2)
    window, x = SnakeWindow(3, 2, row, nn.Identity()).eval(), torch.randn(1, 3, 11, 12)
    pads = (0, 4) if row else (4, 0)
    wanted = F.conv2d(x, window.dw.weight, padding=pads, groups=3)
    # Nine products in another order.
    torch.testing.assert_close(window(x), wanted, atol=1e-5, rtol=0)


def test_varied_weights_by_hand():
    torch.manual_seed(5)
    x, w = torch.randint(-9, 9, (2, 3, 4, 5)).float(), torch.randint(-7, 8, (3, 9, 4, 5)).float()
    padded, wanted = F.pad(x, (1, 1, 1, 1)), torch.zeros_like(x)
    for y in range(4):
        for z in range(5):
            window = padded[:, :, y : y + 3, z : z + 3].flatten(2)
            wanted[:, :, y, z] = (window * w[:, :, y, z]).sum(2)
    assert torch.equal(varied(x, w), wanted)


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


def test_weights_that_are_known_in_advance_cost_no_products():
    assert mac_count(replace(SMALL, spatial="tvconv")) == mac_count(replace(SMALL, spatial="depthwise"))


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
    (lambda: TVConv(2, (3, 4))(torch.zeros(1, 2, 4, 4)),
     "TVConv: weights for [3, 4] pixels, a map of [4, 4]. Train and export at one size."),
    (lambda: build(replace(SMALL, spatial="tvconv", decoder=(24, 24, 16))),
     "TVConv: stages of the decoder take (48, 24, 24) channels, expected different numbers. Widen one."),
    (lambda: SampledSum(0), "SampledSum: bound 0, fraction_bits 0, expected at least 1, and 0 to 4"),
    (lambda: SampledSum(1, 5), "SampledSum: bound 1, fraction_bits 5, expected at least 1, and 0 to 4"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message


def test_masks_have_no_form_in_qcdq():
    with pytest.raises(ExportError, match=r"have masks beside offsets, expected offsets alone in qcdq"):
        to_onnx(twin("dcnv4"), SIZE, flavour="qcdq")


WINDOW = "block.up.phases.2.window"
IMPORTS = [
    ("dysample", attrs(WINDOW, kernel_shape=[3, 3]),
     f"BorderDeformConv '{WINDOW}': kernel_shape is not the weight's 1x1. "
     "The file contradicts itself: export it again."),
    ("dysample", attrs(WINDOW, max_offset=9),
     f"BorderDeformConv '{WINDOW}': its offset reaches 9, expected a bound between 1 and 8. "
     "Train with max_offset of at most 8."),
    ("dysample", attrs(WINDOW, pads=[1, 1, 1, 1]),
     f"BorderDeformConv '{WINDOW}': has a 1x1 kernel with pads [1, 1, 1, 1], "
     "expected 1x1 with pads 0. Use 1x1, pads 0."),
    ("dysample", attrs(WINDOW, strides=[2, 2]),
     f"BorderDeformConv '{WINDOW}': has strides [2, 2], expected 1. Sample every pixel."),
    ("dysample", rewire(WINDOW, 2, "block.pw.conv"),
     f"BorderDeformConv '{WINDOW}': its offsets have 6 channels, expected 2. "
     "The file contradicts itself: export it again."),
    ("tvconv", rewire("block.dw", 0, "stem.0.act.quant"),
     "VariedConv 'block.dw': has weights for a map of [8, 4, 8], reads one of [6, 8, 16]. "
     "Export at the size that it was trained for."),
    ("tvconv", rewire("block.dw", 1, "block.dw.weight"), "VariedConv 'block.dw': its weight is not quantized. "
     "Put a Quant of at most 8 bits behind the weight."),
    ("tvconv", rewire("block.dw", 1, "stem.1.conv.weight.quant"),
     "VariedConv 'block.dw': has a weight [8, 6, 3, 3], expected [C, 9, H, W]. "
     "The file contradicts itself: export it again."),
]  # fmt: skip


@pytest.mark.parametrize(("name", "edit", "message"), IMPORTS, ids=range(len(IMPORTS)))
def test_refusals_of_the_importer(name, edit, message):
    with pytest.raises(ModelRefused) as caught:
        import_model(edited(to_onnx(twin(name), SIZE), edit))
    assert message in [line.strip() for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(("name", "node"), [("dysample", "block.up.phases.0.window"), ("tvconv", "block.dw")])
def test_other_nodes_have_none_either(name, node):
    with pytest.raises(ExportError, match=rf"^export: {node}.* no form in qcdq, .*\. Export qonnx\."):
        to_onnx(twin(name), SIZE, flavour="qcdq")


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
