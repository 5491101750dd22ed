"""An integer graph as a design of hls4ml: its ModelGraph, with types that keep every integer."""

from __future__ import annotations

import contextlib
import io
from math import log2
from os import PathLike, fspath
from typing import Any

from codesign.errors import TypeMismatch
from codesign.hls4ml import BACKENDS
from codesign.hls4ml.qonnx import identifiers, write
from codesign.hls4ml.registry import register
from codesign.ir import Graph


def convert(graph: Graph, where: str, output_dir: str | PathLike[str], **options: Any) -> Any:
    """The hls4ml ModelGraph of a graph, not yet written. Options as convert_from_onnx_model has them.

    Raises ToolMissing without hls4ml, ModelRefused naming the layers it has no exact form for, TypeMismatch for a
    backend without our layer.
    """
    backend = options.setdefault("backend", "Vivado")
    if backend not in BACKENDS:
        raise TypeMismatch(
            f"backend {backend!r}: has no deformable layer, expected one of {', '.join(BACKENDS)}."
        )
    model = write(graph, where, options.get("io_type", "io_parallel"))
    register()
    from hls4ml.converters import convert_from_onnx_model
    from hls4ml.utils import config_from_onnx_model

    with contextlib.redirect_stdout(io.StringIO()):  # hls4ml prints every layer
        config = options.pop("hls_config", None)
        if config is None:
            config = config_from_onnx_model(model, granularity="name", backend=backend)
        set_input_types(graph, config)
        return convert_from_onnx_model(model, output_dir=fspath(output_dir), hls_config=config, **options)


def set_input_types(graph: Graph, config: dict[str, Any]) -> None:
    """Give each input its own type: hls4ml would cut it to the default, and its parser takes no type from the file."""
    names = identifiers(list(graph.types()))
    for name, type_ in graph.inputs.items():
        fraction = -int(log2(graph.scales.get(name, 1.0)))
        kind = f"{'' if type_.elem.signed else 'u'}fixed<{type_.elem.bits},{type_.elem.bits - fraction},RND_CONV,SAT>"
        layer = config.setdefault("LayerName", {}).setdefault(names[name], {})
        layer["Precision"] = {"result": kind}
