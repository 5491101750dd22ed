"""Every operator on the engine, for every number of lanes, against its definition."""

import numpy as np
import pytest

from codesign.ir import Graph, evaluate
from codesign.plan import plan
from tests.engine.cases import CASES, deformable
from tests.engine.engines import LANES, assert_equal, assert_exact, generic, simulate
from tests.models import random_feeds


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("name", CASES)
def test_operator(name, lanes):
    graph = CASES[name]()
    assert_exact(graph, random_feeds(graph, batch=2), lanes)


@pytest.mark.parametrize("name", CASES)
def test_exact_types_give_the_same(name):
    graph = CASES[name]()
    assert_exact(graph, random_feeds(graph), 4, kind="ap")


def offsets(graph: Graph, bound: int, choose: str, batch: int = 2) -> dict[str, np.ndarray]:
    feeds, rng = random_feeds(graph, batch=batch), np.random.default_rng(5)
    shape = feeds["d"].shape
    feeds["d"] = {
        "any": rng.integers(0, bound, shape, endpoint=True),
        "bound": np.full(shape, bound),
        "ends": rng.choice([0, bound], shape),
        "none": np.zeros(shape, np.int64),
    }[choose]
    return feeds


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("choose", ["any", "bound", "ends", "none"])
@pytest.mark.parametrize("bound", [1, 3, 7, 8])
def test_deformable_at_every_offset(bound, choose, lanes):
    """Maps higher than the ring of rows, so that rows are overwritten while others are still read."""
    graph = deformable((2 * bound + 9, 11, 6), bound)
    assert_exact(graph, offsets(graph, bound, choose), lanes)


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 40, 2), (40, 3, 17)])
def test_deformable_on_other_shapes(shape, stride, lanes):
    graph = deformable(shape, 7, stride)
    assert_exact(graph, offsets(graph, 7, "any"), lanes)


@pytest.mark.parametrize("bound", [1, 3, 7, 8])
def test_ring_of_the_least_rows(bound):
    """An engine built for exactly this bound, not a larger one."""
    graph = deformable((2 * bound + 9, 5, 4), bound)
    config = plan(graph, lanes=4).config
    assert config.ring_rows == max(4, 2 * bound + 2)
    assert_exact(graph, offsets(graph, bound, "ends"), 4, config=config)


def test_bound_zero_reads_the_centre_only():
    graph = deformable((5, 4, 6), 0)
    assert_exact(graph, offsets(graph, 0, "none"), 4)


@pytest.mark.parametrize("lanes", [1, 16])
def test_ties_round_to_even_and_ends_saturate(lanes):
    """Every shift from far left to far right, with accumulators on and beside ties."""
    from codesign.ir import IntType
    from codesign.ops import Conv, Requant
    from tests.models import I4, I8, U8, Builder

    b = Builder(0)
    x = b.input("x", (16, 16, 2), I8)
    shifts = np.arange(-16, 41)
    b.const("w", np.stack([np.ones(57), np.full(57, 7)])[None, None], I4)
    b.add("acc", Conv(), x, "w")
    b.const("b", np.where(shifts > 12, 2.0 ** (shifts.clip(13, 30) - 2) + 1, 0), IntType(32))
    b.const("m", 1 + np.arange(57) % 7, U8)
    b.const("s", shifts, I8)
    b.add("y", Requant(I8, -100, 127), "acc", "b", "m", "s")
    graph = b.graph(("y",))
    for kind in ("native", "ap"):
        feeds = random_feeds(graph)
        assert_equal(simulate(graph, feeds, lanes, kind), evaluate(graph, feeds, reference=True))


def test_all_lanes_share_a_config_form():
    assert {generic(lanes).lanes for lanes in LANES} == set(LANES)
