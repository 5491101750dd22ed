"""Softmax in whole numbers: near the real one, and the very same bits from torch to the C++."""

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("brevitas", reason="needs the extra [quant]")

from codesign.ops import Table
from quant.dynamic.softmax import Pairs, Product, Softmax
from quant.layers import ConvBlock, OutputConv, plain
from quant.quantize import quantize_model
from tests.quant.dynamics import SIZE, assert_the_same_bits_everywhere
from tests.quant.twins import images

COUNTS = (2, 3, 4, 5, 8)


class Net(nn.Module):
    """The shares themselves, of every pixel, through a convolution that repeats them."""

    outputs = ("y",)

    def __init__(self, count):
        super().__init__()
        self.input_quant = nn.Identity()
        self.stem = ConvBlock(3, count, 3, 4, relu=False, role="stem")
        self.softmax = Softmax(count)
        self.head = OutputConv(count, count)

    def forward(self, x):
        return (self.head(self.softmax(self.stem(self.input_quant(x)))),)


def twin(count):
    """Logits are uniform over what their codes hold; the head gives shares out twice as large, less 2."""
    torch.manual_seed(count)
    net = Net(count).eval()
    net.stem.conv.weight.data.mul_(6)
    net.head.conv.weight.data.copy_(torch.eye(count)[:, :, None, None] * 4)
    net.head.conv.bias.data.fill_(-2)
    quantized = quantize_model(net, "w8a8")
    with torch.no_grad():
        quantized.stem.act.act_quant.fused_activation_quant_proxy.tensor_quant.log2_scale.fill_(-5)
        quantized.head.act.act_quant.fused_activation_quant_proxy.tensor_quant.log2_scale.fill_(-6)
    return quantized.eval()


@pytest.mark.parametrize("count", COUNTS)
def test_shares_are_near_those_of_real_numbers(count):
    """As near as logits in steps of 1/32 allow: a level rounds by half a step, and so does the last difference."""
    quantized = twin(count)
    z = torch.randint(-128, 128, (400, count, 3, 3), generator=torch.Generator().manual_seed(1)) / 32
    with torch.no_grad():
        got = plain(quantized.softmax(z))
    wanted = torch.softmax(z, 1)
    assert torch.equal(got * 256, (got * 256).round()) and got.max() <= 255 / 256
    levels = max(1, len(quantized.softmax.levels))
    most = np.exp((levels * 1.5 + 1.5) / 32) - 1
    assert ((got - wanted).abs() <= wanted * most + 1 / 256).all()
    assert (got - wanted).abs().mean() < 0.008
    assert (got.sum(1) - 1).abs().mean() < 0.02


@pytest.mark.slow  # compiles an engine and exports by tracing in torch
@pytest.mark.parametrize("count", COUNTS)
def test_the_same_bits_everywhere(count):
    graph, values = assert_the_same_bits_everywhere(twin(count))
    tables = [node for node in graph.nodes if isinstance(node.op, Table)]
    assert len(tables) == {2: 1, 3: 3, 4: 3, 5: 4, 8: 4}[count]
    shares = values[tables[-1].name]
    assert shares.shape[-1] == count and np.ptp(shares) > 150


def test_it_trains_and_is_torch_s_own_in_float():
    net, x = Net(4), images(2, SIZE, 1)
    assert torch.equal(net.softmax(x), torch.softmax(x, 1))
    quantized = twin(4).train()
    y = quantized(images(2, SIZE, 3))[0]
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert quantized.stem.conv.weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="Softmax: 1 channels, expected at least 2"):
        Softmax(1)


def test_a_level_is_the_log_of_the_mean():
    z = torch.randn(50, 5, 1, 1, dtype=torch.float64)
    pairs = Pairs(5).double()
    got, wanted = pairs(z), torch.stack([z[:, i : i + 2].logsumexp(1) for i in (0, 2, 4)], 1) - np.log(2)
    assert (got[:, :2] - wanted[:, :2]).abs().max() < 1e-6  # ln 2 of one without partner is in steps of 2^-5
    assert (got[:, 2] - wanted[:, 2]).abs().max() <= 2**-6
    assert Product(torch.eye(2)).double()(z[:, :2]).equal(z[:, :2])
