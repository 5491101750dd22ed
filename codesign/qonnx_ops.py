"""Our nodes as qonnx knows operators: shapes, data types, execution, checks.

qonnx takes a node's domain for the name of a module and looks in it for a dictionary `custom_op`; the package
`codesign` has one (see its `__init__`), so that qonnx's executor, transformations and command lines run our model
files where both packages are installed, without a call to register anything.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper
from qonnx.core.datatype import DataType, ScaledIntType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.base import CustomOp
from qonnx.transformation.base import Transformation

from codesign.ir import Array, IntType, TensorType
from codesign.ops import DeformDwConv, SampledDwConv, VariedDwConv
from codesign.ops.op import corner_products
from codesign.qonnx_mix import MIXING

Floats = npt.NDArray[np.float64]
DOMAIN = "codesign"
TAPS, PADS = 9, [1, 1, 1, 1]


class _DeformConv(CustomOp):  # type: ignore[misc]
    """What our nodes have in common: `y = Node(x, w, p)` of maps (N, C, H, W); docs/model-file.md has the equations."""

    own: dict[str, Any] = {}  # attributes beside those of an ordinary depthwise convolution
    windows: tuple[list[int], ...] = ([3, 3],)

    def get_nodeattr_types(self) -> dict[str, Any]:
        return {
            "group": ("i", True, 1),
            "kernel_shape": ("ints", True, [3, 3]),
            "strides": ("ints", False, [1, 1]),
            "pads": ("ints", False, PADS),
            "max_offset": ("i", True, 7),
            **self.own,
        }

    @abstractmethod
    def operator(self) -> Any:
        """The integer operator that the node stands for."""

    @abstractmethod
    def used(self, p: Floats) -> Array:
        """Codes (N, H', W', ...) of what the convolution before the node predicts, in float64 of the same shape."""

    def finer(self) -> float:
        """What 1 of the operator's sums stands for, in products of x and w."""
        return 1.0

    def make_shape_compatible_op(self, model: ModelWrapper) -> NodeProto:
        """The ordinary depthwise convolution: a map of the same shape, whatever the offsets are."""
        return as_convolution(self.onnx_node)

    def infer_node_datatype(self, model: ModelWrapper) -> None:
        """Of integers the narrowest type that holds the nine products; of scaled integers as wide a scaled one."""
        set_sums(model, self.onnx_node, self._sums, self.finer() != 1)

    def _sums(self, x: Any, weight: Any) -> IntType:
        return corner_sums(x, weight)

    def execute_node(self, context: dict[str, npt.NDArray[Any]], graph: Any) -> None:
        """In float64, which is exact on what the model file holds: integers times powers of two."""
        x, weight, p = (np.asarray(context[name], np.float64) for name in self.onnx_node.input)
        codes = self.used(p.transpose(0, 2, 3, 1))
        y = (
            self.operator().run(x.transpose(0, 2, 3, 1), codes, weight[:, 0].transpose(1, 2, 0))
            * self.finer()
        )
        context[self.onnx_node.output[0]] = y.transpose(0, 3, 1, 2).astype(np.float32)

    def verify_node(self) -> list[str]:
        """What is wrong with the node's inputs and attributes; nothing of a sound node."""
        wrong = []
        if len(self.onnx_node.input) != 3:
            wrong.append(f"has {len(self.onnx_node.input)} inputs, expected 3")
        missing = [
            name
            for name, (_, required, *_) in self.get_nodeattr_types().items()
            if required and name not in {a.name for a in self.onnx_node.attribute}
        ]
        if missing:
            return [*wrong, f"lacks {', '.join(missing)}, expected these attributes"]
        kernel, pads = self.get_nodeattr("kernel_shape"), self.get_nodeattr("pads")
        if kernel not in self.windows:
            wrong.append(f"kernel_shape is {kernel}, expected {' or '.join(map(str, self.windows))}")
            kernel = self.windows[0]
        if pads != (middle := [k // 2 for k in kernel] * 2):
            wrong.append(f"pads is {pads}, expected {middle}")
        strides = self.get_nodeattr("strides")
        if len(strides) != 2 or min(strides) < 1:
            wrong.append(f"strides are {strides}, expected two positive numbers")
        least = {"group": 1, "max_offset": 0, "fraction_bits": 0, "mask_bits": 0}
        for name in self.get_nodeattr_types():
            if name in least and self.get_nodeattr(name) < least[name]:
                wrong.append(f"{name} is {self.get_nodeattr(name)}, expected at least {least[name]}")
        if "mask_low" in self.own and self.get_nodeattr("mask_low") >= self.get_nodeattr("mask_high"):
            low, high = self.get_nodeattr("mask_low"), self.get_nodeattr("mask_high")
            wrong.append(f"masks are {low}..{high}, expected a range")
        return wrong


class SquareDeformConv(_DeformConv):
    """CoDeNet's: one half-width of the window a pixel."""

    def operator(self) -> DeformDwConv:
        return DeformDwConv(self.get_nodeattr("max_offset"), tuple(self.get_nodeattr("strides")))

    def used(self, p: Floats) -> Array:
        codes: Array = np.rint(p).clip(0, self.get_nodeattr("max_offset")).astype(np.int64)
        return codes


class BoundedDeformConv(_DeformConv):
    """DCNv1's: an offset of rows and one of columns for each tap, in steps of 2^-fraction_bits."""

    own = {"fraction_bits": ("i", True, 0)}
    windows: tuple[list[int], ...] = ([3, 3], [1, 9], [9, 1])
    border = False

    def operator(self) -> SampledDwConv:
        bound, grid = self.get_nodeattr("max_offset"), self.get_nodeattr("fraction_bits")
        taps = "x".join(map(str, self.get_nodeattr("kernel_shape")))
        stride = tuple(self.get_nodeattr("strides"))
        return SampledDwConv(bound, grid, *self.masks(), stride, taps, self.border)

    def masks(self) -> tuple[int, int]:
        return 0, 0

    def used(self, p: Floats) -> Array:
        codes: Array = np.rint(p * 2.0 ** self.get_nodeattr("fraction_bits")).astype(np.int64)
        return codes

    def finer(self) -> float:
        return float(4.0 ** -self.get_nodeattr("fraction_bits"))

    def _sums(self, x: Any, weight: Any) -> IntType:
        """The operator's, which are as much finer as its shares of four pixels, and its masks, are."""
        op = self.operator()
        shapes = (9, 9, 1), (9, 9, op.channels), (*op.kernel, 1)
        types = (_type(x).elem, IntType(8), _type(weight).elem)
        sums: TensorType = replace(op, stride=(1, 1)).infer(*map(TensorType, shapes, types))
        return sums.elem


class ModulatedDeformConv(BoundedDeformConv):
    """DCNv2's: as before, and a mask for each tap in steps of 2^-mask_bits, mask_low to mask_high of them."""

    own = {
        "fraction_bits": ("i", True, 0),
        "mask_bits": ("i", True, 0),
        "mask_low": ("i", True, 0),
        "mask_high": ("i", True, 1),
    }

    def masks(self) -> tuple[int, int]:
        return self.get_nodeattr("mask_low"), self.get_nodeattr("mask_high")

    def used(self, p: Floats) -> Array:
        steps = np.repeat(
            [self.get_nodeattr("fraction_bits"), self.get_nodeattr("mask_bits")], [2 * TAPS, TAPS]
        )
        return np.rint(p * 2.0**steps).astype(np.int64)

    def finer(self) -> float:
        return float(super().finer() * 2.0 ** -self.get_nodeattr("mask_bits"))


class BorderDeformConv(BoundedDeformConv):
    """DySample's: one tap, whose position is moved back onto the map."""

    windows = ([1, 1],)
    border = True


class VariedConv(CustomOp):  # type: ignore[misc]
    """TVConv's: y = Node(x, w), a depthwise 3x3 with weights (C, 9, H, W) of each pixel's own."""

    def get_nodeattr_types(self) -> dict[str, Any]:
        return {}

    def make_shape_compatible_op(self, model: ModelWrapper) -> NodeProto:
        return helper.make_node("Relu", self.onnx_node.input[:1], self.onnx_node.output, self.onnx_node.name)

    def infer_node_datatype(self, model: ModelWrapper) -> None:
        set_sums(model, self.onnx_node, corner_sums, False)

    def execute_node(self, context: dict[str, npt.NDArray[Any]], graph: Any) -> None:
        """In float64, as above."""
        x: Any
        weight: Any
        x, weight = (np.asarray(context[name], np.float64) for name in self.onnx_node.input)
        y = VariedDwConv().run(x.transpose(0, 2, 3, 1), weight.transpose(2, 3, 1, 0))
        context[self.onnx_node.output[0]] = y.transpose(0, 3, 1, 2).astype(np.float32)

    def verify_node(self) -> list[str]:
        count = len(self.onnx_node.input)
        return [] if count == 2 else [f"has {count} inputs, expected 2"]


DEFORMABLE = (SquareDeformConv, BoundedDeformConv, ModulatedDeformConv, BorderDeformConv)
custom_op = {op.__name__: op for op in (*DEFORMABLE, VariedConv, *MIXING)}


class DeformAsConv(Transformation):  # type: ignore[misc]
    """Puts the ordinary depthwise convolution in place of each deformable one, which costs the same MACs and memory.

    For analyses that know operators by a fixed list, as `qonnx.util.inference_cost` does. Not for execution: the
    offsets are dropped.
    """

    def apply(self, model: ModelWrapper) -> tuple[ModelWrapper, bool]:
        for node in model.graph.node:
            if node.domain == DOMAIN and node.op_type in {op.__name__ for op in DEFORMABLE}:
                node.CopyFrom(as_convolution(node))
        return model, False


def as_convolution(node: NodeProto) -> NodeProto:
    """The `Conv` of the same name, window and weights as one of our nodes."""
    kept = ("group", "kernel_shape", "strides", "pads")
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name in kept}
    window = {"pads": PADS, "strides": [1, 1], "dilations": [1, 1], **attributes}
    return helper.make_node("Conv", node.input[:2], node.output, node.name, **window)


def set_sums(model: ModelWrapper, node: NodeProto, sums: Callable[[Any, Any], IntType], scaled: bool) -> None:
    """The data type of what a node makes of x and w."""
    x, weight = (model.get_tensor_datatype(name) for name in node.input[:2])
    if x.is_integer() and weight.is_integer():
        elem = sums(x, weight)
        kind = "SCALEDINT<{}>" if scaled else "INT{}" if elem.signed else "UINT{}"
        found = DataType[kind.format(elem.bits)]
    elif all(t.is_integer() or t.is_fixed_point() or isinstance(t, ScaledIntType) for t in (x, weight)):
        found = DataType["SCALEDINT<32>"]  # as qonnx says of a convolution
    else:
        found = DataType["FLOAT32"]
    model.set_tensor_datatype(node.output[0], found)


def corner_sums(x: Any, weight: Any) -> IntType:
    """Of nine products."""
    return IntType.holding(*corner_products(_type(x), _type(weight), TAPS))


def _type(datatype: Any) -> TensorType:
    return TensorType((), IntType.holding(int(datatype.min()), int(datatype.max())))
