"""What a graph consists of, layer by layer: the figures of `codesign inspect`, without any printing."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.ir import Graph, IntType, Node
from codesign.ops import Requant


@dataclass(frozen=True)
class LayerInfo:
    """One layer: an operator, together with the Requant behind it where it has one."""

    name: str
    op: str  # "Conv 3x3/4", "DeformDwConv d<=7", "Concat"
    inputs: tuple[str, ...]  # types of the feature inputs
    weight: str  # "i4", or "" without weights
    accumulator: str  # narrowest type that holds every sum, from the weights' values; "" without one
    output: str  # element type of the result
    shape: tuple[int, ...]  # (H, W, C) of the result
    macs: int  # multiply-accumulates of one image
    parameters: int  # weights and biases


def describe(graph: Graph) -> tuple[LayerInfo, ...]:
    """Every layer in order. A convolution and its Requant are one layer, named after the convolution."""
    requants = {node.inputs[0]: node for node in graph.nodes if isinstance(node.op, Requant)}
    return tuple(
        _layer(graph, node, requants.get(node.name))
        for node in graph.nodes
        if not isinstance(node.op, Requant)
    )


def _layer(graph: Graph, node: Node, requant: Node | None) -> LayerInfo:
    types, features = graph.types(), [s for s in node.inputs if s not in graph.consts]
    weights = [s for s in node.inputs if s in graph.consts]
    sums = ""
    parameters = sum(graph.consts[s].size for s in weights)
    if requant is not None:
        bounds, bias = graph.bounds()[node.name], graph.consts[requant.inputs[1]]
        low, high = (bounds.low + bias).min(), (bounds.high + bias).max()
        sums = str(IntType.holding(int(min(low, bounds.low.min())), int(max(high, bounds.high.max()))))
        parameters += int((bias != 0).any()) * bias.size
    result = types[requant.name if requant is not None else node.name]
    return LayerInfo(
        name=node.name,
        op=_title(node, types[weights[0]].shape if weights else ()),
        inputs=tuple(str(types[s].elem) for s in features),
        weight=", ".join(str(types[s].elem) for s in weights),
        accumulator=sums,
        output=str(result.elem),
        shape=result.shape,
        macs=node.op.macs(*(types[s] for s in node.inputs)),
        parameters=parameters,
    )


def _title(node: Node, weight: tuple[int, ...]) -> str:
    op, parts = node.op, [type(node.op).__name__]
    kernel, stride = getattr(op, "kernel", None) or weight[:2], getattr(op, "stride", (1, 1))
    if kernel:
        parts.append("x".join(map(str, kernel)) + (f"/{stride[0]}" if stride != (1, 1) else ""))
    bound, groups = getattr(op, "max_offset", None), getattr(op, "groups", None)
    parts += [f"d<={bound}"] if bound is not None else []
    parts += [f"groups={groups}"] if groups is not None else []
    if (start := getattr(op, "start", None)) is not None:
        parts.append(f"{start}:{getattr(op, 'stop', None)}")
    return " ".join(parts)
