"""Layers with fixed numbers, as hls4ml's PyTorch parser takes them: it looks modules up by the name of their class, and
traces into all but its own kind. codesign/hls4ml/parsers.py and parsers_mix.py have the handlers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from hls4ml.utils.torch import HLS4MLModule
from torch import Tensor, nn

from quant.deform import square_depthwise
from quant.dynamic.channel_gate import ChannelMix
from quant.dynamic.mixed_conv import QuantMixedConv2d, mixed_conv
from quant.quant_layers import QuantConv2d, QuantDeformConv2d, QuantIdentity, QuantReLU
from quant.scales import quantize_to

# No class name may contain "Conv": hls4ml would take it for one of torch's.


class FixedWindow(HLS4MLModule):
    """A convolution with fixed parameters; the result is the sum."""

    def __init__(self, layer: QuantConv2d | nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.stride, self.padding, self.groups = layer.stride, layer.padding, layer.groups
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(weight.shape[0]) if bias is None else bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, 1, self.groups)


class FixedSquareDeform(HLS4MLModule):
    """The square deformable convolution of a map and its raw offsets, which it rounds and clamps."""

    def __init__(self, layer: QuantDeformConv2d, weight: Tensor) -> None:
        super().__init__()
        if (layer.offsets, layer.sampling, layer.depthwise) != ("square", "rounded", True):
            raise ValueError(
                f"FixedSquareDeform: {layer.offsets}, {layer.sampling} offsets, expected square, rounded ones of a "
                "depthwise layer. Train that variant."
            )
        self.stride, self.bound = layer.stride, layer.bound
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: Tensor, raw: Tensor) -> Tensor:
        used = raw.round().clamp(0, self.bound)
        return square_depthwise(x, used, self.weight, self.stride, self.bound)


class FixedQuantizer(HLS4MLModule):
    """Codes lo..hi of one power-of-two step, rounded half to even."""

    def __init__(self, layer: QuantIdentity | QuantReLU) -> None:
        super().__init__()
        quantizer = layer.act_quant.fused_activation_quant_proxy.tensor_quant
        self.lo, self.hi = int(quantizer.lo), int(quantizer.hi)
        self.scale = float(quantizer.scale())

    def forward(self, x: Tensor) -> Tensor:
        return quantize_to(x, torch.tensor(self.scale), self.lo, self.hi)


class FixedMean(HLS4MLModule):
    """Mean of a whole map, (N,C,H,W) -> (N,C,1,1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class FixedTable(HLS4MLModule):
    """A function between two quantizers: `values` of the codes lo..hi, that of code k at k modulo their count."""

    values: Tensor

    def __init__(
        self, before: FixedQuantizer, function: Callable[[Tensor], Tensor], after: FixedQuantizer
    ) -> None:
        super().__init__()
        self.lo, self.hi, self.scale = before.lo, before.hi, before.scale
        count = 1 << (self.hi - self.lo).bit_length()
        codes = torch.arange(self.lo, self.hi + 1)
        values = torch.zeros(count)
        values[codes % count] = after(function(codes * self.scale))
        self.register_buffer("values", values)

    def forward(self, x: Tensor) -> Tensor:
        return self.values[(x / self.scale).round().long() % len(self.values)]


class FixedGates(HLS4MLModule):
    """Maps beside each other, each times its gates, added up."""

    def __init__(self, layer: ChannelMix) -> None:
        super().__init__()
        self.parts = layer.products

    def forward(self, x: Tensor, r: Tensor) -> Tensor:
        return (x * r).unflatten(1, (self.parts, -1)).sum(1)


class FixedMixture(HLS4MLModule):
    """A convolution with kernels (cout,experts,cin,kh,kw) that gates mix, rounded to `bits` bits in steps (cout,)."""

    def __init__(self, layer: QuantMixedConv2d, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        cout, _, *kernel = weight.shape
        self.bits, self.most = int(layer.mixed.bits), int(layer.mixed.hi)
        self.weight = nn.Parameter(weight.reshape(cout, layer.experts, -1, *kernel), requires_grad=False)
        step = layer.mixed.scale().reshape(-1).expand(cout).clone()
        self.step = nn.Parameter(step, requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(cout) if bias is None else bias, requires_grad=False)

    def forward(self, x: Tensor, r: Tensor) -> Tensor:
        sums = torch.einsum("nk,okcij->nocij", r.flatten(1), self.weight)
        step = self.step.view(-1, 1, 1, 1)
        return mixed_conv(x, quantize_to(sums, step, -self.most, self.most), self.bias)
