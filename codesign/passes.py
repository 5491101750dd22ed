"""Graph -> Graph. PIPELINE is the whole order; each pass keeps the outputs' names, types and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from codesign.ir import Graph, Node
from codesign.ops import Concat, Shuffle, Slice

Pass = Callable[[Graph], Graph]


def run(graph: Graph) -> Graph:
    for step in PIPELINE:
        graph = step(graph)
    return graph


def forward_views(graph: Graph) -> Graph:
    """Read through views that change nothing: a slice of everything, a concat of one, a shuffle in one group;
    a slice of a slice, or of a part of a concat, reads the part itself.
    """
    types, nodes, same = graph.types(), dict[str, Node](), dict[str, str]()
    for node in graph.nodes:
        node = replace(node, inputs=tuple(same.get(s, s) for s in node.inputs))
        while (closer := _closer(node, nodes, graph)) is not None:
            node = closer
        source = node.inputs[0]
        unchanged = isinstance(node.op, (Slice, Concat, Shuffle)) and types[source] == types[node.name]
        trivial = not isinstance(node.op, Shuffle) or node.op.groups in (1, types[source].shape[2])
        if unchanged and trivial and len(node.inputs) == 1 and node.name not in graph.outputs:
            same[node.name] = source
        nodes[node.name] = node
    return replace(graph, nodes=tuple(nodes.values()))


def _closer(node: Node, nodes: dict[str, Node], graph: Graph) -> Node | None:
    """The same slice taken one view nearer to where its data is made, or None."""
    source = nodes.get(node.inputs[0])
    if not isinstance(node.op, Slice) or source is None:
        return None
    start, stop = node.op.start, node.op.stop
    if isinstance(source.op, Slice):
        base = source.op.start
        return replace(node, op=Slice(base + start, base + stop), inputs=source.inputs)
    if isinstance(source.op, Concat):
        types, base = graph.types(), 0
        for part in source.inputs:
            width = types[part].shape[2]
            if base <= start and stop <= base + width and types[part].elem == types[node.name].elem:
                return replace(node, op=Slice(start - base, stop - base), inputs=(part,))
            base += width
    return None


def share_equal_nodes(graph: Graph) -> Graph:
    """Compute once what two nodes compute from the same inputs by the same operator."""
    first: dict[tuple[object, ...], str] = {}
    same: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        node = replace(node, inputs=tuple(same.get(s, s) for s in node.inputs))
        name = first.setdefault((node.op, node.inputs), node.name)
        if name == node.name or node.name in graph.outputs:
            nodes.append(node)
        else:
            same[node.name] = name
    return replace(graph, nodes=tuple(nodes))


def drop_dead(graph: Graph) -> Graph:
    """Remove nodes and constants that no output depends on. Inputs stay: they are the interface."""
    wanted, nodes = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
            nodes.append(node)
    return replace(
        graph,
        nodes=tuple(reversed(nodes)),
        consts={name: array for name, array in graph.consts.items() if name in wanted},
        const_types={name: type_ for name, type_ in graph.const_types.items() if name in wanted},
    )


PIPELINE: tuple[Pass, ...] = (forward_views, share_equal_nodes, drop_dead)
