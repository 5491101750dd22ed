"""Weights and requantization tables in the order and the bits that the engine reads (parameters.hpp).

`order` maps positions to channels: an array (words, lanes) of channel numbers, -1 where a lane carries none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from codesign.draft import Tables
from codesign.ops.wide_requant import widened
from codesign.ports import Bytes, Ints
from codesign.windows import TAP_WORDS


def requant_rows(t: Tables, order: Ints, wide: bool) -> Bytes:
    """(6 * words, lanes): bias in four bytes, mult, shift; all 0 for lanes without a channel.

    `wide`: (12 * words, lanes), bias in six bytes, mult in four, shift, ties.
    """
    columns = [(t.bias, 4), (t.mult, 1), (t.shift, 1)]
    if wide:
        ties = t.ties
        bias, mult, shift, ties = (
            widened(t.bias, t.mult, t.shift) if ties is None else (t.bias, t.mult, t.shift, ties)
        )
        columns = [(bias, 6), (mult, 4), (shift, 1), (ties, 1)]
    found = [_spread(table, order) >> (8 * byte) & 255 for table, count in columns for byte in range(count)]
    return np.stack(found, axis=1).astype(np.uint8).reshape(-1, order.shape[1])


def depthwise_taps(weight: Ints, order: Ints) -> Bytes:
    """(9 * words, lanes) from weights (kh, kw, C), kh and kw at most 3: missing taps are 0."""
    words, lanes = order.shape
    full = np.zeros((3, 3, weight.shape[2]), np.int64)
    full[: weight.shape[0], : weight.shape[1]] = weight
    taps = [_spread(full[i, j], order) & 255 for i in range(3) for j in range(3)]
    return np.stack(taps, axis=1).astype(np.uint8).reshape(words * TAP_WORDS, lanes)


def varied_taps(weight: Ints, order: Ints) -> Bytes:
    """(pixels * 9 * words, lanes) from weights of every pixel (H', W', 9, C), in the order in which they are used."""
    words, lanes = order.shape
    padded = np.concatenate([weight, np.zeros_like(weight[..., :1])], axis=3)
    placed = padded[..., order] & 255  # (H', W', 9, words, lanes)
    return np.moveaxis(placed, 3, 2).astype(np.uint8).reshape(-1, lanes)


def gathered_order(order: Ints, kernel: tuple[int, int], channels: int, pack: int) -> Ints:
    """Rows of weight.reshape(kh*kw*Cin, Cout) in the order in which the window emits its taps.

    The window emits side x side taps, side = max(kh, kw). `pack` > 1: a word holds that many taps.
    """
    kh, kw = kernel
    side = max(kernel)
    taps = [i * kw + j if i < kh and j < kw else -1 for i in range(side) for j in range(side)]
    if pack == 1:
        return np.concatenate([np.where((order >= 0) & (t >= 0), t * channels + order, -1) for t in taps])
    lanes = order.shape[1]
    slot = lanes // pack
    words = -(-len(taps) // pack)
    out = np.full((words * pack, slot), -1, np.int64)
    for i, t in enumerate(taps):
        if t >= 0:
            out[i, :channels] = t * channels + np.arange(channels)
    return out.reshape(words, lanes)


def pointwise_tiles(weight: Ints, rows: Ints, columns: Ints, halves: bool) -> Bytes:
    """Tiles (output word, input word[, half]), each (lanes + 1) // 2 words, from weight (Cin, Cout)."""
    lanes = rows.shape[1]
    padded = np.zeros((weight.shape[0] + 1, weight.shape[1] + 1), np.int8)
    padded[:-1, :-1] = weight
    placed = padded[rows.reshape(-1)][:, columns.reshape(-1)]
    tiles = placed.reshape(len(rows), lanes, len(columns), lanes).transpose(2, 0, 1, 3)
    parts = np.stack([tiles >> 4, tiles & 15], axis=2) if halves else tiles[:, :, None]
    nibbles = (parts.reshape(-1, lanes, lanes) & 15).astype(np.uint8)
    if lanes == 1:
        return nibbles.reshape(-1, 1)
    words: Bytes = nibbles[:, 0::2] | nibbles[:, 1::2] << np.uint8(4)
    return words.reshape(-1, lanes)


def table(values: Ints, lanes: int) -> Bytes:
    """Words of a table: entry by entry, the lower eight bits of each."""
    entries: Bytes = (values & 255).astype(np.uint8)
    return entries.reshape(-1, lanes)


def fits_int4(weight: npt.NDArray[np.int64]) -> bool:
    """Whether one pass of the array is enough."""
    return bool(weight.min() >= -8 and weight.max() <= 7)


def _spread(table: Ints, order: Ints) -> Ints:
    """table[order], 0 where order is -1."""
    padded = np.append(table, 0)
    return np.asarray(padded[order], np.int64)
