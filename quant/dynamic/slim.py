"""Nested widths: one set of weights of which a narrower network uses the first channels (arXiv 1812.08928).

All widths are trained together, each with batch norms of its own, since their statistics differ. What is deployed is
`at(k)`: an ordinary network, quantized and exported like any other. Several of them run on one engine, each by a
program of its own, or in one program that chooses for each frame: quant/dynamic/ways.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from quant.layers import Conv2d, ConvBlock, plain


class SlimConvBlock(nn.Module):
    """A `ConvBlock` of several widths. `cins` and `couts` are its channels in each, the narrowest first.

    Depthwise where `depthwise` is set: then both are the same.
    """

    def __init__(
        self,
        cins: Sequence[int],
        couts: Sequence[int],
        kernel: int = 1,
        stride: int = 1,
        relu: bool = True,
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        self.cins, self.couts, self.relu, self.depthwise = tuple(cins), tuple(couts), relu, depthwise
        groups = self.cins[-1] if depthwise else 1
        self.conv = Conv2d(
            self.cins[-1], self.couts[-1], kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(c) for c in self.couts)

    def forward(self, x: Any, width: int) -> Any:
        groups = self.cins[width] if self.depthwise else 1
        weight, conv = self.weight(width), self.conv
        y = self.bns[width](F.conv2d(plain(x), weight, None, conv.stride, conv.padding, groups=groups))
        return F.relu(y) if self.relu else y

    @property
    def products(self) -> int:
        """Multiply-accumulates of one value of the widest."""
        return self.conv.weight[0].numel()

    def weight(self, width: int) -> torch.Tensor:
        """The first channels of the weights."""
        cin = 1 if self.depthwise else self.cins[width]
        return self.conv.weight[: self.couts[width], :cin]

    def at(self, width: int) -> ConvBlock:
        """The block of one width, with weights of its own."""
        cin, cout = self.cins[width], self.couts[width]
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        groups, role = (cin, "dw") if self.depthwise else (1, "pw")
        made = ConvBlock(cin, cout, kernel, stride, groups, self.relu, role)
        with torch.no_grad():
            made.conv.weight.copy_(self.weight(width))
        made.bn.load_state_dict(self.bns[width].state_dict())
        return made.train(self.training)


class Slim(nn.Module):
    """Blocks behind each other; `at(width)` is an nn.Sequential of plain blocks."""

    def __init__(self, *blocks: SlimConvBlock) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.widths = len(blocks[0].couts)
        for before, after in zip(blocks, blocks[1:], strict=False):
            if before.couts != after.cins:
                raise ValueError(
                    f"slim: a block takes {after.cins} channels, expected {before.couts}. Give it those."
                )

    def forward(self, x: Any, width: int) -> Any:
        for block in self.blocks:
            x = block(x, width)
        return x

    def at(self, width: int) -> nn.Sequential:
        return nn.Sequential(*(block.at(width) for block in self.blocks))  # type: ignore[operator]
