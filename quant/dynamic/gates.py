"""Gates: a few numbers that an image decides, from the mean of a map. What all dynamic operators of the mixer share.

    r = f(FC(... mean over the map of x)),   f = sigmoid, or softmax over the gates

Quantized: the mean, the layers' results and r have codes of 8 bits, r in steps of 2^-8, so 255/256 is the most.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from quant.dynamic.block import DynamicBlock, Layers
from quant.dynamic.softmax import Softmax
from quant.layers import Conv2d, plain

GATE_LOG2 = -8
ROLE = "offset"  # of their weights: as what predicts offsets, few, and each decides for a whole map
Kind = Literal["sigmoid", "softmax"]


class Gate(DynamicBlock):
    """x (N,cin,H,W) -> (N,count,1,1). `hidden` channels between two layers; 0: one layer, as in CondConv."""

    def __init__(
        self, cin: int, hidden: int, count: int, kind: Kind = "sigmoid", signed: bool = False
    ) -> None:
        super().__init__()
        self.kind = kind
        self.mean_act: nn.Module = (
            nn.Identity() if signed else nn.ReLU()
        )  # `signed`: whether x has negative values
        self.squeeze: nn.Module | None = Conv2d(cin, hidden, 1) if hidden else None
        self.squeeze_act: nn.Module | None = nn.ReLU() if hidden else None
        self.excite: nn.Module = start_open(Conv2d(hidden or cin, count, 1))
        self.logit_act: nn.Module = nn.Identity()
        self.gate_act: nn.Module = nn.Identity() if kind == "sigmoid" else Softmax(count)

    def forward(self, x: Any) -> Any:
        return self.opened(self.logits(self.pooled(x)))

    def pooled(self, x: Any) -> Any:
        """(N,cin,1,1): what the gates see of the map."""
        return self.mean_act(plain(x).mean((2, 3), keepdim=True))

    def logits(self, pooled: Any) -> Any:
        if self.squeeze is not None and self.squeeze_act is not None:
            pooled = self.squeeze_act(self.squeeze(pooled))
        return self.logit_act(self.excite(pooled))

    def opened(self, logits: Any) -> Any:
        return self.gate_act(torch.sigmoid(plain(logits)) if self.kind == "sigmoid" else logits)

    def quantize(self, make: Layers, name: str) -> None:
        self.mean_act = make.act(self.mean_act)
        if self.squeeze is not None and self.squeeze_act is not None:
            self.squeeze = make.conv(self.squeeze, ROLE, f"{name}.squeeze")  # type: ignore[arg-type]
            self.squeeze_act = make.act(self.squeeze_act)
        self.excite = make.conv(self.excite, ROLE, f"{name}.excite")  # type: ignore[arg-type]
        if self.kind == "sigmoid":
            self.logit_act = make.act(self.logit_act)
            self.gate_act = make.fixed(GATE_LOG2)


def start_open(conv: nn.Conv2d, bias: float = 0.0) -> nn.Conv2d:
    """Gates that do not depend on the image yet, but for a little noise that tells them apart."""
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, bias)
    return conv
