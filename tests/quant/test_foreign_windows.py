"""Windows that the accelerator has not, and quantizers of other formats: read without a change, and run."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from codesign.cli import app
from codesign.errors import ModelRefused
from codesign.ir import evaluate
from codesign.onnx_io import import_model
from quant.equalize import equalize
from quant.float_net import run_net
from quant.foreign import read_float
from quant.foreign_site import Pixels
from quant.ptq import layer_bits, quantize_net
from quant.ptq_write import to_model
from tests.engine.engines import assert_equal, simulate
from tests.quant.foreign_nets import Net, images
from tests.quant.test_foreign import as_read, original

GREY = Pixels(
    (128 / 255,) * 3, (128 / 255,) * 3
)  # zero is the grey pixel: pads are the same before and after folding


def same_as_the_file(model, net, size):
    shown = images(2, size)
    wanted, got = original(model, shown, GREY), run_net(net, as_read(shown))
    for name, array in wanted.items():
        # Sums of float32 in another order.
        np.testing.assert_allclose(
            got[name].reshape(array.shape), array, atol=2e-5 * np.abs(array).max() + 1e-6, rtol=0
        )


def sides(net):
    return max(max(layer.weight.shape[2:]) for layer in net.layers if layer.weight is not None)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(6, 12), st.integers(6, 12)),
    st.integers(2, 4),
    st.tuples(*[st.integers(0, 5)] * 4),
    st.tuples(st.integers(20, 33), st.integers(20, 33)),
)
def test_large_strided_kernels(kernel, stride, pads, size):
    n = Net(size=size)
    weight = n.const(n.rng.normal(0, 0.1, (4, 3, *kernel)))
    n.add("Conv", "input", weight, kernel_shape=kernel, strides=[stride] * 2, pads=pads, name="y")
    model = n.model("y")
    same_as_the_file(model, read_float(model, GREY), size)


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "size"),
    [
        (7, 2, 3, (32, 33)),
        (7, 2, 3, (31, 30)),
        (11, 4, 2, (64, 36)),
        (8, 4, 2, (32, 32)),
        (7, 2, 2, (32, 32)),
    ],
)
def test_stems_of_known_networks_have_a_place(kernel, stride, pad, size):
    n = Net(size=size)
    n.conv("input", 3, 4, kernel, strides=[stride] * 2, pads=[pad] * 4)
    net = read_float(n.model("conv0"), GREY)
    assert [layer.copies for layer in net.layers] == [True, False] and sides(net) <= 5
    assert layer_bits(net, net.layers[1], 4) == 8


@pytest.mark.parametrize("size", [(6, 6), (7, 7), (8, 9), (6, 10), (13, 12), (16, 20)])
def test_matrix_products_with_a_large_map(size):
    n = Net(size=size)
    x = n.add("Flatten", n.add("Relu", n.conv("input", 3, 4, 3)))
    n.add(
        "Gemm",
        x,
        n.const(n.rng.normal(0, 0.1, (5, 4 * size[0] * size[1]))),
        n.const(np.ones(5)),
        transB=1,
        name="y",
    )
    model = n.model("y")
    net = read_float(model, GREY)
    assert sides(net) <= 5
    same_as_the_file(model, net, size)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.integers(5, 12)] * 2),
    st.sampled_from([2, 3]),
    st.integers(1, 3),
    st.integers(0, 1),
    st.booleans(),
)
def test_pools(size, side, stride, pad, mean):
    n = Net(size=size)
    x = n.conv("input", 3, 4, 3)
    window = {"kernel_shape": [side] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    more = {"count_include_pad": 1} if mean else {"ceil_mode": 1}
    n.add("AveragePool" if mean else "MaxPool", x, **window, **more, name="y")
    model = n.model("y")
    try:
        net = read_float(model, GREY)
    except ModelRefused as error:
        assert mean and side == 2 and pad == 1 and "averages 2x2 pixels with pads" in str(error)
        return
    same_as_the_file(model, net, size)


def residual_like(size):
    """A stem of 7x7, a max-pool that rounds up, a mean of 2x2, and a matrix product with a map of 6x7."""
    n = Net(3, size)
    x = n.add("Relu", n.norm(n.conv("input", 3, 8, 7, strides=[2, 2], bias=False), 8))
    x = n.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    x = n.add("Add", x, n.conv(x, 8, 8, 3))
    x = n.add("AveragePool", n.add("Relu", x), kernel_shape=[2, 2], strides=[1, 1])
    n.add("MatMul", n.add("Flatten", x), n.const(n.rng.normal(0, 0.05, (8 * 6 * 7, 5))), name="scores")
    return n.model("scores")


@pytest.mark.parametrize(("bits", "lanes", "least"), [(8, 16, 30), (4, 4, 15)])
def test_every_rung_computes_the_same_integers(bits, lanes, least):
    model, size = residual_like((28, 32)), (28, 32)
    net = read_float(model, GREY)
    same_as_the_file(model, net, size)
    equalize(net, as_read(images(4, size)), bits)
    found = quantize_net(net, as_read(images(4, size)), bits)
    assert found.snr["scores"] > least
    graph = import_model(to_model(found, {}))
    feeds = {"image": images(2, size, seed=9).astype(np.int64) - 128}
    values = evaluate(graph, feeds, keep=graph.types())
    shown = feeds["image"].reshape(2, 14, 2, 16, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 14, 16, 12)
    held = values["conv0.apart.q"]
    np.testing.assert_array_equal(held, shown)  # copies are the very codes
    assert_equal(simulate(graph, feeds, lanes), {"scores": values["scores"]})


def test_pairs_of_linear_nodes_leave_their_limits():
    """Of parameters they are computed, by channel and with zero points; of maps clips of codes become clips."""
    n = Net(size=(8, 8))
    codes = n.const(np.arange(-18, 18).reshape(4, 3, 3, 1), np.int8)
    scales, zeros = n.const([0.5, 0.25, 1, 2]), n.const([1, 0, -2, 3], np.int8)
    weight = n.add("DequantizeLinear", codes, scales, zeros, axis=0)
    step, zero = n.const(0.25), n.const(128, np.uint8)
    image = n.add("DequantizeLinear", n.add("QuantizeLinear", "input", step, zero), step, zero)
    x = n.add("QuantizeLinear", n.add("Conv", image, weight, kernel_shape=[3, 1]), step, zero)
    x = n.add("Clip", x, n.const(120, np.uint8), n.const(140, np.uint8))
    n.add("DequantizeLinear", x, step, zero, name="y")
    net = read_float(n.model("y"), Pixels(std=(128 / 255,) * 3))  # a pixel is worth pixel / 128
    (layer,) = net.layers
    assert (layer.low, layer.high) == (-8 * 0.25, 12 * 0.25)
    wanted = (np.arange(-18, 18).reshape(4, 3, 3, 1) - np.reshape([1, 0, -2, 3], (4, 1, 1, 1))) * np.reshape(
        [0.5, 0.25, 1, 2], (4, 1, 1, 1)
    )
    np.testing.assert_array_equal(layer.weight, wanted)
    assert net.notes == ["the quantizers of its maps are replaced by others"]


def test_what_pairs_cannot_be():
    n = Net(size=(8, 8))
    x = n.conv("input", 3, 4)
    n.add("QuantizeLinear", x, n.const(np.ones(4)), n.const(np.zeros(4), np.int8), name="a")
    n.add("DequantizeLinear", x, n.const(1.0), name="b")
    with pytest.raises(ModelRefused) as caught:
        read_float(n.model("a", "b"), GREY)
    assert [str(p) for p in caught.value.problems] == [
        "QuantizeLinear 'a': has several scales for one map. Quantize maps by one scale.",
        "DequantizeLinear 'b': reads something that no QuantizeLinear made. Export the file again.",
    ]


def test_the_verb_names_the_file_that_was_given(tmp_path):
    """Not its own draft of the result; and it says what a wrong kind of file is."""
    n = Net(size=(40, 40))
    n.conv("input", 3, 4, 9)
    n.add("MaxPool", n.nodes[-1].output[0], kernel_shape=[5, 5], name="y")
    path, picture = tmp_path / "net.onnx", tmp_path / "0.png"
    onnx.save(n.model("y"), path)
    Image.fromarray(images(1, (40, 40))[0]).save(picture)

    def run(*arguments):
        done = CliRunner().invoke(app, ["quantize", *map(str, arguments)])
        assert done.exit_code == 2
        return " ".join(done.output.split())

    options = ("--calibrate", tmp_path, "--pixels", "unit")
    said = run(path, *options)
    assert f"{path}: 2 parts cannot be compiled." in said and "draft" not in said
    assert f"{picture}: is neither the folder of a run nor a model.onnx" in run(picture, *options)
    assert "--size: '9999x8', expected HEIGHTxWIDTH, at most 4096" in run(path, *options, "--size", "9999x8")
    path.write_bytes(path.read_bytes()[:200])
    assert f"{path}: cannot be read as an ONNX model. Export it again." in run(path, *options)
