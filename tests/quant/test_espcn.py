"""Both quantized ESPCN that qonnx ships: the file's own function, code for code, from float64 down to exact types.

One has an image without a quantizer, and is given one: its pixels have 8 bits.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from codesign.ir import evaluate
from codesign.ladder import FREE_SCALES, models
from codesign.onnx_image import with_image_quantizer
from codesign.onnx_io import export_integer, import_model, onnx_with_taps, quant_points
from codesign.onnx_read import load
from codesign.ops import WideRequant
from codesign.plan import plan
from codesign.rungs import OnnxSession
from tests.engine.engines import assert_equal, simulate

FOLDER = "data/onnx/bsd300x3-espcn"
WIDE = {"nn_resize": 4, "subpixel": 3}  # layers that need wide rows
pytestmark = pytest.mark.slow  # 128 x 128 pixels, 100 million products in float64


@pytest.fixture(scope="module", params=WIDE)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def path(name, tmp_path_factory):
    found = find_spec("qonnx")
    if found is None or found.origin is None or not (folder := Path(found.origin).parent / FOLDER).exists():
        pytest.skip("qonnx, whose package has the files, is not installed")
    shipped = folder / name / "quant_model.onnx"
    if name == "nn_resize":
        return shipped
    made = tmp_path_factory.mktemp(name) / "model.onnx"
    onnx.save(with_image_quantizer(load(shipped)[1], "unit", str(shipped)), made)
    return made


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


@pytest.fixture(scope="module")
def feeds(graph, image):
    return dict.fromkeys(graph.inputs, image)


def in_float64(model, image, scale):
    """Maps of the file's nodes by the name of their convolution, each node as ONNX says, in float64."""
    functional = pytest.importorskip(
        "torch", reason="torch, whose convolution takes float64, is not installed"
    )
    of = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    maps, norm = {model.graph.input[0].name: image.transpose(0, 3, 1, 2) * scale}, "epsilon"
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
            bias = [of[name] for name in node.input[2:]]
            arrays = [functional.from_numpy(v) for v in (x, maps[node.input[1]], *bias)]
            pads = attributes["pads"].ints[0]
            result = functional.nn.functional.conv2d(*arrays, padding=pads).numpy()
        elif node.op_type == "BatchNormalization":
            scale, shift, mean, variance = tables
            result = (x - mean) / np.sqrt(variance + attributes[norm].f) * scale + shift
        elif node.op_type == "Relu":
            result = np.maximum(x, 0)
        elif node.op_type == "DepthToSpace":
            n, c, h, w = x.shape
            assert attributes["mode"].s == b"CRD" and attributes["blocksize"].i == 2
            result = (
                x.reshape(n, c // 4, 2, 2, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)
            )
        else:
            assert node.op_type == "Resize"
            result = x.repeat(2, axis=2).repeat(2, axis=3)
        maps[node.output[0]] = result
    return maps


def test_every_map_is_the_one_of_the_file(name, path, graph, image, feeds):
    assert sum(isinstance(node.op, WideRequant) for node in graph.nodes) == WIDE[name]
    model, points = load(path)[1], quant_points(path, graph)
    (scale,) = (graph.scales[given] for given in graph.inputs)
    maps = in_float64(model, image, scale)
    values = evaluate(graph, feeds, keep=graph.types())
    assert len(points) >= 4
    for node, point in points.items():
        np.testing.assert_array_equal(point.codes(maps[point.tensor]), values[node], err_msg=node)


def test_all_rungs_are_equal(graph, feeds):
    wanted, outputs = evaluate(graph, feeds), list(graph.outputs)
    assert all(np.ptp(wanted[output]) == 255 for output in outputs)
    whole = OnnxSession(export_integer(graph), "integers").run(feeds, outputs)
    for output in outputs:
        np.testing.assert_array_equal(whole[output].transpose(0, 2, 3, 1), wanted[output])
    assert_equal(simulate(graph, feeds, 16, config=plan(graph, 16).config), wanted)


def test_the_ladder_says_why_float32_differs(path, graph, image):
    rungs, _ = models(path, graph, image.astype(np.uint8), lambda text: None)
    assert [(r.number, r.status) for r in rungs] == [(2, "ok"), (3, "fail"), (4, "ok")]
    found = rungs[1]
    assert found.note.endswith(f"by up to 1; {FREE_SCALES}") and 0 < found.different < found.compared // 1000


def test_float32_is_near(path, graph, feeds):
    """A runtime adds in float32: about one sum in ten thousand lies within its rounding of a half."""
    points = quant_points(path, graph)
    first = next(node.name for node in graph.nodes if isinstance(node.op, WideRequant))
    wanted = evaluate(graph, feeds, keep=graph.types())[first]
    tensor = points[first].tensor
    session = OnnxSession(onnx_with_taps(load(path)[1], [tensor]), str(path))
    real = {given: (image * graph.scales[given]).astype(np.float32) for given, image in feeds.items()}
    found = points[first].codes(session.run(real, [tensor])[tensor])
    assert np.abs(found - wanted).max() <= 1
    assert np.count_nonzero(found != wanted) <= wanted.size // 10_000
