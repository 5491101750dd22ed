"""Faults of published accelerators for these networks, each as a test that ours does not have it."""

from dataclasses import replace

import numpy as np
import pytest

from codesign.csim import Frame, Simulator
from codesign.errors import CodesignError, PlanError
from codesign.ir import IntType, evaluate
from codesign.ops import Conv, Requant
from codesign.plan import plan
from tests.engine.cases import deformable
from tests.engine.engines import assert_equal, assert_exact, engine, generic, simulate
from tests.models import I4, I8, U8, Builder, random_feeds


def test_fifteen_rows_are_one_too_few_at_offset_seven():
    """With a ring of 2*7+1 rows, row r+8 overwrites r-7 while it is still read: the engine refuses that."""
    graph = deformable((30, 4, 3), 7)
    feeds = random_feeds(graph)
    feeds["d"] = np.full_like(feeds["d"], 7)
    assert_exact(graph, feeds, 4, config=replace(generic(4), max_offset=7, ring_rows=16))
    with pytest.raises(
        PlanError, match=r"^y\.q: needs kRingRows = 16, the engine has 15\. Build an engine with"
    ):
        plan(graph, config=replace(generic(4), max_offset=7, ring_rows=15))
    with pytest.raises(CodesignError, match="kRingRows must be at least 2 [*] kMaxOffset [+] 2"):
        engine(replace(generic(4), max_offset=7, ring_rows=15))


@pytest.mark.parametrize("lanes", [4, 16])
def test_more_than_512_channels_deform(lanes):
    """1x: 1024 channels in the first decoder."""
    b = Builder(1)
    b.conv("y", b.deform("d", b.input("x", (3, 4, 1024))), 5)
    graph = b.graph(("y.q",))
    assert_exact(graph, random_feeds(graph), lanes)


def test_2153_channels_deform():
    """2x: 2153 channels in the first decoder, not a multiple of any number of lanes."""
    b = Builder(2)
    b.conv("y", b.deform("d", b.input("x", (2, 2, 2153), U8)), 7)
    graph = b.graph(("y.q",))
    planned = plan(graph, lanes=16)
    feeds = random_feeds(graph)
    got = Simulator(engine(planned.config), planned.program).run(feeds)
    assert_equal(got, evaluate(graph, feeds, reference=True))


def test_the_test_bench_fails_on_a_difference():
    """Its exit status is what it found, never 0 by default."""
    program = plan(deformable((3, 3, 2), 3), config=generic(4)).program
    memory = program.memory()
    first = np.array([memory[0] ^ 1], np.uint8)
    frame = Frame([(0, memory)], [(0, first, np.ones(1, np.uint8))])
    with pytest.raises(CodesignError, match="exit status 1"):
        engine(generic(4), "sanitize").bench([frame], memory.size, 4, program.base)


def test_deformation_is_on_in_the_vectors():
    """The same network with other offsets gives other results: the samples are truly taken elsewhere."""
    graph = deformable((9, 9, 4), 7)
    feeds = random_feeds(graph)
    near, far = ({**feeds, "d": np.full_like(feeds["d"], d)} for d in (1, 5))
    assert (simulate(graph, near, 4)["y.q"] != simulate(graph, far, 4)["y.q"]).any()


@pytest.mark.parametrize("shape", [(5, 17, 3), (17, 5, 3)])
def test_maps_need_not_be_square(shape):
    graph = deformable(shape, 7)
    assert_exact(graph, random_feeds(graph), 16)


def test_each_image_of_a_batch_has_its_own_offsets():
    graph = deformable((6, 6, 4), 3)
    feeds = random_feeds(graph, batch=1)
    both = {"x": feeds["x"].repeat(2, axis=0), "d": np.concatenate([feeds["d"] * 0, feeds["d"] * 0 + 3])}
    got = simulate(graph, both, 4)["y.q"]
    assert (got[0] != got[1]).any()
    assert_exact(graph, both, 4)


def test_frames_leave_nothing_behind():
    """The second frame is what it would be alone, whatever the first one was."""
    graph = deformable((6, 6, 4), 3)
    feeds = random_feeds(graph, batch=3)
    together = simulate(graph, feeds, 4)["y.q"]
    for i in range(3):
        alone = simulate(graph, {n: a[i : i + 1] for n, a in feeds.items()}, 4)["y.q"]
        np.testing.assert_array_equal(together[i : i + 1], alone)


@pytest.mark.parametrize("shift", [-3, 0, 1, 2])
def test_scales_of_a_half_and_more_do_not_saturate_early(shift):
    """A published requantizer holds scales below 0.5 only; channels of small range need more."""
    b = Builder(3)
    x = b.input("x", (4, 4, 3), IntType(4))
    b.add("acc", Conv(), x, b.const("w", np.eye(3)[None, None], I4))
    for name, value, elem in ("b", 0, IntType(32)), ("m", 5, U8), ("s", shift, I8):
        b.const(name, np.full(3, value), elem)
    b.add("y", Requant(I8, -128, 127), "acc", "b", "m", "s")
    graph = b.graph(("y",))
    feeds = random_feeds(graph)
    got = simulate(graph, feeds, 4)["y"]
    np.testing.assert_array_equal(got, np.rint(feeds["x"] * 5 / 2.0**shift).clip(-128, 127))


def test_bias_has_the_accumulator_s_resolution():
    """A bias of one accumulator step moves results; at output resolution it would be rounded away."""
    b = Builder(4)
    x = b.input("x", (8, 8, 1))
    b.add("acc", Conv(), x, b.const("w", np.full((1, 1, 1, 2), 7), I4))
    b.const("b", np.array([0, 1]), IntType(32))
    b.const("m", np.ones(2), U8)
    b.const("s", np.full(2, 3), I8)
    b.add("y", Requant(I8, -128, 127), "acc", "b", "m", "s")
    graph = b.graph(("y",))
    feeds = random_feeds(graph)
    got = simulate(graph, feeds, 4)["y"]
    assert (got[..., 0] != got[..., 1]).any()
    assert_exact(graph, feeds, 4)
