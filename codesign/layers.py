"""What a graph consists of, layer by layer: the figures of `codesign inspect`, without any printing."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.ir import Graph, IntType, Node
from codesign.ops import Requant
from codesign.program import Program


@dataclass(frozen=True)
class Layer:
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


def layers(graph: Graph) -> tuple[Layer, ...]:
    """Every layer in order. A convolution and its Requant are one layer, named after the convolution."""
    requants = {node.inputs[0]: node for node in graph.nodes if isinstance(node.op, Requant)}
    return tuple(
        _layer(graph, node, requants.get(node.name))
        for node in graph.nodes
        if not isinstance(node.op, Requant)
    )


IN_ADDRESSES = "addresses"  # concat, slice, shuffle, upsample: readers look where the data is


def places(program: Program) -> dict[str, str]:
    """The steps of the engine that compute each node; nodes that are missing move no data."""
    steps: dict[str, list[int]] = {}
    for i, step in enumerate(program.steps):
        for name in step.nodes:
            steps.setdefault(name, []).append(i)
    return {n: f"step {s[0]}" if len(s) == 1 else f"steps {s[0]}-{s[-1]}" for n, s in steps.items()}


def _layer(graph: Graph, node: Node, requant: Node | None) -> Layer:
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
    return Layer(
        name=node.name,
        op=title(graph, node),
        inputs=tuple(str(types[s].elem) for s in features),
        weight=", ".join(str(types[s].elem) for s in weights),
        accumulator=sums,
        output=str(result.elem),
        shape=result.shape,
        macs=node.op.macs(*(types[s] for s in node.inputs)),
        parameters=parameters,
    )


def title(graph: Graph, node: Node) -> str:
    """An operator in a few words: `Conv 3x3/4`."""
    weight = next((graph.consts[s].shape for s in node.inputs if s in graph.consts), ())
    op, parts = node.op, [type(node.op).__name__]
    kernel, stride = getattr(op, "kernel", None) or weight[:2], getattr(op, "stride", (1, 1))
    if len(kernel) == 2:
        parts.append("x".join(map(str, kernel)) + (f"/{stride[0]}" if stride != (1, 1) else ""))
    bound, groups = getattr(op, "max_offset", None), getattr(op, "groups", None)
    parts += [f"d<={bound}"] if bound is not None else []
    parts += [f"groups={groups}"] if groups is not None else []
    if (start := getattr(op, "start", None)) is not None:
        parts.append(f"{start}:{getattr(op, 'stop', None)}")
    return " ".join(parts)
