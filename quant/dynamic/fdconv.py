"""Kernels of disjoint frequencies, mixed by gates: the weight part of FDConv (arXiv 2503.18783, section 3.2).

The kernels of a KxK convolution lie side by side as one plane of K*cout x K*cin numbers; its two-dimensional spectrum
is what is trained, about as many numbers as a plain convolution has. Frequencies, from low to high, are divided into as
many groups as there are kernels, and kernel k is the plane of group k alone:

    W_k = inverse DFT of (spectrum where its frequency is in group k, else 0),    W = sum over k of r_k(x) * W_k

That is linear in r, so once trained the kernels are constants, and the operator is CondConv.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codesign.errors import CodesignError
from quant.dynamic.condconv import CondConvBlock
from quant.dynamic.mixed_conv import MixedConv2d


class ModulationError(CodesignError):
    """A part of FDConv was asked for that integers do not hold."""


class FourierMixedConv2d(MixedConv2d):
    """`MixedConv2d` whose kernels share one spectrum."""

    bands: Tensor

    def __init__(self, cin: int, cout: int, kernel: int, experts: int, band_modulation: bool = False) -> None:
        if band_modulation:
            raise ModulationError(
                "fdconv: band_modulation is on, which filters each map by its frequencies, and no DFT of a map is "
                "whole in integers; expected the kernels of disjoint frequencies alone. Leave it out."
            )
        super().__init__(cin, cout, kernel, experts)
        rows, columns = kernel * cout, kernel * cin
        plane = self.weight.detach()[:, :cin].permute(0, 2, 1, 3).reshape(rows, columns)
        del self.weight
        self.spectrum = nn.Parameter(torch.view_as_real(torch.fft.rfft2(plane, norm="ortho")).clone())
        self.register_buffer("bands", bands(rows, columns, experts), persistent=False)

    def bank(self) -> Tensor:
        cin, cout, kernel = self.cin, self.cout, self.kernel
        spectrum = torch.view_as_complex(self.spectrum)
        planes = torch.fft.irfft2(spectrum * self.bands, s=(kernel * cout, kernel * cin), norm="ortho")
        kernels = planes.view(self.experts, cout, kernel, cin, kernel).permute(1, 0, 3, 2, 4)
        return kernels.reshape(cout, self.experts * cin, kernel, kernel)

    def settled(self) -> MixedConv2d:
        plain = MixedConv2d(self.cin, self.cout, self.kernel, self.experts).to(self.spectrum.device)
        plain.weight = nn.Parameter(self.bank().detach().clone())
        return plain


def bands(rows: int, columns: int, count: int) -> Tensor:
    """Which frequencies of a real plane's spectrum (rows, columns // 2 + 1) are in each group, 0 or 1, (count, ...).

    Groups are of one size as far as frequencies of one norm allow, which stay together.
    """
    norm = torch.hypot(torch.fft.fftfreq(rows)[:, None], torch.fft.rfftfreq(columns)[None, :])
    ends = torch.quantile(norm.flatten().double(), torch.linspace(0, 1, count + 1, dtype=torch.float64))
    group = torch.bucketize(norm.double(), ends[1:-1])
    return torch.stack([(group == k).float() for k in range(count)])


class FDConvBlock(CondConvBlock):
    """A mixture of dense 3x3 of disjoint frequencies + BN + ReLU, nearest x2."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__(cin, cout, 3)

    def convolution(self, cin: int, cout: int, kernel: int, experts: int) -> MixedConv2d:
        return FourierMixedConv2d(cin, cout, kernel, experts)
