"""CondConv and dynamic convolution as stages of the decoder: kernels mixed by gates of the stage's input.

condconv            depthwise 3x3, then a mixture of 1x1, gates a sigmoid of one layer (arXiv 1904.04971, section 3)
condconv-dense      a mixture of dense 3x3
parameternet        as condconv, gates a softmax behind two layers (arXiv 2306.14525, section 3.2; arXiv 1912.03458)
"""

from __future__ import annotations

from typing import Any

from torch import nn

from quant.dynamic.gates import Gate, Kind
from quant.dynamic.mixed_conv import MixedBlock, MixedConv2d
from quant.layers import ConvBlock, upsample

EXPERTS, REDUCTION = 4, 4


class CondConvBlock(nn.Module):
    """Depthwise 3x3, mixture of 1x1 + BN + ReLU, nearest x2; with a larger `kernel` a mixture of those alone."""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int = 1,
        experts: int = EXPERTS,
        kind: Kind = "sigmoid",
        reduction: int = 0,
    ) -> None:
        super().__init__()
        hidden = max(4, cin // reduction) if reduction else 0
        self.gate = Gate(cin, hidden, experts, kind)
        self.dw: nn.Module = nn.Identity()
        if kernel == 1:
            self.dw = ConvBlock(cin, cin, 3, groups=cin, relu=False, role="dw")
            self.dw.bn = nn.Identity()  # as behind the deformable window
        self.mix = MixedBlock(self.convolution(cin, cout, kernel, experts))

    def convolution(self, cin: int, cout: int, kernel: int, experts: int) -> MixedConv2d:
        return MixedConv2d(cin, cout, kernel, experts)

    def forward(self, x: Any) -> Any:
        return upsample(self.mix(self.dw(x), self.gate(x)))
