"""Walk an ONNX file once and collect the integer graph, or every reason why there is none.

The importer knows no operator: `codesign.onnx_patterns` maps each ONNX node type to a function from a
`Site` (the node with its inputs resolved) to the values of its outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from codesign import onnx_requant
from codesign.errors import Problem, TypeMismatch
from codesign.ir import Array, IntType, Node, TensorType
from codesign.onnx_fold import FOLDABLE, fold, foldable
from codesign.onnx_site import INCONSISTENT, Pattern, Site, constant_like, describe_node
from codesign.onnx_values import (
    NO_SHAPE,
    REFUSED,
    Acc,
    Act,
    Const,
    Poison,
    Raw,
    Refused,
    Unknown,
    Value,
)
from codesign.ops import Requant, WideRequant
from codesign.ops.op import Op
from codesign.ops.wide_requant import CONSTANT, FACTOR


class Importer:
    """The state of one import: what each tensor is, the nodes so far, and the problems so far."""

    def __init__(self, model: onnx.ModelProto, patterns: Mapping[tuple[str, str], Pattern]) -> None:
        self.model, self.patterns = model, patterns
        self.opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.batch: int | None = None  # None where the file leaves it open
        self.env: dict[str, Value] = {}
        self.problems: list[Problem] = []
        self.inputs: dict[str, TensorType] = {}
        self.input_scales: dict[str, float] = {}
        self.nodes: list[Node] = []
        self.consts: dict[str, Array] = {}
        self.const_types: dict[str, IntType] = {}
        self.types: dict[str, TensorType] = {}
        self.requants: dict[str, tuple[str, tuple[Any, ...]]] = {}  # accumulator -> requant, its parameters
        self.offsets: dict[str, Act] = {}  # float tensors that a deformable convolution rounds by itself
        self.taken = {info.name for info in [*model.graph.input, *model.graph.output]}

    def walk(self) -> None:
        graph = self.model.graph
        for tensor in graph.initializer:
            self.env[tensor.name] = Const(numpy_helper.to_array(tensor), tensor.name)
        for info in graph.input:
            if info.name not in self.env:
                self._declare(info)
        needed = _needed(graph)
        read = {name for node in needed for name in node.input} | {info.name for info in graph.output}
        for node in needed:
            result = self._visit(node)
            results = result if isinstance(result, tuple) else (result,)
            for name, value in zip(node.output, results, strict=False):
                self.env[name] = value
            for name in node.output[len(results) :]:
                if name in read:
                    problem = f"has {name!r} as another output, expected that only the first is used"
                    self.problems.append(
                        Problem(describe_node(node), problem, "Leave what reads it out of the network.")
                    )
                    self.env[name] = Poison()

    def _declare(self, info: onnx.ValueInfoProto) -> None:
        dims = [d.dim_value if d.HasField("dim_value") else None for d in info.type.tensor_type.shape.dim]
        self.env[info.name] = Raw(info.name, NO_SHAPE)
        where = f"input {info.name!r}"
        if info.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            self.problems.append(Problem(where, "is not float32", "Export the network on float images."))
        elif len(dims) != 4:
            self.problems.append(
                Problem(
                    where, f"has {len(dims)} axes, expected N,C,H,W", "Export with a 4-dimensional example."
                )
            )
        elif not all(dims[1:]):
            self.batch = dims[0] or None
            shown = ",".join(str(d or "?") for d in dims)
            self.problems.append(
                Problem(
                    where,
                    f"has the shape [{shown}], expected fixed channels, height and width",
                    "Export with dynamic axes for the batch only.",
                )
            )
        else:
            _, c, h, w = dims
            self.batch = dims[0] or None
            self.env[info.name] = Raw(info.name, (int(h or 0), int(w or 0), int(c or 0)))

    def _visit(self, node: onnx.NodeProto) -> Value | tuple[Value, ...]:
        missing = [name for name in node.input if name and name not in self.env]
        inputs = [self.env.get(name, Poison(constant=True)) if name else None for name in node.input]
        site = Site(self, node, inputs)
        for name in missing:
            site.note(f"reads {name!r}, which nothing before it defines", INCONSISTENT)
        domain = "" if node.domain == "ai.onnx" else node.domain
        try:
            if foldable(node, inputs):
                return fold(node, inputs, self.opset)
            if not domain and node.op_type in FOLDABLE and self._stale(inputs):
                raise Unknown
            pattern = self.patterns.get((domain, node.op_type))
            if pattern is None:
                raise Refused(
                    "is not an operator of the accelerator", "Leave it out of the exported network."
                )
            result = pattern(site)
            site.check()
            return result
        except Refused as error:
            site.note(error.reason, error.remedy)
        except TypeMismatch as error:
            site.note(str(error), INCONSISTENT)
        except Unknown:
            pass
        self.problems += site.notes
        return (site.guess,) * len(node.output)

    @staticmethod
    def _stale(inputs: list[Value | None]) -> bool:
        """Whether constants would be computed from one that was refused."""
        return any(isinstance(v, Poison) for v in inputs) and all(map(constant_like, inputs))

    def unique(self, wanted: str) -> str:
        name, count = wanted, 2
        while name in self.taken:
            name, count = f"{wanted}_{count}", count + 1
        self.taken.add(name)
        return name

    def emit(self, wanted: str, op: Op, inputs: Iterable[str]) -> tuple[str, TensorType]:
        """Append a node; its name is `wanted` or, where that is taken, `wanted_2`."""
        inputs = tuple(inputs)
        type_ = op.infer(*(self.types[s] for s in inputs))
        name = self.unique(wanted)
        self.nodes.append(Node(name, op, inputs))
        self.types[name] = type_
        return name, type_

    def constant(self, wanted: str, array: Array, elem: IntType) -> str:
        name = self.unique(wanted)
        self.consts[name], self.const_types[name] = array, elem
        self.types[name] = TensorType(array.shape, elem)
        return name

    def value(self, act: Act) -> str:
        """Name of the graph value that holds the codes; requantizes the accumulator at the first call.

        Raises Unknown where the codes come from something that was refused.
        """
        if isinstance(act.source, str):
            if act.source == REFUSED:
                raise Unknown
            return act.source
        acc = act.source
        if act.elem.bits > 8:
            raise Refused(
                f"{acc.where} is quantized to {act.elem}, expected at most 8 bits",
                "Quantize activations to 8 bits, or clip them.",
            )
        parameters = _parameters(act, acc)
        key = acc.node if acc.node != REFUSED else acc.where
        if key in self.requants:
            name, before = self.requants[key]
            if before != parameters:
                raise Refused(
                    f"{acc.where} is quantized in two ways",
                    "Use one quantizer for all readers of a convolution.",
                )
            if acc.node != REFUSED:
                return name
        if acc.node == REFUSED:
            self.requants[key] = REFUSED, parameters
            raise Unknown
        if acc.factors is None:
            act = self.settled(act)
            assert isinstance(act.source, Acc)
            acc = act.source
        factors = acc.factors or onnx_requant.direct(acc, act.scale)
        if np.any(factors.times != 1):
            weight = self.consts[acc.weight] * factors.times
            elem = IntType(4) if np.abs(weight).max() <= IntType(4).max else IntType(8)
            self.consts[acc.weight], self.const_types[acc.weight] = weight, elem
            self.types[acc.weight] = TensorType(weight.shape, elem)
        tables = {"bias": (factors.bias, IntType(32)), "mult": (factors.mult, IntType(8, False))}
        op = Requant(act.elem, act.lo, act.hi)
        if factors.ties is not None:
            tables = {"bias": (factors.bias, CONSTANT), "mult": (factors.mult, FACTOR)}
            op = WideRequant(act.elem, act.lo, act.hi)
        tables["shift"] = factors.shift, IntType(8)
        if factors.ties is not None:
            tables["ties"] = factors.ties, IntType(8)
        names = [self.constant(f"{acc.node}.{name}", *table) for name, table in tables.items()]
        name, _ = self.emit(f"{acc.node}.q", op, (acc.node, *names))
        self.requants[acc.node] = name, parameters
        return name

    def settled(self, act: Act) -> Act:
        """The codes of an accumulator, once it is known how they are made of it. Raises Refused if they cannot be."""
        assert isinstance(act.source, Acc)
        return onnx_requant.settled(act, self.consts.get(act.source.weight))

    def points(self) -> dict[str, tuple[str, Act]]:
        """Graph value -> the first ONNX tensor that holds it, and how the tensor's floats become codes."""
        found: dict[str, tuple[str, Act]] = {}
        for tensor, act in [*self.env.items(), *self.offsets.items()]:
            if not isinstance(act, Act):
                continue
            if isinstance(act.source, str):
                found.setdefault(act.source, (tensor, act))
            elif act.source.node in self.requants:
                name, parameters = self.requants[act.source.node]
                if parameters[1:] == _parameters(act, act.source)[1:]:
                    found.setdefault(name, (tensor, act))
        return found


def _parameters(act: Act, acc: Acc) -> tuple[Any, ...]:
    return act.elem, act.scale, act.lo, act.hi, acc.bias.tobytes()


def _needed(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that some output depends on, in the file's order."""
    wanted, needed = {info.name for info in graph.output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(name for name in node.input if name)
            needed.append(node)
    return needed[::-1]
