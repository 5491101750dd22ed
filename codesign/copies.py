"""Copies of values by 1x1 convolutions, for readers that need a value laid out in a way of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from codesign.ir import Array, Graph, IntType, Node
from codesign.ops import Add, Conv, DepthToSpace, Mix, MixedConv, Pick, Requant, Table


def own_phases(graph: Graph) -> Graph:
    """Give each DepthToSpace a convolution of its own to read, which can lay its channels out as it needs them."""
    by_name = {node.name: node for node in graph.nodes}
    copies = _Copies(graph)
    for node in graph.nodes:
        if isinstance(node.op, DepthToSpace) and not _is_own(graph, by_name, node.inputs[0]):
            node = replace(node, inputs=(copies.of(node.inputs[0], node.name),))
        copies.nodes.append(node)
    return copies.graph()


def own_gates(graph: Graph) -> Graph:
    """Give what multiplies by gates such gates as can be laid out lane by lane beside what they multiply.

    They are an input, or a convolution's result, that nothing else takes as gates but mixed weights if these do.
    """
    by_name = {node.name: node for node in graph.nodes}
    copies, taken = _Copies(graph), dict[str, str]()
    for node in graph.nodes:
        if isinstance(node.op, Mix | Pick | MixedConv):
            gates, how = node.inputs[1], "" if isinstance(node.op, MixedConv) else node.name
            if not _is_free(graph, by_name, gates) or taken.get(gates, how) != how:
                gates = copies.of(gates, node.name)
            taken[gates] = how
            node = replace(node, inputs=(node.inputs[0], gates, *node.inputs[2:]))
        copies.nodes.append(node)
    return copies.graph()


def _is_free(graph: Graph, by_name: Mapping[str, Node], name: str) -> bool:
    """Whether a value is an input or a dense operator's result, stored in any order that suits its readers."""
    if name in graph.inputs:
        return True
    node = by_name.get(name)
    while node is not None and isinstance(node.op, Table):  # which is looked up where the codes are stored
        source = node.inputs[0]
        alone = len(graph.users[source]) == 1 and source not in graph.outputs
        node = by_name.get(source) if alone else None
    producer = by_name.get(node.inputs[0]) if node is not None and isinstance(node.op, Requant) else None
    return producer is not None and isinstance(producer.op, Conv | Add | MixedConv)


class _Copies:
    """A graph in the making: its nodes so far, and copies of values by 1x1 convolutions."""

    def __init__(self, graph: Graph) -> None:
        self.source, self.types, self.nodes = graph, graph.types(), list[Node]()
        self.consts, self.const_types = dict(graph.consts), dict(graph.const_types)

    def graph(self) -> Graph:
        return replace(self.source, nodes=tuple(self.nodes), consts=self.consts, const_types=self.const_types)

    def of(self, name: str, reader: str) -> str:
        """The copy of a value for one reader."""
        c, elem, copy = self.types[name].shape[2], self.types[name].elem, f"{reader}.copy"
        weight = self._const(f"{copy}.weight", np.eye(c, dtype=np.int64)[None, None], IntType(4))
        self.nodes.append(Node(copy, Conv(), (name, weight)))
        tables = (
            self._const(f"{copy}.bias", np.zeros(c, np.int64), IntType(32)),
            self._const(f"{copy}.mult", np.ones(c, np.int64), IntType(8, False)),
            self._const(f"{copy}.shift", np.zeros(c, np.int64), IntType(8)),
        )
        self.nodes.append(Node(f"{copy}.q", Requant(elem, elem.min, elem.max), (copy, *tables)))
        return f"{copy}.q"

    def _const(self, name: str, values: Array, elem: IntType) -> str:
        self.consts[name], self.const_types[name] = values, elem
        return name


def _is_own(graph: Graph, by_name: Mapping[str, Node], name: str) -> bool:
    """Whether a value is a dense operator's result that one node alone reads."""
    node = by_name.get(name)
    if node is None or not isinstance(node.op, Requant) or name in graph.outputs:
        return False
    producer = by_name.get(node.inputs[0])
    dense = producer is not None and isinstance(producer.op, Conv | Add)
    return dense and len(graph.users[name]) == 1
