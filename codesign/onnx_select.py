"""Import patterns of a decision: a number of the frame is compared, and Where takes one of two maps.

    Where(GreaterOrEqual(gate, c), a, b)      also Greater, Less and LessOrEqual, with the constant on either side

The gate is a quantized map of one number. Its values are compared in float32, as onnxruntime does: the least code that
is taken is found at import, and from there on codes are compared with a whole number.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codesign.onnx_site import Pattern, Site
from codesign.onnx_values import NO_SHAPE, REFUSED, Act, Const, Decision, Poison, Refused, Unknown, Value
from codesign.ops import Select

Compare = Callable[[np.float32, np.float32], np.bool_]


def compared(compare: Compare) -> Pattern:
    """A pattern of a node that compares its inputs."""

    def pattern(site: Site) -> Value:
        sides = [site.input(i) for i in (0, 1)]
        at = next((i for i in (0, 1) if isinstance(sides[1 - i], Const)), 0)
        act, number = site.act(at, rows=True), site.const(1 - at)
        if number is None or number.size != 1:
            raise Refused("compares with no single number", "Compare with one constant.")
        if act.shape not in ((1, 1, 1), NO_SHAPE):
            h, w, c = act.shape
            raise Refused(
                f"compares a map of {h}x{w} and {c} channels, expected one number", "Reduce the map first."
            )
        limit = np.float32(number.reshape(())[()])
        values = np.arange(act.lo, act.hi + 1, dtype=np.float32) * np.float32(act.scale)
        taken = [bool(compare(*((v, limit) if at == 0 else (limit, v)))) for v in values]
        rises = taken[-1] or not taken[0]  # the larger codes are those that are taken
        first = (taken + [rises]).index(rises)
        return Decision(act, act.lo + first, rises, site.where)

    return pattern


def where(site: Site) -> Value:
    """One of two maps, by a decision."""
    decision = site.input(0)
    if isinstance(decision, Poison):
        raise Unknown
    if not isinstance(decision, Decision):
        raise Refused(
            "chooses by something else than a number of the frame",
            "Compare one quantized number with a constant.",
        )
    a, b = site.act(1, rows=True), site.act(2, rows=True)
    site.guess = Act(REFUSED, NO_SHAPE, a.scale, a.elem, min(a.lo, b.lo), max(a.hi, b.hi), a.flat)
    if a.scale != b.scale or a.elem.signed != b.elem.signed:
        site.note(
            f"chooses between {a.elem} in steps of {a.scale:g} and {b.elem} in steps of {b.scale:g}, expected the same",
            "Share one quantizer between the two.",
        )
    if a.shape != b.shape and NO_SHAPE not in (a.shape, b.shape):
        site.note(f"chooses between maps of {_size(a)} and {_size(b)}", "Make both of one size.")
    if len({a.flat, b.flat, decision.of.flat}) > 1:
        site.note(
            "chooses between maps by a number of another rank", "Give all three four dimensions, or two."
        )
    site.check()
    if not decision.rises:
        a, b = b, a
    sources = [site.importer.value(act) for act in (a, b, decision.of)]
    name, type_ = site.emit(Select(decision.threshold), *sources)
    h, w, c = type_.shape
    return Act(name, (h, w, c), a.scale, type_.elem, min(a.lo, b.lo), max(a.hi, b.hi), a.flat)


def _size(act: Act) -> str:
    h, w, c = act.shape
    return f"{h}x{w}x{c}"


DECISIONS: dict[tuple[str, str], Pattern] = {
    ("", "Greater"): compared(np.greater),
    ("", "GreaterOrEqual"): compared(np.greater_equal),
    ("", "Less"): compared(np.less),
    ("", "LessOrEqual"): compared(np.less_equal),
    ("", "Where"): where,
}
