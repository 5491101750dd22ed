"""Which engine for a model on a board: lanes and shape of the array, by what is estimated.

The choices are few: a handful of lanes, few turns, and as many pixels at once as the multipliers allow. All of them are
estimated; a sampler would only leave some out. A program depends on the lanes alone, so that one plan serves every
shape of the array.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from codesign.board import LANES, Board
from codesign.errors import PlanError
from codesign.estimate import estimate, used_macs
from codesign.ir import Graph
from codesign.plan import Plan, plan
from codesign.program import EngineConfig
from codesign.resources import fits, over_budget, resources

MOST_PIXELS = 16
TURNS = (1, 2, 4)
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

    def to_json(self) -> dict[str, Any]:
        shape = {name: getattr(self.config, name) for name in ("lanes", "pixels", "turns")}
        return shape | {k: v for k, v in asdict(self).items() if k != "config"}


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
        macs = [used_macs(step, n) for step in made.program.steps]
        for pixels, turns in _shapes(made.config, board) if array is None else (array,):
            if n % turns:
                continue
            config = replace(made.config, pixels=pixels, turns=turns)
            size = resources(config)
            speed = 1 / estimate(made.program, config, board, macs=macs).seconds
            found.append(Choice(config, speed, size.dsps, size.bram36, size.luts, fits(size, board)))
    if not found:
        raise PlanError(
            f"array: {array} turns do not divide the lanes, expected a divisor. Use 1, 2 or 4 turns."
        )
    fitting = [c for c in found if c.fits]
    if not fitting:
        nearest = min(
            found, key=lambda c: (max(c.dsps / board.dsps, c.bram36 / board.bram36), -c.frames_per_s)
        )
        raise PlanError(over_budget(nearest.config, board, searched=True))
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
    """(pixels, turns)."""
    for turns in (t for t in TURNS if config.lanes % t == 0):
        each = resources(replace(config, pixels=1, turns=turns)).dsps
        most = max(1, min(MOST_PIXELS, board.dsps // each))
        for pixels in range(1, most + 1):  # maps are seldom a multiple of the most
            yield pixels, turns
