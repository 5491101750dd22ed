"""Dynamic snake convolution (arXiv 2307.08388): rows and columns of nine taps whose places wander off step by step.

    a row:   y(p) = sum over k in -4..4 of  w_k * x(p + (s_k, k)),   s_k = sum over i = 1..|k| of  delta_i of k's side
    a column likewise, with rows and columns exchanged

delta = tanh of what is predicted at each pixel, so that |s_k| < 4. The sums are a 1x1 convolution of 0 and 1.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.deform import DeformConv2d
from quant.dynamic.block import DynamicBlock, Layers
from quant.dynamic.whole import Whole
from quant.layers import ConvBlock, concat, plain, upsample

SIDE = 4  # taps on each side of the middle
TANH_LOG2 = -7  # of a code of tanh; 1 becomes 127/128


def wandering(row: bool) -> Tensor:
    """Weights (18,8,1,1) that make offsets of steps: channels are the four of one side outwards, then of the other."""
    weight = torch.zeros(2 * (2 * SIDE + 1), 2 * SIDE, 1, 1)
    for k in range(-SIDE, SIDE + 1):
        first = 0 if k < 0 else SIDE
        weight[2 * (k + SIDE) + (not row), first : first + abs(k)] = 1
    return weight


class Wander(nn.Module):
    """Steps (N,8,H,W) to offsets (N,18,H,W) across the row or column."""

    weight: Tensor

    def __init__(self, row: bool) -> None:
        super().__init__()
        self.register_buffer("weight", wandering(row), persistent=False)
        self.weight_quant = Whole()

    def forward(self, steps: Any) -> Tensor:
        v = plain(steps)
        return F.conv2d(v, self.weight_quant(v, self.weight))


class SnakeWindow(DynamicBlock):
    """A depthwise row or column; at first it is straight."""

    def __init__(self, channels: int, fraction_bits: int, row: bool, act: nn.Module) -> None:
        super().__init__()
        self.step = ConvBlock(channels, 2 * SIDE, relu=False, role="offset")
        assert isinstance(self.step.bn, nn.BatchNorm2d)
        nn.init.zeros_(self.step.bn.weight)
        self.tanh_act: nn.Module = nn.Identity()
        self.wander = Wander(row)
        kernel = (1, 2 * SIDE + 1) if row else (2 * SIDE + 1, 1)
        self.dw = DeformConv2d(
            channels, channels, channels, 1, "bounded", "bilinear", SIDE, fraction_bits, False, kernel
        )
        self.act = act

    def forward(self, x: Any) -> Any:
        steps = self.tanh_act(torch.tanh(plain(self.step(x))))
        return self.act(self.dw(x, self.wander(steps)))

    def quantize(self, make: Layers, name: str) -> None:
        self.tanh_act = make.fixed(TANH_LOG2, signed=True)
        self.dw = make.deform(self.dw, f"{name}.dw")


class SnakeBlock(DynamicBlock):
    """A row and a column side by side, 1x1 + BN + ReLU, nearest x2."""

    def __init__(self, cin: int, cout: int, fraction_bits: int) -> None:
        super().__init__()
        act = nn.Identity()
        self.row = SnakeWindow(cin, fraction_bits, True, act)
        self.column = SnakeWindow(cin, fraction_bits, False, act)
        self.pw = ConvBlock(2 * cin, cout)

    def forward(self, x: Any) -> Any:
        return upsample(self.pw(concat(self.row(x), self.column(x))))

    def quantize(self, make: Layers, name: str) -> None:
        self.row.act = self.column.act = make.act(nn.Identity())
