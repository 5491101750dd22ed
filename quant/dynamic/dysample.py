"""DySample (arXiv 2308.15085): a map becomes twice as large by sampling it where each pixel says.

    y(2p + r) = x(p + init_r + 0.25 * o_r(p)),      r in {0,1}^2, init_r = (r - 1/2) / 2, the border outside the map

o is a 1x1 convolution of x with two channels a phase r; sampling is bilinear. Static scope factor, no groups.
Hardware samples within BOUND pixels in steps of 2^-fraction_bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from quant.clamps import clamp, round_clamp
from quant.deform import deform_conv
from quant.dynamic.block import DynamicBlock, Layers
from quant.dynamic.whole import Whole
from quant.layers import Conv2d, ConvBlock, concat, mapped, plain

PHASES = tuple((i, j) for i in (0, 1) for j in (0, 1))
SCOPE, BOUND, STEPS = 0.25, 2, 4


def spread(x: Tensor) -> Tensor:
    """Four phases of C channels each to the pixels of a map twice as high and wide."""
    if torch.jit.is_tracing():
        from quant.dynamic.sample_nodes import traced_spread  # which knows onnx

        return traced_spread(x)
    n, c, h, w = x.shape
    return x.view(n, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // 4, 2 * h, 2 * w)


def at_border(offset: Tensor) -> Tensor:
    """Offsets (N,2,H,W) that stay on the map: of rows, then of columns."""
    h, w = offset.shape[2:]
    rows = torch.arange(h, device=offset.device).view(1, h, 1)
    columns = torch.arange(w, device=offset.device).view(1, 1, w)
    down = (offset[:, 0] + rows).clamp(0, h - 1) - rows
    along = (offset[:, 1] + columns).clamp(0, w - 1) - columns
    return torch.stack([down, along], 1)


class BorderSample(nn.Module):
    """x (N,C,H,W) at offsets (N,2,H,W) from each pixel. `exact`: rounds as hardware does; its quantized twin is."""

    products = 1

    def __init__(self, bound: int = BOUND, fraction_bits: int = STEPS) -> None:
        super().__init__()
        self.bound, self.fraction_bits, self.exact = bound, fraction_bits, False
        self.weight_quant = Whole()

    def forward(self, x: Any, raw: Tensor) -> Tensor:
        v = plain(x)
        ones = self.weight_quant(v, v.new_ones(v.shape[1], 1, 1, 1))
        if torch.jit.is_tracing():
            from quant.dynamic.sample_nodes import traced_border_sample

            return traced_border_sample(v, ones, raw, self.bound, self.fraction_bits)
        most = float(self.bound)
        used = round_clamp(raw, -most, most, self.fraction_bits) if self.exact else clamp(raw, -most, most)
        return deform_conv(v, at_border(used), ones, padding=0, groups=v.shape[1])


class Phase(nn.Module):
    """One of the four pixels that a pixel becomes; `predict` makes its offsets."""

    def __init__(self, cin: int, phase: tuple[int, int], act: nn.Module) -> None:
        super().__init__()
        self.predict: nn.Conv2d = Conv2d(cin, 2, 1)
        assert self.predict.bias is not None
        nn.init.normal_(self.predict.weight, std=0.001 * SCOPE)
        self.predict.bias.data.copy_((torch.tensor(phase) - 0.5) / 2)
        self.window, self.act = BorderSample(), act

    def forward(self, x: Any) -> Any:
        return self.act(self.window(x, self.predict(x)))


class DySample(DynamicBlock):
    """Twice the height and width of a map that is not negative. Factor and start are part of the parameters."""

    def __init__(self, cin: int) -> None:
        super().__init__()
        act = nn.Identity()
        self.phases = nn.ModuleList(Phase(cin, phase, act) for phase in PHASES)

    def forward(self, x: Any) -> Any:
        return mapped(concat(*(phase(x) for phase in self.phases)), spread)

    def quantize(self, make: Layers, name: str) -> None:
        act = make.act(nn.ReLU())
        for k, phase in enumerate(self.phases):
            assert isinstance(phase, Phase)
            phase.predict = make.conv(phase.predict, "offset", f"{name}.phases.{k}.predict")
            phase.window.exact, phase.act = True, act


class DySampleBlock(nn.Module):
    """Depthwise 3x3, 1x1 + BN + ReLU, DySample in the place of nearest x2."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.dw = ConvBlock(cin, cin, 3, groups=cin, relu=False, role="dw")
        self.dw.bn = nn.Identity()  # as in `WindowBlock`
        self.pw = ConvBlock(cin, cout)
        self.up = DySample(cout)

    def forward(self, x: Any) -> Any:
        return self.up(self.pw(self.dw(x)))
