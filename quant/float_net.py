"""A float network as a list of layers: what a foreign ONNX file becomes before it is quantized.

A layer computes (Conv, ConvTranspose, Add, Curve) and clips its result, or moves values (pooling, upsampling,
concatenation, slices, shuffles). Tensors are NCHW floats; parameters are numpy arrays. onnxruntime runs each
layer. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from codesign.errors import ToolMissing
from codesign.onnx_bodies import OPSET

Floats = NDArray[np.float32]
CURVE = "Curve"
COMPUTE = ("Conv", "ConvTranspose", "Add", CURVE)


@dataclass(frozen=True)
class Body:
    """A function of a map: standard elementwise nodes from `root` to `result`, and their constants of one number."""

    root: str
    result: str
    nodes: tuple[onnx.NodeProto, ...]
    numbers: Mapping[str, Floats]


@dataclass
class Layer:
    """`outputs` = op(inputs, constants), clipped to [low, high]. Layers with a weight may take a bias [Cout]."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any] = field(default_factory=dict)
    weight: Floats | None = None  # [Cout, Cin / group, kh, kw]; of ConvTranspose [Cin, Cout / group, kh, kw]
    bias: Floats | None = None
    low: float = -np.inf
    high: float = np.inf
    extra: dict[int, NDArray[Any]] = field(default_factory=dict)  # constant inputs of what moves values
    copies: bool = False  # each result is one of the values that are read
    body: Body | None = None  # of a Curve

    @property
    def computes(self) -> bool:
        return self.op in COMPUTE

    @property
    def group(self) -> int:
        return int(self.attrs.get("group", 1))

    @property
    def depthwise(self) -> bool:
        return self.weight is not None and self.group == len(self.weight) > 1 and self.weight.shape[1] == 1

    @property
    def channels(self) -> int:
        """Output channels of a layer with a weight."""
        assert self.weight is not None
        return len(self.weight) if self.op == "Conv" else self.weight.shape[1] * self.group

    def by_output(self, table: NDArray[Any]) -> NDArray[Any]:
        """A table [Cout] in a shape that broadcasts against the weight."""
        if self.op == "Conv":
            return table.reshape(-1, 1, 1, 1)
        assert self.weight is not None
        return table.reshape(1, -1, 1, 1) if self.group == 1 else table.reshape(-1, 1, 1, 1)

    def scaled(self, factor: NDArray[Any], shift: NDArray[Any]) -> None:
        """Multiply each output channel by `factor` and add `shift`, both [Cout]."""
        assert self.weight is not None
        bias = np.zeros(self.channels) if self.bias is None else self.bias
        self.weight = (self.weight * self.by_output(factor)).astype(np.float32)
        self.bias = (bias * factor + shift).astype(np.float32)


@dataclass
class FloatNet:
    """`input` is the image as the first layer reads it, float [1, 3, H, W] of (pixel - 128) / 128."""

    input: str
    size: tuple[int, int]  # height, width
    layers: list[Layer]
    outputs: list[str]
    notes: list[str] = field(default_factory=list)  # what was changed beyond folding, for people

    def users(self, tensor: str) -> list[Layer]:
        return [layer for layer in self.layers if tensor in layer.inputs]


class Running:
    """Layers in onnxruntime, one at a time; sessions are kept as long as parameters do not change."""

    def __call__(self, layer: Layer, values: Sequence[Floats], clip: bool = True) -> list[Floats]:
        """Results for a batch of each input. Raises ToolMissing without onnxruntime."""
        run = session(_single(layer, values, clip))
        feeds = [{f"x{i}": v[n : n + 1] for i, v in enumerate(values)} for n in range(len(values[0]))]
        results = [run.run(None, feed) for feed in feeds]
        return [np.concatenate([r[k] for r in results]) for k in range(len(results[0]))]


def session(model: onnx.ModelProto) -> Any:
    """A model in onnxruntime on one thread. Raises ToolMissing without onnxruntime."""
    try:
        import onnxruntime
    except ImportError:
        raise ToolMissing(
            "onnxruntime: not installed, and quantization measures with it. Install it: pip install onnxruntime"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry(
        "session.disable_quant_qdq", "1"
    )  # it would round biases of its own accord
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def _single(layer: Layer, values: Sequence[Floats], clip: bool) -> onnx.ModelProto:
    names = iter(f"x{i}" for i in range(len(values)))
    inputs = [None if i in layer.extra else next(names) for i in range(len(layer.inputs) + len(layer.extra))]
    outs = [f"y{i}" for i in range(len(layer.outputs))]
    nodes, constants = layer_nodes(layer, inputs, outs, layer.weight, clip=clip)
    infos = [
        helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, [1, *v.shape[1:]])
        for i, v in enumerate(values)
    ]
    results = [helper.make_tensor_value_info(y, TensorProto.FLOAT, None) for y in outs]
    tensors = [numpy_helper.from_array(a, n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "layer", infos, results, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def layer_nodes(
    layer: Layer,
    inputs: Sequence[str | None],
    outputs: Sequence[str],
    weight: Floats | str | None,
    clip: bool = True,
) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]:
    """The standard nodes of a layer, and their constants. `weight` may be the name of a tensor that holds it."""
    name, constants, args = layer.name, dict[str, NDArray[Any]](), list[str]()
    for i, given in enumerate(inputs):
        if given is None:
            constants[f"{name}.input{i}"] = layer.extra[i]
        args.append(f"{name}.input{i}" if given is None and layer.extra[i].size else given or "")
    if isinstance(weight, str):
        args.append(weight)
    elif weight is not None:
        constants[f"{name}.weight"] = weight
        args.append(f"{name}.weight")
    if layer.bias is not None:
        constants[f"{name}.bias"] = layer.bias
        args.append(f"{name}.bias")
    constants = {k: v for k, v in constants.items() if v.size}
    clipped = clip and (layer.low, layer.high) != (-np.inf, np.inf)
    raw = [f"{outputs[0]}.sum"] if clipped else list(outputs)
    if layer.body is not None:
        nodes = _inlined(layer.body, name, args[0], raw[0], constants)
    else:
        nodes = [helper.make_node(layer.op, args, raw, name, **layer.attrs)]
    if clipped and (layer.low, layer.high) == (0, np.inf):
        nodes.append(helper.make_node("Relu", raw, list(outputs), f"{name}.relu"))
    elif clipped:
        limits = [""] * 2
        for i, (kind, value) in enumerate((("low", layer.low), ("high", layer.high))):
            if np.isfinite(value):
                limits[i] = f"{name}.{kind}"
                constants[limits[i]] = np.array(value, np.float32)
        nodes.append(helper.make_node("Clip", [*raw, *limits], list(outputs), f"{name}.clip"))
    return nodes, constants


def _inlined(
    body: Body, name: str, x: str, y: str, constants: dict[str, NDArray[Any]]
) -> list[onnx.NodeProto]:
    """The nodes of a function under names of its own; `constants` takes its numbers."""
    names = {body.root: x, body.result: y, "": ""}
    for number, value in body.numbers.items():
        names[number] = f"{name}.{number}"
        constants[names[number]] = value
    nodes = []
    for node in body.nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:], copy.output[:]
        copy.input.extend(names.setdefault(i, f"{name}.{i}") for i in node.input)
        copy.output.extend(names.setdefault(o, f"{name}.{o}") for o in node.output)
        copy.name = name if node.output[0] == body.result else f"{name}.{node.output[0]}"
        nodes.append(copy)
    return nodes


def run_net(net: FloatNet, images: Floats, wanted: Sequence[str] | None = None) -> Mapping[str, Floats]:
    """The named tensors (else the outputs) for images [N, 3, H, W] of (pixel - 128) / 128."""
    keep = set(net.outputs if wanted is None else wanted)
    run, values = Running(), {net.input: images}
    last = {name: i for i, layer in enumerate(net.layers) for name in layer.inputs}
    for i, layer in enumerate(net.layers):
        for name, value in zip(layer.outputs, run(layer, [values[x] for x in layer.inputs]), strict=True):
            values[name] = value
        for name in set(layer.inputs):
            if last[name] == i and name not in keep:
                del values[name]
    return {name: values[name] for name in keep}
