"""Upsampling as late as possible: what is computed at each pixel alone is computed before pixels are repeated.

A 1x1 convolution with its Requant, of what nearest-neighbour upsampling gives, is the same before it: a quarter of the
work, and a quarter of the words. The planner does this to its own copy of a graph, whose values of these names are then
smaller; a node behind each of them repeats its pixels, which readers do while they load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from codesign.ir import Graph, Node
from codesign.ops import Conv, Requant, Upsample
from codesign.step import MAX_UP


@dataclass(frozen=True)
class Late:
    """A graph for the planner. `full`: for each value that is smaller in it, the one that has its size."""

    graph: Graph
    full: Mapping[str, str] = field(default_factory=dict)


def upsampled_late(graph: Graph) -> Late:
    """The graph with such convolutions before what they read is upsampled; as it is where that is nowhere possible."""
    made: dict[str, Node] = {}
    full: dict[str, str] = {}
    pending: dict[
        str, list[Node]
    ] = {}  # upsamplings that a Requant takes over from its convolution, last first
    taken = set(graph.types())
    for node in graph.nodes:
        moved = replace(node, inputs=tuple(full.get(s, s) for s in node.inputs))
        repeated = _repeated(made, moved) if _alone(graph, node) else []
        if repeated:
            pending[node.name] = repeated
            moved = replace(moved, inputs=(repeated[-1].inputs[0], *moved.inputs[1:]))
        made[node.name] = moved
        value = node.name
        for upsample in reversed(pending.get(node.inputs[0], [])):
            name = f"{value}.upsampled"
            while name in taken:
                name += "_"
            taken.add(name)
            made[name] = Node(name, upsample.op, (value,))
            value = full[node.name] = name
    if not pending:
        return Late(graph)
    late = replace(graph, nodes=tuple(made.values()))
    most = max(up for view in late.views.values() for _, _, up in view)
    return Late(late, full) if most <= MAX_UP else Late(graph)


def _alone(graph: Graph, node: Node) -> bool:
    """Whether a 1x1 convolution is read by a Requant and nobody else."""
    users = graph.users[node.name]
    return (
        node.op == Conv()
        and node.name not in graph.outputs
        and len(users) == 1
        and isinstance(users[0].op, Requant)
        and users[0].inputs[0] == node.name
    )


def _repeated(made: Mapping[str, Node], node: Node) -> list[Node]:
    """The upsamplings that what a node reads comes from, the last one first."""
    found: list[Node] = []
    source = made.get(node.inputs[0])
    while source is not None and isinstance(source.op, Upsample):
        found.append(source)
        source = made.get(source.inputs[0])
    return found
