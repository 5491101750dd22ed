"""Small integer graphs of every layer that hls4ml has, and their files."""

from __future__ import annotations

from codesign.ir import Graph
from codesign.ops import Concat, MaxPool, Upsample
from tests.models import I8, Builder


def small_net(h: int = 7, w: int = 9, bound: int = 3) -> Graph:
    """Convolution, square deformable convolution with its offsets, 1x1 head."""
    b = Builder(3)
    x = b.conv("stem.conv", b.input("image", (h, w, 3)), 4, kernel=3, bits=I8)
    x = b.deform("deform", x, bound, out=I8)
    b.conv("head", x, 3, bits=I8, result="hm", out=I8)
    return b.graph(("hm",), {"hm": 2.0**-4})


def every_layer() -> Graph:
    """Not square, so that height and width cannot be confused; a bound that is no 2^n - 1; two outputs."""
    b = Builder(5)
    x = b.conv("stem.conv", b.input("image", (8, 12, 3)), 4, kernel=3, bits=I8, stride=2)
    x = b.add("pool", MaxPool((2, 2), (2, 2), (0, 0, 0, 0)), x)
    left = b.conv("left", b.dwconv("dw", x, out=I8), 2)
    x = b.add("cat", Concat(), left, b.conv("right", x, 3))
    x = b.add("up", Upsample(2), x)
    x = b.deform("deform", x, 5, 2, out=I8)
    b.conv("head", x, 3, bits=I8, result="hm", out=I8)
    b.conv("sizes", x, 2, bits=I8, result="wh", out=I8)
    return b.graph(("hm", "wh"), {"hm": 2.0**-4, "wh": 2.0**-5})
