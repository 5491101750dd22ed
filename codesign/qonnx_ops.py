"""Our nodes as qonnx knows operators: shapes, data types, execution, checks.

qonnx takes a node's domain for the name of a module and looks in it for a dictionary `custom_op`; the package
`codesign` has one (see its `__init__`), so that qonnx's executor, transformations and command lines run our model
files where both packages are installed, without a call to register anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper
from qonnx.core.datatype import DataType, ScaledIntType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.base import CustomOp
from qonnx.transformation.base import Transformation

from codesign.ir import IntType, TensorType
from codesign.ops import DeformDwConv
from codesign.ops.op import corner_products

DOMAIN = "codesign"
TAPS, PADS = 9, [1, 1, 1, 1]


class SquareDeformConv(CustomOp):  # type: ignore[misc]
    """`y = SquareDeformConv(x, w, d)`: docs/model-file.md has the equation. Maps are (N, C, H, W)."""

    def get_nodeattr_types(self) -> dict[str, Any]:
        return {
            "group": ("i", True, 1),
            "kernel_shape": ("ints", True, [3, 3]),
            "strides": ("ints", False, [1, 1]),
            "pads": ("ints", False, PADS),
            "max_offset": ("i", True, 7),
        }

    def make_shape_compatible_op(self, model: ModelWrapper) -> NodeProto:
        """The ordinary depthwise convolution: a map of the same shape, whatever the offsets are."""
        return as_convolution(self.onnx_node)

    def infer_node_datatype(self, model: ModelWrapper) -> None:
        """Of integers the narrowest type that holds the nine products; of scaled integers as wide a scaled one."""
        x, weight = (model.get_tensor_datatype(name) for name in self.onnx_node.input[:2])
        if x.is_integer() and weight.is_integer():
            low, high = corner_products(_type(x), _type(weight), TAPS)
            sums = IntType.holding(low, high)
            found = DataType[f"{'INT' if sums.signed else 'UINT'}{sums.bits}"]
        elif all(t.is_integer() or t.is_fixed_point() or isinstance(t, ScaledIntType) for t in (x, weight)):
            found = DataType["SCALEDINT<32>"]  # as qonnx says of a convolution
        else:
            found = DataType["FLOAT32"]
        model.set_tensor_datatype(self.onnx_node.output[0], found)

    def execute_node(self, context: dict[str, npt.NDArray[Any]], graph: Any) -> None:
        """In float64, which is exact on what the model file holds: integers times powers of two."""
        x, weight, d = (np.asarray(context[name], np.float64) for name in self.onnx_node.input)
        bound = self.get_nodeattr("max_offset")
        used = np.rint(d).clip(0, bound).astype(np.int64).transpose(0, 2, 3, 1)
        op: Any = DeformDwConv(bound, tuple(self.get_nodeattr("strides")))
        y = op.run(x.transpose(0, 2, 3, 1), used, weight[:, 0].transpose(1, 2, 0))
        context[self.onnx_node.output[0]] = y.transpose(0, 3, 1, 2).astype(np.float32)

    def verify_node(self) -> list[str]:
        """What is wrong with the node's inputs and attributes; nothing of a sound node."""
        wrong = []
        if len(self.onnx_node.input) != 3:
            wrong.append(f"has {len(self.onnx_node.input)} inputs, expected 3: x, w, d")
        missing = [
            name
            for name, (_, required, *_) in self.get_nodeattr_types().items()
            if required and name not in {a.name for a in self.onnx_node.attribute}
        ]
        if missing:
            return [*wrong, f"lacks {', '.join(missing)}, expected these attributes"]
        for name, expected in ("kernel_shape", [3, 3]), ("pads", PADS):
            if self.get_nodeattr(name) != expected:
                wrong.append(f"{name} is {self.get_nodeattr(name)}, expected {expected}")
        strides = self.get_nodeattr("strides")
        if len(strides) != 2 or min(strides) < 1:
            wrong.append(f"strides are {strides}, expected two positive numbers")
        for name in ("group", "max_offset"):
            if self.get_nodeattr(name) < (name == "group"):
                wrong.append(f"{name} is {self.get_nodeattr(name)}, expected a positive number")
        return wrong


class DeformAsConv(Transformation):  # type: ignore[misc]
    """Puts the ordinary depthwise convolution in place of each deformable one, which costs the same MACs and memory.

    For analyses that know operators by a fixed list, as `qonnx.util.inference_cost` does. Not for execution: the
    offsets are dropped.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for node in model.graph.node:
            if (node.domain, node.op_type) == (DOMAIN, "SquareDeformConv"):
                node.CopyFrom(as_convolution(node))
        return model, False


def as_convolution(node: NodeProto) -> NodeProto:
    """The `Conv` of the same name, window and weights as a `SquareDeformConv`."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name != "max_offset"}
    window = {"pads": PADS, "strides": [1, 1], "dilations": [1, 1], **attributes}
    return helper.make_node("Conv", node.input[:2], node.output, node.name, **window)


def _type(datatype: Any) -> TensorType:
    return TensorType((), IntType.holding(int(datatype.min()), int(datatype.max())))


custom_op = {"SquareDeformConv": SquareDeformConv}
