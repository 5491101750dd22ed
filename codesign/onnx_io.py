"""model.onnx -> Graph, and where the file's own tensors are, so that the two can be compared node by node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import inliner

from codesign import onnx_read, passes
from codesign.errors import ModelError, ModelRefused, Problem, TypeMismatch
from codesign.ir import Array, Graph, Node
from codesign.onnx_bodies import runnable
from codesign.onnx_import import Importer
from codesign.onnx_patterns import PATTERNS
from codesign.onnx_values import Act, Poison, Refused, Unknown
from codesign.onnx_write import export_integer
from codesign.ops import Requant

__all__ = ["QuantPoint", "export_integer", "import_model", "onnx_with_taps", "quant_points"]

Source = str | PathLike[str] | onnx.ModelProto


@dataclass(frozen=True)
class QuantPoint:
    """The float tensor of the ONNX file that a graph value stands for."""

    tensor: str
    scale: float
    lo: int
    hi: int
    shape: tuple[int, int, int]  # (H, W, C) of the value

    def codes(self, array: npt.NDArray[Any]) -> Array:
        """The tensor's floats, (N, C, H, W) or flattened, as the integers they mean, (N, H, W, C)."""
        h, w, c = self.shape
        rounded = np.rint(np.asarray(array, np.float64) / self.scale).clip(self.lo, self.hi)
        maps = rounded.astype(np.int64).reshape(len(rounded), c, h, w)
        return np.ascontiguousarray(maps.transpose(0, 2, 3, 1))


def import_model(source: Source) -> Graph:
    """The integer graph of a quantized ONNX file, simplified by `passes.PIPELINE`.

    Raises ModelError where the file cannot be read, ModelRefused with every node that cannot be compiled.
    """
    where, model = onnx_read.load(source)
    _, graph = _import(where, model)
    return passes.run(graph)


def quant_points(source: Source, graph: Graph) -> dict[str, QuantPoint]:
    """For each value of `graph` (as `import_model` made it from the same file): its tensor in the file."""
    importer, _ = _import(*onnx_read.load(source))
    values = graph.types()
    names = _output_names(importer)
    return {
        names.get(name, name): QuantPoint(tensor, act.scale, act.lo, act.hi, act.shape)
        for name, (tensor, act) in importer.points().items()
        if names.get(name, name) in values
    }


def onnx_with_taps(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of the model whose outputs are its own, then the named tensors, and that stock runtimes run."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(runnable(model))
    present = {info.name for info in tapped.graph.output}
    for name in dict.fromkeys(names):
        if name not in present:
            tapped.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return tapped


def _import(where: str, model: onnx.ModelProto) -> tuple[Importer, Graph]:
    importer = Importer(_inlined(where, model), PATTERNS)
    importer.walk()
    outputs, named = dict[str, str](), set[str]()
    scales = dict(importer.input_scales)
    for info in importer.model.graph.output:
        value = importer.env.get(info.name)
        try:
            if info.name in named:
                raise Refused("repeats an input or another output", "Export it once.")
            named.add(info.name)
            if isinstance(value, Poison):
                raise Unknown
            if not isinstance(value, Act):
                raise Refused("is not quantized", "Put a Quant of 8 signed bits before it.")
            if value.is_row:
                raise Refused("is a flattened map", "Give the map itself out.")
            held = importer.value(value)
            if held in importer.inputs or held in outputs.values():
                raise Refused("repeats an input or another output", "Export it once.")
            outputs[info.name], scales[info.name] = held, value.scale
        except Refused as error:
            importer.problems.append(Problem(f"output {info.name!r}", error.reason, error.remedy))
        except Unknown:
            assert importer.problems, info.name
    if importer.problems:
        raise ModelRefused(where, importer.problems)
    if not importer.inputs:
        raise ModelError(f"{where}: its outputs do not depend on any input. Export the network again.")
    names = {held: name for name, held in outputs.items()}
    nodes = tuple(
        replace(n, name=names.get(n.name, n.name), inputs=tuple(names.get(s, s) for s in n.inputs))
        for n in _requants_first(importer.nodes)
    )
    meta = {entry.key: entry.value for entry in model.metadata_props}
    graph = Graph(importer.inputs, nodes, tuple(outputs), importer.consts, importer.const_types, scales, meta)
    try:
        graph.bounds()
    except TypeMismatch as error:
        raise ModelError(f"{where}: {error}. Use fewer input channels or narrower weights.") from None
    return importer, graph


def _requants_first(nodes: list[Node]) -> Iterator[Node]:
    """The nodes with each Requant directly behind its accumulator, wherever it was first needed."""
    requants = {node.inputs[0]: node for node in nodes if isinstance(node.op, Requant)}
    for node in nodes:
        if not isinstance(node.op, Requant):
            yield node
            if node.name in requants:
                yield requants[node.name]


def _output_names(importer: Importer) -> dict[str, str]:
    outputs = ((info.name, importer.env[info.name]) for info in importer.model.graph.output)
    return {importer.value(value): name for name, value in outputs if isinstance(value, Act)}


def _inlined(where: str, model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its functions expanded, but for those that have a pattern."""
    foreign = [(f.domain, f.name) for f in model.functions if (f.domain, f.name) not in PATTERNS]
    if not foreign:
        return model
    try:
        return inliner.inline_selected_functions(model, foreign)
    except Exception as error:  # onnx raises plain runtime errors from C++
        first_line = str(error).splitlines()[0]
        raise ModelError(
            f"{where}: its functions cannot be expanded ({first_line}). Export without them."
        ) from None
