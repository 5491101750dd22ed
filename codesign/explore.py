"""Which engine for a model on a board: lanes and shape of the array, by what is estimated.

The choices are few: a handful of lanes, the divisors of each as turns, and for both the most pixels at once that the
multipliers allow. All of them are estimated; a sampler would only leave some out. A program depends on the lanes
alone, so that one plan serves every shape of the array.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from codesign.board import LANES, Board
from codesign.errors import PlanError
from codesign.estimate import estimate
from codesign.ir import Graph
from codesign.plan import Plan, plan
from codesign.program import EngineConfig
from codesign.resources import fits, over_budget, resources

MOST_PIXELS = 16
SLACK = 1.02  # of two engines as fast as this, the smaller one


@dataclass(frozen=True)
class Choice:
    """An engine, what it is estimated to need, and how fast. DSP, BRAM36 and LUT as resources.py counts them."""

    config: EngineConfig
    frames_per_s: float
    dsps: int
    bram36: int
    luts: int
    fits: bool


def explore(
    graph: Graph, board: Board, lanes: int | None = None, array: tuple[int, int] | None = None
) -> tuple[Plan, tuple[Choice, ...]]:
    """The best plan for a board, and every choice that was looked at, best first.

    `lanes` and `array` (pixels, turns) leave only those. Raises PlanError if none fits the board, with the units that
    are too large in the one that comes nearest, or if the graph cannot be planned.
    """
    plans: dict[int, Plan] = {}
    found: list[Choice] = []
    for n in _lanes(board) if lanes is None else (lanes,):
        made = plans[n] = plan(graph, n)
        shapes = _shapes(made.config, board) if array is None else (array,)
        for pixels, turns in shapes:
            if n % turns:
                raise PlanError(f"--array: {turns} turns, expected a divisor of {n} lanes. Use {n} or 1.")
            config = replace(made.config, pixels=pixels, turns=turns)
            size = resources(config)
            speed = 1 / estimate(made.program, config, board).seconds
            found.append(Choice(config, speed, size.dsps, size.bram36, size.luts, fits(size, board)))
    fitting = [c for c in found if c.fits]
    if not fitting:
        nearest = min(
            found, key=lambda c: (max(c.dsps / board.dsps, c.bram36 / board.bram36), -c.frames_per_s)
        )
        raise PlanError(over_budget(nearest.config, board))
    fastest = max(c.frames_per_s for c in fitting)
    best = min((c for c in fitting if c.frames_per_s * SLACK >= fastest), key=lambda c: (c.dsps, c.luts))
    order = sorted(found, key=lambda c: (c is not best, not c.fits, -c.frames_per_s))
    made = plans[best.config.lanes]
    return Plan(best.config, made.program), tuple(order)


def _lanes(board: Board) -> Sequence[int]:
    """Words as wide as a port, half and twice that: narrower ones leave the memory idle, wider ones only wait."""
    port = board.hp_width_bits // 8
    return [n for n in LANES if port // 2 <= n <= 2 * port] or [max(LANES)]


def _shapes(config: EngineConfig, board: Board) -> Iterator[tuple[int, int]]:
    """(pixels, turns): for every number of turns, all numbers of pixels whose multipliers a board has."""
    n = config.lanes
    for turns in (t for t in (1, 2, 4, 8, 16) if n % t == 0):
        each = resources(replace(config, pixels=1, turns=turns)).dsps
        for pixels in range(1, max(1, min(MOST_PIXELS, board.dsps // each)) + 1):
            yield pixels, turns
