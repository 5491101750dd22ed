"""The size of CoDeNet's engine by our way of counting: its published structure in the terms of codesign/fabric.py.

Structure: the HLS sources (github.com/hqjenny/CoDeNet, hls/top) with their constants: 16 lanes, 8-bit weights, rows of
MOST_ROW bytes (the largest that the notebook runs; the constant itself is not published). Size: the bitstream of arXiv
2006.08357 on a ZU3EG. Published sources and published bitstream need not be of one version; the bitstream's weights are
said to have 4 bits, which would halve their memories.

Its DSPs and block RAMs are all that the part has, so that a structure which asks for more is consistent with them and
proves little: more products than DSPs go to LUTs.
"""

from __future__ import annotations

from codesign.board import load_board
from codesign.fabric import (
    Unit,
    adder_luts,
    choice_luts,
    comparison_luts,
    fifo,
    memory,
    multiplier_luts,
    tree_adders,
)
from codesign.published import BOARD, LANES
from codesign.resources import DIVIDER, INTEGER, M_AXI, PORT_WORDS, S_AXILITE

PUBLISHED = {"DSP": 360, "BRAM36": 216, "URAM": 0, "LUT": 34_144, "FF": 41_827}
CHANNELS, MOST_ROW, ROWS = 512, 8192, 15
BITS, SUM, SCALE = 8, 18, 16  # of weights and activations, of sums, of factors and biases
TAPS, BUFFERS = 9, 2  # what one process fills and another reads is there twice
PORT_BITS = (128, 128, 128, 128, 16, 8)
PROCESSES, INTEGERS, SUMS, COMPARISONS = 13, 8, 5, 5  # and the integers of each, about
DIVISIONS = 12  # remainders by the stride and by 15 rows


def units(bits: int = BITS) -> tuple[Unit, ...]:
    """Weights of so many bits. DSPs are those of all products, also of those that are left to LUTs."""
    n, word = LANES, LANES * BITS
    product = BITS + bits
    sums = tree_adders(TAPS, product)
    result = (
        adder_luts(SCALE + SUM) + adder_luts(SUM) + 3 * comparison_luts(SUM)
    )  # rounding, bias, ReLU and clamp
    taps = TAPS * word * choice_luts(ROWS, 1)
    control = PROCESSES * (SUMS * INTEGER + COMPARISONS * comparison_luts(INTEGER))
    further = sum(max(0, bits - 32) for bits in PORT_BITS)
    ports = len(PORT_BITS)
    return (
        Unit("array", dsps=n * n, logic_luts=n * (n // 2) * SUM, ffs=n * (n // 2) * SUM + n * SUM),
        Unit("window: products", dsps=n * TAPS, logic_luts=n * sums, ffs=n * (sums + TAPS * product)),
        Unit("window: taps of a row", logic_luts=taps, ffs=TAPS * word),
        Unit("requantizers", dsps=2 * n, logic_luts=2 * n * result, ffs=2 * n * (SUM + 2 * (SCALE + SUM) + BITS)),
        Unit("remainders", logic_luts=DIVISIONS * DIVIDER[0], ffs=DIVISIONS * DIVIDER[1]),
        Unit("control", logic_luts=control, ffs=PROCESSES * INTEGERS * INTEGER),
        Unit("ports", logic_luts=ports * M_AXI[0] + 2 * further + S_AXILITE[0],
             ffs=ports * M_AXI[1] + 4 * further + S_AXILITE[1]),
        fifo("streams: windows", 2, TAPS * word),
        fifo("streams: weights", 2, TAPS * n * bits + n * n * bits),
        fifo("streams: sums, factors, biases", 2, 2 * n * (SUM + 2 * SCALE)),
        fifo("streams: maps", 2, 3 * word),
        memory("weights of 1x1", CHANNELS * CHANNELS // n // n, n * bits, BUFFERS * n),
        memory("filters", CHANNELS // n, n * bits, BUFFERS * TAPS),
        memory("factors and biases", CHANNELS // 8, SCALE, BUFFERS * 4 * 8),
        memory("pixel", CHANNELS // n, word),
        memory("rows", MOST_ROW // n, word, ROWS),
        *(memory(f"buffer of port {i}", PORT_WORDS, wide) for i, wide in enumerate(PORT_BITS)),
    )  # fmt: skip


def totals(bits: int = BITS) -> dict[str, int]:
    """Of the engine alone, with the products that find no DSP in LUTs."""
    found, board = units(bits), load_board(BOARD)
    asked = sum(u.dsps for u in found)
    left = max(0, asked - board.dsps)
    return {
        "DSP": min(asked, board.dsps),
        "BRAM36": -(-sum(u.bram18 for u in found) // 2),
        "URAM": 0,
        "LUT": sum(u.luts for u in found) + left * multiplier_luts(BITS, bits),
        "FF": sum(u.ffs for u in found),
    }
