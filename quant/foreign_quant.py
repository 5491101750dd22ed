"""Quantizers of a foreign file: parameters are computed, and maps keep their limits, while their steps become ours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from quant.foreign_site import Limits, Site, Tensor, Unsupported, Value

TYPES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 21: "uint4", 22: "int4"}  # TensorProto.DataType
REPLACED = "the quantizers of its maps are replaced by others"


def quant(site: Site) -> Value:
    """QONNX's Quant."""
    scale, zero, width = (site.needed(i).astype(np.float64) for i in (1, 2, 3))
    signed, narrow = int(site.attrs.get("signed", 1)), int(site.attrs.get("narrow", 0))
    if np.any(zero) or width.size != 1:
        raise Unsupported("has a zero point or several bit widths", "Quantize symmetrically.")
    bits = float(width.reshape(-1)[0])
    high = 2 ** (bits - signed) - 1 - (0 if signed else narrow)
    low = -(2 ** (bits - 1)) + narrow if signed else 0.0
    x = site.inputs[0]
    if not isinstance(x, Tensor):
        assert x is not None
        return np.clip(np.rint(x / scale), low, high) * scale
    if scale.size != 1:
        raise Unsupported("has several scales for one map", "Quantize maps by one scale.")
    step = float(scale.reshape(-1)[0])
    return _limited(site, low * step, high * step)


def quantize_linear(site: Site) -> Value:
    """The map within the limits of its codes; the codes themselves are those of its DequantizeLinear."""
    scale, zero = site.needed(1, "scale"), site.array(2, "zero point")
    if scale.size != 1 or (zero is not None and zero.size != 1):
        raise Unsupported("has several scales for one map", "Quantize maps by one scale.")
    said = TYPES.get(int(site.attrs.get("output_dtype", 0)) or 2, "") if zero is None else str(zero.dtype)
    if not said.lstrip("u").startswith("int"):
        raise Unsupported(f"makes {said or 'other'} codes, expected integers", "Quantize to int8 or uint8.")
    bits, signed = int(said.lstrip("uint")), said.startswith("int")
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    codes = Limits(float(scale.reshape(-1)[0]), 0.0 if zero is None else float(zero.reshape(-1)[0]))
    result = _limited(site, codes.real(low), codes.real(high))
    return replace(result, codes=codes) if isinstance(result, Tensor) else result


def dequantize_linear(site: Site) -> Value:
    x = site.inputs[0]
    if not isinstance(x, Tensor) or x.codes is None:
        raise Unsupported("reads something that no QuantizeLinear made", "Export the file again.")
    return replace(x, codes=None)


def _limited(site: Site, low: float, high: float) -> Value:
    from quant.foreign_ops import clipped

    if REPLACED not in site.reader.notes:
        site.reader.notes.append(REPLACED)
    x = site.inputs[0]
    return x if x == site.reader.input else clipped(site, low, high)
