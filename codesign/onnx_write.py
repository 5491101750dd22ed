"""Graph -> an ONNX file of standard operators whose tensors are the integers themselves, in floating point.

Stock onnxruntime then computes the graph exactly, as an implementation independent of this one: float32 where
every partial sum is proven below 2^24 (in any order, with any fusion), float64 above. onnxruntime has no
float64 convolution, so a convolution beyond the bound is split over its input channels into float32 parts that
are added in float64.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from codesign import onnx_write_mix, onnx_write_sample, onnx_write_wide
from codesign.errors import TypeMismatch
from codesign.fast import exact_float
from codesign.ir import Array, Bounds, Graph, Node
from codesign.ops import (
    Add,
    Concat,
    Conv,
    DeformDwConv,
    DepthToSpace,
    DwConv,
    GlobalSum,
    MaxPool,
    Mix,
    MixedConv,
    Pick,
    Requant,
    SampledDwConv,
    Select,
    Shuffle,
    Slice,
    Table,
    Upsample,
    VariedDwConv,
    WideRequant,
)
from codesign.ops.op import product_bounds

OPSET, IR_VERSION = 20, 10
TEMPLATE = np.array([k for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (i, j)], np.float32)
PROTO = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}


def export_integer(graph: Graph) -> onnx.ModelProto:
    """Inputs and outputs are float32 tensors (N, C, H, W) of whole numbers: the codes, not real values."""
    return Writer(graph).model()


class Writer:
    """Collects nodes and initializers of one file."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.types, self.bounds = graph, graph.types(), graph.bounds()
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.double: set[str] = set()  # tensors held in float64

    def model(self) -> onnx.ModelProto:
        for name in self.graph.inputs:
            if exact_float(self.bounds[name]) is not np.float32:
                raise TypeMismatch(f"{name}: is {self.types[name]}, expected at most 24 bits")
        for node in self.graph.nodes:
            self._write(node)
        inputs = [self._info(name) for name in self.graph.inputs]
        outputs = [self._info(name) for name in self.graph.outputs]
        body = helper.make_graph(self.nodes, "integers", inputs, outputs, list(self.initializers.values()))
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(body, opset_imports=opset, ir_version=IR_VERSION, producer_name="codesign")
        scales = {"codesign.scales": json.dumps(dict(self.graph.scales))} if self.graph.scales else {}
        helper.set_model_props(model, {**self.graph.meta, **scales})
        return model

    def _info(self, name: str) -> onnx.ValueInfoProto:
        h, w, c = self.types[name].shape
        kind = TensorProto.DOUBLE if name in self.double else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, kind, ["N", c, h, w])

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def const(self, name: str, array: npt.NDArray[Any]) -> str:
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def _write(self, node: Node) -> None:
        op, name, x = node.op, node.name, node.inputs[0]
        h, w, c = self.types[x].shape
        match op:
            case Conv():
                weight = self.graph.consts[node.inputs[1]].transpose(3, 2, 0, 1)
                self._convolution(node, weight, strides=op.stride, pads=op.pads, group=1)
            case DwConv():
                weight = self.graph.consts[node.inputs[1]].transpose(2, 0, 1)[:, None]
                self._convolution(node, weight, strides=op.stride, pads=op.pads, group=c)
            case DeformDwConv():
                self._deform(node, op)
            case SampledDwConv():
                onnx_write_sample.sampled(self, node, op)
            case VariedDwConv():
                onnx_write_sample.varied(self, node, op)
            case GlobalSum():
                onnx_write_mix.global_sum(self, node)
            case Mix() | Pick():
                onnx_write_mix.mix(self, node, op)
            case MixedConv():
                onnx_write_mix.mixed_conv(self, node, op)
            case WideRequant():
                onnx_write_wide.requant(self, node, op)
            case Requant():
                self._requant(node, op)
            case MaxPool():
                self.add("MaxPool", [x], name, kernel_shape=op.kernel, strides=op.stride, pads=op.pads)
            case Upsample():
                scales = self.const("upsample.scales", np.array([1, 1, op.factor, op.factor], np.float32))
                how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
                self.add("Resize", [x, "", scales], name, mode="nearest", **how)
            case Add():
                a, b = (self._shifted(node, i, n) for i, n in enumerate((op.left, op.right)))
                self.add("Add", [a, b], name)
            case DepthToSpace():
                self.add("DepthToSpace", [x], name, blocksize=2, mode="DCR")
                self.double |= {name} if x in self.double else set()
            case Table():  # a code below 0 counts from the table's end, in ONNX too
                codes = self.add("Cast", [x], f"{name}.codes", to=TensorProto.INT64)
                values = self.const(node.inputs[1], self.graph.consts[node.inputs[1]].astype(np.float32))
                self.add("Gather", [values, codes], name)
            case Concat():
                self.add("Concat", list(node.inputs), name, axis=1)
            case Select():
                least = self.const(f"{name}.threshold", np.array(op.threshold, np.float32))
                taken = self.add("GreaterOrEqual", [node.inputs[2], least], f"{name}.taken")
                self.add("Where", [taken, *node.inputs[:2]], name)
            case Slice():
                start, stop = self.ints(op.start), self.ints(op.stop)
                self.add("Slice", [x, start, stop, self.ints(1)], name)
            case Shuffle():
                grouped = self.ints(0, op.groups, c // op.groups, h, w)
                split = self.add("Reshape", [x, grouped], f"{name}.grouped")
                swapped = self.add("Transpose", [split], f"{name}.swapped", perm=[0, 2, 1, 3, 4])
                self.add("Reshape", [swapped, self.ints(0, c, h, w)], name)
            case _:
                raise TypeMismatch(f"{name}: {type(op).__name__} has no form in standard ONNX")

    def _shifted(self, node: Node, i: int, shift: int) -> str:
        """Input i of a node times 2^shift, which changes a float's exponent alone."""
        if not shift:
            return node.inputs[i]
        factor = self.const(f"shift.{shift}", np.array(1 << shift, np.float32))
        return self.add("Mul", [node.inputs[i], factor], f"{node.name}.shifted{i}")

    def ints(self, *values: int) -> str:
        return self.const(f"ints.{'_'.join(map(str, values))}", np.array(values, np.int64))

    def _convolution(self, node: Node, weight: Array, group: int, **window: Any) -> None:
        parts = [slice(None)] if group > 1 else self._exact_parts(node, self.bounds[node.inputs[0]])
        names = []
        for i, part in enumerate(parts):
            piece = np.zeros_like(weight)
            piece[:, part] = weight[:, part]
            suffix = f".part{i}" if len(parts) > 1 else ""
            table = self.const(node.inputs[1] + suffix, piece.astype(np.float32))
            shape = {"kernel_shape": weight.shape[2:], "group": group}
            names.append(self.add("Conv", [node.inputs[0], table], node.name + suffix, **shape, **window))
        if len(parts) > 1:
            wide = [self.add("Cast", [n], f"{n}.double", to=TensorProto.DOUBLE) for n in names]
            self.add("Sum", wide, node.name)
            self.double.add(node.name)
        elif exact_float(self.bounds[node.name]) is not np.float32:
            raise TypeMismatch(
                f"{node.name}: one input channel alone sums beyond 2^24, expected 8-bit inputs"
            )

    def _exact_parts(self, node: Node, x: Bounds) -> list[slice]:
        """Ranges of input channels whose partial sums each stay below 2^24."""
        weight = self.graph.consts[node.inputs[1]]
        parts, start, size = list[slice](), 0, weight.shape[2]
        while start < size:
            stop = size
            while stop > start + 1 and not self._is_exact(x, weight, start, stop):
                stop = start + (stop - start + 1) // 2
            if not self._is_exact(x, weight, start, stop):
                raise TypeMismatch(
                    f"{node.name}: one input channel alone sums beyond 2^24, expected 8-bit inputs"
                )
            parts.append(slice(start, stop))
            start = stop
        return parts

    def _is_exact(self, x: Bounds, weight: Array, start: int, stop: int) -> bool:
        part = Bounds(x.low[start:stop], x.high[start:stop])
        return exact_float(product_bounds(part, weight[:, :, start:stop], (0, 1, 2))) is np.float32

    def _deform(self, node: Node, op: DeformDwConv) -> None:
        x, d, weight = node.inputs
        if exact_float(self.bounds[node.name]) is not np.float32:
            raise TypeMismatch(f"{node.name}: sums beyond 2^24, expected 8-bit inputs")
        table = self.const(weight, self.graph.consts[weight].transpose(2, 0, 1)[:, None].astype(np.float32))
        less = self.add("Sub", [d, self.const("deform.one", np.array(1, np.float32))], f"{node.name}.d")
        template = self.const("deform.template", TEMPLATE.reshape(1, 18, 1, 1))
        offsets = self.add("Mul", [less, template], f"{node.name}.offsets")
        group = self.types[x].shape[2]
        window = {"kernel_shape": [3, 3], "strides": op.stride, "pads": [1, 1, 1, 1]}
        self.add("DeformConv", [x, table, offsets], node.name, group=group, offset_group=1, **window)

    def _requant(self, node: Node, op: Requant) -> None:
        acc, (bias, mult, shift) = node.inputs[0], (self.graph.consts[s] for s in node.inputs[1:])
        biased = Bounds(self.bounds[acc].low + bias, self.bounds[acc].high + bias)
        product = Bounds(biased.low * mult, biased.high * mult)
        narrow = exact_float(Bounds(bias, bias), biased, product) is np.float32 and acc not in self.double
        float_: type[Any] = np.float32 if narrow else np.float64
        if not narrow and acc not in self.double:
            acc = self.add("Cast", [acc], f"{node.name}.double", to=TensorProto.DOUBLE)
        # P * 2^-shift only changes P's exponent: exact, so that Round sees the very tie.
        factor = np.ldexp(mult.astype(float_), -shift).astype(float_)
        b = self.const(f"{node.name}.bias", bias.astype(float_).reshape(1, -1, 1, 1))
        f = self.const(f"{node.name}.factor", factor.reshape(1, -1, 1, 1))
        lo = self.const(f"{node.name}.lo", np.array(op.lo, float_))
        hi = self.const(f"{node.name}.hi", np.array(op.hi, float_))
        biased_name = self.add("Add", [acc, b], f"{node.name}.biased")
        scaled = self.add("Mul", [biased_name, f], f"{node.name}.scaled")
        rounded = self.add("Round", [scaled], f"{node.name}.rounded")
        clipped = self.add("Clip", [rounded, lo, hi], node.name if narrow else f"{node.name}.clipped")
        if not narrow:
            self.add("Cast", [clipped], node.name, to=TensorProto.FLOAT)
