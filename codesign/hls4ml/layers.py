"""The layer in hls4ml's intermediate form, and the passes that bring it there and give it types.

Arithmetic: codesign/ops/deform_dwconv.py; the C++: hls_templates/hls4ml/nnet_square_deform.h.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hls4ml.model.attributes import Attribute, ConfigurableAttribute, TypeAttribute, WeightAttribute
from hls4ml.model.layers import Activation, Constant, Layer
from hls4ml.model.optimizer import OptimizerPass
from hls4ml.model.types import UnspecifiedPrecisionType

from codesign.hls4ml.fixed import range_of

GEOMETRY = ("in_height", "in_width", "out_height", "out_width", "n_chan")
WINDOW = ("stride_height", "stride_width", "max_offset")


class ExactLayer(Layer):
    """A layer of ours: its result type alone rounds and saturates."""


class SquareDeform2D(ExactLayer):
    """Inputs: the map (H, W, C) and the offsets (H', W', 1). `weight_data` (3, 3, C, 1) or, before hls4ml has made a
    channels-first model channels-last, (C, 1, 3, 3); `bias_data` (C,). Result (H', W', C).
    """

    _expected_attributes = [
        *(Attribute(name) for name in (*GEOMETRY, *WINDOW)),
        WeightAttribute("weight"),
        WeightAttribute("bias"),
        TypeAttribute("weight"),
        TypeAttribute("bias"),
        TypeAttribute("accum"),
        ConfigurableAttribute("reuse_factor", default=1),
    ]

    def initialize(self) -> None:
        height, width, channels = (self.attributes[n] for n in ("out_height", "out_width", "n_chan"))
        last = self.get_attr("data_format") == "channels_last"
        self.add_output_variable([height, width, channels] if last else [channels, height, width])
        self.add_weights(quantizer=self.get_attr("weight_quantizer"))
        self.add_bias(quantizer=self.get_attr("bias_quantizer"))


class SquareDeformNode(Layer):
    """The ONNX node: weight (C, 1, 3, 3) and bias are still inputs of their own, until FoldSquareDeform."""

    def initialize(self) -> None:
        self.add_output_variable([self.attributes[n] for n in ("out_height", "out_width", "n_chan")])


class FoldSquareDeform(OptimizerPass):
    """SquareDeformNode whose parameters are constants -> SquareDeform2D."""

    def match(self, node: Any) -> bool:
        return isinstance(node, SquareDeformNode) and all(
            isinstance(node.get_input_node(name), Constant) for name in node.inputs[2:]
        )

    def transform(self, model: Any, node: Any) -> bool:
        attributes = {name: node.attributes[name] for name in (*GEOMETRY, *WINDOW, "data_format")}
        weight, *biases = (node.get_input_node(name) for name in node.inputs[2:])
        attributes["weight_data"] = np.transpose(weight.attributes["value"], (2, 3, 0, 1))
        attributes["weight_quantizer"] = weight.get_attr("quantizer")
        attributes["bias_data"] = np.zeros(node.attributes["n_chan"])
        for bias in biases:
            attributes["bias_data"] = bias.attributes["value"]
            attributes["bias_quantizer"] = bias.get_attr("quantizer")
        config, name = dict(model.config.get_layer_config(node)), f"SquareDeform2D_{node.name}"
        asked = config.get("Precision") or {}
        asked = asked if isinstance(asked, dict) else {"default": asked}
        config["Precision"] = {
            "accum": "auto",
            **asked,
        }  # the node has no sums that a configuration could name
        model.config.set_name_config(name, config)
        model.config.parse_name_config(name, config)
        layer = model.make_node(SquareDeform2D, name, attributes, node.inputs[:2], list(node.outputs))
        for constant in (*biases, weight):
            model.remove_node(constant)
        del node.inputs[2:]
        model.replace_node(node, layer)
        return True


class MergeExactQuantizer(OptimizerPass):
    """The quantizer behind a layer of ours becomes its result type, as hls4ml does for its own convolutions."""

    def match(self, node: Any) -> bool:
        if not isinstance(node, Activation) or node.get_attr("activation") != "linear":
            return False
        layer = node.get_input_node(node.inputs[0])
        return (
            isinstance(layer, ExactLayer)
            and node.get_attr("quantizer") is not None
            and isinstance(layer.get_output_variable().type.precision, UnspecifiedPrecisionType)
            and len(layer.get_output_nodes()) == 1
        )

    def transform(self, model: Any, node: Any) -> bool:
        layer = node.get_input_node(node.inputs[0])
        layer.get_output_variable().type.precision = node.get_attr("quantizer").hls_type
        model.remove_node(node)
        return True


class TypeFixedQuantizer(OptimizerPass):
    """A quantizer from PyTorch has its own type, or hls4ml would take it for one that changes nothing."""

    def match(self, node: Any) -> bool:
        return (
            isinstance(node, Activation)
            and bool(node.get_attr("fixed_quantizer"))
            and is_open(node.get_output_variable().type)
        )

    def transform(self, model: Any, node: Any) -> bool:
        node.get_output_variable().type.precision = node.get_attr("quantizer").hls_type
        return False  # in place


class InferSquareDeformTypes(OptimizerPass):
    """Types that were left open: parameters as their quantizers say, sums and results wide enough for every sum.

    hls4ml's own inference knows its own layers only, so this runs before it.
    """

    def match(self, node: Any) -> bool:
        return (
            isinstance(node, SquareDeform2D)
            and not is_open(node.get_input_variable().type)
            and any(is_open(node.types[name]) for name in ("weight_t", "bias_t", "accum_t", "result_t"))
        )

    def transform(self, model: Any, node: Any) -> bool:
        default = model.config.backend.convert_precision_string(model.config.model_precision["default"])
        for name in ("weight", "bias"):
            type_ = node.types[f"{name}_t"]
            if is_open(type_):
                quantizer = node.get_attr(f"{name}_quantizer")
                type_.name = f"{node.name}_{name}_t"
                type_.precision = default if quantizer is None else quantizer.hls_type
                node.weights[name].update_precision(type_.precision)
        x, weight, bias = (
            t.precision
            for t in (node.get_input_variable().type, node.types["weight_t"], node.types["bias_t"])
        )
        exact = sum_type(x, weight, bias)
        for name in ("accum_t", "result_t"):
            if is_open(node.types[name]):
                node.types[name].name = f"{node.name}_{name}"
                node.types[name].precision = exact
        return False  # in place: the graph is as it was


def is_open(type_: Any) -> bool:
    return isinstance(type_.precision, UnspecifiedPrecisionType)


def sum_type(x: Any, weight: Any, bias: Any) -> Any:
    """The type of nine products and a bias, none of which it rounds or wraps."""

    return ((range_of(x) * range_of(weight)).sums(9) + range_of(bias).sums(1)).type
