"""The two operators of model.onnx that ONNX lacks, as nodes and as model-local functions in standard operators.

    qonnx.custom_op.general::Quant(x, scale, zero_point, bits)      the QONNX format (arXiv 2206.07527)
    codesign::SquareDeformConv(x, w, d)                             CoDeNet's deformable depthwise convolution

The functions are the operators' meaning: any runtime that knows ONNX's DeformConv runs the file as it is.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import parser
from torch import Tensor
from torch.autograd import Function

from codesign.onnx_bodies import OPSET, QONNX_DOMAIN, QONNX_VERSION, QUANT
from quant.deform import TAPS, DeformConv2d, square_offsets

OWN_DOMAIN, OWN_VERSION = "codesign", 1

__all__ = [
    "OPSET",
    "OWN_DOMAIN",
    "OWN_VERSION",
    "QONNX_DOMAIN",
    "QONNX_VERSION",
    "functions",
    "traced_deform_conv",
]

_TEMPLATE = ", ".join(f"{float(v)}" for tap in TAPS for v in tap)

# d is what the offset convolution predicts, in float; rounding and clamping are part of the operator.
_SQUARE_DEFORM = f"""
<domain: "{OWN_DOMAIN}", opset_import: ["" : {OPSET}]>
SquareDeformConv <group, kernel_shape, strides, pads, max_offset> (x, w, d) => (y)
{{
  bound_i = Constant <value_int: int = @max_offset> ()
  bound = Cast <to: int = 1> (bound_i)
  zero = Constant <value_float: float = 0.0> ()
  one = Constant <value_float: float = 1.0> ()
  template = Constant <value: tensor = float[1,18,1,1] {{{_TEMPLATE}}}> ()
  rounded = Round (d)
  used = Clip (rounded, zero, bound)
  away = Sub (used, one)
  offset = Mul (away, template)
  y = DeformConv <group: int = @group, offset_group: int = 1, kernel_shape: ints = @kernel_shape,
                  strides: ints = @strides, pads: ints = @pads> (x, w, offset)
}}"""


def functions() -> list[onnx.FunctionProto]:
    """Bodies of both operators, at opset 20."""
    return [parser.parse_function(QUANT), parser.parse_function(_SQUARE_DEFORM)]


class _SquareNode(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, d: Tensor, stride: int, bound: int) -> Tensor:
        return x.new_zeros(x.shape[0], w.shape[0], *d.shape[2:])  # while tracing only the shape matters

    @staticmethod
    def symbolic(g: Any, x: Any, w: Any, d: Any, stride: int, bound: int) -> Any:
        channels = w.type().sizes()[0]
        node = g.op(
            f"{OWN_DOMAIN}::SquareDeformConv",
            x,
            w,
            d,
            group_i=channels,
            kernel_shape_i=[3, 3],
            strides_i=[stride] * 2,
            pads_i=[1] * 4,
            max_offset_i=bound,
        )
        return _typed(node, x, w, d)


class _GeneralNode(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, offset: Tensor, stride: int, groups: int) -> Tensor:
        return x.new_zeros(x.shape[0], w.shape[0], *offset.shape[2:])

    @staticmethod
    def symbolic(g: Any, x: Any, w: Any, offset: Any, stride: int, groups: int) -> Any:
        node = g.op(
            "DeformConv",
            x,
            w,
            offset,
            group_i=groups,
            offset_group_i=1,
            kernel_shape_i=[3, 3],
            strides_i=[stride] * 2,
            pads_i=[1] * 4,
        )
        return _typed(node, x, w, offset)


def _typed(node: Any, x: Any, w: Any, like: Any) -> Any:
    batch, rows, columns = x.type().sizes()[0], *like.type().sizes()[2:]
    node.setType(x.type().with_sizes([batch, w.type().sizes()[0], rows, columns]))
    return node


def traced_deform_conv(layer: DeformConv2d, x: Tensor, raw: Tensor, weight: Tensor) -> Tensor:
    """What a deformable layer leaves in the graph: our node for square + rounded + depthwise, else DeformConv."""
    if layer.offsets == "square" and layer.sampling == "rounded" and layer.depthwise:
        node: Tensor = _SquareNode.apply(x, weight, raw, layer.stride, layer.bound)  # type: ignore
        return node
    used = raw.round() if layer.sampling == "rounded" else raw
    if layer.offsets == "bounded":
        used = used.clamp(-float(layer.bound), float(layer.bound))
    elif layer.offsets == "square":
        used = square_offsets(used.clamp(0.0, float(layer.bound)))
    node = _GeneralNode.apply(x, weight, used, layer.stride, layer.groups)  # type: ignore
    return node
