"""The blocks detectors are made of, in float. `quant.quantize` replaces their convolutions and activations.

A block names its `role` (which decides the bits of its weights) and `share` (blocks of one name get one activation
quantizer, because their outputs meet in a concatenation). Tensors between blocks are plain tensors or Brevitas
QuantTensors: everything that only moves data goes through `mapped`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.deform import DeformConv2d, Offsets, Sampling


def mapped(x: Any, f: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function that moves values but does not change them, keeping scale and bits of a QuantTensor."""
    return x.set(value=f(x.value)) if hasattr(x, "value") and hasattr(x, "set") else f(x)


def plain(x: Any) -> Tensor:
    """The values of a tensor or QuantTensor."""
    value: Tensor = x.value if hasattr(x, "value") and hasattr(x, "set") else x
    return value


def split(x: Any) -> tuple[Any, Any]:
    """First and second half of the channels."""
    half = plain(x).shape[1] // 2
    return mapped(x, lambda v: v[:, :half]), mapped(x, lambda v: v[:, half:])


def concat(a: Any, *more: Any) -> Any:
    """Concatenate channels. Quantized inputs must come from one shared quantizer, so that their scales are equal."""
    others = [plain(b) for b in more]
    return mapped(a, lambda v: torch.cat([v, *others], 1))


def _shuffle(v: Tensor, groups: int) -> Tensor:
    n, c, h, w = v.shape
    if torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():
        return v.reshape(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)
    # The same permutation on channel-last storage: one copy, and the memory format survives.
    rows = v.permute(0, 2, 3, 1).reshape(n, h, w, groups, c // groups).transpose(3, 4)
    return rows.reshape(n, h, w, c).permute(0, 3, 1, 2)


def shuffle(x: Any, groups: int = 2) -> Any:
    """Channel shuffle (ShuffleNet, arXiv 1707.01083): out[c * groups + g] = in[g * (C / groups) + c]."""
    return mapped(x, lambda v: _shuffle(v, groups))


def upsample(x: Any) -> Any:
    """Nearest neighbour, twice the height and width."""
    return mapped(x, lambda v: F.interpolate(v, scale_factor=2, mode="nearest"))


def convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What `conv` computes with other parameters. While training, a 1x1 is a matrix product on channel-last rows.

    On a CPU torch's own path for small batches is slower: in one trial, 256 x 256 on random input, config a went from
    14.5 to 19.6 images/s.
    """
    if conv.training and conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.groups == 1:
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def fold_batch_norm(conv: Any, bn: nn.BatchNorm2d) -> None:
    """Give `conv` the weights and bias of conv followed by bn in evaluation mode (computed in float64)."""
    mean, var = bn.running_mean, bn.running_var
    assert mean is not None and var is not None
    factor = (var.double() + bn.eps).rsqrt()
    if bn.affine:
        factor = factor * bn.weight.detach().double()
    bias = -mean.double() * factor
    if conv.bias is not None:
        bias = bias + conv.bias.detach().double() * factor
    if bn.affine:
        bias = bias + bn.bias.detach().double()
    weight = conv.weight.detach().double() * factor.view(-1, *[1] * (conv.weight.dim() - 1))
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype))
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype))


class Conv2d(nn.Conv2d):
    """Convolution that trains quickly on a CPU; see `convolve`."""

    def forward(self, x: Tensor) -> Tensor:
        return convolve(self, x, self.weight, self.bias)


class ConvBlock(nn.Module):
    """Convolution, batch norm, optional ReLU."""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        relu: bool = True,
        role: str = "pw",
        share: str | None = None,
    ) -> None:
        super().__init__()
        self.conv = Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(cout)
        self.act: nn.Module = nn.ReLU() if relu else nn.Identity()
        self.role, self.share = role, share

    def forward(self, x: Any) -> Any:
        return self.act(self.bn(self.conv(x)))


class OutputConv(nn.Module):
    """Last 1x1 convolution of a head: bias, no batch norm, raw output."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv = Conv2d(cin, cout, 1)
        self.act: nn.Module = nn.Identity()
        self.role, self.share = "head", None

    def forward(self, x: Any) -> Any:
        return self.act(self.conv(x))


class ShuffleUnit(nn.Module):
    """ShuffleNetV2 block (arXiv 1807.11164, figure 3 c and d). No residual addition anywhere."""

    def __init__(self, cin: int, cout: int, stride: int, share: str) -> None:
        super().__init__()
        self.stride, half = stride, cout // 2
        inner = cin if stride == 2 else half
        if stride == 2:
            self.branch1 = nn.Sequential(
                ConvBlock(cin, cin, 3, 2, groups=cin, relu=False, role="dw"),
                ConvBlock(cin, half, share=share),
            )
        self.branch2 = nn.Sequential(
            ConvBlock(inner, half),
            ConvBlock(half, half, 3, stride, groups=half, relu=False, role="dw"),
            ConvBlock(half, half, share=share),
        )

    def forward(self, x: Any) -> Any:
        if self.stride == 2:
            return shuffle(concat(self.branch1(x), self.branch2(x)))
        kept, used = split(x)
        return shuffle(concat(kept, self.branch2(used)))


def offset_conv(cin: int, dw: DeformConv2d) -> Conv2d:
    """The 1x1 convolution that predicts offsets and masks; at first they are those of an ordinary 3x3."""
    conv = Conv2d(cin, dw.offset_channels, 1)
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, 1.0 if dw.offsets == "square" else 0.0)
    if dw.masks:
        nn.init.ones_(conv.bias[18:])
    return conv


class DeformBlock(nn.Module):
    """Offset prediction, deformable depthwise 3x3, 1x1 + BN + ReLU, nearest x2 (CoDeNet's decoder stage)."""

    def __init__(
        self,
        cin: int,
        cout: int,
        offsets: Offsets,
        sampling: Sampling,
        bound: int,
        fraction_bits: int = 2,
        masks: bool = False,
    ) -> None:
        super().__init__()
        self.dw = DeformConv2d(cin, cin, cin, 1, offsets, sampling, bound, fraction_bits, masks)
        self.offset = offset_conv(cin, self.dw)
        self.dw_act: nn.Module = nn.Identity()  # takes the quantizer of the depthwise output
        self.pw = ConvBlock(cin, cout)

    def forward(self, x: Any) -> Any:
        return upsample(self.pw(self.dw_act(self.dw(x, self.offset(x)))))


class FullDeformBlock(nn.Module):
    """Offset prediction, deformable 3x3 over all channels + BN + ReLU, nearest x2. In float only."""

    def __init__(
        self,
        cin: int,
        cout: int,
        offsets: Offsets,
        sampling: Sampling,
        bound: int,
        fraction_bits: int = 2,
        masks: bool = False,
    ) -> None:
        super().__init__()
        self.dw = DeformConv2d(cin, cout, 1, 1, offsets, sampling, bound, fraction_bits, masks)
        self.offset = offset_conv(cin, self.dw)
        self.bn, self.act = nn.BatchNorm2d(cout), nn.ReLU()

    def forward(self, x: Tensor) -> Any:
        return upsample(self.act(self.bn(self.dw(x, self.offset(x)))))


class WindowBlock(nn.Module):
    """Depthwise KxK, 1x1 + BN + ReLU, nearest x2: `DeformBlock` with a window that does not move."""

    def __init__(self, cin: int, cout: int, kernel: int) -> None:
        super().__init__()
        self.dw = ConvBlock(cin, cin, kernel, groups=cin, relu=False, role="dw")
        self.dw.bn = nn.Identity()  # as behind the deformable window
        self.pw = ConvBlock(cin, cout)

    def forward(self, x: Any) -> Any:
        return upsample(self.pw(self.dw(x)))


class DenseBlock(nn.Module):
    """KxK over all channels + BN + ReLU, nearest x2."""

    def __init__(self, cin: int, cout: int, kernel: int) -> None:
        super().__init__()
        self.conv = ConvBlock(cin, cout, kernel)

    def forward(self, x: Any) -> Any:
        return upsample(self.conv(x))
