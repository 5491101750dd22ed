"""Pick-or-Mix (arXiv 2406.10935): sets of channels become one channel each, their largest value or their mean.

    y_s = r_s * max over z of x_(z*S + s)      if r_s < threshold       (pick)
          r_s * mean over z of x_(z*S + s)     otherwise                (mix)
    r = sigmoid(FC(mean of x)),   S sets of `parts` channels

The choice is made for a map, the largest is found for each pixel. Sets are strided: channels of one set lie S apart;
in the published code they lie beside each other, which is another order of the channels before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from quant.dynamic.block import DynamicBlock, Layers
from quant.dynamic.gates import Gate
from quant.dynamic.mix_nodes import traced_pick_or_mix
from quant.layers import ConvBlock, plain, upsample

PARTS, THRESHOLD = 2, 0.5


class PickOrMix(nn.Module):
    """(N,parts*S,H,W), (N,S,1,1) -> (N,S,H,W)."""

    products = 1  # multiply-accumulates of one value

    def __init__(self, parts: int, threshold: float) -> None:
        super().__init__()
        if parts not in (2, 4, 8, 16):
            raise ValueError(f"PickOrMix: sets of {parts} channels, expected 2, 4, 8 or 16")
        self.parts, self.threshold = parts, threshold

    def forward(self, x: Any, r: Any) -> Tensor:
        maps, gates = plain(x), plain(r)
        if torch.jit.is_tracing():
            return traced_pick_or_mix(maps, gates, self.parts, self.threshold)
        sets = maps.unflatten(1, (self.parts, -1))
        return torch.where(gates < self.threshold, sets.amax(1), sets.mean(1)) * gates


class PickOrMixBlock(DynamicBlock):
    """Pick-or-Mix to half of the channels, depthwise 3x3, 1x1 + BN + ReLU, nearest x2."""

    def __init__(self, cin: int, cout: int, parts: int = PARTS, threshold: float = THRESHOLD) -> None:
        super().__init__()
        self.pick = PickOrMix(parts, threshold)
        sets = cin // parts
        self.gate = Gate(cin, 0, sets)
        self.pick_act: nn.Module = nn.ReLU()  # of what is not negative
        self.dw = ConvBlock(sets, sets, 3, groups=sets, relu=False, role="dw")
        self.dw.bn = nn.Identity()  # as behind the deformable window
        self.pw = ConvBlock(sets, cout)

    def forward(self, x: Any) -> Any:
        return upsample(self.pw(self.dw(self.pick_act(self.pick(x, self.gate(x))))))

    def quantize(self, make: Layers, name: str) -> None:
        self.pick_act = make.act(self.pick_act)
