"""DSP, block RAM, UltraRAM, LUTs and registers of an engine, counted from its structure. All of it *estimated*.

What a part of it takes is codesign/fabric.py's; how many parts there are and how wide, hls_templates/*.hpp's:

    DSP         one for two weights of the array and one pixel (DotProducts), two or more for each lane of a wide
                requantizer. Sums, distances and sizes between loops
                are products of integers too: a process does one at a time, in three DSPs if the board has some left
                and in LUTs otherwise, as Vivado does when they run out. The window's products and the requantizers'
                are given none (CODESIGN_IN_LUTS).
    array       the sums of a chain are added in its DSPs; what enters it later waits in shift registers
    pipelines   a register at the result of each operation, in every lane
    control     the integers, sums, comparisons and products of each process, as the sources have them (CONTROL), all
                of 32 bits: a tool that finds narrower ones takes less
    ports       m_axi adapters of 32 bits take 512 registers and 580 LUTs in the vendor's reports; wider ones a
                register in each direction and a choice for every further bit, twice each

The block design around the engine is not counted. Where yosys was asked, memories and DSPs are as counted, and LUTs of
arithmetic within some 15 %; for control, expect half as much again in either direction, and of the whole 25 %.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import ceil

from codesign.board import Board
from codesign.engine_config import LEAST_LINE, LEAST_NEAR, EngineConfig
from codesign.fabric import (
    Unit,
    adder_luts,
    choice_luts,
    comparison_luts,
    fifo,
    memory,
    multiplier_luts,
    shifter_luts,
)
from codesign.resources_arrays import ACT_BITS, products, products_in_luts, requantizer, window_taps
from codesign.resources_mix import global_sums, mixer
from codesign.resources_wide import wide_row_bits
from codesign.step import TABLE_BYTES, TABLE_WIDE

NOT_COUNTED = "the block design around it"
WIDE = 36  # bits of the sum of a sampled word
RING_COPIES = 3  # of each row: one for each column of taps
PORT_WORDS = 256  # buffered by one m_axi port: 16 bursts of 16 words, the vendor's defaults
PORTS = 4
INTEGER = 32  # bits
PRODUCT_DSPS = 3  # of a product of two integers: 32 x 32 bits, the lower half
DIVIDER = (238, 394)  # LUTs and registers of a sequential divider of 32 bits, in the vendor's reports
M_AXI = (580, 512)  # LUTs and registers of an adapter of 32 bits, in the vendor's reports
S_AXILITE = (490, 291)
# Of the processes of each unit: integers they keep, integers they take of the step, sums, comparisons, products
# (one multiplier each), dividers.
CONTROL = {
    "descriptors": (100, 0, 38, 80, 1, 0),
    "load": (40, 12, 22, 18, 2, 0),
    "offsets": (18, 8, 9, 9, 2, 0),
    "window": (40, 20, 45, 40, 2, 0),
    "pointwise": (37, 10, 15, 12, 1, 0),
    "finish": (25, 8, 10, 8, 1, 0),
    "middle": (40, 18, 20, 22, 3, 0),
    "tail": (18, 8, 10, 12, 1, 0),
    "store": (34, 10, 18, 14, 2, 0),
    "parameters": (16, 10, 10, 8, 2, 0),
}


@dataclass(frozen=True)
class Resources:
    """Of a whole engine."""

    units: tuple[Unit, ...]

    @property
    def dsps(self) -> int:
        """Without those of products that can do without."""
        return sum(u.dsps for u in self.units)

    @property
    def bram36(self) -> int:
        return ceil(sum(u.bram18 for u in self.units) / 2)

    @property
    def uram(self) -> int:
        return sum(u.uram for u in self.units)

    @property
    def luts(self) -> int:
        """With products in DSPs."""
        return sum(u.luts for u in self.units)

    @property
    def ffs(self) -> int:
        return sum(u.ffs for u in self.units)

    @property
    def products(self) -> int:
        return sum(u.products for u in self.units)

    def on(self, board: Board) -> tuple[int, int]:
        """DSPs and LUTs, with products in DSPs as long as the board has any."""
        dsps, luts = zip(*self.each_on(board), strict=True)
        return sum(dsps), sum(luts)

    def each_on(self, board: Board) -> tuple[tuple[int, int], ...]:
        """DSPs and LUTs of each unit; where DSPs do not do for all products, the first units have theirs."""
        left, found = max(0, (board.dsps - self.dsps) // PRODUCT_DSPS), []
        for unit in self.units:
            in_dsps = min(unit.products, left)
            left -= in_dsps
            in_luts = (unit.products - in_dsps) * multiplier_luts(INTEGER, INTEGER)
            found.append((unit.dsps + PRODUCT_DSPS * in_dsps, unit.luts + in_luts))
        return tuple(found)


def _window_others(lanes: int, pack_log2: int) -> Unit:
    """What else is done with nine taps."""
    largest = 8 * (comparison_luts(ACT_BITS) + choice_luts(2, ACT_BITS))
    packed = 1 << pack_log2
    gathered = choice_luts(9, ACT_BITS)
    if packed > 1:
        gathered += choice_luts(ceil(9 / packed) * packed, ACT_BITS)
    luts = lanes * (largest + gathered + choice_luts(4, ACT_BITS))
    return Unit("window: max-pool and gather", logic_luts=luts, ffs=lanes * (8 + 3) * ACT_BITS)


def _sampler(config: EngineConfig) -> tuple[Unit, ...]:
    """Of sampled and varied windows: the bytes of nine taps, or a word of weights, and in each lane what add_sample()
    does in narrow integers.
    """
    n, bits = config.lanes, max(0, config.sampler - 1)
    numbers = 8 * max(27 if config.sampler else 1, n if config.weight_stream else 1)
    mix = 0
    if bits:
        along, across = multiplier_luts(10, bits), multiplier_luts(11 + bits, bits)
        mix = 2 * along + across + 2 * adder_luts(10) + 2 * adder_luts(10 + bits) + adder_luts(11 + bits)
        mix += adder_luts(10 + 2 * bits) + shifter_luts(10 + 2 * bits, 2 * bits)
    wide = 10 + 2 * bits
    weight = multiplier_luts(config.tap_bits, 8) + choice_luts(9, config.tap_bits)
    lane = mix + weight + multiplier_luts(wide, 16) + adder_luts(WIDE) + choice_luts(2, config.acc_bits)
    kept = (4 * 10 + 3 * wide if bits else 10) + 16 + 32 + WIDE
    where = 3 * choice_luts(9, 8) + 3 * 2 * (comparison_luts(8) + choice_luts(2, 8)) + 4 * adder_luts(8)
    if config.sampler_shapes:  # the place of a tap by its shape; coordinates limited to the map
        where += 2 * choice_luts(3, 8) + 4 * (
            comparison_luts(INTEGER) + choice_luts(2, INTEGER) + adder_luts(INTEGER)
        )
    if config.weight_stream:
        lane += choice_luts(2, 8)
    return (
        Unit("window: sampler", logic_luts=n * lane + where, ffs=n * kept + 2 * numbers + 3 * 8),
        fifo("offsets: taps", 2, numbers - 8),
    )


def _pool(config: EngineConfig) -> tuple[Unit, ...]:
    """Behind the arrays; nothing of it is there without room for a row."""
    n = config.lanes
    largest = 8 * (comparison_luts(ACT_BITS) + choice_luts(2, ACT_BITS))
    return (
        Unit("tail: max-pool", logic_luts=n * (largest + 9 * ACT_BITS), ffs=n * (8 + 9) * ACT_BITS),
        memory("pool rows", config.pool_words, 9 * n, 2),
        memory("pool columns", config.pool_groups, 9 * n, 6),
    )


def _tables(config: EngineConfig) -> tuple[Unit, ...]:
    """A copy a lane for each of two steps, in rows of `wide` entries, of which one is chosen."""
    n, wide = config.lanes, min(config.lanes, TABLE_WIDE)
    return (
        memory("tables", TABLE_BYTES // wide, 8 * wide, 2 * n),
        Unit(
            "tail: entry of a table",
            logic_luts=n * (choice_luts(2, 8 * wide) + choice_luts(wide, 8)),
            ffs=n * 8,
        ),
        Unit("table: row that arrives", logic_luts=choice_luts(max(1, n // wide), 8 * wide), ffs=8 * n),
        fifo("parameters: table", 32, 8 * n),
    )


def _middle_taps(lanes: int, tap_bits: int) -> Unit:
    """As window_taps, but each tap from one place, or zero."""
    taps = window_taps(lanes, 1, tap_bits)
    return replace(taps, name="middle taps", logic_luts=taps.logic_luts + lanes * 9 * ACT_BITS)


def _times(unit: Unit, count: int) -> Unit:
    """So many of a unit."""
    numbers = {name: count * value for name, value in asdict(unit).items() if name != "name"}
    return Unit(unit.name, **numbers)


def _control(config: EngineConfig) -> tuple[Unit, ...]:
    units = []
    for name, counts in CONTROL.items():
        times = {"pointwise": config.arrays, "finish": config.arrays, "middle": config.arrays - 1}.get(
            name, 1
        )
        kept, taken, sums, comparisons, products, dividers = (times * count for count in counts)
        luts = sums * adder_luts(INTEGER) + comparisons * comparison_luts(INTEGER) + dividers * DIVIDER[0]
        ffs = (kept + taken) * INTEGER + dividers * DIVIDER[1]
        units.append(
            Unit(f"{name}: control", memory_luts=taken * INTEGER, logic_luts=luts, ffs=ffs, products=products)
        )
    return (*units, memory("descriptors: segments", config.max_segments, 3 * INTEGER + 3, 6))


def _streams(config: EngineConfig) -> tuple[Unit, ...]:
    n = config.lanes
    acts, word, sums = ACT_BITS * n, 8 * n, config.pixels * n * config.acc_bits
    return (
        fifo("load: streams", 32, 2 * word + acts),
        fifo("window: streams", 32, config.arrays * acts),
        fifo("pointwise: streams", 2, config.arrays * sums),
        *([fifo("middle: streams", 2, 6 * acts)] if config.arrays == 2 else []),
        fifo("store: streams", 32, 2 * acts),
        fifo("parameters: streams", 2, 3 * config.arrays * word),
    )


def _ports(lanes: int) -> Unit:
    further = max(0, 8 * lanes - 32)
    luts, ffs = M_AXI[0] + 2 * further, M_AXI[1] + 4 * further
    return Unit("ports", logic_luts=PORTS * luts + S_AXILITE[0], ffs=PORTS * ffs + S_AXILITE[1])


def _middle(config: EngineConfig, row: int) -> tuple[Unit, ...]:
    """`row`: bits of a requantization table."""
    n = config.lanes
    return (
        _middle_taps(n, config.tap_bits),
        Unit("middle: filter and row that arrive", ffs=config.tap_bits * 9 * n + row),
        memory("middle weights", 2 * config.middle_groups, config.tap_bits * 9 * n),
        memory("middle requantization", 2 * config.middle_groups, row),
        memory("middle rows", config.middle_words, 9 * n, 2),
        memory("middle columns", config.middle_groups, 9 * n, 6),
    )


def _near(name: str, words: int, config: EngineConfig, uram: bool) -> tuple[Unit, ...]:
    """Two memories; of both a step gets what is read, and decides of both what is written and where."""
    bits, address = 8 * config.lanes, (words - 1).bit_length()
    chosen = choice_luts(2, bits) + 4 * choice_luts(2, address)
    return (
        Unit(f"{name}: which is read", logic_luts=chosen),
        memory(name, words, bits, 2, uram=uram),
    )


def _branches(config: EngineConfig) -> tuple[Unit, ...]:
    """A byte of a word against a threshold; ends of address, lane and target; the fields."""
    checks = comparison_luts(9) + 6 * comparison_luts(INTEGER)
    return (Unit("branches", logic_luts=choice_luts(config.lanes, 8) + checks, ffs=2 * INTEGER + 8),)


def resources(config: EngineConfig) -> Resources:
    """What an engine of these constants is made of. Weights and tables have room for two steps."""
    n, arrays, ultra = config.lanes, config.arrays, bool(config.ultra)
    row = (wide_row_bits(config) if config.is_wide else 32 + 8 + 8) * n  # of a requantization table
    sums = config.pixels * n * config.acc_bits  # of one output word
    return Resources((
        _times(products(n, config.pixels - config.fabric, n // config.turns, config.turns, config.acc_bits), arrays),
        _times(products_in_luts(n, config.fabric, n // config.turns, config.acc_bits), arrays),
        window_taps(n, config.ring_rows, config.tap_bits),
        _window_others(n, config.pack_log2),
        *(_pool(config) if config.pool_words >= LEAST_LINE else ()),
        *(_sampler(config) if config.sampler or config.weight_stream else ()),
        *(_tables(config) if config.tables else ()),
        *(mixer(config, requantizer(n, config)) if config.mixer else ()),
        *(global_sums(config, requantizer(n, config)) if config.global_words else ()),
        requantizer(2 * arrays * n, config),
        Unit("pointwise: word of sums", ffs=arrays * sums),
        Unit("finish: pixels of a block", logic_luts=arrays * n * choice_luts(config.pixels, config.acc_bits),
             ffs=arrays * (sums + 9 * n)),
        Unit("load: bytes to activations", logic_luts=2 * n, ffs=9 * n),
        Unit("pointwise: tile that arrives", logic_luts=arrays * 2 * n * n, ffs=arrays * 5 * n * n),
        Unit("window: filter and row that arrive", ffs=config.tap_bits * 9 * n + row),
        Unit("finish: row that arrives", ffs=arrays * row),
        *_streams(config),
        *_control(config),
        _ports(n),
        memory("ring of rows", config.row_words, 9 * n, RING_COPIES * config.ring_rows),
        memory("pointwise weights", 2 * config.weight_tiles, 5 * n * n, arrays, uram=ultra),
        memory("depthwise weights", 2 * config.window_groups, config.tap_bits * 9 * n, uram=ultra),
        memory("window requantization", 2 * config.window_groups, row, uram=ultra),
        memory("pointwise requantization", 2 * config.output_words, row, arrays),
        *(_middle(config, row) if arrays == 2 else ()),
        memory("kept words", 2 * config.input_words, 9 * n, arrays * config.pixels),
        memory("finish: words of a block", 2 * config.output_words, 9 * n, arrays * config.pixels),
        memory("load: chunks", 2 * config.chunk_words, 8 * n),
        memory("store: chunks", 2 * config.chunk_words, 9 * n),
        *(_near("near maps", config.near_words, config, ultra) if config.near_words >= LEAST_NEAR else ()),
        *(_near("steering", config.steer_words, config, False) if config.steer_words >= LEAST_NEAR else ()),
        *(_branches(config) if config.branches else ()),
        memory("port buffers", PORT_WORDS, 8 * n, PORTS),
    ))  # fmt: skip
