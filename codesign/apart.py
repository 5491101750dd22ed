"""What is stored although a step could join it with what follows, because a step for each is estimated faster."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from codesign.board import Board
from codesign.drafts import drafts
from codesign.engine_config import EngineConfig
from codesign.errors import PlanError
from codesign.estimate import Estimate, estimate
from codesign.ir import Graph
from codesign.plan import Plan, plan


def _cost(made: Plan, board: Board) -> Estimate:
    """Without counting multiply-accumulates, which takes longer than the rest."""
    return estimate(made.program, made.config, board, macs=[(0, 0)] * len(made.program.steps))


def speed_of(made: Plan, board: Board) -> float:
    return 1 / _cost(made, board).seconds


def chained(graph: Graph) -> tuple[str, ...]:
    """Results of convolutions that an engine of two arrays need not store."""
    return tuple(d.front.name for d in drafts(graph) if d.front is not None)


def stored_apart(graph: Graph, config: EngineConfig, board: Board) -> tuple[str, ...]:
    """Results that are stored: where a step that makes them and one that reads them cost less than one for both."""
    whole = plan(graph, config=config)
    chosen: list[str] = []
    if config.arrays == 2:
        chosen += cheaper_apart(whole, plan(graph, config=config, apart=chained(graph)), board)
    try:
        single = plan(graph, config=config, fuse=False)
    except PlanError:  # the engine was made for fused windows, and has no room for others
        single = whole
    chosen += cheaper_apart(plan(graph, config=config, apart=chosen), single, board)
    made = plan(graph, config=config, apart=chosen)
    return tuple(chosen) if _cost(made, board).cycles < _cost(whole, board).cycles else ()


def cheaper_apart(whole: Plan, parts: Plan, board: Board) -> list[str]:
    """Results that `whole` does not store and `parts` does, and that should be, step by step."""
    single, found = _by_nodes(parts, board), []
    for nodes, cycles in _by_nodes(whole, board).items():
        apart, result = _split(nodes, single)
        if apart < cycles:
            found.append(result)
    return found


def _split(nodes: tuple[str, ...], single: Mapping[tuple[str, ...], int]) -> tuple[float, str]:
    """Cycles of two steps that compute the same, and the result that they store between them; no two: infinity."""
    for k in range(1, len(nodes)):
        if nodes[:k] in single and nodes[k:] in single:
            return single[nodes[:k]] + single[nodes[k:]], nodes[k - 1]
    return inf, ""


def _by_nodes(made: Plan, board: Board) -> dict[tuple[str, ...], int]:
    """Cycles of all steps that compute the same values."""
    cycles: dict[tuple[str, ...], int] = {}
    for step, cost in zip(made.program.steps, _cost(made, board).steps, strict=True):
        cycles[step.nodes] = cycles.get(step.nodes, 0) + cost.cycles
    return cycles
