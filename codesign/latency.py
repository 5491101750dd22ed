"""How long frames take whose branches decide what runs: min, mean and max, of all ways and of a data set. *Estimated*.

What a branch decides follows from the integer graph alone, so pictures are evaluated in numpy, and each way through
the program that occurs is estimated once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.board import Board
from codesign.engine_config import EngineConfig
from codesign.estimate import KIND, estimate, extremes
from codesign.ir import Graph, evaluate
from codesign.ops import Select
from codesign.program import Program
from codesign.switch import Decision
from codesign.windows import ALWAYS


@dataclass(frozen=True)
class Latency:
    """Seconds a frame, of the engine alone. `taken`: of each value that is selected, the share of frames with a."""

    frames: int
    least: float
    mean: float
    most: float
    taken: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        times = {"min": self.least * 1e3, "mean": self.mean * 1e3, "max": self.most * 1e3}
        return {"kind": KIND, "frames": self.frames, "milliseconds": times, "taken": dict(self.taken)}


@dataclass
class Ways:
    """A program whose steps are skipped by what `graph` computes; `names` are the nodes of each step."""

    graph: Graph
    program: Program
    config: EngineConfig
    board: Board
    names: Sequence[Sequence[str]]
    _known: dict[tuple[bool, ...], float] = field(default_factory=dict)

    @property
    def branches(self) -> dict[int, str]:
        """Steps that look at a number, and one of the values that they select."""
        return {
            i: self.names[i][0] for i, step in enumerate(self.program.steps) if step.waits and step.branch
        }

    def bounds(self) -> tuple[float, float]:
        """Seconds of the fastest and of the slowest way, whether a picture takes it or not."""
        low, high = (self._seconds(way.jumps) for way in extremes(self.program, self.config, self.board))
        return low, high

    def _seconds(self, jumps: Mapping[int, bool]) -> float:
        way = tuple(jumps.get(i, False) for i in self.branches)
        if way not in self._known:
            none = [(0, 0)] * len(self.program.steps)
            found = estimate(self.program, self.config, self.board, macs=none, jumps=jumps)
            self._known[way] = found.seconds
        return self._known[way]

    def of(self, batches: Iterable[Mapping[str, npt.NDArray[Any]]]) -> Latency:
        """Of frames, each batch as `evaluate` takes it."""
        nodes = {node.name: node for node in self.graph.nodes}
        selects = {name: nodes[name] for name in dict.fromkeys(self.branches.values())}
        seconds: list[float] = []
        taken: dict[str, list[bool]] = {name: [] for name in selects}
        for feeds in batches:
            values = evaluate(self.graph, feeds, keep=[node.inputs[2] for node in selects.values()])
            for name, node in selects.items():
                assert isinstance(node.op, Select)
                numbers = values[node.inputs[2]].reshape(-1)
                taken[name] += (numbers >= node.op.threshold).tolist()
            for i in range(len(seconds), len(seconds) + len(next(iter(feeds.values())))):
                seconds.append(self._seconds({at: not taken[name][i] for at, name in self.branches.items()}))
        shares = {name: float(np.mean(found)) for name, found in taken.items()}
        return Latency(len(seconds), min(seconds), float(np.mean(seconds)), max(seconds), shares)


def decided(graph: Graph, chosen: Mapping[Decision, str]) -> Graph:
    """What a graph computes where decisions are changed, as `switch.switched` changes its program."""
    thresholds: dict[str, int] = {}
    for decision, how in chosen.items():
        for cut, wanted in zip(decision.cuts, decision.thresholds(how), strict=True):
            at = (-ALWAYS if wanted else ALWAYS) if isinstance(wanted, bool) else wanted
            thresholds |= dict.fromkeys(cut.selects, at)
    nodes = (
        replace(node, op=Select(thresholds[node.name])) if node.name in thresholds else node
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes))
