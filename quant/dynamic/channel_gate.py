"""Channels weighted by gates of the whole map: squeeze and excitation, and selective kernels.

    squeeze-excite      y_c = r_c * u_c,   r = sigmoid(FC(ReLU(FC(mean of u))))                     (arXiv 1709.01507)
    selective-kernel    y_c = r_c * u_c + q_c * v_c,   r_c, q_c = softmax of two logits of FC(ReLU(FC(mean of u + v))),
                        u and v made by windows of 3x3 and 5x5                          (arXiv 1903.06586, section 3.1)
                        or of three and four windows, as many logits a channel

A softmax over two is a sigmoid of their difference, d: r = sigmoid(d), q = sigmoid(-d), and one FC makes d.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quant.dynamic.block import DynamicBlock, Layers
from quant.dynamic.gates import Gate
from quant.dynamic.mix_nodes import traced_channel_mix
from quant.dynamic.softmax import Softmax
from quant.layers import ConvBlock, concat, mapped, plain, split, upsample

REDUCTION, LEAST = 4, 8  # of hidden channels to channels, as far as that leaves so many


class ChannelMix(nn.Module):
    """Sum of `parts` maps that lie beside each other, each times its gates: (N,parts*C,H,W), (N,parts*C,1,1)."""

    def __init__(self, parts: int = 1) -> None:
        super().__init__()
        self.products = parts  # multiply-accumulates of one value

    def forward(self, x: Any, r: Any) -> Tensor:
        maps, gates = plain(x), plain(r)
        if self.products == 1:
            return maps * gates
        if torch.jit.is_tracing():
            return traced_channel_mix(maps, gates, self.products)
        return (maps * gates).unflatten(1, (self.products, -1)).sum(1)


def hidden(channels: int) -> int:
    return max(LEAST, channels // REDUCTION)


class SqueezeExciteBlock(DynamicBlock):
    """Depthwise 3x3, a gate a channel, 1x1 + BN + ReLU, nearest x2."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.dw = ConvBlock(cin, cin, 3, groups=cin, relu=False, role="dw")
        self.dw.bn = nn.Identity()  # as behind the deformable window
        self.gate = Gate(cin, hidden(cin), cin, signed=True)
        self.mix = ChannelMix()
        self.mix_act: nn.Module = nn.Identity()
        self.pw = ConvBlock(cin, cout)

    def forward(self, x: Any) -> Any:
        u = self.dw(x)
        return upsample(self.pw(self.mix_act(self.mix(u, self.gate(u)))))

    def quantize(self, make: Layers, name: str) -> None:
        self.mix_act = make.act(self.mix_act)


class BranchesGate(Gate):
    """Gates of `count` maps beside each other, (N,count*C,H,W) -> (N,count*C,1,1): a softmax in each channel."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__(channels, hidden(channels), count * channels, "softmax")
        self.gate_act = Softmax(count, channels)
        self.sum_act: nn.Module = nn.ReLU()  # of what is not negative
        self.adds = nn.ModuleList(nn.ReLU() for _ in range(count - 2))
        self.count = count

    def pooled(self, x: Any) -> Any:
        means = super().pooled(x)
        c = plain(means).shape[1] // self.count
        parts = [mapped(means, lambda v, i=i: v[:, i * c : (i + 1) * c]) for i in range(self.count)]
        total = parts[0]
        for part, act in zip(parts[1:], [*self.adds, self.sum_act], strict=True):
            total = act(plain(total) + plain(part))
        return total

    def quantize(self, make: Layers, name: str) -> None:
        super().quantize(make, name)
        self.sum_act = make.act(self.sum_act)
        self.adds = nn.ModuleList(make.act(act) for act in self.adds)


class BranchGate(Gate):
    """Gates of two maps that lie beside each other, (N,2C,H,W) -> (N,2C,1,1): of each channel they add up to one."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, hidden(channels), channels)
        self.sum_act: nn.Module = nn.ReLU()  # of what is not negative

    def pooled(self, x: Any) -> Any:
        first, second = split(super().pooled(x))
        return self.sum_act(plain(first) + plain(second))

    def opened(self, logits: Any) -> Any:
        z = plain(logits)
        return concat(self.gate_act(torch.sigmoid(z)), self.gate_act(torch.sigmoid(-z)))

    def quantize(self, make: Layers, name: str) -> None:
        super().quantize(make, name)
        self.sum_act = make.act(self.sum_act)


class SelectiveKernelBlock(DynamicBlock):
    """Depthwise windows of 3x3 and 5x5, or others, all + BN + ReLU, weighted a channel, 1x1 + BN + ReLU, nearest x2."""

    def __init__(self, cin: int, cout: int, kernels: Sequence[int] = (3, 5)) -> None:
        super().__init__()
        self.branches = nn.ModuleList(ConvBlock(cin, cin, k, groups=cin, role="dw") for k in kernels)
        count = len(kernels)
        self.gate: Gate = BranchGate(cin) if count == 2 else BranchesGate(cin, count)
        self.mix = ChannelMix(count)
        self.mix_act: nn.Module = nn.ReLU()  # of what is not negative
        self.pw = ConvBlock(cin, cout)

    def forward(self, x: Any) -> Any:
        both = concat(*(branch(x) for branch in self.branches))
        return upsample(self.pw(self.mix_act(self.mix(both, self.gate(both)))))

    def quantize(self, make: Layers, name: str) -> None:
        for branch in self.branches:
            branch.share = f"{name}.branches"  # type: ignore[assignment]
        self.mix_act = make.act(self.mix_act)
