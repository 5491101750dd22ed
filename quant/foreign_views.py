"""Operators of a foreign float file that move values, and what all windows share: strides and pads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.float_net import Layer
from quant.foreign_site import Site, Tensor, Unsupported, Value


def max_pool(site: Site) -> Value:
    x, kernel = site.tensor(), [int(v) for v in site.attrs["kernel_shape"]]
    strides, ceil = pair(site, "strides"), int(site.attrs.get("ceil_mode", 0))
    pads = pads_of(site, x, (kernel[0], kernel[1]), strides)
    out = [(x.shape[1 + i] + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i in (0, 1)]
    for i in (0, 1):
        end, start = x.shape[1 + i] + pads[i], out[i] * strides[i]
        if (
            ceil and (end + pads[i + 2] - kernel[i]) % strides[i] and start < end
        ):  # one more window begins on the map
            pads[i + 2] = start + kernel[i] - end
            out[i] += 1
    attrs = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    return _moved(site, [x], attrs, {}, (x.shape[0], *out))[0]


def resize(site: Site) -> Value:
    x = site.tensor()
    mode = site.text("mode", "nearest")
    upsample = site.node.op_type == "Upsample"
    scales = site.array(1 if upsample or len(site.inputs) == 2 else 2, "scale")
    sizes = site.array(3, "size") if len(site.inputs) > 3 else None
    if sizes is not None and sizes.size == 4:
        scales = sizes / np.array([1, *x.shape])
    if mode != "nearest" or scales is None or scales.tolist() != [1, 1, 2, 2]:
        shown = "unknown factors" if scales is None else ",".join(f"{v:g}" for v in scales)
        raise Unsupported(f"has mode {mode} and factors {shown}, expected nearest 1,1,2,2", "Upsample so.")
    attrs = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    extra: dict[int, NDArray[Any]] = {1: np.zeros(0, np.float32), 2: np.array([1, 1, 2, 2], np.float32)}
    return _moved(site, [x], attrs, extra, (x.shape[0], 2 * x.shape[1], 2 * x.shape[2]), op="Resize")[0]


def concat(site: Site) -> Value:
    parts = [site.tensor(i) for i in range(len(site.inputs))]
    if int(site.attrs.get("axis", 1)) not in (1, -3):
        raise Unsupported("joins another axis than channels", "Join channels.")
    shape = (sum(p.shape[0] for p in parts), *parts[0].shape[1:])
    return _moved(site, parts, {"axis": 1}, {}, shape)[0]


def depth_to_space(site: Site) -> Value:
    x, block = site.tensor(), int(site.attrs.get("blocksize", 0))
    if block != 2:
        raise Unsupported(f"has blocksize {block}, expected 2", "Use a block of 2x2 pixels.")
    shape = (x.shape[0] // 4, 2 * x.shape[1], 2 * x.shape[2])
    return _moved(site, [x], {"blocksize": 2, "mode": site.text("mode", "DCR")}, {}, shape)[0]


def _moved(
    site: Site,
    x: list[Tensor],
    attrs: dict[str, Any],
    extra: dict[int, NDArray[Any]],
    *shapes: tuple[int, ...],
    op: str | None = None,
) -> list[Value]:
    layer = Layer(
        op or site.node.op_type, site.name, [t.name for t in x], list(site.node.output), attrs, extra=extra
    )
    return site.reader.add(layer, *shapes)


def flatten(site: Site) -> Value:
    """One row of numbers an image, in the order channel, row, column."""
    value = site.inputs[0]
    assert isinstance(value, Tensor)
    if site.node.op_type == "Reshape":
        dims = [int(v) for v in site.needed(1, "shape").reshape(-1)]
        total = int(np.prod(value.shape))
        if len(dims) != 2 or (dims[1] not in (-1, total)):
            raise Unsupported(
                f"changes {list(value.shape)} into {dims}", "Only all of a map can become a row."
            )
    elif site.node.op_type == "Flatten" and int(site.attrs.get("axis", 1)) != 1:
        raise Unsupported("flattens another axis than 1", "Flatten all of an image.")
    elif site.node.op_type == "Squeeze" and value.shape[1:] != (1, 1):
        raise Unsupported("takes an axis away that is not of size 1", "Flatten instead.")
    return Tensor(value.name, value.shape)


def pair(site: Site, name: str, default: int = 1) -> list[int]:
    return [int(v) for v in site.attrs.get(name, [default] * 2)]


def pads_of(site: Site, x: Tensor, kernel: tuple[int, int], strides: list[int]) -> list[int]:
    auto = site.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        need = [
            max((-(-x.shape[1 + i] // strides[i]) - 1) * strides[i] + kernel[i] - x.shape[1 + i], 0)
            for i in (0, 1)
        ]
        less, more = [n // 2 for n in need], [n - n // 2 for n in need]
        return [*less, *more] if auto == "SAME_UPPER" else [*more, *less]
    return [0] * 4 if auto == "VALID" else [int(v) for v in site.attrs.get("pads", [0] * 4)]
