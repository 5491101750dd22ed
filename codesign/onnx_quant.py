"""Import patterns of quantizers: QONNX Quant, QuantizeLinear / DequantizeLinear, and the clips around them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.ir import IntType, TensorType
from codesign.onnx_site import INCONSISTENT, Site
from codesign.onnx_table import clipped_curve, tabled
from codesign.onnx_values import (
    NO_SHAPE,
    REFUSED,
    Acc,
    Act,
    Codes,
    Const,
    Curve,
    Floats,
    Integers,
    Poison,
    Raw,
    Refused,
    Unknown,
    Value,
    unknown_sums,
)

MAX_ACT_BITS = 8
ROUNDINGS = ("ROUND", "HALF_EVEN")
SYMMETRIC = "Quantize symmetrically, with zero point 0."


def quant(site: Site) -> Value:
    """Quant(x, scale, zero point, bit width): a parameter, the graph's input, or an accumulator."""
    _expect_parameter(site)
    rounding = site.text("rounding_mode", "ROUND").upper()
    if rounding not in ROUNDINGS:
        site.note(f"rounds by {rounding}, expected ROUND (half to even)", "Export with rounding_mode ROUND.")
    scale, zero, width = site.const(1), site.const(2), site.const(3)
    if scale is None or width is None or width.size != 1:
        raise Refused("has no scale or bit width", INCONSISTENT)
    _symmetric(site, zero)
    bits = int(width.reshape(-1)[0])
    if bits != float(width.reshape(-1)[0]) or not 1 <= bits <= 32:
        raise Refused(f"has {float(width.reshape(-1)[0]):g} bits, expected 1 to 32", "Use a whole bit width.")
    signed, narrow = bool(site.whole("signed", 1)), bool(site.whole("narrow", 0))
    elem = IntType(bits, signed)
    lo, hi = elem.min + (narrow and signed), elem.max - (narrow and not signed)
    return _quantize(site, scale, elem, lo, hi)


def quantize_linear(site: Site) -> Value:
    _expect_parameter(site)
    scale, zero = site.const(1), site.const(2)
    if scale is None:
        raise Refused("has no scale", INCONSISTENT)
    elem = _elem(zero) if zero is not None else _output_elem(site)
    _symmetric(site, zero)
    value = _quantize(site, _along_axis(site, scale), elem, elem.min, elem.max)
    site.check()
    return Integers(value, site.where)


def dequantize_linear(site: Site) -> Value:
    value = site.input(0)
    if isinstance(value, Poison):  # its QuantizeLinear was refused, and the same zero point and scale with it
        raise Unknown
    _expect_parameter(site)
    scale, zero = site.const(1), site.const(2)
    if scale is None:
        raise Refused("has no scale", INCONSISTENT)
    _symmetric(site, zero)
    scale = _along_axis(site, scale)
    if isinstance(value, Const):
        elem, codes = _elem(value.array), value.array.astype(np.int64)
        i4 = IntType(4)  # files without a 4-bit type keep such codes in int8
        fits = elem == IntType(8) and i4.min <= codes.min(initial=0) and codes.max(initial=0) <= i4.max
        return Codes(codes, i4 if fits else elem, scale.astype(np.float64), value.origin)
    if not isinstance(value, Integers):
        site.act(0)
        raise Refused("reads something that no QuantizeLinear made", INCONSISTENT)
    if not np.array_equal(np.unique(scale), np.unique(np.asarray(value.of.scale))):
        raise Refused(f"its scale is not that of {value.where}", "Use one scale for both.")
    return value.of


def _quantize(site: Site, scale: Floats, elem: IntType, lo: int, hi: int) -> Act | Codes:
    value = site.input(0)
    if isinstance(value, Const) or (isinstance(value, Poison) and value.constant):
        if np.any(scale <= 0) or not np.isfinite(scale).all():
            raise Refused(f"has scale {_shown(scale)}, expected positive numbers", "Calibrate it again.")
        if isinstance(value, Poison):
            raise Unknown
        # The very float32 operations that the file means: divide, round half to even, clip.
        try:
            quotient = value.array.astype(np.float32) / scale.astype(np.float32)
        except ValueError:
            shapes = f"{list(scale.shape)} for a value {list(value.array.shape)}"
            raise Refused(f"has scales of shape {shapes}", INCONSISTENT) from None
        codes = np.rint(quotient).astype(np.float64).clip(lo, hi).astype(np.int64)
        return Codes(codes, elem, scale.astype(np.float64), value.origin)
    if scale.size != 1:
        raise Refused(
            f"has {scale.size} scales for one feature map, expected one", "Quantize activations per tensor."
        )
    step = float(scale.reshape(-1)[0])
    if not 0 < step < np.inf:
        raise Refused(f"has scale {step:.9g}, expected a positive number", "Calibrate it again.")
    if isinstance(value, Poison):
        value = unknown_sums(site.where)
    if isinstance(value, Curve):
        return tabled(site, value, step, elem, lo, hi)
    if isinstance(value, Raw):
        return _input(site, value, step, elem, lo)
    if isinstance(value, Acc):
        act = quantized(value, step, elem, lo, hi)
        return site.importer.settled(act) if elem.bits <= MAX_ACT_BITS else act
    act = site.act(0, rows=True)
    if act.scale == step and lo <= act.lo and act.hi <= hi:
        return act
    if act.scale != step or isinstance(act.source, str):
        raise Refused("requantizes codes that are quantized already", "Use one quantizer.")
    return replace(act, lo=max(lo, act.lo), hi=min(hi, act.hi), elem=elem)


def _input(site: Site, raw: Raw, step: float, elem: IntType, lo: int) -> Act:
    if elem.bits > MAX_ACT_BITS or lo != elem.min:
        raise Refused(
            f"makes {elem}{' narrow' * (lo != elem.min)} codes of the input {raw.name!r}, expected at most 8 bits",
            "Use 8 signed bits with the full range for the image.",
        )
    if raw.cut and elem.signed:
        raise Refused(
            f"makes signed codes of the input {raw.name!r} behind a ReLU",
            "Quantize it without sign, or drop the ReLU.",
        )
    importer = site.importer
    if importer.inputs.setdefault(raw.name, TensorType(raw.shape, elem)).elem != elem or (
        importer.input_scales.setdefault(raw.name, step) != step
    ):
        raise Refused(f"quantizes the input {raw.name!r} in a second way", "Use one quantizer for the input.")
    importer.types[raw.name] = importer.inputs[raw.name]
    source = REFUSED if raw.shape == NO_SHAPE else raw.name
    return Act(source, raw.shape, step, elem, elem.min, elem.max)


def quantized(acc: Acc, step: float, elem: IntType, lo: int, hi: int) -> Act:
    """The accumulator in steps of `step`, rounded and clamped; its own clips must fall on whole codes."""
    if elem.bits > MAX_ACT_BITS and step != 1.0:  # offsets may be rounded first and clipped later
        raise Refused(f"makes {elem} codes, expected at most 8 bits", "Quantize activations to 8 bits.")
    return _clipped(Act(acc, acc.shape, step, elem, lo, hi, acc.flat), acc.low, acc.high)


def _clipped(act: Act, low: float, high: float) -> Act:
    """clip(round(v), lo, hi) with v clipped to [low, high] before: the same clamp, narrowed."""
    lo, hi = low / act.scale, high / act.scale
    if (lo > act.lo and lo != int(lo)) or (hi < act.hi and hi != int(hi)):
        raise Refused(
            f"clips at {low:g}..{high:g}, which are no codes of scale {act.scale:g}",
            "Clip at multiples of the scale, or let the quantizer clip.",
        )
    lo, hi = max(lo, act.lo), min(hi, act.hi)
    if lo > hi:
        raise Refused("clips everything to one side of the codes", INCONSISTENT)
    return replace(act, lo=int(lo), hi=int(hi))


def relu(site: Site) -> Value:
    return _clip(site, 0.0, np.inf)


def clip(site: Site) -> Value:
    low, high = site.const(1), site.const(2)
    return _clip(
        site,
        site.real("min", -np.inf) if low is None else float(low.reshape(-1)[0]),  # attributes before opset 11
        site.real("max", np.inf) if high is None else float(high.reshape(-1)[0]),
    )


def _clip(site: Site, low: float, high: float) -> Value:
    value = site.input(0)
    if isinstance(value, Raw) and (low, high) == (0, np.inf):
        return replace(value, cut=True)
    if isinstance(value, Curve) or (isinstance(value, Act) and isinstance(value.source, str)):
        return clipped_curve(site, low, high)
    if isinstance(value, Acc):
        return replace(value, low=max(value.low, low), high=max(min(value.high, high), value.low))
    if isinstance(value, Integers):
        if isinstance(value.of, Codes):
            codes = value.of.codes.clip(low, high).astype(np.int64)
            elem = IntType.holding(int(max(value.of.elem.min, low)), int(min(value.of.elem.max, high)))
            return replace(value, of=replace(value.of, codes=codes, elem=elem))
        low, high = low * value.of.scale, high * value.of.scale
        return replace(value, of=_clip_codes(site, value.of, low, high))
    return _clip_codes(site, site.act(0, rows=True), low, high)


def _clip_codes(site: Site, act: Act, low: float, high: float) -> Act:
    narrowed = _clipped(act, low, high)
    if narrowed.elem.bits > MAX_ACT_BITS:  # rounded first, and given its range here
        narrowed = replace(narrowed, elem=IntType.holding(narrowed.lo, narrowed.hi))
    if narrowed != act and isinstance(act.source, str):
        raise Refused(
            "clips codes that no convolution made", f"Put the {site.node.op_type} before the quantizer."
        )
    return narrowed


def round_(site: Site) -> Value:
    """Round is a quantizer of scale 1 whose range the clip behind it gives."""
    value = site.input(0)
    if isinstance(value, Poison):
        if value.constant:
            raise Unknown
        value = unknown_sums(site.where)
    if not isinstance(value, Acc):
        raise Refused("rounds something that no convolution made", "Leave it out; codes are whole already.")
    return quantized(value, 1.0, IntType(32), IntType(32).min, IntType(32).max)


def _expect_parameter(site: Site) -> None:
    """A quantizer of a parameter keeps its shape, whatever is refused of it."""
    value = site.input(0)
    if isinstance(value, Const):
        site.guess = Poison(constant=True, shape=value.array.shape)


def _symmetric(site: Site, zero: npt.NDArray[Any] | None) -> None:
    if zero is not None and np.any(zero != 0):
        site.note(f"has zero point {_shown(zero)}, expected 0", SYMMETRIC)


def _along_axis(site: Site, scale: Floats) -> Floats:
    """A per-channel scale in a shape that broadcasts against the value it belongs to."""
    if scale.size == 1:
        return scale.reshape(())
    value = site.input(0)
    array = value.of if isinstance(value, Integers) else value
    if not isinstance(array, (Const, Codes)):
        return scale
    shape = array.array.shape if isinstance(array, Const) else array.codes.shape
    axis = site.whole("axis", 1)
    if scale.ndim != 1 or not -len(shape) <= axis < len(shape) or shape[axis] != scale.size:
        raise Refused(f"has scales of shape {list(scale.shape)} for a value {list(shape)}", INCONSISTENT)
    return scale.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])


def _elem(array: npt.NDArray[Any]) -> IntType:
    return _named(str(array.dtype))


def _output_elem(site: Site) -> IntType:
    names = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 21: "uint4", 22: "int4"}  # TensorProto.DataType
    return _named(names.get(site.whole("output_dtype", 0) or 2, "another type"))


def _named(dtype: str) -> IntType:
    match = re.fullmatch(r"(u?)int(\d+)", dtype)
    if match is None:
        raise Refused(f"its codes are {dtype}, expected integers", "Quantize to int8 or uint8.")
    return IntType(int(match[2]), not match[1])


def _shown(array: npt.NDArray[Any]) -> str:
    values = sorted({float(v) for v in array.reshape(-1)}, key=lambda v: -abs(v))
    return f"{values[0]:g}" + (" and others" if len(values) > 1 else "")
