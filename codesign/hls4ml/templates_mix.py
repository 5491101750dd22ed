"""The C++ that hls4ml writes for gates and what they open. Vivado and Vitis alike."""

from __future__ import annotations

from typing import Any

from hls4ml.backends.template import FunctionCallTemplate, LayerConfigTemplate

from codesign.hls4ml.fixed import Range
from codesign.hls4ml.layers_mix import LAYERS, CodeTable, MixedConv2D, ParameterLayer
from codesign.hls4ml.templates import check_channels_last
from codesign.ir import IntType

HEADERS = ("nnet_gates.h", "nnet_mixed_conv.h")
CPP = {  # by layer: the function, and its struct's base
    "GlobalSum2D": ("global_sum_cl", "global_sum_config"),
    "ChannelMix2D": ("channel_mix_cl", "channel_mix_config"),
    "CodeTable": ("code_table_cl", "code_table_config"),
    "MixedConv2D": ("mixed_conv_2d_cl", "mixed_conv_config"),
}


def numbers(node: ParameterLayer) -> dict[str, int]:
    """The constants of a layer's struct."""
    if isinstance(node, MixedConv2D):
        word = node.get_attr("n_experts") * node.get_attr("n_filt")
        kept = {name: node.get_attr(name) for name in node.geometry if name != "mixed_bits"}
        return kept | {"turn": node.get_attr("reuse_factor"), "n_taps": node.taps, "n_word": word}
    found = {"n_pixels": node.pixels}
    if node.class_name == "ChannelMix2D":
        parts = {"n_out": node.get_attr("n_filt"), "n_parts": node.get_attr("n_parts")}
        return found | parts | {"turn": node.get_attr("reuse_factor")}
    found["n_chan"] = node.get_attr("n_chan")
    return found | ({"bits": node.get_attr("bits")} if isinstance(node, CodeTable) else {})


def types(node: ParameterLayer) -> dict[str, str]:
    """The types of a layer's struct, in C++."""
    found = {f"{name}_t": node.types[f"{name}_t"].name for name in node.parameters}
    if isinstance(node, CodeTable):
        bits, exponent = node.get_attr("bits"), node.get_attr("exponent")
        kind = "ap_fixed" if node.get_attr("signed") else "ap_ufixed"
        return found | {"code_t": f"{kind}<{bits}, {bits + exponent}, AP_RND_CONV, AP_SAT>"}
    if isinstance(node, MixedConv2D):
        bits = node.get_attr("mixed_bits")
        found["mix_t"] = _cpp(node.mixture)
        found["mixed_t"] = f"ap_fixed<{bits}, {bits}, AP_RND_CONV, AP_SAT_SYM>"
    return found | {"sum_t": _cpp(node.sums())}


def _cpp(held: Range) -> str:
    codes = IntType.holding(held.low, held.high)
    kind = "ap_fixed" if codes.signed else "ap_ufixed"
    return f"{kind}<{codes.bits}, {codes.bits - held.fraction}>"


class ParameterConfigTemplate(LayerConfigTemplate):
    def __init__(self) -> None:
        super().__init__(list(LAYERS.values()))

    def format(self, node: Any) -> str:
        check_channels_last(node)
        lines = [f"struct config{node.index} : nnet::{CPP[node.class_name][1]} {{"]
        lines += [f"    static const int {name} = {int(value)};" for name, value in numbers(node).items()]
        lines += [f"    typedef {text} {name};" for name, text in types(node).items()]
        return "\n".join([*lines, "};", ""])


class ParameterFunctionTemplate(FunctionCallTemplate):
    def __init__(self) -> None:
        super().__init__(list(LAYERS.values()), include_header=[f"nnet_utils/{name}" for name in HEADERS])

    def format(self, node: Any) -> str:
        ends = [*(node.get_input_variable(name) for name in node.inputs), node.get_output_variable()]
        kinds = ", ".join([*(end.type.name for end in ends), f"config{node.index}"])
        weights = [node.get_weights(name).name for name in node.parameters]
        return (
            f"nnet::{CPP[node.class_name][0]}<{kinds}>({', '.join([*(end.name for end in ends), *weights])});"
        )
