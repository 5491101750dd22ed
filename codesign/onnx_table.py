"""Import patterns of elementwise functions between two quantizers: together they are a table of codes.

A map of codes has at most 256 values, so what a chain of such nodes makes of it is computed at import, once for each,
as onnxruntime computes it but to the last bit: each node in float64, rounded to the float32 that its result is in the
file; sums, products and quotients inside of a node round as well. Then the quantizer: divided by its step in float32,
rounded half to even, clipped. The table is data from there on, so all rungs behind the file have the very same codes.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf, sqrt

import numpy as np
import numpy.typing as npt

from codesign.ir import Array, IntType
from codesign.onnx_site import Pattern, Site, node_name
from codesign.onnx_values import (
    NO_SHAPE,
    REFUSED,
    Act,
    Affine,
    Codes,
    Const,
    Curve,
    Floats,
    Poison,
    Refused,
    Unknown,
    Value,
)
from codesign.ops import Table
from codesign.ops.table import ENTRIES

Reals = npt.NDArray[np.float32]
MAX_BITS = 8
BOTH = "Multiply or add functions of one and the same quantized map."


def curve_of(site: Site, i: int) -> Curve:
    """Input i as a function of codes. Raises Refused where it is none, Unknown behind a refusal."""
    value = site.input(i)
    if isinstance(value, Curve):
        return value
    if isinstance(value, Affine) and value.factor.size == 1:
        of = value.of
        reals = (_codes(of) * value.factor * of.scale + value.term).astype(np.float32)
        return Curve(of, reals, node_name(site.node), site.where)
    act = site.act(i, rows=True)
    if act.hi - act.lo >= ENTRIES:
        raise Refused(f"reads codes {act.lo}..{act.hi}, expected at most 8 bits", "Quantize to 8 bits.")
    return Curve(act, (_codes(act) * act.scale).astype(np.float32), node_name(site.node), site.where)


def _codes(act: Act) -> Floats:
    return np.arange(act.lo, act.hi + 1, dtype=np.float64)


def _made(site: Site, of: Act, reals: npt.NDArray[np.floating]) -> Curve:
    with np.errstate(over="ignore"):
        return Curve(of, reals.astype(np.float32), node_name(site.node), site.where)


def unary(function: Callable[[Site, Floats], Floats]) -> Pattern:
    """A pattern of a node that computes each number alone."""

    def pattern(site: Site) -> Value:
        curve = curve_of(site, 0)
        with np.errstate(all="ignore"):  # what is no number is refused with the code that makes it
            return _made(site, curve.of, function(site, curve.values.astype(np.float64)))

    return pattern


def binary(site: Site) -> Curve | None:
    """Arithmetic of a function of codes and a constant, or of two functions of the same codes; None for other nodes."""
    sides = [site.input(i) for i in (0, 1)]
    curves = [isinstance(v, (Act, Curve)) or (isinstance(v, Affine) and v.factor.size == 1) for v in sides]
    if len(site.inputs) != 2 or not any(curves):
        return None
    if all(curves):
        if not any(isinstance(v, Curve) for v in sides) and sides[0] is not sides[1]:
            return None
        left, right = (curve_of(site, i) for i in (0, 1))
        if not _same(left.of, right.of):
            return None
        return _made(site, left.of, _arithmetic(site, left.values, right.values))
    at = curves.index(True)
    number = _number(sides[1 - at])
    if number is None or (not isinstance(sides[at], Curve) and _offset_like(sides[at])):
        return None
    curve = curve_of(site, at)
    other = np.full_like(curve.values, number)
    pair = (curve.values, other) if at == 0 else (other, curve.values)
    return _made(site, curve.of, _arithmetic(site, *pair))


def clipped_curve(site: Site, low: float, high: float) -> Curve | Act:
    """A map within limits; as it is where no code lies beyond them."""
    curve, value = curve_of(site, 0), site.input(0)
    ends = np.float32(low), np.float32(high)
    if isinstance(value, Act) and ends[0] <= curve.values.min() and curve.values.max() <= ends[1]:
        return value
    return _made(site, curve.of, np.minimum(np.maximum(curve.values, ends[0]), ends[1]))


def lookup(site: Site) -> Value:
    """codesign::Lookup(x, step, values): values[code mod 256] of a map in steps of `step`."""
    act = site.act(0, rows=True)
    step, values = _number(site.input(1)), site.const(2)
    if values is None or values.size != ENTRIES or step is None:
        raise Refused(f"has no step or not {ENTRIES} values", "Give it both.")
    if act.source != REFUSED and np.float32(act.scale) != step:
        raise Refused(
            f"reads codes in steps of {act.scale:g}, expected {step:g}", "Give it the step of its input."
        )
    codes = _codes(curve_of(site, 0).of).astype(np.int64)
    return _made(site, act, values.reshape(-1)[codes & (ENTRIES - 1)])


def either(otherwise: Callable[[Site], Value]) -> Pattern:
    """A pattern that is arithmetic of functions of codes where it can be, and another one elsewhere."""

    def pattern(site: Site) -> Value:
        found = binary(site)
        return otherwise(site) if found is None else found

    return pattern


def arithmetic_only(site: Site) -> Value:
    """Max, Min and Pow, which are nothing else."""
    for i in (0, 1):
        if isinstance(site.input(i), Poison):
            raise Unknown
    found = binary(site)
    if found is None:
        raise Refused("computes with maps that are not functions of one map", BOTH)
    return found


def _offset_like(value: Value | None) -> bool:
    """Offsets of a deformable convolution, in whole pixels: their arithmetic has a pattern of its own."""
    act = value.of if isinstance(value, Affine) else value
    return isinstance(act, Act) and act.shape[2] in (0, 1) and act.scale == 1.0


def _same(a: Act, b: Act) -> bool:
    if a is b:
        return True
    named = isinstance(a.source, str) and a.source == b.source != REFUSED
    return named and (a.scale, a.lo, a.hi) == (b.scale, b.lo, b.hi)


def _number(value: Value | None) -> np.float32 | None:
    """A constant of one number."""
    if isinstance(value, Const) and value.array.size == 1:
        return np.float32(value.array.reshape(-1)[0])
    if isinstance(value, Codes) and value.codes.size == 1:
        return np.float32((value.codes * value.scale).reshape(-1)[0])
    return None


def _arithmetic(site: Site, a: Reals, b: Reals) -> Reals:
    with np.errstate(all="ignore"):
        match site.node.op_type:
            case "Add" | "Sum":
                return a + b
            case "Sub":
                return a - b
            case "Mul":
                return a * b
            case "Div":
                return a / b
            case "Max":
                return np.maximum(a, b)
            case "Min":
                return np.minimum(a, b)
            case "Pow":
                found: Reals = np.power(a.astype(np.float64), b.astype(np.float64)).astype(np.float32)
                return found
    raise AssertionError(site.node.op_type)


def tabled(site: Site, curve: Curve, step: float, elem: IntType, lo: int, hi: int) -> Act:
    """The codes that a quantizer makes of a function of codes."""
    if elem.bits > MAX_BITS:
        raise Refused(f"makes {elem} codes, expected at most 8 bits", "Quantize activations to 8 bits.")
    act, importer = curve.of, site.importer
    if act.source == REFUSED:
        site.guess = Act(REFUSED, NO_SHAPE, step, elem, lo, hi)
        raise Unknown
    wrong = np.isnan(curve.values)
    if np.any(wrong):
        real = (act.lo + int(np.argmax(wrong))) * act.scale
        raise Refused(
            f"quantizes what {curve.where} makes of {real:g}, which is no number", "Clip before it."
        )
    codes = quantized_codes(curve.values, step, lo, hi)
    source = importer.value(act)
    if elem == act.elem and step == act.scale and np.array_equal(codes, np.arange(act.lo, act.hi + 1)):
        return act
    entries = np.zeros(ENTRIES, np.int64)
    entries[np.arange(act.lo, act.hi + 1) & (ENTRIES - 1)] = codes
    values = importer.constant(f"{curve.name}.values", entries, elem)
    made, _ = site.emit(Table(elem), source, values, name=curve.name)
    return Act(made, act.shape, step, elem, int(codes.min()), int(codes.max()), act.flat)


def quantized_codes(reals: Reals, step: float, lo: int, hi: int) -> Array:
    """What a quantizer makes of float32 numbers: the file's own operations."""
    with np.errstate(over="ignore"):
        codes: Array = np.rint(reals / np.float32(step)).clip(lo, hi).astype(np.int64)
    return codes


def _affine(site: Site, x: Floats, slope: float, shift: float, low: float, high: float) -> Floats:
    """clip(slope * x + shift) with slope and shift as float32 has them, rounded after each operation."""
    product = x.astype(np.float32) * np.float32(slope)
    limited: Floats = np.clip(product + np.float32(shift), low, high).astype(np.float64)
    return limited


def _hard_sigmoid(site: Site, x: Floats) -> Floats:
    return _affine(site, x, site.real("alpha", 0.2), site.real("beta", 0.5), 0.0, 1.0)


def _leaky(site: Site, x: Floats) -> Floats:
    slope = float(np.float32(site.real("alpha", 0.01)))
    return np.where(x < 0, slope * x, x)


def _prelu(site: Site, x: Floats) -> Floats:
    number = _number(site.input(1))
    if number is None:
        raise Refused("has a slope a channel, expected one for all", "Use one slope, or LeakyRelu.")
    return np.where(x < 0, float(number) * x, x)


def _elu(site: Site, x: Floats) -> Floats:
    return np.where(x < 0, site.real("alpha", 1.0) * np.expm1(np.minimum(x, 0)), x)


def _selu(site: Site, x: Floats) -> Floats:
    alpha, gamma = (
        site.real("alpha", 1.67326319217681884765625),
        site.real("gamma", 1.05070102214813232421875),
    )
    return gamma * np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def _gelu(site: Site, x: Floats) -> Floats:
    tanh = site.text("approximate", "none") == "tanh"
    share: Floats = np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3)) if tanh else _erf(x / sqrt(2))
    return 0.5 * x * (1 + share)


def _erf(x: Floats) -> Floats:
    return np.array([erf(v) for v in x])


def _softplus(x: Floats) -> Floats:
    found: Floats = np.logaddexp(x, 0.0)
    return found


FUNCTIONS: dict[str, Callable[[Site, Floats], Floats]] = {
    "Abs": lambda site, x: np.abs(x),
    "Ceil": lambda site, x: np.ceil(x),
    "Cos": lambda site, x: np.cos(x),
    "Elu": _elu,
    "Erf": lambda site, x: _erf(x),
    "Exp": lambda site, x: np.exp(x),
    "Floor": lambda site, x: np.floor(x),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda site, x: x * np.clip(x / 6 + 0.5, 0, 1),
    "LeakyRelu": _leaky,
    "Log": lambda site, x: np.log(x),
    "Mish": lambda site, x: x * np.tanh(_softplus(x)),
    "Neg": lambda site, x: -x,
    "PRelu": _prelu,
    "Reciprocal": lambda site, x: 1 / x,
    "Selu": _selu,
    "Sigmoid": lambda site, x: np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))),
    "Sin": lambda site, x: np.sin(x),
    "Softplus": lambda site, x: _softplus(x),
    "Softsign": lambda site, x: x / (1 + np.abs(x)),
    "Sqrt": lambda site, x: np.sqrt(x),
    "Tanh": lambda site, x: np.tanh(x),
}
ACTIVATIONS: dict[tuple[str, str], Pattern] = {("", name): unary(f) for name, f in FUNCTIONS.items()}
