"""QONNX's Quant as a model-local function in standard operators: its meaning, and what stock runtimes run. No torch."""

from __future__ import annotations

OPSET = 20
QONNX_DOMAIN, QONNX_VERSION = "qonnx.custom_op.general", 2

QUANT = f"""
<domain: "{QONNX_DOMAIN}", opset_import: ["" : {OPSET}]>
Quant <signed, narrow, rounding_mode> (x, scale, zero_point, bits) => (y)
{{
  signed_i = Constant <value_int: int = @signed> ()
  narrow_i = Constant <value_int: int = @narrow> ()
  s = Cast <to: int = 1> (signed_i)
  n = Cast <to: int = 1> (narrow_i)
  one = Constant <value_float: float = 1.0> ()
  two = Constant <value_float: float = 2.0> ()
  magnitude_bits = Sub (bits, s)
  count = Pow (two, magnitude_bits)
  top = Sub (count, one)
  unsigned = Sub (one, s)
  spare = Mul (unsigned, n)
  high = Sub (top, spare)
  narrowed = Sub (n, count)
  low = Mul (s, narrowed)
  divided = Div (x, scale)
  shifted = Add (divided, zero_point)
  rounded = Round (shifted)
  below = Min (rounded, high)
  code = Max (below, low)
  centred = Sub (code, zero_point)
  y = Mul (centred, scale)
}}"""
