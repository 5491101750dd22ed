"""Windows whose taps each look somewhere else, on the engine: every offset, grid and mask, to the last bit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign import passes
from codesign.csim import Simulator
from codesign.emit import sources
from codesign.errors import PlanError, TypeMismatch
from codesign.ir import Graph, IntType, evaluate
from codesign.ops import Concat, Conv, DepthToSpace, Requant, SampledDwConv, Shuffle, Slice
from codesign.plan import plan
from codesign.status import status_text
from codesign.windows import TAPS, Sampling
from tests.engine.cases import sampled
from tests.engine.engines import LANES, assert_equal, assert_exact, engine, generic, simulate
from tests.engine.test_program import FIELDS, HEADER_INTS, STEP_INTS, int_words, run_changed
from tests.models import I4, I8, U8, Builder, random_codenet_graph, random_feeds

OPS = {
    "nearest": SampledDwConv(7, 0),
    "half pixels": SampledDwConv(7, 1),
    "sixteenths": SampledDwConv(7, 4),
    "masks": SampledDwConv(3, 2, 0, 63),
    "signed masks": SampledDwConv(6, 4, -128, 127),
    "bound zero": SampledDwConv(0, 0),
    "still": SampledDwConv(0, 0, -128, 127, still=True),
    "still column": SampledDwConv(0, 2, 0, 63, taps="9x1", border=True, still=True),
    "row": SampledDwConv(4, 4, taps="1x9"),
    "column": SampledDwConv(4, 4, 0, 63, taps="9x1"),
    "one tap": SampledDwConv(7, 4, taps="1x1"),
    "one tap with a mask": SampledDwConv(2, 1, -128, 127, taps="1x1", border=True),
    "border": SampledDwConv(7, 4, border=True),
    "column with border": SampledDwConv(3, 2, taps="9x1", border=True),
    "one tap, bound zero": SampledDwConv(0, 0, taps="1x1"),
}


def chosen(graph: Graph, op: SampledDwConv, choose: str, batch: int = 2) -> dict[str, np.ndarray]:
    feeds, rng = random_feeds(graph, batch=batch), np.random.default_rng(5)
    shape, most = feeds["s"].shape, op.limit
    feeds["s"] = {
        "any": feeds["s"],
        "ends": rng.choice([-most, most], shape),
        "beyond": rng.choice([-128, 127], shape),
        "beside": rng.choice([1 - most, most - 1, -1, 0, 1], shape),
    }[choose].clip(-128, 127)
    if choose != "any" and op.masked:
        masks = rng.choice([op.mask_low, op.mask_high, -128, 127], (*shape[:3], op.count))
        feeds["s"][..., op.offsets :] = masks
    return feeds


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("choose", ["any", "ends", "beyond", "beside"])
@pytest.mark.parametrize("name", OPS)
def test_every_offset(name, choose, lanes):
    """Maps higher than the ring of rows, so that rows are overwritten while others are still read."""
    op = OPS[name]
    graph = sampled((2 * op.max_offset + 11, 7, 6), op)
    assert_exact(graph, chosen(graph, op, choose), lanes)


@pytest.mark.parametrize("choose", ["any", "ends"])
@pytest.mark.parametrize("name", OPS)
def test_exact_types_give_the_same(name, choose):
    graph = sampled((13, 9, 6), OPS[name])
    assert_exact(graph, chosen(graph, OPS[name], choose, batch=1), 4, kind="ap")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(
    st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(1, 19)),
    st.integers(0, 7),
    st.integers(0, 4),
    st.sampled_from([(0, 0), (0, 1), (0, 63), (-5, 127), (-128, 127)]),
    st.sampled_from([(1, 1), (2, 2)]),
    st.booleans(),
    st.sampled_from(["any", "ends", "beyond", "beside"]),
    st.sampled_from([4, 16]),
    st.sampled_from(TAPS),
    st.booleans(),
)
def test_any_shape(shape, bound, grid, masks, stride, signed, choose, lanes, taps, border):
    op = SampledDwConv(min(bound, 4) if taps == "9x1" else bound, grid, *masks, stride, taps, border)
    graph = sampled(shape, op, I8 if signed else U8)
    feeds = chosen(graph, op, choose, batch=1)
    assert_equal(simulate(graph, feeds, lanes), evaluate(graph, feeds, reference=True))


@pytest.mark.parametrize("name", OPS)
def test_an_engine_for_it_alone(name):
    """The least rows, and multipliers no wider than its grid."""
    op = OPS[name]
    graph = sampled((2 * op.max_offset + 11, 5, 4), op)
    planned = plan(graph, 4)
    config = planned.config
    assert (config.ring_rows, config.sampler) == (max(4, 2 * op.reach + 2), 1 + op.grid)
    assert config.sampler_shapes == (op.taps != "3x3" or op.border or op.still)
    for kind in ("native", "ap"):
        feeds = chosen(graph, op, "ends")
        got = Simulator(engine(config, kind), planned.program).run(feeds)
        assert_equal(got, evaluate(graph, feeds, reference=True))


def test_one_row_fewer_is_refused():
    op = SampledDwConv(7, 2)
    config = replace(plan(sampled((30, 5, 4), op), 4).config, ring_rows=17)
    with pytest.raises(PlanError, match=r"^y\.q: needs kRingRows = 18, the engine has 17\."):
        plan(sampled((30, 5, 4), op), config=config)


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("name", ["nearest", "masks"])
def test_offsets_of_a_smaller_map(name, lanes):
    """Four pixels share what was read for one of them."""
    graph = sampled((8, 6, 5), OPS[name], up=True)
    assert_exact(graph, random_feeds(graph, batch=2), lanes)


@pytest.mark.parametrize("lanes", LANES)
def test_networks(lanes):
    """Offsets of convolutions; windows that join the 1x1 behind them."""
    graph = random_codenet_graph(seed=3, size=64, sampler=SampledDwConv(7, 2, 0, 63))
    feeds = random_feeds(graph, batch=2)
    wanted = evaluate(graph, feeds)
    assert_equal(simulate(graph, feeds, lanes), wanted)
    planned = plan(graph, config=generic(lanes))
    steps = [s for s in planned.program.steps if s.window == "sampled"]
    assert len(steps) == 3 and all(s.pointwise != "none" for s in steps)


@pytest.mark.parametrize("fuse", [True, False])
def test_every_stored_tensor_is_the_graph_s(fuse):
    graph = random_codenet_graph(seed=4, size=32, sampler=SampledDwConv(3, 2))
    feeds = random_feeds(graph)
    planned = plan(graph, config=generic(8), fuse=fuse, keep=True)
    names = list(planned.program.tensors)
    got = Simulator(engine(planned.config), planned.program).run(feeds, keep=names)
    wanted = evaluate(graph, feeds, keep=names)
    assert_equal(got, {name: wanted[name] for name in got})


def test_a_row_too_long_is_computed_in_parts():
    """Each part of the channels reads the offsets again."""
    op = SampledDwConv(3, 1)
    graph = sampled((9, 20, 40), op)
    planned = plan(graph, config=replace(generic(4), ring_rows=10, max_offset=4, row_words=64))
    assert len(planned.program.steps) > 1
    feeds = chosen(graph, op, "any")
    got = Simulator(engine(planned.config), planned.program).run(feeds)
    assert_equal(got, evaluate(graph, feeds, reference=True))


def test_sums_of_int8_weights():
    """28 bits: the window's own sum is wider than any of float32."""
    op = SampledDwConv(3, 3, -128, 127)
    graph = sampled((7, 6, 5), op, bits=I8)
    feeds = random_feeds(graph, batch=2)
    assert np.abs(op.run(feeds["x"], feeds["s"], graph.consts["y.weight"])).max() > 1 << 24
    for kind in ("native", "ap"):
        assert_exact(graph, feeds, 4, kind=kind)


def test_sums_beyond_32_bits_are_refused():
    graph = sampled((7, 6, 5), SampledDwConv(3, 4, -128, 127), U8, I8)
    weight = np.full_like(graph.consts["y.weight"], 127)
    graph = replace(graph, consts={**graph.consts, "y.weight": weight})
    with pytest.raises(TypeMismatch, match=r"^y\.q: accumulator and bias need 35 bits, expected at most 32$"):
        plan(graph, 4)


def test_offsets_in_two_places_are_refused():
    """They are read in the order of their channels, so nothing else may have a say in where these lie."""
    op = SampledDwConv(3, 0)
    b = Builder(1)
    x = b.input("x", (6, 6, 4))
    low, high = b.conv("a", x, 9, out=I8), b.conv("b", x, 9, out=I8)
    b.add("y", op, x, b.add("s", Concat(), low, high), b.weight("y", (3, 3, 4), I4))
    graph = b.graph((b.requant("y"),))
    with pytest.raises(
        PlanError, match=r"^y\.q: its offsets lie in 2 places, expected all channels of one conv"
    ):
        plan(graph, 4)


def test_a_part_of_a_map_may_be_the_offsets():
    """Its channels fill words of their own."""
    b = Builder(2)
    x = b.input("x", (6, 6, 4))
    both = b.conv("both", x, 26, out=I8)
    s = b.add("s", Slice(0, 18), both)
    b.add("y", SampledDwConv(3, 1), x, s, b.weight("y", (3, 3, 4), I4))
    b.conv("z", b.add("rest", Slice(18, 26), both), 3)
    graph = b.graph((b.requant("y"), "z.q"))
    for lanes in (1, 2):  # of 18 channels nothing is left over
        assert_exact(graph, random_feeds(graph, batch=2), lanes)


def test_the_engine_without_a_sampler():
    """It has no field of its own for this, and refuses such a step."""
    graph = sampled((6, 6, 4), SampledDwConv(1, 0))
    config = replace(plan(graph, 4).config, sampler=0)
    with pytest.raises(
        PlanError, match=r"^y\.q: needs kSampler = 1, the engine has 0\. Build an engine with"
    ):
        plan(graph, config=config)
    program = plan(graph, 4).program
    status = engine(config).start(program.memory(), 4, program.base)
    assert (
        status_text(status) == "step 0: kind, kernel, stride, origin or reach of the window are out of range"
    )
    assert "kSampler = 0" in sources(config)["config.hpp"]


BAD_SAMPLES = [
    ("kSampleGrid", -1, 20), ("kSampleGrid", 5, 20),
    ("kSampleFlags", 32, 20), ("kSampleFlags", 17, 20), ("kSampleFlags", 16, 20),
    ("kSampleFlags", -1, 20), ("kSampleMaskLow", -129, 20),
    ("kSampleMaskHigh", 128, 20), ("kReach", 0, 10), ("kReach", 9, 10), ("kKernel", 2, 10), ("kStrideX", 5, 10),
    ("kOffsetAddress", 3, 12), ("kOffsetStride", 6, 12), ("kWindowParameters", -1, 14), ("kSampleGrid", 31, 20),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "status"), BAD_SAMPLES)
def test_illegal_fields_are_refused(field, value, status):
    program = plan(sampled((9, 7, 5), SampledDwConv(3, 2, 0, 63)), config=generic(4)).program
    at = int_words(HEADER_INTS, 4) + FIELDS.index(field)  # 4 lanes: words are integers
    assert len(FIELDS) == STEP_INTS + 1
    found = run_changed(program, at, value)
    assert (found & 255, (found >> 8) - 1) == (status, 0), status_text(found)


def test_offsets_that_do_not_fit_their_byte_are_refused():
    program = plan(
        sampled((25, 4, 3), SampledDwConv(8, 3)), config=replace(generic(4), max_offset=9, ring_rows=20)
    )
    at = int_words(HEADER_INTS, 4) + FIELDS.index("kSampleGrid")
    memory = program.program.memory()
    start = 4 * (program.program.base + at)
    memory[start : start + 4] = np.array([4], "<i4").view(np.uint8)
    assert engine(program.config).start(memory, 4, program.program.base) == 20 + 256


def test_words_of_a_pixel():
    assert [Sampling(0).words(n) for n in (1, 4, 16, 32)] == [18, 5, 2, 1]
    assert [Sampling(0, 0, 9).words(n) for n in (1, 4, 16, 32)] == [27, 7, 2, 1]


def test_a_requant_between_keeps_the_order_of_offsets():
    """A change of scale alone is a depthwise step: its channels lie as those it reads."""
    b = Builder(3)
    x = b.input("x", (6, 6, 4))
    s = b.conv("s", x, 18, out=I8)
    b.add("one", Conv(), s, b.const("one.weight", np.eye(18)[None, None], I4))
    for name, value, elem in ("b", 0, IntType(32)), ("m", 1, U8), ("h", 1, I8):
        b.const(name, np.full(18, value), elem)
    b.add("half", Requant(I8, -128, 127), "one", "b", "m", "h")
    b.add("y", SampledDwConv(7, 3), x, "half", b.weight("y", (3, 3, 4), I4))
    graph = b.graph((b.requant("y"),))
    for lanes in (1, 4, 16):
        assert_exact(graph, random_feeds(graph, batch=2), lanes)


def dysample(shape: tuple[int, int, int], shuffled: bool = False) -> Graph:
    """A map sampled four times, once for each of the pixels that a pixel becomes."""
    b, op = Builder(sum(shape)), SampledDwConv(2, 4, taps="1x1", border=True)
    x = b.conv("x.made", b.input("x", shape), shape[2])
    phases = []
    for k in range(4):
        s = b.conv(f"s{k}", x, 2, out=I8, lo=-op.limit, hi=op.limit)
        b.add(f"y{k}", op, x, s, b.const(f"y{k}.weight", np.ones((1, 1, shape[2])), I4))
        for name, value, elem in ("b", 0, IntType(32)), ("m", 1, U8), ("h", 8, I8):
            b.const(f"y{k}.{name}", np.full(shape[2], value), elem)
        phases.append(b.add(f"y{k}.q", Requant(U8, 0, 255), f"y{k}", f"y{k}.b", f"y{k}.m", f"y{k}.h"))
    if shuffled:
        phases[3] = b.add("other", Shuffle(2), phases[3])
    up = b.add("up", DepthToSpace(), b.add("phases", Concat(), *phases))
    return passes.run(b.graph((b.dwconv("behind", up), b.conv("beside", up, 5))))


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("shuffled", [False, True])
def test_four_samples_become_pixels(lanes, shuffled):
    """Their words are moved as they lie; where those lie differently, a product puts channels in their places."""
    graph = dysample((7, 6, 10), shuffled)
    feeds = random_feeds(graph, batch=2)
    assert_exact(graph, feeds, lanes)
    planned = plan(graph, config=generic(lanes), keep=True)
    (copy,) = (s for s in planned.program.steps if "up.copy.q" in s.nodes)
    assert copy.pointwise == ("int4" if shuffled else "none")
    got = Simulator(engine(planned.config), planned.program).run(feeds, keep=list(planned.program.tensors))
    wanted = evaluate(graph, feeds, keep=list(got))
    assert_equal(got, {name: wanted[name] for name in got})


def test_an_engine_for_four_samples_alone():
    """Its buffers hold a pixel of all of them."""
    graph = dysample((6, 5, 40))
    planned = plan(graph, 4)
    feeds = random_feeds(graph)
    got = Simulator(engine(planned.config), planned.program).run(feeds)
    assert_equal(got, evaluate(graph, feeds, reference=True))
