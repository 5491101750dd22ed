import dataclasses
import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import CodesignError, TypeMismatch
from codesign.ir import Graph, IntType, Node, TensorType, evaluate
from codesign.ops import Concat, Conv, DeformDwConv, Slice, Upsample
from tests.models import Builder, random_codenet_graph, random_feeds

U8, I8, I4 = IntType(8, False), IntType(8), IntType(4)


def tiny(**changes):
    """One 1x1 convolution with its Requant, and a nearest x2."""
    b = Builder(seed=3)
    x = b.input("image", (2, 3, 2))
    b.add("up", Upsample(), b.conv("pw", x, 2))
    return dataclasses.replace(b.graph(("up",), {"image": 2.0**-7, "up": 0.375}), **changes)


def test_printed_graph(golden):
    golden(str(tiny(meta={"codesign.format": "1"})))


def test_printed_network(golden):
    golden(
        str(random_codenet_graph(widths=(4, 6, 8, 10, 12), repeats=(0, 1, 0), stem="maxpool", size=(64, 96)))
    )


@given(st.integers(-(2**20), 2**20), st.integers(-(2**20), 2**20))
def test_holding_is_tight(a, b):
    low, high = min(a, b), max(a, b)
    t = IntType.holding(low, high)
    assert t.min <= low and high <= t.max
    if t.bits > 1:
        narrower = IntType(t.bits - 1, t.signed)
        assert low < narrower.min or high > narrower.max


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0, 0, "u1"), (0, 1, "u1"), (0, 255, "u8"), (-1, 0, "i1"), (-1, 1, "i2"), (-129, 3, "i9")],
)
def test_holding(low, high, text):
    assert str(IntType.holding(low, high)) == text


def test_nothing_in_a_graph_can_be_changed():
    g = tiny()
    with pytest.raises(dataclasses.FrozenInstanceError):
        g.nodes = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        g.consts["pw.weight"] = np.zeros(1)  # type: ignore[index]
    with pytest.raises(ValueError, match="read-only"):
        g.consts["pw.weight"][0] = 1
    types = g.types()
    types.clear()
    assert g.types()


def test_a_graph_travels_to_other_processes():
    g = tiny(meta={"a": "b"})
    back = pickle.loads(pickle.dumps(g))
    assert str(back) == str(g)
    feeds = random_feeds(g)
    np.testing.assert_array_equal(evaluate(back, feeds)["up"], evaluate(g, feeds)["up"])


def test_a_graph_keeps_its_own_copy_of_the_constants():
    weight = np.ones((1, 1, 2, 2), np.int64)
    g = tiny()
    g = dataclasses.replace(g, consts={**g.consts, "pw.weight": weight})
    weight[:] = 7
    assert g.consts["pw.weight"].max() == 1


def node(name, op, *inputs):
    return Node(name, op, inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": (node("up", Upsample(), "x"),)}, "up: reads 'x' before it is defined"),
        ({"nodes": (node("image", Upsample(), "image"),)}, "image: defined twice"),
        ({"outputs": ("head",)}, "head: is an output, but nothing defines it"),
        (
            {"nodes": (node("s", Slice(1, 5), "image"),), "outputs": ("s",)},
            "s: channels 1..5 of i8[2,3,2], expected a range inside it",
        ),
        (
            {"nodes": (node("pw", Conv(), "image", "image"),), "outputs": ("pw",)},
            "pw: weight is i8[2,3,2], expected [1,1,2,Cout]",
        ),
        (
            {"const_types": {**tiny().const_types, "pw.weight": IntType(2)}},
            "pw.weight: holds -5..2, expected i2",
        ),
    ],
)
def test_ill_formed_graphs_are_refused(changes, message):
    with pytest.raises(TypeMismatch, match=f"^{re.escape(message)}$"):
        tiny(**changes).types()


def test_offset_over_its_bound_is_refused_with_the_node_s_name():
    g = Graph(
        {"x": TensorType((4, 6, 2), I8), "d": TensorType((4, 6, 1), IntType(4, False))},
        (Node("backbone.2.dw", DeformDwConv(7), ("x", "d", "w")),),
        ("backbone.2.dw",),
        {"w": np.ones((3, 3, 2))},
        {"w": I4},
    )
    message = (
        "backbone.2.dw: offset is u4, which exceeds max_offset=7. "
        "Export the offset with 3 bits, or raise max_offset"
    )
    with pytest.raises(TypeMismatch, match=f"^{re.escape(message)}$"):
        g.types()


def test_ranges_hold_on_data_and_are_tighter_than_types():
    g = random_codenet_graph(2)
    bounds, types = g.bounds(), g.types()
    for seed in range(3):
        for name, value in evaluate(g, random_feeds(g, seed), keep=types).items():
            if name in bounds:
                assert (bounds[name].low <= value).all() and (value <= bounds[name].high).all(), name
    assert all(bounds[name].elem.bits <= types[name].elem.bits for name in bounds)
    assert bounds["neck"].elem.bits < types["neck"].elem.bits


def test_a_range_beyond_the_accumulator_is_refused_with_the_node_s_name():
    g = tiny()
    consts = {**g.consts, "pw.bias": np.array([2**31 - 1, 0])}
    with pytest.raises(
        TypeMismatch, match=r"^pw\.q: accumulator and bias need 33 bits, expected at most 32$"
    ):
        dataclasses.replace(g, consts=consts).bounds()


def test_evaluate_returns_outputs_and_what_is_asked_for():
    g = tiny()
    feeds = random_feeds(g, batch=2)
    assert set(evaluate(g, feeds)) == {"up"}
    assert set(evaluate(g, feeds, keep=["pw", "pw.weight"])) == {"up", "pw", "pw.weight"}
    everything = evaluate(g, feeds, keep=g.types())
    assert set(everything) == set(g.types())
    assert all(value.dtype == np.int64 for value in everything.values())
    assert everything["up"].shape == (2, 4, 6, 2)


def test_images_of_a_batch_do_not_mix():
    g = random_codenet_graph(4)
    feeds = random_feeds(g, batch=3)
    together = evaluate(g, feeds)
    for i in range(3):
        alone = evaluate(g, {"image": feeds["image"][i : i + 1]})
        for name in g.outputs:
            np.testing.assert_array_equal(together[name][i : i + 1], alone[name])


IMAGE = np.zeros((1, 2, 3, 2), np.int8)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "image: no array was given, expected integers (N,2,3,2). Feed it."),
        (
            {"image": IMAGE[0]},
            "image: is int8[2, 3, 2], expected integers (N,2,3,2). Resize the image, or add the batch axis.",
        ),
        (
            {"image": IMAGE.astype(float)},
            "image: is float64[1, 2, 3, 2], expected integers (N,2,3,2). Resize the image, or add the batch axis.",
        ),
        (
            {"image": IMAGE[:0]},
            "image: is int8[0, 2, 3, 2], expected integers (N,2,3,2). Resize the image, or add the batch axis.",
        ),
        (
            {"image": IMAGE.astype(int) + 200},
            "image: holds 200..200, expected i8. Pass codes (pixel - 128), not pixels.",
        ),
    ],
)
def test_wrong_feeds_are_refused(feeds, message):
    with pytest.raises(CodesignError, match=f"^{re.escape(message)}$"):
        evaluate(tiny(), feeds)


def test_different_batch_sizes_are_refused():
    g = Graph(
        {"a": TensorType((2, 2, 1), I8), "b": TensorType((2, 2, 1), I8)},
        (Node("cat", Concat(), ("a", "b")),), ("cat",), {}, {},
    )  # fmt: skip
    feeds = {"a": np.zeros((1, 2, 2, 1), int), "b": np.zeros((2, 2, 2, 1), int)}
    with pytest.raises(CodesignError, match=r"^a, b: batch sizes differ\. Give each input the same N\.$"):
        evaluate(g, feeds)
