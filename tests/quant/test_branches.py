"""Selective kernels of three and four windows: a softmax in each channel, the same bits in every rung."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("brevitas", reason="needs the extra [quant]")

from codesign.ops import Mix
from quant.calibrate import calibrate, correct_bias
from quant.dynamic.channel_gate import BranchesGate, SelectiveKernelBlock
from quant.dynamic.softmax import Softmax
from quant.quantize import quantize_model
from tests.quant.dynamics import SIZE, Net, assert_the_same_bits_everywhere
from tests.quant.twins import images


def test_a_softmax_in_each_channel():
    torch.manual_seed(0)
    z = torch.randn(2, 12, 1, 1)
    shares = Softmax(3, 4)(z)
    torch.testing.assert_close(shares, torch.softmax(z.view(2, 3, 4, 1, 1), 1).view(2, 12, 1, 1))
    torch.testing.assert_close(Softmax(12)(z), torch.softmax(z, 1))


def test_gates_see_the_sum_of_all_branches():
    torch.manual_seed(1)
    gate, maps = BranchesGate(4, 3), torch.rand(2, 12, 5, 3)
    torch.testing.assert_close(gate.pooled(maps), maps.mean((2, 3), keepdim=True).view(2, 3, 4, 1, 1).sum(1))


def test_the_block_by_hand():
    torch.manual_seed(2)
    block, x = SelectiveKernelBlock(4, 6, (3, 3, 5)).eval(), torch.rand(2, 4, 5, 3)
    maps = [branch(x) for branch in block.branches]
    gates = block.gate(torch.cat(maps, 1)).unflatten(1, (3, 4))
    torch.testing.assert_close(gates.sum(1), torch.ones(2, 4, 1, 1))
    mixed = sum(gates[:, k] * maps[k] for k in range(3))
    wanted = torch.nn.functional.interpolate(block.pw(mixed), scale_factor=2)
    torch.testing.assert_close(block(x), wanted)


@pytest.mark.parametrize("count", [3, 4])
def test_the_same_bits_from_torch_to_the_engine(count: int):
    torch.manual_seed(count)
    net = Net(f"selective-kernel-{count}").train()
    with torch.no_grad():
        for key, p in net.named_parameters():
            if "excite" in key:
                p.add_(torch.randn_like(p) * 1.5)
        net.block.pw.bn.weight.fill_(8.0)
    for k in range(4):
        net(images(4, SIZE, 50 + k))
    twin = quantize_model(net.eval(), "w4a8")
    batches = [images(4, SIZE, k) for k in range(2)]
    calibrate(twin, batches)
    correct_bias(twin, batches)
    graph, values = assert_the_same_bits_everywhere(twin.eval())
    (mix,) = (n for n in graph.nodes if isinstance(n.op, Mix))
    assert mix.op == Mix(count)
    gates = values[mix.inputs[1]].reshape(2, count, 8)
    assert gates.shape == (2, count, 8) and len(np.unique(gates)) > 10
    assert abs(gates.sum(1) - 256).max() <= 24  # shares of 256, each made by tables of 8 bits
