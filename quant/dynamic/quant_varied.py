"""The quantized twin of TVConv: its weights are parameters, with one scale a channel."""

from __future__ import annotations

from typing import Any

import torch
from brevitas.nn.quant_layer import QuantWeightBiasInputOutputLayer
from torch import Tensor

from quant.dynamic.tvconv import VariedConv2d, varied
from quant.layers import plain


class QuantVariedConv2d(QuantWeightBiasInputOutputLayer, VariedConv2d):
    """Depthwise 3x3 with quantized weights (C,9,H,W)."""

    output_channel_dim = 0
    channelwise_separable = True

    def __init__(self, weight: Tensor, weight_quant: type) -> None:
        VariedConv2d.__init__(self, weight)
        self.register_parameter("bias", None)
        QuantWeightBiasInputOutputLayer.__init__(
            self,
            weight_quant=weight_quant,
            bias_quant=None,
            input_quant=None,
            output_quant=None,
            return_quant_tensor=False,
        )
        self.weight_quant.tensor_quant.fit(self.weight)

    def max_acc_bit_width(self, input_bit_width: Tensor, quant_weight_bit_width: Tensor) -> Tensor:
        return input_bit_width + quant_weight_bit_width + 4.0

    def forward(self, x: Any) -> Any:
        if not self.training:
            return self.forward_impl(x)
        proxy = self.weight_quant
        w = proxy.tensor_quant.quantize(self.weight) if proxy.is_quant_enabled else self.weight
        return varied(plain(x), w)

    def inner_forward_impl(self, x: Any, quant_weight: Any, quant_bias: Any) -> Any:
        v, w = plain(x), plain(quant_weight)
        if torch.jit.is_tracing():
            from quant.dynamic.sample_nodes import traced_varied

            return traced_varied(v, w)
        return varied(v, w)
