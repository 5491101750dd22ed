"""Sums of whole maps, what gates multiply, and weights that the engine computes: to the last bit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign import copies, passes
from codesign.csim import Simulator
from codesign.errors import PlanError
from codesign.ir import Graph, IntType, evaluate
from codesign.ops import Concat, GlobalSum, Mix, MixedConv, Pick, Shuffle, Slice, Table
from codesign.plan import plan
from codesign.status import status_text
from tests.engine.cases import averaged, gated, mixed, picked
from tests.engine.engines import LANES, assert_equal, assert_exact, engine, generic, simulate
from tests.engine.test_program import FIELDS, HEADER_INTS, STEP_INTS, int_words, run_changed
from tests.models import I4, I8, U8, Builder, random_feeds, random_mixing_graph

SIDES = st.integers(1, 9)
CHECKS = [HealthCheck.differing_executors]


@settings(max_examples=40, deadline=None, suppress_health_check=CHECKS)
@given(SIDES, SIDES, st.integers(1, 40), st.sampled_from([I8, U8]), st.sampled_from([1, 4, 16]))
def test_sums_of_any_map(h, w, c, elem, lanes):
    graph = averaged((h, w, c), elem)
    feeds = random_feeds(graph, batch=2)
    assert_equal(simulate(graph, feeds, lanes), evaluate(graph, feeds, reference=True))


@pytest.mark.parametrize("lanes", LANES)
def test_a_sum_of_a_large_map(lanes):
    """Of more pixels than any window sees; its ends are those of the accumulator."""
    graph = averaged((120, 96, 9), U8)
    assert_exact(graph, random_feeds(graph, batch=2), lanes)
    feeds = {"x": np.full((1, 120, 96, 9), 255)}
    assert_equal(simulate(graph, feeds, lanes), evaluate(graph, feeds, reference=True))


@settings(max_examples=60, deadline=None, suppress_health_check=CHECKS)
@given(SIDES, SIDES, st.integers(1, 35), st.integers(1, 5), st.sampled_from([None, 0, 1, 100, 255, 256]),
       st.sampled_from([I8, U8]), st.sampled_from([1, 4, 16]))  # fmt: skip
def test_any_gates(h, w, c, parts, threshold, elem, lanes):
    """`threshold`: of picks; None: of maps that are added."""
    graph = gated((h, w, c), parts, elem) if threshold is None else picked((h, w, c), parts, threshold, elem)
    feeds = random_feeds(graph, batch=2)
    feeds["g.in"] = np.random.default_rng(c).choice([0, 255, 99, 100, 101, 1], feeds["g.in"].shape)
    assert_equal(simulate(graph, feeds, lanes), evaluate(graph, feeds, reference=True))


@settings(max_examples=60, deadline=None, suppress_health_check=CHECKS)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 8), st.sampled_from([1, 3]), st.sampled_from([1, 2]),
       st.sampled_from([2, 4, 8]), st.sampled_from([I4, I8]), st.sampled_from([1, 4, 16]))  # fmt: skip
def test_any_mixture(cin, cout, experts, side, stride, bits, bank, lanes):
    op = MixedConv((side, side), (stride, stride), (side // 2,) * 4, bits)
    graph = mixed((5, 6, cin), cout, experts, op, bank)
    feeds = random_feeds(graph, batch=2)
    assert_equal(simulate(graph, feeds, lanes), evaluate(graph, feeds, reference=True))


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("bits", [4, 8])
def test_mixtures_reach_every_weight(bits, lanes):
    """Of one expert that holds all weights, with gates of one: what leaves is the bank itself, in the array's order."""
    op = MixedConv((3, 3), pads=(1, 1, 1, 1), bits=bits)
    graph = mixed((6, 5, 17), 19, 1, op, I8)
    bank = np.random.default_rng(3).integers(-op.most, op.most + 1, graph.consts["y.weight"].shape)
    shift = np.zeros_like(graph.consts["y.mixshift"])
    graph = replace(graph, consts={**graph.consts, "y.weight": bank, "y.mixshift": shift})
    feeds = random_feeds(graph, batch=2) | {"g.in": np.full((2, 1, 1, 1), 1)}
    assert_equal(simulate(graph, feeds, lanes), evaluate(graph, feeds, reference=True))


NETS = {
    "sum": lambda: averaged((20, 9, 10)),
    "gates": lambda: gated((6, 7, 10), 3),
    "pick": lambda: picked((6, 7, 10), 2, 120),
    "int4": lambda: mixed((6, 5, 10), 9, 3, MixedConv((3, 3), pads=(1, 1, 1, 1)), I8),
    "int8": lambda: mixed((6, 5, 10), 9, 3, MixedConv(bits=8), I8),
    "network": lambda: random_mixing_graph(4),
}


@pytest.mark.parametrize("name", NETS)
def test_an_engine_for_it_alone_and_exact_types(name):
    graph = NETS[name]()
    feeds = random_feeds(graph, batch=1)
    wanted = evaluate(graph, feeds, reference=True)
    for arrays in (1, 2):
        planned = plan(graph, 4, arrays=arrays)
        kinds = ("native", "ap") if arrays == 1 else ("native",)
        for kind in kinds:
            got = Simulator(engine(planned.config, kind), planned.program).run(feeds)
            assert_equal(got, wanted)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("bits", [I4, I8])
def test_networks(bits, lanes):
    """Weights computed from one frame are not those of the next."""
    graph = random_mixing_graph(5, (17, 14), 12, bits)
    feeds = random_feeds(graph, batch=3)
    assert_exact(graph, feeds, lanes)


@pytest.mark.parametrize("fuse", [True, False])
def test_every_stored_tensor_is_the_graph_s(fuse):
    graph = random_mixing_graph(6)
    feeds = random_feeds(graph)
    planned = plan(graph, config=generic(8), fuse=fuse, keep=True)
    names = list(planned.program.tensors)
    got = Simulator(engine(planned.config), planned.program).run(feeds, keep=names)
    wanted = evaluate(graph, feeds, keep=names)
    assert_equal(got, {name: wanted[name] for name in got})


def test_the_whole_product_at_once_gives_the_same():
    graph = random_mixing_graph(7, (16, 16), 20)
    feeds = random_feeds(graph, batch=2)
    assert_exact(graph, feeds, 8, kind="loops")
    assert_exact(graph, feeds, 8)


def test_mixed_weights_are_computed_once_and_used_in_parts():
    """A convolution that is divided, each part with its own tiles of the same weights."""
    op = MixedConv((3, 3), pads=(1, 1, 1, 1))
    graph = mixed((6, 5, 20), 40, 3, op, I8)
    for arrays in (1, 2):
        config = replace(plan(graph, 4, arrays=arrays).config, weight_tiles=100)
        planned = plan(graph, config=config)
        kinds = [s.mixing.kind for s in planned.program.steps if s.mixing is not None]
        assert kinds == ["int4"] and sum(s.weights is not None for s in planned.program.steps) > 2
        feeds = random_feeds(graph, batch=2)
        assert_equal(Simulator(engine(config), planned.program).run(feeds), evaluate(graph, feeds))


def test_a_wide_sum_is_computed_in_parts():
    graph = averaged((5, 6, 40))
    config = replace(generic(4), global_words=4)
    planned = plan(graph, config=config)
    assert [s.window for s in planned.program.steps] == ["global"] * 3
    feeds = random_feeds(graph, batch=2)
    assert_equal(Simulator(engine(config), planned.program).run(feeds), evaluate(graph, feeds))


def test_an_engine_without_them_is_refused():
    config = replace(generic(4), global_words=0, mixer=0)
    with pytest.raises(
        PlanError, match=r"^x\.s\.q: needs kGlobalWords = 1, the engine has 0\. Build an engine with"
    ):
        plan(averaged((9, 9, 3)), config=config)
    with pytest.raises(PlanError, match=r"needs kMixer = 6, the engine has 0\."):
        plan(gated((6, 7, 10), 2), config=config)


def gates_of_two() -> Graph:
    """Of which one needs them in another order than the other."""
    b = Builder(2)
    x = b.input("x", (4, 4, 6), U8)
    gates = b.conv("gates", b.input("g", (1, 1, 5), U8), 6)
    b.add("a", Mix(1), x, gates)
    b.add("b", Mix(2), b.conv("other", x, 6), gates)
    return b.graph((b.requant("a"), b.requant("b")))


def gates_of_a_window() -> Graph:
    """Gates whose order is that of the map that they are the mean of."""
    b = Builder(3)
    x = b.input("x", (4, 4, 6), U8)
    gates = b.requant(b.add("s", GlobalSum((4, 4)), b.add("turned", Shuffle(2), b.conv("c", x, 6))))
    b.add("y", Mix(3), b.conv("other", x, 6), gates)
    return b.graph((b.requant("y"), "turned"))


def test_parts_of_other_channels_are_refused():
    """Neither part is all that one convolution makes, and the second begins within a word."""
    b = Builder(1)
    x = b.dwconv("dw", b.input("x", (4, 4, 12), U8))
    low, high = b.add("low", Slice(0, 5), x), b.add("high", Slice(7, 12), x)
    b.add("y", Mix(2), b.add("both", Concat(), low, high), b.input("g", (1, 1, 10), U8))
    with pytest.raises(
        PlanError, match=r"^y\.q: its 2 parts lie in words of other channels, so that they cannot be"
    ):
        plan(b.graph((b.requant("y"), x)), 4)


@pytest.mark.parametrize(
    ("made", "refused"),
    [
        (
            gates_of_two,
            r"^b\.q: its gates lie in \d places or in another order than what they multiply\. Let a 1x1",
        ),
        (gates_of_a_window, r"^y\.q: its gates lie in \d places or in another order than what they multiply"),
    ],
)
def test_lanes_that_do_not_meet(made, refused):
    """The passes give such operators copies of their own; without them the planner says what is wrong."""
    graph = made()
    with pytest.raises(PlanError, match=refused):
        plan(graph, 4)
    feeds = random_feeds(graph, batch=2)
    prepared = passes.run(graph)
    assert_equal(evaluate(prepared, feeds), evaluate(graph, feeds))
    for lanes in (1, 4, 16):
        assert_exact(prepared, feeds, lanes)


def looked_up() -> Graph:
    """Gates of a table, as those of a sigmoid are; two branches that are windows of one map."""
    b = Builder(3)
    x = b.conv("x", b.input("image", (7, 6, 3)), 10, kernel=3)
    both = b.add("both", Concat(), b.dwconv("left", x), b.dwconv("right", x))
    values = b.const("values", np.arange(256)[::-1], U8)
    b.add("y", Mix(2), both, b.add("t", Table(U8), b.gates("g", both, 20), values))
    return b.graph((b.requant("y"),))


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("lanes", [4, 16])
def test_gates_that_are_looked_up(lanes, fuse):
    """Where the convolution's codes are stored, or in a step of its own."""
    graph = looked_up()
    steps = plan(graph, config=generic(lanes), fuse=fuse).program.steps
    assert sum(s.table is not None for s in steps) == 1
    assert_exact(graph, random_feeds(graph, batch=2), lanes, fuse=fuse)


@pytest.mark.parametrize("made", [lambda: random_mixing_graph(2), looked_up])
def test_what_meets_already_is_left_alone(made):
    graph = made()
    assert [n.name for n in copies.own_gates(graph).nodes] == [n.name for n in graph.nodes]


BAD = [
    ("kMixing", 4, 23), ("kMixing", -1, 23), ("kMixOut", 2, 23), ("kMixThreshold", 257, 23),
    ("kMixThreshold", -1, 23), ("kOutHeight", 5, 23), ("kOffsetAddress", 1, 12), ("kOffsetAddress", 1 << 28, 12),
    ("kOffsetUp", 1, 12), ("kWindowParameters", 1 << 28, 14), ("kWindowLow", -129, 15), ("kPacked", 1, 6),
]  # fmt: skip
PLACES = {"kMixing": 44, "kMixOut": 45, "kMixThreshold": 46, "kRows": 47}


@pytest.mark.parametrize(("field", "value", "status"), BAD)
def test_illegal_descriptors_are_refused(field, value, status):
    apart = replace(
        generic(4), steer_words=1
    )  # gates lie in the arena: tests/engine/test_steer.py has others
    program = plan(gated((6, 7, 10), 3), config=apart).program
    index = next(i for i, s in enumerate(program.steps) if s.mixing is not None)
    place = PLACES[field] if field in PLACES else FIELDS.index(field)
    found = run_changed(program, int_words(HEADER_INTS, 4) + index * int_words(STEP_INTS, 4) + place, value)
    assert (found & 255, (found >> 8) - 1) == (status, index), status_text(found)


@pytest.mark.parametrize(("field", "value"), [("kRows", 1 << 28), ("kRows", -5), ("kPointwiseParameters", 0),
                                              ("kPointwiseParameters", 1 << 28), ("kSecondParameters", 3)])  # fmt: skip
def test_computed_weights_outside_the_arena_are_refused(field, value):
    program = plan(mixed((6, 5, 10), 9, 3, MixedConv(), I8), config=generic(4)).program
    index = next(i for i, s in enumerate(program.steps) if s.weights is not None)
    place = PLACES[field] if field in PLACES else FIELDS.index(field)
    found = run_changed(program, int_words(HEADER_INTS, 4) + index * int_words(STEP_INTS, 4) + place, value)
    assert (found & 255, (found >> 8) - 1) == (14, index), status_text(found)


@pytest.mark.parametrize(("field", "value"), [("kOutHeight", 2), ("kGroups", 65), ("kPacked", 1)])
def test_illegal_sums_are_refused(field, value):
    program = plan(averaged((9, 9, 3)), config=generic(4)).program
    found = run_changed(program, int_words(HEADER_INTS, 4) + FIELDS.index(field), value)
    assert found & 255 in (6, 7, 18, 22), status_text(found)
    assert field != "kOutHeight" or found & 255 == 22


def test_sums_too_large_for_the_accumulator_are_refused():
    b = Builder(0)
    x = b.input("x", (2100, 2100, 1), IntType(6, False))
    b.add("y", GlobalSum((2100, 2100)), x)
    graph = b.graph((b.requant("y"),))
    with pytest.raises(
        PlanError, match=r"^y: sums 2100x2100 pixels, expected at most 4194304\. Use a smaller map\.$"
    ):
        plan(graph, 4)


def test_more_parts_than_the_engine_adds_are_refused():
    b = Builder(0)
    x = b.input("x", (1, 1, 65), U8)
    b.add("y", Pick(65), x, b.input("g", (1, 1, 1), U8))
    graph: Graph = b.graph((b.requant("y"),))
    with pytest.raises(PlanError, match=r"^y: mixes 65 parts, expected at most 64\. Use several\.$"):
        plan(graph, 4)
