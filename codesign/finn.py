"""Graph -> an ONNX file in the form that FINN's front end makes of a QONNX file, ready for its hardware layers.

FINN (github.com/Xilinx/finn) builds one streaming design of a network: every operator becomes hardware of its own.
Its front end turns quantizers into `MultiThreshold`, moves scales out of the way, lowers convolutions to `Im2Col` and
`MatMul`, and puts channels last; where a network branches, scales often stop half-way. An integer graph has all of
that behind it, so this file is written in that last form: maps (N, H, W, C) of whole numbers in float32, data types
as annotations, and a `Requant` as the sums at which its result steps up, one by one:

    out = out.min + |{k : acc >= t[c, k]}|        exact for every sum, whatever the multiplier, shift and rounding

The names and conventions are those of qonnx (`qonnx.custom_op.general`) and its `LowerConvsToMatMul`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from codesign.errors import ModelRefused
from codesign.finn_limits import refusals
from codesign.finn_streams import VIEWS, Streams
from codesign.ir import Array, Bounds, Graph, IntType, Node
from codesign.layout import views
from codesign.ops import Add, Conv, DwConv, MaxPool, Requant
from codesign.ops.op import window

QONNX, QONNX_VERSION = "qonnx.custom_op.general", 1
OPSET, IR_VERSION = 13, 8  # FINN's Split has its widths as an input, from 13 on
LAYOUT = "['N', 'H', 'W', 'C']"


def export_finn(graph: Graph, where: str) -> onnx.ModelProto:
    """Raises ModelRefused with every node that FINN has no hardware for; `where` names the model in its text."""
    if problems := refusals(graph):
        raise ModelRefused(where, problems, "be built by FINN")
    return _Writer(graph).model()


def thresholds(op: Requant, tables: Sequence[Array], acc: Bounds) -> Array:
    """(C, 2^bits - 1): the least sum within `acc` from which the result is at least out.min + 1, + 2, ...

    Where no sum gets that far, the one above the highest; sorted in each channel, as FINN's binary search wants them.
    """
    codes = np.arange(op.out.min + 1, op.out.max + 1)[:, None]
    first = np.broadcast_to(acc.low, (codes.size, acc.low.size)).copy()
    last = np.broadcast_to(acc.high + 1, first.shape).copy()
    while (open_ := first < last).any():
        middle = (first + last) >> 1
        reached = op.run(middle, *tables) >= codes
        last = np.where(open_ & reached, middle, last)
        first = np.where(open_ & ~reached, middle + 1, first)
    return first.T


def datatype(elem: IntType) -> str:
    """qonnx's name of an integer type."""
    if elem.bits == 1 and not elem.signed:
        return "BINARY"
    return f"{'INT' if elem.signed else 'UINT'}{elem.bits}"


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.types, self.bounds = graph, graph.types(), graph.bounds()
        self.streams = Streams(graph, self._cut, self._join, self._grow)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.shapes: dict[str, tuple[tuple[int, ...], IntType]] = {}  # of every tensor, batch included
        self.notes: dict[str, dict[str, str]] = {}  # annotations

    def model(self) -> onnx.ModelProto:
        for name, type_ in self.graph.inputs.items():
            self._tensor(name, type_.shape, type_.elem)
            self.streams.add(name, range(type_.shape[-1]))
        for node in self.graph.nodes:
            if not isinstance(node.op, VIEWS):
                self._write(node)
        self._name_outputs()
        infos = {
            name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, (shape, _) in self.shapes.items()
        }
        ends = (*self.graph.inputs, *self.graph.outputs)
        body = helper.make_graph(
            self.nodes,
            "finn",
            [infos[name] for name in self.graph.inputs],
            [infos[name] for name in self.graph.outputs],
            list(self.initializers.values()),
            value_info=[info for name, info in infos.items() if name not in ends],
        )
        for name, (_, elem) in self.shapes.items():
            self.notes[name] = {"finn_datatype": datatype(elem), "tensor_layout": LAYOUT}
        for name, texts in self.notes.items():
            body.quantization_annotation.append(_annotation(name, texts))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(QONNX, QONNX_VERSION)]
        model = helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION, producer_name="codesign")
        meta = {key: text for key, text in self.graph.meta.items() if key != "codesign.format"}
        helper.set_model_props(model, {**meta, "codesign.scales": json.dumps(dict(self.graph.scales))})
        return model

    def _write(self, node: Node) -> None:
        view = views(self.graph)[node.inputs[0]]
        x, places = self.streams.read(view)
        match node.op:
            case Conv() as op:
                weight = self.graph.consts[node.inputs[1]][:, :, places]
                self._product(node, self._taps(node, x, op.kernel, op.stride, op.pads, 0), weight)
                places = list(range(weight.shape[3]))
            case DwConv() as op:
                weight = self.graph.consts[node.inputs[1]][:, :, places]
                diagonal = weight[..., None] * np.eye(weight.shape[2], dtype=np.int64)
                self._product(node, self._taps(node, x, op.kernel, op.stride, op.pads, 1), diagonal)
                self.notes[node.inputs[1]]["tensor_sparsity"] = str({"dw": {"kernel_shape": list(op.kernel)}})
            case Requant() as op:
                self._requant(node, op, x, places)
            case MaxPool() as op:
                how: dict[str, Any] = {"kernel_shape": op.kernel, "strides": op.stride, "pads": op.pads}
                self._add("MaxPoolNHWC", [x], node.name, domain=QONNX, ceil_mode=0, **how)
                self._tensor(node.name, self.types[node.name].shape, self.types[node.name].elem)
            case Add() as op:
                other = views(self.graph)[node.inputs[1]]
                y = self.streams.read_sorted(tuple(other[i] for i in places))
                sides = [self._shifted(node, *side) for side in ((x, op.left, 0), (y, op.right, 1))]
                self._add("Add", sides, node.name)
                self._tensor(node.name, self.types[node.name].shape, self.bounds[node.name].elem)
            case op:
                raise AssertionError(f"{node.name}: {type(op).__name__} was not refused")
        self.streams.add(node.name, places)

    def _taps(
        self,
        node: Node,
        x: str,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        pads: Sequence[int],
        dw: int,
    ) -> str:
        """The samples under the window, side by side as channels; a plain 1x1 convolution reads the map itself."""
        if kernel == (1, 1) and stride == (1, 1) and not any(pads):
            return x
        (_, h, w, c), elem = self.shapes[x]
        size = window((h, w, c), kernel, stride, (pads[0], pads[1], pads[2], pads[3]))
        attributes: dict[str, Any] = {
            "kernel_size": kernel,
            "stride": stride,
            "pad_amount": pads,
            "dilations": (1, 1),
        }
        attributes |= {"input_shape": f"(1,{h},{w},{c})", "depthwise": dw}
        taps = self._add("Im2Col", [x], f"{node.name}.taps", domain=QONNX, **attributes)
        self._tensor(taps, (*size, c * kernel[0] * kernel[1]), elem)
        return taps

    def _product(self, node: Node, x: str, weight: Array) -> None:
        """`weight` (kh, kw, Cin, Cout), in the order of x's channels."""
        name = node.inputs[1]
        self._const(name, weight.reshape(-1, weight.shape[3]).astype(np.float32))
        self.notes[name] = {"finn_datatype": datatype(self.graph.const_types[name])}
        self._add("MatMul", [x, name], node.name)
        self._tensor(node.name, self.types[node.name].shape, self.bounds[node.name].elem)

    def _requant(self, node: Node, op: Requant, x: str, places: Sequence[int]) -> None:
        tables = [self.graph.consts[name] for name in node.inputs[1:]]
        table = thresholds(op, tables, self.bounds[node.inputs[0]])[list(places)]
        name = self._const(f"{node.name}.thresholds", table.astype(np.float32))
        self.notes[name] = {
            "finn_datatype": datatype(IntType.holding(min(-1, int(table.min())), int(table.max())))
        }
        how = {"out_dtype": datatype(op.out), "out_scale": 1.0, "out_bias": float(op.out.min)}
        self._add("MultiThreshold", [x, name], node.name, domain=QONNX, data_layout="NHWC", **how)
        self._tensor(node.name, self.types[node.name].shape, op.out)

    def _shifted(self, node: Node, x: str, shift: int, side: int) -> str:
        if not shift:
            return x
        (_, *shape), elem = self.shapes[x]
        factor = self._const(f"{node.name}.factor{side}", np.array([1 << shift], np.float32))
        self.notes[factor] = {"finn_datatype": datatype(IntType.holding(0, 1 << shift))}
        y = self._add("Mul", [x, factor], f"{node.name}.shifted{side}")
        return self._tensor(y, shape, IntType(elem.bits + shift, elem.signed))

    def _cut(self, x: str, widths: Sequence[int]) -> list[str]:
        (_, h, w, _), elem = self.shapes[x]
        names = [self._free(f"{x}.part{i}") for i in range(len(widths))]
        sizes = self._const(self._free(f"{x}.widths"), np.array(widths, np.int64))
        self.nodes.append(helper.make_node("Split", [x, sizes], names, self._free(f"{x}.split"), axis=3))
        return [self._tensor(name, (h, w, width), elem) for name, width in zip(names, widths, strict=True)]

    def _join(self, parts: Sequence[str]) -> str:
        shapes, elems = zip(*(self.shapes[part] for part in parts), strict=True)
        y = self._add("Concat", list(parts), self._free(f"{parts[0]}.joined"), axis=3)
        elem = IntType(max(e.bits for e in elems), elems[0].signed)
        return self._tensor(y, (*shapes[0][1:3], sum(shape[3] for shape in shapes)), elem)

    def _grow(self, x: str) -> str:
        (_, h, w, c), elem = self.shapes[x]
        scales = self._const("upsampling", np.array([1, 2, 2, 1], np.float32))
        none = self._const("upsampling.roi", np.zeros(0, np.float32))
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        y = self._add("Resize", [x, none, scales], self._free(f"{x}.up"), mode="nearest", **how)
        return self._tensor(y, (2 * h, 2 * w, c), elem)

    def _name_outputs(self) -> None:
        found = {name: self.streams.read_sorted(views(self.graph)[name]) for name in self.graph.outputs}
        renamed = {tensor: name for name, tensor in found.items() if tensor != name}
        for node in self.nodes:
            node.output[:] = [renamed.get(name, name) for name in node.output]
        self.shapes = {renamed.get(name, name): shape for name, shape in self.shapes.items()}

    def _add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def _tensor(self, name: str, shape: Sequence[int], elem: IntType) -> str:
        self.shapes[name] = ((1, *shape), elem)
        return name

    def _const(self, name: str, array: npt.NDArray[Any]) -> str:
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def _free(self, name: str) -> str:
        """The name, or with a number where it is taken."""
        taken = {*self.types, *self.shapes, *self.initializers, *(n.name for n in self.nodes)}
        candidates = (name, *(f"{name}.{i}" for i in range(2, len(taken) + 3)))
        return next(candidate for candidate in candidates if candidate not in taken)


def _annotation(name: str, texts: dict[str, str]) -> onnx.TensorAnnotation:
    entries = [onnx.StringStringEntryProto(key=key, value=text) for key, text in texts.items()]
    return onnx.TensorAnnotation(tensor_name=name, quant_parameter_tensor_names=entries)
