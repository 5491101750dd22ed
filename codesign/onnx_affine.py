"""Import patterns of what multiplies and shifts the channels of a convolution's result: norms, Mul, Div, Sub."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codesign.onnx_conv import shape_of, shifted
from codesign.onnx_deform import offset_arithmetic
from codesign.onnx_mix import gated
from codesign.onnx_site import INCONSISTENT, Site, constant_like
from codesign.onnx_values import REFUSED, Acc, Codes, Const, Floats, Poison, Refused, Unknown, Value


def batch_norm(site: Site) -> Value:
    """(x - mean) * scale / sqrt(variance + epsilon) + shift, of a convolution's result."""
    value = site.input(0)
    if site.whole("training_mode", 0):
        site.note("is in training mode", "Export the network in evaluation mode.")
    if isinstance(value, Poison) and not value.constant:
        site.check()
        raise Unknown
    if not isinstance(value, Acc):
        site.note(
            "normalizes something that no convolution made", "Put it between a convolution and its quantizer."
        )
    site.check()
    assert isinstance(value, Acc)
    site.guess = replace(value, node=REFUSED)
    tables = [site.const(i) for i in (1, 2, 3, 4)]
    channels = value.shape[2]
    if any(t is None or t.size != channels for t in tables) and channels:
        raise Refused(f"has parameters that are not {channels} numbers", INCONSISTENT)
    scale, shift, mean, variance = (np.asarray(t, np.float64).reshape(-1) for t in tables)
    under = variance + site.real("epsilon", 1e-5)
    if np.any(under <= 0):
        raise Refused("has a variance that is not positive", INCONSISTENT)
    factor = scale / np.sqrt(under)
    return _affine(value, factor, shift - mean * factor)


def arithmetic(site: Site) -> Value:
    """Mul, Div or Sub of a convolution's result and a constant per channel; else arithmetic on offsets."""
    op, a, b = site.node.op_type, site.input(0), site.input(1)
    if op == "Mul" and (found := gated(site)) is not None:
        return found
    swapped = isinstance(b, Acc)
    value, constant = (b, a) if swapped else (a, b)
    if not isinstance(value, Acc) or constant is None or not constant_like(constant):
        if op == "Div":
            raise Refused(
                "is element-wise arithmetic on feature maps", "Leave it out, or fold it into a convolution."
            )
        return offset_arithmetic(site)
    site.guess = replace(value, node=REFUSED)
    if isinstance(constant, Poison):
        raise Unknown
    table = _by_channel(constant, value)
    one, none = np.ones_like(table), np.zeros_like(table)
    if op == "Div" and (swapped or np.any(table == 0)):
        raise Refused("divides by a map or by 0", "Leave it out.")
    factor, shift = {
        "Mul": (table, none),
        "Div": (1 / np.where(table == 0, 1, table), none),
        "Sub": (-one, table) if swapped else (one, -table),
    }[op]
    return _affine(value, factor, shift)


def _by_channel(constant: Value, acc: Acc) -> Floats:
    """A constant as numbers (C,)."""
    if isinstance(constant, Codes):
        real: Floats = np.asarray(constant.codes * constant.scale, np.float64)
    else:
        assert isinstance(constant, Const)
        real = constant.array.astype(np.float64)
    shape, channels = shape_of(constant), acc.shape[2]
    per_map = real.size == 1 or (acc.flat and shape[-1:] == (channels,)) or shape[-3:] == (channels, 1, 1)
    if not per_map or real.size not in (1, channels):
        raise Refused(
            f"has a constant of shape {list(shape)} for {channels} channels, expected one number a channel",
            "Only what is one number a channel can be folded.",
        )
    return np.broadcast_to(real.reshape(-1), (channels,))


def _affine(acc: Acc, factor: Floats, shift: Floats) -> Acc:
    """The accumulator times `factor` plus `shift`, both (C,)."""
    if acc.node == REFUSED:
        raise Unknown
    if (acc.low, acc.high) != (-np.inf, np.inf):
        alike = len(set(factor)) == 1 or (acc.low in (0, -np.inf) and acc.high == np.inf)
        if np.any(shift != 0) or np.any(factor <= 0) or not alike:
            raise Refused("changes what a ReLU or Clip limits", "Put it before them, or quantize between.")
        scaled = replace(acc, low=acc.low * factor[0], high=acc.high * factor[0], scale=acc.scale * factor)
        return replace(scaled, shift=None if acc.shift is None else acc.shift * factor)
    before = None if acc.shift is None else acc.shift * factor
    return shifted(replace(acc, scale=acc.scale * factor, shift=before), shift)
