"""Depthwise windows with weights of their own at every pixel, which lie in the program: to the last bit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign.csim import Simulator
from codesign.errors import PlanError
from codesign.ir import IntType, evaluate
from codesign.plan import plan
from codesign.program import decode
from codesign.status import status_text
from tests.engine.cases import varied
from tests.engine.engines import LANES, assert_equal, assert_exact, engine, generic, simulate
from tests.engine.test_program import FIELDS, HEADER_INTS, int_words, run_changed
from tests.models import I4, I8, U8, Builder, random_feeds


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(
    st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(1, 19)),
    st.sampled_from([1, 2]),
    st.sampled_from([I8, U8]),
    st.sampled_from([I4, I8]),
    st.sampled_from([4, 16]),
)
def test_any_shape(shape, stride, elem, bits, lanes):
    graph = varied(shape, elem, stride=stride, bits=bits)
    feeds = random_feeds(graph)
    assert_equal(simulate(graph, feeds, lanes), evaluate(graph, feeds, reference=True))


@pytest.mark.parametrize("kind", ["native", "ap"])
def test_an_engine_for_it_alone(kind):
    """It has no sampler, and no memory for weights that are the same everywhere holds any."""
    graph = varied((9, 6, 7), stride=1)
    planned = plan(graph, 4)
    assert (planned.config.sampler, planned.config.weight_stream) == (0, 1)
    feeds = random_feeds(graph, batch=2)
    got = Simulator(engine(planned.config, kind), planned.program).run(feeds)
    assert_equal(got, evaluate(graph, feeds, reference=True))


@pytest.mark.parametrize("lanes", LANES)
def test_beside_other_windows(lanes):
    """It joins the 1x1 behind it; the window before has weights of its own, which the next step's must not disturb."""
    b = Builder(4)
    x = b.dwconv("before", b.input("x", (8, 9, 10)), out=I8)
    y = b.conv("mixed", b.varied("y", x, out=I8), 6)
    graph = b.graph((b.dwconv("behind", b.varied("z", y, stride=2)),))
    planned = plan(graph, config=generic(lanes))
    steps = [s for s in planned.program.steps if s.window == "varied"]
    assert len(steps) == 2 and steps[0].pointwise != "none"
    assert_exact(graph, random_feeds(graph, batch=2), lanes)


def test_a_row_too_long_is_computed_in_parts():
    """Each part of the channels has weights of its own."""
    graph = varied((5, 20, 40))
    planned = plan(graph, config=replace(generic(4), row_words=64, ring_rows=4, max_offset=1))
    assert len(planned.program.steps) > 1
    feeds = random_feeds(graph)
    got = Simulator(engine(planned.config), planned.program).run(feeds)
    assert_equal(got, evaluate(graph, feeds, reference=True))


def test_a_program_is_read_back():
    program = plan(varied((5, 6, 10), stride=2), 4).program
    lanes, arena, (step,) = decode(program.encode(), program.base)
    assert (lanes, arena) == (4, program.arena)
    assert step.window == "varied" and step.varied is not None
    np.testing.assert_array_equal(step.varied, program.steps[0].varied)
    assert step.varied.shape == (3 * 3 * 9 * 3, 4)


def test_the_engine_without_it():
    graph = varied((6, 6, 4))
    config = replace(plan(graph, 4).config, weight_stream=0)
    with pytest.raises(
        PlanError, match=r"^y\.q: needs kWeightStream = 1, the engine has 0\. Build an engine with"
    ):
        plan(graph, config=config)
    program = plan(graph, 4).program
    status = engine(config).start(program.memory(), 4, program.base)
    assert (
        status_text(status) == "step 0: kind, kernel, stride, origin or reach of the window are out of range"
    )


BAD = [
    ("kOffsetAddress", -1, 14), ("kOffsetAddress", 1 << 20, 14), ("kOffsetStride", 19, 12), ("kOffsetUp", 1, 12),
    ("kOutHeight", 9, 14), ("kWindowParameters", -1, 14), ("kKernel", 1, 10), ("kReach", 2, 10),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "status"), BAD)
def test_illegal_fields_are_refused(field, value, status):
    """Weights lie in the program: all of them, or the step does not run."""
    program = plan(varied((8, 7, 5)), config=generic(4)).program
    at = int_words(HEADER_INTS, 4) + FIELDS.index(field)
    found = run_changed(program, at, value)
    assert (found & 255, (found >> 8) - 1) == (status, 0), status_text(found)


def test_weights_over_8_bits_are_refused():
    graph = varied((3, 4, 5))
    weight = {"y.weight": graph.consts["y.weight"] * 9}
    graph = replace(
        graph, consts={**graph.consts, **weight}, const_types={**graph.const_types, "y.weight": IntType(12)}
    )
    with pytest.raises(PlanError, match=r"^y: weights over 8 bits, expected i8\. Quantize to 8 bits\."):
        plan(graph, 4)
