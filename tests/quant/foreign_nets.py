"""Small float networks such as other tools write them, as ONNX with random weights; and where real ones lie."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


class Net:
    """A float file, node by node."""

    def __init__(self, seed: int = 0, size: tuple[int, int] = (24, 20), channels: int = 3, opset: int = 13):
        self.rng, self.opset = np.random.default_rng(seed), opset
        self.input = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, channels, *size])
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def const(self, array: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def add(self, op: str, *inputs: str, name: str = "", outputs: int = 1, **attrs: Any) -> str:
        name = name or f"{op.lower()}{len(self.nodes)}"
        outs = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), outs, name, **attrs))
        return outs[0]

    def conv(
        self, x: str, cin: int, cout: int, k: int = 1, group: int = 1, bias: bool = True, **attrs: Any
    ) -> str:
        fan = cin // group * k * k
        weight = self.rng.normal(0, 1.4 / fan**0.5, (cout, cin // group, k, k))
        given = [self.const(weight)] + ([self.const(self.rng.normal(0, 0.1, cout))] if bias else [])
        attrs = {"pads": [k // 2] * 4} | attrs
        return self.add("Conv", x, *given, kernel_shape=[k, k], group=group, **attrs)

    def norm(self, x: str, c: int) -> str:
        r = self.rng
        tables = [r.uniform(0.3, 3, c), r.normal(0, 0.2, c), r.normal(0, 0.3, c), r.uniform(0.3, 2, c)]
        return self.add("BatchNormalization", x, *map(self.const, tables), epsilon=1e-3)

    def model(self, *outputs: str) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(y, TensorProto.FLOAT, None) for y in outputs]
        graph = helper.make_graph(self.nodes, "foreign", [self.input], infos, self.tensors)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def detector_like(seed: int = 0, size: tuple[int, int] = (25, 33)) -> onnx.ModelProto:
    """Inverted residuals with normalization, a pyramid by transposed convolutions, two heads and a sigmoid.

    The first convolution does not pad: what it reads beyond the edge would not be the same after folding.
    """
    n = Net(seed, size)
    x = n.add("Relu", n.norm(n.conv("input", 3, 8, 3, strides=[2, 2], pads=[0, 0, 0, 0], bias=False), 8))
    x = n.conv(x, 8, 6)
    y = n.add("Relu", n.conv(x, 6, 18))
    y = n.add("Relu", n.norm(n.conv(y, 18, 18, 3, group=18, bias=False), 18))
    x = n.add("Add", x, n.conv(y, 18, 6), name="sum")
    low = n.add("Clip", n.conv(x, 6, 12, 3, strides=[2, 2]), n.const(0), n.const(6))
    low = n.add("MaxPool", low, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    weight = n.const(n.rng.normal(0, 0.3, (12, 6, 2, 2)))
    up = n.add("Relu", n.norm(n.add("ConvTranspose", low, weight, kernel_shape=[2, 2], strides=[2, 2]), 6))
    x = n.add("Add", up, n.add("Relu", n.conv(x, 6, 6)))
    x = n.add("Concat", x, up, axis=1)
    n.add("Sigmoid", n.conv(x, 12, 2, 3), name="heat")
    n.conv(x, 12, 2)
    return n.model("heat", n.nodes[-1].output[0])


def classifier_like(seed: int = 0, channels: int = 3, size: tuple[int, int] = (33, 31)) -> onnx.ModelProto:
    """Depthwise separable convolutions with ReLU6, a mean over the whole map, and one matrix product."""
    n = Net(seed, size, channels)
    zero, six = n.const(0), n.const(6)
    x = n.add(
        "Clip",
        n.norm(n.conv("input", channels, 8, 3, strides=[2, 2], pads=[0] * 4, bias=False), 8),
        zero,
        six,
    )
    for stride in (1, 2):
        x = n.add("Clip", n.norm(n.conv(x, 8, 8, 3, group=8, strides=[stride] * 2), 8), zero, six)
        x = n.add("Clip", n.conv(x, 8, 8), zero, six)
    x = n.add("Flatten", n.add("Dropout", n.add("GlobalAveragePool", x)))
    weight, bias = n.const(n.rng.normal(0, 0.5, (7, 8))), n.const(n.rng.normal(0, 0.1, 7))
    n.add("Gemm", x, weight, bias, transB=1, name="scores")
    return n.model("scores")


def images(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Smooth noise as pixels uint8 (N, H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, size[0] // 6 + 2, size[1] // 6 + 2, 3)).repeat(6, 1).repeat(6, 2)
    fine = coarse[:, : size[0], : size[1]] + rng.normal(0, 12, (count, *size, 3))
    return fine.clip(0, 255).astype(np.uint8)


def shipped(package: str, path: str) -> Path:
    """A file of an installed package; the test is skipped where it is not there."""
    spec = find_spec(package)
    found = Path(spec.origin or "").parent / path if spec is not None else None
    if found is None or not found.exists():
        pytest.skip(f"the package {package}, which ships {path}, is not installed")
    return found


def mobilenet_v2(weights: Path, size: int = 224) -> onnx.ModelProto:
    """MobileNetV2 (arXiv 1801.04381) as a float file, from torchvision's parameters for ImageNet."""
    import torch

    state = {k: v.numpy() for k, v in torch.load(weights, weights_only=True).items()}
    n, x = Net(size=(size, size)), "input"
    zero, six = n.const(0), n.const(6)

    def layer(x: str, conv: str, norm: str, stride: int = 1, act: bool = True) -> str:
        weight = state[f"{conv}.weight"]
        group = len(weight) if weight.shape[1] == 1 else 1
        k = weight.shape[2]
        x = n.add(
            "Conv",
            x,
            n.const(weight),
            kernel_shape=[k, k],
            pads=[k // 2] * 4,
            strides=[stride] * 2,
            group=group,
        )
        tables = [n.const(state[f"{norm}.{t}"]) for t in ("weight", "bias", "running_mean", "running_var")]
        x = n.add("BatchNormalization", x, *tables, epsilon=1e-5)
        return n.add("Clip", x, zero, six) if act else x

    x = layer(x, "features.0.0", "features.0.1", 2)
    at, cin = 1, 32
    for expand, cout, count, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                        (6, 160, 3, 2), (6, 320, 1, 1)):  # fmt: skip
        for i in range(count):
            base, before, step = f"features.{at}.conv", x, stride if i == 0 else 1
            if expand > 1:
                x = layer(x, f"{base}.0.0", f"{base}.0.1")
            x = layer(x, f"{base}.{int(expand > 1)}.0", f"{base}.{int(expand > 1)}.1", step)
            x = layer(x, f"{base}.{1 + (expand > 1)}", f"{base}.{2 + (expand > 1)}", act=False)
            x = n.add("Add", before, x) if step == 1 and cin == cout else x
            at, cin = at + 1, cout
    x = n.add("Flatten", n.add("GlobalAveragePool", layer(x, f"features.{at}.0", f"features.{at}.1")))
    tables = [n.const(state[f"classifier.1.{t}"]) for t in ("weight", "bias")]
    n.add("Gemm", x, *tables, transB=1, name="scores")
    return n.model("scores")
