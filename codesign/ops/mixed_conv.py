"""Dense convolution whose weights are a mixture that is computed from the image: CondConv and its relatives.

    W[i,j,c,o] = clamp(RHE(sum over k of gates[k] * bank[k,i,j,c,o], shift[o]), -most, most)
    out        = Conv of in with W,   most = 2^(bits - 1) - 1

RHE is that of Requant: half to even. The scale of W is fixed a channel, so that what follows is an ordinary
requantization (arXiv 1904.04971 and 1912.03458, with the rounding made part of the definition).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, IntType, TensorType
from codesign.ops.conv import Conv
from codesign.ops.mix import check_gates
from codesign.ops.op import show
from codesign.ops.requant import round_half_even

MOST_EXPERTS, MOST_MIX_SHIFT = 8, 24


@dataclass(frozen=True, repr=False)
class MixedConv:
    """Inputs: x (H, W, Ci), gates (1, 1, K) unsigned, bank (K, kh, kw, Ci, Co) i8, shift (Co,).

    Result: accumulator (H', W', Co).
    """

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right
    bits: int = 4  # of a mixed weight

    __repr__ = show

    @property
    def most(self) -> int:
        """The largest mixed weight."""
        return (1 << (self.bits - 1)) - 1

    @property
    def conv(self) -> Conv:
        """The convolution with the mixed weights."""
        return Conv(self.kernel, self.stride, self.pads)

    def infer(self, x: TensorType, gates: TensorType, bank: TensorType, shift: TensorType) -> TensorType:
        if not 2 <= self.bits <= 8:
            raise TypeMismatch(f"mixed weights of {self.bits} bits, expected 2..8")
        if len(bank.shape) != 5 or not 1 <= bank.shape[0] <= MOST_EXPERTS:
            raise TypeMismatch(
                f"bank is {bank}, expected [K,{self.kernel[0]},{self.kernel[1]},Cin,Cout], K at most {MOST_EXPERTS}"
            )
        if bank.elem.min < -128 or bank.elem.max > 127:
            raise TypeMismatch(f"bank is {bank.elem}, expected at most i8")
        check_gates(gates, bank.shape[0])
        if shift.shape != bank.shape[4:]:
            raise TypeMismatch(f"shift is {shift}, expected one value per channel: [{bank.shape[4]}]")
        return self.conv.infer(x, TensorType(bank.shape[1:], IntType(self.bits)))

    def mixed(self, gates: Array, bank: Array, shift: Array) -> Array:
        """Weights (N, kh, kw, Ci, Co) of each image, from gates (N, 1, 1, K)."""
        total = np.einsum("nk,kijco->nijco", gates.reshape(-1, len(bank)), bank)
        return round_half_even(total, shift).clip(-self.most, self.most)

    def run(self, x: Array, gates: Array, bank: Array, shift: Array) -> Array:
        weights = self.mixed(gates, bank, shift)
        return np.concatenate(
            [self.conv.run(one[None], weight) for one, weight in zip(x, weights, strict=True)]
        )

    def sums(self, gates: Bounds, bank: Array) -> Bounds:
        """Range of what is rounded, and of its partial sums, (kh, kw, Ci, Co)."""
        products = bank * gates.high.reshape(-1, 1, 1, 1, 1)
        return Bounds(np.minimum(products, 0).sum(axis=0), np.maximum(products, 0).sum(axis=0))

    def bounds(self, x: Bounds, gates: Bounds, bank: Array, shift: Array) -> Bounds:
        if int(shift.min()) < 0 or int(shift.max()) > MOST_MIX_SHIFT:
            raise TypeMismatch(
                f"mixed weights shift by {shift.min()}..{shift.max()}, expected 0..{MOST_MIX_SHIFT}"
            )
        sums = self.sums(gates, bank)
        ends = [round_half_even(v, shift).clip(-self.most, self.most) for v in (sums.low, sums.high)]
        least, most = np.minimum(x.low, 0)[:, None], np.maximum(x.high, 0)[:, None]
        corners = [w * v for w in ends for v in (least, most)]
        return Bounds(np.min(corners, axis=0).sum((0, 1, 2)), np.max(corners, axis=0).sum((0, 1, 2)))

    def macs(self, x: TensorType, gates: TensorType, bank: TensorType, shift: TensorType) -> int:
        """Of the convolution, and of the mixture of its weights."""
        h, w, _ = self.infer(x, gates, bank, shift).shape
        return h * w * prod(bank.shape[1:]) + prod(bank.shape)
