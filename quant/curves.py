"""Activation functions between two quantizers: the compiler makes one table of 256 codes of each.

    y = after(function(before(x)))

Quantized, `before` has signed codes; those behind it have the steps that suit the function's range. Torch computes the
function in float32; with the steps of powers of two that all quantizers here have, Sigmoid and Tanh make the very codes
of the compiler's table, for every code.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from quant.layers import plain

# Whether results have a sign, and log2 of their step; None: calibrated.
RANGES: dict[type[nn.Module], tuple[bool, float | None]] = {
    nn.Sigmoid: (False, -8.0),
    nn.Hardsigmoid: (False, -8.0),
    nn.Tanh: (True, -7.0),
    nn.Softsign: (True, -7.0),
    nn.Softplus: (False, None),
    nn.SiLU: (True, None),
    nn.Hardswish: (True, None),
    nn.GELU: (True, None),
    nn.Mish: (True, None),
    nn.ELU: (True, None),
    nn.SELU: (True, None),
    nn.LeakyReLU: (True, None),
}


class QuantCurve(nn.Module):
    """A function of codes, as codes."""

    def __init__(self, before: nn.Module, function: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.before, self.function, self.after = before, function, after

    def forward(self, x: Any) -> Any:
        return self.after(self.function(plain(self.before(x))))
