"""Activation functions of float files from elsewhere: found however they are written, quantized, and run exactly."""

import numpy as np
import onnx
import pytest

from codesign import onnx_table
from codesign.errors import ModelRefused
from codesign.ir import evaluate
from codesign.onnx_io import import_model, onnx_with_taps, quant_points
from codesign.ops import Table
from quant import foreign_curves
from quant.float_net import CURVE, run_net
from quant.foreign import read_float
from quant.foreign_site import Pixels
from quant.ptq import quantize_net
from quant.ptq_write import to_model
from tests.engine.engines import assert_equal, simulate
from tests.onnx_models import nchw, run_onnx
from tests.quant.foreign_nets import Net, images
from tests.quant.test_foreign import as_read, original

PIXELS = Pixels((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
WAYS = {
    "swish": lambda n, x: n.add("Mul", x, n.add("Sigmoid", x)),
    "hard swish": lambda n, x: n.add("HardSwish", x),
    "hard swish by parts": lambda n, x: n.add(
        "Div", n.add("Mul", x, n.add("Clip", n.add("Add", x, n.const(3)), n.const(0), n.const(6))), n.const(6)
    ),
    "hard sigmoid": lambda n, x: n.add("HardSigmoid", x, alpha=1 / 6),
    "gelu": lambda n, x: n.add(
        "Mul", n.const(0.5),
        n.add("Mul", x, n.add("Add", n.add("Erf", n.add("Div", x, n.const(2**0.5))), n.const([1.0]))),
    ),
    "leaky": lambda n, x: n.add("LeakyRelu", x, alpha=0.1),
    "slope": lambda n, x: n.add("PRelu", x, n.const(0.25)),
    "tanh": lambda n, x: n.add("Tanh", x),
    "elu": lambda n, x: n.add("Elu", x),
    "mish": lambda n, x: n.add("Mul", x, n.add("Tanh", n.add("Softplus", x))),
    "limits": lambda n, x: n.add("Clip", n.add("Sigmoid", x), n.const(0.125), n.const(0.75)),
    "square": lambda n, x: n.add("Mul", x, x),
}  # fmt: skip


def three_layers(way: str, opset: int = 14) -> onnx.ModelProto:
    """Convolutions with normalization and the function behind it; the function of a sum; and a head."""
    n = Net(seed=len(way), opset=opset)
    x = WAYS[way](n, n.norm(n.conv("input", 3, 8, 3, bias=False, strides=[2, 2], pads=[0] * 4), 8))
    y = WAYS[way](n, n.norm(n.conv(x, 8, 8, 3, group=8, bias=False), 8))
    return n.model(n.conv(WAYS[way](n, n.add("Add", y, x)), 8, 5))


@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_one_layer_that_computes_the_same(way):
    model = three_layers(way)
    net, shown = read_float(model, PIXELS), images(2, (24, 20))
    assert [layer.op for layer in net.layers].count(CURVE) == 3
    assert len(net.layers) == 7  # and three convolutions, and a sum
    (name,) = net.outputs
    got, wanted = run_net(net, as_read(shown))[name], original(model, shown, PIXELS)[name]
    np.testing.assert_allclose(got, wanted, atol=2e-4 * np.abs(wanted).max(), rtol=0)


@pytest.mark.parametrize("way", WAYS)
def test_the_quantized_file_means_the_same_integers_everywhere(way):
    net, shown = read_float(three_layers(way), PIXELS), images(4, (24, 20))
    found = quantize_net(net, as_read(shown))
    assert min(found.snr.values()) > 15
    model = to_model(found, {})
    graph = import_model(model)
    assert sum(isinstance(node.op, Table) for node in graph.nodes) == 3
    codes = images(1, (24, 20), 9).astype(np.int64) - 128
    values = evaluate(graph, {"image": codes}, keep=graph.types())
    points = quant_points(model, graph)
    taps = run_onnx(
        onnx_with_taps(model, [p.tensor for p in points.values()]), {"image": nchw(codes, 2.0**-7)}
    )
    off = 0
    for name, point in points.items():
        off += np.count_nonzero(point.codes(taps[point.tensor]) != values[name])
    assert off == 0
    outputs = {name: values[name] for name in graph.outputs}
    assert_equal(simulate(graph, {"image": codes}, 4), outputs)


def test_factors_terms_and_limits_alone_stay_in_their_convolutions():
    n = Net()
    x = n.add("Relu", n.add("Add", n.add("Mul", n.conv("input", 3, 6), n.const(0.5)), n.const(0.1)))
    model = n.model(n.add("Sigmoid", n.conv(x, 6, 2), name="score"))
    net = read_float(model, PIXELS)
    assert [layer.op for layer in net.layers] == ["Conv", "Conv"]
    assert net.notes == ["score: is given before its Sigmoid"]


def test_what_others_read_too_stays_a_map_of_its_own():
    n = Net()
    x = n.conv("input", 3, 6)
    gate = n.add("Sigmoid", x)
    y = n.add("Mul", x, gate)
    model = n.model(n.conv(y, 6, 2), n.conv(gate, 6, 3))
    net, shown = read_float(model, PIXELS), images(2, (24, 20))
    assert [layer.op for layer in net.layers] == ["Conv", "Curve", "Curve", "Conv", "Conv"]
    got, wanted = run_net(net, as_read(shown)), original(model, shown, PIXELS)
    for name, array in wanted.items():
        np.testing.assert_allclose(got[name], array, atol=2e-4 * np.abs(array).max(), rtol=0)


def test_limits_of_old_files_are_attributes():
    n = Net(opset=9)
    x = n.conv("input", 3, 6)
    model = n.model(n.conv(n.add("Mul", x, n.add("Clip", n.add("Sigmoid", x), min=0.25, max=0.5)), 6, 2))
    net, shown = read_float(model, PIXELS), images(1, (24, 20))
    (name,) = net.outputs
    got, wanted = run_net(net, as_read(shown))[name], original(model, shown, PIXELS)[name]
    np.testing.assert_allclose(got, wanted, atol=2e-4 * np.abs(wanted).max(), rtol=0)


def test_what_is_found_is_what_the_importer_reads():
    assert foreign_curves.FUNCTIONS == set(onnx_table.FUNCTIONS)


def refused(n: Net, x: str) -> list[str]:
    with pytest.raises(ModelRefused) as error:
        read_float(n.model(n.conv(x, 6, 2)), PIXELS)
    return str(error.value).splitlines()[1:]


def test_refusals():
    n = Net()
    slopes = n.const(np.full((6, 1, 1), 0.1))
    assert refused(n, n.add("PRelu", n.conv("input", 3, 6), slopes, name="p")) == [
        "  PRelu 'p': has a slope a channel, expected one for all. Use ReLU, or LeakyRelu."
    ]
    n = Net()
    assert refused(n, n.add("Softmax", n.conv("input", 3, 6), name="s", axis=1)) == [
        "  Softmax 's': is no function of each number alone. Take it of the network's result, or leave it out."
    ]
    n = Net()
    a, b = n.conv("input", 3, 6), n.conv("input", 3, 6)
    assert refused(n, n.add("Mul", a, n.add("Sigmoid", b), name="m")) == [
        "  Mul 'm': is element-wise arithmetic on two maps. Only two maps can be added."
    ]
    n = Net()
    with pytest.raises(ModelRefused, match="reads the image and is no dense convolution"):
        read_float(n.model(n.conv(n.add("Tanh", "input", name="t"), 3, 2)), PIXELS)
