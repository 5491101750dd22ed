"""Dynamic operators: each a block of the decoder, (N, cin, H, W) to (N, cout, 2H, 2W)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from quant.dynamic.dcnv4 import DCNv4Block
from quant.dynamic.involution import InvolutionBlock

if TYPE_CHECKING:
    from quant.models import ModelConfig

# By `ModelConfig.spatial`: what makes a stage of the decoder.
BLOCKS: dict[str, Callable[[ModelConfig, int, int], nn.Module]] = {
    "dcnv4": lambda config, cin, cout: DCNv4Block(cin, cout, config.bound, config.fraction_bits),
    "involution": lambda config, cin, cout: InvolutionBlock(cin, cout),
}
