"""Small integer graphs of every layer that hls4ml has, and their files."""

from __future__ import annotations

import numpy as np

from codesign.ir import Graph, IntType
from codesign.ops import Add, Concat, MaxPool, Mix, MixedConv, Requant, Upsample
from tests.models import I8, U8, Builder


def small_net(h: int = 7, w: int = 9, bound: int = 3) -> Graph:
    """Convolution, square deformable convolution with its offsets, 1x1 head."""
    b = Builder(3)
    x = b.conv("stem.conv", b.input("image", (h, w, 3)), 4, kernel=3, bits=I8)
    x = b.deform("deform", x, bound, out=I8)
    b.conv("head", x, 3, bits=I8, result="hm", out=I8)
    return b.graph(("hm",), {"hm": 2.0**-4})


def every_layer() -> Graph:
    """An input that two layers read. Not square, so that height and width cannot be confused; a bound that is no
    2^n - 1; a sum of maps in steps that differ; two outputs, one of them upsampled, listed in another order than made.
    """
    b = Builder(5)
    image = b.input("image", (8, 12, 3))
    x = b.conv("stem.conv", image, 2, kernel=3, bits=I8, stride=2)
    x = b.add("stems", Concat(), x, b.conv("stem.large", image, 2, kernel=5, bits=I8, stride=2))
    x = b.add("pool", MaxPool((2, 2), (2, 2), (0, 0, 0, 0)), x)
    left = b.conv("left", b.dwconv("dw", x, out=I8), 2)
    x = b.add("cat", Concat(), left, b.conv("right", x, 3))
    x = b.add("up", Upsample(2), x)
    y = b.conv("again", x, 5)
    x = plain_sum(b, "sum", x, y)
    x = b.deform("deform", x, 5, 2, out=I8)
    b.conv("head", x, 3, bits=I8, result="hm", out=I8)
    b.add("wh", Upsample(2), b.conv("sizes", x, 2, bits=I8, out=I8))
    return b.graph(("wh", "hm"), {"hm": 2.0**-4, "wh": 2.0**-5})


def plain_sum(b: Builder, name: str, x: str, y: str) -> str:
    """x + 2 y, halved twice and rounded: what an addition of two quantized maps is."""
    b.add(name, Add(0, 1), x, y)
    channels = b.types[name].shape[2]
    tables = [
        b.const(f"{name}.{what}", np.full(channels, value), elem)
        for what, value, elem in (("bias", 0, IntType(32)), ("mult", 1, U8), ("shift", 2, I8))
    ]
    return b.add(f"{name}.q", Requant(U8, 0, 255), name, *tables)


def mixing_net() -> Graph:
    """Gates of the whole map for two mixed convolutions, one with a window, pads on two sides and strides that differ;
    gates by a table of signed codes for a sum of two halves of the channels.
    """
    b = Builder(3)
    x = b.conv("stem.conv", b.input("image", (6, 8, 3)), 4, kernel=3, bits=I8)
    gates = b.gates("gate", x, 3)
    window = MixedConv((3, 3), (2, 1), (1, 0, 1, 2))
    x = b.mixed_conv("mixed", x, gates, 6, window)
    b.add("open", Mix(2), x, b.table("squash", b.gates("squeeze", x, 6, out=I8)))
    x = b.requant("open")
    b.mixed_conv("head", x, gates, 2, MixedConv(bits=8), result="hm", out=I8)
    return b.graph(("hm",), {"hm": 2.0**-4})
