"""The integer graph: what the hardware computes, and nothing else.

No floating point inside, no ONNX, no HLS. A graph is immutable; a pass is a function Graph -> Graph.
Shapes are (H, W, C) per image; arrays of feature maps carry the batch in front: (N, H, W, C).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import frexp
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codesign.errors import CodesignError, TypeMismatch

if TYPE_CHECKING:
    from codesign.ops.op import Op

Array = npt.NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class IntType:
    """Two's-complement (or unsigned) integer of `bits` bits."""

    bits: int
    signed: bool = True

    @property
    def min(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        return (1 << (self.bits - self.signed)) - 1

    def __repr__(self) -> str:
        return f"{'i' if self.signed else 'u'}{self.bits}"

    @classmethod
    def holding(cls, low: int, high: int) -> IntType:
        """Narrowest type that holds every integer in [low, high]."""
        signed = low < 0
        bits = max(max(high, 0).bit_length(), (-low - 1).bit_length() if signed else 0) + signed
        return cls(max(bits, 1), signed)


@dataclass(frozen=True)
class TensorType:
    """Shape and element of a value: (H, W, C) for a feature map, as stored for a constant."""

    shape: tuple[int, ...]
    elem: IntType

    def __str__(self) -> str:
        return f"{self.elem}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Bounds:
    """What is proven of a feature map: channel c lies in [low[c], high[c]]."""

    low: Array
    high: Array

    @property
    def elem(self) -> IntType:
        """Narrowest type of the whole map."""
        return IntType.holding(int(self.low.min()), int(self.high.max()))


@dataclass(frozen=True)
class Node:
    """`name = op(inputs...)`. A node's name is also the name of its one result."""

    name: str
    op: Op
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Straight-line program: each node reads only inputs, constants and earlier nodes.

    `scales` gives the real value of 1 LSB of each graph input and output (powers of two), `meta` the
    text properties of the model file. Mappings are read-only views and constants read-only int64 arrays.
    """

    inputs: Mapping[str, TensorType]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    consts: Mapping[str, Array]
    const_types: Mapping[str, IntType]
    scales: Mapping[str, float] = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("inputs", "const_types", "scales", "meta"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        consts = {name: np.array(array, np.int64) for name, array in self.consts.items()}
        for array in consts.values():
            array.setflags(write=False)
        object.__setattr__(self, "consts", MappingProxyType(consts))

    def __reduce__(self) -> tuple[Any, ...]:
        """Read-only views do not pickle; a graph does, for use in other processes."""
        fields = (
            self.inputs,
            self.nodes,
            self.outputs,
            self.consts,
            self.const_types,
            self.scales,
            self.meta,
        )
        return Graph, tuple(dict(f) if isinstance(f, Mapping) else f for f in fields)

    def types(self) -> dict[str, TensorType]:
        """Type of every value. Raises TypeMismatch if the graph is ill-formed."""
        return dict(self._types)

    @cached_property
    def _types(self) -> dict[str, TensorType]:
        known = dict(self.inputs)
        for name, array in self.consts.items():
            elem = self.const_types[name]
            if array.size and not elem.min <= array.min() <= array.max() <= elem.max:
                raise TypeMismatch(f"{name}: holds {array.min()}..{array.max()}, expected {elem}")
            known[name] = TensorType(array.shape, elem)
        for node in self.nodes:
            if node.name in known:
                raise TypeMismatch(f"{node.name}: defined twice")
            for source in node.inputs:
                if source not in known:
                    raise TypeMismatch(f"{node.name}: reads {source!r} before it is defined")
            try:
                known[node.name] = node.op.infer(*(known[s] for s in node.inputs))
            except TypeMismatch as error:
                raise TypeMismatch(f"{node.name}: {error}") from None
        for name in self.outputs:
            if name not in known:
                raise TypeMismatch(f"{name}: is an output, but nothing defines it")
        return known

    def bounds(self) -> dict[str, Bounds]:
        """Proven range of every feature map, per channel, from the constants' values (never the data)."""
        return dict(self._bounds)

    @cached_property
    def _bounds(self) -> dict[str, Bounds]:
        types = self._types
        known: dict[str, Any] = dict(self.consts)
        for name, type_ in self.inputs.items():
            low = np.full(type_.shape[-1], type_.elem.min, np.int64)
            known[name] = Bounds(low, np.full_like(low, type_.elem.max))
        for node in self.nodes:
            try:
                known[node.name] = node.op.bounds(*(known[s] for s in node.inputs))
            except TypeMismatch as error:
                raise TypeMismatch(f"{node.name}: {error}") from None
        return {name: known[name] for name in types if name not in self.consts}

    @cached_property
    def _kernels(self) -> Mapping[str, Any]:
        from codesign import fast  # reads this module

        return fast.kernels(self)

    @cached_property
    def views(self) -> Mapping[str, Any]:
        from codesign import layout  # reads this module

        return MappingProxyType(layout.views_of(self))

    @cached_property
    def late(self) -> Any:
        """The `Late` of this graph, as the planner computes it."""
        from codesign import late  # reads this module

        return late.upsampled_late(self)

    @cached_property
    def users(self) -> Mapping[str, tuple[Node, ...]]:
        """Nodes that read each value, in order."""
        found: dict[str, list[Node]] = {name: [] for name in self._types}
        for node in self.nodes:
            for source in dict.fromkeys(node.inputs):
                found[source].append(node)
        return MappingProxyType({name: tuple(nodes) for name, nodes in found.items()})

    def __str__(self) -> str:
        types = self._types
        lines = [f"meta {k} = {v!r}" for k, v in self.meta.items()]
        lines += [f"input {name}: {type_}{self._scale(name)}" for name, type_ in self.inputs.items()]
        lines += [f"const {name}: {types[name]}" for name in self.consts]
        lines += [f"{n.name} = {n.op}({', '.join(n.inputs)}): {types[n.name]}" for n in self.nodes]
        lines += [f"output {name}: {types[name]}{self._scale(name)}" for name in self.outputs]
        return "\n".join([*lines, ""])

    def _scale(self, name: str) -> str:
        if name not in self.scales:
            return ""
        mantissa, exponent = frexp(self.scales[name])
        return f" * 2^{exponent - 1}" if mantissa == 0.5 else f" * {self.scales[name]!r}"


def evaluate(
    graph: Graph,
    feeds: Mapping[str, npt.NDArray[Any]],
    keep: Collection[str] | None = None,
    reference: bool = False,
) -> dict[str, Array]:
    """Run the graph on a batch. This defines what is correct.

    `feeds`: one integer array (N, H, W, C) per graph input. Returns the outputs and the values named in
    `keep` (`keep=graph.types()` keeps everything), as int64. With `reference` every operator runs as its
    plain int64 definition; otherwise through `codesign.fast`, which is proven and tested to be equal.
    """
    types, wanted = graph.types(), {*graph.outputs, *(keep or ())}
    values: dict[str, Any] = {}
    for name, type_ in graph.inputs.items():
        values[name] = _checked_feed(name, type_, feeds)
    if len({v.shape[0] for v in values.values()}) > 1:
        raise CodesignError(f"{', '.join(graph.inputs)}: batch sizes differ. Give each input the same N.")
    kernels: Mapping[str, Any] = {} if reference else graph._kernels
    last_use = {source: i for i, node in enumerate(graph.nodes) for source in node.inputs}
    for i, node in enumerate(graph.nodes):
        run = kernels.get(node.name)
        if run is None:
            result = node.op.run(*(np.asarray(values[s], np.int64) if s in values else graph.consts[s]
                                   for s in node.inputs))  # fmt: skip
        else:
            result = run(*(values[s] for s in node.inputs if s in values))
        type_ = types[node.name]
        assert result.shape[1:] == type_.shape, (node.name, result.shape)
        assert type_.elem.min <= result.min() and result.max() <= type_.elem.max, f"{node.name}: not {type_}"
        values[node.name] = result
        for source in node.inputs:
            if last_use[source] == i and source in values and source not in wanted:
                del values[source]
    consts = {name: graph.consts[name] for name in wanted if name in graph.consts}
    return consts | {n: np.asarray(values[n], np.int64) for n in types if n in wanted and n in values}


def _checked_feed(name: str, type_: TensorType, feeds: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    shape = f"(N,{','.join(map(str, type_.shape))})"
    if name not in feeds:
        raise CodesignError(f"{name}: no array was given, expected integers {shape}. Feed it.")
    array = np.asarray(feeds[name])
    if array.dtype.kind not in "iu" or array.ndim != 4 or array.shape[1:] != type_.shape or not array.size:
        raise CodesignError(f"{name}: is {array.dtype}{list(array.shape)}, expected integers {shape}. "
                            "Resize the image, or add the batch axis.")  # fmt: skip
    if array.min() < type_.elem.min or array.max() > type_.elem.max:
        raise CodesignError(f"{name}: holds {array.min()}..{array.max()}, expected {type_.elem}. "
                            "Pass codes (pixel - 128), not pixels.")  # fmt: skip
    return array
