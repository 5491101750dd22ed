"""Float files from elsewhere: folded without a change, quantized, and computed by the C++ as onnxruntime does."""

import json

import numpy as np
import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner

from codesign.cli import app
from codesign.errors import DataError, ModelError, ModelRefused
from codesign.ir import evaluate
from codesign.onnx_io import import_model, quant_points
from quant.equalize import equalize
from quant.float_net import run_net, session
from quant.foreign import read_float
from quant.foreign_site import Pixels
from quant.ptq import quantize_net
from quant.ptq_run import PIXELS, Wish, calibration, quantize_file
from quant.ptq_write import to_model
from tests.engine.engines import assert_equal, simulate
from tests.quant.foreign_nets import Net, classifier_like, detector_like, images

NETS = {"detector": detector_like, "classifier": classifier_like}
IMAGENET = PIXELS["imagenet"]


def size_of(model):
    return tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)[2:]


def as_read(pixels):
    """(pixel - 128) / 128, NCHW."""
    return np.ascontiguousarray((pixels.astype(np.float32) - 128).transpose(0, 3, 1, 2) / 128)


def original(model, pixels, wanted: Pixels):
    """What the file itself computes, of pixels normalized as it wants them."""
    x = (pixels.astype(np.float64) / 255 - wanted.mean) / wanted.std
    x = (x[..., ::-1] if wanted.bgr else x).transpose(0, 3, 1, 2).astype(np.float32)
    names = [o.name for o in model.graph.output]
    run = session(model)
    rows = [run.run(names, {"input": x[i : i + 1]}) for i in range(len(x))]
    return {name: np.concatenate([r[k] for r in rows]) for k, name in enumerate(names)}


@pytest.mark.parametrize("pixels", [*PIXELS.values(), Pixels((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), bgr=True)])
@pytest.mark.parametrize("kind", NETS)
def test_folding_changes_nothing(kind, pixels):
    """Equal but for float32 rounding, which a mean and a deviation inside the weights move a little."""
    model = NETS[kind]()
    net, shown = read_float(model, pixels), images(2, size_of(model))
    got, wanted = run_net(net, as_read(shown)), original(model, shown, pixels)
    for name, array in wanted.items():
        found = got[name].reshape(array.shape)
        found = 1 / (1 + np.exp(-found)) if name == "heat" else found
        # Batch norms are folded in float32, and sums are taken in another order, layer after layer.
        np.testing.assert_allclose(found, array, atol=2e-4 * np.abs(array).max(), rtol=0)


def test_what_is_folded_is_gone():
    net = read_float(detector_like(), IMAGENET)
    assert {layer.op for layer in net.layers} == {"Conv", "Add", "MaxPool", "ConvTranspose", "Concat"}
    assert net.notes == ["heat: is given before its Sigmoid"]
    net = read_float(classifier_like(), IMAGENET)
    assert {layer.op for layer in net.layers} == {"Conv"}
    assert {(layer.low, layer.high) for layer in net.layers} == {(0.0, 6.0), (-np.inf, np.inf)}


def test_a_network_of_one_channel_reads_the_mean_of_three():
    model = classifier_like(channels=1)
    net, shown = read_float(model, Pixels()), images(2, size_of(model))
    grey = np.repeat(shown[..., :1], 3, axis=3)
    (wanted,) = session(model).run(
        None, {"input": (grey[:1, ..., :1] / np.float32(255)).transpose(0, 3, 1, 2)}
    )
    # The same: float32 sums of folded layers.
    np.testing.assert_allclose(run_net(net, as_read(grey[:1]))["scores"].reshape(1, -1), wanted, atol=1e-4)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("kind", NETS)
def test_equalization_changes_nothing(kind, bits):
    model = NETS[kind]()
    net, shown = read_float(model, IMAGENET), as_read(images(3, size_of(model)))
    before = run_net(net, shown)
    assert equalize(net, shown, bits) > 0
    for name, array in run_net(net, shown).items():
        # Factors cancel but for the rounding of float32, layer after layer.
        np.testing.assert_allclose(array, before[name], atol=1e-4 * np.abs(array).max(), rtol=0)


@pytest.mark.parametrize("lanes", [4, 16])
@pytest.mark.parametrize(("bits", "least"), [(8, 24), (4, 8)])
@pytest.mark.parametrize("kind", NETS)
def test_every_rung_computes_the_same_integers(kind, bits, least, lanes):
    """onnxruntime on the quantized file, the integer graph, and the C++: equal. Agreement with float in dB."""
    model = NETS[kind](seed=3)
    size = size_of(model)
    net = read_float(model, IMAGENET)
    equalize(net, as_read(images(4, size)), bits)
    found = quantize_net(net, as_read(images(4, size)), bits)
    assert min(found.snr[name] for name in net.outputs) > least, found.snr
    file = to_model(found, {"codesign.test": "kept"})
    onnx.checker.check_model(file)
    graph = import_model(file)
    assert graph.meta["codesign.test"] == "kept"
    codes = images(2, size, seed=9).astype(np.int64) - 128
    feeds = {"image": codes}
    values = evaluate(graph, feeds, keep=graph.types())
    points = quant_points(file, graph)
    run = session(file)
    for name in graph.outputs:
        floats = np.concatenate(
            [run.run([name], {"image": as_read(codes[i : i + 1] + 128)})[0] for i in (0, 1)]
        )
        np.testing.assert_array_equal(points[name].codes(floats), values[name])
    assert_equal(simulate(graph, feeds, lanes), {name: values[name] for name in graph.outputs})


def test_weights_have_the_bits_that_were_asked_for():
    net = read_float(detector_like(), IMAGENET)
    found = quantize_net(net, as_read(images(2, net.size)), 4)
    bits = {layer.name: found.parameters[layer.name].bits for layer in net.layers if layer.weight is not None}
    first, *inner, heat, other = (la for la in net.layers if la.weight is not None)
    assert bits[first.name] == bits[heat.name] == bits[other.name] == 8
    assert {bits[la.name] for la in inner if not la.depthwise} == {4}
    assert {bits[la.name] for la in inner if la.depthwise} == {8}


def refusal(net: Net, *outputs: str) -> list[str]:
    with pytest.raises(ModelRefused) as caught:
        read_float(net.model(*outputs), IMAGENET)
    return [str(problem) for problem in caught.value.problems]


def test_every_node_without_a_place_is_named_at_once():
    n = Net()
    x = n.add("Softmax", n.conv("input", 3, 8, 3), name="share", axis=1)
    y = n.add("Relu", n.conv("input", 3, 8, 3, dilations=[2, 2]))
    z = n.conv("input", 3, 8, 3)
    n.add("Mul", z, n.conv("input", 3, 8, 3), name="gate")
    n.add("Resize", z, n.const([]), n.const([1, 1, 2, 2]), mode="linear", name="up")
    n.add("Hardmax", z, name="most")
    assert refusal(n, n.conv(x, 8, 2), y, "gate", "up", "most") == [
        "Softmax 'share': is no function of each number alone. Take it of the network's result, or leave it out.",
        "Conv 'conv2': has dilations [2, 2], expected 1. Use no dilation.",
        "Mul 'gate': is element-wise arithmetic on two maps. Only two maps can be added.",
        "Resize 'up': has mode linear and factors 1,1,2,2, expected nearest 1,1,2,2. Upsample so.",
        "Hardmax 'most': is not an operator that can be quantized. Leave it out of the file.",
    ]


def test_inputs_that_are_no_image():
    n = Net(size=(0, 0))
    n.conv("input", 3, 4)
    with pytest.raises(ModelError) as caught:
        read_float(n.model("conv0"), IMAGENET)
    assert str(caught.value) == (
        "foreign: leaves height and width of its input open, expected a size. Give one: --size 320x320."
    )
    assert read_float(n.model("conv0"), IMAGENET, (8, 12)).size == (8, 12)
    with pytest.raises(
        ModelError, match=r"its input input has the shape \[1,5,24,20\], expected N,C,H,W with 1 or 3"
    ):
        read_float(Net(channels=5).model("input"), IMAGENET)


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(DataError, match="^.*: has no pictures"):
        calibration(tmp_path, (8, 8), 4)
    with pytest.raises(DataError, match="no such folder, expected one with pictures"):
        calibration(tmp_path / "none", (8, 8), 4)


@pytest.fixture
def folder(tmp_path):
    for i, picture in enumerate(images(3, (40, 30))):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    return tmp_path


def test_metadata_says_how_pictures_are_read(folder, tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(classifier_like(), path)
    labels = [f"class {i}" for i in range(7)]
    _, meta, figures = quantize_file(path, folder, Wish(IMAGENET, labels=labels))
    assert json.loads(meta["codesign.classifier"]) == {"output": "scores", "labels": labels}
    assert json.loads(meta["codesign.pixels"])["mean"] == [0.485, 0.456, 0.406]
    assert (figures["images"], figures["size"]) == (3, [33, 31])


def test_the_verb(folder, tmp_path):
    """quantize, build, classify: what a user of a file from elsewhere does."""
    path, out, bundle = tmp_path / "net.onnx", tmp_path / "net.q.onnx", tmp_path / "bundle"
    onnx.save(classifier_like(), path)
    (tmp_path / "labels.txt").write_text("\n".join(f"class {i}" for i in range(7)))

    def run(*arguments):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    wanted = ("quantize", path, "--calibrate", folder, "-o", out, "--labels", tmp_path / "labels.txt")
    done = run(*wanted, "--pixels", "imagenet")
    assert done.exit_code == 0, done.output
    assert run("build", out, "-o", bundle, "--lanes", 4).exit_code == 0
    shown = run("classify", bundle, folder / "0.png", folder / "1.png", "--top", 2, "--json")
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert set(found) == {"0", "1"} and all(len(best) == 2 for best in found.values())
    assert found["0"][0]["score"] >= found["0"][1]["score"] > 0
    raw = run("csim", bundle, "--images", folder / "0.png", "--json")
    assert raw.exit_code == 0 and [r["shape"] for r in json.loads(raw.stdout)] == [[1, 1, 7]]
    ladder = run("verify", bundle, "--images", folder / "0.png", "--json")
    assert ladder.exit_code == 0, ladder.output
    assert [r["different"] for r in json.loads(ladder.stdout) if r["status"] == "ok"] == [0] * 5
    refused = run("detect", bundle, folder / "0.png", "-o", tmp_path / "boxes")
    assert refused.exit_code == 2 and "has no metadata 'codesign.detector'" in refused.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            (),
            "how the network reads pixels was not said, expected --pixels pixels, unit, symmetric, imagenet",
        ),
        (("--pixels", "grey"), "--pixels: 'grey', expected pixels, unit, symmetric, imagenet."),
        (("--mean", "0.5", "--std", "0"), "--std: '0', expected one number or three"),
        (
            ("--pixels", "unit", "--size", "8"),
            "--size: '8', expected HEIGHTxWIDTH, at most 4096, as in 320x320.",
        ),
        (("--pixels", "unit", "--labels", "none.txt"), "none.txt: cannot be read"),
        (("--pixels", "unit", "--detector", "none.json"), "none.json: cannot be read"),
    ],
    ids=str,
)
def test_the_verb_says_what_it_lacks(options, said, folder, tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(classifier_like(), path)
    run = CliRunner().invoke(app, ["quantize", str(path), "--calibrate", str(folder), *options])
    assert run.exit_code == 2 and said in " ".join(run.output.split()), run.output
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".onnx", ".png", ".png", ".png"]


def test_the_verb_wants_pictures(tmp_path):
    run = CliRunner().invoke(app, ["quantize", str(tmp_path / "net.onnx"), "--pixels", "unit"])
    assert run.exit_code == 2 and "no pictures to calibrate on were given" in " ".join(run.output.split())


def test_quantizers_of_the_file_leave_their_limits():
    n = Net(size=(8, 8))
    domain = "qonnx.custom_op.general"
    weight = n.const(np.linspace(-1, 1, 36).reshape(4, 3, 3, 1))
    tables = [n.const(v) for v in (0.25, 0.0, 3.0)]
    q = n.add("Quant", weight, *tables, domain=domain, signed=1, narrow=1)
    x = n.add("Relu", n.add("Conv", "input", q, kernel_shape=[3, 1]))
    n.add("Quant", x, *tables, name="y", domain=domain, signed=0, narrow=0)
    net = read_float(n.model("y"), PIXELS["pixels"])
    (layer,) = net.layers
    assert (layer.low, layer.high) == (0.0, 7 * 0.25)
    assert set(np.unique(layer.weight / 128)) <= {0.25 * k for k in range(-3, 4)}
    assert net.notes == ["the quantizers of its maps are replaced by others"]


def test_limits_go_before_a_move_and_a_clip_of_the_image_is_judged_by_its_pixels():
    n = Net(size=(8, 8))
    x = n.conv(n.add("Relu", "input"), 3, 8, 3)
    n.add("Clip", n.add("DepthToSpace", x, blocksize=2, mode="CRD"), n.const(0), n.const(4), name="y")
    net = read_float(n.model("y"), PIXELS["unit"])
    assert [layer.op for layer in net.layers] == ["Conv", "DepthToSpace"]
    assert (net.layers[0].low, net.layers[0].high) == (0.0, 4.0)
    with pytest.raises(ModelRefused, match="clips the image"):
        read_float(n.model("y"), IMAGENET)
