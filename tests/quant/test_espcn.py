"""The quantized ESPCN that qonnx ships: the file's own function, code for code, from float64 down to exact types."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from codesign.ir import evaluate
from codesign.ladder import FREE_SCALES, models
from codesign.onnx_io import export_integer, import_model, onnx_with_taps, quant_points
from codesign.onnx_read import load
from codesign.ops import WideRequant
from codesign.plan import plan
from codesign.rungs import OnnxSession
from tests.engine.engines import assert_equal, simulate

FILE = "data/onnx/bsd300x3-espcn/nn_resize/quant_model.onnx"
pytestmark = pytest.mark.slow  # 128 x 128 pixels, 100 million products in float64


@pytest.fixture(scope="module")
def path():
    found = find_spec("qonnx")
    if found is None or found.origin is None or not (path := Path(found.origin).parent / FILE).exists():
        pytest.skip("qonnx, whose package has the file, is not installed")
    return path


@pytest.fixture(scope="module")
def graph(path):
    return import_model(path)


@pytest.fixture(scope="module")
def image():
    """Half of it noise, half a gradient with an edge."""
    rows, columns = np.mgrid[:128, :128]
    smooth = np.stack([2 * rows, 2 * columns, 255 * (rows > columns)], axis=2)
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3))
    return np.where(columns[..., None] < 64, noise, smooth)[None]


def in_float64(model, image):
    """Maps of the file's nodes by the name of their convolution, each node as ONNX says, in float64."""
    functional = pytest.importorskip(
        "torch", reason="torch, whose convolution takes float64, is not installed"
    )
    of = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    maps, norm = {model.graph.input[0].name: image.transpose(0, 3, 1, 2) * of["scale"]}, "epsilon"
    for node in model.graph.node:
        x, attributes = maps.get(node.input[0]), {a.name: a for a in node.attribute}
        tables = [
            of[name].reshape(1, -1, 1, 1) for name in node.input[1:] if name in of and of[name].ndim == 1
        ]
        if node.op_type == "Quant":
            bits, signed, narrow = int(of[node.input[3]]), attributes["signed"].i, attributes["narrow"].i
            most = 2 ** (bits - signed) - 1
            source = of[node.input[0]] if x is None else x
            codes = np.rint(source / of[node.input[1]]).clip(-signed * (most + 1 - narrow), most)
            result = codes * of[node.input[1]]
        elif node.op_type == "Conv":
            arrays = [functional.from_numpy(v) for v in (x, maps[node.input[1]], of[node.input[2]])]
            pads = attributes["pads"].ints[0]
            result = functional.nn.functional.conv2d(*arrays, padding=pads).numpy()
        elif node.op_type == "BatchNormalization":
            scale, shift, mean, variance = tables
            result = (x - mean) / np.sqrt(variance + attributes[norm].f) * scale + shift
        elif node.op_type == "Relu":
            result = np.maximum(x, 0)
        else:
            assert node.op_type == "Resize"
            result = x.repeat(2, axis=2).repeat(2, axis=3)
        maps[node.output[0]] = result
    return maps


def test_every_map_is_the_one_of_the_file(path, graph, image):
    assert sum(isinstance(node.op, WideRequant) for node in graph.nodes) == 4
    model, points = load(path)[1], quant_points(path, graph)
    maps = in_float64(model, image)
    values = evaluate(graph, {"onnx::Relu_0": image}, keep=graph.types())
    assert len(points) == 6
    for name, point in points.items():
        np.testing.assert_array_equal(point.codes(maps[point.tensor]), values[name], err_msg=name)


def test_all_rungs_are_equal(graph, image):
    feeds = {"onnx::Relu_0": image}
    wanted = evaluate(graph, feeds)
    assert np.ptp(wanted["96"]) == 255
    whole = OnnxSession(export_integer(graph), "integers").run(feeds, ["96"])["96"]
    np.testing.assert_array_equal(whole.transpose(0, 2, 3, 1), wanted["96"])
    assert_equal(simulate(graph, feeds, 16, config=plan(graph, 16).config), wanted)


def test_the_ladder_says_why_float32_differs(path, graph, image):
    codes = image.astype(np.uint8)
    rungs, values = models(path, graph, codes, lambda text: None)
    assert [(r.number, r.status) for r in rungs] == [(2, "ok"), (3, "fail"), (4, "ok")]
    assert (
        rungs[1].note.endswith(f"by up to 1; {FREE_SCALES}")
        and 0 < rungs[1].different < rungs[1].compared // 1000
    )


def test_float32_is_near(path, graph, image):
    """A runtime adds in float32: about one sum in ten thousand lies within its rounding of a half."""
    points = quant_points(path, graph)
    wanted = evaluate(graph, {"onnx::Relu_0": image}, keep=graph.types())["Conv_10.q"]
    tensor = points["Conv_10.q"].tensor
    session = OnnxSession(onnx_with_taps(load(path)[1], [tensor]), str(path))
    feed = (image * graph.scales["onnx::Relu_0"]).astype(np.float32)
    found = points["Conv_10.q"].codes(session.run({"onnx::Relu_0": feed}, [tensor])[tensor])
    assert np.abs(found - wanted).max() <= 1
    assert np.count_nonzero(found != wanted) <= wanted.size // 10_000
