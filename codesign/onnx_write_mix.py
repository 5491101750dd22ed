"""Operators whose factors are computed from the image, in standard ONNX: what onnx_write.py does for the others.

Each is written in float32 where its sums are proven to be below 2^24, in float64 above.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from codesign.fast import exact_float
from codesign.ir import Node
from codesign.ops import Mix, MixedConv, Pick

if TYPE_CHECKING:
    from codesign.onnx_write import Writer


def global_sum(writer: Writer, node: Node) -> None:
    x, float_ = node.inputs[0], _carrier(writer, node)
    source = _as(writer, node, x, float_)
    writer.add("ReduceSum", [source, writer.ints(2, 3)], node.name, keepdims=1)


def mix(writer: Writer, node: Node, op: Mix | Pick) -> None:
    (x, gates), name, float_ = node.inputs, node.name, _carrier(writer, node)
    h, w, c = writer.types[x].shape
    source, factors = _as(writer, node, x, float_), _as(writer, node, gates, float_)
    split, parts = writer.ints(0, op.parts, c // op.parts, h, w), writer.ints(1)
    if isinstance(op, Mix):
        product = writer.add("Mul", [source, factors], f"{name}.product")
        grouped = writer.add("Reshape", [product, split], f"{name}.grouped")
        writer.add("ReduceSum", [grouped, parts], name, keepdims=0)
        return
    grouped = writer.add("Reshape", [source, split], f"{name}.grouped")
    largest = writer.add("ReduceMax", [grouped, parts], f"{name}.largest", keepdims=0)
    count = writer.const(f"{name}.parts", np.array(op.parts, float_))
    raised = writer.add("Mul", [largest, count], f"{name}.raised")
    total = writer.add("ReduceSum", [grouped, parts], f"{name}.total", keepdims=0)
    threshold = writer.const(f"{name}.threshold", np.array(op.threshold, float_))
    picks = writer.add("Less", [factors, threshold], f"{name}.picks")
    picked = writer.add("Where", [picks, raised, total], f"{name}.picked")
    writer.add("Mul", [picked, factors], name)


def mixed_conv(writer: Writer, node: Node, op: MixedConv) -> None:
    """Weights of each image are a matrix product of its gates and the bank; the convolution is one of its columns.

    Columns are what a convolution with ones lays out, so that every image can have weights of its own.
    """
    (x, gates), name = node.inputs[:2], node.name
    bank, shift = (writer.graph.consts[s] for s in node.inputs[2:])
    h, w, _ = writer.types[name].shape
    experts, cin, cout = len(bank), bank.shape[3], bank.shape[4]
    size = op.kernel[0] * op.kernel[1] * cin
    mixing = exact_float(op.sums(writer.bounds[gates], bank)) or np.float64
    table = bank.reshape(experts, size, cout).transpose(0, 2, 1).reshape(experts, cout * size)

    row = writer.add(
        "Reshape", [_as(writer, node, gates, mixing), writer.ints(0, 1, experts)], f"{name}.gates"
    )
    sums = writer.add("MatMul", [row, writer.const(node.inputs[2], table.astype(mixing))], f"{name}.mixture")
    shaped = writer.add("Reshape", [sums, writer.ints(0, cout, size)], f"{name}.mixture.shaped")
    factor = np.ldexp(np.ones((cout, 1), mixing), -shift[:, None]).astype(mixing)
    scaled = writer.add("Mul", [shaped, writer.const(node.inputs[3], factor)], f"{name}.mixture.scaled")
    rounded = writer.add("Round", [scaled], f"{name}.mixture.rounded")
    ends = [writer.const(f"{name}.mixture.{v}", np.array(v, mixing)) for v in (-op.most, op.most)]
    weights = writer.add("Clip", [rounded, *ends], f"{name}.weights")

    float_ = _carrier(writer, node)
    if float_ is not mixing:
        weights = writer.add("Cast", [weights], f"{weights}.cast", to=_PROTO[float_])
    ones = np.eye(size, dtype=np.float32).reshape(*op.kernel, cin, size).transpose(3, 2, 0, 1)
    window = {"kernel_shape": op.kernel, "strides": op.stride, "pads": op.pads}
    columns = writer.add("Conv", [x, writer.const(f"{name}.taps", ones)], f"{name}.columns", **window)
    flat = writer.add("Reshape", [columns, writer.ints(0, size, h * w)], f"{name}.columns.flat")
    product = writer.add("MatMul", [weights, _as(writer, node, flat, float_)], f"{name}.product")
    writer.add("Reshape", [product, writer.ints(0, cout, h, w)], name)


_PROTO: dict[Any, int] = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}


def _carrier(writer: Writer, node: Node) -> type[Any]:
    """The type in which a node's result is exact; a result in float64 is noted as such."""
    if exact_float(writer.bounds[node.name]) is np.float32:
        return np.float32
    writer.double.add(node.name)
    return np.float64


def _as(writer: Writer, node: Node, name: str, float_: type[Any]) -> str:
    """An 8-bit value, which is a float32, in the type of the node's sums."""
    if float_ is np.float32:
        return name
    return writer.add("Cast", [name], f"{node.name}.{name}.double", to=TensorProto.DOUBLE)
