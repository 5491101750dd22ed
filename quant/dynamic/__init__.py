"""Dynamic operators: each a block of the decoder, (N, cin, H, W) to (N, cout, 2H, 2W)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from quant.dynamic.channel_gate import SelectiveKernelBlock, SqueezeExciteBlock
from quant.dynamic.condconv import REDUCTION, CondConvBlock
from quant.dynamic.dcnv4 import DCNv4Block
from quant.dynamic.dysample import DySampleBlock
from quant.dynamic.fdconv import FDConvBlock
from quant.dynamic.involution import InvolutionBlock
from quant.dynamic.pick_or_mix import PickOrMixBlock
from quant.dynamic.skip import SkipBlock
from quant.dynamic.snake import SnakeBlock
from quant.dynamic.tvconv import TVConvBlock

if TYPE_CHECKING:
    from quant.models import ModelConfig


def _tvconv(config: ModelConfig, cin: int, cout: int) -> nn.Module:
    """The stage of the decoder, and so the size of its map, follows from its channels."""
    ins = (config.widths[4], *config.decoder[:2])
    if ins.count(cin) != 1:
        raise ValueError(
            f"TVConv: stages of the decoder take {ins} channels, expected different numbers. Widen one."
        )
    h, w = (s // (32 >> ins.index(cin)) for s in config.size)
    return TVConvBlock(cin, cout, (h, w))


# By `ModelConfig.spatial`: what makes a stage of the decoder.
BLOCKS: dict[str, Callable[[ModelConfig, int, int], nn.Module]] = {
    "dcnv4": lambda config, cin, cout: DCNv4Block(cin, cout, config.bound, config.fraction_bits),
    "dysample": lambda config, cin, cout: DySampleBlock(cin, cout),
    "involution": lambda config, cin, cout: InvolutionBlock(cin, cout),
    "snake": lambda config, cin, cout: SnakeBlock(cin, cout, config.fraction_bits),
    "tvconv": _tvconv,
    "condconv": lambda config, cin, cout: CondConvBlock(cin, cout),
    "condconv-dense": lambda config, cin, cout: CondConvBlock(cin, cout, 3),
    "parameternet": lambda config, cin, cout: CondConvBlock(cin, cout, kind="softmax", reduction=REDUCTION),
    "fdconv": lambda config, cin, cout: FDConvBlock(cin, cout),
    "pick-or-mix": lambda config, cin, cout: PickOrMixBlock(cin, cout),
    "selective-kernel": lambda config, cin, cout: SelectiveKernelBlock(cin, cout),
    "selective-kernel-3": lambda config, cin, cout: SelectiveKernelBlock(cin, cout, (3, 3, 5)),
    "selective-kernel-4": lambda config, cin, cout: SelectiveKernelBlock(cin, cout, (3, 3, 5, 5)),
    "skip": lambda config, cin, cout: SkipBlock(cin, cout),
    "squeeze-excite": lambda config, cin, cout: SqueezeExciteBlock(cin, cout),
}
