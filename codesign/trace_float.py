"""The float side of a comparison: an ONNX file without quantizers, in stock onnxruntime.

A layer is an operator together with what follows it alone: normalization, activation, a constant that is added. So it
stands beside the convolution of the quantized file with its Requant.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from codesign.errors import ModelError
from codesign.onnx_io import onnx_with_taps
from codesign.onnx_site import node_name
from codesign.rungs import OnnxSession
from codesign.trace import Layer, Real, Tracer, Values, nhwc

# ONNX operator -> what the integer graph calls it.
LAYERS = {
    "Add": "Add", "AveragePool": "AveragePool", "Concat": "Concat", "Conv": "Conv", "ConvTranspose": "Conv",
    "DeformConv": "DeformDwConv", "DepthToSpace": "DepthToSpace", "Gemm": "Conv", "GlobalAveragePool": "Mean",
    "MatMul": "Conv", "MaxPool": "MaxPool", "ReduceMean": "Mean", "Resize": "Upsample", "Slice": "Slice",
    "Split": "Slice", "SquareDeformConv": "DeformDwConv", "Upsample": "Upsample",
}  # fmt: skip
FOLLOWERS = ("BatchNormalization", "Clip", "Dropout", "Identity", "Relu")  # what a quantized layer takes in


def float_side(where: str, model: onnx.ModelProto, digest: str, like: Tracer | None = None) -> Tracer:
    """`like`: the quantized side beside it, whose size of pictures is taken, and whose way of reading them undone.

    Raises ModelError where an input has no fixed size, ToolMissing if onnxruntime cannot run the file.
    """
    if like is not None:
        model = _resized(model, like)
    graph = model.graph
    consts = {tensor.name for tensor in graph.initializer}
    consts |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    shapes = _inputs(where, graph, consts)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {info.name for info in graph.output}
    ends: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        for output in node.output if node.op_type in LAYERS else ():
            if not all(name in consts for name in node.input if name) and not _adds_constant(node, consts):
                ends.setdefault(_end(output, readers, consts, outputs), node)
    bounds = {
        node.input[2]: next(a.i for a in node.attribute if a.name == "max_offset")
        for node in graph.node
        if node.op_type == "SquareDeformConv"
    }
    channels = {name: shape[2] for name, shape in shapes.items()}
    if like is not None and like.reading is not None:
        shapes = {name: (*shape[:2], 3) for name, shape in shapes.items()}  # of the picture that is read
    session = OnnxSession(onnx_with_taps(model, ends), where)

    reading = None if like is None else like.reading

    def run(feeds: Mapping[str, Real]) -> Values:
        if reading is not None:
            feeds = {name: reading.apply(real, channels[name]) for name, real in feeds.items()}
        got = session.run(feeds, list(ends))
        values = {name: nhwc(array) for name, array in got.items() if array.ndim in (2, 4)}
        return {
            # The deformable node rounds and clips its offsets by itself.
            name: np.rint(real).clip(0, bounds[name]) if name in bounds else real.astype(np.float32)
            for name, real in values.items()
        }

    probe = run({name: np.zeros((1, *shape), np.float32) for name, shape in shapes.items()})
    sources = _sources(graph, set(probe) | set(shapes))
    origins = {tensor.name for tensor in graph.initializer}
    layers = tuple(
        Layer(
            node_name(node, next((n for n in node.input if n in origins), "")),
            _title(node, graph),
            value,
            sources[value],
            probe[value].shape[1:],
        )
        for value, node in ends.items()
        if value in probe
    )
    return Tracer(where, "onnx", digest, layers, shapes, run)


def _resized(model: onnx.ModelProto, like: Tracer) -> onnx.ModelProto:
    """The model for the height and width of another's only input, where both have one."""
    known = {tensor.name for tensor in model.graph.initializer}
    if len(like.inputs) != 1 or sum(info.name not in known for info in model.graph.input) != 1:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (info,) = (info for info in copy.graph.input if info.name not in known)
    ((height, width, _),) = like.inputs.values()
    dims = info.type.tensor_type.shape.dim
    if len(dims) == 4 and [d.dim_value for d in dims[2:]] != [height, width]:
        for dim, size in zip(dims, (1, dims[1].dim_value, height, width), strict=True):
            dim.dim_value = size
        del copy.graph.value_info[:]
        for output in copy.graph.output:
            output.type.tensor_type.ClearField("shape")
    return copy


def _inputs(where: str, graph: onnx.GraphProto, consts: set[str]) -> dict[str, tuple[int, ...]]:
    """Shapes (H, W, C) of the inputs."""
    shapes: dict[str, tuple[int, ...]] = {}
    for info in graph.input:
        if info.name in consts:
            continue
        dims = [d.dim_value for d in info.type.tensor_type.shape.dim]
        if len(dims) != 4 or not all(dims[1:]):
            shown = ",".join(str(d or "?") for d in dims)
            raise ModelError(
                f"{where}: input {info.name!r} has the shape [{shown}], expected fixed channels, height and width. "
                "Export with dynamic axes for the batch only."
            )
        shapes[info.name] = (dims[2], dims[3], dims[1])
    return shapes


def _adds_constant(node: onnx.NodeProto, consts: set[str]) -> bool:
    return node.op_type == "Add" and any(name in consts for name in node.input)


def _end(
    tensor: str, readers: Mapping[str, list[onnx.NodeProto]], consts: set[str], outputs: set[str]
) -> str:
    """The last tensor of the layer that makes `tensor`."""
    while tensor not in outputs and len(readers.get(tensor, ())) == 1:
        (after,) = readers[tensor]
        if after.op_type not in FOLLOWERS and not _adds_constant(after, consts):
            break
        tensor = after.output[0]
    return tensor


def _sources(graph: onnx.GraphProto, known: set[str]) -> dict[str, tuple[str, ...]]:
    """For every tensor: the nearest known ones that it is computed from."""
    found: dict[str, tuple[str, ...]] = {}
    for node in graph.node:
        near: dict[str, None] = {}
        for name in node.input:
            near |= dict.fromkeys([name] if name in known else found.get(name, ()))
        for output in node.output:
            found[output] = tuple(near)
    return found


def _title(node: onnx.NodeProto, graph: onnx.GraphProto) -> str:
    kind = LAYERS[node.op_type]
    if kind not in ("Conv", "DeformDwConv") or node.op_type in ("Gemm", "MatMul"):
        return kind
    attrs = {a.name: a for a in node.attribute}
    weight = next((t for t in graph.initializer if t.name == node.input[1]), None)
    shape = () if weight is None else numpy_helper.to_array(weight).shape
    kernel = "x".join(map(str, shape[2:]))
    depthwise = kind == "Conv" and "group" in attrs and attrs["group"].i > 1
    stride = attrs["strides"].ints[0] if "strides" in attrs else 1
    return f"{'DwConv' if depthwise else kind} {kernel}{f'/{stride}' if stride > 1 else ''}".strip()
