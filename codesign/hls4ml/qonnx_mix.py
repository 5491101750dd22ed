"""Nodes of codesign.channels_last for gates of whole maps and what they open, from the integer graph.

The factor of a channel carries its requantization, m * 2^(y - s - n) with s the exponent of the sums, as the weights of
a convolution do; kernels of a mixture are in steps of the mixed weights, whose codes the layer rounds:

    W = clamp(RHE(sum over k of gates[k] * bank[k], shift))   ->   w_k = bank[k] * 2^(-shift - g) * factor
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from codesign.hls4ml.parsers import CHANNELS_LAST
from codesign.ir import Array, Graph, IntType, Node
from codesign.ops import GlobalSum, Mix, MixedConv, Table

SUMS = (GlobalSum, Mix, MixedConv)  # that a Requant follows


class Writer(Protocol):
    """What of the writer of files is used here."""

    graph: Graph
    types: dict[str, Any]
    exponents: dict[str, int]
    id: dict[str, str]

    def parameter(self, name: str, codes: Array, exponent: int) -> str: ...

    def add(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str: ...


def kernels(graph: Graph, node: Node, source: Node) -> tuple[Array, int]:
    """Codes (K, kh, kw, Ci, Co) of a mixture's kernels, times the factor of each channel, on one grid; and log2 of how
    much finer than the factors' that grid is, besides the gates' own.
    """
    bank, shift = (graph.consts[name] for name in source.inputs[2:])
    factor, _ = factors(graph, node)
    finest = int(shift.max())
    return bank * (factor << (finest - shift)), finest


def factors(graph: Graph, node: Node) -> tuple[Array, Array]:
    """Factor and bias of each channel on one grid: that of the largest shift."""
    bias, mult, shift = (graph.consts[name] for name in node.inputs[1:])
    factor = mult << (int(shift.max()) - shift)
    return factor, bias * factor


def largest(graph: Graph, node: Node, source: Node) -> int:
    """Bits of the widest parameter of a layer."""
    found = [*factors(graph, node)]
    found += [kernels(graph, node, source)[0]] if isinstance(source.op, MixedConv) else []
    return max(int(abs(codes).max()).bit_length() for codes in found) + 1


def write_sums(writer: Writer, node: Node, source: Node) -> str:
    """The node that makes the sums of `source` and gives them the factors of `node`, its Requant."""
    graph, y = writer.graph, writer.id[node.name]
    exponent = writer.exponents[node.name] - int(graph.consts[node.inputs[3]].max())
    scales = [writer.exponents[name] for name in source.inputs[:2]]
    gates = 0 if isinstance(source.op, GlobalSum) else scales[1]
    inputs = [writer.id[name] for name in source.inputs[: 1 if isinstance(source.op, GlobalSum) else 2]]
    factor, bias = factors(graph, node)
    step = exponent - scales[0] - (gates if isinstance(source.op, Mix) else 0)
    attributes: dict[str, Any] = {}
    if isinstance(source.op, MixedConv):
        codes, finer = kernels(graph, node, source)
        inputs.append(writer.parameter(f"{y}_weight", codes.transpose(4, 0, 3, 1, 2), step - finer - gates))
        op = source.op
        attributes = {"bits": op.bits, "strides": op.stride, "pads": op.pads, "experts": len(codes)}
    elif isinstance(source.op, Mix):
        attributes = {"parts": source.op.parts}
    inputs += [writer.parameter(f"{y}_factor", factor, step), writer.parameter(f"{y}_bias", bias, exponent)]
    kind = {GlobalSum: "GlobalSum", Mix: "ChannelMix", MixedConv: "MixedConv"}[type(source.op)]
    return writer.add(kind, inputs, f"{y}_sums", CHANNELS_LAST, **attributes)


def write_table(writer: Writer, node: Node) -> None:
    x, values = node.inputs
    elem: IntType = writer.types[x].elem
    codes = np.arange(elem.min, elem.max + 1)
    entries = np.empty(1 << elem.bits, np.int64)
    entries[codes % len(entries)] = Table(IntType(8)).run(codes, writer.graph.consts[values])
    y = writer.id[node.name]
    table = writer.parameter(f"{y}_values", entries, writer.exponents[node.name])
    kind = {"bits": elem.bits, "signed": int(elem.signed), "exponent": writer.exponents[x]}
    writer.add("Table", [writer.id[x], table], y, CHANNELS_LAST, **kind)
