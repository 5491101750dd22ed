"""Depthwise windows that look, or weigh, differently at every pixel, in standard ONNX: beside onnx_write.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from codesign.errors import TypeMismatch
from codesign.fast import exact_float
from codesign.ir import Node
from codesign.ops import SampledDwConv, VariedDwConv

if TYPE_CHECKING:
    from codesign.onnx_write import Writer


def sampled(writer: Writer, node: Node, op: SampledDwConv) -> None:
    """In float64 where float32 is not proven exact. The shares of four neighbours are made whole by x * G^2."""
    x, samples, weight = node.inputs
    narrow = exact_float(writer.bounds[node.name]) is np.float32
    float_: type[Any] = np.float32 if narrow else np.float64

    def constant(part: str, values: Any) -> str:
        return writer.const(f"{node.name}.{part}", np.array(values, float_))

    def limited(part: str, first: int, last: int, low: int, high: int) -> str:
        places = map(writer.ints, (first, last, 1))
        taken = writer.add("Slice", [samples, *places], f"{node.name}.{part}.taken")
        if not narrow:
            taken = writer.add("Cast", [taken], f"{taken}.double", to=TensorProto.DOUBLE)
        ends = [constant(f"{part}.{v}", v) for v in (low, high)]
        return writer.add("Clip", [taken, *ends], f"{node.name}.{part}")

    (height, width, group), (kh, kw), last = writer.types[x].shape, op.kernel, 2 * op.count
    masks = [limited("masks", op.offsets, op.channels, op.mask_low, op.mask_high)] if op.masked else []
    steps = (
        writer.add("Concat", 2 * masks, f"{node.name}.twice", axis=1)
        if op.still
        else limited("offsets", 0, last, -op.limit, op.limit)
    )
    step = constant("step", 0 if op.still else 2.0**-op.grid)
    pixels = writer.add("Mul", [steps, step], f"{node.name}.pixels")
    if op.border:
        own = constant("own", _own_places(op, writer.types[samples].shape[:2]))
        end = constant("last", np.resize([height - 1, width - 1], (1, last, 1, 1)))
        place = writer.add("Add", [pixels, own], f"{node.name}.place")
        place = writer.add("Max", [place, constant("first", 0)], f"{node.name}.place.from")
        place = writer.add("Min", [place, end], f"{node.name}.place.to")
        pixels = writer.add("Sub", [place, own], f"{node.name}.inside")
    table = (writer.graph.consts[weight] << 2 * op.grid).transpose(2, 0, 1)[:, None].astype(float_)
    inputs = [
        x if narrow else writer.add("Cast", [x], f"{node.name}.x", to=TensorProto.DOUBLE),
        writer.const(weight, table),
        pixels,
    ]
    inputs += ["", *masks] if masks else []
    window = {"kernel_shape": op.kernel, "strides": op.stride, "pads": [kh // 2, kw // 2] * 2}
    writer.add("DeformConv", inputs, node.name, group=group, offset_group=1, **window)
    writer.double |= set() if narrow else {node.name}


def varied(writer: Writer, node: Node, op: VariedDwConv) -> None:
    """Nine products of parts of the map with constant maps."""
    x, weight = node.inputs
    if exact_float(writer.bounds[node.name]) is not np.float32:
        raise TypeMismatch(f"{node.name}: sums beyond 2^24, expected 8-bit inputs")
    sides = writer.types[node.name].shape[:2]
    padded = writer.add("Pad", [x, writer.ints(0, 0, 1, 1, 0, 0, 1, 1)], f"{node.name}.padded")
    products = []
    for k in range(9):
        table = writer.graph.consts[weight][:, :, k].transpose(2, 0, 1)[None].astype(np.float32)
        first = (k // 3, k % 3)
        last = [f + (side - 1) * s + 1 for f, side, s in zip(first, sides, op.stride, strict=True)]
        places = [writer.ints(*values) for values in (first, last, (2, 3), op.stride)]
        part = writer.add("Slice", [padded, *places], f"{node.name}.part{k}")
        factor = writer.const(f"{weight}.tap{k}", table)
        products.append(writer.add("Mul", [part, factor], f"{node.name}.product{k}"))
    writer.add("Sum", products, node.name)


def _own_places(op: SampledDwConv, size: tuple[int, ...]) -> npt.NDArray[Any]:
    """Where the taps of each pixel look with no offset: (1, 2K, H', W'), rows before columns."""
    kh, kw = op.kernel
    rows, columns = (np.arange(side) * step for side, step in zip(size, op.stride, strict=True))
    places = [
        part
        for k in range(op.count)
        for part in (
            np.broadcast_to(rows[:, None] + k // kw - kh // 2, size),
            np.broadcast_to(columns + k % kw - kw // 2, size),
        )
    ]
    return np.stack(places)[None]
