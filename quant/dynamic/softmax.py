"""Softmax over a few channels in whole numbers: convolutions of 0, 1 and 2, and tables. Quantizers have fixed steps.

    p_k = exp(z_k - M) / 2^L,   M = log of (sum over j of exp(z_j)) - L * ln 2,   L = log2 of the count, rounded up

M is found by pairs, because of two numbers a and b it is a mean and a function of one number:

    log((exp(a) + exp(b)) / 2) = (a + b) / 2 + log(cosh((a - b) / 2))

which lies between a and b, so that no level needs a wider range than the one before. A number that has no partner goes
on as it is, less ln 2. Of two, p is the sigmoid of their difference. z and M are codes of 8 bits in steps of 2^-5 (-4
to 3.97), differences in steps of 2^-4, p in steps of 2^-8 (at most 255/256). All of it is rounded half to even.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.dynamic.block import DynamicBlock, Layers
from quant.dynamic.whole import Whole
from quant.layers import concat, plain

LOG2, APART_LOG2, SHARE_LOG2 = -5, -4, -8  # steps of z and M, of differences, of p
MOST = 127 * 2.0**LOG2
LN2 = math.log(2)
BITS = 3  # of weights of -1 to 2


class Product(nn.Module):
    """A 1x1 convolution with whole weights (Cout,Cin), then times `factor` and plus `shift` (Cout,)."""

    weight: Tensor
    shift: Tensor

    def __init__(self, weight: Tensor, factor: float = 1.0, shift: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight[:, :, None, None], persistent=False)
        steps = torch.zeros(len(weight)) if shift is None else (shift * 2.0**-LOG2).round() * 2.0**LOG2
        self.register_buffer("shift", steps[None, :, None, None], persistent=False)
        self.factor = factor
        self.weight_quant = Whole(BITS)

    def forward(self, x: Any) -> Tensor:
        v = plain(x)
        y = F.conv2d(v, self.weight_quant(v, self.weight))
        y = y if self.factor == 1.0 else y * self.factor
        return y + self.shift if self.shift.any() else y


def _each(numbers: Tensor, channels: int) -> Tensor:
    """Rows of a matrix, or values, for numbers that are `channels` channels each."""
    return (
        torch.kron(numbers, torch.eye(channels)) if numbers.ndim == 2 else numbers.repeat_interleave(channels)
    )


class Pairs(nn.Module):
    """One level: `count` numbers (N,count*channels,H,W), codes, to half as many."""

    def __init__(self, count: int, channels: int = 1) -> None:
        super().__init__()
        half, rest = divmod(count, 2)
        apart, joined = torch.zeros(half, count), torch.zeros(half + rest, count + half)
        for i in range(half):
            apart[i, 2 * i], apart[i, 2 * i + 1] = 1, -1
            joined[i, 2 * i] = joined[i, 2 * i + 1] = 1
            joined[i, count + i] = 2
        alone = torch.zeros(half + rest)
        if rest:
            joined[-1, count - 1], alone[-1] = 2, -LN2
        self.apart = Product(_each(apart, channels))
        self.joined = Product(_each(joined, channels), 0.5, _each(alone, channels))
        self.apart_act: nn.Module = nn.Identity()
        self.bend_act: nn.Module = nn.Identity()
        self.act: nn.Module = nn.Identity()

    def forward(self, z: Any) -> Any:
        d = plain(self.apart_act(self.apart(z)))
        bend = self.bend_act(F.softplus(d) - d * 0.5 - LN2)  # log(cosh(d / 2))
        return self.act(self.joined(concat(z, bend)))


class Softmax(DynamicBlock):
    """Logits (N,count,H,W) to shares of the same shape. In float torch's own; its twin is in whole numbers.

    With `channels`, (N,count*channels,H,W): numbers of `channels` channels beside each other, each channel by itself.
    """

    def __init__(self, count: int, channels: int = 1) -> None:
        super().__init__()
        if count < 2:
            raise ValueError(f"Softmax: {count} channels, expected at least 2")
        self.exact, self.channels = False, channels
        self.before: nn.Module = nn.Identity()
        self.after: nn.Module = nn.Identity()
        self.levels, level, n = nn.ModuleList(), 0, count
        while n > 1 and count > 2:
            self.levels.append(Pairs(n, channels))
            level, n = level + 1, -(-n // 2)
        self.top, self.moved = level * LN2, 0.0  # z - M where one share is 1; what is added to it
        self.act: nn.Module = nn.Identity()
        if count == 2:
            self.last = Product(_each(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), channels))
        else:
            self.moved = round((MOST - self.top) * 2.0**-LOG2) * 2.0**LOG2
            minus = torch.cat([torch.eye(count), -torch.ones(count, 1)], 1)
            self.last = Product(_each(minus, channels), 1.0, torch.full((count * channels,), self.moved))

    def forward(self, logits: Any) -> Any:
        if not self.exact:
            z = plain(logits)
            if self.channels == 1:
                return torch.softmax(z, 1)
            return torch.softmax(z.unflatten(1, (-1, self.channels)), 1).flatten(1, 2)
        z = m = self.before(logits)
        if not self.levels:
            return self.after(torch.sigmoid(plain(self.act(self.last(z)))))
        for pairs in self.levels:
            m = pairs(m)
        t = plain(self.act(self.last(concat(z, m))))
        return self.after(torch.exp(t - (self.moved + self.top)))

    def quantize(self, make: Layers, name: str) -> None:
        self.exact = True
        self.before, self.after = make.fixed(LOG2, signed=True), make.fixed(SHARE_LOG2)
        self.act = make.fixed(LOG2 if self.levels else APART_LOG2, signed=True)
        for pairs in self.levels:
            pairs.apart_act = make.fixed(APART_LOG2, signed=True)
            pairs.bend_act, pairs.act = make.fixed(LOG2, signed=True), make.fixed(LOG2, signed=True)
