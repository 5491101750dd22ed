"""The file for FINN: its numbers in qonnx's executor, its form against qonnx's own lowering and against the conditions
under which FINN's sources convert a node to hardware, and what is refused.
"""

import json

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.fold_constants import FoldConstants
from qonnx.transformation.general import (
    GiveReadableTensorNames,
    GiveUniqueNodeNames,
    RemoveStaticGraphInputs,
    RemoveUnusedTensors,
)
from qonnx.transformation.infer_data_layouts import InferDataLayouts
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.lower_convs_to_matmul import LowerConvsToMatMul
from qonnx.util.cleanup import cleanup_model

from codesign import cli
from codesign.errors import ModelRefused
from codesign.finn import datatype, export_finn, thresholds
from codesign.ir import Bounds, Graph, IntType, Node, evaluate
from codesign.onnx_io import export_integer, import_model
from codesign.ops import (
    Add,
    Concat,
    Conv,
    DeformDwConv,
    DwConv,
    MaxPool,
    Requant,
    SampledDwConv,
    Shuffle,
    Slice,
    Upsample,
)
from codesign.shipped import find_model
from tests.models import I8, U8, Builder, down_block, random_feeds, random_residual_graph, unit_block
from tests.onnx_models import to_onnx

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def shuffle_graph(seed=0, size=16, units=2, pool=True):
    """A detector with the branches of ShuffleNetV2 and an ordinary depthwise decoder."""
    b = Builder(seed)
    x = b.conv("stem", b.input("image", (size, size, 3)), 6, kernel=3, stride=2, bits=I8)
    if pool:
        x = b.add("pool", MaxPool((3, 3), (1, 1), (1, 1, 1, 1)), x)
    x = down_block(b, "down", x, 8)
    for i in range(units):
        x = unit_block(b, f"unit{i}", x)
    x = b.conv("pw", b.dwconv("dw", x, out=I8), 6)
    x = b.add("up", Upsample(2), x)
    b.conv("head.hm", b.dwconv("head.dw", x), 3, bits=I8, result="hm", out=I8)
    b.conv("head.wh", x, 2, bits=I8, result="wh", out=I8)
    return b.graph(("hm", "wh"), {"hm": 2.0**-4, "wh": 2.0**-6})


def without_deformation(graph):
    """The same weights under ordinary windows, and no offsets."""
    nodes = [
        Node(n.name, DwConv(n.op.stride), (n.inputs[0], n.inputs[2])) if isinstance(n.op, DeformDwConv) else n
        for n in graph.nodes
    ]
    wanted, kept = set(graph.outputs), []
    for node in reversed(nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
            kept.append(node)
    consts = {name: array for name, array in graph.consts.items() if name in wanted}
    const_types = {name: graph.const_types[name] for name in consts}
    return Graph(
        graph.inputs, tuple(kept[::-1]), graph.outputs, consts, const_types, graph.scales, graph.meta
    )


def executed(model, feeds):
    """Outputs by position, as clean-up gives them other names."""
    (source,) = model.graph.input
    outputs = execute_onnx(model, {source.name: feeds["image"].astype(np.float32)})
    return [outputs[info.name] for info in model.graph.output]


def assert_equal_to_the_graph(model, graph, seed=3):
    feeds = random_feeds(graph, seed)
    for got, expected in zip(executed(model, feeds), evaluate(graph, feeds).values(), strict=True):
        np.testing.assert_array_equal(got, expected)


GRAPH = shuffle_graph()


def test_the_integers_are_the_graphs():
    model = export_finn(GRAPH, "x")
    onnx.checker.check_model(model)
    assert_equal_to_the_graph(ModelWrapper(model), GRAPH)
    kinds = {node.op_type for node in model.graph.node}
    expected = {"Im2Col", "MatMul", "MultiThreshold", "MaxPoolNHWC", "Split", "Concat", "Resize"}
    assert kinds == expected, "a shuffle is the order of weights and nothing else"


def test_trained_weights():
    graph = without_deformation(import_model(find_model("codenet-tiny")))
    assert_equal_to_the_graph(ModelWrapper(export_finn(graph, "x")), graph)


def test_what_finns_front_end_runs_of_qonnx_keeps_every_number():
    """`step_tidy_up` and what `step_streamline` takes from qonnx: nothing is left for them to do."""
    model = ModelWrapper(export_finn(GRAPH, "x"))
    kinds = sorted(node.op_type for node in model.graph.node)
    model = cleanup_model(model)
    for step in (
        InferShapes(),
        FoldConstants(),
        GiveUniqueNodeNames(),
        GiveReadableTensorNames(),
        InferDataTypes(),
        RemoveStaticGraphInputs(),
        LowerConvsToMatMul(),
        InferDataLayouts(),
        RemoveUnusedTensors(),
    ):
        model = model.transform(step)
    assert sorted(node.op_type for node in model.graph.node) == kinds
    assert_equal_to_the_graph(model, GRAPH)
    for node in model.graph.node:
        for name in (*node.input[:1], *node.output):
            assert model.get_tensor_datatype(name).is_integer(), name
            assert model.get_tensor_layout(name) == ["N", "H", "W", "C"], name


@pytest.mark.parametrize("op", ["dense", "depthwise", "1x1", "1x1 with stride"])
def test_a_convolution_is_lowered_as_qonnx_lowers_it(op):
    b = Builder(1)
    x = b.input("image", (6, 6, 4))
    weight = b.weight(
        "y", (3, 3, 4) if op == "depthwise" else (3, 3, 4, 5) if op == "dense" else (1, 1, 4, 5), I8
    )
    conv = {
        "dense": Conv((3, 3), (2, 2), (1, 1, 1, 1)),
        "depthwise": DwConv((1, 1), (1, 1, 1, 1)),
        "1x1": Conv(),
        "1x1 with stride": Conv((1, 1), (2, 2)),
    }[op]
    b.add("y", conv, x, weight)
    ours = ModelWrapper(export_finn(b.graph(("y",)), "x"))
    integers = export_integer(b.graph(("y",)))
    for info in (*integers.graph.input, *integers.graph.output):
        info.type.tensor_type.shape.dim[0].dim_value = 1
    theirs = ModelWrapper(integers).transform(InferShapes()).transform(LowerConvsToMatMul())
    np.testing.assert_array_equal(ours.get_initializer("y.weight"), theirs.get_initializer("y.weight"))
    assert ours.get_tensor_sparsity("y.weight") == theirs.get_tensor_sparsity("y.weight")
    lowered = [[getCustomOp(n) for n in m.graph.node if n.op_type == "Im2Col"] for m in (ours, theirs)]
    for mine, other in zip(*lowered, strict=True):
        for name in mine.get_nodeattr_types():
            assert mine.get_nodeattr(name) == other.get_nodeattr(name), name


def convertible(model, node):
    """Whether FINN 1.0.0-alpha's sources convert a node: the conditions of its `Infer...`, as they read."""

    def kind(name):
        return model.get_tensor_datatype(name)

    def attribute(name):
        return getCustomOp(node).get_nodeattr(name)

    x, y = node.input[0], node.output[0]
    shape = model.get_tensor_shape(x)
    if node.op_type == "MatMul":  # InferQuantizedMatrixVectorActivation, InferVectorVectorActivation
        sparse = model.get_tensor_sparsity(node.input[1])
        weight = model.get_initializer(node.input[1])
        diagonal = sparse is None or len(weight) == weight.shape[1] * np.prod(sparse["dw"]["kernel_shape"])
        return kind(x).is_integer() and kind(node.input[1]).allowed(weight.min()) and diagonal
    if node.op_type == "MultiThreshold":  # InferThresholdingLayer, Thresholding_rtl
        table, bits = model.get_initializer(node.input[1]), kind(y).bitwidth()
        fits = all(kind(node.input[1]).allowed(v) for v in (table.min(), table.max()))
        ascending = (np.diff(table) >= 0).all() and table.shape == (shape[3], 2**bits - 1)
        signed = not kind(y).signed() or attribute("out_bias") < 0
        return attribute("out_scale") == 1 and signed and ascending and fits and (table % 1 == 0).all()
    if node.op_type == "Im2Col":  # InferConvInpGen
        return kind(x).is_integer() and attribute("pad_value") == 0
    if node.op_type == "MaxPoolNHWC":  # InferStreamingMaxPool, or InferPool by way of Im2Col
        reach = zip(attribute("kernel_shape"), attribute("strides"), strict=True)
        return all(k >= s for k, s in reach) and (not any(attribute("pads")) or kind(x).min() == 0)
    if node.op_type == "Resize":  # InferUpsample
        scales = model.get_initializer(node.input[2])
        return list(scales) == [1, 2, 2, 1] and shape[1] == shape[2] and kind(x).is_integer()
    if node.op_type == "Concat":  # InferConcatLayer
        return node.attribute[0].i == 3 and len({kind(name).name for name in node.input}) == 1
    if node.op_type == "Split":  # InferSplitLayer
        widths = model.get_initializer(node.input[1])
        consumed = all(model.find_consumers(name) for name in node.output)
        return node.attribute[0].i == 3 and widths.sum() == shape[3] and consumed
    if node.op_type == "Add":  # InferAddStreamsLayer, InferElementwiseBinaryOperation
        return model.get_tensor_shape(node.input[1]) == shape and kind(x).is_integer()
    if node.op_type == "Mul":  # InferChannelwiseLinearLayer
        return kind(x).is_integer() and model.get_initializer(node.input[1]).shape == (1,)
    raise AssertionError(node.op_type)


def assert_convertible(model):
    model = model.transform(InferDataTypes())
    assert [n.name for n in model.graph.node if not convertible(model, n)] == []


def test_every_node_meets_the_conditions_of_finns_conversions():
    assert_convertible(ModelWrapper(export_finn(GRAPH, "x")))


def branching(seed, steps):
    """Maps of one size, cut, shuffled, joined, pooled, summed and convolved at random; a head reads the rest."""
    b = Builder(seed)
    rng = np.random.default_rng(seed)
    maps = [b.conv("stem", b.input("image", (6, 6, 3)), 8, kernel=3, bits=I8)]
    for i in range(steps):
        x = maps.pop(int(rng.integers(len(maps))))
        c = b.types[x].shape[2]
        match ("halves", "shuffle", "dw", "pool", "conv", "join", "sum", "twice")[rng.integers(8)]:
            case "halves" if c > 1:
                maps += [b.add(f"low{i}", Slice(0, c // 2), x), b.add(f"high{i}", Slice(c // 2, c), x)]
            case "shuffle" if c % 2 == 0:
                maps.append(b.add(f"shuffle{i}", Shuffle(2), x))
            case "dw":
                maps.append(b.dwconv(f"dw{i}", x))
            case "pool":
                maps.append(b.add(f"pool{i}", MaxPool((3, 3), (1, 1), (1, 1, 1, 1)), x))
            case "join" if maps:
                maps.append(b.add(f"join{i}", Concat(), x, maps.pop(0)))
            case "sum":
                y = b.conv(f"side{i}", x, c)
                b.add(f"sum{i}", Add(int(rng.integers(2)), int(rng.integers(2))), x, y)
                maps.append(b.requant(f"sum{i}"))
            case "twice":
                maps.append(b.add(f"twice{i}", Concat(), x, x))
            case _:
                maps.append(b.conv(f"conv{i}", x, 4))
    x = maps[0] if len(maps) == 1 else b.add("rest", Concat(), *maps)
    b.conv("head", b.add("up", Upsample(2), x), 2, bits=I8, result="hm", out=I8)
    return b.graph(("hm",))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_any_branches_keep_every_number(seed, steps):
    graph = branching(seed, steps)
    model = ModelWrapper(export_finn(graph, "x"))
    assert_equal_to_the_graph(model, graph)
    assert_convertible(model)


@settings(max_examples=200)
@given(
    st.sampled_from([IntType(8), IntType(8, False), IntType(4), IntType(3, False), IntType(1, False)]),
    st.integers(-(10**5), 10**5),
    st.integers(0, 3000),
    st.integers(-(10**5), 10**5),
    st.integers(0, 255),
    st.integers(-3, 20),
    st.integers(0, 10**6),
)
def test_thresholds_are_the_requant(out, low, span, bias, mult, shift, seed):
    rng = np.random.default_rng(seed)
    lo, hi = sorted(rng.integers(out.min, out.max, 2, endpoint=True).tolist())
    op, tables = Requant(out, lo, hi), (np.array([bias]), np.array([mult]), np.array([shift]))
    table = thresholds(op, tables, Bounds(np.array([low]), np.array([low + span])))
    acc = np.arange(low, low + span + 1)[:, None]
    np.testing.assert_array_equal(out.min + (acc >= table).sum(1), op.run(acc, *tables)[:, 0])
    assert (np.diff(table[0]) >= 0).all() and low <= table.min() and table.max() <= low + span + 1


@pytest.mark.parametrize("bits", range(1, 33))
def test_names_of_integers(bits):
    assert DataType[datatype(IntType(bits, False))].max() == IntType(bits, False).max
    if bits > 1:
        named = DataType[datatype(IntType(bits))]
        assert (named.min(), named.max()) == (IntType(bits).min, IntType(bits).max)


def test_what_decodes_the_outputs_goes_along():
    model = export_finn(import_model(to_onnx(GRAPH)), "x")
    meta = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(meta["codesign.scales"]) == {"image": 2.0**-7, "hm": 2.0**-4, "wh": 2.0**-6}
    assert "codesign.format" not in meta, "it is not a file that codesign compiles"


def refused(graph):
    with pytest.raises(ModelRefused) as caught:
        export_finn(graph, "x")
    head, *problems = str(caught.value).split("\n  ")
    count = "1 part" if len(problems) == 1 else f"{len(problems)} parts"
    assert head == f"x: {count} cannot be built by FINN."
    return problems


def test_what_has_no_hardware_is_named():
    tiny = import_model(find_model("codenet-tiny"))
    assert refused(tiny) == [
        f"DeformDwConv 'decoder.{i}.dw': samples where the data says, and FINN's windows are fixed. "
        "Build it for our engine, or train a network without it."
        for i in range(3)
    ]
    assert refused(random_residual_graph()) == [
        "DepthToSpace 'up': makes pixels of channels, for which FINN has no hardware. "
        "Build it for our engine, or train a network without it."
    ]


def test_offsets_a_tap_are_refused():
    b = Builder(4)
    x = b.sampled("deform", b.input("image", (6, 6, 4)), SampledDwConv(3, 1), out=I8)
    b.conv("c", x, 2, result="y")
    assert refused(b.graph(("y",))) == [
        "SampledDwConv 'deform': samples where the data says, and FINN's windows are fixed. "
        "Build it for our engine, or train a network without it."
    ]


def one_step(make, shape=(6, 6, 4), outputs=("y",), elem=I8):
    b = Builder(2)
    make(b, b.input("image", shape, elem))
    return b.graph(outputs)


def wide_sums(b, x):
    weight = b.const("w", np.full((3, 3, 120, 1), 127), I8)
    b.add("y", Conv((3, 3), (1, 1), (1, 1, 1, 1)), x, weight)


def two_inputs(b, x):
    b.add("y", Add(), x, b.input("other", (6, 6, 4)))


def sixteen_bits(b, x):
    b.conv("c", x, 2, result="y", out=IntType(16))


REFUSED = {
    "a map of one row": (
        one_step(lambda b, x: b.dwconv("c", x, result="y"), (1, 6, 4)),
        "DwConv 'c': a 3x3 window on a map of 1x6, which FINN takes for one dimension. Use a larger input size.",
    ),
    "an oblong downsampling": (
        one_step(lambda b, x: b.conv("c", x, 2, stride=2, result="y"), (6, 8, 4)),
        "Conv 'c': a 1x1 convolution with stride 2x2 on a 6x8 map, where FINN's DownSampler is square. "
        "Use a square input size.",
    ),
    "an oblong upsampling": (
        one_step(lambda b, x: b.conv("c", b.add("up", Upsample(2), x), 2, result="y"), (6, 8, 4)),
        "Upsample 'up': the map is 6x8, and FINN's upsampling is square. Use a square input size.",
    ),
    "sums beyond float32": (
        one_step(wide_sums, (6, 6, 120), elem=IntType(8, False)),
        "Conv 'y': sums reach 34975800, beyond the 2^24 of FINN's float32. Use fewer input channels.",
    ),
    "many thresholds": (
        one_step(sixteen_bits),
        "Requant 'y': 16 bits are 65535 thresholds a channel. Quantize to at most 8 bits.",
    ),
    "a padded pool of signed codes": (
        one_step(lambda b, x: b.add("y", MaxPool(), x)),
        "MaxPool 'y': pads a signed map, where FINN pads with 0. Put the max-pool behind a ReLU.",
    ),
    "an unevenly padded pool": (
        one_step(lambda b, x: b.add("y", MaxPool((2, 2), (1, 1), (0, 0, 1, 1)), x), elem=U8),
        "MaxPool 'y': pads unevenly ((0, 0, 1, 1)). Pad both sides alike.",
    ),
    "a pool that skips": (
        one_step(lambda b, x: b.add("y", MaxPool((1, 1), (2, 2), (0, 0, 0, 0)), x)),
        "MaxPool 'y': its stride skips samples, which FINN's pool does not. Use a kernel as large as the stride.",
    ),
    "two inputs": (
        one_step(two_inputs),
        "inputs image, other: FINN duplicates the stream of one input alone. Export one input.",
    ),
    "channels without readers": (
        one_step(lambda b, x: b.conv("c", b.add("half", Slice(0, 3), x), 2, result="y")),
        "map 'image': 1 of 4 channels are read by nobody, and their stream would stall. "
        "Remove them from the network.",
    ),
    "an output that is read": (
        one_step(lambda b, x: b.conv("d", b.conv("c", x, 2, result="y"), 2, result="z"), outputs=("y", "z")),
        "output 'y': is also read inside the network or twice an output, of which FINN makes one stream. "
        "Give it a convolution of its own.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    graph, text = REFUSED[name]
    assert refused(graph) == [text]


def test_residual_sums_on_unequal_scales():
    b = Builder(5)
    x = b.conv("a", b.input("image", (6, 6, 3)), 4, out=I8)
    b.add("sum", Add(0, 2), x, b.dwconv("b", x))
    b.conv("head", b.requant("sum", out=I8), 2, result="hm", out=I8)
    graph = b.graph(("hm",))
    model = ModelWrapper(export_finn(graph, "x"))
    assert_equal_to_the_graph(model, graph)
    (factor,) = (numpy_helper.to_array(t) for t in model.graph.initializer if "factor" in t.name)
    assert factor == 4


@pytest.fixture
def verb(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, " ".join(captured.err.split())

    return call


def test_verb(verb, tmp_path):
    source = tmp_path / "model.onnx"
    onnx.save(to_onnx(GRAPH), source)
    code, out, _ = verb("export", source, "--finn", "--json")
    report = json.loads(out)
    assert code == 0 and report["model"] == str(tmp_path / "model.finn.onnx")
    model = ModelWrapper(report["model"])
    assert report["nodes"]["MultiThreshold"] == len(model.get_nodes_by_op_type("MultiThreshold"))
    assert_equal_to_the_graph(model, GRAPH)
    assert verb("export", tmp_path, "--finn", "-o", tmp_path / "again.onnx")[0] == 0
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "model.finn.onnx").read_bytes()
    assert verb("export", source, "--finn", "-o", source)[::2] == (
        2,
        f"error: {source}: is the model itself, expected another name. Choose another -o.",
    )
    assert verb("export", source, "--finn", "--qcdq")[::2] == (
        2,
        "error: codesign export: --finn and --qcdq are two formats. Choose one.",
    )
    code, _, err = verb("export", "codenet-tiny", "--finn", "-o", tmp_path / "no.onnx")
    assert code == 2 and "DeformDwConv 'decoder.0.dw'" in err and not (tmp_path / "no.onnx").exists()
