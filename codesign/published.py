"""A published engine as a check of this way of counting: CoDeNet's, whose times were measured on an Ultra96.

Its array has 16 x 16 multipliers and its depthwise unit 16 lanes of nine. A call from the host is a 1x1 convolution, a
depthwise one, or both; its processes run side by side, joined by streams of two words, and the slowest decides. Inside
the loop over pixels, loops over channel groups are pipelined but not flattened, so that each entry costs their refill:

    array    pixels x (ENTRY + in groups + out groups x (ENTRY + in groups))
    window   pixels x (DIVISION + ENTRY + groups) + output pixels x (ENTRY + groups x reads / PORTS)

The window divides for every pixel, by the stride; then it keeps a pixel in its 15 rows and makes another one. Three
columns are read from each row, that is, three words from a block RAM with two ports; nine if offsets are not square.
It is eight rows behind: when the last row has arrived, those are still to come, and nothing runs beside them.
Before a call begins, its weights are read. PRODUCTS and the memory are the estimator's (codesign/transfers.py,
codesign/dram.py). Two more constants are assumed, the same for every row: CALL_S, and ENTRY. That one is the whole
number with which the single calls of NOTEBOOK come out best; the networks and the operators were not used for it.

Sources: arXiv 2006.08357 (times of networks and operators); the published HLS sources and notebook, github.com/
hqjenny/CoDeNet (loops, streams, sizes, times of single calls). The operators are those of an ablation, whose engines
were not published: that they have the loops of the published one, with nine gathers from DRAM a pixel where offsets
are not bounded, is assumed too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil

from codesign.board import load_board
from codesign.dram import Dram, dram
from codesign.stages import read_cycles
from codesign.transfers import PRODUCTS

BOARD, LANES, CLOCK_HZ = "ultra96", 16, 250e6
DIVISION = 40  # cycles of a sequential divider of 32 bits, and what leads to it
ENTRY = 11  # cycles to fill and drain a pipelined loop, each time it is entered
CALL_S = 20e-6  # registers written from Python, and the poll for done
PORTS = 2  # of a block RAM
BEHIND = 8  # rows between the newest and the one that is made
MOST = 512  # output channels of a call
TAPS = 9


@dataclass(frozen=True)
class Call:
    """One call for a square map of side x side pixels. The window works on what the 1x1 convolution makes."""

    side: int
    inputs: int
    outputs: int
    stride: int = 1
    pointwise: bool = True
    window: bool = True

    @property
    def macs(self) -> int:
        array = self.side**2 * self.inputs * self.outputs if self.pointwise else 0
        return array + ((self.side // self.stride) ** 2 * TAPS * self.outputs if self.window else 0)

    @property
    def convolutions(self) -> int:
        return int(self.pointwise) + int(self.window)


@dataclass(frozen=True)
class Published:
    """A configuration with the conv time its authors measured."""

    name: str
    size: int  # side of the image
    widths: tuple[int, int, int, int, int]
    measured_ms: float


@dataclass(frozen=True)
class Operator:
    """A 3x3 convolution of 64x64x256 to 256 channels. `reach` is how its offsets are: none, free, bounded, square."""

    dense: bool
    reach: str
    measured_ms: float  # with the last-level cache off

    @property
    def name(self) -> str:
        return f"{'full' if self.dense else 'depthwise'} 3x3, {self.reach}"


WIDTHS_1X, WIDTHS_2X = (24, 116, 232, 464, 1024), (24, 244, 488, 976, 2153)
CONFIGS = (
    Published("a", 256, WIDTHS_1X, 19.73),
    Published("c", 512, WIDTHS_1X, 65.98),
    Published("d", 512, WIDTHS_2X, 124.25),
)
OPERATORS = (
    Operator(True, "no offsets", 43.1),
    Operator(True, "free", 59.0),
    Operator(True, "bounded", 43.4),
    Operator(True, "square", 43.4),
    Operator(False, "no offsets", 1.9),
    Operator(False, "free", 20.5),
    Operator(False, "bounded", 3.0),
    Operator(False, "square", 2.1),
)
# Offsets of a pixel, and words that are read from one row of the buffer.
REACHES = {"no offsets": (0, 3), "free": (18, 0), "bounded": (18, 9), "square": (1, 3)}
# Single calls of the notebook, each a 1x1 convolution and a depthwise one, with the milliseconds it printed: the mean
# of all calls of that shape.
NOTEBOOK = (
    (Call(64, 32, 32, 2), 1.028),
    (Call(32, 32, 128), 0.609),
    (Call(64, 32, 128, 2), 1.712),
    (Call(32, 128, 128), 0.739),
    (Call(32, 256, 256, 2), 1.859),
    (Call(16, 256, 256), 0.577),
    (Call(16, 512, 512, 2), 1.588),
    (Call(8, 512, 512), 0.558),
    (Call(8, 1024, 512), 0.841),
    (Call(8, 2048, 1), 0.152),
    (Call(8, 2048, 256), 0.800),
    (Call(16, 256, 1), 0.132),
    (Call(16, 256, 128), 0.334),
    (Call(32, 128, 1), 0.374),
    (Call(64, 128, 80), 1.781),
    (Call(64, 128, 2), 1.315),
)
REPEATS, DECODER, HEAD, HEADS = (3, 7, 3), (256, 128, 64), 64, 3


def calls(size: int, widths: tuple[int, ...]) -> Iterator[Call]:
    """As the host made them, for a square image of `size` and a stem of stride 4 in all.

    Neither the first layer (on the host) nor the last of the heads was run on that engine.
    """
    side, channels = size // 4, widths[0]
    for width, repeats in zip(widths[1:4], REPEATS, strict=True):
        half = width // 2
        yield Call(side, channels, channels, 2, pointwise=False)
        yield Call(side // 2, channels, half, window=False)
        yield Call(side, channels, half, 2)
        side //= 2
        yield Call(side, half, half, window=False)
        for _ in range(repeats):
            yield Call(side, half, half)
            yield Call(side, half, half, window=False)
        channels = width
    yield from _split(Call(side, channels, widths[4], window=False))
    channels = widths[4]
    for width in DECODER:
        yield Call(side, channels, 1, window=False)
        yield from _split(Call(side, channels, channels, pointwise=False))
        yield from _split(Call(side, channels, width, window=False))
        channels, side = width, 2 * side
    for _ in range(HEADS):
        yield Call(side, channels, HEAD)


def _split(call: Call) -> Iterator[Call]:
    """Of at most MOST output channels each."""
    for first in range(0, call.outputs, MOST):
        outputs = min(MOST, call.outputs - first)
        inputs = call.inputs if call.pointwise else outputs
        yield Call(call.side, inputs, outputs, call.stride, call.pointwise, call.window)


def memory() -> Dram:
    return dram(load_board(BOARD), LANES)


def processes(call: Call, entry: int = ENTRY) -> dict[str, int]:
    """Cycles of each process of a call, before the rows that are left; `entry=0` is the same with loops flattened."""
    pixels, made = call.side**2, (call.side // call.stride) ** 2
    into, out = ceil(call.inputs / LANES), ceil(call.outputs / LANES)
    array = entry + into + (out * (entry + into) if call.pointwise else 0)
    found = {"array": pixels * array, "DRAM": memory().cycles(pixels * into, made * out)}
    if call.window:
        found["window"] = pixels * (DIVISION + entry + out) + made * _row_reads(out, "square", entry)
        found["window"] -= left(call, entry)
    return found


def _row_reads(groups: int, reach: str, entry: int) -> int:
    """Cycles to make a pixel of the buffered rows."""
    return entry + groups * ceil(REACHES[reach][1] / PORTS)


def left(call: Call, entry: int = ENTRY) -> int:
    """Cycles of the rows that the window still has to make when the last one has arrived."""
    if not call.window:
        return 0
    rows, groups = min(BEHIND, call.side), ceil(call.outputs / LANES)
    made = rows // call.stride * (call.side // call.stride)
    return rows * call.side * DIVISION + made * _row_reads(groups, "square", entry)


def cycles(call: Call, entry: int = ENTRY) -> int:
    """Of one call, without the host's part of it."""
    words = ceil(call.inputs / LANES) * ceil(call.outputs / LANES) * LANES if call.pointwise else 0
    words += TAPS * ceil(call.outputs / LANES) if call.window else 0
    return ceil(read_cycles(words, memory())) + max(processes(call, entry).values()) + left(call, entry)


def milliseconds(made: Iterable[Call], entry: int = ENTRY) -> float:
    """Of so many calls, one after the other."""
    return sum(cycles(call, entry) / CLOCK_HZ + CALL_S for call in made) * 1e3


def operator_milliseconds(operator: Operator) -> float:
    """Of one call of an operator. A gather waits for each tap; streams of two words let nothing be fetched ahead."""
    pixels, groups = 64 * 64, 256 // LANES
    offsets, _ = REACHES[operator.reach]
    each = DIVISION + (ENTRY if offsets > 1 else 0) + offsets
    if operator.reach == "free":
        each += TAPS * (PRODUCTS + ceil(read_cycles(groups, memory())))
    else:
        each += ENTRY + groups + _row_reads(groups, operator.reach, ENTRY)
    weights = read_cycles(TAPS * groups * (groups * LANES if operator.dense else 1), memory())
    if operator.dense:
        products = groups * (ENTRY + TAPS * groups)
        each = each + products if operator.reach == "free" else max(each, ENTRY + TAPS * groups + products)
    return ((pixels * each + weights) / CLOCK_HZ + CALL_S) * 1e3


def ratio(dense: bool, measured: bool) -> float:
    """How much faster square offsets are than free ones: the speed-up that was published, or ours."""
    times = {
        o.reach: o.measured_ms if measured else operator_milliseconds(o)
        for o in OPERATORS
        if o.dense is dense
    }
    return times["free"] / times["square"]
