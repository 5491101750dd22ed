"""One small graph for each thing an operator can meet, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from codesign.ir import Graph, IntType
from codesign.ops import (
    Concat,
    Conv,
    DeformDwConv,
    DwConv,
    GlobalSum,
    MaxPool,
    Mix,
    MixedConv,
    Pick,
    Requant,
    SampledDwConv,
    Shuffle,
    Slice,
    Upsample,
)
from tests.models import I4, I8, U8, Builder

Case = Callable[[], Graph]
CASES: dict[str, Case] = {}


def case(name: str, *args: Any, **options: Any) -> Callable[[Callable[..., Graph]], Callable[..., Graph]]:
    """Register a function's graph with these arguments."""

    def register(function: Callable[..., Graph]) -> Callable[..., Graph]:
        assert name not in CASES, name
        CASES[name] = lambda: function(*args, **options)
        return function

    return register


@case("pointwise-10-to-13", (5, 7, 10), 13)
@case("pointwise-one-pixel", (1, 1, 3), 5)
@case("pointwise-one-channel", (2, 9, 1), 1)
@case("pointwise-1100-inputs", (2, 3, 1100), 6)
@case("pointwise-1100-inputs-int8", (1, 2, 1100), 3, bits=I8)
@case("pointwise-int8", (4, 3, 17), 9, bits=I8)
@case("pointwise-signed-result", (3, 4, 33), 21, out=I8)
@case("dense-3x3", (5, 6, 10), 7, kernel=3)
@case("dense-3x3-stride-2", (7, 5, 5), 6, kernel=3, stride=2)
@case("dense-3x3-stride-4", (16, 12, 3), 6, kernel=3, stride=4, bits=I8)
@case("dense-3x3-stride-4-odd", (13, 11, 3), 6, kernel=3, stride=4, bits=I8)
@case("dense-3x3-of-image", (6, 7, 3), 6, kernel=3)
@case("dense-3x3-one-pixel", (1, 1, 3), 4, kernel=3)
@case("dense-3x3-one-row", (1, 9, 2), 4, kernel=3)
@case("dense-3x3-one-column", (9, 1, 20), 4, kernel=3, stride=2)
@case("dense-5x5", (7, 9, 10), 7, kernel=5)
@case("dense-5x5-stride-2", (9, 8, 3), 6, kernel=5, stride=2)
@case("dense-5x5-of-image", (6, 7, 3), 6, kernel=5, bits=I8)
@case("dense-5x5-one-pixel", (1, 1, 3), 4, kernel=5)
@case("dense-5x5-one-column", (9, 1, 20), 4, kernel=5, stride=2)
@case("dense-1x1-stride-2", (6, 5, 7), 8, stride=2)
def dense(shape: tuple[int, int, int], cout: int, **options: Any) -> Graph:
    b = Builder(sum(shape))
    b.conv("y", b.input("x", shape), cout, **options)
    return b.graph(("y.q",))


@case("pads-on-one-side", (0, 0, 1, 1), 2)
@case("pads-of-two", (2, 1, 0, 2), 1)
@case("pads-of-none", (0, 0, 0, 0), 1)
def padded(pads: tuple[int, int, int, int], stride: int) -> Graph:
    b = Builder(3)
    x = b.input("x", (6, 7, 5))
    b.add("y", Conv((3, 3), (stride, stride), pads), x, b.weight("y", (3, 3, 5, 4), I4))
    b.add("z", DwConv((stride, stride), pads), x, b.weight("z", (3, 3, 5), I4))
    b.add("p", MaxPool((3, 3), (stride, stride), pads), x)
    return b.graph((b.requant("y"), b.requant("z"), "p"))


@case("large-kernels-and-pads", (4, 4), (0, 1, 2, 3), 1)
@case("whole-map", (5, 5), (0, 0, 0, 0), 1)
@case("tall-kernel", (5, 2), (4, 0, 0, 1), 3)
def large(kernel: tuple[int, int], pads: tuple[int, int, int, int], stride: int) -> Graph:
    b = Builder(5)
    x = b.input("x", (5, 5, 5))
    b.add("y", Conv(kernel, (stride, stride), pads), x, b.weight("y", (*kernel, 5, 9), I4))
    return b.graph((b.requant("y"),))


@case("kernels-of-other-sides")
def kernels() -> Graph:
    b = Builder(4)
    x = b.input("x", (6, 7, 5))
    b.add("y", Conv((1, 3), (1, 2), (0, 1, 0, 1)), x, b.weight("y", (1, 3, 5, 4), I4))
    b.add("z", DwConv((2, 1), (1, 0, 1, 0), (3, 1)), x, b.weight("z", (3, 1, 5), I4))
    b.add("p", MaxPool((2, 2), (2, 1), (1, 0, 0, 1)), x)
    return b.graph((b.requant("y"), b.requant("z"), "p"))


@case("depthwise", (6, 7, 19))
@case("depthwise-int8", (5, 5, 6), bits=I8, out=I8)
@case("depthwise-stride-2", (7, 8, 10), stride=2)
@case("depthwise-one-pixel", (1, 1, 5))
@case("depthwise-one-row-stride-2", (1, 8, 5), stride=2)
@case("depthwise-unsigned-input", (4, 4, 16), elem=U8)
def depthwise(shape: tuple[int, int, int], elem: IntType = I8, **options: Any) -> Graph:
    b = Builder(sum(shape) + 1)
    b.dwconv("y", b.input("x", shape, elem), **options)
    return b.graph(("y.q",))


@case("max-pool", (6, 7, 10), (2, 2))
@case("max-pool-stride-1", (5, 4, 17), (1, 1))
@case("max-pool-signed", (5, 4, 3), (2, 1), I8)
@case("max-pool-one-pixel", (1, 1, 9), (2, 2))
def pool(shape: tuple[int, int, int], stride: tuple[int, int], elem: IntType = U8) -> Graph:
    b = Builder(7)
    b.add("y", MaxPool((3, 3), stride, (1, 1, 1, 1)), b.input("x", shape, elem))
    return b.graph(("y",))


def deformable(shape: tuple[int, int, int], bound: int, stride: int = 1) -> Graph:
    """Offsets are those of input `d` up to the bound, so that a test can choose them."""
    b = Builder(bound + 1)
    x = b.input("x", shape)
    d = b.input("d", (-(-shape[0] // stride), -(-shape[1] // stride), 1), IntType(4, False))
    b.add("o", Conv(), d, b.const("o.weight", np.ones((1, 1, 1, 1)), I4))
    for name, value, elem in ("o.b", 0, IntType(32)), ("o.m", 1, U8), ("o.s", 0, I8):
        b.const(name, np.array([value]), elem)
    b.add("o.q", Requant(IntType.holding(0, bound), 0, bound), "o", "o.b", "o.m", "o.s")
    b.add("y", DeformDwConv(bound, (stride, stride)), x, "o.q", b.weight("y", (3, 3, shape[2]), I4))
    return b.graph((b.requant("y"),))


@case("sampled", (7, 9, 10), SampledDwConv(3, 2))
@case("sampled-nearest", (5, 4, 5), SampledDwConv(7, 0), U8)
@case("sampled-row", (6, 12, 5), SampledDwConv(4, 3, taps="1x9"))
@case("sampled-column", (12, 5, 6), SampledDwConv(4, 2, 0, 63, taps="9x1"))
@case("sampled-one-tap", (7, 6, 10), SampledDwConv(3, 4, taps="1x1", border=True))
@case("sampled-still", (6, 7, 5), SampledDwConv(0, 0, -128, 127, still=True))
@case("sampled-border", (5, 6, 7), SampledDwConv(3, 2, border=True))
@case("sampled-masks", (9, 6, 3), SampledDwConv(2, 1, -128, 127, (2, 2)))
def sampled(
    shape: tuple[int, int, int], op: SampledDwConv, elem: IntType = I8, bits: IntType = I4, up: bool = False
) -> Graph:
    """Offsets and masks are those of input `s`, so that a test can choose them: beyond their limits too."""
    b = Builder(sum(shape))
    x = b.input("x", shape, elem)
    sides = [-(-side // step) >> up for side, step in zip(shape[:2], op.stride, strict=True)]
    s = b.input("s", (sides[0], sides[1], op.channels))
    if up:
        s = b.add("s.up", Upsample(2), s)
    b.add("y", op, x, s, b.weight("y", (*op.kernel, shape[2]), bits))
    return b.graph((b.requant("y", out=I8),))


@case("varied", (7, 9, 10))
@case("varied-stride-2", (7, 8, 5), stride=2)
@case("varied-one-pixel", (1, 1, 19))
@case("varied-unsigned", (4, 3, 3), elem=U8)
def varied(shape: tuple[int, int, int], elem: IntType = I8, **options: Any) -> Graph:
    b = Builder(sum(shape) + 2)
    return b.graph((b.varied("y", b.input("x", shape, elem), **options),))


@case("average-of-a-map", (13, 6, 10))
@case("average-of-a-map-one-channel", (9, 8, 1), U8)
@case("average-of-a-map-one-pixel", (1, 1, 5))
def averaged(shape: tuple[int, int, int], elem: IntType = I8) -> Graph:
    b = Builder(sum(shape))
    b.add("x.s", GlobalSum(shape[:2]), b.input("x", shape, elem))
    return b.graph((b.requant("x.s", out=I8),))


def _gates(b: Builder, count: int) -> str:
    """Those of input `g.in`, so that a test can choose them."""
    g = b.input("g.in", (1, 1, count), U8)
    b.add("g", Conv(), g, b.const("g.weight", np.eye(count, dtype=int)[None, None], I4))
    for name, value, elem in ("g.b", 0, IntType(32)), ("g.m", 1, U8), ("g.s", 0, I8):
        b.const(name, np.array([value] * count), elem)
    return b.add("g.q", Requant(U8, 0, 255), "g", "g.b", "g.m", "g.s")


@case("gates", (5, 6, 10))
@case("gates-of-branches", (4, 7, 9), 3)
def gated(shape: tuple[int, int, int], parts: int = 1, elem: IntType = I8) -> Graph:
    b = Builder(sum(shape))
    maps = [b.conv(f"x{k}", b.input(f"x{k}.in", shape, elem), shape[2], out=elem) for k in range(parts)]
    x = b.add("x", Concat(), *maps) if parts > 1 else maps[0]
    b.add("y", Mix(parts), x, _gates(b, parts * shape[2]))
    return b.graph((b.requant("y", out=I8),))


@case("picks", (5, 6, 10), 2)
def picked(shape: tuple[int, int, int], parts: int, threshold: int = 128, elem: IntType = I8) -> Graph:
    b = Builder(sum(shape))
    x = b.conv("x", b.input("x.in", shape, elem), parts * shape[2], out=elem)
    b.add("y", Pick(parts, threshold), x, _gates(b, shape[2]))
    return b.graph((b.requant("y", out=I8),))


@case("mixed-weights", (5, 6, 10), 7, 3)
@case("mixed-weights-int8", (5, 6, 10), 7, 2, MixedConv((3, 3), (2, 2), (1, 1, 1, 1), 8))
def mixed(
    shape: tuple[int, int, int], cout: int, experts: int, op: MixedConv = MixedConv(), bank: IntType = I8  # noqa: B008
) -> Graph:  # fmt: skip
    b = Builder(sum(shape))
    b.mixed_conv("y", b.input("x", shape), _gates(b, experts), cout, op, bank, out=I8)
    return b.graph(("y.q",))


@case("views")
def view_operators() -> Graph:
    """Every operator that moves no data, between operators that read the result."""
    b = Builder(11)
    x = b.input("x", (4, 6, 9))
    left, right = b.conv("left", x, 11), b.conv("right", x, 7)
    both = b.add("shuffled", Shuffle(2), b.add("both", Concat(), left, right))
    low, high = b.add("low", Slice(0, 5), both), b.add("high", Slice(5, 18), both)
    up = b.add("up", Upsample(2), high)
    b.conv("mix", b.add("twice", Concat(), low, low, b.add("part", Slice(3, 9), both)), 5)
    b.dwconv("taken", up)
    b.conv("tall", b.add("more", Upsample(2), b.add("widened", Concat(), up, up)), 3)
    b.add("swapped", Shuffle(3), both)
    b.add("given", Slice(1, 4), x)
    return b.graph(("mix.q", "taken.q", "tall.q", "swapped", "given", "up"))


@case("rescaled")
def rescaled() -> Graph:
    """A Requant that follows no convolution."""
    b = Builder(12)
    x = b.input("x", (3, 5, 6), U8)
    for name, values, elem in ("b", -100, IntType(32)), ("m", 5, U8), ("s", 3, I8):
        b.const(name, np.array([values] * 6), elem)
    b.add("y", Requant(I8, -100, 90), x, "b", "m", "s")
    return b.graph(("y",))
