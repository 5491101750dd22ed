"""Cycles of windows that look at no neighbours: sums of whole maps, and what gates multiply (global.hpp, mix.hpp)."""

from __future__ import annotations

from codesign.dram import Dram
from codesign.step import POINTWISE, Step, tile_words
from codesign.transfers import ENTRY, FETCH, PRODUCTS, SLOTS, WINDOW, offset_words, steering_pace

SUMMED_UP, GIVEN, GATES = 4, 14, 2  # depths of the loops


def partial_sums(groups: int) -> int:
    """That global.hpp keeps: those of a word are at least kSlots turns apart."""
    return groups if groups >= SLOTS else SLOTS if groups == 1 else 2 * groups


def tiles_of(step: Step, lanes: int) -> tuple[int, int, int]:
    """Of a step that makes weights: how many tiles, words that a tile takes, and turns in which it takes none."""
    assert step.mixing is not None
    halves = tile_words(lanes) if POINTWISE[2] == step.mixing.kind else 0
    return step.height * step.width // lanes, lanes * step.groups, halves


def turns(step: Step, lanes: int) -> int:
    """Cycles of the window if it never waits."""
    if step.mixing is None:
        return step.height * step.width * step.groups + partial_sums(step.groups)
    if step.mixing.makes_weights:
        tiles, words, halves = tiles_of(step, lanes)
        return offset_words(step) + tiles * (words + halves)
    return offset_words(step) + (step.height * step.width + 1) * step.groups


def middle(step: Step, lanes: int, memory: Dram, pace_in: float, pace_out: float) -> float:
    """From the first word that could be taken to the last that leaves.

    A word comes each `pace_in` cycles, and what follows takes one each `pace_out`.
    """
    taken = max(pace_in, 1.0)
    if step.mixing is None:
        parts = partial_sums(step.groups)
        given = max(parts, step.groups * pace_out)
        return (
            step.height * step.width * step.groups * taken + given + SUMMED_UP + GIVEN + 2 * ENTRY + PRODUCTS
        )
    gates = offset_words(step) * max(steering_pace(step, memory), 1.0) + GATES + 2 * ENTRY + FETCH + PRODUCTS
    if step.mixing.makes_weights:
        tiles, words, halves = tiles_of(step, lanes)
        stored = tile_words(lanes) * (2 if halves else 1)
        return gates + tiles * max(words * taken + halves, stored * pace_out) + WINDOW
    pixel = max(step.groups * taken, step.mixing.out * pace_out)
    return gates + step.height * step.width * pixel + step.groups + WINDOW
