"""The reading of a float ONNX file, node by node: what is known so far, and one node with its inputs resolved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from codesign.errors import ModelError, Problem
from quant.float_net import Body, Layer

STANDARD = ("", "ai.onnx", "qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
_NAMES = """Add Cast Ceil Clip Concat Constant ConstantOfShape DequantizeLinear Div Equal Expand Floor Gather Identity
    Mul Neg Pow QuantizeLinear Range Reshape Shape Slice Sqrt Squeeze Sub Transpose Unsqueeze Where"""
FOLDABLE = frozenset(_NAMES.split())
IMAGE = "image"


@dataclass(frozen=True)
class Pixels:
    """How the network wants pixels 0..255: (pixel / 255 - mean) / std by channel. Mean and std are those of red,
    green and blue; `bgr` says that the network reads blue first."""

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    bgr: bool = False

    def within(self, low: float, high: float) -> bool:
        """Whether no pixel is beyond these limits as the network reads it."""
        ends = [(v - m) / s for m, s in zip(self.mean, self.std, strict=True) for v in (0, 1)]
        return low <= min(ends) and max(ends) <= high

    def affine(self, channels: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Network input n = sum over rgb c of mix[n, c] * (factor[n] * image[c] + shift[n]), image = (pixel-128)/128.

        A network of one channel reads the mean of the three.
        """
        mean, std = (np.resize(np.asarray(v, np.float64), channels) for v in (self.mean, self.std))
        if self.bgr:
            mean, std = mean[::-1], std[::-1]
        mix = np.eye(3)[:, ::-1] if self.bgr else np.eye(3)
        mix = np.full((1, 3), 1 / 3) if channels == 1 else mix
        return mix, 128 / (255 * std), (128 / 255 - mean) / std


@dataclass(frozen=True)
class Limits:
    """Codes of a quantizer: real value = (code - zero) * scale."""

    scale: float
    zero: float

    def real(self, code: float) -> float:
        return (code - self.zero) * self.scale


@dataclass(frozen=True)
class Tensor:
    """A tensor that is computed while the network runs: its name, and its shape without the batch."""

    name: str
    shape: tuple[int, ...]
    codes: Limits | None = None  # of a QuantizeLinear's result: what its codes stand for


Value = NDArray[Any] | Tensor | None


class Unsupported(Exception):
    """Why a node has no place, and what to do. Becomes a Problem."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


class Unknown(Exception):
    """The node depends on one that was refused."""


class Reader:
    """The state of one reading."""

    def __init__(
        self, where: str, model: onnx.ModelProto, pixels: Pixels, size: tuple[int, int] | None
    ) -> None:
        self.where, self.model, self.pixels = where, model, pixels
        self.opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.env: dict[str, Value] = {}
        self.refused: set[str] = set()
        self.layers: list[Layer] = []
        self.maker: dict[str, Layer] = {}
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.taken: set[str] = set()
        self.curves: Mapping[str, Body] = {}
        graph = model.graph
        self.reads = Counter(name for node in graph.node for name in node.input)
        self.reads.update(info.name for info in graph.output)
        for tensor in graph.initializer:
            self.env[tensor.name] = numpy_helper.to_array(tensor)
        given = [info for info in graph.input if info.name not in self.env]
        if len(given) != 1:
            names = ", ".join(info.name for info in given)
            raise ModelError(f"{where}: its inputs are {names or 'none'}, expected one image. Export it so.")
        dims = [d.dim_value for d in given[0].type.tensor_type.shape.dim]
        if len(dims) != 4 or dims[1] not in (1, 3):
            shown = ",".join(str(d or "?") for d in dims)
            raise ModelError(
                f"{where}: its input {given[0].name} has the shape [{shown}], expected N,C,H,W with 1 or 3 "
                "channels. Export the network on images."
            )
        height, width = size or (dims[2], dims[3])
        if not height or not width:
            raise ModelError(
                f"{where}: leaves height and width of its input open, expected a size. Give one: --size 320x320."
            )
        self.input = Tensor(given[0].name, (dims[1], height, width))
        self.env[self.input.name] = self.input

    def walk(self, patterns: dict[str, Callable[[Site], Value | list[Value]]]) -> None:
        for node in needed_nodes(self.model.graph):
            if any(name in self.refused for name in node.input):
                self.refused.update(node.output)
                continue
            site = Site(self, node)
            try:
                result = self._fold(node, site) if site.constant else None
                if result is None:
                    pattern = patterns.get(node.op_type) if node.domain in STANDARD else None
                    if pattern is None:
                        raise Unsupported(
                            "is not an operator that can be quantized", "Leave it out of the file."
                        )
                    found = pattern(site)
                    result = found if isinstance(found, list) else [found]
                self.env.update(zip(node.output, result, strict=False))
            except Unsupported as error:
                self.problems.append(Problem(site.where, error.reason, error.remedy))
                self.refused.update(node.output)

    def _fold(self, node: onnx.NodeProto, site: Site) -> list[Value] | None:
        """A node of constants, computed."""
        if node.op_type not in FOLDABLE:
            return None
        feeds = {name: self.env[name] for name in node.input if name}
        if node.op_type == "Constant":
            (attribute,) = node.attribute
            value = helper.get_attribute_value(attribute)
            return [
                numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
            ]
        infos = [helper.make_tensor_value_info(n, onnx.TensorProto.UNDEFINED, None) for n in feeds]
        outs = [helper.make_tensor_value_info(n, onnx.TensorProto.UNDEFINED, None) for n in node.output]
        known = 19 if node.op_type.endswith("Linear") else 13  # from where on the evaluator has them
        opsets = [helper.make_opsetid("", max(self.opset, known))]
        graph = helper.make_graph([node], "fold", infos, outs)
        try:
            return list(ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run(None, feeds))
        except Exception:  # the evaluator raises whatever its numpy code does
            raise Unsupported("cannot be computed from its constants", "Simplify the file.") from None

    def unique(self, wanted: str) -> str:
        name, count = wanted or "node", 2
        while name in self.taken:
            name, count = f"{wanted}_{count}", count + 1
        self.taken.add(name)
        return name

    def add(self, layer: Layer, *shapes: tuple[int, ...]) -> list[Value]:
        """Append a layer; its results have these shapes."""
        layer.name = self.unique(layer.name)
        self.layers.append(layer)
        self.maker.update((name, layer) for name in layer.outputs)
        return [Tensor(name, shape) for name, shape in zip(layer.outputs, shapes, strict=True)]

    def last(self, tensor: Tensor, *ops: str) -> Layer | None:
        """The layer that makes a tensor which nothing else reads, if it is one of `ops` and not yet clipped."""
        layer = self.maker.get(tensor.name)
        if layer is None or layer.op not in ops or (layer.low, layer.high) != (-np.inf, np.inf):
            return None
        return layer if self.reads[tensor.name] == 1 else None


class Site:
    """One node, its inputs resolved."""

    def __init__(self, reader: Reader, node: onnx.NodeProto) -> None:
        self.reader, self.node = reader, node
        self.where = f"{node.op_type} {(node.name or node.output[0])!r}"
        self.attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self.inputs: list[Value] = [reader.env.get(name) if name else None for name in node.input]
        self.constant = all(not isinstance(value, Tensor) for value in self.inputs)
        self.name = node.name.strip("/").replace("/", ".") or node.output[0]

    def tensor(self, i: int = 0, axes: int = 4) -> Tensor:
        value = self.inputs[i] if i < len(self.inputs) else None
        if not isinstance(value, Tensor):
            raise Unsupported(f"its input {i} is a constant, expected a map", "Simplify the file.")
        if len(value.shape) != axes - 1:
            raise Unsupported(
                f"reads a tensor of {len(value.shape) + 1} axes, expected {axes}", "Keep N,C,H,W."
            )
        return value

    def array(self, i: int, what: str = "parameter") -> NDArray[Any] | None:
        """Input i as a constant; None where it is left out."""
        value = self.inputs[i] if i < len(self.inputs) else None
        if isinstance(value, Tensor):
            raise Unsupported(f"its {what} is computed while the network runs", "Export it as a constant.")
        return value

    def needed(self, i: int, what: str = "parameter") -> NDArray[Any]:
        found = self.array(i, what)
        if found is None:
            raise Unsupported(f"has no {what}", "Export the file again.")
        return found

    def text(self, name: str, default: str) -> str:
        value = self.attrs.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def needed_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Those that some output depends on."""
    wanted, needed = {info.name for info in graph.output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(name for name in node.input if name)
            needed.append(node)
    return needed[::-1]


def centre_tap(name: str, x: Tensor, factor: NDArray[Any], shift: NDArray[Any]) -> Layer:
    """x * factor + shift by channel, as a depthwise 3x3 convolution that sees its centre alone."""
    weight = np.zeros((x.shape[0], 1, 3, 3), np.float32)
    weight[:, 0, 1, 1] = factor
    attrs = {"group": x.shape[0], "pads": [1] * 4, "kernel_shape": [3, 3], "strides": [1, 1]}
    return Layer("Conv", name, [x.name], [f"{name}.out"], attrs, weight, np.asarray(shift, np.float32))
