"""Wide requantizations in standard ONNX: whole numbers of 64 bits, where no float holds the products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from codesign.ir import Array, Node
from codesign.ops import WideRequant

if TYPE_CHECKING:
    from codesign.onnx_write import Writer


def requant(writer: Writer, node: Node, op: WideRequant) -> None:
    """Mod of a positive divisor is never negative, so that (a - a mod n) / n is what a shift to the right gives."""
    name, one = node.name, np.int64(1)
    bias, mult, shift, ties = (writer.graph.consts[s] for s in node.inputs[1:])

    def const(what: str, values: Array) -> str:
        return writer.const(f"{name}.{what}", np.asarray(values, np.int64).reshape(1, -1, 1, 1))

    def shifted(source: str, what: str) -> str:
        rest = writer.add("Mod", [source, steps], f"{name}.{what}.rest")
        whole = writer.add("Sub", [source, rest], f"{name}.{what}.whole")
        return writer.add("Div", [whole, steps], f"{name}.{what}")

    steps, half = const("steps", one << shift), one << (shift - 1)
    acc = writer.add("Cast", [node.inputs[0]], f"{name}.acc", to=TensorProto.INT64)
    scaled = writer.add("Mul", [acc, const("mult", mult)], f"{name}.scaled")
    product = writer.add("Add", [scaled, const("bias", bias)], f"{name}.product")
    parity = writer.add("Mod", [shifted(product, "floor"), const("two", np.array(2))], f"{name}.parity")
    odd = writer.add("Cast", [parity], f"{name}.odd", to=TensorProto.BOOL)
    above, below = const("above", half + (one << ties) - 1), const("below", half - (one << ties))
    near = writer.add("Where", [odd, above, below], f"{name}.near")
    rounded = shifted(writer.add("Add", [product, near], f"{name}.moved"), "rounded")
    lo, hi = (
        writer.const(f"{name}.{end}", np.array(value, np.int64))
        for end, value in (("lo", op.lo), ("hi", op.hi))
    )
    clipped = writer.add("Clip", [rounded, lo, hi], f"{name}.clipped")
    writer.add("Cast", [clipped], name, to=TensorProto.FLOAT)
