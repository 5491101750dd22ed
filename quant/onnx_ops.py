"""The operators of model.onnx that ONNX lacks, as nodes and as model-local functions in standard operators.

    qonnx.custom_op.general::Quant(x, scale, zero_point, bits)      the QONNX format (arXiv 2206.07527)
    codesign::SquareDeformConv(x, w, d)                             CoDeNet's deformable depthwise convolution
    codesign::BoundedDeformConv(x, w, p)                            DCNv1's, with offsets in steps and bounds
    codesign::ModulatedDeformConv(x, w, p)                          the same with masks: DCNv2's
    codesign::BorderDeformConv, codesign::VariedConv                see quant.dynamic.sample_nodes

The functions are the operators' meaning: any runtime that knows ONNX's DeformConv runs the file as it is.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import parser
from torch import Tensor
from torch.autograd import Function

from codesign.errors import CodesignError
from codesign.onnx_bodies import OPSET, OWN_DOMAIN, QONNX_DOMAIN, QONNX_VERSION, QUANT
from quant.deform import MASK_BITS, MASK_CODES, TAPS, DeformConv2d, square_offsets
from quant.dynamic import mix_nodes, sample_nodes, sampling

OWN_VERSION = 1

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


# p is what a convolution predicts, in float: 18 offsets, row before column of each tap. They are used in whole steps.
_OFFSETS = sample_nodes.in_steps("offsets")
_CONV = """DeformConv <group: int = @group, offset_group: int = 1, kernel_shape: ints = @kernel_shape,
                  strides: ints = @strides, pads: ints = @pads>"""
_BOUNDED_DEFORM = f"""
<domain: "{OWN_DOMAIN}", opset_import: ["" : {OPSET}]>
BoundedDeformConv <group, kernel_shape, strides, pads, max_offset, fraction_bits> (x, w, offsets) => (y)
{{{_OFFSETS}
  y = {_CONV} (x, w, offset)
}}"""
# Here 9 masks follow, one a tap.
_MODULATED_DEFORM = f"""
<domain: "{OWN_DOMAIN}", opset_import: ["" : {OPSET}]>
ModulatedDeformConv <group, kernel_shape, strides, pads, max_offset, fraction_bits, mask_bits, mask_low, mask_high>
  (x, w, p) => (y)
{{
  axis = Constant <value: tensor = int64[1] {{1}}> ()
  begin = Constant <value: tensor = int64[1] {{0}}> ()
  middle = Constant <value: tensor = int64[1] {{18}}> ()
  end = Constant <value: tensor = int64[1] {{27}}> ()
  offsets = Slice (p, begin, middle, axis)
  masks = Slice (p, middle, end, axis){_OFFSETS}
  mask_bits_i = Constant <value_int: int = @mask_bits> ()
  mask_bits_f = Cast <to: int = 1> (mask_bits_i)
  low_i = Constant <value_int: int = @mask_low> ()
  low = Cast <to: int = 1> (low_i)
  high_i = Constant <value_int: int = @mask_high> ()
  high = Cast <to: int = 1> (high_i)
  mask_steps = Pow (two, mask_bits_f)
  mask_fine = Mul (masks, mask_steps)
  mask_whole = Round (mask_fine)
  mask_code = Clip (mask_whole, low, high)
  mask = Div (mask_code, mask_steps)
  y = {_CONV} (x, w, offset, absent, mask)
}}"""


def functions() -> list[onnx.FunctionProto]:
    """Bodies of all of them, at opset 20."""
    return [
        _parsed(text)
        for text in (
            QUANT,
            _SQUARE_DEFORM,
            _BOUNDED_DEFORM,
            _MODULATED_DEFORM,
            *mix_nodes.FUNCTIONS,
            *sample_nodes.FUNCTIONS,
        )
    ]


def _parsed(text: str) -> onnx.FunctionProto:
    """A function; its texts have no word for an input that is left out but `absent`."""
    function = parser.parse_function(text)
    for node in function.node:
        for i, name in enumerate(node.input):
            node.input[i] = "" if name == "absent" else name
    return function


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


_Masks = tuple[int, int, int]  # bits of fraction, least and largest code


class _BoundedNode(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, p: Tensor, stride: int, bound: int, bits: int, masks: _Masks | None
    ) -> Tensor:
        return x.new_zeros(x.shape[0], w.shape[0], *p.shape[2:])

    @staticmethod
    def symbolic(
        g: Any, x: Any, w: Any, p: Any, stride: int, bound: int, bits: int, masks: _Masks | None
    ) -> Any:
        own = dict(zip(("mask_bits_i", "mask_low_i", "mask_high_i"), masks or (), strict=masks is not None))
        node = g.op(
            f"{OWN_DOMAIN}::{'Modulated' if masks else 'Bounded'}DeformConv",
            x,
            w,
            p,
            group_i=w.type().sizes()[0],
            kernel_shape_i=w.type().sizes()[2:],
            strides_i=[stride] * 2,
            pads_i=[k // 2 for k in w.type().sizes()[2:]] * 2,
            max_offset_i=bound,
            fraction_bits_i=bits,
            **own,
        )
        return _typed(node, x, w, p)


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
    """What a deformable layer leaves in the graph: our nodes for what hardware runs, else DeformConv without masks."""
    if layer.offsets == "square" and layer.sampling == "rounded" and layer.depthwise:
        node: Tensor = _SquareNode.apply(x, weight, raw, layer.stride, layer.bound)  # type: ignore
        return node
    if layer.on_grid:
        masks = (MASK_BITS, 0, MASK_CODES) if layer.masks else None
        bounded: Tensor = _BoundedNode.apply(  # type: ignore
            x, weight, raw, layer.stride, layer.bound, layer.grid, masks
        )
        return bounded
    if layer.masks:
        raise CodesignError(
            f"export: a deformable layer has masks with {layer.offsets} offsets, {layer.sampling}, expected "
            "a depthwise one with bounded offsets, bilinear. Leave the masks out."
        )
    used = raw.round() if layer.sampling == "rounded" else raw
    if layer.offsets == "bounded":
        used = used.clamp(-float(layer.bound), float(layer.bound))
    elif layer.offsets == "square":
        used = square_offsets(used.clamp(0.0, float(layer.bound)))
    node = _GeneralNode.apply(x, weight, used, layer.stride, layer.groups)  # type: ignore
    return node


def traced_sampled_sum(layer: sampling.SampledSum, x: Tensor, raw: Tensor, ones: Tensor) -> Tensor:
    """A bounded deformable convolution with masks, whose weights are 1."""
    masks = (sampling.MASK_BITS, *sampling.MASK_CODES)
    node: Tensor = _BoundedNode.apply(x, ones, raw, 1, layer.bound, layer.fraction_bits, masks)  # type: ignore
    return node
