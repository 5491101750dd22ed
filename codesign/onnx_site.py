"""One node of an ONNX file as an import pattern sees it: inputs resolved, attributes read, problems noted."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import onnx

from codesign.errors import Problem
from codesign.ir import TensorType
from codesign.onnx_values import (
    NO_SHAPE,
    REFUSED,
    Acc,
    Act,
    Affine,
    Codes,
    Const,
    Curve,
    Decision,
    Grouped,
    Integers,
    Poison,
    Raw,
    Refused,
    Shape,
    Unknown,
    Value,
)
from codesign.ops.op import Op

if TYPE_CHECKING:
    from codesign.onnx_import import Importer

INCONSISTENT = "The file contradicts itself: export it again."


class Site:
    """One node of the file, as its pattern sees it."""

    def __init__(self, importer: Importer, node: onnx.NodeProto, inputs: list[Value | None]) -> None:
        self.importer, self.node, self.inputs = importer, node, inputs
        self.where = describe_node(node)
        self.attrs = {a.name: a for a in node.attribute}
        self.notes: list[Problem] = []
        # What the node's outputs would be: patterns say more than this as soon as they know it.
        self.guess: Value = Poison(all(constant_like(value) for value in inputs))

    def note(self, reason: str, remedy: str) -> None:
        """Report one thing and look for more; `check` stops if anything was reported."""
        problem = Problem(self.where, reason, remedy)
        if problem not in self.notes:
            self.notes.append(problem)

    def check(self) -> None:
        if self.notes:
            raise Refused(self.notes[-1].reason, self.notes.pop().remedy)

    def input(self, i: int) -> Value | None:
        return self.inputs[i] if i < len(self.inputs) else None

    def text(self, name: str, default: str) -> str:
        """A text attribute."""
        found = self.attrs.get(name)
        return default if found is None else found.s.decode(errors="replace")

    def whole(self, name: str, default: int) -> int:
        """An integer attribute."""
        found = self.attrs.get(name)
        if found is None:
            return default
        if found.type != onnx.AttributeProto.INT:
            raise Refused(f"its attribute {name!r} is not an integer", INCONSISTENT)
        return int(found.i)

    def real(self, name: str, default: float) -> float:
        """An attribute of one number."""
        found = self.attrs.get(name)
        return default if found is None else float(found.f)

    def wholes(self, name: str, default: Sequence[int], count: int | None = None) -> tuple[int, ...]:
        """An attribute of several integers: `count` of them (as many as the default has), or any number if -1."""
        found, count = self.attrs.get(name), len(default) if count is None else count
        if found is None:
            return tuple(default)
        if found.type != onnx.AttributeProto.INTS or len(found.ints) != count >= 0:
            raise Refused(f"its attribute {name!r} is not the integers it should be", INCONSISTENT)
        return tuple(found.ints)

    def act(self, i: int = 0, rows: bool = False) -> Act:
        """Input i as an integer feature map; says what is missing when it is none. Raises Unknown behind a refusal.

        `rows`: whether it may be a map that was flattened.
        """
        value = self.input(i)
        match value:
            case Poison():
                raise Unknown
            case Act() if rows or not value.is_row:
                return value
            case Act():
                raise Refused("reads a flattened map", "Only a matrix product may read it.")
            case Acc() | Curve():
                raise Refused(
                    f"its input comes from {value.where} without a quantizer between",
                    f"Add an activation quantizer after {value.where}.",
                )
            case Raw():
                raise Refused(
                    f"reads the graph input {value.name!r} unquantized",
                    f"Put a Quant of 8 signed bits and scale 2^-7 behind {value.name!r}, or, where it takes 8-bit "
                    "pixels, say how it reads them: `codesign build --pixels`.",
                )
            case Integers():
                raise Refused(
                    f"reads the integers of {value.where} without their scale",
                    f"Put a DequantizeLinear behind {value.where}.",
                )
            case Grouped():
                raise Refused(
                    f"reads {value.where}, which is no whole channel shuffle",
                    "Shuffle as Reshape, Transpose of axes 1 and 2, Reshape.",
                )
            case Decision():
                raise Refused(f"reads the decision of {value.where}", "Only Where may read it.")
            case Affine():
                raise Refused(
                    f"reads {value.where}, which is arithmetic on offsets",
                    "Only DeformConv may read offsets.",
                )
        raise Refused("an input that must be a feature map is a constant or missing", INCONSISTENT)

    def feature(self, i: int = 0) -> Act | None:
        """`act`, with what is missing noted; None where there is none, or none that is known."""
        try:
            return self.act(i)
        except Refused as error:
            self.note(error.reason, error.remedy)
        except Unknown:
            pass
        return None

    def row(self) -> Act | None:
        """Input 0 as a row of numbers an image [N, K], perhaps a map that was flattened; else as `feature`."""
        try:
            act = self.act(0, rows=True)
            if act.flat or 0 in act.shape:
                return act
            self.note("multiplies the rows of a map, expected [N, K]", "Put a Flatten before it.")
        except Refused as error:
            self.note(error.reason, error.remedy)
        except Unknown:
            pass
        return None

    def codes(self) -> Act | None:
        """`feature` of a node that moves codes: even if it is refused its result has their scale."""
        act = self.feature()
        if act is not None:
            self.guess = replace(act, source=REFUSED, shape=NO_SHAPE)
        return act

    def const(self, i: int) -> npt.NDArray[Any] | None:
        """Input i as a constant known at import, or None where it is left out. Raises Unknown behind a refusal."""
        value = self.input(i)
        if value is None:
            return None
        if isinstance(value, Poison) and value.constant:
            raise Unknown
        if not isinstance(value, Const):
            raise Refused(
                f"its input {self.node.input[i]!r} is computed while the network runs",
                "Export with fixed height and width, so that shapes and parameters are constants.",
            )
        return value.array

    def ints(self, i: int) -> list[int] | None:
        array = self.const(i)
        return None if array is None else [int(v) for v in array.reshape(-1)]

    def emit(self, op: Op, *inputs: str, name: str | None = None) -> tuple[str, TensorType]:
        return self.importer.emit(name or node_name(self.node), op, inputs)

    def view(self, op: Op, act: Act) -> Act:
        """A node that moves codes without changing them."""
        source, type_ = self.emit(op, self.importer.value(act))
        return replace(act, source=source, shape=_shape(type_))


def _shape(type_: TensorType) -> Shape:
    h, w, c = type_.shape
    return h, w, c


def constant_like(value: Value | None) -> bool:
    """Whether a value is a parameter, or would be one had nothing been refused."""
    return (
        value is None or isinstance(value, (Const, Codes)) or (isinstance(value, Poison) and value.constant)
    )


def describe_node(node: onnx.NodeProto) -> str:
    """`Conv 'stem'`: how messages call a node; by its first output where it has no name."""
    return f"{node.op_type} {(node.name or node.output[0])!r}"


def node_name(node: onnx.NodeProto, origin: str = "") -> str:
    """Name in the graph: the parameter's module where known (`backbone.2.dw.weight`), else the node's."""
    if origin.endswith(".weight"):
        return clean_name(origin.removesuffix(".weight"))
    return clean_name((node.name or node.output[0]).removesuffix(f"/{node.op_type}"))


def clean_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", ".", text).strip(".") or "node"


Pattern = Callable[[Site], Value | tuple[Value, ...]]
