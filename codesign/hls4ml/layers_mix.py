"""Gates of whole maps and what they open, as layers in hls4ml's intermediate form.

Arithmetic: codesign/ops/{global_sum,table,mix,mixed_conv}.py with the requantization behind each; the C++:
hls_templates/hls4ml/{nnet_gates,nnet_mixed_conv}.h. Parameters lie as the C++ reads them whatever the model's layout,
under names that hls4ml does not transpose; their types are the narrowest that hold them.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from hls4ml.model.attributes import Attribute, ConfigurableAttribute, TypeAttribute, WeightAttribute
from hls4ml.model.layers import Constant, Layer
from hls4ml.model.optimizer import OptimizerPass

from codesign.hls4ml.fixed import Range, range_of
from codesign.hls4ml.layers import ExactLayer, is_open
from codesign.hls4ml.parsers import exact_type

Floats = npt.NDArray[np.float64]
MAP = ("in_height", "in_width", "out_height", "out_width", "n_chan", "n_filt")
FACTORS = ("factor", "bias")


def expected(geometry: tuple[str, ...], parameters: tuple[str, ...]) -> list[Any]:
    """What hls4ml is told that a layer has."""
    named = [kind(name) for name in parameters for kind in (WeightAttribute, TypeAttribute)]
    return [*(Attribute(name) for name in geometry), *named, ConfigurableAttribute("reuse_factor", default=1)]


class ParameterLayer(ExactLayer):
    """A layer with `maps` inputs, and parameters in attributes `NAME_data`. Result (H', W', n_filt)."""

    maps: ClassVar[int] = 1
    geometry: ClassVar[tuple[str, ...]] = MAP
    parameters: ClassVar[tuple[str, ...]] = FACTORS

    @classmethod
    def data(cls, *values: Floats) -> dict[str, Floats]:
        """Parameters by name, from the further inputs of the ONNX node."""
        return dict(zip(cls.parameters, (v.reshape(-1) for v in values), strict=True))

    def initialize(self) -> None:
        height, width, channels = (self.attributes[n] for n in ("out_height", "out_width", "n_filt"))
        last = self.get_attr("data_format") == "channels_last"
        self.add_output_variable([height, width, channels] if last else [channels, height, width])
        for name in self.parameters:
            quantizer = exact_type(self.get_attr(f"{name}_data"))
            self.add_weights_variable(name=name, var_name=f"{name}{{index}}", quantizer=quantizer)

    @property
    def pixels(self) -> int:
        return int(self.get_attr("in_height") * self.get_attr("in_width"))

    def held(self, name: str) -> Range:
        """Range of the type of a parameter."""
        return range_of(self.types[f"{name}_t"].precision)

    def read(self, k: int) -> Range:
        """Range of the type of input k."""
        return range_of(self.get_input_variable(self.inputs[k]).type.precision)

    @abstractmethod
    def sums(self) -> Range:
        """Of what is multiplied by the factors."""

    def result(self) -> Range:
        """Of what is rounded to the result's type."""
        return self.sums() * self.held("factor") + self.held("bias").sums(1)


class GlobalSum2D(ParameterLayer):
    """Input: the map (H, W, C). `factor_data` and `bias_data` (C,). Result (1, 1, C)."""

    _expected_attributes = expected(MAP, FACTORS)

    def sums(self) -> Range:
        return self.read(0).sums(self.pixels)


class ChannelMix2D(ParameterLayer):
    """Inputs: the map (H, W, parts * C) and its gates (1, 1, parts * C). Parameters (C,). Result (H, W, C)."""

    maps = 2
    geometry = (*MAP, "n_parts")
    _expected_attributes = expected(geometry, FACTORS)

    def sums(self) -> Range:
        return (self.read(0) * self.read(1)).sums(self.get_attr("n_parts"))


class CodeTable(ParameterLayer):
    """Input: the map (H, W, C) of codes of `bits` bits in steps of 2^`exponent`. `table_data` (2^bits,), entry of code
    k at k modulo 2^bits. Result (H, W, C).
    """

    geometry = (*MAP, "bits", "signed", "exponent")
    parameters = ("table",)
    _expected_attributes = expected(geometry, parameters)

    def sums(self) -> Range:
        return self.held("table")

    def result(self) -> Range:
        return self.held("table")


class MixedConv2D(ParameterLayer):
    """Inputs: the map (H, W, Ci) and gates (1, 1, K). `bank_data` (kh, kw, Ci, K, Co) in steps of mixed weights of
    `mixed_bits`; `factor_data` and `bias_data` (Co,). Result (H', W', Co).
    """

    maps = 2
    geometry = (
        *MAP,
        *("n_experts", "mixed_bits", "filt_height", "filt_width", "stride_height", "stride_width"),
        *("pad_top", "pad_left", "pad_bottom", "pad_right"),
    )
    parameters = ("bank", *FACTORS)
    _expected_attributes = expected(geometry, parameters)

    @classmethod
    def data(cls, *values: Floats) -> dict[str, Floats]:
        """From kernels (Co, K, Ci, kh, kw), the steps of mixed weights (Co,) and the bias."""
        weight, step, bias = values
        bank = weight / step.reshape(-1, 1, 1, 1, 1)
        return {"bank": bank.transpose(3, 4, 2, 1, 0), "factor": step.reshape(-1), "bias": bias.reshape(-1)}

    @property
    def taps(self) -> int:
        return int(np.prod([self.get_attr(n) for n in ("filt_height", "filt_width", "n_chan")]))

    @property
    def mixture(self) -> Range:
        """Of the sums that are rounded to mixed weights."""
        return (self.read(1) * self.held("bank")).sums(self.get_attr("n_experts"))

    def sums(self) -> Range:
        most = (1 << (self.get_attr("mixed_bits") - 1)) - 1
        return (self.read(0) * Range(-most, most, 0)).sums(self.taps)


LAYERS: dict[str, type[ParameterLayer]] = {
    kind.__name__: kind for kind in (GlobalSum2D, ChannelMix2D, CodeTable, MixedConv2D)
}


class ParameterNode(Layer):
    """The ONNX node of one of LAYERS, `becomes`: parameters are still inputs of their own, until FoldParameters."""

    def initialize(self) -> None:
        self.add_output_variable([self.attributes[n] for n in ("out_height", "out_width", "n_filt")])


class FoldParameters(OptimizerPass):
    """ParameterNode whose parameters are constants -> the layer."""

    def match(self, node: Any) -> bool:
        if not isinstance(node, ParameterNode):
            return False
        maps = LAYERS[node.attributes["becomes"]].maps
        return all(isinstance(node.get_input_node(name), Constant) for name in node.inputs[maps:])

    def transform(self, model: Any, node: Any) -> bool:
        kind = LAYERS[node.attributes["becomes"]]
        constants = [node.get_input_node(name) for name in node.inputs[kind.maps :]]
        attributes = {name: node.attributes[name] for name in (*kind.geometry, "data_format")}
        values = kind.data(*(_value(constant) for constant in constants))
        attributes |= {f"{name}_data": value for name, value in values.items()}
        name = f"{kind.__name__}_{node.name}"
        config = dict(model.config.get_layer_config(node))
        model.config.set_name_config(name, config)
        model.config.parse_name_config(name, config)
        layer = model.make_node(kind, name, attributes, node.inputs[: kind.maps], list(node.outputs))
        for constant in constants:
            model.remove_node(constant)
        del node.inputs[kind.maps :]
        model.replace_node(node, layer)
        return True


def _value(constant: Any) -> Floats:
    value = np.asarray(constant.attributes["value"], np.float64)
    quantizer = constant.get_attr("quantizer")
    return value if quantizer is None else np.asarray(quantizer(value), np.float64)


class InferParameterTypes(OptimizerPass):
    """A result type that was left open holds every result; hls4ml's own inference knows its own layers only."""

    def match(self, node: Any) -> bool:
        return (
            isinstance(node, ParameterLayer)
            and is_open(node.types["result_t"])
            and not any(is_open(node.get_input_variable(name).type) for name in node.inputs)
        )

    def transform(self, model: Any, node: Any) -> bool:
        node.types["result_t"].name = f"{node.name}_result_t"
        node.types["result_t"].precision = node.result().type
        return False  # in place: the graph is as it was
