"""Small whole weights that no training changes, as a layer of its own so that the file names them after it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Whole(nn.Module):
    """Weights for an input `x`; in a file, constants that are quantized to codes of so many bits."""

    def __init__(self, bits: int = 2) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        if torch.jit.is_tracing():
            from quant.dynamic.sample_nodes import traced_whole  # which knows onnx

            return traced_whole(x, weight, self.bits)
        return weight
