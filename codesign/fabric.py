"""What the parts of a circuit take of an FPGA: look-up tables, registers, block RAM. All of it *estimated*.

Of 7-series and UltraScale+ alike, whose LUTs have six inputs or, twice, the same five (UG474, UG574):

    adder         a LUT and its carry for each bit
    comparison    a LUT and its carry for two bits
    choice        four of a LUT, sixteen of four LUTs and their wide multiplexers, for each bit; two of half a LUT
    multiplier    of a x b bits without a DSP: a*b, a LUT and its carry for each bit of each partial product
    shifter       a choice of four for each two bits of the distance
    FIFO          of up to 32 words, a shift register (SRLC32E) for each bit
    LUTRAM        four LUTs for three bits of 64 words (RAM64M), or for six of 32 (RAM32M)
    block RAM     18 Kbit in its widest form that fits, with one port to read and one to write (UG473, UG573); a choice
                  among those that are not the words of one
    UltraRAM      4096 words of 72 bits (UG573)

A register is counted where a value is kept: at the result of every operation of a pipeline that is longer than a LUT
or two. Tools move registers, merge LUTs and pull logic into DSPs; `python -m tests.bench resources` puts what yosys
makes of the same structures beside these counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

LUTRAM_DEPTH = 64  # words of a LUT used as memory
URAM_WORDS, URAM_BITS = 4096, 72
FORMS = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))  # words x bits of 18 Kbit


@dataclass(frozen=True)
class Unit:
    """A part of an engine. `bram18` counts halves of a BRAM36.

    `products` are multipliers of 32 x 32 bits that a tool puts into DSPs as long as there are any, else into LUTs.
    """

    name: str
    dsps: int = 0
    bram18: int = 0
    uram: int = 0
    memory_luts: int = 0
    logic_luts: int = 0
    ffs: int = 0
    products: int = 0

    @property
    def luts(self) -> int:
        return self.memory_luts + self.logic_luts


def memory(name: str, words: int, bits: int, copies: int = 1, *, uram: bool = False) -> Unit:
    """A memory of words x bits, `copies` times, with one port to read and one to write."""
    if uram:
        return Unit(name, uram=copies * ceil(words / URAM_WORDS) * ceil(bits / URAM_BITS))
    if words <= LUTRAM_DEPTH:
        luts = 4 * ceil(bits / 6) if words <= LUTRAM_DEPTH // 2 else ceil(4 * bits / 3)
        return Unit(name, memory_luts=copies * luts, ffs=copies * bits)
    blocks, deep = min((ceil(words / w) * ceil(bits / b), ceil(words / w)) for w, b in FORMS)
    return Unit(name, bram18=copies * blocks, logic_luts=copies * choice_luts(deep, bits))


def adder_luts(bits: int) -> int:
    return bits


def comparison_luts(bits: int) -> int:
    """Which of two numbers is larger."""
    return ceil(bits / 2)


def choice_luts(inputs: int, bits: int) -> int:
    """One of so many words."""
    if inputs <= 1:
        return 0
    if inputs == 2:
        return ceil(bits / 2)
    if inputs <= 16:
        return bits * ceil(inputs / 4)
    groups, rest = divmod(inputs, 16)
    of_rest = choice_luts(rest, bits)
    return groups * choice_luts(16, bits) + of_rest + choice_luts(groups + (rest > 0), bits)


def shifter_luts(bits: int, distances: int) -> int:
    """A number of so many bits, shifted by any of so many distances."""
    return bits * ceil((distances - 1).bit_length() / 2)


def multiplier_luts(a: int, b: int) -> int:
    return a * b


def tree_adders(terms: int, bits: int) -> int:
    """Bits of all adders that sum so many terms of `bits` bits, two by two."""
    total = 0
    while terms > 1:
        bits += 1
        total += terms // 2 * bits
        terms = ceil(terms / 2)
    return total


def fifo(name: str, words: int, bits: int) -> Unit:
    """A stream of at most 32 words: shift registers, and the word that is about to leave."""
    return Unit(name, memory_luts=bits * ceil(words / 32), ffs=bits)
