"""What a tensor of an ONNX file turns out to be while the importer walks the file.

Each kind says whether it is an exact integer map already (Act) or only on the way to one.

Nodes behind a refused one are judged too, for whatever does not depend on it. So an Act, Acc or Raw may stand
for something that was refused: its source or node is REFUSED, its shape NO_SHAPE (or (0, 0, C) where only
the channels are known), and an Acc's scale NaN where it is unknown. `Importer.value` lets none of them into the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.ir import Array, IntType

Floats = npt.NDArray[np.float64]
Shape = tuple[int, int, int]  # (H, W, C)
NO_SHAPE: Shape = (0, 0, 0)
REFUSED = ""


@dataclass(frozen=True)
class Const:
    """A parameter as stored. `origin` is the initializer it came from."""

    array: npt.NDArray[Any]
    origin: str = ""


@dataclass(frozen=True)
class Codes:
    """A quantized parameter: value = codes * scale, with `scale` of a shape that broadcasts."""

    codes: Array
    elem: IntType
    scale: Floats
    origin: str = ""


@dataclass(frozen=True)
class Raw:
    """A graph input before its quantizer."""

    name: str
    shape: Shape
    cut: bool = False  # a ReLU stands before its quantizer


@dataclass(frozen=True)
class Factors:
    """Requantization by channel (C,): weights times `times`, then (accumulator + bias) * mult * 2^-shift; with `ties`
    those of a WideRequant.
    """

    times: Array
    bias: Array
    mult: Array
    shift: Array
    ties: Array | None = None


@dataclass(frozen=True)
class Acc:
    """A convolution's result: value[c] = (accumulator + bias[c]) * scale[c] / over + shift[c], then clipped to
    [low, high]."""

    node: str  # name of the graph node
    where: str  # the ONNX node, for messages
    shape: Shape
    scale: Floats  # (C,)
    bias: Array  # (C,)
    low: float = -np.inf
    high: float = np.inf
    over: int = 1  # of a mean, the numbers that it is of
    shift: Floats | None = None  # what is added and is no multiple of the accumulator's step
    reach: tuple[Array, Array] | None = None  # (C,) each: proven bounds of the accumulator
    weight: str = ""  # the constant that its channels may be multiplied through, "" if none
    factors: Factors | None = None  # how it is requantized, where that had to be searched for
    flat: bool = False  # the file has it as [N, C * H * W]


@dataclass(frozen=True)
class Act:
    """An integer feature map: value = code * scale, code in lo..hi.

    `source` is the graph value that holds it, or the accumulator it is still to be requantized from: later
    clips may narrow it until something reads it.
    """

    source: str | Acc
    shape: Shape
    scale: float
    elem: IntType
    lo: int
    hi: int
    flat: bool = False  # the file has it as [N, C * H * W]

    @property
    def is_row(self) -> bool:
        """Whether it is flat and more than one pixel, so that its numbers are in another order than its map's."""
        return self.flat and self.shape[:2] not in ((0, 0), (1, 1))


@dataclass(frozen=True)
class Integers:
    """Result of QuantizeLinear: the codes themselves, until DequantizeLinear names their scale again."""

    of: Act | Codes
    where: str


@dataclass(frozen=True)
class Grouped:
    """A feature map reshaped to (N, groups, C / groups, ...), perhaps with those two axes swapped."""

    of: Act
    groups: int
    swapped: bool
    where: str


@dataclass(frozen=True)
class Affine:
    """Sampling offsets on their way to DeformConv: factor[k] * code + term[k], k = 0..17."""

    of: Act
    factor: Floats
    term: Floats
    where: str


@dataclass(frozen=True)
class Curve:
    """A function of a feature map's codes, before its quantizer: values[i] at code of.lo + i."""

    of: Act
    values: npt.NDArray[np.float32]
    name: str  # of the node in the graph that it may become
    where: str


@dataclass(frozen=True)
class Decision:
    """Whether a number of the frame is at least `threshold` (if it `rises`), or below it."""

    of: Act
    threshold: int
    rises: bool
    where: str


@dataclass(frozen=True)
class Poison:
    """Depends on something that was refused; known is whether a sound file would have a constant here."""

    constant: bool = False
    shape: tuple[int, ...] = ()  # of a constant, where known


Value = Const | Codes | Raw | Acc | Act | Integers | Grouped | Affine | Curve | Decision | Poison


class Refused(Exception):
    """Raised by a pattern: why this node cannot be compiled and what to do. Becomes a Problem."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


class Unknown(Exception):
    """Raised where the rest of a pattern depends on something that was refused: nothing more to say of the node."""


def unknown_sums(where: str, channels: int = 0, scale: Floats | None = None) -> Acc:
    """What a refused convolution would have made, as far as it is known."""
    size = max(channels, 1)
    scale = np.full(size, np.nan) if scale is None else scale
    return Acc(REFUSED, where, (0, 0, channels), scale, np.zeros(size, np.int64))


def odd_and_exponent(scale: Floats) -> tuple[Array, Array]:
    """scale = odd * 2^exponent with odd an odd integer; odd is 0 where the scale is not positive and finite."""
    good = np.isfinite(scale) & (scale > 0)
    mantissa, exponent = np.frexp(np.where(good, scale, 1.0))
    odd = np.ldexp(mantissa, 53).astype(np.int64)
    lowest = odd & -odd
    trailing = np.round(np.log2(lowest.astype(np.float64))).astype(np.int64)
    return np.where(good, odd >> trailing, 0), exponent - 53 + trailing


def is_power_of_two(scale: float) -> bool:
    return bool(odd_and_exponent(np.array([scale]))[0][0] == 1)
