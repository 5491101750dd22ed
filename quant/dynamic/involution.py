"""Involution (arXiv 2103.06255): the weights of a 3x3 window are made at each pixel, for groups of channels."""

from __future__ import annotations

from typing import Any

from quant.dynamic.sampling import SampledBlock
from quant.layers import ConvBlock

GROUPS, REDUCTION = 4, 4


class InvolutionBlock(SampledBlock):
    """The weights of a pixel's window come from its own channels, through 1x1 + BN + ReLU and another 1x1."""

    def __init__(self, cin: int, cout: int, groups: int = GROUPS, reduction: int = REDUCTION) -> None:
        hidden = max(1, cin // reduction)
        super().__init__(cin, cout, hidden, groups, bound=1, fraction_bits=0, moves=False)
        self.reduce = ConvBlock(cin, hidden)

    def source(self, x: Any) -> Any:
        return self.reduce(x)
