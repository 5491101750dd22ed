"""Sums of two maps in steps of their own, against onnxruntime and on the engine."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codesign.errors import TypeMismatch
from codesign.ir import Graph, IntType, TensorType, evaluate
from codesign.ops import Add
from tests.engine.engines import assert_equal, assert_exact, simulate
from tests.models import I8, U8, Builder, random_feeds
from tests.onnx_models import nchw, nhwc, run_node

SHIFTS = st.integers(0, 6)


@given(SHIFTS, SHIFTS, st.integers(0, 99))
def test_add_is_the_sum_of_real_values(left, right, seed):
    """Codes of scales 2^left and 2^right, added as the floats they mean."""
    a, b = np.random.default_rng(seed).integers(-128, 256, (2, 1, 3, 4, 5))
    real = run_node("Add", [nchw(a, 2.0**left), nchw(b, 2.0**right)])
    np.testing.assert_array_equal(Add(left, right).run(a, b), nhwc(real))


def test_add_types_and_bounds():
    a, b = TensorType((2, 3, 4), U8), TensorType((2, 3, 4), I8)
    assert str(Add().infer(a, b)) == "i10[2,3,4]"  # -128 .. 510 - 128
    assert str(Add(0, 6).infer(a, b)) == "i15[2,3,4]"
    assert Add().macs(a, b) == 0
    with pytest.raises(
        TypeMismatch, match=r"^inputs are u8\[2,3,4\], i8\[2,3,1\], expected maps of one shape$"
    ):
        Add().infer(a, TensorType((2, 3, 1), I8))
    with pytest.raises(TypeMismatch, match="^shifts by 0 and 7, expected 0..6$"):
        Add(0, 7).infer(a, b)


def residual(shape: tuple[int, int, int], left: int, right: int, out: IntType, seed: int = 0) -> Graph:
    """A block that adds its input to what it computes, and a reader of both."""
    b = Builder(seed)
    x = b.conv("before", b.input("x", shape), shape[2], out=I8)
    y = b.conv("inside", x, shape[2], out=out)
    b.add("sum", Add(left, right), x, y)
    both = b.requant("sum", out=out)
    b.conv("after", both, 3)
    return b.graph(("after.q", "sum.q"))


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 37)),
    SHIFTS,
    SHIFTS,
    st.sampled_from([I8, U8]),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.integers(0, 99),
)
@example((1, 4, 1), 0, 0, I8, 1, 5)  # the same code everywhere
def test_the_engine_adds_exactly(shape, left, right, out, lanes, seed):
    graph = residual(shape, left, right, out, seed)
    feeds = random_feeds(graph, seed, batch=2)
    reference = evaluate(graph, feeds, reference=True)  # of so few pixels all codes may be alike
    assert_equal(simulate(graph, feeds, lanes), reference)
    for name, array in evaluate(graph, feeds).items():
        np.testing.assert_array_equal(array, reference[name])


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_exact_types_add_the_same(lanes):
    graph = residual((3, 5, 20), 2, 5, I8)
    assert_exact(graph, random_feeds(graph), lanes, kind="ap")


def test_a_map_added_to_itself():
    b = Builder(3)
    x = b.conv("x2", b.input("x", (4, 3, 7)), 9)
    b.add("sum", Add(1, 0), x, x)
    graph = b.graph((b.requant("sum"),))
    assert_exact(graph, random_feeds(graph), 4)
