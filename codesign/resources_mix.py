"""What windows without neighbours take of an FPGA: sums of whole maps, and what gates multiply. *Estimated*."""

from __future__ import annotations

from dataclasses import replace

from codesign.engine_config import EngineConfig
from codesign.fabric import (
    Unit,
    adder_luts,
    choice_luts,
    comparison_luts,
    fifo,
    memory,
    multiplier_luts,
)

INTEGER, SLOTS = 32, 4
SUMS, COMPARISONS, KEPT, PRODUCTS = 12, 10, 14, 3  # of integers that count, for each of the three loops


def _control(name: str, loops: int) -> Unit:
    luts = loops * (SUMS * adder_luts(INTEGER) + COMPARISONS * comparison_luts(INTEGER))
    return Unit(name, logic_luts=luts, ffs=loops * KEPT * INTEGER, products=loops * PRODUCTS)


def mixer(config: EngineConfig, requantizers: Unit) -> tuple[Unit, ...]:
    """In each lane a product, two sums and the largest of a set; gates, and words of two pixels.

    `requantizers` are those of one word: maps have some, and weights that are made.
    """
    n, sums = config.lanes, config.acc_bits
    lane = multiplier_luts(16, 9) + 2 * adder_luts(sums) + adder_luts(16) + comparison_luts(16)
    lane += multiplier_luts(9, 7) + comparison_luts(9) + 3 * choice_luts(2, 16) + choice_luts(n, 8)
    halves = (n + 1) // 2 * 9 * n  # of the weights of a tile
    return (
        Unit("mix: lanes", logic_luts=n * lane, ffs=n * (2 * sums + 3 * 16 + 9 + 8 + 25) + halves),
        replace(requantizers, name="mix: requantizers of maps"),
        replace(requantizers, name="mix: requantizers of weights"),
        _control("mix: control", 2),
        memory("mix: words of two pixels", 2 * config.mixer, 9 * n),
        memory("mix: gates", config.mixer, 8 * n),
        fifo("offsets: gates", 2, max(0, 8 * n - (27 * 8 if config.sampler else 8))),
    )


def global_sums(config: EngineConfig, requantizers: Unit) -> tuple[Unit, ...]:
    n, sums = config.lanes, config.acc_bits
    lane = 2 * adder_luts(sums) + 2 * choice_luts(2, sums)
    return (
        Unit("global: lanes", logic_luts=n * lane, ffs=2 * n * sums),
        replace(requantizers, name="global: requantizers"),
        _control("global: control", 1),
        memory("global: sums", max(2 * SLOTS, config.global_words), n * sums),
    )
