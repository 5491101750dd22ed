"""Import patterns of what multiplies by gates that the network computes: channel gates, picks, mixed weights."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from codesign.ir import Array, Bounds, IntType
from codesign.onnx_conv import (
    MAX_KERNEL,
    Weight,
    accumulated_scale,
    shape_of,
    weight_of,
    window_of,
    with_bias,
)
from codesign.onnx_site import INCONSISTENT, Site, node_name
from codesign.onnx_values import Acc, Act, Const, Floats, Poison, Refused, Unknown, Value, unknown_sums
from codesign.ops import Mix, MixedConv, Pick
from codesign.ops.mix import GATE
from codesign.ops.mixed_conv import MOST_EXPERTS, MOST_MIX_SHIFT

UNSIGNED = "Quantize gates without sign, to 8 bits: those of a sigmoid in steps of 2^-8."
SETS = (2, 4, 8, 16)


def channel_mix(site: Site) -> Value:
    """codesign::ChannelMix(x, r): parts of x that lie beside each other, each times its gates, added up."""
    return _mixed(site, site.feature(0), _gates(site, 1), site.whole("parts", 1))


def gated(site: Site) -> Value | None:
    """Mul of two quantized maps, one of which has one number a channel; None where it is another product."""
    maps = [site.input(i) for i in (0, 1)]
    for i, j in ((0, 1), (1, 0)):
        x, gates = maps[i], maps[j]
        if isinstance(x, Act) and isinstance(gates, Act) and gates.shape == (1, 1, x.shape[2]):
            return _mixed(site, site.feature(i), _gates(site, j), 1)
    known = [isinstance(m, Act) and 0 not in m.shape for m in maps]
    unknown = [
        (isinstance(m, Poison) and not m.constant) or (isinstance(m, Act) and 0 in m.shape) for m in maps
    ]
    if any(known) and any(unknown):
        raise Unknown  # what was refused may have been gates
    return None


def _mixed(site: Site, x: Act | None, gates: Act | None, parts: int) -> Acc:
    site.guess = unknown_sums(site.where)
    if x is not None and x.shape[2] and (parts < 1 or x.shape[2] % parts):
        site.note(f"has {x.shape[2]} channels in {parts} parts", INCONSISTENT)
    _count(site, gates, 0 if x is None else x.shape[2])
    site.check()
    if x is None or gates is None:
        raise Unknown
    h, w, channels = x.shape
    ends = parts * _reach(x, gates)
    name, _ = site.emit(Mix(parts), site.importer.value(x), site.importer.value(gates))
    return _sums(site, name, (h, w, channels // parts), x.scale * gates.scale, ends)


def pick_or_mix(site: Site) -> Value:
    """codesign::PickOrMix(x, r): of each set of channels the largest where its gate is below `threshold`, else the
    mean; times the gate."""
    x, gates = site.feature(0), _gates(site, 1)
    site.guess = unknown_sums(site.where)
    parts, threshold = site.whole("parts", 2), site.real("threshold", 0.5)
    if parts not in SETS:
        site.note(f"has sets of {parts} channels, expected {', '.join(map(str, SETS))}", "Use such sets.")
    elif x is not None and x.shape[2] % parts:
        site.note(f"has {x.shape[2]} channels in sets of {parts}", INCONSISTENT)
    else:
        _count(site, gates, 0 if x is None else x.shape[2] // parts)
    site.check()
    if x is None or gates is None:
        raise Unknown
    h, w, channels = x.shape
    code = ceil(np.float64(np.float32(threshold)) / gates.scale)
    op = Pick(parts, min(max(code, 0), GATE.max + 1))
    name, _ = site.emit(op, site.importer.value(x), site.importer.value(gates))
    step = x.scale * gates.scale / parts
    return _sums(site, name, (h, w, channels // parts), step, parts * _reach(x, gates))


@dataclass(frozen=True)
class _Bank:
    """Kernels (K, kh, kw, Ci, Co), by how much their sums are shifted (Co,), and the step of mixed weights (Co,)."""

    codes: Array
    elem: IntType
    shift: Array
    step: Floats


def mixed_conv(site: Site) -> Value:
    """codesign::MixedConv(x, w, r, s, b): kernels beside each other in w, mixed by r in steps of s."""
    x, gates = site.feature(0), _gates(site, 2)
    site.guess = unknown_sums(site.where)
    weight, experts, bits = weight_of(site), site.whole("experts", 1), site.whole("bits", 4)
    if not 1 <= experts <= MOST_EXPERTS:
        site.note(f"mixes {experts} kernels, expected at most {MOST_EXPERTS}", "Use fewer kernels.")
    elif x is not None and x.shape[2] and weight.cin and weight.cin != experts * x.shape[2]:
        site.note(f"has {experts} kernels of {weight.cin} channels for {x.shape[2]}", INCONSISTENT)
    else:
        _count(site, gates, experts)
    if not 2 <= bits <= 8:
        site.note(f"has mixed weights of {bits} bits, expected 2 to 8", "Round them to 4 or 8 bits.")
    if max(weight.kernel) > MAX_KERNEL:
        shown = f"{weight.kernel[0]}x{weight.kernel[1]}"
        site.note(f"has a {shown} kernel, expected at most {MAX_KERNEL}x{MAX_KERNEL}", "Use such a kernel.")
    window = window_of(site, weight, strides=(1, 2, 3, 4))
    bank = _bank(site, weight, gates, experts)
    if x is None or gates is None or bank is None:
        site.check()
        raise Unknown
    acc = unknown_sums(site.where, weight.cout, x.scale * bank.step)
    site.guess = acc
    given = site.input(4)
    if given is not None:
        try:
            acc = with_bias(acc, given)
        except Refused as error:
            site.note(error.reason, error.remedy)
    site.check()
    importer = site.importer
    inputs = importer.value(x), importer.value(gates)
    assert weight.codes is not None
    name = importer.unique(node_name(site.node, weight.codes.origin))
    importer.taken.discard(name)
    op = MixedConv(window.kernel, window.stride, window.pads, bits)
    tables = (
        importer.constant(f"{name}.bank", bank.codes, bank.elem),
        importer.constant(f"{name}.mix_shift", bank.shift, IntType(8)),
    )
    name, type_ = site.emit(op, *inputs, *tables, name=name)
    reach = op.bounds(_held(x), _held(gates), bank.codes, bank.shift)
    h, w, c = type_.shape
    return Acc(
        name, acc.where, (h, w, c), acc.scale, acc.bias, shift=acc.shift, reach=(reach.low, reach.high)
    )


def _bank(site: Site, weight: Weight, gates: Act | None, experts: int) -> _Bank | None:
    """None where something of it is refused or not known."""
    given, cout = site.input(3), weight.cout
    if weight.codes is None or isinstance(given, Poison) or gates is None or weight.cin % max(experts, 1):
        return None
    if not isinstance(given, Const) or shape_of(given) != (cout, 1, 1, 1):
        site.note("its step of mixed weights is no constant of one number per output channel", INCONSISTENT)
        return None
    step = given.array.reshape(-1).astype(np.float64)
    scale = accumulated_scale(site, gates, weight.codes, cout)
    if scale is None:
        return None
    exponent = np.log2(step / scale)
    shift = np.rint(exponent).astype(np.int64)
    if np.any(exponent != shift) or shift.min() < 0 or shift.max() > MOST_MIX_SHIFT:
        worst = int(np.argmax((exponent != shift) | (shift < 0) | (shift > MOST_MIX_SHIFT)))
        site.note(
            f"rounds sums of kernels to {step[worst] / scale[worst]:g} of their steps (channel {worst}), expected a "
            f"power of two from 1 to 2^{MOST_MIX_SHIFT}",
            "Use scales that are powers of two.",
        )
        return None
    kh, kw = weight.kernel
    kernels = weight.codes.codes.reshape(cout, experts, -1, kh, kw).transpose(1, 3, 4, 2, 0)
    return _Bank(kernels, weight.codes.elem, shift, step)


def _gates(site: Site, i: int) -> Act | None:
    """Input i as gates."""
    gates = site.feature(i)
    if gates is not None and (gates.elem.signed or gates.elem.bits > GATE.bits):
        site.note(f"has gates of {gates.elem}, expected at most {GATE}", UNSIGNED)
        return None
    return gates


def _count(site: Site, gates: Act | None, count: int) -> None:
    if gates is not None and count and 0 not in gates.shape and gates.shape != (1, 1, count):
        h, w, c = gates.shape
        site.note(
            f"has gates of [{c},{h},{w}], expected [{count},1,1]",
            "Give it one gate for each, of the whole map.",
        )


def _held(act: Act) -> Bounds:
    return Bounds(np.full(act.shape[2], act.lo, np.int64), np.full(act.shape[2], act.hi, np.int64))


def _reach(x: Act, gates: Act) -> Array:
    """Least and largest product."""
    return np.array([min(x.lo * gates.hi, 0), max(x.hi * gates.hi, 0)], np.int64)


def _sums(site: Site, name: str, shape: tuple[int, int, int], step: float, ends: Array) -> Acc:
    channels = shape[2]
    low, high = (np.full(channels, v, np.int64) for v in ends)
    return Acc(
        name, site.where, shape, np.full(channels, step), np.zeros(channels, np.int64), reach=(low, high)
    )
