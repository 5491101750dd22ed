"""The networks that are measured: shipped models, and the same topology with random weights where none is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from codesign import shipped
from codesign.ir import Graph
from codesign.onnx_io import import_model
from tests.models import random_codenet_graph

CODENET_A = {
    "size": 256,
    "widths": (24, 116, 232, 464, 1024),
    "repeats": (3, 7, 3),
    "decoder": (256, 128, 64),
    "head": 64,
    "classes": 20,
}


def graphs() -> Iterator[tuple[str, Graph, onnx.ModelProto | None]]:
    """Name, integer graph and model file (None where the weights are random)."""
    found = shipped.models()
    for model in found:
        yield model.name, import_model(model.path), onnx.load(model.path)
    if "codenet-a" not in [model.name for model in found]:
        yield "codenet-a, random weights", random_codenet_graph(0, **CODENET_A), None


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """onnxruntime on one thread, as everybody here."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def codes(graph: Graph, seed: int = 0) -> npt.NDArray[np.int8]:
    """One image of random codes (1, H, W, 3)."""
    shape = graph.inputs["image"].shape
    return np.random.default_rng(seed).integers(-128, 128, (1, *shape)).astype(np.int8)
