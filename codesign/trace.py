"""What every layer of a network makes of a picture, on any rung: the material of `codesign compare`.

A layer is the shortest piece of a network between two maps of known codes: a convolution with its Requant, or an
operator that only moves codes. In a float file it is an operator with the normalization and activation behind it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign import fast
from codesign.errors import ModelError
from codesign.ir import Graph, IntType, Node
from codesign.layers import title
from codesign.ops import Requant

Real = npt.NDArray[np.float32]
Values = dict[str, Real]
WEIGHTED = ("Conv", "DwConv", "DeformDwConv", "SampledDwConv", "VariedDwConv")


@dataclass(frozen=True)
class Grid:
    """Codes of a map: value = code * scale, code in lo..hi, held in `elem`."""

    scale: float
    lo: int
    hi: int
    elem: IntType

    def codes(self, real: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The nearest codes of real values."""
        return np.rint(np.asarray(real, np.float64) / self.scale).clip(self.lo, self.hi).astype(np.int64)

    def real(self, codes: npt.NDArray[Any]) -> Real:
        return (np.asarray(codes, np.float64) * self.scale).astype(np.float32)  # exact: at most 24 bits


READING = "codesign.pixels"  # key of the metadata
PICTURE = Grid(2.0**-7, -128, 127, IntType(8))  # (pixel - 128) / 128


@dataclass(frozen=True)
class Reading:
    """How a float network wants the picture that its quantized file takes as (pixel - 128) / 128.

    (pixel / 255 - mean) / std, with mean and std of red, green and blue; `bgr`: blue first. A network of one channel
    reads the mean of the three.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool

    @classmethod
    def from_meta(cls, meta: Mapping[str, str]) -> Reading | None:
        """From the text that `codesign quantize` leaves in a file. Raises ModelError if it is damaged."""
        if READING not in meta:
            return None
        try:
            found = json.loads(meta[READING])
            mean, std = (tuple(float(v) for v in np.resize(found[key], 3)) for key in ("mean", "std"))
            return cls(mean, std, bool(found["bgr"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"metadata {READING!r} is not understood ({type(error).__name__}: {error}), expected mean, std and "
                "bgr. Quantize the model again."
            ) from None

    def apply(self, image: Real, channels: int) -> Real:
        """(N, H, W, 3) of a quantized file as (N, H, W, channels) of its float parent."""
        share = (np.asarray(image, np.float64) * 128 + 128) / 255
        if channels == 1:
            mean: Real = ((share.mean(axis=3, keepdims=True) - self.mean[0]) / self.std[0]).astype(np.float32)
            return mean
        share = (share - self.mean) / self.std
        return np.ascontiguousarray(share[..., ::-1] if self.bgr else share, np.float32)


@dataclass(frozen=True)
class Layer:
    """`value` is the name of what it makes, `inputs` of the maps that it reads; `body` is empty in a float file."""

    name: str
    op: str  # "Conv 3x3/4", "Concat"
    value: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]  # (H, W, C)
    body: tuple[Node, ...] = ()

    @property
    def computes(self) -> bool:
        """Whether it makes new numbers, rather than moving or choosing some."""
        return any(isinstance(node.op, Requant) for node in self.body)

    @property
    def kind(self) -> str:
        """What it is matched by where names differ: all that have weights are one kind."""
        first = self.op.split()[0]
        return "weights" if first in WEIGHTED else first


@dataclass(frozen=True)
class Clipped:
    """Values of a layer that its Requant cut off, before they became its lowest and its highest code."""

    below: int
    above: int


@dataclass(frozen=True)
class Tracer:
    """One side of a comparison. `run` takes real inputs (N, H, W, C) and gives every value it can see.

    `graph` and `grids` (of each map of the graph) are absent for a float file.
    """

    where: str
    rung: str
    digest: str  # of the model file
    layers: tuple[Layer, ...]
    inputs: Mapping[str, tuple[int, ...]]
    run: Callable[[Mapping[str, Real]], Values]
    graph: Graph | None = None
    grids: Mapping[str, Grid] = field(default_factory=dict)
    reading: Reading | None = None  # of a quantized file: how its float parent reads the same picture

    @property
    def title(self) -> str:
        return f"{self.where}@{self.rung}"

    def apply(self, layer: Layer, inputs: Mapping[str, Real]) -> tuple[Real, Clipped | None]:
        """One layer of a quantized side in integers, on real inputs by name, rounded to the codes that it reads."""
        assert self.graph is not None and layer.body
        values: dict[str, Any] = {name: self.grids[name].codes(real) for name, real in inputs.items()}
        clipped = None
        for node in layer.body:
            if isinstance(node.op, Requant):
                clipped = _clipped(self.graph, node, values[node.inputs[0]])
            kernel = self._kernels.get(node.name)
            if kernel is not None:
                values[node.name] = kernel(*(values[s] for s in node.inputs if s in values))
            else:
                values[node.name] = node.op.run(
                    *(
                        np.asarray(values[s], np.int64) if s in values else self.graph.consts[s]
                        for s in node.inputs
                    )
                )
        return self.grids[layer.value].real(values[layer.value]), clipped

    @cached_property
    def _kernels(self) -> Mapping[str, Any]:
        assert self.graph is not None
        return fast.kernels(self.graph)


def _clipped(graph: Graph, node: Node, sums: npt.NDArray[Any]) -> Clipped:
    assert isinstance(node.op, Requant)
    free = node.op.free(np.asarray(sums, np.int64), *(graph.consts[s] for s in node.inputs[1:]))
    return Clipped(int(np.count_nonzero(free < node.op.lo)), int(np.count_nonzero(free > node.op.hi)))


def input_grid(a: Tracer, b: Tracer, index: int) -> Grid:
    """Codes of the input of this number: A's or, where A is a float file, B's; else those of a picture."""
    for side in (a, b):
        if side.graph is not None and index < len(side.inputs):
            return side.grids[list(side.inputs)[index]]
    return PICTURE


def layers_of(graph: Graph, grids: Mapping[str, Grid]) -> tuple[Layer, ...]:
    """Every map of known codes that a node makes, with the nodes between it and the maps that it is made of."""
    nodes, types = {node.name: node for node in graph.nodes}, graph.types()
    found = []
    for node in graph.nodes:
        if node.name not in grids:
            continue
        body, inputs, todo = list[Node](), dict[str, None](), [node.name]
        while todo:
            name = todo.pop()
            if name in graph.consts:
                continue
            if name in grids and name != node.name:
                inputs[name] = None
            elif nodes[name] not in body:
                body.append(nodes[name])
                todo += reversed(nodes[name].inputs)
        body.sort(key=graph.nodes.index)
        first = body[0]
        found.append(
            Layer(
                first.name.removesuffix(".phases"),
                title(graph, first),
                node.name,
                tuple(inputs),
                types[node.name].shape,
                tuple(body),
            )
        )
    return tuple(found)


def nhwc(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(N, C, H, W), or (N, C) of a matrix product, as (N, H, W, C)."""
    if array.ndim == 2:
        array = array[:, :, None, None]
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))
