"""Steps of several operators: 1x1, depthwise 3x3 and 1x1 through row buffers, and a max-pool behind the arrays."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign.board import load_board
from codesign.csim import Simulator
from codesign.cycles import simulate as count
from codesign.emit import sources
from codesign.fit import Limits
from codesign.ir import Graph, evaluate
from codesign.ops import Concat, MaxPool, Slice
from codesign.plan import plan
from tests.engine.engines import ARRAYS, LANES, assert_equal, assert_exact, engine, generic
from tests.models import I4, I8, U8, Builder, random_codenet_graph, random_feeds


def chain(
    shape: tuple[int, int, int] = (7, 9, 10), between: int = 13, cout: int = 11, stride: int = 1, seed: int = 0,
    **options: object,
) -> Graph:  # fmt: skip
    """1x1, depthwise, 1x1: what lies between them is never looked at."""
    b = Builder(seed)
    y = b.conv("a", b.input("x", shape), between, **options)
    y = b.dwconv("b", y, stride, out=I8)
    b.conv("c", y, cout)
    return b.graph(("c.q",))


def pooled(shape: tuple[int, int, int], cout: int, pool: int, kernel: int = 1, **options: object) -> Graph:
    b = Builder(5)
    y = b.conv("a", b.input("x", shape), cout, kernel, **options)
    b.add("p", MaxPool((3, 3), (pool, pool), (1, 1, 1, 1)), y)
    return b.graph(("p",))


SHAPES = [(7, 9, 10), (1, 1, 3), (1, 8, 5), (8, 1, 5), (2, 2, 20), (16, 5, 33)]


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_chain_is_one_step_and_exact(shape, stride, lanes):
    graph = chain(shape, stride=stride)
    steps = plan(graph, config=generic(lanes)).program.steps
    assert [s.middle_stride for s in steps] == ([stride] if ARRAYS[lanes] == 2 else [0, 0])
    assert_exact(graph, random_feeds(graph, batch=2), lanes)


@pytest.mark.parametrize("kind", ["ap", "sanitize"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_chain_in_other_types(stride, kind):
    for graph in (
        chain((9, 8, 21), stride=stride, bits=I8, out=I8),
        chain((9, 8, 21), stride=stride, kernel=3),
    ):
        assert_exact(graph, random_feeds(graph), 4, kind=kind)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("out", [I8, U8])
def test_a_pooled_convolution_is_one_step_and_exact(lanes, stride, out):
    for shape in SHAPES:
        graph = pooled(shape, 13, stride, out=out)
        (step,) = plan(graph, config=generic(lanes)).program.steps
        assert step.pool_stride == stride
        assert_exact(graph, random_feeds(graph, batch=2), lanes)


def test_of_two_pools_one_follows_the_arrays():
    b = Builder(5)
    y = b.conv("a", b.input("x", (9, 8, 6)), 7)
    y = b.add("p", MaxPool((3, 3), (1, 1), (1, 1, 1, 1)), y)
    b.add("q", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), y)
    graph = b.graph(("q",))
    steps = plan(graph, config=generic(4)).program.steps
    assert [(s.pool_stride, s.window) for s in steps] == [(1, "pass"), (0, "max-pool")]
    assert_exact(graph, random_feeds(graph, batch=2), 4)


@pytest.mark.parametrize("kind", ["ap", "sanitize"])
def test_a_pooled_convolution_in_other_types(kind):
    graph = pooled((9, 12, 3), 7, 2, kernel=3, stride=2, bits=I8)
    assert_exact(graph, random_feeds(graph), 16, kind=kind)
    assert_exact(graph, random_feeds(graph), 4, kind=kind)


def test_a_chain_with_windows_at_all_three_places():
    """A depthwise, 1x1, depthwise, 1x1 and a max-pool: one step."""
    b = Builder(7)
    y = b.dwconv("w", b.input("x", (11, 10, 9)), out=I8)
    y = b.conv("a", y, 12)
    y = b.dwconv("b", y, 2, out=I8)
    y = b.conv("c", y, 7)
    b.add("p", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), y)
    graph = b.graph(("p",))
    for lanes in LANES:
        if ARRAYS[lanes] == 2:
            (step,) = plan(graph, config=generic(lanes)).program.steps
            assert (step.window, step.middle_stride, step.pool_stride) == ("depthwise", 2, 2)
        assert_exact(graph, random_feeds(graph, batch=2), lanes)


def test_what_others_read_is_stored():
    b = Builder(1)
    y = b.conv("a", b.input("x", (6, 6, 8)), 8)
    z = b.conv("c", b.dwconv("b", y, out=I8), 8)
    both = b.graph((b.conv("d", b.add("cat", Concat(), y, z), 5),))
    part = chain((6, 6, 8), 8)
    b = Builder(1)
    y = b.conv("a", b.input("x", (6, 6, 8)), 8)
    b.conv("c", b.dwconv("b", b.add("s", Slice(2, 7), y), out=I8), 8)
    some = b.graph(("c.q",))
    assert [s.middle_stride for s in plan(both, 4, arrays=2).program.steps] == [0, 0, 0]
    assert [s.middle_stride for s in plan(part, 4, arrays=2).program.steps] == [1]
    for graph in (both, some):
        assert_exact(graph, random_feeds(graph), 4)


@pytest.mark.parametrize("narrow", [
    {"middle_words": 31}, {"middle_groups": 1}, {"weight_tiles": 5}, {"output_words": 1},
])  # fmt: skip
def test_a_chain_without_room_is_two_steps(narrow):
    """On an engine as it is, row buffers or weights can be too small for a chain: its parts still run."""
    graph = chain((7, 8, 10), 13, 11)  # 4 lanes: 8 columns of 4 words
    config = replace(generic(4), **narrow)
    steps = plan(graph, config=config).program.steps
    assert len(steps) >= 2 and not any(s.middle_stride for s in steps)
    feeds = random_feeds(graph)
    got = Simulator(engine(config), plan(graph, config=config).program).run(feeds)
    assert_equal(got, evaluate(graph, feeds))


def test_limits_and_names_keep_chains_apart():
    graph = chain((7, 8, 10), 13, 11)
    assert len(plan(graph, 4).program.steps) == 2
    assert len(plan(graph, 4, arrays=2).program.steps) == 1
    assert len(plan(graph, 4, arrays=2, apart={"a.q"}).program.steps) == 2
    assert len(plan(graph, 4, arrays=2, limits=Limits(line_words=31)).program.steps) == 2
    assert len(plan(graph, 4, arrays=2, fuse=False).program.steps) == 3


@pytest.mark.parametrize("narrow", [{"pool_words": 8}, {"pool_groups": 1}, {"pool_words": 4}])
def test_a_pool_without_room(narrow):
    """Some words at a time, or none: then the max-pool is a step of its own."""
    graph = pooled((6, 5, 7), 13, 2)
    config = replace(generic(4), **narrow)
    steps = plan(graph, config=config).program.steps
    assert (len(steps), bool(steps[0].pool_stride)) == (
        (2, False) if narrow == {"pool_words": 4} else (4, True)
    )
    feeds = random_feeds(graph)
    got = Simulator(engine(config), plan(graph, config=config).program).run(feeds)
    assert_equal(got, evaluate(graph, feeds))


shapes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 30))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    shapes, st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2]), st.sampled_from(LANES),
    st.sampled_from([I4, I8]), st.integers(0, 9),
)  # fmt: skip
def test_random_chains(shape, between, cout, stride, lanes, bits, seed):
    graph = chain(shape, between, cout, stride, seed, bits=bits)
    feeds = random_feeds(graph, batch=2)
    config = generic(lanes)
    got = Simulator(engine(config), plan(graph, config=config).program).run(feeds)
    assert_equal(got, evaluate(graph, feeds, reference=True))


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    shapes, st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 2]), st.booleans(),
    st.sampled_from([(1, 1), (5, 1), (11, 8)]),
)  # fmt: skip
def test_no_order_of_events_stops_the_arrays(shape, between, cout, stride, split, array):
    """Cycle by cycle: bounded streams between two arrays, in a chain and side by side, and the next step's weights."""
    graph = chain(shape, between, cout, stride)
    config = replace(generic(8), arrays=2, pixels=array[0], turns=array[1], fabric=0)
    made = plan(graph, config=config, apart={"a.q"} if split else ())
    counted = count(sources(made.config), made.program, load_board("pynq-z2"))
    assert counted.cycles > 0  # a deadlock would have been an error


def test_no_chain_where_nothing_may_be_joined():
    graph = random_codenet_graph(seed=1, size=64)
    assert not any(s.middle_stride or s.pool_stride for s in plan(graph, arrays=2, fuse=False).program.steps)
    blocks = [s for s in plan(graph, arrays=2).program.steps if s.middle_stride]
    assert (
        len(blocks) == 3 + 3
    )  # the right half of a down block, a unit in each stage: heads begin before upsampling
    assert np.all([s.pointwise != "none" and s.second != "none" for s in blocks])
