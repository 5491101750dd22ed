"""The C++ that hls4ml writes for the layer: a struct of constants and types, and the call. Vivado and Vitis alike."""

from __future__ import annotations

from typing import Any

from hls4ml.backends.template import FunctionCallTemplate, LayerConfigTemplate

from codesign.errors import TypeMismatch
from codesign.hls4ml.layers import GEOMETRY, WINDOW, SquareDeform2D
from codesign.ir import IntType

HEADER = "nnet_square_deform.h"
PORTS = 2  # cycles in which a row's memory gives its three columns


class SquareDeformConfigTemplate(LayerConfigTemplate):
    def __init__(self) -> None:
        super().__init__(SquareDeform2D)

    def format(self, node: Any) -> str:
        params = self._default_config_params(node)
        check_channels_last(node)
        bits = IntType.holding(0, params["max_offset"]).bits
        lines = [f"struct config{params['index']} : nnet::square_deform_config {{"]
        lines += [f"    static const int {name} = {params[name]};" for name in (*GEOMETRY, *WINDOW)]
        lines += [f"    static const int turn = {max(PORTS, int(params['reuse']))};"]
        lines += [f"    typedef {params[name].name} {name};" for name in ("accum_t", "weight_t", "bias_t")]
        lines += [f"    typedef ap_ufixed<{bits}, {bits}, AP_RND_CONV, AP_SAT> offset_t;", "};", ""]
        return "\n".join(lines)


class SquareDeformFunctionTemplate(FunctionCallTemplate):
    def __init__(self) -> None:
        super().__init__(SquareDeform2D, include_header=[f"nnet_utils/{HEADER}"])

    def format(self, node: Any) -> str:
        params, offset = self._default_function_params(node), node.get_input_variable(node.inputs[1])
        types = ", ".join((params["input_t"], offset.type.name, params["output_t"], params["config"]))
        weights = (node.get_weights(name).name for name in ("weight", "bias"))
        values = ", ".join((params["input"], offset.name, params["output"], *weights))
        return f"nnet::square_deform_2d_cl<{types}>({values});"


def check_channels_last(node: Any) -> None:
    if node.get_attr("data_format") != "channels_last":
        raise TypeMismatch(
            f"{node.name}: is channels first, expected channels last. Give config_from_pytorch_model "
            "channels_last_conversion='internal', and arrays (H, W, C)."
        )
