"""The grid of scales, rounding onto it, and the scales that weights begin with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MIN_LOG2, MAX_LOG2 = -20.0, 8.0  # exponents a scale may take; far outside of what networks need


def integer_range(bits: int, signed: bool, narrow: bool = False) -> tuple[int, int]:
    """Smallest and largest code; `narrow` drops the most negative one, so that the range is symmetric."""
    if signed:
        return -(2 ** (bits - 1)) + int(narrow), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def to_grid(log2_scale: Tensor, mantissa: int = 1) -> Tensor:
    """Nearest scale of the contract: 2^round(v), or 2^v with its mantissa rounded to `mantissa` bits."""
    v = log2_scale.detach().clamp(MIN_LOG2, MAX_LOG2)
    if mantissa == 1:
        return torch.exp2(v.round())
    e = v.floor()
    steps = 2.0 ** (mantissa - 1)
    return torch.round(torch.exp2(v - e) * steps) * (torch.exp2(e) / steps)


def quantize_to(x: Tensor, scale: Tensor, lo: int, hi: int) -> Tensor:
    """Nearest representable values of x; ties to even, saturating."""
    return (x / scale).round_().clamp_(lo, hi).mul_(scale)


def _channel_peaks(weight: Tensor) -> Tensor:
    """[C,...] -> [C,1]; channels of no weight take a mild scale."""
    peak = weight.detach().flatten(1).abs().amax(1, keepdim=True)
    return peak.maximum(peak.max() * 2.0**-8).clamp_min(2.0**-12)


def covering_log2_scale(weight: Tensor, hi: int, mantissa: int = 1) -> Tensor:
    """log2 of the smallest scale that clips nothing, for each output channel: [C,...] -> [C]."""
    top = torch.log2(_channel_peaks(weight) / hi).view(-1)
    finest = 1.0 if mantissa == 1 else 2.0 ** (1 - mantissa)
    steps = [to_grid(top + k * finest / 2, mantissa) for k in range(5)]
    scales = torch.stack(steps).sort(0).values
    enough = scales >= torch.exp2(top) * (1 - 2.0**-20)
    return torch.log2(scales.gather(0, enough.int().argmax(0, keepdim=True)).view(-1))


def lsq_log2_scale(weight: Tensor, hi: int, mantissa: int = 1) -> Tensor:
    """log2 of LSQ's first scale, 2 mean|w| / sqrt(hi) (arXiv 1902.08153, section 2.1): [C,...] -> [C]."""
    mean = weight.detach().flatten(1).abs().mean(1, keepdim=True)
    least = _channel_peaks(weight) / 2**10
    return torch.log2(2 * mean.maximum(least) / math.sqrt(hi)).view(-1)


def best_log2_scale(weight: Tensor, hi: int, mantissa: int = 1) -> Tensor:
    """log2 of the scale with the least squared error, for each output channel: [C,...] -> [C]."""
    flat = weight.detach().reshape(weight.shape[0], -1)
    top = torch.log2(_channel_peaks(weight) / hi)
    best = torch.full_like(top, torch.inf)
    chosen = top.clone()
    # From the first scale that clips nothing (rounded up one step) down to a quarter of it.
    finest = 1.0 if mantissa == 1 else 2.0 ** (1 - mantissa)
    for k in range(int(3.5 / finest) + 1):
        log2 = torch.log2(to_grid(top + 1.0 - k * finest, mantissa))
        error = (quantize_to(flat, torch.exp2(log2), -hi, hi) - flat).square().sum(1, keepdim=True)
        better = error < best
        best = torch.where(better, error, best)
        chosen = torch.where(better, log2, chosen)
    return chosen.view(-1)


START = {"mse": best_log2_scale, "max": covering_log2_scale, "lsq": lsq_log2_scale}
