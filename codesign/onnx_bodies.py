"""QONNX's Quant as a model-local function in standard operators: its meaning, and what stock runtimes run."""

from __future__ import annotations

import onnx
from onnx import parser, version_converter

OPSET = 20
LEAST_OPSET = 13  # constants without tensors came with 12, reductions by an input with 13
QONNX_DOMAIN, QONNX_VERSION = "qonnx.custom_op.general", 2
OWN_DOMAIN = "codesign"
QUANTIZERS = ("Quant", "IntQuant")
DOMAINS = (QONNX_DOMAIN, "onnx.brevitas", "finn.custom_op.general")
IR_VERSION = 8  # the first with functions

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


def opset_of(model: onnx.ModelProto) -> int:
    return int(next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")))


def runnable(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or a copy with a body for each QONNX quantizer that has none, as other tools write them.

    Those tools leave attributes out that have their default: signed, not narrow, half to even.
    """
    held = {(f.domain, f.name) for f in model.functions}
    used = {(node.domain, node.op_type) for node in model.graph.node}
    wanted = [(d, name) for d, name in sorted(used - held) if d in DOMAINS and name in QUANTIZERS]
    if not wanted:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if opset_of(copy) < LEAST_OPSET:
        copy = version_converter.convert_version(copy, LEAST_OPSET)
    copy.ir_version = max(copy.ir_version, IR_VERSION)
    opset = opset_of(copy)
    named = {entry.domain for entry in copy.opset_import}
    for domain, name in wanted:
        body = parser.parse_function(QUANT)
        body.domain, body.name = domain, name
        body.opset_import[0].version = opset
        copy.functions.append(body)
        if domain not in named:
            copy.opset_import.append(onnx.helper.make_opsetid(domain, 1))
            named.add(domain)
    for node in copy.graph.node:
        if (node.domain, node.op_type) in wanted:
            given = {a.name for a in node.attribute}
            defaults = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
            node.attribute.extend(
                onnx.helper.make_attribute(k, v) for k, v in defaults.items() if k not in given
            )
    return copy
