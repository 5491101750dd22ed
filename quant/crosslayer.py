"""Cross-layer equalization (Nagel et al., arXiv 1906.04721, section 4.1) where a network allows it.

Where one convolution alone reads what another writes, possibly behind a ReLU, each channel between them can be scaled
on one side and back on the other. With one scale a tensor that spares small channels from the large ones. In these
networks such chains are the branches of a ShuffleNet unit, the heads, and deformable depthwise to 1x1; a map that
several convolutions read, or that meets another in a concatenation, is left alone. Brevitas computes the factors.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from brevitas.fx import value_trace
from brevitas.graph.equalize import EqualizeGraph
from torch import nn

from quant.deform import DeformConv2d
from quant.layers import ConvBlock, DeformBlock, OutputConv

ITERATIONS = 20


def chains(folded: nn.Module) -> list[list[tuple[nn.Module, bool]]]:
    """Convolutions that follow each other with no other reader between; True where a ReLU follows."""
    found = []
    for module in folded.modules():
        if isinstance(module, nn.Sequential) and len(module) > 1:
            blocks: list[Any] = list(module)
            if all(isinstance(b, ConvBlock | OutputConv) for b in blocks):
                found.append([(b.conv, isinstance(b.act, nn.ReLU)) for b in blocks])
        elif isinstance(module, DeformBlock):
            found.append([(module.dw, isinstance(module.dw_act, nn.ReLU)), (module.pw.conv, True)])
    return found


@torch.no_grad()
def equalize(folded: nn.Module) -> int:
    """Equalize a float network without batch norms in place; it computes the same. Returns the count of pairs."""
    pairs = 0
    for chain in chains(folded):
        copies: list[nn.Module] = []
        for conv, relu in chain:
            copies += [_plain(conv), *([nn.ReLU()] if relu else [])]
        convs = [m for m in copies if isinstance(m, nn.Conv2d)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's tracer, about its own parts
            traced = value_trace(
                nn.Sequential(*copies), {"input": torch.zeros(1, convs[0].in_channels, 8, 8)}
            )
            _, regions = EqualizeGraph(iterations=ITERATIONS, return_regions=True).apply(traced)
        pairs += len(regions)
        for (conv, _), copy in zip(chain, convs, strict=True):
            conv.weight.copy_(copy.weight)
            if copy.bias is not None:
                conv.bias.copy_(copy.bias)
    return pairs


def _plain(conv: Any) -> nn.Conv2d:
    """A torch convolution with copies of the parameters; a deformable one becomes depthwise, scaled alike."""
    weight, bias = conv.weight, getattr(conv, "bias", None)
    kernel = tuple(weight.shape[2:])
    groups = conv.groups
    plain = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        kernel,
        padding=kernel[0] // 2,
        groups=groups,
        bias=bias is not None,
    )
    assert isinstance(conv, nn.Conv2d | DeformConv2d)
    plain.weight.copy_(weight)
    if bias is not None:
        plain.bias.copy_(bias)  # type: ignore[union-attr]
    return plain
