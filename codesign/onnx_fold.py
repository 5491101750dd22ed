"""Parameters that a file computes from constants are computed at import, by ONNX's own evaluator."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from codesign.onnx_site import INCONSISTENT
from codesign.onnx_values import Const, Refused, Value

FOLDED_BYTES = 64 << 20  # a parameter computed inside the file may have at most this size
_NAMES = """Add Cast CastLike Concat Constant ConstantOfShape Div Expand Floor Gather Identity Mul Neg Pow
    Reshape Shape Slice Squeeze Sub Transpose Unsqueeze"""
FOLDABLE = frozenset(_NAMES.split())


def foldable(node: onnx.NodeProto, inputs: list[Value | None]) -> bool:
    standard = node.domain in ("", "ai.onnx") and node.op_type in FOLDABLE
    return standard and all(isinstance(value, Const) or value is None for value in inputs)


def fold(node: onnx.NodeProto, inputs: list[Value | None], opset: int) -> tuple[Value, ...]:
    """Compute a node whose inputs are constants. The first input's origin names the result."""
    known = [value for value in inputs if isinstance(value, Const)]
    origin = next((value.origin for value in known if value.origin), "")
    if node.op_type == "Constant":
        attribute = node.attribute[0] if len(node.attribute) == 1 else None
        if attribute is not None and attribute.name == "value":
            return (Const(numpy_helper.to_array(attribute.t)),)
        if attribute is not None and attribute.name.startswith("value_"):
            floats = attribute.name.startswith("value_float")
            numbers = onnx.helper.get_attribute_value(attribute)
            if attribute.type in (onnx.AttributeProto.FLOAT, onnx.AttributeProto.FLOATS) or not floats:
                return (Const(np.array(numbers, np.float32 if floats else np.int64)),)
        raise Refused("holds neither a tensor nor numbers", "Export constants as tensors.")
    if node.op_type in ("ConstantOfShape", "Expand") and known:
        elements = prod(int(size) for size in known[-1].array.reshape(-1))
        if elements > FOLDED_BYTES // 8:
            raise Refused(f"computes a constant of {elements} elements", "Export the parameter itself.")
    feeds = dict(zip([n for n in node.input if n], [value.array for value in known], strict=True))
    infos = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.UNDEFINED, None) for n in feeds]
    outs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.UNDEFINED, None) for n in node.output]
    graph = onnx.helper.make_graph([node], "fold", infos, outs)
    opsets = [onnx.helper.make_opsetid("", opset)]
    try:
        results = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opsets)).run(None, feeds)
    except Exception:  # the evaluator raises whatever its numpy code does
        raise Refused("cannot be computed from its constant inputs", INCONSISTENT) from None
    arrays = [np.asarray(result) for result in results]
    return tuple(Const(array, origin) for array in arrays)
