"""What a block with layers of its own kind tells `quant.quantize`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from torch import nn

from quant.deform import DeformConv2d


class Layers(Protocol):
    """Makes quantized layers as the preset says."""

    def conv(self, conv: nn.Conv2d, role: str, name: str) -> nn.Conv2d:
        """`role` and the layer's full `name` decide the bits of its weights."""

    def act(self, act: nn.Module) -> nn.Module:
        """An unsigned quantizer of a ReLU, a signed one of an Identity."""

    def deform(self, conv: DeformConv2d, name: str) -> DeformConv2d:
        """Rounds and clamps its offsets; its weights as the preset's of deformable layers."""

    def fixed(self, log2: int, signed: bool = False) -> nn.Module:
        """A quantizer of 8 bits in steps of 2^log2, which neither calibration nor training changes."""

    def bits(self, role: str, name: str) -> int:
        """Of the weights of a layer."""

    def weights(self, role: str, name: str, bits: int | None = None) -> type:
        """The injector of weights that a layer of one's own kind has; `bits` in place of the preset's."""


class DynamicBlock(nn.Module, ABC):
    """A block whose layers are more than `ConvBlock`s, which `quantize_model` finds by itself."""

    def fold(self) -> None:
        """Bring batch norms into what they follow, in place."""

    @abstractmethod
    def quantize(self, make: Layers, name: str) -> None:
        """Replace own convolutions and activations; the block is called `name`."""
