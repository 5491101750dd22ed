"""Nodes of model.onnx that dynamic operators leave: those of `codesign`, with bodies in standard operators, and others.

codesign::BorderDeformConv(x, w, p)      one tap at an offset within bounds, moved back onto the map: DySample
codesign::VariedConv(x, w)               depthwise 3x3 with weights (C,9,H,W) of each pixel's own: TVConv
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from codesign.onnx_bodies import OPSET, OWN_DOMAIN, QONNX_DOMAIN


def in_steps(raw: str) -> str:
    """Of a body: `raw` within max_offset, in whole steps of 2^-fraction_bits, as `offset`."""
    return f"""
  two = Constant <value_float: float = 2.0> ()
  bound_i = Constant <value_int: int = @max_offset> ()
  bound = Cast <to: int = 1> (bound_i)
  bits_i = Constant <value_int: int = @fraction_bits> ()
  bits = Cast <to: int = 1> (bits_i)
  steps = Pow (two, bits)
  most = Mul (bound, steps)
  least = Neg (most)
  fine = Mul ({raw}, steps)
  whole = Round (fine)
  used = Clip (whole, least, most)
  offset = Div (used, steps)"""


# p is what a convolution predicts, in float: rows, then columns. Positions are in whole steps, and inside the map.
_BORDER = f"""
<domain: "{OWN_DOMAIN}", opset_import: ["" : {OPSET}]>
BorderDeformConv <group, kernel_shape, strides, pads, max_offset, fraction_bits> (x, w, p) => (y)
{{{in_steps("p")}
  axis = Constant <value_ints: ints = [1]> ()
  zero = Constant <value_int: int = 0> ()
  one = Constant <value_int: int = 1> ()
  zero_f = Constant <value_float: float = 0.0> ()
  none = Constant <value_ints: ints = [0]> ()
  height_1 = Shape <start: int = 2, end: int = 3> (x)
  width_1 = Shape <start: int = 3, end: int = 4> (x)
  height = Squeeze (height_1, none)
  width = Squeeze (width_1, none)
  rows_i = Range (zero, height, one)
  columns_i = Range (zero, width, one)
  rows_1 = Cast <to: int = 1> (rows_i)
  columns = Cast <to: int = 1> (columns_i)
  rows = Unsqueeze (rows_1, axis)
  bottom_i = Sub (height, one)
  right_i = Sub (width, one)
  bottom = Cast <to: int = 1> (bottom_i)
  right = Cast <to: int = 1> (right_i)
  down, along = Split <axis: int = 1, num_outputs: int = 2> (offset)
  row = Add (down, rows)
  column = Add (along, columns)
  row_in = Clip (row, zero_f, bottom)
  column_in = Clip (column, zero_f, right)
  down_in = Sub (row_in, rows)
  along_in = Sub (column_in, columns)
  inside = Concat <axis: int = 1> (down_in, along_in)
  y = DeformConv <group: int = @group, offset_group: int = 1, kernel_shape: ints = @kernel_shape,
                  strides: ints = @strides, pads: ints = @pads> (x, w, inside)
}}"""


def _varied() -> str:
    """The sum of the nine shifted maps, each times its weights."""
    lines = [
        f'<domain: "{OWN_DOMAIN}", opset_import: ["" : {OPSET}]>',
        "VariedConv (x, w) => (y)",
        "{",
        "  pads = Constant <value_ints: ints = [0, 0, 1, 1, 0, 0, 1, 1]> ()",
        "  axes = Constant <value_ints: ints = [2, 3]> ()",
        "  padded = Pad (x, pads)",
        "  taps = Transpose <perm: ints = [1, 0, 2, 3]> (w)",
        f"  {', '.join(f'w{k}' for k in range(9))} = Split <axis: int = 0, num_outputs: int = 9> (taps)",
    ]
    for k in range(9):
        starts, ends = (k // 3, k % 3), tuple((-2, -1, 1 << 31)[v] for v in (k // 3, k % 3))
        lines += [
            f"  s{k} = Constant <value_ints: ints = [{starts[0]}, {starts[1]}]> ()",
            f"  e{k} = Constant <value_ints: ints = [{ends[0]}, {ends[1]}]> ()",
            f"  x{k} = Slice (padded, s{k}, e{k}, axes)",
            f"  y{k} = Mul (x{k}, w{k})",
        ]
    return "\n".join([*lines, f"  y = Sum ({', '.join(f'y{k}' for k in range(9))})", "}"])


FUNCTIONS = (_BORDER, _varied())


class _WholeNode(Function):
    """A constant of small whole numbers, quantized to such codes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, bits: int) -> Tensor:
        return value.clone()

    @staticmethod
    def symbolic(g: Any, x: Any, value: Any, bits: int) -> Any:
        one, zero, width = (g.op("Constant", value_t=torch.tensor(float(v))) for v in (1, 0, bits))
        node = g.op(
            f"{QONNX_DOMAIN}::Quant", value, one, zero, width, signed_i=1, narrow_i=1, rounding_mode_s="ROUND"
        )
        node.setType(x.type().with_sizes(value.type().sizes()))
        return node


class _BorderNode(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, p: Tensor, bound: int, bits: int) -> Tensor:
        return torch.zeros_like(x)

    @staticmethod
    def symbolic(g: Any, x: Any, w: Any, p: Any, bound: int, bits: int) -> Any:
        node = g.op(
            f"{OWN_DOMAIN}::BorderDeformConv",
            x,
            w,
            p,
            group_i=w.type().sizes()[0],
            kernel_shape_i=[1, 1],
            strides_i=[1, 1],
            pads_i=[0] * 4,
            max_offset_i=bound,
            fraction_bits_i=bits,
        )
        node.setType(x.type())
        return node


class _VariedNode(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        return torch.zeros_like(x)

    @staticmethod
    def symbolic(g: Any, x: Any, w: Any) -> Any:
        node = g.op(f"{OWN_DOMAIN}::VariedConv", x, w)
        node.setType(x.type())
        return node


class _SpreadNode(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.new_zeros(n, c // 4, 2 * h, 2 * w)

    @staticmethod
    def symbolic(g: Any, x: Any) -> Any:
        n, c, h, w = x.type().sizes()
        node = g.op("DepthToSpace", x, blocksize_i=2, mode_s="DCR")
        node.setType(x.type().with_sizes([n, c // 4, 2 * h, 2 * w]))
        return node


def traced_whole(x: Tensor, value: Tensor, bits: int = 2) -> Tensor:
    """What stands in the file for whole weights that are not trained. `x`: anything that is traced."""
    node: Tensor = _WholeNode.apply(x, value, bits)  # type: ignore
    return node


def traced_border_sample(x: Tensor, ones: Tensor, p: Tensor, bound: int, bits: int) -> Tensor:
    node: Tensor = _BorderNode.apply(x, ones, p, bound, bits)  # type: ignore
    return node


def traced_varied(x: Tensor, weight: Tensor) -> Tensor:
    node: Tensor = _VariedNode.apply(x, weight)  # type: ignore
    return node


def traced_spread(x: Tensor) -> Tensor:
    """Four phases of C channels each, (0,0), (0,1), (1,0), (1,1), to the pixels of a map twice as high and wide."""
    node: Tensor = _SpreadNode.apply(x)  # type: ignore
    return node
