"""Memories and arithmetic units of the engine: what we count of each, and its structure as Verilog.

Sizes are those of engines for the boards, or a lane or a chain of one. `luts` is by how much yosys may differ from our
count, and why. It is known to make comparisons, choices and shifters 40 to 67 % larger than Vivado's reports of the
same, and adders within 10 %.
"""

from __future__ import annotations

from dataclasses import dataclass

from codesign import fabric
from codesign.fabric import Unit
from codesign.reports import Cells
from codesign.resources import PRODUCT_DSPS
from codesign.resources_arrays import products, requantizer, window_taps
from tests.eda import rtl

EXACT = (1.0, 1.0, "")
ULTRASCALE = (0.85, 1.0, "eight LUTs for seven bits where a 7-series takes four for three")
WIDE = (1.0, 1.67, "yosys leaves wide multiplexers unused")


@dataclass(frozen=True)
class Twin:
    """One unit, counted and written."""

    name: str
    counted: Unit
    verilog: str
    families: tuple[str, ...]
    options: tuple[str, ...]  # of yosys
    luts: tuple[float, float, str]  # bounds of yosys / counted, and the reason

    @property
    def ours(self) -> Cells:
        u = self.counted
        return Cells(u.luts, u.ffs, u.dsps, u.bram18, u.uram)


def twins() -> tuple[Twin, ...]:
    both = ("xc7", "xcup")
    found = []
    for what, words, bits in (
        ("ring_row", 512, 144),
        ("weights", 1024, 320),
        ("requantization", 68, 384),
        ("chunks", 1152, 64),
        ("shallow", 64, 72),
        ("shallower", 32, 96),
    ):
        shallow, name = words <= fabric.LUTRAM_DEPTH, f"{what}_{words}x{bits}"
        for family in both:
            narrower = shallow and family == "xcup"
            bounds = ULTRASCALE if narrower else (1.0, 1.05, "the choice's own register")
            counted = fabric.memory(what, words, bits)
            found.append(Twin(name, counted, rtl.memory(name, words, bits), (family,), (), bounds))
    found += [
        Twin(f"{what}_{words}x{bits}", fabric.memory(what, words, bits, uram=True),
             rtl.memory(f"{what}_{words}x{bits}", words, bits, "ultra"), ("xcup",), ("-uram",), EXACT)
        for what, words, bits in (("ultra", 4096, 72), ("ultra_wide", 1024, 160))
    ]  # fmt: skip
    stream, chain = fabric.fifo("stream", 32, 72), products(8, 1, 2, 1, 26)
    choice = Unit("choice", logic_luts=fabric.choice_luts(16, 9), ffs=9)
    few = Unit("choice", logic_luts=fabric.choice_luts(5, 26), ffs=26)
    integers = Unit("product", dsps=PRODUCT_DSPS)
    found += [
        Twin("stream_32x72", stream, rtl.fifo("stream_32x72", 32, 72), ("xc7",), (), EXACT),
        Twin("chain_of_8", chain, rtl.packed_chain("chain_of_8", 8, 26), ("xc7",), (), (0.85, 1.1, "few waits")),
        Twin("one_of_16x9", choice, rtl.choice("one_of_16x9", 16, 9), ("xc7",), (), WIDE),
        Twin("one_of_5x26", few, rtl.choice("one_of_5x26", 5, 26), ("xc7",), (), WIDE),
        Twin("product_of_integers", integers, rtl.product("product_of_integers", 32), ("xc7",), (), EXACT),
        Twin("window_lane", window_taps(1, 1), rtl.window_lane("window_lane"), ("xc7",), ("-nodsp",),
             (1.0, 1.15, "a row of a product is a bit longer than we count")),
        Twin("requantizer_lane", requantizer(1), rtl.requantizer_lane("requantizer_lane"), ("xc7",), ("-nodsp",),
             (1.0, 1.25, "shifter and comparisons")),
    ]  # fmt: skip
    return tuple(found)
