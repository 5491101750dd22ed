"""How an accumulator is requantized: by the factor that the file has or, where that is none of the accelerator's, by
one with which every sum that can occur gets the very same code.

A file that was quantized with free scales, whose batch normalization is not folded or that divides by an area asks for

    T(a) = clamp(round_half_even((a + bias) * scale / over + shift) / step), lo, hi)

of each channel's sum a. The accelerator has E(a) = clamp(RHE((times * a + bias') * mult, n), lo, hi), with mult of 8
bits; `times` is multiplied into the channel's weights as far as they have room. Where that does not do for a channel,
all have a WideRequant: E(a) = clamp(RHE(mult * a + bias', n), lo, hi), with mult of up to 32 bits. What is searched for
is equal to T for every sum within the proven range of a: see codesign/stairs.py.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

import numpy as np

from codesign.ir import Array, IntType
from codesign.onnx_values import REFUSED, Acc, Act, Factors, Refused, odd_and_exponent
from codesign.ops.requant import SHIFT_MAX, SHIFT_MIN
from codesign.ops.wide_requant import FACTOR
from codesign.stairs import Stairs, Steps, factors, wide_factors

MULT_BITS = 8
MOST_TIMES = 127  # the largest weight
QUANTIZE = "Quantize it again, with pictures: `codesign quantize`."


def is_direct(acc: Acc, step: float) -> bool:
    """Whether the file's own factor is one of the accelerator's."""
    odd, _ = odd_and_exponent(acc.scale / step)
    return acc.over == 1 and acc.shift is None and bool(np.all((odd > 0) & (odd < 1 << MULT_BITS)))


def direct(acc: Acc, step: float) -> Factors:
    odd, exponent = odd_and_exponent(acc.scale / step)
    return Factors(np.ones_like(acc.bias), acc.bias, odd, np.clip(-exponent, SHIFT_MIN, SHIFT_MAX))


def settled(act: Act, weights: Array | None) -> Act:
    """The codes of an accumulator with the factors that make them. Raises Refused where there are none.

    `weights` (..., C) may be multiplied by channel; None where they may not.
    """
    acc = act.source
    assert isinstance(acc, Acc)
    if acc.node == REFUSED or np.isnan(acc.scale).any() or is_direct(acc, act.scale):
        return act
    if acc.reach is None:
        raise Refused(_said(acc, act, 0), QUANTIZE)
    channels = len(acc.scale)
    room = (
        np.zeros(channels, np.int64) if weights is None else np.abs(weights).reshape(-1, channels).max(axis=0)
    )
    most = np.minimum(MOST_TIMES // np.maximum(room, 1), MOST_TIMES) if weights is not None else room + 1
    asked = [_asked(acc, act, c) for c in range(channels)]
    ranges = [(int(low), int(high)) for low, high in zip(*acc.reach, strict=True)]
    narrow = list[tuple[int, int, int, int]]()
    for stairs, (low, high), times in zip(asked, ranges, most, strict=True):
        found = search(stairs, low, high, int(times))
        if found is None:
            break
        narrow.append(found)
    else:
        times, bias, mult, shift = (np.array(column, np.int64) for column in zip(*narrow, strict=True))
        return replace(act, source=replace(acc, factors=Factors(times, bias, mult, shift)))
    wide = [wide_factors(s, *r) for s, r in zip(asked, ranges, strict=True)]
    wrong = [c for c, found in enumerate(wide) if found is None]
    if wrong:
        more = f" and {len(wrong) - 1} more of {channels}" if len(wrong) > 1 else ""
        raise Refused(f"{_said(acc, act, wrong[0])} (channel {wrong[0]}{more})", QUANTIZE)
    bias, mult, shift, ties = (np.array(column, np.int64) for column in zip(*wide, strict=True))
    return replace(act, source=replace(acc, factors=Factors(np.ones_like(bias), bias, mult, shift, ties)))


def _asked(acc: Acc, act: Act, c: int) -> Stairs:
    """What the file makes of a channel's sums."""
    ratio = Fraction(float(acc.scale[c])) / Fraction(act.scale) / acc.over
    term = Fraction(float(acc.shift[c])) / Fraction(act.scale) if acc.shift is not None else Fraction(0)
    return Stairs(ratio, term + int(acc.bias[c]) * ratio, act.lo, act.hi)


def _said(acc: Acc, act: Act, channel: int) -> str:
    factor = acc.scale[channel] / acc.over / act.scale
    bias = acc.bias[channel] * factor + (0 if acc.shift is None else acc.shift[channel] / act.scale)
    return (
        f"wants sums of {acc.where} times {factor:.6g} plus {bias:.6g}, which no constant and m * 2^-e with m of "
        f"{FACTOR.bits} bits give for each of them"
    )


@lru_cache(maxsize=4096)
def search(stairs: Stairs, low: int, high: int, most: int) -> tuple[int, int, int, int] | None:
    """times, bias, mult, shift with the same code for every a in low..high; times is at most `most` either way."""
    sign = -1 if stairs.ratio < 0 else 1
    if stairs.ratio == 0:
        return _level(stairs, 0, low, high)
    if sign < 0:
        low, high = -high, -low
    ratio = abs(stairs.ratio)
    steps = Steps.of(replace(stairs, ratio=ratio), low, high)
    if steps.level is not None:
        return _level(stairs, steps.level, low, high)
    (ja, a), (jb, b) = (np.array(pairs, np.int64).T for pairs in (steps.reached, steps.missed))
    for times in range(1, most + 1):
        for mult, shift in _factors(ratio / times):
            # (times * a + bias) * mult reaches (j + 1/2) * 2^shift or not; of two codes beside a tie the even one wins.
            half, scaled = (1 << (shift - 1), mult) if shift else (1, 2 * mult)
            least = int((-((-((2 * ja + 1) * half + (ja % 2 == 0))) // scaled) - times * a).max())
            largest = int((((2 * jb + 1) * half - (jb % 2 == 1)) // scaled - times * b).min())
            bias = (least + largest) // 2
            if least <= largest and _fits(times, bias, low, high):
                return sign * times, bias, mult, shift
    return None


def _factors(factor: Fraction) -> list[tuple[int, int]]:
    """The two nearest mult * 2^-shift, reduced; none where the accelerator does not shift so far."""
    found = []
    for mult, shift in factors(factor, MULT_BITS):
        while mult % 2 == 0:
            mult, shift = mult // 2, shift - 1
        if 0 <= shift <= SHIFT_MAX and mult < 1 << MULT_BITS:
            found.append((mult, shift))
    return found


def _fits(times: int, bias: int, low: int, high: int) -> bool:
    i32 = IntType(32)
    return i32.min <= times * low + bias and times * high + bias <= i32.max and i32.min <= bias <= i32.max


def _level(stairs: Stairs, code: int, low: int, high: int) -> tuple[int, int, int, int] | None:
    """One code for every sum."""
    if stairs.ratio == 0:
        code = stairs.code(stairs.term)
    far = max(abs(low), abs(high), 1)
    shift = far.bit_length() + 2
    bias = code << shift
    return (1, bias, 1, shift) if _fits(1, bias, low, high) else None
