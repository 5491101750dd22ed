"""What the arithmetic of an engine takes of an FPGA: arrays of products, taps of windows, requantizers. *Estimated*."""

from __future__ import annotations

from math import ceil

from codesign.engine_config import EngineConfig
from codesign.fabric import (
    Unit,
    adder_luts,
    choice_luts,
    comparison_luts,
    multiplier_luts,
    shifter_luts,
    tree_adders,
)
from codesign.resources_wide import wide_requantizer

WEIGHTS_PER_DSP = 2  # DotProducts of exact/numbers.hpp
PAIR_BITS, ACT_BITS = 24, 9  # of a pair of weights, and of an activation
SHIFT = 19  # between the two sums of a pair


def requantizer(lanes: int, config: EngineConfig = EngineConfig()) -> Unit:  # noqa: B008 -- frozen
    """Scale::apply in so many lanes: add, multiply, shift half to even, clamp."""
    if config.is_wide:
        return wide_requantizer(lanes, config)
    sum_bits, factor_bits, result_bits, small_bits = config.sum_bits, config.mult_bits, 9, 10
    bits = sum_bits + factor_bits
    rounding = bits + choice_luts(bits, 1) + adder_luts(bits + 1)  # half, decoded; the odd bit; the sum
    clamp = 2 * comparison_luts(bits) + 2 * comparison_luts(small_bits) + 2 * result_bits
    to_left = 0
    if config.lefts:
        to_left = (
            2 * comparison_luts(bits) + small_bits + shifter_luts(small_bits + config.lefts - 1, config.lefts)
        )
    product = multiplier_luts(sum_bits, factor_bits) if factor_bits > 1 else 0
    luts = adder_luts(sum_bits) + product + rounding + shifter_luts(bits, min(config.most_shift, bits))
    kept = sum_bits + 2 * factor_bits + 2 * bits + 6 + 4 + small_bits + result_bits
    return Unit("requantizers", logic_luts=lanes * (luts + clamp + to_left), ffs=lanes * kept)


def products(lanes: int, pixels: int, outputs: int, turns: int, acc_bits: int) -> Unit:
    """The array: so many outputs of so many pixels at once, each a sum over all lanes."""
    pairs, product = ceil(outputs / WEIGHTS_PER_DSP), PAIR_BITS + ACT_BITS
    chains = pixels * pairs
    apart = adder_luts(product + lanes.bit_length() - 1 - SHIFT)  # upper sum without the lower one's sign
    sums = WEIGHTS_PER_DSP * adder_luts(acc_bits)
    chosen = lanes * pairs * (2 * choice_luts(turns, 5) + adder_luts(5))
    waiting = (
        ACT_BITS * pixels + 2 * 5 * pairs
    )  # bits of each input, one cycle longer than those of the one before
    few = min(lanes, 3)  # cycles that registers wait, not shift registers
    kept = chains * (apart + SHIFT + sums) + few * waiting
    return Unit("pointwise arrays", dsps=chains * lanes, memory_luts=(lanes - few) * waiting,
                logic_luts=chains * (apart + sums) + chosen, ffs=kept)  # fmt: skip


def products_in_luts(lanes: int, pixels: int, outputs: int, acc_bits: int) -> Unit:
    """Pixels of an array without DSPs: products of int4 weights, and a tree of adders for each output."""
    product = ACT_BITS + 5
    sums = tree_adders(lanes, product) + adder_luts(acc_bits)
    luts = lanes * multiplier_luts(ACT_BITS, 5) + sums
    return Unit("pointwise arrays: pixels in LUTs", logic_luts=pixels * outputs * luts,
                ffs=pixels * outputs * (lanes * product + sums))  # fmt: skip


def window_taps(lanes: int, rows: int, tap_bits: int = 8) -> Unit:
    """Products of nine taps, each from one of so many rows, and their sum."""
    product = ACT_BITS + tap_bits
    tree = tree_adders(9, product)
    chosen = 9 * choice_luts(rows, ACT_BITS)
    return Unit("window taps", logic_luts=lanes * (9 * multiplier_luts(ACT_BITS, tap_bits) + chosen + tree),
                ffs=lanes * (9 * ACT_BITS + 9 * product + tree))  # fmt: skip
