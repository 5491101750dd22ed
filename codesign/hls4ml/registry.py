"""What `codesign.hls4ml.register` tells hls4ml. Interfaces differ between its minor versions: one is asked for."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import hls_templates
from codesign.errors import ToolMissing
from codesign.hls4ml import BACKENDS

EXPECTED = "1.3"
INSTALL = 'Install it: pip install "hls4ml>=1.3,<1.4"'
HEADERS = Path(hls_templates.__file__).resolve().parent / "hls4ml"


def require() -> None:
    """Raise ToolMissing unless hls4ml is there in the version whose interfaces these modules use."""
    try:
        found = version("hls4ml")
    except PackageNotFoundError:
        raise ToolMissing(f"hls4ml: is not installed, expected {EXPECTED}. {INSTALL}") from None
    if found.split(".")[:2] != EXPECTED.split("."):
        raise ToolMissing(f"hls4ml: is version {found}, expected {EXPECTED}. {INSTALL}")


def register() -> None:
    require()
    from hls4ml.backends import get_backend
    from hls4ml.converters import register_onnx_layer_handler, register_pytorch_layer_handler
    from hls4ml.model.flow import get_flow
    from hls4ml.model.layers import layer_map, register_layer
    from hls4ml.model.optimizer import register_pass

    from codesign.hls4ml import layers, layers_mix, parsers, parsers_mix, templates, templates_mix

    if "SquareDeform2D" in layer_map:
        return
    register_layer("SquareDeform2D", layers.SquareDeform2D)
    register_layer("SquareDeformNode", layers.SquareDeformNode)
    register_layer("ParameterNode", layers_mix.ParameterNode)
    for name, kind in layers_mix.LAYERS.items():
        register_layer(name, kind)
    for name, onnx_handler in (*parsers.ONNX.items(), *parsers_mix.ONNX.items()):
        register_onnx_layer_handler(name, onnx_handler)
    for name, torch_handler in (*parsers.TORCH.items(), *parsers_mix.TORCH.items()):
        register_pytorch_layer_handler(name, torch_handler)
    for flow, before, name, optimizer in (
        ("parse_qonnx", None, "fold_square_deform", layers.FoldSquareDeform),
        ("parse_qonnx", None, "fold_layer_parameters", layers_mix.FoldParameters),
        ("convert", "infer_precision_types", "merge_exact_quantizer", layers.MergeExactQuantizer),
        ("convert", "eliminate_linear_activation", "type_fixed_quantizer", layers.TypeFixedQuantizer),
        ("convert", "infer_precision_types", "infer_square_deform_types", layers.InferSquareDeformTypes),
        ("convert", "infer_precision_types", "infer_parameter_types", layers_mix.InferParameterTypes),
    ):
        register_pass(name, optimizer)
        passes = get_flow(flow).optimizers  # the flow's own list: there is no call that inserts before a pass
        passes.insert(len(passes) if before is None else passes.index(before), name)
    for name in BACKENDS:
        backend = get_backend(name)
        backend.register_template(templates.SquareDeformConfigTemplate)
        backend.register_template(templates.SquareDeformFunctionTemplate)
        backend.register_template(templates_mix.ParameterConfigTemplate)
        backend.register_template(templates_mix.ParameterFunctionTemplate)
        for header in (templates.HEADER, *templates_mix.HEADERS):
            backend.register_source(HEADERS / header)
