"""Channels that become pixels, against onnxruntime and on the engine."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import passes
from codesign.errors import PlanError, TypeMismatch
from codesign.ir import Graph, TensorType, evaluate
from codesign.ops import Concat, Conv, DepthToSpace, Requant, Slice
from codesign.plan import plan
from tests.engine.engines import assert_equal, assert_exact, generic, simulate
from tests.models import I4, I8, U8, Builder, random_feeds
from tests.onnx_models import nchw, nhwc, run_node


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))
def test_depth_to_space_equals_onnxruntime(h, w, c):
    x = np.random.default_rng(h).integers(-128, 128, (2, h, w, 4 * c))
    expected = nhwc(run_node("DepthToSpace", [nchw(x)], blocksize=2, mode="DCR"))
    np.testing.assert_array_equal(DepthToSpace().run(x), expected)


def test_depth_to_space_types():
    assert str(DepthToSpace().infer(TensorType((3, 5, 8), I8))) == "i8[6,10,2]"
    with pytest.raises(TypeMismatch, match=r"^input is u8\[3,5,6\], expected \[H,W,C\] with channels in"):
        DepthToSpace().infer(TensorType((3, 5, 6), U8))


def transposed(shape: tuple[int, int, int], cout: int, kernel: int, seed: int = 0) -> Graph:
    """Transposed convolution: phases, then pixels, then one Requant; read whole, in part, and by two."""
    b = Builder(seed)
    x = b.conv("before", b.input("x", shape), 5)
    weight = b.weight("phases", (kernel, kernel, 5, 4 * cout), I4)
    b.add("phases", Conv((kernel, kernel), (1, 1), (kernel // 2,) * 4), x, weight)
    b.add("up", DepthToSpace(), "phases")
    y = b.requant("up")
    b.conv("after", y, 6, kernel=3)
    b.conv("part", b.add("some", Slice(0, max(1, cout // 2)), y), 3)
    b.dwconv("dw", y)
    return b.graph(("after.q", "part.q", "dw.q", "up.q"))


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 9)),
    st.integers(1, 37),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.integers(0, 99),
)
def test_the_engine_makes_pixels_of_channels(shape, cout, kernel, lanes, seed):
    graph = transposed(shape, cout, kernel, seed)
    feeds = random_feeds(graph, seed, batch=2)
    wanted = evaluate(graph, feeds, reference=True)
    ready = passes.run(graph)
    assert_equal(evaluate(ready, feeds), wanted)
    assert_equal(simulate(ready, feeds, lanes), wanted)


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_exact_types_give_the_same(lanes):
    graph = passes.run(transposed((3, 5, 4), 11, 3))
    assert_exact(graph, random_feeds(graph), lanes, kind="ap")


def test_rows_that_are_too_long_are_moved_in_parts():
    graph = passes.run(transposed((2, 160, 3), 17, 1))
    program = plan(graph, config=generic(8)).program
    moves = [s for s in program.steps if s.nodes == ("up.q",)]
    assert len(moves) > 1 and {s.window for s in moves} == {"pass"}
    assert_exact(graph, random_feeds(graph), 8)


def test_only_codes_are_moved():
    """The Requant comes first, for all four phases; what moves then has 8 bits."""
    graph = passes.run(transposed((2, 3, 4), 2, 1))
    by_name = {node.name: node for node in graph.nodes}
    assert isinstance(by_name["up.q"].op, DepthToSpace)
    assert isinstance(by_name["up.q.phases"].op, Requant)
    assert graph.types()["up.q.phases"].elem == U8


def shared(seed: int = 0) -> Graph:
    """Phases that come from two maps, that others read too, and that are an output."""
    b = Builder(seed)
    x = b.input("x", (3, 4, 3))
    left, right = b.conv("left", x, 6), b.conv("right", x, 2)
    both = b.add("both", Concat(), left, right)
    b.add("joined", DepthToSpace(), both)
    b.add("again", DepthToSpace(), left_four := b.conv("alone", x, 4))
    b.conv("other", left_four, 3)
    return b.graph(("joined", "again", "other.q", "left.q"))


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_phases_that_others_read_are_copied_first(lanes):
    graph = shared()
    with pytest.raises(PlanError, match="^joined: reads both, expected a convolution's result that nothing"):
        plan(graph, lanes)
    feeds = random_feeds(graph, batch=2)
    ready = passes.run(graph)
    assert_equal(evaluate(ready, feeds), evaluate(graph, feeds, reference=True))
    assert_equal(simulate(ready, feeds, lanes), evaluate(graph, feeds, reference=True))
