"""Real-valued ONNX files of integer graphs, in each of the formats that the importer reads.

    to_onnx(graph, "qonnx")   Quant nodes and those of the domain codesign, with function bodies: the canonical file
    to_onnx(graph, "plain")   Quant nodes, DeformConv with offsets (q - 1) * template
    to_onnx(graph, "qcdq")    QuantizeLinear, Clip, DequantizeLinear, and DeformConv

The float model means exactly what the graph computes: importing it gives the graph back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, parser

from codesign.ir import Array, Graph, IntType, Node
from codesign.ops import (
    DEFORMABLE,
    Add,
    Concat,
    Conv,
    DepthToSpace,
    DwConv,
    MaxPool,
    Requant,
    SampledDwConv,
    Shuffle,
    Slice,
    Table,
    Upsample,
)

QONNX, OWN = "qonnx.custom_op.general", "codesign"
TEMPLATE = [float(k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (i, j)]
STEP = 2.0**-4  # of every activation inside

QUANT_BODY = f"""
<domain: "{QONNX}", opset_import: ["" : 20]>
Quant <signed, narrow, rounding_mode> (x, scale, zero, bits) => (y) {{
  one = Constant <value_float = 1.0> ()
  two = Constant <value_float = 2.0> ()
  signed_i = Constant <value_int: int = @signed> ()
  narrow_i = Constant <value_int: int = @narrow> ()
  s = Cast <to = 1> (signed_i)
  n = Cast <to = 1> (narrow_i)
  magnitude = Sub (bits, s)
  count = Pow (two, magnitude)
  not_signed = Sub (one, s)
  spare = Mul (not_signed, n)
  top = Sub (count, one)
  high = Sub (top, spare)
  bottom = Sub (n, count)
  low = Mul (s, bottom)
  q = Div (x, scale)
  r = Round (q)
  below = Min (r, high)
  code = Max (below, low)
  y = Mul (code, scale)
}}"""
DEFORM_BODY = f"""
<domain: "{OWN}", opset_import: ["" : 20]>
SquareDeformConv <group, kernel_shape, strides, pads, max_offset> (x, w, d) => (y) {{
  bound_i = Constant <value_int: int = @max_offset> ()
  bound = Cast <to = 1> (bound_i)
  zero = Constant <value_float = 0.0> ()
  one = Constant <value_float = 1.0> ()
  template = Constant <value = float[1,18,1,1] {{{", ".join(map(str, TEMPLATE))}}}> ()
  r = Round (d)
  c = Clip (r, zero, bound)
  away = Sub (c, one)
  offset = Mul (away, template)
  y = DeformConv <group: int = @group, offset_group = 1, kernel_shape: ints = @kernel_shape,
                  strides: ints = @strides, pads: ints = @pads> (x, w, offset)
}}"""

LOOKUP_BODY = f"""
<domain: "{OWN}", opset_import: ["" : 20]>
Lookup (x, step, values) => (y) {{
  q = Div (x, step)
  r = Round (q)
  code = Cast <to = 7> (r)
  y = Gather (values, code)
}}"""

MASK_BITS = 5
_CONV = """DeformConv <group: int = @group, offset_group = 1, kernel_shape: ints = @kernel_shape,
                  strides: ints = @strides, pads: ints = @pads>"""
_CODES = """
  {0}_bits_i = Constant <value_int: int = @{1}> ()
  {0}_bits = Cast <to = 1> ({0}_bits_i)
  {0}_step = Pow (half, {0}_bits)
  {0}_code = Div ({0}s, {0}_step)
  {0}_whole = Round ({0}_code)
  {0}_used = Clip ({0}_whole, {2}, {3})
  {0} = Mul ({0}_used, {0}_step)"""
_BOUNDS = """
  half = Constant <value_float = 0.5> ()
  bound_i = Constant <value_int: int = @max_offset> ()
  bound = Cast <to = 1> (bound_i)
  grid_i = Constant <value_int: int = @fraction_bits> ()
  grid = Cast <to = 1> (grid_i)
  unit = Pow (half, grid)
  high = Div (bound, unit)
  low = Neg (high)"""
BOUNDED_BODY = f"""
<domain: "{OWN}", opset_import: ["" : 20]>
BoundedDeformConv <group, kernel_shape, strides, pads, max_offset, fraction_bits> (x, w, offsets) => (y) {{
{_BOUNDS}{_CODES.format("offset", "fraction_bits", "low", "high")}
  y = {_CONV} (x, w, offset)
}}"""
MODULATED_BODY = f"""
<domain: "{OWN}", opset_import: ["" : 20]>
ModulatedDeformConv <group, kernel_shape, strides, pads, max_offset, fraction_bits, mask_bits, mask_low, mask_high>
  (x, w, p) => (y) {{
  sizes = Constant <value = int64[2] {{18, 9}}> ()
  offsets, masks = Split <axis = 1> (p, sizes)
{_BOUNDS}{_CODES.format("offset", "fraction_bits", "low", "high")}
  mask_low_i = Constant <value_int: int = @mask_low> ()
  mask_low = Cast <to = 1> (mask_low_i)
  mask_high_i = Constant <value_int: int = @mask_high> ()
  mask_high = Cast <to = 1> (mask_high_i)
{_CODES.format("mask", "mask_bits", "mask_low", "mask_high")}
  y = {_CONV} (x, w, offset, none, mask)
}}"""


def _bodies() -> list[onnx.FunctionProto]:
    texts = (QUANT_BODY, DEFORM_BODY, LOOKUP_BODY, BOUNDED_BODY, MODULATED_BODY)
    found = [parser.parse_function(text) for text in texts]
    found[-1].node[-1].input[3] = ""  # the bias, which the text cannot leave out
    return found


class _Writer:
    def __init__(self, graph: Graph, flavour: str) -> None:
        self.graph, self.flavour, self.types = graph, flavour, graph.types()
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.scale = dict(graph.scales)  # of each value
        self.raw = {name: f"{name}.float" if name in graph.outputs else name for name in self.types}

    def const(self, name: str, array: Any, dtype: Any = np.float32) -> str:
        self.initializers[name] = numpy_helper.from_array(np.asarray(array, dtype), name)
        return name

    def add(
        self, op: str, inputs: list[str], output: str, name: str = "", domain: str = "", **attrs: Any
    ) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name or output, domain=domain, **attrs))
        return output

    def quantizer(self, x: str, y: str, elem: IntType, scale: float, lo: int, hi: int) -> None:
        """The activation quantizer x -> y, with a Clip where the range is not the type's."""
        step = self.const(f"{y}.scale", scale)
        clipped = (lo, hi) != (elem.min, elem.max)
        if self.flavour == "qcdq":
            dtype = np.int8 if elem.signed else np.uint8
            zero = self.const(f"{y}.zero", 0, dtype)
            codes = self.add("QuantizeLinear", [x, step, zero], f"{y}.codes")
            byte = IntType(8, elem.signed)
            if (lo, hi) != (byte.min, byte.max):
                limits = [self.const(f"{y}.lo", lo, dtype), self.const(f"{y}.hi", hi, dtype)]
                codes = self.add("Clip", [codes, *limits], f"{y}.clipped")
            self.add("DequantizeLinear", [codes, step, zero], y)
            return
        out = f"{y}.wide" if clipped else y
        inputs = [x, step, self.const(f"{y}.zero", 0), self.const(f"{y}.bits", elem.bits)]
        self.add("Quant", inputs, out, domain=QONNX, signed=int(elem.signed), narrow=0, rounding_mode="ROUND")
        if clipped:
            limits = [self.const(f"{y}.lo", lo * scale), self.const(f"{y}.hi", hi * scale)]
            self.add("Clip", [out, *limits], y)

    def parameter(self, name: str, codes: Array, elem: IntType, scale: Any) -> str:
        """A quantized parameter: float behind a Quant, or integers behind a DequantizeLinear."""
        scale = np.broadcast_to(scale, codes.shape[:1]).reshape(-1, *[1] * (codes.ndim - 1))
        step = self.const(f"{name}.scale", scale.reshape(-1) if self.flavour == "qcdq" else scale)
        if self.flavour == "qcdq":
            dtype = np.int8 if elem.bits <= 8 else np.int32
            zero = self.const(f"{name}.zero", np.zeros(scale.size), dtype)
            stored = self.const(name, codes, dtype)
            return self.add("DequantizeLinear", [stored, step, zero], f"{name}.q", axis=0)
        inputs = [self.const(name, codes * scale), step, self.const(f"{name}.zero", 0)]
        inputs.append(self.const(f"{name}.bits", elem.bits))
        attrs = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
        return self.add("Quant", inputs, f"{name}.q", domain=QONNX, **attrs)

    def convolution(self, node: Node, requant: Node) -> None:
        consts, x, op = self.graph.consts, node.inputs[0], node.op
        codes = consts[node.inputs[-1]]
        codes = codes.transpose(3, 2, 0, 1) if isinstance(op, Conv) else codes.transpose(2, 0, 1)[:, None]
        bias, mult, shift = (consts[s] for s in requant.inputs[1:])
        reader = next(
            (n for n in self.graph.nodes if isinstance(n.op, DEFORMABLE) and n.inputs[1] == requant.name),
            None,
        )
        is_offset = reader is not None
        out: Any = self.scale.setdefault(requant.name, 1.0 if is_offset else STEP)
        if reader is not None and isinstance(reader.op, SampledDwConv):
            out = np.repeat([2.0**-reader.op.grid, 2.0**-MASK_BITS], [18, 9])[: reader.op.channels]
        finer = 1.0
        if isinstance(op, SampledDwConv):
            finer = 4.0**-op.grid * (2.0**-MASK_BITS if op.masked else 1.0)
        real = mult * 2.0 ** -shift.astype(float) * out  # of one accumulator step
        name = node.inputs[-1]
        step = real / (self.scale[x] * finer)
        weight = self.parameter(name, codes, self.graph.const_types[name], step)
        tensors = [self.raw_of(x), weight]
        biased = self.parameter(f"{node.name}.bias", bias, IntType(32), real)
        group = 1 if isinstance(op, Conv) else codes.shape[0]
        y = node.name if requant.name not in self.graph.outputs else f"{node.name}.acc"
        if isinstance(op, DEFORMABLE):
            window = {"kernel_shape": [3, 3], "strides": op.stride, "pads": [1] * 4, "group": group}
            away = f"{node.name}.plain"
            if isinstance(op, SampledDwConv):
                assert self.flavour == "qonnx"
                tensors.append(self.raw_of(node.inputs[1]))
                attrs = {"domain": OWN, "max_offset": op.max_offset, "fraction_bits": op.grid}
                masks = {"mask_bits": MASK_BITS, "mask_low": op.mask_low, "mask_high": op.mask_high}
                kind, more = ("ModulatedDeformConv", masks) if op.masked else ("BoundedDeformConv", {})
                self.add(kind, tensors, away, node.name, **window, **attrs, **more)
            elif self.flavour == "qonnx":
                tensors.append(self.raw_of(node.inputs[1]))
                attrs = {"domain": OWN, "max_offset": op.max_offset}
                self.add("SquareDeformConv", tensors, away, node.name, **window, **attrs)
            else:
                less = self.add(
                    "Sub", [self.raw_of(node.inputs[1]), self.const("one", 1)], f"{node.name}.less"
                )
                template = self.const("template", np.reshape(TEMPLATE, (1, 18, 1, 1)))
                tensors.append(self.add("Mul", [less, template], f"{node.name}.offsets"))
                self.add("DeformConv", tensors, away, node.name, offset_group=1, **window)
            shape = self.const("bias.shape", [1, -1, 1, 1], np.int64)
            column = self.add("Reshape", [biased, shape], f"{node.name}.bias.column")
            self.add("Add", [away, column], y, f"{node.name}.add")
        else:
            kernel = codes.shape[2:]
            window = {"kernel_shape": kernel, "strides": op.stride, "pads": op.pads, "group": group}
            self.add("Conv", [*tensors, biased], y, node.name, **window)
        params = requant.op
        assert isinstance(params, Requant)
        if is_offset and self.flavour == "qonnx":
            self.raw[requant.name] = y  # the deformable node rounds and clips by itself
            return
        relu = not params.out.signed and not is_offset
        if relu:
            y = self.add("Relu", [y], f"{node.name}.relu")
        self.quantizer(y, requant.name, params.out, out, params.lo, params.hi)

    def sum(self, node: Node, requant: Node) -> None:
        """Two maps whose scales have the ratio that the shifts say, a sum of real values, and its quantizer."""
        op = node.op
        assert isinstance(op, Add)
        bias, mult, shift = (self.graph.consts[s] for s in requant.inputs[1:])
        assert not bias.any() and (mult == 1).all() and (shift == shift[0]).all()
        steps = [self.scale[s] / 2**k for s, k in zip(node.inputs, (op.left, op.right), strict=True)]
        assert steps[0] == steps[1]
        out = self.scale[requant.name] = steps[0] * 2.0 ** int(shift[0])
        y = self.add("Add", [self.raw_of(s) for s in node.inputs], node.name)
        params = requant.op
        assert isinstance(params, Requant)
        if not params.out.signed:
            y = self.add("Relu", [y], f"{node.name}.relu")
        self.quantizer(y, requant.name, params.out, out, params.lo, params.hi)

    def table(self, node: Node) -> None:
        """A Lookup of real values, and its quantizer."""
        assert isinstance(node.op, Table)
        x, out = node.inputs[0], self.scale.setdefault(node.name, STEP)
        step = self.const(f"{node.name}.step", self.scale[x])
        reals = self.const(node.inputs[1], self.graph.consts[node.inputs[1]] * out)
        y = self.add("Lookup", [self.raw_of(x), step, reals], f"{node.name}.real", node.name, domain=OWN)
        self.quantizer(y, node.name, node.op.out, out, node.op.out.min, node.op.out.max)
        self.nodes[-1].name = f"{node.name}.quant"

    def raw_of(self, value: str) -> str:
        return self.raw[value] if value not in self.graph.outputs and value in self.raw else value

    def view(self, node: Node) -> None:
        op, name, inputs = node.op, node.name, [self.raw_of(s) for s in node.inputs]
        h, w, c = self.types[node.inputs[0]].shape
        self.scale[name] = self.scale[node.inputs[0]]
        match op:
            case MaxPool():
                self.add("MaxPool", inputs, name, kernel_shape=op.kernel, strides=op.stride, pads=op.pads)
            case Upsample():
                scales = self.const("upsample", [1, 1, 2, 2])
                attrs = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
                self.add("Resize", [*inputs, "", scales], name, mode="nearest", **attrs)
            case DepthToSpace():
                self.add("DepthToSpace", inputs, name, blocksize=2, mode="DCR")
            case Concat():
                self.add("Concat", inputs, name, axis=1)
            case Slice():
                cut = [self.const(f"int{v}", [v], np.int64) for v in (op.start, op.stop, 1)]
                self.add("Slice", [*inputs, *cut], name)
            case Shuffle():
                split = self.const(f"{name}.split", [0, op.groups, c // op.groups, h, w], np.int64)
                whole = self.const(f"{name}.whole", [0, c, h, w], np.int64)
                self.add("Reshape", [*inputs, split], f"{name}.a")
                self.add("Transpose", [f"{name}.a"], f"{name}.b", perm=[0, 2, 1, 3, 4])
                self.add("Reshape", [f"{name}.b", whole], name)

    def model(self, batch: int | str) -> onnx.ModelProto:
        graph = self.graph
        for name, type_ in graph.inputs.items():
            self.quantizer(name, f"{name}.q", type_.elem, self.scale[name], type_.elem.min, type_.elem.max)
            self.raw[name] = f"{name}.q"
        accumulators = {}
        for node in graph.nodes:
            if isinstance(node.op, (Conv, DwConv, Add, *DEFORMABLE)):
                accumulators[node.name] = node
            elif isinstance(node.op, Requant):
                source = accumulators[node.inputs[0]]
                (self.sum if isinstance(source.op, Add) else self.convolution)(source, node)
            elif isinstance(node.op, Table):
                self.table(node)
            else:
                self.view(node)
        infos = [
            [
                helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, t.shape[2], *t.shape[:2]])
                for n, t in some
            ]
            for some in (graph.inputs.items(), [(n, self.types[n]) for n in graph.outputs])
        ]
        body = helper.make_graph(self.nodes, "network", *infos, list(self.initializers.values()))
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(QONNX, 2), helper.make_opsetid(OWN, 1)]
        model = helper.make_model(body, opset_imports=opsets, ir_version=10)
        helper.set_model_props(model, dict(graph.meta))
        if self.flavour != "qcdq":
            model.functions.extend(_bodies())
        return model


def to_onnx(graph: Graph, flavour: str = "qonnx", batch: int | str = 1) -> onnx.ModelProto:
    return _Writer(graph, flavour).model(batch)


def run_onnx(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    """Outputs of stock onnxruntime, one thread, by name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def nchw(codes: Any, scale: float = 1.0) -> Any:
    """Integer codes (N, H, W, C) as the float32 tensor (N, C, H, W) that ONNX takes."""
    return np.ascontiguousarray((codes * scale).transpose(0, 3, 1, 2), np.float32)


def nhwc(array: Any, scale: float = 1.0) -> Array:
    """Float tensor (N, C, H, W) back to codes (N, H, W, C); fails where it is not on the grid."""
    codes = np.asarray(array, np.float64) / scale
    assert np.array_equal(codes, np.rint(codes)), "not whole codes"
    return codes.astype(np.int64).transpose(0, 2, 3, 1)


def edited(model: onnx.ModelProto, edit: Callable[[onnx.ModelProto], None]) -> onnx.ModelProto:
    """A copy of the model with something changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    edit(copy)
    return copy


def run_node(op: str, inputs: list[Any], **attrs: Any) -> Any:
    """One standard operator in stock onnxruntime; None leaves an optional input out."""
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(inputs)]
    feeds = {n: np.asarray(x) for n, x in zip(names, inputs, strict=True) if n}
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in feeds.items()
    ]
    out = [helper.make_tensor_value_info("y", infos[0].type.tensor_type.elem_type, None)]
    body = helper.make_graph([helper.make_node(op, names, ["y"], **attrs)], "node", infos, out)
    return run_onnx(
        helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), feeds
    )["y"]
