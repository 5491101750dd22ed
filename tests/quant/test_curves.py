"""Activation functions of networks that are trained here or by Brevitas: the very codes of the compiler's tables."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from codesign.ir import evaluate
from codesign.onnx_io import import_model, onnx_with_taps, quant_points
from codesign.onnx_table import quantized_codes
from codesign.ops import Table
from quant.calibrate import calibrate, correct_bias
from quant.curves import QuantCurve
from quant.layers import ConvBlock, OutputConv
from quant.quantize import quantize_model
from tests.engine.engines import assert_equal, simulate
from tests.onnx_models import nchw, run_onnx
from tests.quant.dynamics import SIZE, assert_the_same_bits_everywhere
from tests.quant.twins import images
from tests.test_onnx_table import CODES, FINER, STEPS, of_codes, one

CODES_OF = CODES.reshape(-1)


@pytest.mark.parametrize(("op", "function"), [("Sigmoid", torch.sigmoid), ("Tanh", torch.tanh)])
def test_with_steps_of_powers_of_two_the_codes_are_those_of_torch(op, function):
    """Every code, every step that a quantizer may have."""
    for step in STEPS:
        real = function(torch.tensor(CODES_OF * step, dtype=torch.float32)).numpy()
        for finer in FINER:
            graph = import_model(of_codes(one(op), step, finer))
            got = evaluate(graph, {"image": CODES})["y"].reshape(-1)
            np.testing.assert_array_equal(got, quantized_codes(real, finer, -128, 127), (step, finer))


class Net(nn.Module):
    """Each convolution with an activation function of its own."""

    outputs = ("y",)

    def __init__(self, acts):
        super().__init__()
        self.input_quant = nn.Identity()
        self.stem = ConvBlock(3, 8, 3, 4, role="stem")
        self.body = nn.Sequential(*(ConvBlock(8, 8, 1 if i % 2 else 3) for i in range(len(acts))))
        for block, act in zip(self.body, acts, strict=True):
            block.act = act()
        self.head = OutputConv(8, 4)

    def forward(self, x):
        return (self.head(self.body(self.stem(self.input_quant(x)))),)


def twin(acts):
    torch.manual_seed(1)
    net = Net(acts).train()
    for k in range(4):
        net(images(4, SIZE, 50 + k))
    quantized = quantize_model(net.eval())
    batches = [images(4, SIZE, k) for k in range(2)]
    calibrate(quantized, batches)
    correct_bias(quantized, batches)
    return quantized


@pytest.mark.slow  # compiles an engine and exports by tracing in torch
@pytest.mark.parametrize(
    "acts",
    [(nn.Sigmoid, nn.Tanh, nn.Hardswish), (nn.SiLU, nn.LeakyReLU, nn.Hardsigmoid), (nn.ELU, nn.Softsign, nn.Softplus)],
    ids=lambda acts: "-".join(a.__name__ for a in acts),
)  # fmt: skip
def test_a_network_with_other_activations_has_the_same_bits_everywhere(acts):
    graph, _ = assert_the_same_bits_everywhere(twin(acts).eval())
    assert sum(isinstance(node.op, Table) for node in graph.nodes) == len(acts)


def test_a_curve_is_two_quantizers_and_trains():
    quantized = twin((nn.Sigmoid, nn.SiLU)).train()
    first, second = (block.act for block in quantized.body)
    assert isinstance(first, QuantCurve) and isinstance(second.function, nn.SiLU)
    scales = [q.act_quant.scale().item() for q in (first.after, second.after)]
    assert scales[0] == 2.0**-8 and np.log2(scales[1]) % 1 == 0
    y = quantized(images(2, SIZE, 3))[0]
    y.square().mean().backward()
    assert all(block.conv.weight.grad.abs().sum() > 0 for block in quantized.body)
    with torch.no_grad():
        held = quantized.eval().body[0].act.after(torch.linspace(-1, 2, 100)).value
    assert held.min() == 0 and held.max() == 255 / 256


@pytest.mark.slow  # exports by tracing in torch
@pytest.mark.parametrize("form", ["qonnx", "qcdq"])
def test_what_brevitas_exports_of_its_own_activations_is_imported_exactly(form, tmp_path):
    pytest.importorskip("brevitas", reason="brevitas, which exports the network, is not installed")
    from brevitas import nn as qnn
    from brevitas import quant
    from brevitas.export import export_onnx_qcdq, export_qonnx

    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            weight = {"weight_quant": quant.Int8WeightPerTensorFixedPoint}
            signed = {"act_quant": quant.Int8ActPerTensorFixedPoint, "return_quant_tensor": True}
            unsigned = {"act_quant": quant.Uint8ActPerTensorFixedPoint, "return_quant_tensor": True}
            self.image = qnn.QuantIdentity(**signed)
            self.convs = nn.ModuleList(
                qnn.QuantConv2d(c, 6, 3, padding=1, bias=False, **weight) for c in (3, 6, 6)
            )
            self.holds = nn.ModuleList(qnn.QuantIdentity(**signed) for _ in range(3))
            self.acts = nn.ModuleList([qnn.QuantSigmoid(**unsigned), qnn.QuantTanh(**signed),
                                       qnn.QuantSigmoid(act_quant=quant.Uint8ActPerTensorFixedPoint)])  # fmt: skip

        def forward(self, x):
            x = self.image(x)
            for conv, hold, act in zip(self.convs, self.holds, self.acts, strict=True):
                x = act(hold(conv(x)))
            return x

    torch.manual_seed(0)
    net, path = Other(), tmp_path / "other.onnx"
    for _ in range(20):
        net(torch.rand(4, 3, 8, 8) * 2 - 1)
    write = export_qonnx if form == "qonnx" else export_onnx_qcdq
    write(net.eval(), args=torch.rand(1, 3, 8, 8), export_path=str(path), opset_version=18)
    model = onnx.load(path)
    graph = import_model(model)
    assert sum(isinstance(node.op, Table) for node in graph.nodes) == 3
    (image,), (output,) = graph.inputs, graph.outputs
    codes = np.random.default_rng(0).integers(-128, 128, (3, 8, 8, 3))
    values = evaluate(graph, {image: codes}, keep=graph.types())
    real = nchw(codes, graph.scales[image])
    points = quant_points(model, graph)
    for i in range(3):
        taps = run_onnx(onnx_with_taps(model, [p.tensor for p in points.values()]), {image: real[i : i + 1]})
        for name, point in points.items():
            np.testing.assert_array_equal(
                point.codes(taps[point.tensor]), values[name][i : i + 1], err_msg=name
            )
    with torch.no_grad():
        wanted = net(torch.tensor(real)).numpy()
    np.testing.assert_array_equal(nchw(values[output], graph.scales[output]), wanted)
    assert_equal(simulate(graph, {image: codes}, 4), evaluate(graph, {image: codes}, reference=True))
