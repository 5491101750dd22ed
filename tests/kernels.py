"""What the onnxruntime at hand can run, for the tests that need more than every one of them has."""

from __future__ import annotations

import onnxruntime
import pytest
from onnx import TensorProto, helper


def runs_deform_conv() -> bool:
    """Whether onnxruntime makes a session of one DeformConv node on the CPU."""
    node = helper.make_node("DeformConv", ["x", "w", "o"], ["y"], kernel_shape=[1, 1])
    shapes = {"x": [1, 1, 1, 1], "w": [1, 1, 1, 1], "o": [1, 2, 1, 1], "y": [1, 1, 1, 1]}
    *infos, y = [helper.make_tensor_value_info(n, TensorProto.FLOAT, dims) for n, dims in shapes.items()]
    body = helper.make_graph([node], "one", infos, [y])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises several kinds, all its own
        if "DeformConv" not in str(error):
            raise
        return False
    return True


needs_deform_conv = pytest.mark.skipif(
    not runs_deform_conv(),
    reason=f"onnxruntime {onnxruntime.__version__} has no DeformConv kernel (1.25, for Python 3.11, is the first)",
)
