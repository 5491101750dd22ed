"""Relatives of a model file, for tests that compare: its float parent, and twins with one damaged layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

from tests.onnx_models import edited


def without_quantizers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network that a file means in float: every Quant is left out, with its name and tensors as they were."""

    def bypass(copy: onnx.ModelProto) -> None:
        for node in copy.graph.node:
            if node.op_type == "Quant":
                kept = node.input[0]
                del node.input[:], node.attribute[:]
                node.op_type, node.domain = "Identity", ""
                node.input.append(kept)

    return edited(model, bypass)


def with_tensor(
    model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> onnx.ModelProto:
    """The model with one initializer changed."""

    def replace(copy: onnx.ModelProto) -> None:
        (tensor,) = (t for t in copy.graph.initializer if t.name == name)
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(change(array).astype(array.dtype), name))

    return edited(model, replace)
