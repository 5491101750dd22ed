"""Scales and codes of post-training quantization: numpy alone, one function for each choice.

Activations have a power of two, weights m * 2^-e by output channel with m in 1, 5, 3, 7 (4, 5, 6 and 7 but for powers
of two), as the model file wants it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
MANTISSAS = (4, 5, 6, 7)
EXACT = 1 << 24  # float32 holds every integer below: what stock runtimes compute is exact then
SAMPLES = 1 << 16  # values of a tensor that decide its scale


def sample(values: Array, rng: np.random.Generator) -> Array:
    """Some of the values, and always the extremes."""
    flat = values.reshape(-1)
    if flat.size <= SAMPLES:
        return flat
    return np.concatenate([rng.choice(flat, SAMPLES), [flat.min(), flat.max()]])


def limits(bits: int, signed: bool) -> tuple[int, int]:
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def activation_exponent(samples: list[Array], bits: int, signed: bool, most: int = 3) -> int:
    """f of the scale 2^-f with the least squared error over the samples, each tensor weighed by its own power.

    From the one that clips nothing to `most` steps finer, which clip ever more.
    """
    lo, hi = limits(bits, signed)
    high = max(float(max(x.max() / hi, x.min() / lo if lo else 0.0)) for x in samples)
    first = -int(np.ceil(np.log2(max(high, 2.0**-40))))
    power = [max(float(np.mean(np.square(x, dtype=np.float64))), 1e-30) for x in samples]

    def error(f: int) -> float:
        step = 2.0**-f
        found = 0.0
        for x, p in zip(samples, power, strict=True):
            off = np.clip(np.rint(x / step), lo, hi) * step - x
            found += float(np.mean(np.square(off, dtype=np.float64))) / p
        return found

    return min(range(first, first + most + 1), key=error)


def weight_scales(rows: Array, bits: int, largest_code: int, bias: Array) -> Array:
    """Scale m * 2^-e of each row [C, K] with the least squared error, codes narrow (symmetric).

    Only scales with which sums over codes up to `largest_code`, and twice the `bias` (in steps of what is read), stay
    exact in float32.
    """
    top = (1 << (bits - 1)) - 1
    largest = np.maximum(np.abs(rows).max(axis=1), 2.0**-30)
    found, best = np.zeros(len(rows)), np.full(len(rows), np.inf)
    # A channel that is nearly its bias alone: no finer than the bias allows.
    base = np.floor(np.log2(np.maximum(largest / top, np.abs(bias) * 2.0**-19)))
    for k in range(-3, 8):
        for m in MANTISSAS:
            scale = m * 2.0 ** (base - 2 + k)
            codes = np.clip(np.rint(rows / scale[:, None]), -top, top)
            reach = np.abs(codes).sum(axis=1) * largest_code + 2 * np.abs(bias) / scale
            error = np.square(codes * scale[:, None] - rows).sum(axis=1)
            error = np.where(reach * mantissa(scale) < EXACT, error, np.inf)
            better = error < best
            found, best = np.where(better, scale, found), np.where(better, error, best)
    return found


def rounded(rows: Array, scale: Array, bits: int) -> Array:
    top = (1 << (bits - 1)) - 1
    return np.clip(np.rint(rows / scale[:, None]), -top, top).astype(np.int64)


def rounded_in_turn(rows: Array, scale: Array, bits: int, gram: Array) -> Array:
    """Codes [C, K] of weights rounded one input after the other, each error spread over the inputs that follow.

    `gram` [K, K] is the mean product of inputs (GPTQ, arXiv 2210.17323, with inputs in the order of their power).
    """
    top = (1 << (bits - 1)) - 1
    order = np.argsort(-np.diag(gram), kind="stable")
    h = gram[np.ix_(order, order)].astype(np.float64)
    h[np.diag_indices_from(h)] += 0.01 * np.mean(np.diag(h)) + 1e-12
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    left = rows[:, order].astype(np.float64).copy()
    codes = np.zeros(rows.shape, np.int64)
    for k in range(rows.shape[1]):
        codes[:, k] = np.clip(np.rint(left[:, k] / scale), -top, top)
        off = (left[:, k] - codes[:, k] * scale) / upper[k, k]
        left[:, k:] -= off[:, None] * upper[k, k:]
    back = np.empty_like(codes)
    back[:, order] = codes
    return back


def mantissa(scale: Array) -> Array:
    """The odd part of m * 2^-e."""
    fraction, _ = np.frexp(scale)
    odd = np.rint(fraction * 8).astype(np.int64)
    while np.any(even := (odd % 2 == 0) & (odd > 0)):
        odd = np.where(even, odd // 2, odd)
    return odd


def exact_bias(bias: Array, step: Array, codes: Array, largest: int) -> Array:
    """Codes of a bias in steps of the accumulator, such that every sum stays exact in float32."""
    reach = EXACT // mantissa(step) - 1 - np.abs(codes).sum(axis=1) * largest
    return np.clip(np.rint(bias / step), -np.maximum(reach, 0), np.maximum(reach, 0)).astype(np.int64)


def snr(exact: Array, got: Array) -> float:
    """Signal to noise, dB."""
    noise = float(np.mean(np.square(got - exact, dtype=np.float64)))
    power = float(np.mean(np.square(exact, dtype=np.float64)))
    return 10 * float(np.log10(max(power, 1e-30) / max(noise, 1e-30)))
