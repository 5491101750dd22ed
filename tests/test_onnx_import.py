"""What the importer reads: each file format, and each way exporters have of writing the same thing."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from codesign.ir import evaluate
from codesign.onnx_io import import_model, onnx_with_taps, quant_points
from codesign.ops import Conv, DeformDwConv, DwConv
from tests.kernels import needs_deform_conv
from tests.models import Builder, random_codenet_graph, random_feeds
from tests.onnx_models import edited, nchw, nhwc, run_onnx, to_onnx
from tests.test_onnx_refusals import GRAPH, MODELS, attrs, before, both, constant, node, rewire, value

MINI = Path(__file__).parent / "data" / "mini.onnx"
FLAVOURS = ("qonnx", "plain", "qcdq")


def same_function(graph, other, seed=1):
    feeds = random_feeds(graph, seed, batch=2)
    a, b = evaluate(graph, feeds), evaluate(other, feeds)
    return all(np.array_equal(a[name], b[name]) for name in graph.outputs)


def text(graph):
    """Everything but the order of the constants."""
    return sorted(str(graph).splitlines())


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("stem", ["stride4", "maxpool"])
def test_importing_gives_the_graph_back(flavour, stem):
    graph = random_codenet_graph(7, (64, 96), stem=stem)
    back = import_model(to_onnx(graph, flavour))
    assert text(back) == text(graph)
    assert [n.name for n in back.nodes] == [n.name for n in graph.nodes]
    assert dict(back.scales) == dict(graph.scales)
    assert same_function(graph, back)


def test_mantissas_become_odd_multipliers():
    back = import_model(MODELS["qonnx"])
    for name, array in GRAPH.consts.items():
        if name.endswith(".mult"):
            shift = name.replace(".mult", ".shift")
            assert set(back.consts[name]) <= {1, 3, 5, 7}
            before_, after = (g.consts[name] * 2.0 ** -g.consts[shift].astype(float) for g in (GRAPH, back))
            np.testing.assert_array_equal(before_, after)
            assert array.shape == back.consts[name].shape


@needs_deform_conv
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_value_equals_the_tensor_of_the_file(flavour):
    graph = random_codenet_graph(8, 64, stem="maxpool")
    model = to_onnx(graph, flavour, batch="N")
    back = import_model(model)
    points, feeds = quant_points(model, back), random_feeds(back, batch=2)
    values = evaluate(back, feeds, keep=back.types())
    taps = onnx_with_taps(model, [p.tensor for p in points.values()])
    tensors = run_onnx(taps, {"image": nchw(feeds["image"], 2.0**-7)})
    accumulators = {n.name for n in back.nodes if isinstance(n.op, (Conv, DwConv, DeformDwConv))}
    assert set(points) == {"image", *(n.name for n in back.nodes)} - accumulators
    for name, point in points.items():
        np.testing.assert_array_equal(point.codes(tensors[point.tensor]), values[name], err_msg=name)


@needs_deform_conv
def test_a_file_of_the_exporter_value_by_value():
    model = onnx.load(MINI)
    graph = import_model(MINI)
    points, feeds = quant_points(MINI, graph), random_feeds(graph, batch=1)
    tensors = run_onnx(
        onnx_with_taps(model, [p.tensor for p in points.values()]), {"image": nchw(feeds["image"], 2.0**-7)}
    )
    values = evaluate(graph, feeds, keep=graph.types())
    assert len(points) > 60
    for name, point in points.items():
        np.testing.assert_array_equal(point.codes(tensors[point.tensor]), values[name], err_msg=name)
    assert graph.outputs == ("hm", "wh", "reg")
    assert graph.scales["image"] == 2.0**-7
    assert "codesign.detector" in graph.meta


def test_taps_are_added_once_and_the_model_is_left_alone():
    model = MODELS["qonnx"]
    tapped = onnx_with_taps(model, ["stem.q", "hm", "stem.q"])
    assert [o.name for o in tapped.graph.output] == ["hm", "stem.q"]
    assert [o.name for o in model.graph.output] == ["hm"]


@pytest.mark.parametrize("batch", [1, 4, "N", "batch_size"])
def test_any_batch_gives_the_graph_of_one_image(batch):
    assert text(import_model(to_onnx(GRAPH, "qonnx", batch))) == text(import_model(MODELS["qonnx"]))


def test_metadata_travels():
    model = edited(
        MODELS["qonnx"], lambda m: helper.set_model_props(m, {"codesign.detector": "{}", "note": "x"})
    )
    assert dict(import_model(model).meta) == {"codesign.detector": "{}", "note": "x"}


def test_names_come_from_parameters_then_from_nodes():
    def rename(model):
        for n in model.graph.node:
            n.name = "" if n.name == "pool" else f"/net/{n.name}/{n.op_type}"

    names = [n.name for n in import_model(edited(MODELS["qonnx"], rename)).nodes]
    assert names[:4] == ["stem", "stem.q", "pool", "net.left"]


# Other ways of writing what the network of test_onnx_refusals computes.


def replaced(name, *nodes):
    """Put other nodes in the place of one."""

    def edit(model):
        position = [n.name for n in model.graph.node].index(name)
        del model.graph.node[position]
        for n in reversed(nodes):
            model.graph.node.insert(position, n)

    return edit


def split(extra, **values):
    new = helper.make_node("Split", ["pool", *extra], ["left", "right"], "split", axis=1, **values)
    return both(replaced("left", new), lambda m: m.graph.node.remove(node(m, "right")))


def open_batch_shape(model):
    """The shape of a shuffle computed from the map's own, as exporters write it for an open batch."""
    tail = numpy_helper.from_array(np.array([2, 4, 8, 8]), "tail")
    model.graph.initializer.extend([tail, numpy_helper.from_array(np.array([0]), "zero")])
    nodes = [
        helper.make_node("Shape", ["cat"], ["dims"], "dims"),
        helper.make_node("Gather", ["dims", "zero"], ["n"], "n"),
        helper.make_node("Concat", ["n", "tail"], ["wanted"], "wanted", axis=0),
    ]
    position = [n.name for n in model.graph.node].index("shuffle.a")
    for n in reversed(nodes):
        model.graph.node.insert(position, n)
    node(model, "shuffle.a").input[1] = "wanted"


def constants_as_nodes(model):
    """Every parameter as a Constant node, as some exporters write them; single numbers as attributes."""
    for t in reversed(model.graph.initializer):
        array = numpy_helper.to_array(t)
        name = "value_float" if array.dtype == np.float32 else "value_int"
        values = {name: array.item()} if array.ndim == 0 and array.dtype != np.uint8 else {"value": t}
        model.graph.node.insert(0, helper.make_node("Constant", [], [t.name], **values))
    del model.graph.initializer[:]


WAYS = {
    "parameters as constant nodes": constants_as_nodes,
    "a parameter computed from constants": both(
        constant("all", np.array([4, 4, 1, 1])),
        constant("one", np.ones(1, np.float32)),
        before("pw.weight.q", "Mul", extra=("ones",)),
        lambda m: m.graph.node.insert(0, helper.make_node("Expand", ["one", "all"], ["ones"], "ones")),
    ),
    "split into equal parts": split([], num_outputs=2),
    "split by sizes": both(constant("sizes", np.array([4, 4])), split(["sizes"])),
    "half-pixel upsampling": attrs(
        "up", coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_floor"
    ),
    "asymmetric, prefer floor": attrs("up", nearest_mode="round_prefer_floor"),
    "upsampling by sizes": both(
        constant("target", np.array([1, 8, 16, 16])),
        lambda m: node(m, "up").input.append("target"),
        rewire("up", 2, ""),
    ),
    "identity and dropout": both(before("pool", "Identity"), before("new", "Dropout")),
    "relu after the quantizer": before("pool", "Relu"),
    "no relu before an unsigned quantizer": rewire("stem.q", 0, "stem"),
    "clip within the codes": both(
        constant("low", np.float32(0)),
        constant("high", np.float32(100)),
        before("pool", "Clip", extra=("low", "high")),
    ),
    "quantized again alike": before(
        "left",
        "Quant",
        extra=("stem.q.scale", "stem.q.zero", "stem.q.bits"),
        domain="qonnx.custom_op.general",
        signed=0,
    ),
    "negative axes": attrs("cat", axis=-3),
    "slice to the end": value("int8", [2**63 - 1], np.int64),
    "reshape by -1": value("shuffle.split", [1, 2, -1, 8, 8], np.int64),
    "reshape with the batch open": value("shuffle.split", [-1, 2, 4, 8, 8], np.int64),
    "shuffle of flattened maps": both(
        value("shuffle.split", [0, 2, 4, 64], np.int64), attrs("shuffle.b", perm=[0, 2, 1, 3])
    ),
    "shape computed from the map": open_batch_shape,
    "half-even by its other name": attrs("stem.q", rounding_mode="half_even"),
    "old domain of Quant": lambda m: setattr(node(m, "stem.q"), "domain", "onnx.brevitas"),
    "IntQuant": lambda m: setattr(node(m, "stem.q"), "op_type", "IntQuant"),
    "default domain by name": lambda m: setattr(node(m, "pool"), "domain", "ai.onnx"),
}


@pytest.mark.parametrize("way", WAYS)
def test_other_ways_of_writing_the_same(way):
    back = import_model(edited(MODELS["qonnx"], WAYS[way]))
    assert same_function(GRAPH, back)
    ops = [str(n.op) for n in back.nodes]
    assert ops == [str(n.op) for n in GRAPH.nodes]


def test_clips_narrow_the_requantization():
    edit = both(
        constant("low", np.float32(2)),
        constant("high", np.float32(6)),
        before("pool", "Clip", extra=("low", "high")),
    )
    requant = next(n for n in import_model(edited(MODELS["qonnx"], edit)).nodes if n.name == "stem.q")
    assert str(requant.op) == "Requant(out=u8, lo=32, hi=96)"  # 2 and 6 in steps of 2^-4


def test_narrow_quantizers():
    back = import_model(edited(MODELS["qonnx"], both(attrs("hm", narrow=1), attrs("stem.q", narrow=1))))
    ops = {n.name: str(n.op) for n in back.nodes}
    assert ops["hm"] == "Requant(out=i8, lo=-127, hi=127)"
    assert ops["stem.q"] == "Requant(out=u8, lo=0, hi=254)"


def test_plain_offsets_may_be_wider_than_their_clip():
    def edit(model):
        value("deform.offset.q.bits", 4)(model)
        constant("low", np.float32(0))(model)
        constant("high", np.float32(7))(model)
        before("deform.less", "Clip", extra=("low", "high"))(model)

    assert text(import_model(edited(MODELS["plain"], edit))) == text(import_model(MODELS["plain"]))


def test_plain_offsets_may_be_rounded_and_clipped_by_standard_operators():
    nodes = [
        helper.make_node("Round", ["deform.offset"], ["rounded"], "rounded"),
        helper.make_node("Clip", ["rounded", "low", "high"], ["deform.offset.q"], "clipped"),
    ]
    limits = [constant("low", np.float32(0)), constant("high", np.float32(7))]
    model = edited(MODELS["plain"], both(*limits, replaced("deform.offset.q", *nodes)))
    assert text(import_model(model)) == text(import_model(MODELS["plain"]))


def test_bias_may_follow_as_an_addition():
    def edit(model):
        n = node(model, "pw")
        bias = n.input.pop()
        n.output[0] = "sums"
        model.graph.initializer.append(numpy_helper.from_array(np.array([1, -1, 1, 1]), "column"))
        position = [m.name for m in model.graph.node].index("pw") + 1
        model.graph.node.insert(position, helper.make_node("Add", ["column.bias", "sums"], ["pw"], "add"))
        model.graph.node.insert(
            position, helper.make_node("Reshape", [bias, "column"], ["column.bias"], "column")
        )

    assert text(import_model(edited(MODELS["qonnx"], edit))) == text(import_model(MODELS["qonnx"]))


def test_functions_of_other_exporters_are_expanded():
    body = parser.parse_function(
        '<domain: "their", opset_import: ["" : 20]> Twice (x) => (y) { a = Relu (x) y = Relu (a) }'
    )

    def edit(model):
        node(model, "stem.relu").op_type, node(model, "stem.relu").domain = "Twice", "their"
        model.opset_import.append(helper.make_opsetid("their", 1))
        model.functions.append(body)

    assert text(import_model(edited(MODELS["qonnx"], edit))) == text(import_model(MODELS["qonnx"]))


def test_what_no_output_needs_is_not_looked_at():
    junk = helper.make_node("Loop", ["image"], ["junk"], "junk")
    model = edited(MODELS["qonnx"], lambda m: m.graph.node.append(junk))
    assert text(import_model(model)) == text(import_model(MODELS["qonnx"]))


def test_initializers_may_be_listed_as_inputs():
    def edit(model):
        for t in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(t.name, t.data_type, t.dims))

    assert list(import_model(edited(MODELS["qonnx"], edit)).inputs) == ["image"]


def test_shifts_are_clamped_without_changing_the_result():
    b = Builder(seed=1, mantissas=(1,))
    x = b.input("image", (2, 2, 3))
    b.conv("pw", x, 4)
    graph = b.graph(["pw.q"], {"pw.q": 2.0**-4})
    model = to_onnx(graph)
    for factor in (2.0**-60, 2.0**30):
        scale = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "pw.weight.scale"))
        weight = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "pw.weight"))
        edit = both(
            value("pw.weight.scale", scale * factor), value("pw.weight", weight * factor),
            value("pw.bias", np.zeros(4)), value("pw.bias.scale", scale.reshape(-1) * factor * 2.0**-7),
        )  # fmt: skip
        changed = edited(model, edit)
        back = import_model(changed)
        assert back.consts["pw.shift"].min() >= -16 and back.consts["pw.shift"].max() <= 40
        feeds = random_feeds(back)
        expected = run_onnx(changed, {"image": nchw(feeds["image"], 2.0**-7)})["pw.q"]
        np.testing.assert_array_equal(evaluate(back, feeds)["pw.q"], nhwc(expected, 2.0**-4))


def test_importing_does_not_change_the_proto():
    model = edited(MODELS["qonnx"], lambda m: None)
    import_model(model)
    assert model == MODELS["qonnx"]


def test_models_of_the_checker_are_valid():
    for model in MODELS.values():
        onnx.checker.check_model(model)
