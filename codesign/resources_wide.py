"""What a requantizer with wide rows takes of an FPGA: WideRow of rows.hpp. *Estimated*."""

from __future__ import annotations

from math import ceil

from codesign.engine_config import EngineConfig
from codesign.fabric import Unit, adder_luts, choice_luts, comparison_luts, shifter_luts

FIELD = 6  # bits of shift and of ties
DSP = (25, 18)  # bits of the operands of a DSP48E1, signed; one more on either side in others


def product_dsps(a: int, b: int) -> int:
    """DSPs of a signed product of a x b bits: each further one takes a bit less, without the sign."""

    def parts(bits: int, most: int) -> int:
        return 1 + ceil(max(0, bits - most) / (most - 1))

    return min(parts(a, DSP[0]) * parts(b, DSP[1]), parts(b, DSP[0]) * parts(a, DSP[1]))


def wide_row_bits(config: EngineConfig) -> int:
    """Of one lane."""
    return config.wide + config.mult_bits + 2 * FIELD


def wide_requantizer(lanes: int, config: EngineConfig) -> Unit:
    """In each lane a product in DSPs, the constant, half a step and `ties` decoded, a shift, a clamp."""
    bits, result_bits = max(config.acc_bits + config.mult_bits, config.wide) + 3, 9
    rounding = (
        choice_luts(min(config.most_shift, bits), 1) + 2 * bits + choice_luts(2, bits) + 2 * adder_luts(bits)
    )
    shift = comparison_luts(FIELD) * 3 + shifter_luts(bits, min(config.most_shift, bits))
    clamp = 2 * comparison_luts(bits) + 2 * result_bits
    kept = config.acc_bits + wide_row_bits(config) + 4 * bits + 2 * FIELD + result_bits
    dsps = product_dsps(config.acc_bits, config.mult_bits)
    return Unit("requantizers", dsps=lanes * dsps, logic_luts=lanes * (adder_luts(bits) + rounding + shift + clamp),
                ffs=lanes * kept)  # fmt: skip
