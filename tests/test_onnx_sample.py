"""Bounded deformable nodes of a file: what they become, value by value, and what is refused of them."""

import numpy as np
import onnx
import pytest

from codesign import onnx_sample
from codesign.errors import ModelRefused
from codesign.fast import exact_float
from codesign.ir import IntType, evaluate
from codesign.onnx_conv import accumulate
from codesign.onnx_io import export_integer, import_model, onnx_with_taps, quant_points
from codesign.ops import SampledDwConv
from tests.kernels import needs_deform_conv
from tests.models import Builder, random_codenet_graph, random_feeds
from tests.onnx_models import edited, nchw, nhwc, run_onnx, to_onnx
from tests.test_onnx_import import same_function, text
from tests.test_onnx_refusals import attrs, both, rewire, value

OPS = (
    SampledDwConv(7, 0),
    SampledDwConv(3, 2),
    SampledDwConv(8, 3),
    SampledDwConv(2, 0, 0, 63),
    SampledDwConv(7, 2, -9, 40),
)


@pytest.mark.parametrize("op", OPS, ids=str)
def test_importing_gives_the_graph_back(op):
    graph = random_codenet_graph(7, 64, sampler=op)
    back = import_model(to_onnx(graph))
    assert text(back) == text(graph)
    assert same_function(graph, back)


@needs_deform_conv
@pytest.mark.parametrize("op", OPS, ids=str)
def test_the_file_in_onnxruntime_computes_the_graph(op):
    """Every tensor that has one scale; offsets beside masks have two, so what is made with them is compared."""
    graph = random_codenet_graph(8, 64, sampler=op)
    model = to_onnx(graph, batch="N")
    back = import_model(model)
    points, feeds = quant_points(model, back), random_feeds(back, batch=2)
    hidden = {n.inputs[1] for n in back.nodes if isinstance(n.op, SampledDwConv)} if op.masked else set()
    assert len(hidden) == (3 if op.masked else 0)
    stored = {n.name for n in back.nodes if n.name.endswith(".q") or n.name in back.outputs}
    assert stored - set(points) == hidden
    values = evaluate(back, feeds, keep=back.types())
    tensors = run_onnx(onnx_with_taps(model, [p.tensor for p in points.values()]),
                       {"image": nchw(feeds["image"], 2.0**-7)})  # fmt: skip
    for name, point in points.items():
        np.testing.assert_array_equal(point.codes(tensors[point.tensor]), values[name], err_msg=name)


@needs_deform_conv
@pytest.mark.parametrize(
    ("op", "carrier"),
    [*((op, np.float32) for op in OPS), (SampledDwConv(7, 4, 0, 127), np.float64)],
    ids=str,
)
def test_integers_in_onnxruntime(op, carrier):
    """In float64 where a sum may pass 2^24."""
    b = Builder(3)
    b.sampled("y", b.input("x", (7, 9, 5)), op)
    graph = b.graph(("y.q",))
    assert exact_float(graph.bounds()["y"]) is carrier
    model, feeds = export_integer(graph), random_feeds(graph, batch=2)
    onnx.checker.check_model(model, full_check=True)
    got = run_onnx(model, {"x": nchw(feeds["x"])})["y.q"]
    np.testing.assert_array_equal(nhwc(got), evaluate(graph, feeds, reference=True)["y.q"])


def network(op):
    b = Builder(seed=5)
    x = b.sampled("deform", b.conv("stem", b.input("image", (16, 16, 3)), 8, bits=IntType(8)), op)
    b.conv("head", x, 2, bits=IntType(8), result="hm", out=IntType(8))
    return to_onnx(b.graph(["hm"]))


PLAIN, MASKED = network(SampledDwConv(3, 2)), network(SampledDwConv(3, 2, 0, 63))
NODE = {id(PLAIN): "BoundedDeformConv", id(MASKED): "ModulatedDeformConv"}
REFUSALS = [
    (PLAIN, attrs("deform", max_offset=9),
     "its offset reaches 9, expected a bound between 1 and 8. Train with max_offset of at most 8."),
    (PLAIN, attrs("deform", fraction_bits=5),
     "its offsets have 5 bits of fraction, expected 0 to 4. Round them to such steps."),
    (MASKED, attrs("deform", max_offset=8, fraction_bits=4),
     "its offsets to 8 in steps of 2^-4 do not fit i8. Use fewer bits of fraction."),
    (MASKED, attrs("deform", mask_high=200),
     "has masks 0..200 in steps of 2^-5, expected a range inside i8 and 2^0 to 2^-7. Give masks such a range."),
    (MASKED, attrs("deform", mask_high=0),
     "has masks 0..0 in steps of 2^-5, expected a range inside i8 and 2^0 to 2^-7. Give masks such a range."),
    (PLAIN, rewire("deform", 2, "stem.q"), "its offsets are quantized already, in other steps than its own. "
     "Give it what the convolution of the offsets makes."),
    (PLAIN, rewire("deform", 2, "stem"),
     "its offsets have 8 channels, expected 18. The file contradicts itself: export it again."),
    (PLAIN, attrs("deform", group=1), "has 1 groups with 8 input and 8 output channels, expected depthwise. "
     "Use a depthwise deformable convolution followed by a 1x1 convolution."),
]  # fmt: skip


@pytest.mark.parametrize(("model", "edit", "message"), REFUSALS, ids=range(len(REFUSALS)))
def test_each_refusal(model, edit, message):
    with pytest.raises(ModelRefused) as caught:
        import_model(edited(model, edit))
    (only,) = [line.strip() for line in str(caught.value).splitlines() if "DeformConv" in line]
    assert only == f"{NODE[id(model)]} 'deform': {message}"


def test_all_at_once():
    edit = both(attrs("deform", max_offset=0, group=1), value("deform.weight.zero", 1))
    with pytest.raises(ModelRefused) as caught:
        import_model(edited(PLAIN, edit))
    assert len(caught.value.problems) == 3


def test_offsets_may_be_quantized_in_the_node_s_steps():
    """Then they are codes before the node reads them; it is the same graph."""
    graph = random_codenet_graph(7, 64, sampler=SampledDwConv(3, 2))
    model = to_onnx(graph)
    for node in [n for n in model.graph.node if n.op_type == "BoundedDeformConv"]:
        at, name = list(model.graph.node).index(node), node.input[2]
        step = onnx.numpy_helper.from_array(np.float32(0.25), f"{name}.step")
        others = [
            onnx.numpy_helper.from_array(np.float32(v), f"{name}.{k}") for k, v in (("zero", 0), ("bits", 8))
        ]
        model.graph.initializer.extend([step, *others])
        inputs = [name, f"{name}.step", f"{name}.zero", f"{name}.bits"]
        quant = onnx.helper.make_node("Quant", inputs, [f"{name}.codes"], domain="qonnx.custom_op.general",
                                      signed=1, narrow=0, rounding_mode="ROUND")  # fmt: skip
        model.graph.node.insert(at, quant)
        node.input[2] = f"{name}.codes"
    assert same_function(graph, import_model(model))


@pytest.mark.parametrize("op", OPS, ids=str)
def test_sums_are_proven_to_stay_in_the_operator_s_range(op, monkeypatch):
    """What a requantization is searched for: four neighbours in steps, times a mask."""
    found = {}

    def remember(*args, **options):
        acc = accumulate(*args, **options)
        found[acc.node] = acc.reach
        return acc

    monkeypatch.setattr(onnx_sample, "accumulate", remember)
    graph = import_model(network(op))
    (node,) = (n.name for n in graph.nodes if isinstance(n.op, SampledDwConv))
    wanted = graph.bounds()[node]
    np.testing.assert_array_equal(found[node], (wanted.low, wanted.high))
