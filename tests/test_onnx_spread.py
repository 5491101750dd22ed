"""Adds and transposed convolutions of a file: read, evaluated as onnxruntime does, and run on the engine."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from codesign.errors import ModelRefused
from codesign.ir import evaluate
from codesign.onnx_io import import_model
from codesign.ops import Add, DepthToSpace
from codesign.plan import plan
from tests.engine.engines import assert_equal, simulate
from tests.onnx_models import QONNX, QUANT_BODY, nchw, nhwc, run_onnx


class File:
    """A QONNX file, node by node. Scales of activations are 2^-4, of weights 2^-5."""

    def __init__(self, *shapes):
        self.nodes, self.tensors = [], {}
        self.inputs = [
            helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, [1, c, h, w])
            for i, (h, w, c) in enumerate(shapes)
        ]

    def const(self, name, array):
        self.tensors[name] = numpy_helper.from_array(np.asarray(array, np.float32), name)
        return name

    def add(self, op, inputs, output, domain="", **attrs):
        self.nodes.append(helper.make_node(op, inputs, [output], output, domain=domain, **attrs))
        return output

    def quant(self, x, output, scale=2.0**-4, bits=8, signed=1):
        scales = [
            self.const(f"{output}.scale", scale),
            self.const("zero", 0.0),
            self.const(f"bits{bits}", bits),
        ]
        return self.add("Quant", [x, *scales], output, QONNX, signed=signed, narrow=0, rounding_mode="ROUND")

    def weight(self, name, codes, bits=4, scale=2.0**-5):
        return self.quant(self.const(name, codes * scale), f"{name}.q", scale, bits)

    def model(self, *outputs):
        infos = [helper.make_tensor_value_info(y, TensorProto.FLOAT, None) for y in outputs]
        graph = helper.make_graph(self.nodes, "network", self.inputs, infos, list(self.tensors.values()))
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(QONNX, 2)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        made.functions.append(parser.parse_function(QUANT_BODY))
        return made


def agrees(model: onnx.ModelProto, lanes: int, seed: int, scale: float = 2.0**-4) -> None:
    """onnxruntime on the file, the graph in numpy, and the C++ give the same codes."""
    graph, rng = import_model(model), np.random.default_rng(seed)
    feeds = {n: rng.integers(t.elem.min, t.elem.max + 1, (1, *t.shape)) for n, t in graph.inputs.items()}
    wanted = evaluate(graph, feeds)
    floats = run_onnx(model, {n: nchw(x, graph.scales[n]) for n, x in feeds.items()})
    assert_equal({n: nhwc(y, graph.scales[n]) for n, y in floats.items()}, wanted)
    assert_equal(simulate(graph, feeds, lanes), wanted)


KERNELS = [(2, 0, 0), (3, 1, 1), (4, 1, 0)]  # kernel, pads, output_padding: maps exactly twice as large


@settings(max_examples=25)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(KERNELS),
    st.booleans(),
    st.sampled_from([1, 4, 16]),
    st.integers(0, 99),
)
def test_transposed_convolutions(h, w, cin, cout, window, depthwise, lanes, seed):
    (k, pad, extra), rng = window, np.random.default_rng(seed)
    shape, group = ((cin, 1, k, k), cin) if depthwise else ((cin, cout, k, k), 1)
    channels = shape[1] * group
    f = File((h, w, cin))
    x = f.quant("x0", "x")
    weight = f.weight("up.weight", rng.integers(-7, 8, shape))
    bias = f.const("up.bias", rng.integers(-500, 500, channels) * 2.0**-9)
    window = {"kernel_shape": [k, k], "pads": [pad] * 4, "output_padding": [extra] * 2, "strides": [2, 2]}
    y = f.add("ConvTranspose", [x, weight, bias], "up", group=group, **window)
    f.quant(f.add("Relu", [y], "relu"), "y", signed=0)
    agrees(f.model("y"), lanes, seed)


@settings(max_examples=25)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 20)),
    st.integers(-3, 3),
    st.booleans(),
    st.sampled_from([1, 4, 16]),
    st.integers(0, 99),
)
def test_sums_of_two_maps(shape, ratio, signed, lanes, seed):
    f = File(shape, shape)
    a, b = f.quant("x0", "a", 2.0**-4), f.quant("x1", "b", 2.0 ** (ratio - 4), signed=0)
    y = f.add("Add", [a, b], "sum")
    f.quant(y if signed else f.add("Relu", [y], "relu"), "y", 2.0**-3, signed=int(signed))
    agrees(f.model("y"), lanes, seed)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("late", [False, True])
def test_depth_to_space_before_and_behind_the_quantizer(mode, late):
    f, rng = File((3, 4, 5)), np.random.default_rng(2)
    conv = f.add(
        "Conv", [f.quant("x0", "x"), f.weight("w", rng.integers(-7, 8, (12, 5, 1, 1)), scale=0.125)], "conv"
    )
    if late:
        f.quant(f.add("DepthToSpace", [conv], "spread", blocksize=2, mode=mode), "y")
    else:
        f.add("DepthToSpace", [f.quant(conv, "q")], "y", blocksize=2, mode=mode)
    agrees(f.model("y"), 4, 0)


def test_what_the_operators_become():
    f, rng = File((3, 4, 5)), np.random.default_rng(2)
    x = f.quant("x0", "x")
    for name in ("up", "also"):
        weight = f.weight(f"{name}.weight", rng.integers(-7, 8, (5, 6, 2, 2)))
        f.add("ConvTranspose", [x, weight], name, strides=[2, 2])
    sides = [f.quant("up", "wide", 0.25), f.quant("also", "wider", 0.25)]
    f.quant(f.add("Sum", sides, "both"), "y")
    graph = import_model(f.model("y"))
    assert [str(node.op) for node in graph.nodes if isinstance(node.op, Add | DepthToSpace)] == [
        "DepthToSpace()",
        "DepthToSpace()",
        "Add(left=0, right=0)",
    ]
    assert graph.types()["up.q"].shape == (6, 8, 6)


def refused(f: File) -> str:
    with pytest.raises(ModelRefused) as caught:
        import_model(f.model("y"))
    assert len(caught.value.problems) == 1, caught.value
    return str(caught.value.problems[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"strides": [3, 3]}, "has strides [3, 3], expected 2 on both axes. Upsample by 2."),
        ({"dilations": [2, 2]}, "has dilations [2, 2], expected 1. Use no dilation."),
        (
            {"auto_pad": "SAME_UPPER"},
            "has auto_pad SAME_UPPER, expected explicit pads. Export with explicit padding.",
        ),
        ({"group": 3}, "has 3 groups, expected 1 group or depthwise. Use one of the two."),
        (
            {"pads": [1, 1, 1, 1]},
            "has a 2x2 kernel with pads [1, 1, 1, 1] and output_padding [0, 0], expected a map exactly twice as "
            "large. Use a 2x2 kernel, 3x3 with pads 1 and output_padding 1, or 4x4 with pads 1.",
        ),
    ],
    ids=str,
)
def test_transposed_convolutions_that_are_refused(change, said):
    f = File((3, 4, 6))
    attrs = {"strides": [2, 2]} | change
    f.add("ConvTranspose", [f.quant("x0", "x"), f.weight("w", np.ones((6, 2, 2, 2)))], "up", **attrs)
    f.quant("up", "y")
    assert refused(f) == f"ConvTranspose 'up': {said}"


def test_float_weights_are_refused():
    f = File((3, 4, 6))
    f.add("ConvTranspose", [f.quant("x0", "x"), f.const("w", np.ones((6, 2, 2, 2)))], "up", strides=[2, 2])
    f.quant("up", "y")
    assert refused(f) == (
        "ConvTranspose 'up': its weight is not quantized. Put a Quant of at most 8 bits behind the weight."
    )


def test_sums_that_are_refused():
    f = File((3, 4, 5), (3, 4, 5))
    f.add("Add", [f.quant("x0", "a"), f.quant("x1", "b", 2.0**3)], "sum")
    f.quant("sum", "y")
    assert refused(f) == (
        "Add 'sum': adds maps of scales 0.0625 and 8, expected a ratio of at most 64. "
        "Quantize both to more similar ranges."
    )
    f = File((3, 4, 5), (3, 4, 1))
    f.add("Add", [f.quant("x0", "a"), f.quant("x1", "b")], "sum")
    f.quant("sum", "y")
    assert refused(f) == "Add 'sum': adds maps of [5,3,4] and [1,3,4]. Add maps of one shape."


@pytest.mark.parametrize("block", [3])
def test_other_blocks_are_refused(block):
    f = File((3, 4, 9))
    f.add("DepthToSpace", [f.quant("x0", "x")], "y", blocksize=block)
    assert refused(f) == "DepthToSpace 'y': has blocksize 3, expected 2. Use a block of 2x2 pixels."


@settings(max_examples=25)
@given(
    st.integers(1, 7),
    st.integers(1, 7),
    st.sampled_from([1, 3, 16, 17, 40]),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.sampled_from([4, 16]),
    st.integers(0, 99),
)
def test_windows_of_five_by_five(h, w, cin, stride, depthwise, lanes, seed):
    f, rng = File((h, w, cin)), np.random.default_rng(seed)
    shape, group = ((cin, 1, 5, 5), cin) if depthwise else ((7, cin, 5, 5), 1)
    weight = f.weight("c.weight", rng.integers(-7, 8, shape))
    bias = f.const("c.bias", rng.integers(-500, 500, shape[0]) * 2.0**-9)
    window = {"kernel_shape": [5, 5], "pads": [2] * 4, "strides": [stride] * 2}
    y = f.add("Conv", [f.quant("x0", "x"), weight, bias], "c", group=group, **window)
    f.quant(f.add("Relu", [y], "relu"), "y", 0.5, signed=0)
    agrees(f.model("y"), lanes, seed)


def test_a_large_depthwise_window_is_computed_by_words():
    f, rng = File((6, 6, 40)), np.random.default_rng(1)
    weight = f.weight("c.weight", rng.integers(-7, 8, (40, 1, 5, 5)))
    conv = f.add("Conv", [f.quant("x0", "x"), weight], "c", group=40, kernel_shape=[5, 5], pads=[2] * 4)
    f.quant(f.quant(conv, "z", 0.5), "y", 0.5)
    graph = import_model(f.model("y"))
    steps = plan(graph, 16).program.steps
    assert [(s.groups, s.pointwise_in, s.pointwise_out) for s in steps] == [(1, 25, 1)] * 3
