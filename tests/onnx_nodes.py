"""The onnx package's own node tests, put into the integer contract: each as a network of one operator.

A case is float data, one node, and what it must give. Here its maps stand behind quantizers of 8 bits, its parameters
become constants, and where an operator stands only behind a convolution, one that changes nothing goes before it. Maps
of less than four axes get more in front, and rows of numbers that a matrix multiplies stand behind a Flatten; the axis
that is joined, split or sliced becomes the channels. Data that 8 bits cannot hold are rounded to what they can, and
what the node must give is computed again by onnx's evaluator.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.reference import ReferenceEvaluator

from codesign.onnx_patterns import PATTERNS
from codesign.onnx_read import OPSETS
from codesign.onnx_table import FUNCTIONS
from codesign.step import MAX_SIDE
from tests.onnx_models import QONNX

Arrays = list[npt.NDArray[Any]]

# Which inputs of a node are maps; the others are parameters. Of those not named here the first.
MAPS = {
    "Add": (0, 1),
    "Concat": range(99),
    "DeformConv": (0, 2, 4),
    "Div": (0, 1),
    "Max": range(99),
    "Min": range(99),
    "Mul": (0, 1),
    "Pow": (0, 1),
    "Sub": (0, 1),
    "Sum": range(99),
}
# Weight and bias.
WEIGHTS = {"Conv": (1, 2), "ConvTranspose": (1, 2), "DeformConv": (1, 3), "Gemm": (1, 2), "MatMul": (1, 2)}
ROWS = ("Gemm", "MatMul")  # multiply what is flattened
FLATTENED = ("Flatten", "Squeeze")  # make rows, which are given their axes back
BEHIND_SUMS = (
    "BatchNormalization",
    "Flatten",
    "Relu",
    "Clip",
    "Round",
    "Identity",
    "Dropout",
    "QuantizeLinear",
    "Reshape",
    "Shape",
    "Transpose",
)
KEEPS_CODES = ("Concat", "DepthToSpace", "Flatten", "MaxPool", "QuantizeLinear", "Reshape", "Resize", "Shape", "Slice",
               "Split", "Transpose", "Upsample")  # fmt: skip
LIFTED = (*FUNCTIONS, "Add", "Clip", "Dropout", "Identity", "Max", "Min", "Mul", "Pow", "QuantizeLinear", "Relu",
          "Reshape", "Round", "Shape", "Sub", "Sum", "Transpose")  # fmt: skip
BY_CHANNELS = ("Concat", "Slice", "Split")
ANY_TYPE = (
    "Add",
    "Clip",
    "Identity",
    "MaxPool",
    "Mul",
    "Sub",
)  # integers are given as floats of the same value


@dataclass(frozen=True)
class Case:
    """A node test: the node with its inputs (None where one is left out) and outputs."""

    name: str
    node: onnx.NodeProto
    inputs: Sequence[Any]
    outputs: Sequence[Any]
    model: onnx.ModelProto

    @property
    def opset(self) -> int:
        return next(o.version for o in self.model.opset_import if o.domain == "")


@dataclass(frozen=True)
class Wrapped:
    """`codes` (N, H, W, C) by input, `expected` real values (N, H, W, C) by output; empty if the case has none."""

    model: onnx.ModelProto
    codes: Mapping[str, npt.NDArray[np.int64]]
    expected: Mapping[str, npt.NDArray[np.float64]]
    rounded: bool


@lru_cache(maxsize=1)
def collected() -> list[Any]:
    """Every case that the package has; a second collection would find none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows in the making of cases
        return [case for case in collect_testcases(None) if case.model is not None]


@lru_cache(maxsize=1)
def cases() -> dict[str, Case]:
    """The cases of one standard node of an operator that the importer knows, by name."""
    found = {}
    for case in collected():
        (node, *others), (inputs, outputs) = case.model.graph.node, case.data_sets[0]
        if others or case.model.functions or node.domain or ("", node.op_type) not in PATTERNS:
            continue
        given = dict(zip((i.name for i in case.model.graph.input), inputs, strict=True))
        values = [given[name] if name else None for name in node.input]
        found[case.name] = Case(case.name, node, values, outputs, case.model)
    return dict(sorted(found.items(), key=lambda item: item[1].node.op_type))


def wrap(case: Case) -> Wrapped:
    """The case in the contract; as it is where its maps are not of float32."""
    op = case.node.op_type
    maps = [i for i in range(len(case.inputs)) if i in MAPS.get(op, (0,)) and case.inputs[i] is not None]
    if op == "DequantizeLinear":
        return _parameter(case)
    if op in ANY_TYPE:
        case = replace(
            case, inputs=[_as_float(a) for a in case.inputs], outputs=[_as_float(a) for a in case.outputs]
        )
    if any(getattr(case.inputs[i], "dtype", None) != np.float32 for i in maps):
        return Wrapped(_at_known_opset(case.model), {}, {}, False)
    signed, step = _grid([case.inputs[i] for i in maps])
    weights = {i: _grid([case.inputs[i]]) for i in WEIGHTS.get(op, ())[:1] if case.inputs[i] is not None}
    inputs = list(case.inputs)
    for i in maps:
        inputs[i] = _rounded(inputs[i], signed, step)
    for i, (_, weight_step) in weights.items():
        inputs[i] = _rounded(inputs[i], True, weight_step)
    rounded = any(not np.array_equal(a, b) for a, b in zip(inputs, case.inputs, strict=True) if a is not None)
    # Codes of eight bits or more at one scale; of others there is nothing to expect.
    plain = op != "QuantizeLinear" or (
        np.size(case.inputs[1]) == 1 and isinstance(case.inputs[-1], np.ndarray)
    )
    outputs = _again(case, inputs) if rounded and plain else list(case.outputs)
    if op == "QuantizeLinear":
        outputs = [(np.asarray(outputs[0], np.float64) - case.inputs[2]) * case.inputs[1] if plain else None]
    build = _Network(case, inputs, maps, signed, step, {i: s for i, (_, s) in weights.items()})
    return build.wrapped(outputs, rounded)


class _Network:
    def __init__(
        self,
        case: Case,
        inputs: Arrays,
        maps: Sequence[int],
        signed: bool,
        step: float,
        weights: dict[int, float],
    ) -> None:
        self.case, self.op, self.signed, self.step = case, case.node.op_type, signed, step
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.infos: list[onnx.ValueInfoProto] = []
        self.codes: dict[str, npt.NDArray[np.int64]] = {}
        self.shape = inputs[maps[0]].shape
        self.more = max(4 - len(self.shape), 0) if self.op in LIFTED else 0  # axes that are put in front
        self.attributes = {a.name: helper.get_attribute_value(a) for a in case.node.attribute}
        self.axis, inputs = self._channel_axis(inputs) if self.op in BY_CHANNELS else (None, inputs)
        names = []
        for i, array in enumerate(inputs):
            if array is None:
                names.append("")
            elif i in maps:
                names.append(self._map(f"x{i}", self._lift(array)))
            elif i in weights:
                names.append(self._quantized(self._const(f"w{i}", array), f"w{i}.q", True, weights[i]))
            elif i in WEIGHTS.get(self.op, ()):
                sums = step * weights[WEIGHTS[self.op][0]]
                names.append(self._quantized(self._const(f"b{i}", array), f"b{i}.q", True, sums, bits=32))
            elif self.op == "Reshape":
                names.append(self._const(f"p{i}", np.concatenate([np.ones(self.more, np.int64), array])))
            else:
                names.append(self._const(f"p{i}", array))
        if self.op == "Transpose":
            perm = self.attributes.get("perm", list(reversed(range(len(self.shape)))))
            self.attributes["perm"] = [*range(self.more), *(p + self.more for p in perm)]
        elif self.op == "Shape":
            for key, value in self.attributes.items():  # a negative one counts from the end, wherever that is
                kept = value if 0 > value >= -len(self.shape) else self.more + max(value, 0)
                self.attributes[key] = kept
            self.attributes.setdefault("start", self.more)
        self.results = [f"y{i}" if name else "" for i, name in enumerate(case.node.output)]
        raw = self.op not in KEEPS_CODES or self.op in ("Flatten", "QuantizeLinear", "Shape")
        made = [f"{r}.raw" if raw and r else r for r in self.results]
        self.nodes.append(helper.make_node(self.op, names, made, case.name, **self.attributes))

    def _channel_axis(self, inputs: Arrays) -> tuple[int, Arrays]:
        """The axis that is worked on, and the inputs for where it is the channels; written from the end if it was."""
        rank, inputs = len(self.shape), list(inputs)
        if self.op != "Slice":
            axis = self.attributes.get("axis", 0)
            self.attributes["axis"] = 1 if axis >= 0 else -3
            return axis % rank, inputs
        starts, ends = inputs[1], inputs[2]
        axes = inputs[3] if len(inputs) > 3 else np.arange(len(starts))
        steps = inputs[4] if len(inputs) > 4 else np.ones(len(starts), np.int64)
        cut = [k for k, (s, e, a, d) in enumerate(zip(starts, ends, axes, steps, strict=True))
               if range(self.shape[a])[s:e:d] != range(self.shape[a])]  # fmt: skip
        k = cut[0]
        axis = int(axes[k]) % rank
        if len(cut) > 1:  # the others stay with it, on the axes behind
            inputs[3:4] = [np.array([1 + (a - axis) for a in axes])]
        elif len(inputs) > 3:
            inputs[1:] = [np.array([v]) for v in (starts[k], ends[k], 1 if axes[k] >= 0 else -3, steps[k])][
                : len(inputs) - 1
            ]
        else:
            whole = np.iinfo(np.int64).max
            inputs[1:] = [np.array([0, starts[k], 0, 0]), np.array([whole, ends[k], whole, whole])]
        return axis, inputs

    def _lift(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.axis is not None:
            before, rest = array.shape[: self.axis], array.shape[self.axis :]
            behind = rest[1:] if len(rest) == 3 else (1, int(np.prod(rest[1:])))
            return array.reshape(int(np.prod(before)), rest[0], *behind)
        if (
            array.ndim == 1 and array.size > MAX_SIDE and self.op in LIFTED
        ):  # a row that is too long for a map
            return array.reshape(1, 1, -1, 100)
        return array.reshape(*[1] * max(4 - array.ndim, 0), *array.shape) if self.op in LIFTED else array

    def _map(self, name: str, array: npt.NDArray[Any]) -> str:
        self.infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
        if self.op in ROWS and array.ndim == 2:
            array = array[:, :, None, None]
            self.infos[-1] = helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
        if array.ndim == 4:
            self.codes[name] = np.rint(array / self.step).astype(np.int64).transpose(0, 2, 3, 1)
        held = self._quantized(name, f"{name}.q", self.signed, self.step)
        if self.op in ROWS and array.shape[2:] == (1, 1):
            self.nodes.append(helper.make_node("Flatten", [held], [f"{name}.row"], f"{name}.row"))
            return f"{name}.row"
        if self.op not in BEHIND_SUMS or array.ndim != 4:
            return held
        eye = self._const(f"{name}.eye", np.eye(array.shape[1], dtype=np.float32)[:, :, None, None])
        weight, same = self._quantized(eye, f"{name}.eye.q", True, 1.0), f"{name}.same"
        self.nodes.append(helper.make_node("Conv", [held, weight], [same], same))
        return self._quantized(same, f"{same}.q", self.signed, self.step) if self.op in KEEPS_CODES[:-1] and (
            self.op != "QuantizeLinear") else same  # fmt: skip

    def _const(self, name: str, value: Any) -> str:
        if isinstance(value, onnx.TensorProto):
            tensor = onnx.TensorProto()
            tensor.CopyFrom(value)
            tensor.name = name
            self.initializers.append(tensor)
        else:
            self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _quantized(self, x: str, y: str, signed: bool, step: float, bits: int = 8) -> str:
        numbers = [self._const(f"{y}.{k}", np.float32(v)) for k, v in (("s", step), ("z", 0), ("n", bits))]
        attributes = {"signed": int(signed), "narrow": 0, "rounding_mode": "ROUND"}
        self.nodes.append(helper.make_node("Quant", [x, *numbers], [y], y, domain=QONNX, **attributes))
        return y

    def _finish(self, name: str, output: Any) -> Any:
        """Append what the operator's result needs to be an output of codes; returns what is expected there."""
        if self.op == "QuantizeLinear":
            kept = {k: v for k, v in self.attributes.items() if k in ("axis", "block_size")}
            inputs = [f"{name}.raw", *self.nodes[-1].input[1:]]
            self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name], f"{name}.dq", **kept))
        elif (
            self.op == "Shape"
        ):  # only tells how to reshape: with it, and constants around it, to the same map
            x, full = self.nodes[-1].input[0], (*[1] * self.more, *self.shape)
            at = slice(*(self.attributes.get(k) for k in ("start", "end"))).indices(4)[0]
            parts = [np.array(full[:at], np.int64), np.array(full[at + len(output) :], np.int64)]
            before, after = (self._const(f"{name}.{k}", p) for k, p in zip("ab", parts, strict=True))
            self.nodes.append(
                helper.make_node("Concat", [before, f"{name}.raw", after], [f"{name}.dims"], axis=0)
            )
            self.nodes.append(helper.make_node("Reshape", [x, f"{name}.dims"], [name], f"{name}.reshape"))
            return _rounded(np.asarray(self.case.inputs[0]), self.signed, self.step)
        elif self.op in FLATTENED:
            dims = self._const(f"{name}.dims", np.array([0, *self.shape[1:]], np.int64))
            self.nodes.append(helper.make_node("Reshape", [f"{name}.raw", dims], [name], f"{name}.reshape"))
            return _rounded(np.asarray(self.case.inputs[0]), self.signed, self.step)
        elif self.op not in KEEPS_CODES:
            raw = f"{name}.raw"
            if self.op == "Round":
                limits = [self._const(f"limit{v}", np.float32(v)) for v in (-128, 127)]
                self.nodes.append(helper.make_node("Clip", [raw, *limits], [f"{name}.clip"], f"{name}.clip"))
                raw = f"{name}.clip"
            signed, step = _fitting(np.asarray(output, np.float64), self.step if self.op != "Round" else 1.0)
            self._quantized(raw, name, signed, step)
            return _rounded(np.asarray(output), signed, step)
        return output

    def wrapped(self, outputs: Sequence[Any], rounded: bool) -> Wrapped:
        expected: dict[str, npt.NDArray[np.float64]] = {}
        results = [name for name in self.results if name]
        for name, output in zip(results, outputs, strict=True):
            array = self._finish(name, output)
            if isinstance(array, np.ndarray):
                array = array[:, :, None, None] if self.op in ROWS and array.ndim == 2 else self._lift(array)
                if array.ndim == 4:
                    expected[name] = array.astype(np.float64).transpose(0, 2, 3, 1)
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in results]
        graph = helper.make_graph(self.nodes, self.case.name, self.infos, infos, self.initializers)
        opset = min(self.case.opset, OPSETS[-1])
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(QONNX, 2)]
        return Wrapped(
            helper.make_model(graph, opset_imports=opsets, ir_version=10), self.codes, expected, rounded
        )


def _parameter(case: Case) -> Wrapped:
    """A DequantizeLinear of a parameter: the weights of a convolution whose input is one pixel of 1."""
    x = case.inputs[0]
    size = int(np.prod(case.outputs[0].shape))
    build = _Network.__new__(_Network)
    build.case, build.op, build.nodes, build.initializers, build.axis = case, "Conv", [], [], None
    names = [build._const(f"p{i}", value) for i, value in enumerate((x, *case.inputs[1:]))]
    attributes = {a.name: helper.get_attribute_value(a) for a in case.node.attribute}
    held = build._quantized("one", "one.q", True, 1.0)
    build.nodes.append(helper.make_node("DequantizeLinear", names, ["w"], case.name, **attributes))
    shape = build._const("shape", np.array([size, 1, 1, 1]))
    build.nodes.append(helper.make_node("Reshape", ["w", shape], ["column"], "column"))
    build.nodes.append(helper.make_node("Conv", [held, "column"], ["y0.raw"], "conv"))
    build.results, build.step = ["y0"], 1.0
    build.infos = [helper.make_tensor_value_info("one", TensorProto.FLOAT, [1, 1, 1, 1])]
    build.codes = {"one": np.ones((1, 1, 1, 1), np.int64)}
    column = np.asarray(case.outputs[0], np.float64).reshape(1, size, 1, 1)
    return build.wrapped([column], False)


def _grid(arrays: Sequence[npt.NDArray[Any]]) -> tuple[bool, float]:
    """Whether signed, and the power of two of which all values are whole multiples of 8 bits; else the finest one
    whose 8 bits reach to the largest value."""
    every = np.concatenate([np.ravel(a).astype(np.float64) for a in arrays])
    most = float(np.abs(every).max(initial=0.0))
    low, high = float(every.min(initial=0)), float(every.max(initial=0))
    for exponent in range(0, -11, -1):
        step = 2.0**exponent
        whole = np.array_equal(every / step, np.rint(every / step))
        if whole and low / step >= -128 and high / step <= (127 if low < 0 else 255):
            return low < 0 or high / step <= 127, step
    return True, 2.0 ** np.ceil(np.log2(most / 127)) if most else 1.0


def _fitting(array: npt.NDArray[Any], step: float) -> tuple[bool, float]:
    """Signedness and step, no finer than `step`, of 8 bits that hold the values."""
    low, high = float(array.min(initial=0)), float(array.max(initial=0))
    signed = low < 0
    while high / step > (127 if signed else 255) or low / step < -128:
        step *= 2
    return signed, step


def _as_float(value: Any) -> Any:
    is_integer = isinstance(value, np.ndarray) and value.dtype.kind in "iu"
    return value.astype(np.float32) if is_integer else value


def _rounded(array: npt.NDArray[Any], signed: bool, step: float) -> npt.NDArray[np.float32]:
    lo, hi = (-128, 127) if signed else (0, 255)
    return (np.rint(array.astype(np.float64) / step).clip(lo, hi) * step).astype(np.float32)


def _again(case: Case, inputs: Sequence[Any]) -> Arrays:
    """What the node gives on other data, by onnx's reference evaluator."""
    names = [i.name for i in case.model.graph.input]
    given = dict(zip(case.node.input, inputs, strict=True))
    return [np.asarray(a) for a in ReferenceEvaluator(case.model).run(None, {n: given[n] for n in names})]


def _at_known_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for entry in copy.opset_import:
        entry.version = min(entry.version, OPSETS[-1])
    return copy
