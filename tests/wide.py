"""Graphs whose requantizations are wide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codesign.ir import Array, Graph, IntType, Node
from codesign.ops import Requant, WideRequant
from codesign.ops.wide_requant import CONSTANT, FACTOR, widened


def with_wide(graph: Graph, every: int = 1, seed: int = 0, up: int = 9) -> Graph:
    """The graph with other factors, of `up` more bits: odd ones, constants between whole sums, ties, and falling
    channels."""
    rng, nodes, count = np.random.default_rng(seed), [], 0
    consts, types = dict(graph.consts), dict(graph.const_types)
    for node in graph.nodes:
        if isinstance(node.op, Requant) and count % every == 0:
            bias, mult, shift, ties = widened(*(graph.consts[s] for s in node.inputs[1:]))
            bias = (bias << up) + rng.integers(-(2**up), 2**up, bias.shape)
            mult = (mult << up) + rng.integers(0, 2**up, mult.shape)
            falls = rng.random(mult.shape) < (0.2 if node.op.lo < 0 else 0.0)
            tables = (bias, np.where(falls, -mult, mult), shift + up, ties + rng.integers(0, up, ties.shape))
            node = _with(node, tables, consts, types)
        count += isinstance(node.op, Requant)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), consts=consts, const_types=types)


def beside_ties(graph: Graph, seed: int = 0) -> Graph:
    """The graph with constants a little off: what lay at a half lies beside it, within what counts as a half."""
    rng, consts, types, nodes = np.random.default_rng(seed), dict(graph.consts), dict(graph.const_types), []
    for node in graph.nodes:
        if isinstance(node.op, Requant):
            bias, mult, shift, _ = widened(*(graph.consts[s] for s in node.inputs[1:]))
            bias = (bias << 9) + rng.integers(-255, 256, bias.shape)
            node = _with(node, (bias, mult << 9, shift + 9, np.full_like(shift, 8)), consts, types)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), consts=consts, const_types=types)


def _with(node: Node, tables: tuple[Array, ...], consts: dict[str, Array], types: dict[str, IntType]) -> Node:
    """A node with other tables, which it puts among the constants."""
    assert isinstance(node.op, Requant)
    names = [f"{node.name}.wide.{what}" for what in ("bias", "mult", "shift", "ties")]
    consts |= dict(zip(names, tables, strict=True))
    types |= dict(zip(names, (CONSTANT, FACTOR, IntType(8), IntType(8)), strict=True))
    return Node(node.name, WideRequant(node.op.out, node.op.lo, node.op.hi), (node.inputs[0], *names))
