"""Faster kernels for `evaluate`: the same integers, carried in floating point where that is proven exact.

A float32 holds every integer up to 2^24 and a float64 up to 2^53. A node runs in the narrower one that
holds each of its partial sums (from `Graph.bounds`, hence from the weights and never from the data), so
BLAS may add in any order and fuse what it likes. Anything wider falls back to the operator's int64 `run`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.ir import Array, Bounds, Graph, Node
from codesign.ops import (
    Add,
    Concat,
    Conv,
    DeformDwConv,
    DepthToSpace,
    DwConv,
    GlobalSum,
    MaxPool,
    Mix,
    MixedConv,
    Pick,
    Requant,
    SampledDwConv,
    Select,
    Shuffle,
    Slice,
    Table,
    Upsample,
    VariedDwConv,
    WideRequant,
)
from codesign.ops.op import taps
from codesign.ops.table import ENTRIES

Carried = npt.NDArray[Any]  # integers, in float32, float64 or an integer type
Kernel = Callable[..., Carried]
EXACT = ((np.float32, 24), (np.float64, 53))


def kernels(graph: Graph) -> dict[str, Kernel]:
    """By node name: a function of the node's feature inputs. Nodes not listed must use `op.run`."""
    bounds = graph.bounds()
    found = {node.name: _kernel(graph, node, bounds) for node in graph.nodes}
    return {name: kernel for name, kernel in found.items() if kernel is not None}


def exact_float(*bounds: Bounds) -> type[Any] | None:
    """Narrowest float type that holds every integer within the bounds, or None."""
    largest = max(max(abs(int(b.low.min())), abs(int(b.high.max()))) for b in bounds)
    return next((float_ for float_, bits in EXACT if largest < 1 << bits), None)


def _kernel(graph: Graph, node: Node, bounds: dict[str, Bounds]) -> Kernel | None:
    op, consts = node.op, [graph.consts[s] for s in node.inputs if s in graph.consts]
    carrier = exact_float(bounds[node.name], *(bounds[s] for s in node.inputs if s in bounds))
    if carrier is None:
        return None
    match op:
        case Upsample() | Concat() | Slice() | DepthToSpace() | Select():
            return op.run
        case Add():
            return _add(op, carrier)
        case Shuffle():
            return _shuffle(op)
        case MaxPool():
            return _maxpool(op, carrier)
        case Conv() if len(consts) == 1:
            return _conv(op, consts[0], carrier)
        case DwConv() if len(consts) == 1:
            return _dwconv(op, consts[0], carrier)
        case DeformDwConv() if len(consts) == 1:
            return _deform(op, consts[0], carrier)
        case SampledDwConv() if len(consts) == 1:
            return _sampled(op, consts[0], carrier)
        case VariedDwConv() if len(consts) == 1:
            return _varied(op, consts[0], carrier)
        case GlobalSum():
            return _global_sum(carrier)
        case Mix() | Pick():
            return _mix(op, carrier)
        case MixedConv() if len(consts) == 2:
            return _mixed_conv(op, bounds[node.inputs[1]], consts[0], consts[1], carrier)
        case Table() if len(consts) == 1:
            return _table(consts[0], carrier)
        case WideRequant() if len(consts) == 4:
            return lambda x: op.run(np.asarray(x, np.int64), *consts)
        case Requant() if len(consts) == 3:
            return _requant(op, bounds[node.inputs[0]], *consts)
    return None


def _add(op: Add, carrier: type[Any]) -> Kernel:
    left, right = carrier(1 << op.left), carrier(1 << op.right)

    def run(a: Carried, b: Carried) -> Carried:
        out: Carried = a.astype(carrier, copy=False) * left
        out += b.astype(carrier, copy=False) * right
        return out

    return run


def _shuffle(op: Shuffle) -> Kernel:
    def run(x: Carried) -> Carried:
        split = x.reshape(*x.shape[:-1], op.groups, -1)
        return split.swapaxes(-1, -2).reshape(x.shape)

    return run


def _maxpool(op: MaxPool, carrier: type[Any]) -> Kernel:
    def run(x: Carried) -> Carried:
        parts = taps(x.astype(carrier, copy=False), op.kernel, op.stride, op.pads, fill=-np.inf)
        out: Carried = parts[0].copy()
        for part in parts[1:]:
            np.maximum(out, part, out=out)
        return out

    return run


def _conv(op: Conv, weight: Array, carrier: type[Any]) -> Kernel:
    table = weight.reshape(-1, weight.shape[-1]).astype(carrier)

    def run(x: Carried) -> Carried:
        x = x.astype(carrier, copy=False)
        parts = [x] if op == Conv() else taps(x, op.kernel, op.stride, op.pads, fill=0)
        columns = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=3)
        n, h, w, k = columns.shape
        acc: Carried = columns.reshape(-1, k) @ table
        return acc.reshape(n, h, w, -1)

    return run


def _weighted_sum(parts: Any, weight: Carried) -> Carried:
    """Sum over the taps of part * weight[tap], without a temporary per tap."""
    tables = iter(zip(parts, weight, strict=True))
    first, w = next(tables)
    out: Carried = first * w
    product = np.empty_like(out)
    for part, w in tables:
        out += np.multiply(part, w, out=product)
    return out


def _dwconv(op: DwConv, weight: Array, carrier: type[Any]) -> Kernel:
    table = weight.reshape(-1, weight.shape[-1]).astype(carrier)

    def run(x: Carried) -> Carried:
        return _weighted_sum(taps(x.astype(carrier, copy=False), op.kernel, op.stride, op.pads, 0), table)

    return run


def _deform(op: DeformDwConv, weight: Array, carrier: type[Any]) -> Kernel:
    table, reach = weight.reshape(9, -1).astype(carrier), op.max_offset

    def run(x: Carried, d: Carried) -> Carried:
        (n, h, w, c), (_, oh, ow, _) = x.shape, d.shape
        margin = ((0, 0), (reach, reach), (reach, reach), (0, 0))
        rows = np.pad(x.astype(carrier, copy=False), margin).reshape(-1, c)
        width, height = w + 2 * reach, h + 2 * reach
        image = np.arange(n)[:, None, None] * (height * width)
        centre = (
            (np.arange(oh)[:, None] * op.stride[0] + reach) * width + np.arange(ow) * op.stride[1] + reach
        )
        d = d[..., 0].astype(np.int64)
        parts = (rows[image + centre + (i * width + j) * d] for i in (-1, 0, 1) for j in (-1, 0, 1))
        return _weighted_sum(parts, table)

    return run


def _sampled(op: SampledDwConv, weight: Array, carrier: type[Any]) -> Kernel:
    table, reach = weight.reshape(op.count, -1).astype(carrier), op.max_offset + max(op.kernel) // 2 + 1

    def run(x: Carried, samples: Carried) -> Carried:
        n, h, w, c = x.shape
        rows = np.pad(x.astype(carrier, copy=False), ((0, 0), (reach, reach), (reach, reach), (0, 0)))
        rows, width, height = rows.reshape(-1, c), w + 2 * reach, h + 2 * reach
        image = np.arange(n)[:, None, None] * (height * width)
        offsets, masks = op.limited(np.asarray(samples, np.int64))
        parts = (
            rows[image + (row + reach) * width + col + reach]
            * (share * masks[..., tap])[..., None].astype(carrier)
            for tap in range(op.count)
            for row, col, share in op.corners(offsets, tap, (h, w))
        )
        return _weighted_sum(parts, table.repeat(4, axis=0))

    return run


def _varied(op: VariedDwConv, weight: Array, carrier: type[Any]) -> Kernel:
    table = np.moveaxis(weight.astype(carrier), 2, 0)

    def run(x: Carried) -> Carried:
        return _weighted_sum(taps(x.astype(carrier, copy=False), (3, 3), op.stride, (1, 1, 1, 1), 0), table)

    return run


def _global_sum(carrier: type[Any]) -> Kernel:
    def run(x: Carried) -> Carried:
        total: Carried = x.sum(axis=(1, 2), keepdims=True, dtype=carrier)
        return total

    return run


def _mix(op: Mix | Pick, carrier: type[Any]) -> Kernel:
    def run(x: Carried, gates: Carried) -> Carried:
        return op.run(x.astype(carrier, copy=False), gates.astype(carrier, copy=False))

    return run


def _mixed_conv(op: MixedConv, gates: Bounds, bank: Array, shift: Array, carrier: type[Any]) -> Kernel | None:
    """Weights of each image, and one matrix product an image."""
    mixing = exact_float(op.sums(gates, bank))
    if mixing is None:
        return None
    table = bank.reshape(len(bank), -1).astype(mixing)
    factor = np.ldexp(np.ones(len(shift), mixing), -shift).astype(mixing)

    def run(x: Carried, g: Carried) -> Carried:
        weights = (g.reshape(-1, len(bank)).astype(mixing, copy=False) @ table).reshape(
            len(x), -1, bank.shape[4]
        )
        weights = np.rint(weights * factor).clip(-op.most, op.most).astype(carrier)
        columns = np.concatenate(
            taps(x.astype(carrier, copy=False), op.kernel, op.stride, op.pads, 0), axis=3
        )
        n, h, w, k = columns.shape
        acc: Carried = (columns.reshape(n, -1, k) @ weights).reshape(n, h, w, -1)
        return acc

    return run


def _table(values: Array, carrier: type[Any]) -> Kernel:
    entries = values.astype(carrier)

    def run(x: Carried) -> Carried:
        found: Carried = entries[x.astype(np.int64, copy=False) & (ENTRIES - 1)]
        return found

    return run


def _requant(op: Requant, acc: Bounds, bias: Array, mult: Array, shift: Array) -> Kernel | None:
    biased = Bounds(acc.low + bias, acc.high + bias)
    product = Bounds(biased.low * mult, biased.high * mult)
    limits = Bounds(np.array([op.lo]), np.array([op.hi]))
    carrier = exact_float(acc, Bounds(bias, bias), biased, product, limits)
    if carrier is None:
        return None
    # P * 2^-shift is P with another exponent, hence exact; rint rounds ties to even.
    offset, factor = bias.astype(carrier), np.ldexp(mult.astype(carrier), -shift).astype(carrier)

    def run(x: Carried) -> Carried:
        out: Carried = np.add(x, offset, dtype=carrier)
        out *= factor
        np.rint(out, out=out)
        np.maximum(out, op.lo, out=out)
        np.minimum(out, op.hi, out=out)
        return out

    return run
