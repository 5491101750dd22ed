"""A network that Brevitas trained and exported, batch normalization and all: compiled to the very codes of its file."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from codesign.ir import evaluate
from codesign.onnx_io import import_model, onnx_with_taps, quant_points
from codesign.ops import WideRequant
from quant.float_net import session
from tests.engine.engines import assert_equal, simulate, wide
from tests.onnx_models import nchw

pytestmark = pytest.mark.slow  # each exports by tracing in torch


class Net(nn.Module):
    """Two convolutions with batch normalization, a mean over the map, and a matrix product."""

    def __init__(self, bits):
        from brevitas import nn as qnn
        from brevitas import quant

        super().__init__()
        weight = {"weight_quant": quant.Int8WeightPerTensorFixedPoint, "weight_bit_width": bits}
        act = {"act_quant": quant.Int8ActPerTensorFixedPoint, "return_quant_tensor": True}
        relu = {
            "act_quant": quant.Uint8ActPerTensorFixedPoint,
            "bit_width": bits,
            "return_quant_tensor": True,
        }
        self.image, self.means = qnn.QuantIdentity(**act), qnn.QuantIdentity(**act)
        self.first = qnn.QuantConv2d(3, 8, 3, padding=1, bias=False, **weight)
        self.second = qnn.QuantConv2d(8, 16, 3, stride=2, padding=1, bias=False, **weight)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(16)])
        self.relus = nn.ModuleList([qnn.QuantReLU(**relu), qnn.QuantReLU(**relu)])
        self.last = qnn.QuantLinear(16, 10, bias=True, **weight)
        self.scores = qnn.QuantIdentity(act_quant=quant.Int8ActPerTensorFixedPoint)

    def forward(self, x):
        x = self.relus[0](self.norms[0](self.first(self.image(x))))
        x = self.relus[1](self.norms[1](self.second(x)))
        x = self.means(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))
        return self.scores(self.last(x))


def exported(bits, form, path):
    pytest.importorskip("brevitas", reason="brevitas, which exports the networks, is not installed")
    from brevitas.export import export_onnx_qcdq, export_qonnx

    torch.manual_seed(0)
    net = Net(bits)
    for _ in range(20):
        net(torch.rand(8, 3, 8, 8) * 2 - 1)
    write = export_qonnx if form == "qonnx" else export_onnx_qcdq
    write(net.eval(), args=torch.rand(1, 3, 8, 8), export_path=str(path), opset_version=18)
    return onnx.load(path)


@pytest.mark.parametrize("form", ["qonnx", "qcdq"])
def test_two_bits_with_batch_normalization_are_exact(form, tmp_path):
    model = exported(2, form, tmp_path / "net.onnx")
    graph = import_model(model)
    points, rng = quant_points(model, graph), np.random.default_rng(0)
    (name,) = graph.inputs
    feeds = {name: rng.integers(-128, 128, (4, 8, 8, 3))}
    values = evaluate(graph, feeds, keep=graph.types())
    run = session(onnx_with_taps(model, [p.tensor for p in points.values()]))
    for i in range(4):
        x = nchw(feeds[name][i : i + 1], graph.scales[name])
        for value, point in points.items():
            (found,) = run.run([point.tensor], {name: x})
            np.testing.assert_array_equal(point.codes(found), values[value][i : i + 1], err_msg=value)
    assert len(points) >= 4
    assert_equal(simulate(graph, feeds, 16), {n: values[n] for n in graph.outputs})


def test_eight_bits_with_batch_normalization_are_exact(tmp_path):
    """Each layer on the very codes before it. A runtime adds in float32, which decides otherwise where a value lies
    within its rounding of a half: of thousands of codes a few, by one."""
    model = exported(8, "qonnx", tmp_path / "net.onnx")
    graph = import_model(model)
    assert any(isinstance(node.op, WideRequant) for node in graph.nodes)
    points, rng = quant_points(model, graph), np.random.default_rng(0)
    (name,) = graph.inputs
    feeds = {name: rng.integers(-128, 128, (4, 8, 8, 3))}
    values = evaluate(graph, feeds, keep=graph.types())
    first = next(node.name for node in graph.nodes if isinstance(node.op, WideRequant))
    run = session(onnx_with_taps(model, [points[first].tensor]))
    for i in range(4):
        (found,) = run.run([points[first].tensor], {name: nchw(feeds[name][i : i + 1], graph.scales[name])})
        apart = np.abs(points[first].codes(found) - values[first][i : i + 1])
        assert apart.max() <= 1 and np.count_nonzero(apart) <= 2
    assert_equal(simulate(graph, feeds, 16, config=wide(16)), {n: values[n] for n in graph.outputs})
