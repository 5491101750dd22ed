"""What a frame need not have computed: blocks that are skipped, and exits before the end.

    out = a  if the number that the frame decides is not negative, else  b

A skipped block (SkipNet, arXiv 1711.09485) has what it computes as a and what it reads as b; an early exit (BranchyNet,
arXiv 1709.01686) has its own answer as a and the rest of the network's as b. In training the choice is as hard as in
use, and its gradient that of a mean weighted by a sigmoid (straight through, as SkipNet's supervised phase).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from quant.dynamic.block import DynamicBlock, Layers
from quant.dynamic.gates import ROLE, start_open
from quant.layers import Conv2d, ConvBlock, mapped, plain, upsample

HIDDEN = 8  # channels of what decides


def chosen(number: Any, a: Any, b: Any, training: bool = False, least: float = 0.0) -> Any:
    """a where `number` (N,1,1,1) is at least `least`, else b; both of one quantizer. A frame is wholly one of them."""
    z = plain(number)
    if training:
        soft = torch.sigmoid(z - least)
        weight = (z >= least).to(z.dtype) + soft - soft.detach()
        return weight * plain(a) + (1 - weight) * plain(b)
    return mapped(a, lambda v: torch.where(z >= least, v, plain(b)))


class Decision(DynamicBlock):
    """(N,cin,H,W) -> (N,1,1,1): a window of every `stride`th pixel, the mean of its map, and one number of that."""

    def __init__(self, cin: int, bias: float = 0.5, stride: int = 4, kernel: int = 3) -> None:
        super().__init__()
        self.look = ConvBlock(cin, HIDDEN, kernel, stride, role=ROLE)
        self.mean_act: nn.Module = nn.ReLU()
        self.decide: nn.Module = start_open(Conv2d(HIDDEN, 1, 1), bias)
        self.number_act: nn.Module = nn.Identity()

    def forward(self, x: Any) -> Any:
        mean = self.mean_act(plain(self.look(x)).mean((2, 3), keepdim=True))
        return self.number_act(self.decide(mean))

    def quantize(self, make: Layers, name: str) -> None:
        self.mean_act = make.act(self.mean_act)
        self.decide = make.conv(self.decide, ROLE, f"{name}.decide")  # type: ignore[arg-type]
        self.number_act = make.act(self.number_act)


class Skip(DynamicBlock):
    """A depthwise 3x3 and a 1x1 that a frame may do without. `share` names the quantizer of what it reads."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.decision = Decision(channels)
        self.dw = ConvBlock(channels, channels, 3, groups=channels, relu=False, role="dw")
        self.pw = ConvBlock(channels, channels)

    def forward(self, x: Any) -> Any:
        return chosen(self.decision(x), self.pw(self.dw(x)), x, self.training)

    def quantize(self, make: Layers, name: str) -> None:
        """Its layers find theirs by themselves."""


class SkipBlock(DynamicBlock):
    """Depthwise 3x3, 1x1 + BN + ReLU, the same again or not, nearest x2."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.dw = ConvBlock(cin, cin, 3, groups=cin, relu=False, role="dw")
        self.pw = ConvBlock(cin, cout)
        self.skip = Skip(cout)

    def forward(self, x: Any) -> Any:
        return upsample(self.skip(self.pw(self.dw(x))))

    def quantize(self, make: Layers, name: str) -> None:
        self.pw.share = self.skip.pw.share = f"{name}.sides"
