"""What a board has room for: multipliers in its LUTs, and maps that stay on chip in what block RAM is left."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from codesign.board import Board
from codesign.budget import budget, fits
from codesign.engine_config import LEAST_NEAR, EngineConfig
from codesign.resources import resources

LUT_SHARE = 0.92  # of a board's, for an engine that multiplies in them: the design around it needs some
NEAR_WORDS = 512  # of a block RAM at its widest


def in_luts(config: EngineConfig, board: Board) -> EngineConfig:
    """With as many pixels of each array multiplied in LUTs as DSPs are missing."""
    need = resources(config).dsps
    each = need // max(1, config.pixels - config.fabric)  # one pixel of every array
    missing = min(config.pixels, ceil(max(0, need - board.dsps) / each)) if each else 0
    return replace(config, fabric=missing)


def limits_of(config: EngineConfig, board: Board) -> tuple[tuple[str, int, int], ...]:
    """As `budget`, of a board without the LUTs that an engine must leave."""
    luts = int(LUT_SHARE * board.luts) if config.fabric else board.luts
    return budget(resources(config), replace(board, luts=luts))


def has_luts(config: EngineConfig, board: Board) -> bool:
    """Whether an engine that multiplies in LUTs leaves some."""
    return all(need <= have for what, need, have in limits_of(config, board) if what == "LUT")


def with_maps(config: EngineConfig, most: int, board: Board, steering: int = 0) -> EngineConfig:
    """With memories for maps as large as the board has room for, of `most` words at most.

    First come those for what steers windows, of `steering` words at most: they are small.
    """
    alone = replace(config, near_words=1, steer_words=1)
    return _with(_with(alone, "steer_words", steering, board), "near_words", most, board)


def _with(config: EngineConfig, memories: str, most: int, board: Board) -> EngineConfig:
    """With two of these memories as large as there is room for; `config` has none."""
    if most < LEAST_NEAR or not fits(resources(config), board):
        return config
    found = 0  # blocks that fit
    beyond = ceil(most / NEAR_WORDS) + 1  # and that do not, or are more than there is use for
    while beyond - found > 1:
        blocks = (found + beyond) // 2
        if fits(resources(replace(config, **{memories: blocks * NEAR_WORDS})), board):
            found = blocks
        else:
            beyond = blocks
    return replace(config, **{memories: max(1, found * NEAR_WORDS)})
