"""Upsampling as late as possible: what is computed at each pixel alone is computed before pixels are repeated.

A 1x1 convolution with its Requant, of what nearest-neighbour upsampling gives, is the same before it: a quarter of the
work, and a quarter of the words. The planner does this to its own copy of a graph, whose values of these names are then
smaller; a node `NAME.upsampled` repeats their pixels, which readers do while they load.
"""

from __future__ import annotations

from dataclasses import replace

from codesign.ir import Graph, Node
from codesign.ops import Conv, Requant, Upsample
from codesign.program import MAX_UP

UPSAMPLED = ".upsampled"


def upsampled_late(graph: Graph) -> Graph:
    """The graph with such convolutions before what they read is upsampled; itself where that is nowhere possible."""
    made: dict[str, Node] = {}
    reads: dict[str, str] = {}  # by the name of a value in `graph`, what has its size
    pending: dict[
        str, list[Node]
    ] = {}  # upsamplings that a convolution's Requant takes over, the last one first
    for node in graph.nodes:
        moved = replace(node, inputs=tuple(reads.get(s, s) for s in node.inputs))
        repeated = _repeated(graph, made, moved) if _alone(graph, node) else []
        if repeated:
            pending[node.name] = repeated
            moved = replace(moved, inputs=(repeated[-1].inputs[0], *moved.inputs[1:]))
        made[node.name] = moved
        value = node.name
        for i, upsample in enumerate(reversed(pending.get(node.inputs[0], []))):
            at = f"{node.name}{UPSAMPLED}" + ("" if i == 0 else str(i))
            made[at] = Node(at, upsample.op, (value,))
            value = reads[node.name] = at
    if not pending:
        return graph
    late = replace(graph, nodes=tuple(made.values()))
    return late if max(up for view in late.views.values() for _, _, up in view) <= MAX_UP else graph


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


def _repeated(graph: Graph, made: dict[str, Node], node: Node) -> list[Node]:
    found: list[Node] = []
    source = made.get(node.inputs[0])
    while source is not None and isinstance(source.op, Upsample):
        found.append(source)
        source = made.get(source.inputs[0])
    return found


def full_size(graph: Graph, name: str) -> str:
    """The value that has the size that `name` has in the graph before."""
    names = [n.name for n in graph.nodes if n.name.startswith(f"{name}{UPSAMPLED}")]
    return names[-1] if names else name
