"""Nodes of the mixer family in the file, and their meaning: model-local functions in standard operators.

    codesign::ChannelMix(x, r)              sum of maps, each channel times a gate
    codesign::PickOrMix(x, r)               of each set of channels the largest or the mean, times a gate
    codesign::MixedConv(x, w, r, s, b)      convolution with a mixture of kernels

Gates r are those of one image, [1, count, 1, 1]: a file has a batch of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.autograd import Function

from codesign.onnx_bodies import OPSET, OWN_DOMAIN

if TYPE_CHECKING:
    from quant.dynamic.mixed_conv import QuantMixedConv2d

# [1, parts * C, H, W] as [1, parts, C, H, W]: Reshape copies a dimension for 0 and works one out for -1.
_GROUPED = """
  one = Constant <value: tensor = int64[1] {1}> ()
  parts_i = Constant <value_int: int = @parts> ()
  parts = Reshape (parts_i, one)
  whole = Shape (x)
  two = Constant <value: tensor = int64[1] {2}> ()
  four = Constant <value: tensor = int64[1] {4}> ()
  size = Slice (whole, two, four)
  rest = Constant <value: tensor = int64[1] {-1}> ()
  split = Concat <axis: int = 0> (one, parts, rest, size)"""

CHANNEL_MIX = f"""
<domain: "{OWN_DOMAIN}", opset_import: ["" : {OPSET}]>
ChannelMix <parts> (x, r) => (y)
{{{_GROUPED}
  product = Mul (x, r)
  grouped = Reshape (product, split)
  y = ReduceSum <keepdims: int = 0> (grouped, one)
}}"""

PICK_OR_MIX = f"""
<domain: "{OWN_DOMAIN}", opset_import: ["" : {OPSET}]>
PickOrMix <parts, threshold> (x, r) => (y)
{{{_GROUPED}
  grouped = Reshape (x, split)
  largest = ReduceMax <keepdims: int = 0> (grouped, one)
  mean = ReduceMean <keepdims: int = 0> (grouped, one)
  threshold = Constant <value_float: float = @threshold> ()
  picks = Less (r, threshold)
  chosen = Where (picks, largest, mean)
  y = Mul (chosen, r)
}}"""

MIXED_CONV = f"""
<domain: "{OWN_DOMAIN}", opset_import: ["" : {OPSET}]>
MixedConv <kernel_shape, strides, pads, experts, bits> (x, w, r, s, b) => (y)
{{
  one = Constant <value: tensor = int64[1] {{1}}> ()
  copied = Constant <value: tensor = int64[1] {{0}}> ()
  rest = Constant <value: tensor = int64[1] {{-1}}> ()
  experts_i = Constant <value_int: int = @experts> ()
  experts = Reshape (experts_i, one)
  window = Constant <value_ints: ints = @kernel_shape> ()
  kernels = Concat <axis: int = 0> (copied, experts, rest)
  kernel = Concat <axis: int = 0> (copied, rest, window)
  column = Concat <axis: int = 0> (one, experts, one)
  bank = Reshape (w, kernels)
  gates = Reshape (r, column)
  products = Mul (bank, gates)
  sums = ReduceSum <keepdims: int = 0> (products, one)
  mixed = Reshape (sums, kernel)
  steps = Div (mixed, s)
  whole = Round (steps)
  bits_i = Constant <value_int: int = @bits> ()
  bits = Cast <to: int = 1> (bits_i)
  unit = Constant <value_float: float = 1.0> ()
  two = Constant <value_float: float = 2.0> ()
  magnitude = Sub (bits, unit)
  count = Pow (two, magnitude)
  most = Sub (count, unit)
  least = Neg (most)
  code = Clip (whole, least, most)
  weight = Mul (code, s)
  y = Conv <kernel_shape: ints = @kernel_shape, strides: ints = @strides, pads: ints = @pads> (x, weight, b)
}}"""

FUNCTIONS = (CHANNEL_MIX, PICK_OR_MIX, MIXED_CONV)


class _ChannelMix(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, r: Tensor, parts: int) -> Tensor:
        return x.new_zeros(
            x.shape[0], x.shape[1] // parts, *x.shape[2:]
        )  # while tracing only the shape matters

    @staticmethod
    def symbolic(g: Any, x: Any, r: Any, parts: int) -> Any:
        return _fewer(g.op(f"{OWN_DOMAIN}::ChannelMix", x, r, parts_i=parts), x, parts)


class _PickOrMix(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, r: Tensor, parts: int, threshold: float) -> Tensor:
        return x.new_zeros(x.shape[0], x.shape[1] // parts, *x.shape[2:])

    @staticmethod
    def symbolic(g: Any, x: Any, r: Any, parts: int, threshold: float) -> Any:
        node = g.op(f"{OWN_DOMAIN}::PickOrMix", x, r, parts_i=parts, threshold_f=threshold)
        return _fewer(node, x, parts)


class _MixedConv(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, r: Tensor, s: Tensor, b: Tensor, experts: int, bits: int
    ) -> Tensor:
        return x.new_zeros(x.shape[0], w.shape[0], *x.shape[2:])

    @staticmethod
    def symbolic(g: Any, x: Any, w: Any, r: Any, s: Any, b: Any, experts: int, bits: int) -> Any:
        cout, _, *window = w.type().sizes()
        node = g.op(
            f"{OWN_DOMAIN}::MixedConv",
            x,
            w,
            r,
            s,
            b,
            kernel_shape_i=window,
            strides_i=[1, 1],
            pads_i=[k // 2 for k in window] * 2,
            experts_i=experts,
            bits_i=bits,
        )
        batch, _, height, width = x.type().sizes()
        node.setType(x.type().with_sizes([batch, cout, height, width]))
        return node


def _fewer(node: Any, x: Any, parts: int) -> Any:
    batch, channels, height, width = x.type().sizes()
    node.setType(x.type().with_sizes([batch, channels // parts, height, width]))
    return node


def traced_channel_mix(x: Tensor, r: Tensor, parts: int) -> Tensor:
    node: Tensor = _ChannelMix.apply(x, r, parts)  # type: ignore
    return node


def traced_pick_or_mix(x: Tensor, r: Tensor, parts: int, threshold: float) -> Tensor:
    node: Tensor = _PickOrMix.apply(x, r, parts, threshold)  # type: ignore
    return node


def traced_mixed_conv(
    layer: QuantMixedConv2d, x: Tensor, w: Tensor, r: Tensor, step: Tensor, bias: Tensor
) -> Tensor:
    """`step` (cout,1,1,1) of the mixed weights and `bias` (cout,) become constants of the file."""
    node: Tensor = _MixedConv.apply(x, w, r, step, bias, layer.experts, layer.mixed.bits)  # type: ignore
    return node
