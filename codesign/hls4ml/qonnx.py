"""Integer graph -> the channels-last QONNX that hls4ml's ONNX parser takes, with one quantizer a layer.

A map is its codes times a power of two (codesign.hls4ml.scales). A convolution's weights carry its whole
requantization: with x and y the exponents of its input and its result,

    W[..., c] * m[c] * 2^(y - x - n[c])      bias  B[c] * m[c] * 2^(y - n[c])

as numbers on one power-of-two grid a tensor, so that hls4ml's fixed-point types hold them exactly, its sums are exact,
and the one rounding is the result type's: half to even, then saturation, which is RHE and clamp of the integer
contract. hls4ml would take scales that differ by channel for multiplications in a type of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from codesign.errors import ModelRefused, Problem
from codesign.hls4ml import qonnx_mix
from codesign.hls4ml.parsers import CHANNELS_LAST
from codesign.hls4ml.scales import ENGINE, exponents, plain_shift
from codesign.ir import Array, Graph, IntType, Node
from codesign.ops import (
    Add,
    Concat,
    Conv,
    DeformDwConv,
    DwConv,
    MaxPool,
    Requant,
    Table,
    Upsample,
    WideRequant,
)

QUANT, HLS4ML = "qonnx.custom_op.general", "qonnx.custom_op.channels_last"
OPSET, IR_VERSION = 20, 10
CONVOLUTIONS = (Conv, DwConv, DeformDwConv)
SUMS = (*CONVOLUTIONS, *qonnx_mix.SUMS)
MAX_CONCAT = 2  # inputs, of hls4ml's Concatenate
MAX_READERS = 7  # of hls4ml's Clone, which io_stream needs
MAX_BITS = 52  # hls4ml computes with parameters in float64


def write(graph: Graph, where: str, io_type: str = "io_parallel") -> onnx.ModelProto:
    """Inputs and outputs are real numbers (N, H, W, C), as in the model file. Raises ModelRefused with every layer that
    hls4ml 1.3 has no exact form for, in io_stream those that it has in io_parallel alone too.
    """
    scales, problems = exponents(graph)
    problems = [*refusals(graph, io_type), *problems]
    if problems:
        raise ModelRefused(where, problems)
    return _Writer(graph, scales).model()


def output_order(graph: Graph) -> list[str]:
    """Outputs in the order in which they are made: hls4ml gives them in no other."""
    return [node.name for node in graph.nodes if node.name in graph.outputs]


def refusals(graph: Graph, io_type: str) -> list[Problem]:
    """Every layer that hls4ml does not compute, or not exactly."""
    found = []
    for name in graph.outputs:
        if name in graph.inputs:
            found.append(Problem(f"output {name!r}", "is an input", "Leave it out."))
    for node in graph.nodes:
        fault = _fault(graph, node) or (_stream_fault(graph, node) if io_type == "io_stream" else None)
        if fault is not None:
            found.append(Problem(f"{type(node.op).__name__} {node.name!r}", *fault))
    return found


def _fault(graph: Graph, node: Node) -> tuple[str, str] | None:
    op = node.op
    match op:
        case Add():
            return _unquantized(graph, node)
        case _ if isinstance(op, SUMS):
            return _unquantized(graph, node)
        case Upsample() | Table():
            return None
        case MaxPool():
            if any(op.pads):
                return (
                    "pads its windows, and hls4ml's padding of unsigned maps is wrong",
                    "Pool without padding.",
                )
            return None
        case Concat():
            if len(node.inputs) > MAX_CONCAT:
                return f"joins {len(node.inputs)} maps, hls4ml's limit is {MAX_CONCAT}", "Join two at a time."
            return None
        case WideRequant():
            return "has factors of more than 8 bits, which no fixed-point type of a layer holds", ENGINE
        case Requant():
            source = {n.name: n for n in graph.nodes}.get(node.inputs[0])
            if source is None or not isinstance(source.op, (*SUMS, Add)):
                return f"requantizes what no convolution or addition made ({node.inputs[0]})", ENGINE
            if isinstance(source.op, Add) and plain_shift(graph, node) is None:
                return "quantizes a sum of maps with a bias or by channel, hls4ml's adds have neither", ENGINE
            if len(graph.users[source.name]) > 1:
                return f"is one of several quantizers of {source.name}", ENGINE
            if not isinstance(source.op, Add) and (bits := _bits(graph, node, source)) > MAX_BITS:
                return (
                    f"needs parameters of {bits} bits for one grid of its channels, the limit is {MAX_BITS}",
                    ENGINE,
                )
            if result_type(graph, node) is None:
                return f"clamps to {op.lo}..{op.hi}, which no fixed-point type saturates to", ENGINE
            return None
        case _:
            return "is no layer that hls4ml has", ENGINE


def _unquantized(graph: Graph, node: Node) -> tuple[str, str] | None:
    if node.name in graph.outputs:
        return "is an output that no quantizer follows", "Quantize it."
    return None


def _stream_fault(graph: Graph, node: Node) -> tuple[str, str] | None:
    readers = len(graph.users[node.name]) + (node.name in graph.outputs)
    if readers > MAX_READERS:
        return f"is read {readers} times, hls4ml's limit is {MAX_READERS} in io_stream", "Take --io parallel."
    if isinstance(node.op, MaxPool) and node.op.kernel != node.op.stride:
        kernel, stride = ("x".join(map(str, pair)) for pair in (node.op.kernel, node.op.stride))
        reason = f"has {kernel} windows every {stride}, hls4ml's must not overlap in io_stream"
        return reason, "Take --io parallel, or pool without overlap."
    return None


def _bits(graph: Graph, node: Node, source: Node) -> int:
    """Of the widest weight or bias of a convolution whose channels have one grid, that of the largest shift."""
    if not isinstance(source.op, CONVOLUTIONS):
        return qonnx_mix.largest(graph, node, source)
    bias, mult, shift = (graph.consts[name] for name in node.inputs[1:])
    weight = abs(graph.consts[source.inputs[-1]]).reshape(-1, len(mult)).max(0)
    largest = np.maximum(weight, abs(bias))
    up = int(shift.max()) - shift
    return (
        max((int(a) * int(m) << int(n)).bit_length() for a, m, n in zip(largest, mult, up, strict=True)) + 1
    )


def result_type(graph: Graph, node: Node) -> tuple[IntType, bool] | None:
    """The type, and whether it is narrow, that saturates to a Requant's clamp; None if there is none.

    A bound on offsets is the deformable layer's own, so that theirs may be the next power of two.
    """
    op = node.op
    assert isinstance(op, Requant)
    elem = IntType.holding(op.lo, op.hi)
    if (op.lo, op.hi) == (elem.min, elem.max):
        return elem, False
    if op.lo == -op.hi:
        return (elem, True) if op.hi == elem.max else None
    readers = graph.users[node.name]
    bounded = readers and all(
        isinstance(r.op, DeformDwConv) and r.inputs[1] == node.name and r.op.max_offset == op.hi
        for r in readers
    )
    return (elem, False) if bounded and op.lo == 0 and node.name not in graph.outputs else None


def identifiers(names: Sequence[str]) -> dict[str, str]:
    """A C++ identifier for every name, each another one."""
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "value"
        plain = f"n_{plain}" if plain[0].isdigit() else plain
        while plain.lower() in {other.lower() for other in found.values()}:
            plain += "_"
        found[name] = plain
    return found


class _Writer:
    def __init__(self, graph: Graph, exponents: dict[str, int]) -> None:
        self.graph, self.types, self.exponents = graph, graph.types(), exponents
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.infos: list[onnx.ValueInfoProto] = []
        self.id = identifiers(list(self.types))
        self.by_name = {node.name: node for node in graph.nodes}

    def model(self) -> onnx.ModelProto:
        for node in self.graph.nodes:
            self._write(node)
        inputs = [self._info(self.id[name], self.types[name].shape) for name in self.graph.inputs]
        outputs = [self._info(self.id[name], self.types[name].shape) for name in output_order(self.graph)]
        body = helper.make_graph(
            self.nodes, "hls4ml", inputs, outputs, list(self.initializers.values()), value_info=self.infos
        )
        domains = [("", OPSET), (QUANT, 1), (HLS4ML, 1), (CHANNELS_LAST, 1)]
        opsets = [helper.make_opsetid(domain, number) for domain, number in domains]
        model = helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION, producer_name="codesign")
        helper.set_model_props(model, dict(self.graph.meta))
        return model

    def _info(self, name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *shape])

    def _const(self, name: str, values: npt.NDArray[Any]) -> str:
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        self.infos.append(helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape))  # fmt: skip
        return name

    def add(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], output, domain=domain, **attributes))
        return output

    def _quant(self, x: str, y: str, elem: IntType, scale: float, narrow: bool = False) -> str:
        parameters = [self._const(f"{y}_{what}", np.array([value], np.float32))
                      for what, value in (("scale", scale), ("zero", 0.0), ("bits", elem.bits))]  # fmt: skip
        signs = {"signed": int(elem.signed), "narrow": int(narrow), "rounding_mode": "ROUND"}
        return self.add("Quant", [x, *parameters], y, QUANT, **signs)

    def parameter(self, name: str, codes: Array, exponent: int) -> str:
        """Numbers codes * 2^exponent behind a quantizer that keeps them."""
        values = np.ldexp(codes.astype(np.float64), exponent)
        narrow = values.astype(np.float32)
        self._const(f"{name}_values", narrow if np.array_equal(narrow, values) else values)
        elem = IntType.holding(min(int(codes.min()), -1), int(codes.max()))
        quantized = self._quant(f"{name}_values", name, elem, 2.0**exponent)
        self.infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, codes.shape))
        return quantized

    def _write(self, node: Node) -> None:
        op, y = node.op, self.id[node.name]
        match op:
            case _ if isinstance(op, (*SUMS, Add)):
                return  # written with its Requant
            case Table():
                qonnx_mix.write_table(self, node)
            case Requant():
                source = self.by_name[node.inputs[0]]
                sums = self._sums(node, source)
                self.infos.append(self._info(sums, self.types[node.name].shape))
                elem, narrow = result_type(self.graph, node) or (op.out, False)
                self._quant(sums, y, elem, 2.0 ** self.exponents[node.name], narrow)
            case MaxPool():
                window = {
                    "kernel_shape": op.kernel,
                    "strides": op.stride,
                    "pads": op.pads,
                    "dilations": [1, 1],
                }
                self.add("MaxPool", [self.id[node.inputs[0]]], y, HLS4ML, **window)
            case Upsample():
                self.add("NearestUpsample", [self.id[node.inputs[0]]], y, CHANNELS_LAST, factor=op.factor)
            case Concat():
                self.add("Concat", [self.id[name] for name in node.inputs], y, axis=3)
            case _:
                raise AssertionError(f"{node.name}: was not refused")
        if node.name not in self.graph.outputs:
            self.infos.append(self._info(y, self.types[node.name].shape))

    def _sums(self, node: Node, source: Node) -> str:
        if isinstance(source.op, Add):
            return self._sum_of_maps(source)
        if isinstance(source.op, CONVOLUTIONS):
            return self._convolution(node, source)
        return qonnx_mix.write_sums(self, node, source)

    def _sum_of_maps(self, node: Node) -> str:
        return self.add("Add", [self.id[name] for name in node.inputs], f"{self.id[node.name]}_sums")

    def _convolution(self, node: Node, source: Node) -> str:
        bias, mult, shift = (self.graph.consts[name] for name in node.inputs[1:])
        x, y = source.inputs[0], self.id[node.name]
        # One grid for all channels: that of the largest shift.
        up = int(shift.max()) - shift
        exponent = self.exponents[node.name] - int(shift.max())
        codes = self.graph.consts[source.inputs[-1]] * (mult << up)
        parameters = [
            self.parameter(f"{y}_weight", _onnx_weight(source, codes), exponent - self.exponents[x]),
            self.parameter(f"{y}_bias", bias * (mult << up), exponent),
        ]
        sums = f"{y}_sums"
        match source.op:
            case DeformDwConv(max_offset, stride):
                window = {"kernel_shape": (3, 3), "strides": stride, "pads": (1, 1, 1, 1)}
                inputs = [self.id[x], parameters[0], self.id[source.inputs[1]], parameters[1]]
                group = {"group": self.types[x].shape[2], "max_offset": max_offset}
                self.add("SquareDeformConv", inputs, sums, CHANNELS_LAST, **window, **group)
            case Conv() | DwConv():
                group = {"group": self.types[x].shape[2] if isinstance(source.op, DwConv) else 1}
                window = {
                    "kernel_shape": source.op.kernel,
                    "strides": source.op.stride,
                    "pads": source.op.pads,
                }
                self.add("Conv", [self.id[x], *parameters], sums, HLS4ML, dilations=[1, 1], **window, **group)
        return sums


def _onnx_weight(node: Node, weight: Array) -> Array:
    """hls4ml's layouts: (O, kh, kw, I) of a convolution, (C, kh, kw, 1) of a depthwise one, (C, 1, 3, 3) of ours."""
    if isinstance(node.op, Conv):
        return weight.transpose(3, 0, 1, 2)
    if isinstance(node.op, DwConv):
        return weight.transpose(2, 0, 1)[..., None]
    return weight.transpose(2, 0, 1)[:, None]
