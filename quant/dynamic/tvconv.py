"""TVConv (arXiv 2203.10489): a depthwise 3x3 whose weights differ from place to place, and not from image to image.

    y_c(p) = sum over k of  w_c,k(p) * x_c(p + p_k),      w = a small network of affinity maps, which are learned

Once trained, w is a constant: the quantized twin holds it as the weights of one map's size, and learns those.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.dynamic.block import DynamicBlock, Layers
from quant.dynamic.sampling import TAPS, shifted
from quant.layers import ConvBlock, plain, upsample

AFFINITY, HIDDEN = 4, 16


def varied(x: Tensor, weight: Tensor) -> Tensor:
    """x (N,C,H,W) with weights (C,9,H,W)."""
    if x.shape[1:] != (weight.shape[0], *weight.shape[2:]):
        raise ValueError(
            f"TVConv: weights for {list(weight.shape[2:])} pixels, a map of {list(x.shape[2:])}. "
            "Train and export at one size."
        )
    y = torch.zeros_like(x)
    for k, part in enumerate(shifted(x)):
        y = y + part * weight[:, k]
    return y


class VariedConv2d(nn.Module):
    """Depthwise 3x3 with weights (C,9,H,W) as they are."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())

    def forward(self, x: Any) -> Tensor:
        return varied(plain(x), self.weight)


class Constants(nn.Sequential):
    """Layers that do not see the image: what they compute is known in advance and counts no products."""

    in_advance = True


class TVConv(nn.Module):
    """Weights from affinity maps of the map's size; at first each is the middle tap and a little noise."""

    products = len(TAPS)

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.affinity = nn.Parameter(torch.randn(1, AFFINITY, *size))
        self.make = Constants(
            nn.Conv2d(AFFINITY, HIDDEN, 3, padding=1),
            nn.GroupNorm(1, HIDDEN),
            nn.ReLU(),
            nn.Conv2d(HIDDEN, channels * len(TAPS), 1),
        )
        last = self.make[-1]
        nn.init.normal_(last.weight, std=0.02)
        nn.init.normal_(last.bias, std=0.1)
        with torch.no_grad():
            last.bias[len(TAPS) // 2 :: len(TAPS)] += 1

    def resized(self, affinity: Tensor) -> Tensor:
        """The affinity maps of another size at this one's."""
        size = self.affinity.shape[2:]
        return affinity if affinity.shape[2:] == size else F.interpolate(affinity, size, mode="bilinear")

    def weights(self) -> Tensor:
        """(C,9,H,W)."""
        made: Tensor = self.make(self.affinity)
        return made[0].unflatten(0, (-1, len(TAPS)))

    def forward(self, x: Any) -> Tensor:
        return varied(plain(x), self.weights())


class TVConvBlock(DynamicBlock):
    """TVConv, 1x1 + BN + ReLU, nearest x2. `size`: of the map that it takes."""

    def __init__(self, cin: int, cout: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.dw: nn.Module = TVConv(cin, size)
        self.act: nn.Module = nn.Identity()
        self.pw = ConvBlock(cin, cout)

    def forward(self, x: Any) -> Any:
        return upsample(self.pw(self.act(self.dw(x))))

    def quantize(self, make: Layers, name: str) -> None:
        from quant.dynamic.quant_varied import QuantVariedConv2d  # which needs Brevitas

        assert isinstance(self.dw, TVConv)
        self.dw = QuantVariedConv2d(self.dw.weights(), make.weights("dw", f"{name}.dw"))
        self.act = make.act(self.act)
