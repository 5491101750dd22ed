"""Clamps and roundings that can be trained through: gradients lead back inside from where they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Clamp(torch.autograd.Function):
    """Clamp whose gradient is stopped only where it would push further outside: no value gets stuck there."""

    @staticmethod
    def forward(ctx: Any, d: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(d)
        ctx.bounds = low, high
        return d.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (d,) = ctx.saved_tensors
        low, high = ctx.bounds
        away = ((d < low) & (grad > 0)) | ((d > high) & (grad < 0))  # descent would leave the range further
        return grad.masked_fill(away, 0.0), None, None


def clamp(d: Tensor, low: float, high: float) -> Tensor:
    """Clamp that lets gradients pass from outside when they lead back inside."""
    inside: Tensor = _Clamp.apply(d, low, high)  # type: ignore[no-untyped-call]
    return inside


def round_clamp(d: Tensor, low: float, high: float, bits: int = 0) -> Tensor:
    """Clamp, then round half to even (the order is immaterial: bounds are integers) to steps of 2^-bits.

    Gradient: straight-through the rounding; outside the bounds only what leads back inside. With a plain clamp a
    stage whose offsets once fell below zero stays an expensive 1x1 convolution for the rest of the training.
    """
    inside = clamp(d, low, high)
    fixed = (inside.detach() * 2.0**bits).round() * 2.0**-bits
    return inside + (fixed - inside.detach())
