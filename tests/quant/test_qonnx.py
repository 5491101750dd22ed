"""qonnx's own tools on our model files: executor, shapes, data types, clean-up, costs. They know nothing of us but
that the domain `codesign` is the module of that name.
"""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from qonnx.analysis.inference_cost import inference_cost as cost_of
from qonnx.core.datatype import DataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.custom_op.registry import getCustomOp, is_custom_op
from qonnx.transformation.batchnorm_to_affine import BatchNormToAffine
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.extract_quant_scale_zeropt import ExtractQuantScaleZeroPt
from qonnx.transformation.fold_constants import FoldConstants
from qonnx.transformation.gemm_to_matmul import GemmToMatMul
from qonnx.transformation.general import GiveReadableTensorNames, GiveUniqueNodeNames
from qonnx.transformation.infer_data_layouts import InferDataLayouts
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.qonnx_to_qcdq import QuantToQCDQ
from qonnx.util.cleanup import cleanup_model
from qonnx.util.inference_cost import inference_cost

from codesign.ir import evaluate
from codesign.layers import layers
from codesign.onnx_io import import_model
from codesign.ops import Concat, SampledDwConv, Shuffle, Slice, Upsample
from codesign.qonnx_ops import DeformAsConv
from codesign.shipped import find_model
from quant.onnx_ops import functions
from tests.kernels import needs_deform_conv
from tests.mini import MINI
from tests.models import I8, Builder, macs, random_feeds
from tests.onnx_models import OWN, nchw, nhwc, run_onnx, to_onnx

# of onnx's shape inference beside qonnx's own, and of qonnx's guesses, which are right here
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def small_graph(seed=0):
    """Every kind of node that our files have, in few: qonnx's clean-up takes time with the square of their number."""
    b = Builder(seed)
    x = b.conv("stem", b.input("image", (8, 8, 3)), 6, kernel=3, stride=2, bits=I8)
    left = b.conv("pw", b.deform("deform", x, 3, out=I8), 4)
    right = b.conv("side", b.add("half", Slice(0, 3), x), 4)
    y = b.add("shuffle", Shuffle(2), b.add("cat", Concat(), left, right))
    b.conv("head", b.add("up", Upsample(2), y), 2, bits=I8, result="hm", out=I8)
    return b.graph(("hm",), {"hm": 2.0**-4})


GRAPH = small_graph()
BODIES = list(to_onnx(GRAPH).functions)  # of Quant and of all our nodes


def wrapped():
    """The small network's file as a torch exporter writes it, with the default dilations spelled out."""
    model = to_onnx(GRAPH)
    for node in model.graph.node:
        if node.op_type == "Conv":
            node.attribute.append(helper.make_attribute("dilations", [1, 1]))
    return ModelWrapper(model).transform(InferShapes())


def codes_of(graph, arrays):
    return {name: nhwc(array, graph.scales[name]) for name, array in arrays.items()}


TINY = find_model("codenet-tiny")


@pytest.mark.parametrize(
    "path",
    [MINI, pytest.param(TINY, marks=pytest.mark.slow)],  # 163 Quant nodes, each in Python
    ids=lambda path: path.stem,
)
def test_executor_computes_the_integer_graph(path):
    graph = import_model(path)
    feeds = random_feeds(graph, seed=3)
    model = ModelWrapper(str(path)).transform(InferShapes())
    got = codes_of(graph, execute_onnx(model, {"image": nchw(feeds["image"], graph.scales["image"])}))
    for name, expected in evaluate(graph, feeds).items():
        np.testing.assert_array_equal(got[name], expected)


TRANSFORMATIONS = {
    "cleanup": cleanup_model,
    "cleanup, parameters folded, biases apart": lambda m: cleanup_model(m, False, None, True),
    "names": lambda m: m.transform(GiveUniqueNodeNames()).transform(GiveReadableTensorNames()),
    "data types and layouts": lambda m: m.transform(InferDataTypes()).transform(InferDataLayouts()),
    "constants folded": lambda m: m.transform(FoldConstants(exclude_op_types=[])),
    "scales apart": lambda m: m.transform(ExtractQuantScaleZeroPt()),
    "QCDQ": lambda m: cleanup_model(m).transform(QuantToQCDQ()).transform(InferShapes()),
    "channels last": lambda m: cleanup_model(m).transform(ConvertToChannelsLastAndClean(False)),
    "channels last from the input on": lambda m: cleanup_model(m).transform(
        ConvertToChannelsLastAndClean(True)
    ),
    "no Gemm, no BatchNorm": lambda m: m.transform(GemmToMatMul()).transform(BatchNormToAffine()),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_transformations_keep_every_number(name):
    feeds = random_feeds(GRAPH, seed=4)
    model = TRANSFORMATIONS[name](wrapped())
    image = nchw(feeds["image"], GRAPH.scales["image"])
    (source,), (result,) = model.graph.input, model.graph.output
    last = model.get_tensor_shape(source.name)[3] == 3
    got = execute_onnx(model, {source.name: image.transpose(0, 2, 3, 1) if last else image})[result.name]
    got = got.transpose(0, 3, 1, 2) if got.shape[3] == 2 else got
    np.testing.assert_array_equal(nhwc(got, GRAPH.scales["hm"]), evaluate(GRAPH, feeds)["hm"])
    assert any(n.op_type == "SquareDeformConv" for n in model.graph.node)


SQUARE = "SquareDeformConv"


def node(channels=2, stride=1, bound=7, kind=SQUARE, **changed):
    window = {"kernel_shape": [3, 3], "strides": [stride] * 2, "pads": [1] * 4, "group": channels}
    attributes = {k: v for k, v in {**window, "max_offset": bound, **changed}.items() if v is not None}
    return helper.make_node(kind, ["x", "w", "d"], ["y"], "n", domain=OWN, **attributes)


def one_node(x, w, d, **attributes):
    shapes = zip("xwd", (x.shape, w.shape, d.shape), strict=True)
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    body = helper.make_graph([node(x.shape[1], **attributes)], "one", infos, out)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(OWN, 1)]
    model = helper.make_model(body, opset_imports=opsets, ir_version=10)
    model.functions.extend(f for f in functions() if f.name == body.node[0].op_type)
    return model


def case(h, w, c, stride, bound, seed, channels=1, step=1.0):
    """Maps, weights and offsets as the file holds them: offsets are floats, some out of range, some ties."""
    rng = np.random.default_rng(seed)
    out = ((h - 1) // stride + 1, (w - 1) // stride + 1)
    x = rng.integers(-128, 128, (2, c, h, w)) * 2.0**-5
    weight = rng.integers(-7, 8, (c, 1, 3, 3)) / 8
    low = -4 if channels == 1 else -2 * bound - 6
    d = rng.integers(low, 2 * bound + 6, (2, channels, *out)) * step / 2
    return x.astype(np.float32), weight.astype(np.float32), d.astype(np.float32)


SIDES, CHANNELS, STRIDES, SEEDS = (
    st.integers(1, 7),
    st.integers(1, 3),
    st.sampled_from([1, 2, 3]),
    st.integers(0, 99),
)


def assert_equal_to_its_body(arrays, **attributes):
    model = one_node(*arrays, **attributes)
    feeds = dict(zip("xwd", arrays, strict=True))
    wrapper = ModelWrapper(copy.deepcopy(model)).transform(InferShapes())
    expected = run_onnx(model, feeds)["y"]
    assert tuple(wrapper.get_tensor_shape("y")) == expected.shape
    np.testing.assert_array_equal(execute_onnx(wrapper, feeds)["y"], expected)


@needs_deform_conv
@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, CHANNELS, STRIDES, st.integers(0, 8), SEEDS)
def test_node_computes_what_its_body_of_standard_operators_computes(h, w, c, stride, bound, seed):
    assert_equal_to_its_body(case(h, w, c, stride, bound, seed), stride=stride, bound=bound)


@needs_deform_conv
@settings(max_examples=40, deadline=None)
@given(
    SIDES,
    SIDES,
    CHANNELS,
    STRIDES,
    st.integers(1, 7),
    st.integers(0, 3),
    st.none() | st.integers(0, 6),
    SEEDS,
)
def test_nodes_of_an_offset_a_tap_compute_what_their_bodies_compute(h, w, c, stride, bound, bits, mask, seed):
    own = {"fraction_bits": bits, "kind": "BoundedDeformConv"}
    if mask is not None:
        own |= {"mask_bits": mask, "mask_low": -9, "mask_high": 63, "kind": "ModulatedDeformConv"}
    arrays = case(h, w, c, stride, bound, seed, 18 if mask is None else 27, 2.0**-bits)
    assert_equal_to_its_body(arrays, stride=stride, bound=bound, **own)


@pytest.mark.parametrize(
    ("x", "w", "expected"),
    [
        ("INT8", "INT4", "INT15"),  # 9 * -128 * -8 = 9216
        ("UINT8", "INT4", "INT16"),  # 9 * 255 * -8 = -18360
        ("UINT4", "UINT2", "UINT9"),  # 9 * 15 * 3 = 405
        ("SCALEDINT<8>", "SCALEDINT<4>", "SCALEDINT<32>"),
        ("FLOAT32", "INT4", "FLOAT32"),
    ],
)
def test_data_type_of_the_sums(x, w, expected):
    model = ModelWrapper(one_node(*case(4, 4, 2, 1, 3, 0)))
    model.set_tensor_datatype("x", DataType[x])
    model.set_tensor_datatype("w", DataType[w])
    model = model.transform(InferDataTypes(allow_scaledint_dtypes=True))
    assert model.get_tensor_datatype("y").name == DataType[expected].name


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"kind": "BoundedDeformConv", "fraction_bits": 0}, "INT15"),  # 9 * 128 * 8, of either sign
        ({"kind": "BoundedDeformConv", "fraction_bits": 2}, "SCALEDINT<19>"),  # and sixteen times that
        (
            {
                "kind": "ModulatedDeformConv",
                "fraction_bits": 0,
                "mask_bits": 5,
                "mask_low": 0,
                "mask_high": 63,
            },
            "SCALEDINT<21>",
        ),
    ],
)
def test_data_type_of_finer_sums(own, expected):
    model = ModelWrapper(one_node(*case(4, 4, 2, 1, 3, 0, 27 if "mask_bits" in own else 18), **own))
    model.set_tensor_datatype("x", DataType["INT8"])
    model.set_tensor_datatype("w", DataType["INT4"])
    model = model.transform(InferDataTypes(allow_scaledint_dtypes=True))
    assert model.get_tensor_datatype("y").name == DataType[expected].name


def test_data_types_of_a_file_are_the_graphs():
    """With the scales taken out, what remains is integers: the graph's own."""
    model = wrapped().transform(ExtractQuantScaleZeroPt()).transform(InferDataTypes())
    (deform,) = model.get_nodes_by_op_type("SquareDeformConv")
    found = {}
    for quant in model.get_nodes_by_op_type("Quant"):
        found[quant.name] = model.get_tensor_datatype(quant.output[0]).name
    assert found["image.q"] == "INT8" and found["deform.q"] == "INT8"
    assert found["stem.q"] == "UINT8" and found["deform.weight.q"] == "INT4"
    assert found["head.weight.q"] == "INT8" and found["pw.bias.q"] == "INT32"
    assert model.get_tensor_datatype(deform.output[0]).name == "FLOAT32"  # its scales are in front of it now


def test_costs_are_our_own_count():
    model = wrapped()
    known = inference_cost(model.transform(DeformAsConv()), discount_sparsity=False)["total_cost"]
    assert known["total_macs"] == macs(GRAPH)
    assert "SquareDeformConv" not in known["unsupported"]
    unknown = inference_cost(wrapped(), discount_sparsity=False)["total_cost"]
    assert "SquareDeformConv" in unknown["unsupported"]
    deform = next(layer for layer in layers(GRAPH) if layer.name == "deform")
    assert known["total_macs"] - unknown["total_macs"] == deform.macs
    assert known["total_bops"] - unknown["total_bops"] == deform.macs * 8 * 4  # UINT8 by INT4


@pytest.mark.slow  # shapes and data types of 300 nodes, one at a time
def test_costs_of_the_shipped_model():
    model = ModelWrapper(str(TINY)).transform(InferShapes()).transform(DeformAsConv())
    model = model.transform(InferDataTypes(allow_scaledint_dtypes=True))
    total = model.analysis(lambda m: cost_of(m, discount_sparsity=False))["total_cost"]
    counted = sum(value for key, value in total.items() if key.startswith("op_mac"))
    assert counted == macs(import_model(TINY))


def test_verify_node():
    assert getCustomOp(node()).verify_node() == []
    assert getCustomOp(node(max_offset=None)).verify_node() == ["lacks max_offset, expected these attributes"]
    wrong = node(kernel_shape=[5, 5], pads=[2] * 4, strides=[0, 1], group=0)
    wrong.input.append("mask")
    assert getCustomOp(wrong).verify_node() == [
        "has 4 inputs, expected 3",
        "kernel_shape is [5, 5], expected [3, 3]",
        "pads is [2, 2, 2, 2], expected [1, 1, 1, 1]",
        "strides are [0, 1], expected two positive numbers",
        "group is 0, expected at least 1",
    ]

    masked = {"fraction_bits": -1, "mask_bits": 5, "mask_low": 3, "mask_high": 3}
    assert getCustomOp(node(kind="ModulatedDeformConv", **masked)).verify_node() == [
        "fraction_bits is -1, expected at least 0",
        "masks are 3..3, expected a range",
    ]


@pytest.mark.parametrize("sampler", [SampledDwConv(3, 2), SampledDwConv(3, 0, 0, 63)])
def test_a_file_with_an_offset_a_tap(sampler):
    b = Builder(3)
    x = b.conv("stem", b.input("image", (8, 8, 3)), 6, kernel=3, stride=2, bits=I8)
    b.conv("head", b.sampled("deform", x, sampler, out=I8), 2, bits=I8, result="hm", out=I8)
    graph = b.graph(("hm",), {"hm": 2.0**-4})
    feeds = random_feeds(graph, seed=6)
    model = cleanup_model(ModelWrapper(to_onnx(graph)))
    (result,) = execute_onnx(model, {model.graph.input[0].name: nchw(feeds["image"], 2.0**-7)}).values()
    np.testing.assert_array_equal(nhwc(result, 2.0**-4), evaluate(graph, feeds)["hm"])
    known = inference_cost(model.transform(DeformAsConv()), discount_sparsity=False)["total_cost"]
    assert known["total_macs"] == macs(graph)


@needs_deform_conv
@settings(max_examples=20, deadline=None)
@given(SIDES, SIDES, CHANNELS, st.sampled_from([[1, 9], [9, 1], [1, 1]]), st.integers(0, 4), SEEDS)
def test_rows_columns_and_single_taps_compute_what_their_bodies_compute(h, w, c, kernel, bits, seed):
    rng = np.random.default_rng(seed)
    x, _, p = case(h, w, c, 1, 3, seed, 2 if kernel == [1, 1] else 18, 2.0**-bits)
    weight = (rng.integers(-7, 8, (c, 1, *kernel)) / 8).astype(np.float32)
    kind = "BorderDeformConv" if kernel == [1, 1] else "BoundedDeformConv"
    own = {"kernel_shape": kernel, "pads": [k // 2 for k in kernel] * 2, "fraction_bits": bits}
    assert_equal_to_its_body((x, weight, p), bound=3, kind=kind, **own)
    assert getCustomOp(node(c, bound=3, kind=kind, **own)).verify_node() == []


@settings(max_examples=20, deadline=None)
@given(SIDES, SIDES, CHANNELS, SEEDS)
def test_weights_of_each_pixel_s_own_compute_what_their_body_computes(h, w, c, seed):
    rng = np.random.default_rng(seed)
    x, weight = rng.integers(-128, 128, (2, c, h, w)) / 32, rng.integers(-7, 8, (c, 9, h, w)) / 8
    feeds = {"x": x.astype(np.float32), "w": weight.astype(np.float32)}
    infos = [helper.make_tensor_value_info(k, TensorProto.FLOAT, v.shape) for k, v in feeds.items()]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    one = helper.make_node("VariedConv", ["x", "w"], ["y"], "n", domain=OWN)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(OWN, 1)]
    model = helper.make_model(
        helper.make_graph([one], "one", infos, out), opset_imports=opsets, ir_version=10
    )
    model.functions.extend(f for f in functions() if f.name == "VariedConv")
    wrapper = ModelWrapper(copy.deepcopy(model)).transform(InferShapes())
    expected = run_onnx(model, feeds)["y"]
    assert tuple(wrapper.get_tensor_shape("y")) == expected.shape
    np.testing.assert_array_equal(execute_onnx(wrapper, feeds)["y"], expected)
    wrapper.set_tensor_datatype("x", DataType["INT8"])
    wrapper.set_tensor_datatype("w", DataType["INT4"])
    wrapper = wrapper.transform(InferDataTypes())
    assert wrapper.get_tensor_datatype("y").name == "INT15"  # 9 * 128 * 8
    one = model.graph.node[0]
    assert getCustomOp(one).verify_node() == []
    one.input.pop()
    assert getCustomOp(one).verify_node() == ["has 1 inputs, expected 2"]


def one_of(kind, feeds, **attributes):
    """A model of one node, its body with it."""
    infos = [helper.make_tensor_value_info(k, TensorProto.FLOAT, v.shape) for k, v in feeds.items()]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    one = helper.make_node(kind, list(feeds), ["y"], "n", domain=OWN, **attributes)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(OWN, 1)]
    model = helper.make_model(
        helper.make_graph([one], "one", infos, out), opset_imports=opsets, ir_version=10
    )
    model.functions.extend(f for f in functions() if f.name == kind)
    return model


def codes(rng, low, high, shape, step):
    return (rng.integers(low, high, shape) * step).astype(np.float32)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["ChannelMix", "PickOrMix", "MixedConv"]), SIDES, SIDES, st.sampled_from([1, 3]), SEEDS
)
def test_nodes_with_gates_compute_what_their_bodies_compute(kind, h, w, kernel, seed):
    rng = np.random.default_rng(seed)
    x, parts = codes(rng, -128, 128, (1, 4, h, w), 2.0**-5), 2
    feeds = {"x": x, "r": codes(rng, 0, 256, (1, 2 if kind == "PickOrMix" else 4, 1, 1), 2.0**-8)}
    own = {"parts": parts} if kind == "ChannelMix" else {"parts": parts, "threshold": 0.5}
    if kind == "MixedConv":
        feeds = {
            "x": x,
            "w": codes(rng, -127, 128, (3, 3 * 4, kernel, kernel), 2.0**-6),
            "r": codes(rng, 0, 256, (1, 3, 1, 1), 2.0**-8),
            "s": codes(rng, 1, 2, (3, 1, 1, 1), 2.0**-2),
            "b": codes(rng, -99, 99, (3,), 2.0**-7),
        }
        own = {
            "kernel_shape": [kernel] * 2,
            "strides": [1, 1],
            "pads": [kernel // 2] * 4,
            "experts": 3,
            "bits": 4,
        }
    model = one_of(kind, feeds, **own)
    wrapper = ModelWrapper(copy.deepcopy(model)).transform(InferShapes())
    expected = run_onnx(model, feeds)["y"]
    assert tuple(wrapper.get_tensor_shape("y")) == expected.shape
    np.testing.assert_array_equal(execute_onnx(wrapper, feeds)["y"], expected)
    one = model.graph.node[0]
    assert getCustomOp(one).verify_node() == []
    one.input.append("more")
    del one.attribute[:]
    count, names = len(one.input), ", ".join(getCustomOp(one).get_nodeattr_types())
    assert getCustomOp(one).verify_node() == [
        f"has {count} inputs, expected {count - 1}", f"lacks {names}, expected these attributes"
    ]  # fmt: skip


def test_every_node_of_ours_is_found_by_its_domain_alone():
    assert is_custom_op(OWN)
    ours = {f.name for f in functions() if f.domain == OWN}
    assert len(ours) == 8 and all(is_custom_op(OWN, name) for name in ours)
    assert not is_custom_op(OWN, "RoundDeformConv")


def test_qonnxs_command_line_runs_a_file(tmp_path: Path):
    """In a process of its own, which imports nothing of ours."""
    feeds = random_feeds(GRAPH, seed=5)
    onnx.save(wrapped().model, tmp_path / "model.onnx")
    np.save(tmp_path / "image.npy", nchw(feeds["image"], GRAPH.scales["image"]))
    command = [sys.executable, "-m", "qonnx.util.exec_qonnx", "model.onnx", "image.npy"]
    root = Path(__file__).resolve().parents[2]
    env = {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    got = nhwc(np.load(tmp_path / "out_hm_batch0.npy"), GRAPH.scales["hm"])
    np.testing.assert_array_equal(got, evaluate(GRAPH, feeds)["hm"])
