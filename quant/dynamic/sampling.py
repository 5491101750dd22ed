"""Sums of samples that are weighted at each pixel, without weights of their own: what DCNv4 and Involution share.

    y_c(p) = sum over k of  m_k(p) * x_c(p + p_k + o_k(p)),      p_k in {-1,0,1}^2, zero outside the map

o_k and m_k are predicted at each pixel, m_k without softmax: DCNv4 (arXiv 2401.06197, section 3.1). Without o_k it is
Involution (arXiv 2103.06255, equation 4). Both are computed for groups of channels, each with its own o_k and m_k.
Hardware has offsets within a bound in steps of 2^-fraction_bits, and masks as codes of 8 bits in steps of 2^-MASK_BITS.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.clamps import clamp, round_clamp
from quant.deform import TAPS, deform_conv
from quant.dynamic.block import DynamicBlock, Layers
from quant.dynamic.whole import Whole
from quant.layers import Conv2d, ConvBlock, concat, mapped, plain, upsample

MASK_BITS, MASK_CODES = 5, (-128, 127)
MASKS = MASK_CODES[0] * 2.0**-MASK_BITS, MASK_CODES[1] * 2.0**-MASK_BITS  # about -4 to 4
OFFSETS = 2 * len(TAPS)  # channels before the masks


class SampledSum(nn.Module):
    """`forward` takes x (N,C,H,W) and what was predicted (N,27,H,W): 18 offsets, row before column, and 9 masks.

    Where it does not move, the 18 are zero, or left out; they are not read, so they stay zero while training.
    `exact`: rounds as hardware does; its quantized twin is.
    """

    products = len(TAPS)  # multiply-accumulates of one value

    def __init__(self, bound: int = 1, fraction_bits: int = 0, moves: bool = True) -> None:
        super().__init__()
        if bound < 1 or not 0 <= fraction_bits <= 4:
            raise ValueError(
                f"SampledSum: bound {bound}, fraction_bits {fraction_bits}, expected at least 1, and 0 to 4"
            )
        self.bound, self.fraction_bits, self.moves = bound, fraction_bits, moves
        self.exact = False
        self.weight_quant = Whole()

    @property
    def channels(self) -> int:
        """That are predicted."""
        return OFFSETS * self.moves + len(TAPS)

    def forward(self, x: Any, predicted: Any) -> Tensor:
        v, raw = plain(x), plain(predicted)
        ones = self.weight_quant(v, v.new_ones(v.shape[1], 1, 3, 3))
        if torch.jit.is_tracing():
            from quant.onnx_ops import traced_sampled_sum

            return traced_sampled_sum(self, v, raw, ones)
        masks = self._limited(raw[:, -len(TAPS) :], *MASKS, MASK_BITS)
        if not self.moves:
            return _shifted_sum(v, masks)
        offsets = self._limited(raw[:, :OFFSETS], -self.bound, self.bound, self.fraction_bits)
        return deform_conv(v, offsets, ones, groups=v.shape[1], mask=masks)

    def _limited(self, raw: Tensor, low: float, high: float, bits: int) -> Tensor:
        return round_clamp(raw, low, high, bits) if self.exact else clamp(raw, low, high)

    def extra_repr(self) -> str:
        return f"bound={self.bound}, fraction_bits={self.fraction_bits}" if self.moves else "does not move"


def shifted(x: Tensor) -> Iterator[Tensor]:
    """The map that each of the nine taps sees."""
    h, w = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1))
    for i, j in TAPS:
        yield padded[:, :, 1 + i : 1 + i + h, 1 + j : 1 + j + w]


def _shifted_sum(x: Tensor, masks: Tensor) -> Tensor:
    """Sum of the nine shifted maps, each times its mask (N,9,H,W)."""
    y = torch.zeros_like(x)
    for k, part in enumerate(shifted(x)):
        y = y + part * masks[:, k : k + 1]
    return y


class Group(nn.Module):
    """One group of channels: its prediction from a map, its sampled sum, and the quantizer that all groups share.

    At first nothing moves, and of each window the middle is all but kept.
    """

    def __init__(self, cin: int, window: SampledSum, act: nn.Module) -> None:
        super().__init__()
        self.predict: nn.Conv2d = Conv2d(cin, window.channels, 1)
        self.window, self.act = window, act
        nn.init.zeros_(self.predict.weight)
        nn.init.zeros_(self.predict.bias)
        masks = self.predict.bias.data[-len(TAPS) :]
        masks.normal_(std=0.1)
        masks[len(TAPS) // 2] += 1

    def forward(self, x: Any, source: Any) -> Any:
        return self.act(self.window(x, self.predict(source)))


class SampledBlock(DynamicBlock):
    """Sampled sums of groups of channels, 1x1 + BN + ReLU, nearest x2. `source`: channels that predictions read."""

    def __init__(
        self, cin: int, cout: int, source: int, groups: int, bound: int, fraction_bits: int, moves: bool
    ) -> None:
        super().__init__()
        if cin % groups:
            raise ValueError(f"{type(self).__name__}: {cin} channels in {groups} groups, expected a multiple")
        act = nn.Identity()
        windows = (SampledSum(bound, fraction_bits, moves) for _ in range(groups))
        self.groups = nn.ModuleList(Group(source, window, act) for window in windows)
        self.pw = ConvBlock(cin, cout)

    def source(self, x: Any) -> Any:
        """What predictions are made from."""
        return x

    def forward(self, x: Any) -> Any:
        source, size = self.source(x), plain(x).shape[1] // len(self.groups)
        parts = (mapped(x, lambda v, g=g: v[:, g * size : (g + 1) * size]) for g in range(len(self.groups)))
        sums = [group(part, source) for group, part in zip(self.groups, parts, strict=True)]
        return upsample(self.pw(concat(*sums)))

    def quantize(self, make: Layers, name: str) -> None:
        act = make.act(nn.Identity())
        for g, group in enumerate(self.groups):
            assert isinstance(group, Group)
            conv = group.predict if group.window.moves else _with_offsets(group.predict)
            group.predict = make.conv(conv, "offset", f"{name}.groups.{g}.predict")
            group.window.exact = True
            group.act = act


def _with_offsets(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution that predicts masks, with the rows of zero that stand for offsets before them."""
    wide = Conv2d(conv.in_channels, OFFSETS + conv.out_channels, 1)
    for mine, theirs in ((wide.weight, conv.weight), (wide.bias, conv.bias)):
        assert mine is not None and theirs is not None
        nn.init.zeros_(mine)
        mine.data[OFFSETS:] = theirs.data
    return wide
