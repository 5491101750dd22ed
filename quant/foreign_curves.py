"""Activation functions of a foreign float file: elementwise nodes of one map, put together to one node each.

A function of one map is what elementwise nodes make of it and of single numbers, as long as they are more than a
factor, a term and limits, which go into convolutions: `Sigmoid`, x * sigmoid(x), x * clip(x + 3, 0, 6) / 6 as it is
often written, GELU by Erf. What only such a node reads is part of it, and what follows of numbers and limits as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from quant.float_net import CURVE, Body, Layer
from quant.foreign_site import Site, Value, needed_nodes

_NAMES = """Abs Ceil Cos Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Log Mish Neg PRelu Reciprocal Selu
    Sigmoid Sin Softplus Softsign Sqrt Tanh"""
FUNCTIONS = frozenset(_NAMES.split())  # those that the importer makes tables of
LINEAR, BENT = ("Add", "Sub", "Mul", "Div", "Relu", "Clip"), ("Max", "Min", "Pow")
DECODING = ("Sigmoid",)  # of a network's result it is left to whoever reads it


def with_curves(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Body]]:
    """The model with one node for each function, and what these are by their results; as it is where there are none."""
    found = _Finder(model.graph)
    bodies = {result: found.body(result, root) for result, root in found.roots.items()}
    if not bodies:
        return model, {}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    for node in model.graph.node:
        result = node.output[0] if node.output else ""
        if result in bodies:
            node = helper.make_node(CURVE, [bodies[result].root], [result], node.name)
        copy.graph.node.append(node)
    kept = needed_nodes(copy.graph)
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy, bodies


class _Finder:
    """`roots`: by result of a function, the map that it is a function of."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.outputs = {info.name for info in graph.output}
        self.reads = Counter(name for node in graph.node for name in set(node.input))
        self.reads.update(self.outputs)
        self.numbers = dict(_numbers(graph))
        self.maker: dict[str, onnx.NodeProto] = {}  # of elementwise results
        self.parent: dict[str, str] = {}
        self.roots: dict[str, str] = {}
        for node in graph.node:
            self._look(node)

    def _look(self, node: onnx.NodeProto) -> None:
        op, maps = node.op_type, [name for name in node.input if name and name not in self.numbers]
        if node.domain not in ("", "ai.onnx") or len(node.output) != 1 or not maps:
            return
        result = node.output[0]
        if op in DECODING and result in self.outputs:
            return
        if len(maps) == 1 and (op in LINEAR or op in BENT or op in FUNCTIONS):
            parent, bends = maps[0], op not in LINEAR
        elif len(maps) == 2 and (op in LINEAR or op in BENT):
            others = set(self._chain(maps[1]))
            common = next((name for name in self._chain(maps[0]) if name in others), None)
            if common is None:
                return
            parent, bends = common, True
        else:
            return
        self.maker[result], self.parent[result] = node, parent
        follows = parent in self.roots and self.reads[parent] == 1 and len(maps) == 1
        if follows:
            self.roots[result] = self.roots[parent]
        elif bends:
            self.roots[result] = parent

    def _chain(self, name: str) -> Iterator[str]:
        yield name
        while name in self.parent:
            name = self.parent[name]
            yield name

    def body(self, result: str, root: str) -> Body:
        nodes, todo, seen = list[onnx.NodeProto](), [result], {root}
        while todo:
            name = todo.pop()
            if name in seen or name not in self.maker:
                continue
            seen.add(name)
            nodes.append(self.maker[name])
            todo += self.maker[name].input
        order = {node.output[0]: i for i, node in enumerate(self.graph.node) if node.output}
        nodes.sort(key=lambda node: order[node.output[0]])
        used = {name for node in nodes for name in node.input}
        return Body(root, result, tuple(nodes), {n: v for n, v in self.numbers.items() if n in used})


def _numbers(graph: onnx.GraphProto) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Constants of one number."""
    for tensor in graph.initializer:
        if int(np.prod(tensor.dims)) == 1:
            yield tensor.name, numpy_helper.to_array(tensor).reshape(()).astype(np.float32)
    for node in graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1:
            value = helper.get_attribute_value(node.attribute[0])
            array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
            if array.size == 1 and array.dtype.kind in "fiu":
                yield node.output[0], array.reshape(()).astype(np.float32)


def curve(site: Site) -> Value:
    """A layer that computes the function of its map."""
    body, value = site.reader.curves[site.node.output[0]], site.inputs[0]
    shape = getattr(value, "shape", ())
    x = site.tensor(axes=len(shape) + 1)
    layer = Layer(CURVE, site.name, [x.name], [site.node.output[0]], body=_standard(body))
    return site.reader.add(layer, x.shape)[0]


def _standard(body: Body) -> Body:
    """With limits as inputs, as opsets have them since 11."""
    nodes, numbers = [], dict(body.numbers)
    for node in body.nodes:
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Clip" and attrs:
            names = []
            for end in ("min", "max"):
                names.append(f"{node.output[0]}.{end}" if end in attrs else "")
                if end in attrs:
                    numbers[names[-1]] = np.asarray(attrs[end], np.float32)
            node = helper.make_node("Clip", [node.input[0], *names], list(node.output), node.name)
        nodes.append(node)
    return Body(body.root, body.result, tuple(nodes), numbers)
