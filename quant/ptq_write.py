"""A quantized network as model.onnx: the same format that `quant.export` writes, so that one importer reads both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser

from codesign.onnx_bodies import OPSET, QONNX_DOMAIN, QONNX_VERSION, QUANT
from quant.float_net import Layer, layer_nodes
from quant.ptq import ACT_BITS, ActType, Parameters, Quantized

FORMAT = "1"  # codesign.format of the model file
IR_VERSION = 10


def write_model(found: Quantized, path: Path, meta: Mapping[str, str]) -> None:
    """Write the file, beside its place first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        beside.write_bytes(to_model(found, meta).SerializeToString())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def to_model(found: Quantized, meta: Mapping[str, str]) -> onnx.ModelProto:
    net, writer = found.net, _Writer()
    height, width = net.size
    image = f"{net.input}.quantized"
    writer.quant(net.input, image, found.types[net.input])
    named = {net.input: image}
    shapes = _shapes(found)
    for layer in net.layers:
        inputs = [named.get(x, x) for x in layer.inputs]
        if layer.computes:
            writer.computed(layer, inputs, found)
        else:
            writer.moved(layer, inputs)
    infos = [helper.make_tensor_value_info(net.input, TensorProto.FLOAT, [1, 3, height, width])]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, *shapes[n]]) for n in net.outputs]
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in writer.constants.items()]
    graph = helper.make_graph(writer.nodes, "quantized", infos, outputs, tensors)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(QONNX_DOMAIN, QONNX_VERSION)]
    model = helper.make_model(
        graph,
        opset_imports=opsets,
        ir_version=IR_VERSION,
        producer_name="codesign",
        functions=[_quant_function()],
    )
    helper.set_model_props(model, {"codesign.format": FORMAT, **meta})
    return model


def _quant_function() -> onnx.FunctionProto:
    return parser.parse_function(QUANT)


def _shapes(found: Quantized) -> dict[str, tuple[int, ...]]:
    from quant.float_net import run_net

    net = found.net
    blank = np.zeros((1, 3, *net.size), np.float32)
    return {name: value.shape[1:] for name, value in run_net(net, blank).items()}


class _Writer:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = np.asarray(value, np.float32)
        return name

    def quant(self, x: str, y: str, kind: ActType) -> None:
        inputs = [x, self.constant(f"{y}.scale", kind.step), self.constant("zero", 0)]
        self._quant([*inputs, self.constant(f"bits.{ACT_BITS}", ACT_BITS)], y, int(kind.signed), 0)

    def _quant(self, inputs: list[str], y: str, signed: int, narrow: int) -> None:
        attrs = {"signed": signed, "narrow": narrow, "rounding_mode": "ROUND"}
        self.nodes.append(helper.make_node("Quant", inputs, [y], f"{y}.quant", domain=QONNX_DOMAIN, **attrs))

    def weight(self, layer: Layer, p: Parameters) -> str:
        scale = layer.by_output(p.scale)
        name = f"{layer.name}.weight"
        inputs = [self.constant(name, p.codes * scale), self.constant(f"{name}.scale", scale)]
        inputs += [self.constant("zero", 0), self.constant(f"bits.{p.bits}", p.bits)]
        self._quant(inputs, f"{name}.codes", 1, 1)
        return f"{name}.codes"

    def computed(self, layer: Layer, inputs: list[str], found: Quantized) -> None:
        (result,) = layer.outputs
        weight = None
        if layer.weight is not None:
            p = found.parameters[layer.name]
            weight = self.weight(layer, p)
            step = p.scale * found.types[layer.inputs[0]].step
            layer = replace(layer, bias=(p.bias * step).astype(np.float32))
        nodes, constants = layer_nodes(layer, inputs, [f"{result}.real"], weight)
        self.nodes += nodes
        self.constants.update(constants)
        self.quant(f"{result}.real", result, found.types[result])

    def moved(self, layer: Layer, inputs: list[str]) -> None:
        given = iter(inputs)
        count = len(layer.inputs) + len(layer.extra)
        slots = [None if i in layer.extra else next(given) for i in range(count)]
        nodes, constants = layer_nodes(layer, slots, layer.outputs, None)
        self.nodes += nodes
        self.constants.update(constants)
