"""The integer-valued ONNX file: onnxruntime computes the graph's very integers."""

import dataclasses
import json

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.ir import Graph, IntType, Node, TensorType, evaluate
from codesign.onnx_io import export_integer, import_model
from codesign.ops import Conv, DwConv, GlobalSum
from tests.kernels import needs_deform_conv
from tests.models import I4, I8, Builder, random_codenet_graph, random_feeds, random_mixing_graph
from tests.onnx_models import nchw, nhwc, run_onnx
from tests.test_fast import wide
from tests.test_onnx_import import MINI


def assert_exact(graph, feeds):
    model = export_integer(graph)
    onnx.checker.check_model(model, full_check=True)
    outputs = run_onnx(model, {name: nchw(codes) for name, codes in feeds.items()})
    expected = evaluate(graph, feeds)
    for name in graph.outputs:
        np.testing.assert_array_equal(nhwc(outputs[name]), expected[name], err_msg=name)


@needs_deform_conv
@settings(max_examples=8)
@given(
    st.integers(0, 999),
    st.sampled_from([1, 2]),
    st.sampled_from(["stride4", "maxpool"]),
    st.sampled_from([1, 7, 8]),
)
def test_networks(seed, batch, stem, max_offset):
    graph = random_codenet_graph(seed, (32, 64), stem=stem, max_offset=max_offset)
    assert_exact(graph, random_feeds(graph, seed, batch))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("bits", [I4, I8])
def test_factors_computed_from_the_image(bits, batch):
    """Each image of a batch has gates and weights of its own."""
    graph = random_mixing_graph(3, bits=bits)
    assert_exact(graph, random_feeds(graph, batch=batch))


def test_a_sum_of_a_large_map_is_exact():
    """Beyond 2^24, hence in float64."""
    b = Builder()
    b.add("sum", GlobalSum((300, 300)), b.input("x", (300, 300, 2), IntType(8, False)))
    graph = b.graph((b.requant("sum"),))
    assert_exact(graph, random_feeds(graph))
    assert_exact(graph, {"x": np.full((1, 300, 300, 2), 255)})


@needs_deform_conv
def test_a_file_that_was_imported():
    graph = import_model(MINI)
    assert_exact(graph, random_feeds(graph))


@pytest.mark.parametrize("cin", [518, 519, 1100, 2153])
@pytest.mark.parametrize("bias", [0, 1, 2**30 + 1])
def test_sums_beyond_float32_are_split_over_the_input_channels(cin, bias):
    graph = wide(cin, 127, bias, 22, mult=7)
    assert_exact(graph, {"x": np.full((1, 1, 2, cin), 255)})
    assert_exact(graph, random_feeds(graph))
    parts = [n for n in export_integer(graph).graph.node if n.op_type == "Conv"]
    assert (len(parts) == 1) == (cin == 518)  # 518 * 127 * 255 < 2^24


@pytest.mark.parametrize("shift", [-16, -1, 0, 1, 5, 40])
def test_shifts_and_ties(shift):
    graph = dataclasses.replace(
        wide(1, 1, -100, shift), inputs={"x": TensorType((1, 256, 1), IntType(8, False))}
    )
    assert_exact(graph, {"x": np.arange(256).reshape(1, 1, 256, 1)})


def test_an_accumulator_may_be_an_output():
    graph = dataclasses.replace(wide(600, 127, 0, 0), outputs=("acc", "y"))
    assert_exact(graph, random_feeds(graph))


def test_dense_3x3_of_many_channels():
    b = Builder(seed=2)
    b.conv("c", b.input("x", (4, 5, 300), IntType(8, False)), 4, kernel=3, bits=IntType(8))
    graph = b.graph(["c.q"])
    assert_exact(graph, {"x": np.full((1, 4, 5, 300), 255)})


def test_metadata_and_scales_travel():
    graph = dataclasses.replace(random_codenet_graph(), meta={"codesign.detector": "{}"})
    props = {p.key: p.value for p in export_integer(graph).metadata_props}
    assert props["codesign.detector"] == "{}"
    assert json.loads(props["codesign.scales"]) == dict(graph.scales)


@pytest.mark.parametrize(
    ("elem", "op", "weight", "message"),
    [
        (IntType(25), Conv(), (1, 1, 2, 1), r"^x: is i25\[3,3,2\], expected at most 24 bits$"),
        (
            IntType(20),
            Conv(),
            (1, 1, 2, 1),
            "^y: one input channel alone sums beyond 2.24, expected 8-bit inputs$",
        ),
        (
            IntType(20),
            DwConv(),
            (3, 3, 2),
            "^y: one input channel alone sums beyond 2.24, expected 8-bit inputs$",
        ),
    ],
)
def test_refuses_what_float32_cannot_carry(elem, op, weight, message):
    graph = Graph(
        {"x": TensorType((3, 3, 2), elem)}, (Node("y", op, ("x", "w")),), ("y",),
        {"w": np.full(weight, 100)}, {"w": IntType(8)},
    )  # fmt: skip
    with pytest.raises(TypeMismatch, match=message):
        export_integer(graph)
