"""Convolutions whose weights are a mixture that the image decides: CondConv and its relatives.

    y = conv(x, W),   W[o] = sum over k of r_k(x) * W_k[o]

CondConv (arXiv 1904.04971) takes r = sigmoid(FC(mean of x)), dynamic convolution (arXiv 1912.03458; ParameterNet,
arXiv 2306.14525) a softmax behind two layers. Quantized, the kernels W_k have codes of BANK_BITS bits and one scale a
channel o for all k, r has codes of 8 bits, and the mixture is rounded to a scale that is fixed a channel:

    W[o] = s_o * clamp(round_half_even(sum over k of r_k * W_k[o] / s_o), -most, most)

All scales are powers of two, so every sum is a whole number of steps: floats hold it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from brevitas.nn.quant_layer import QuantWeightBiasInputOutputLayer
from torch import Tensor, nn

from quant.dynamic.block import DynamicBlock, Layers
from quant.dynamic.mix_nodes import traced_mixed_conv
from quant.layers import fold_batch_norm, plain
from quant.quantizers import FakeQuant
from quant.scales import best_log2_scale

BANK_BITS = 8


class MixedConv2d(nn.Module):
    """Dense KxK of stride 1. `forward(x, r)`: x (N,cin,H,W), r (N,experts,1,1) -> (N,cout,H,W).

    Weight (cout, experts * cin, K, K): kernels beside each other, so that its first axis is that of its scales.
    """

    def __init__(self, cin: int, cout: int, kernel: int, experts: int) -> None:
        super().__init__()
        self.cin, self.cout, self.kernel, self.experts = cin, cout, kernel, experts
        self.weight = nn.Parameter(torch.empty(cout, experts * cin, kernel, kernel))
        self.bias: nn.Parameter | None = None
        fan_out = cout * kernel * kernel  # of one kernel, as in a plain convolution
        nn.init.normal_(self.weight, std=math.sqrt(2.0 / fan_out))

    @property
    def products(self) -> int:
        """Multiply-accumulates of one value of the result."""
        return self.cin * self.kernel**2

    @property
    def mixing(self) -> int:
        """Those of the mixture, for an image."""
        return self.experts * self.cout * self.products

    def bank(self) -> Tensor:
        """The kernels, as `weight` lies."""
        return self.weight

    def settled(self) -> MixedConv2d:
        """The same with its kernels as weights, however they are trained."""
        return self

    def forward(self, x: Tensor, r: Tensor) -> Tensor:
        return mixed_conv(x, mixture(self.bank(), r), self.bias)

    def extra_repr(self) -> str:
        return f"{self.cin}, {self.cout}, kernel={self.kernel}, experts={self.experts}"


def mixture(bank: Tensor, r: Tensor) -> Tensor:
    """Weights of each image: bank (cout, K * cin, kh, kw) and r (N, K, 1, 1) -> (N, cout, cin, kh, kw)."""
    cout, _, kh, kw = bank.shape
    n, experts = r.shape[:2]
    kernels = bank.reshape(cout, experts, -1).transpose(0, 1).reshape(experts, -1)
    return (r.flatten(1) @ kernels).view(n, cout, -1, kh, kw)


def mixed_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Each image with weights of its own: (N,cin,H,W), (N,cout,cin,K,K) -> (N,cout,H,W)."""
    n, cin, h, w = x.shape
    cout, kernel = weight.shape[1], weight.shape[3]
    if kernel == 1:
        y = torch.bmm(weight.flatten(2), x.flatten(2)).view(n, cout, h, w)
    else:
        every = x.reshape(1, n * cin, h, w)
        y = F.conv2d(every, weight.flatten(0, 1), padding=kernel // 2, groups=n).view(n, cout, h, w)
    return y if bias is None else y + bias.view(1, -1, 1, 1)


class QuantMixedConv2d(QuantWeightBiasInputOutputLayer, nn.Module):
    """The same with quantized kernels, mixture and bias. The result is the accumulator, a plain tensor."""

    output_channel_dim = 0
    channelwise_separable = False

    def __init__(self, source: MixedConv2d, bank: type, bits: int) -> None:
        nn.Module.__init__(self)
        self.experts, self.kernel = source.experts, source.kernel
        self.weight = nn.Parameter(source.bank().detach().clone())
        self.bias = None if source.bias is None else nn.Parameter(source.bias.detach().clone())
        QuantWeightBiasInputOutputLayer.__init__(
            self,
            weight_quant=bank,
            bias_quant=None,
            input_quant=None,
            output_quant=None,
            return_quant_tensor=False,
        )
        quantizer = self.weight_quant.tensor_quant
        quantizer.fit(self.weight)
        learned = isinstance(quantizer.log2_scale, nn.Parameter)
        self.mixed = MixtureFakeQuant(len(self.weight), bits, learned)
        self.fit(torch.full((1, self.experts, 1, 1), 1.0 / self.experts, device=self.weight.device))
        self._gates: Any = None

    @torch.no_grad()
    def fit(self, r: Tensor) -> None:
        """Take the mixture's scales that suit the gates r (N,experts,1,1) of some images."""
        self.mixed.fit(_channels_first(mixture(self.weight, r)))

    def max_acc_bit_width(self, input_bit_width: Tensor, quant_weight_bit_width: Tensor) -> Tensor:
        taps = self.weight[0].numel() // self.experts
        return input_bit_width + float(self.mixed.bits) + float((taps - 1).bit_length())

    def forward(self, x: Any, r: Any) -> Any:
        if self.training:
            proxy = self.weight_quant
            quantized = proxy.is_quant_enabled
            bank = proxy.tensor_quant.quantize(self.weight) if quantized else self.weight
            return mixed_conv(plain(x), self._mixed(bank, plain(r)), self.bias)
        self._gates = r
        try:
            return self.forward_impl(x)
        finally:
            self._gates = None

    def inner_forward_impl(self, x: Any, quant_weight: Any, quant_bias: Any) -> Any:
        bank, r, bias = plain(quant_weight), plain(self._gates), self.rounded_bias(x)
        if torch.jit.is_tracing():
            held = torch.zeros(len(bank)) if bias is None else bias
            return traced_mixed_conv(self, plain(x), bank, r, _constant(self.mixed.scale()), _constant(held))
        return mixed_conv(plain(x), self._mixed(bank, r), bias)

    def _mixed(self, bank: Tensor, r: Tensor) -> Tensor:
        weights = mixture(bank, r)
        if not self.weight_quant.is_quant_enabled:
            return weights
        n, cout, cin, kh, kw = weights.shape
        rounded = self.mixed.quantize(_channels_first(weights))
        return rounded.reshape(cout, n, cin, kh, kw).transpose(0, 1)

    def rounded_bias(self, x: Any) -> Tensor | None:
        """In whole steps of the accumulator where all else is quantized."""
        if self.bias is None or not self.weight_quant.is_quant_enabled or not hasattr(x, "scale"):
            return self.bias
        step = (x.scale * self.mixed.scale()).flatten()
        limit = 2.0**31 - 1
        return (self.bias / step).round().clamp(-limit, limit) * step


def _constant(values: Tensor) -> Tensor:
    """Numbers that a trace keeps as they are, however they were computed."""
    return torch.from_numpy(values.detach().numpy().copy())


def _channels_first(weights: Tensor) -> Tensor:
    """(N,cout,cin,kh,kw) -> (cout,N*cin,kh,kw), as quantizers of weights take them."""
    return weights.transpose(0, 1).flatten(1, 2)


class MixtureFakeQuant(FakeQuant):
    """Rounds mixed weights: powers of two, one an output channel."""

    def __init__(self, channels: int, bits: int, learned: bool) -> None:
        super().__init__(torch.zeros(channels), bits, True, True, 1, learned)

    @torch.no_grad()
    def fit(self, weights: Tensor) -> None:
        """Take the scales of least squared error for weights (cout,...)."""
        self.log2_scale.copy_(best_log2_scale(weights, self.hi))


class MixedBlock(DynamicBlock):
    """Mixed convolution with gates, batch norm, ReLU. `forward(x, r)`."""

    role = "pw"  # decides the bits of the mixed weights

    def __init__(self, conv: MixedConv2d) -> None:
        super().__init__()
        self.conv: nn.Module = conv
        self.bn: nn.Module = nn.BatchNorm2d(conv.cout)
        self.act: nn.Module = nn.ReLU()

    def forward(self, x: Any, r: Any) -> Any:
        return self.act(self.bn(self.conv(x, r)))

    def fold(self) -> None:
        assert isinstance(self.conv, MixedConv2d)
        self.conv = self.conv.settled()
        if isinstance(self.bn, nn.BatchNorm2d):
            fold_batch_norm(self.conv, self.bn)
            self.bn = nn.Identity()

    def quantize(self, make: Layers, name: str) -> None:
        assert isinstance(self.conv, MixedConv2d)
        bank = make.weights(self.role, f"{name}.conv", BANK_BITS).let(mantissa=1)
        self.conv = QuantMixedConv2d(self.conv, bank, make.bits(self.role, f"{name}.conv"))
        self.act = make.act(self.act)
