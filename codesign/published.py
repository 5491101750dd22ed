"""A published engine as a check of this way of counting: CoDeNet's, whose times were measured on an Ultra96.

Its array has 16 x 16 multipliers and its depthwise unit 16 lanes of nine. Inside the loop over pixels, the loops
over channel groups are pipelined but not flattened, so that every loop entered costs its refill again. Each
convolution is one call from the host. The refill, the call and the clock are given once and are the same for all:

    1x1        pixels x (ENTRY + out groups x (ENTRY + in groups x taps))
    depthwise  pixels x (ENTRY + groups)

Neither the first layer (on the host) nor the last of the heads was run on that engine. Source of the times: arXiv
2006.08357 and its published notebook. Refill, call and nest of loops are what is assumed of the engine. The choice of
nest matters: with a refill for the innermost loop of a 1x1 alone, a, c and d come out 16.7, 62.4 and 125.8 ms, and a
misses what was measured by 15.6 % (`inner_only`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil

LANES, CLOCK_HZ = 16, 250e6
ENTRY = 14  # cycles to fill and drain a pipelined loop, each time it is entered
CALL_S = 20e-6  # registers written from Python, and the poll for done
DSPS, BRAM36 = 360, 216  # of the published bitstream


@dataclass(frozen=True)
class Convolution:
    """Shape of one convolution: output pixels, channels, and whether each channel has its own 3x3 filter."""

    pixels: int
    inputs: int
    outputs: int
    depthwise: bool = False
    taps: int = 1  # of a dense convolution


@dataclass(frozen=True)
class Published:
    """A configuration with the conv time its authors measured."""

    name: str
    size: int  # side of the image
    widths: tuple[int, int, int, int, int]
    measured_ms: float


WIDTHS_1X, WIDTHS_2X = (24, 116, 232, 464, 1024), (24, 244, 488, 976, 2153)
CONFIGS = (
    Published("a", 256, WIDTHS_1X, 19.73),
    Published("c", 512, WIDTHS_1X, 65.98),
    Published("d", 512, WIDTHS_2X, 124.25),
)
# 64x64x256 -> 256, offsets bounded and square; milliseconds with the cache off, one call.
OPERATORS = (
    ("full 3x3", Convolution(64 * 64, 256, 256, taps=9), 43.4),
    ("depthwise 3x3", Convolution(64 * 64, 256, 256, depthwise=True), 2.1),
)
REPEATS, DECODER, HEAD, HEADS = (3, 7, 3), (256, 128, 64), 64, 3


def convolutions(size: int, widths: tuple[int, ...]) -> Iterator[Convolution]:
    """Those that the published engine ran, for a square image of `size` and a stem of stride 4 in all."""
    side, channels = size // 4, widths[0]
    for width, repeats in zip(widths[1:4], REPEATS, strict=True):
        half, before, side = width // 2, side**2, side // 2
        after = side**2
        yield Convolution(after, channels, channels, depthwise=True)
        yield Convolution(after, channels, half)
        yield Convolution(before, channels, half)
        for _ in range(repeats):
            yield from _tail(after, half)
            yield Convolution(after, half, half)
        yield from _tail(after, half)
        channels = width
    yield Convolution(side**2, channels, widths[4])
    channels = widths[4]
    for width in DECODER:
        yield Convolution(side**2, channels, 1)
        yield Convolution(side**2, channels, channels, depthwise=True)
        yield Convolution(side**2, channels, width)
        channels, side = width, 2 * side
    for _ in range(HEADS):
        yield Convolution(side**2, channels, HEAD)
        yield Convolution(side**2, HEAD, HEAD, depthwise=True)


def _tail(pixels: int, channels: int) -> Iterator[Convolution]:
    yield Convolution(pixels, channels, channels, depthwise=True)
    yield Convolution(pixels, channels, channels)


def cycles(layer: Convolution, entry: int = ENTRY, *, inner_only: bool = False) -> int:
    """Of the published engine; `entry=0` is the same array with its loops flattened.

    `inner_only` leaves out the refill of the loop over output groups.
    """
    groups_in, groups_out = ceil(layer.inputs / LANES), ceil(layer.outputs / LANES)
    if layer.depthwise:
        return layer.pixels * (entry + groups_in)
    outer = 0 if inner_only else entry
    return layer.pixels * (outer + groups_out * (entry + groups_in * layer.taps))


def milliseconds(
    layers: Iterable[Convolution], entry: int = ENTRY, call_s: float = CALL_S, *, inner_only: bool = False
) -> float:
    """Of so many calls, one after the other."""
    each = (cycles(layer, entry, inner_only=inner_only) / CLOCK_HZ + call_s for layer in layers)
    return sum(each) * 1e3
