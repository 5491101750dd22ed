"""Graph -> Graph. PIPELINE is the whole order; each pass keeps the outputs' names, types and values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from codesign.copies import own_gates, own_phases
from codesign.ir import Graph, Node
from codesign.ops import Concat, Conv, DepthToSpace, DwConv, Requant, SampledDwConv, Shuffle, Slice
from codesign.ops.depth_to_space import PHASES

Pass = Callable[[Graph], Graph]


def run(graph: Graph) -> Graph:
    for step in PIPELINE:
        graph = step(graph)
    return graph


def requantize_early(graph: Graph) -> Graph:
    """Requantize before accumulators change places: then only codes have to move."""
    while True:
        by_name = {node.name: node for node in graph.nodes}
        late = next((n for n in graph.nodes if _moved(graph, by_name, n)), None)
        if late is None:
            return graph
        graph = _before(graph, by_name[late.inputs[0]], late)


def _moved(graph: Graph, by_name: Mapping[str, Node], node: Node) -> bool:
    view = by_name.get(node.inputs[0])
    moves = view is not None and isinstance(view.op, DepthToSpace | Shuffle)
    alone = moves and view is not None and len(graph.users[view.name]) == 1
    return isinstance(node.op, Requant) and alone and node.inputs[0] not in graph.outputs


def _before(graph: Graph, view: Node, requant: Node) -> Graph:
    """The Requant in front of what moves the accumulators, its constants in the order that they have there."""
    consts, const_types = dict(graph.consts), dict(graph.const_types)
    inner = f"{requant.name}.{'phases' if isinstance(view.op, DepthToSpace) else 'unshuffled'}"
    names = ("bias", "mult", "shift", "ties")[: len(requant.inputs) - 1]
    tables = tuple(f"{inner}.{name}" for name in names)
    for name, table in zip(requant.inputs[1:], tables, strict=True):
        values = consts[name]
        if isinstance(view.op, Shuffle):
            there = np.empty_like(values)
            there[view.op.order(len(values))] = values
        else:
            there = np.tile(values, PHASES)
        consts[table], const_types[table] = there, const_types[name]
    changed = {
        view.name: (Node(inner, requant.op, (view.inputs[0], *tables)),),
        requant.name: (Node(requant.name, view.op, (inner,)),),
    }
    nodes = tuple(new for node in graph.nodes for new in changed.get(node.name, (node,)))
    return replace(graph, nodes=nodes, consts=consts, const_types=const_types)


CHUNK = 16  # channels of a large depthwise window that are computed together: a word of most engines


def split_depthwise(graph: Graph) -> Graph:
    """Depthwise windows over 3x3 as dense ones of few channels each, whose weights are zero but on the diagonal.

    Each reads and makes channels of its own, so that neither are moved.
    """
    consts, const_types = dict(graph.consts), dict(graph.const_types)
    types, changed = graph.types(), dict[str, list[Node]]()
    for node in graph.nodes:
        op, users = node.op, graph.users[node.name]
        if not isinstance(op, DwConv) or max(op.kernel) <= 3 or len(users) != 1:
            continue
        (requant,) = users
        if not isinstance(requant.op, Requant) or node.name in graph.outputs:
            continue
        weight, channels, parts, made = consts[node.inputs[1]], types[node.name].shape[2], [], []
        for start in range(0, channels, CHUNK):
            stop = min(start + CHUNK, channels)
            base = f"{node.name}.{start // CHUNK}"
            consts[f"{base}.weight"] = weight[:, :, start:stop, None] * np.eye(stop - start, dtype=np.int64)
            const_types[f"{base}.weight"] = const_types[node.inputs[1]]
            names = ("bias", "mult", "shift", "ties")[: len(requant.inputs) - 1]
            tables = tuple(f"{base}.{name}" for name in names)
            for name, table in zip(requant.inputs[1:], tables, strict=True):
                consts[table], const_types[table] = consts[name][start:stop], const_types[name]
            made += [
                Node(f"{base}.in", Slice(start, stop), node.inputs[:1]),
                Node(base, Conv(op.kernel, op.stride, op.pads), (f"{base}.in", f"{base}.weight")),
                Node(f"{base}.q", requant.op, (base, *tables)),
            ]
            parts.append(f"{base}.q")
        changed[node.name] = []
        changed[requant.name] = [*made, Node(requant.name, Concat(), tuple(parts))]
    nodes = tuple(new for node in graph.nodes for new in changed.get(node.name, [node]))
    return replace(graph, nodes=nodes, consts=consts, const_types=const_types)


def still_windows(graph: Graph) -> Graph:
    """Sampled windows whose offsets are zero whatever the image is read their masks alone: Involution's."""
    consts, const_types, bounds = dict(graph.consts), dict(graph.const_types), graph.bounds()
    by_name = {node.name: node for node in graph.nodes}
    nodes: list[Node] = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, SampledDwConv) and op.masked and not op.still:
            first, found = op.offsets, bounds[node.inputs[1]]
            made = _own_convolution(graph, by_name, node.inputs[1])
            if made is not None and not found.low[:first].any() and not found.high[:first].any():
                conv, requant = made
                names = {s: f"{s}.masks" for s in (conv.inputs[1], *requant.inputs[1:])}
                for name, kept in names.items():
                    consts[kept], const_types[kept] = consts[name][..., first:], const_types[name]
                masks = f"{requant.name}.masks"
                nodes += [
                    Node(f"{conv.name}.masks", conv.op, (conv.inputs[0], names[conv.inputs[1]])),
                    Node(masks, requant.op, (f"{conv.name}.masks", *(names[s] for s in requant.inputs[1:]))),
                ]
                op = replace(op, max_offset=0, still=True)
                node = replace(node, op=op, inputs=(node.inputs[0], masks, node.inputs[2]))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), consts=consts, const_types=const_types)


def _own_convolution(graph: Graph, by_name: Mapping[str, Node], name: str) -> tuple[Node, Node] | None:
    """The convolution and Requant that make a value for one node alone."""
    requant = by_name.get(name)
    if requant is None or not isinstance(requant.op, Requant) or name in graph.outputs:
        return None
    conv = by_name.get(requant.inputs[0])
    alone = len(graph.users[name]) == 1 and conv is not None and len(graph.users[conv.name]) == 1
    fixed = (
        alone and conv is not None and all(s in graph.consts for s in (*conv.inputs[1:], *requant.inputs[1:]))
    )
    return (conv, requant) if conv is not None and fixed and isinstance(conv.op, Conv) else None


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


PIPELINE: tuple[Pass, ...] = (
    requantize_early,
    split_depthwise,
    forward_views,
    share_equal_nodes,
    own_phases,
    still_windows,
    own_gates,
    drop_dead,
)
