"""The layers of a quantized twin: convolutions whose weights, and activations whose results, are quantized.

In training mode they work on plain tensors; in evaluation mode scales travel with the values (quant.quantize).
"""

from __future__ import annotations

from typing import Any

import brevitas.nn as qnn
import torch
from brevitas.nn.quant_layer import QuantWeightBiasInputOutputLayer
from brevitas.proxy.runtime_quant import ActQuantProxyFromInjectorBase
from torch import Tensor

from quant.deform import DeformConv2d
from quant.layers import convolve, plain
from quant.onnx_ops import traced_deform_conv
from quant.quantizers import FakeQuant


def _trained_weight(layer: Any) -> Tensor:
    proxy = layer.weight_quant
    quantized: Tensor = proxy.tensor_quant.quantize(layer.weight) if proxy.is_quant_enabled else layer.weight
    return quantized


class QuantConv2d(qnn.QuantConv2d):
    """Convolution with quantized weights and bias. The result is the accumulator, a plain tensor."""

    def forward(self, input: Any) -> Any:
        if self.training:
            w = _trained_weight(self)
            return convolve(self, plain(input), w, self.bias)
        return self.forward_impl(input)

    def inner_forward_impl(self, x: Any, quant_weight: Any, quant_bias: Any) -> Any:
        bias = None if quant_bias is None else plain(quant_bias)
        return self._conv_forward(plain(x), plain(quant_weight), bias)


class QuantDeformConv2d(QuantWeightBiasInputOutputLayer, DeformConv2d):
    """Deformable convolution with quantized weights; rounds and clamps its offsets, in training too."""

    def __init__(self, source: DeformConv2d, weight_quant: type) -> None:
        cout, per_group = source.weight.shape[:2]
        DeformConv2d.__init__(
            self,
            per_group * source.groups,
            cout,
            source.groups,
            source.stride,
            source.offsets,
            source.sampling,
            source.bound,
            source.fraction_bits,
            source.masks,
            (source.weight.shape[2], source.weight.shape[3]),
        )
        if self.offsets == "bounded" and self.sampling == "bilinear":
            self.grid = self.fraction_bits  # only whole steps are exact
        self.register_parameter("bias", None)
        self.weight.data.copy_(source.weight.data)
        QuantWeightBiasInputOutputLayer.__init__(
            self,
            weight_quant=weight_quant,
            bias_quant=None,
            input_quant=None,
            output_quant=None,
            return_quant_tensor=False,
        )
        self._raw: Tensor | None = None
        self.weight_quant.tensor_quant.fit(self.weight)

    output_channel_dim = 0

    @property
    def channelwise_separable(self) -> bool:
        return self.depthwise

    def max_acc_bit_width(self, input_bit_width: Tensor, quant_weight_bit_width: Tensor) -> Tensor:
        taps = self.weight[0].numel()
        return input_bit_width + quant_weight_bit_width + float((taps - 1).bit_length())

    def forward(self, x: Any, raw: Any) -> Any:
        if self.training:
            return self.sample(plain(x), self.limit(plain(raw)), _trained_weight(self))
        self._raw = plain(raw)
        try:
            return self.forward_impl(x)
        finally:
            self._raw = None

    def inner_forward_impl(self, x: Any, quant_weight: Any, quant_bias: Any) -> Any:
        assert self._raw is not None
        if torch.jit.is_tracing():
            return traced_deform_conv(self, plain(x), self._raw, plain(quant_weight))
        return self.sample(plain(x), self.limit(self._raw), plain(quant_weight))


def _train_quantizer(proxy: ActQuantProxyFromInjectorBase) -> FakeQuant:
    quantizer = proxy.fused_activation_quant_proxy.tensor_quant
    assert isinstance(quantizer, FakeQuant)
    return quantizer


class QuantReLU(qnn.QuantReLU):
    """ReLU and u8 quantizer in one: the clamp at code 0 is the ReLU."""

    def forward(self, input: Any) -> Any:
        if self.training and self.act_quant.is_quant_enabled:
            return _train_quantizer(self.act_quant).quantize(plain(input))
        return super().forward(input)


class QuantIdentity(qnn.QuantIdentity):
    """Quantizer of a tensor that no ReLU precedes."""

    def forward(self, input: Any) -> Any:
        if self.training and self.act_quant.is_quant_enabled:
            return _train_quantizer(self.act_quant).quantize(plain(input))
        return super().forward(input)
