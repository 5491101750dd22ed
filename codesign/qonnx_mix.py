"""Our nodes that multiply by what the network computes, as qonnx knows operators: gates, picks, mixed weights.

Executed in float64, which is exact on what a model file holds. Gates are those of one image.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto
from qonnx.core.datatype import DataType, ScaledIntType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.base import CustomOp

from codesign.ops import Conv, Mix


class _Gated(CustomOp):  # type: ignore[misc]
    """y = Node(inputs); maps are (N, C, H, W), gates (1, K, 1, 1)."""

    inputs = 2

    @abstractmethod
    def result(self, *inputs: Any) -> Any:
        """y in float64."""

    @abstractmethod
    def shape(self, *shapes: list[int]) -> list[int]:
        """Of y."""

    def make_shape_compatible_op(self, model: ModelWrapper) -> NodeProto:
        shapes = (model.get_tensor_shape(name) for name in self.onnx_node.input)
        node: NodeProto = self.make_const_shape_op(self.shape(*shapes))
        return node

    def infer_node_datatype(self, model: ModelWrapper) -> None:
        """A scaled integer of maps that are, as qonnx says of a convolution."""
        types = [model.get_tensor_datatype(name) for name in self.onnx_node.input[:2]]
        whole = all(t.is_integer() or t.is_fixed_point() or isinstance(t, ScaledIntType) for t in types)
        model.set_tensor_datatype(self.onnx_node.output[0], DataType["SCALEDINT<32>" if whole else "FLOAT32"])

    def execute_node(self, context: dict[str, npt.NDArray[Any]], graph: Any) -> None:
        given = (np.asarray(context[name], np.float64) for name in self.onnx_node.input)
        context[self.onnx_node.output[0]] = self.result(*given).astype(np.float32)

    def verify_node(self) -> list[str]:
        """What is wrong with the node's inputs and attributes; nothing of a sound node."""
        count = len(self.onnx_node.input)
        wrong = [] if count == self.inputs else [f"has {count} inputs, expected {self.inputs}"]
        held = {a.name for a in self.onnx_node.attribute}
        missing = [
            k for k, (_, required, *_) in self.get_nodeattr_types().items() if required and k not in held
        ]
        return [*wrong, f"lacks {', '.join(missing)}, expected these attributes"] if missing else wrong


class ChannelMix(_Gated):
    """Sum of `parts` maps that lie beside each other, each channel times its gate."""

    def get_nodeattr_types(self) -> dict[str, Any]:
        return {"parts": ("i", True, 1)}

    def shape(self, *shapes: list[int]) -> list[int]:
        n, c, h, w = shapes[0]
        return [n, c // self.get_nodeattr("parts"), h, w]

    def result(self, *inputs: Any) -> Any:
        x, gates = (v.transpose(0, 2, 3, 1) for v in inputs)
        return Mix(self.get_nodeattr("parts")).run(x, gates).transpose(0, 3, 1, 2)


class PickOrMix(_Gated):
    """Of each set of channels the largest where its gate is below the threshold, else the mean; times the gate."""

    def get_nodeattr_types(self) -> dict[str, Any]:
        return {"parts": ("i", True, 2), "threshold": ("f", True, 0.5)}

    def shape(self, *shapes: list[int]) -> list[int]:
        n, c, h, w = shapes[0]
        return [n, c // self.get_nodeattr("parts"), h, w]

    def result(self, *inputs: Any) -> Any:
        x, gates = inputs
        n, c, h, w = x.shape
        parts = self.get_nodeattr("parts")
        sets = x.reshape(n, parts, c // parts, h, w)
        below = gates < np.float32(self.get_nodeattr("threshold"))
        return np.where(below, sets.max(1), sets.mean(1)) * gates


class MixedConv(_Gated):
    """Convolution with a mixture of kernels, rounded to steps s: y = Node(x, w, gates, s, bias)."""

    inputs = 5

    def get_nodeattr_types(self) -> dict[str, Any]:
        return {
            "kernel_shape": ("ints", True, [1, 1]),
            "strides": ("ints", True, [1, 1]),
            "pads": ("ints", True, [0, 0, 0, 0]),
            "experts": ("i", True, 1),
            "bits": ("i", True, 4),
        }

    def shape(self, *shapes: list[int]) -> list[int]:
        (n, _, h, w), (cout, *_) = shapes[:2]
        kernel, strides, pads = (self.get_nodeattr(k) for k in ("kernel_shape", "strides", "pads"))
        sides = [
            (size + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i, size in enumerate((h, w))
        ]
        return [n, cout, *sides]

    def result(self, *inputs: Any) -> Any:
        x, kernels, gates, step, bias = inputs
        experts, most = self.get_nodeattr("experts"), 2 ** (self.get_nodeattr("bits") - 1) - 1
        cout, width, kh, kw = kernels.shape
        bank = kernels.reshape(cout, experts, width // experts, kh, kw)
        mixed = (bank * gates.reshape(1, experts, 1, 1, 1)).sum(1)
        weight: Any = np.rint(mixed / step).clip(-most, most) * step
        kernel, strides, pads = (tuple(self.get_nodeattr(k)) for k in ("kernel_shape", "strides", "pads"))
        y = Conv(kernel, strides, pads).run(x.transpose(0, 2, 3, 1), weight.transpose(2, 3, 1, 0))
        return y.transpose(0, 3, 1, 2) + bias.reshape(1, -1, 1, 1)


MIXING = (ChannelMix, PickOrMix, MixedConv)
