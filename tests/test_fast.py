"""The fast kernels against each operator's int64 definition."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import fast
from codesign.ir import Bounds, Graph, IntType, Node, TensorType, evaluate
from codesign.ops import Conv, Requant
from tests.models import Builder, random_codenet_graph, random_feeds

U8 = IntType(8, False)


def assert_equal(graph, feeds):
    quick = evaluate(graph, feeds, keep=graph.types())
    slow = evaluate(graph, feeds, keep=graph.types(), reference=True)
    for name in graph.types():
        np.testing.assert_array_equal(quick[name], slow[name], err_msg=name)


@settings(max_examples=15)
@given(
    st.integers(0, 999), st.integers(1, 3), st.sampled_from([32, 64, (32, 96)]),
    st.sampled_from(["stride4", "maxpool"]), st.sampled_from([1, 3, 7, 8]),
)  # fmt: skip
def test_networks(seed, batch, size, stem, max_offset):
    graph = random_codenet_graph(seed, size, stem=stem, max_offset=max_offset)
    assert_equal(graph, random_feeds(graph, seed, batch))


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.sampled_from([1, 2]), st.sampled_from([1, 2, 4]),
    st.integers(0, 99), st.booleans(),
)  # fmt: skip
def test_layers(h, w, c, stride, dense_stride, seed, signed):
    b = Builder(seed)
    x = b.input("x", (h, w, c), IntType(8, signed))
    outputs = [
        b.conv("pw", x, 3),
        b.conv("dense", x, 3, kernel=3, stride=dense_stride, bits=IntType(8)),
        b.dwconv("dw", x, stride),
        b.deform("deform", x, stride=stride),
    ]
    graph = b.graph(outputs)
    assert_equal(graph, random_feeds(graph, seed, 2))


def wide(cin, weight, bias, shift, elem=U8, mult=1, out=U8):
    """A 1x1 convolution whose weights are all `weight`, and its Requant."""
    consts = {"w": np.full((1, 1, cin, 1), weight), "b": [bias], "m": [mult], "s": [shift]}
    types = {"w": IntType(8), "b": IntType(32), "m": U8, "s": IntType(8)}
    nodes = (
        Node("acc", Conv(), ("x", "w")),
        Node("y", Requant(out, out.min, out.max), ("acc", "b", "m", "s")),
    )
    return Graph({"x": TensorType((1, 2, cin), elem)}, nodes, ("y",), consts, types)


@pytest.mark.parametrize(
    ("cin", "bias", "carrier"), [(500, 0, np.float32), (519, 0, np.float64), (519, 2**31 - 2**25, np.float64)]
)
def test_carrier_widens_where_sums_pass_2_to_24(cin, bias, carrier):
    graph = wide(cin, 127, bias, 18, mult=7)
    assert fast.exact_float(graph.bounds()["acc"]) is carrier
    assert_equal(graph, random_feeds(graph))
    assert_equal(graph, {"x": np.full((1, 1, 2, cin), 255)})


def test_sums_just_above_2_to_24_would_be_wrong_in_float32():
    graph = wide(519, 127, 0, 16)
    x = np.full((1, 1, 2, 519), 255)
    total = 519 * 255 * 127  # odd, so that float32 cannot hold it
    assert total > 1 << 24 and int(np.float32(total)) != total
    assert evaluate(graph, {"x": x}, keep=["acc"])["acc"].ravel().tolist() == [total, total]


@pytest.mark.parametrize("shift", [-16, -1, 0, 1, 40])
def test_every_shift(shift):
    assert_equal(wide(3, 1, -200, shift, mult=5), {"x": np.arange(6).reshape(1, 1, 2, 3) * 40})


def test_ties():
    graph = dataclasses.replace(wide(1, 1, 0, 1), inputs={"x": TensorType((1, 256, 1), U8)})
    feeds = {"x": np.arange(256).reshape(1, 1, 256, 1)}
    np.testing.assert_array_equal(evaluate(graph, feeds)["y"].ravel(), np.rint(np.arange(256) / 2))
    assert_equal(graph, feeds)


def test_values_too_wide_for_any_float_use_the_definition():
    graph = wide(1, 1, 0, 0, elem=IntType(60))
    graph = dataclasses.replace(graph, nodes=graph.nodes[:1], outputs=("acc",))
    assert fast.kernels(graph) == {}
    x = np.array([2**58 + 1, -(2**58) - 1]).reshape(1, 1, 2, 1)
    np.testing.assert_array_equal(evaluate(graph, {"x": x})["acc"], x)


@given(st.integers(0, 2**54), st.booleans())
def test_exact_float_names_the_narrowest(n, negative):
    bounds = Bounds(np.array([-n if negative else 0]), np.array([0 if negative else n]))
    expected = np.float32 if n < 1 << 24 else np.float64 if n < 1 << 53 else None
    assert fast.exact_float(bounds) is expected
