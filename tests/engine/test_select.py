"""What only one side of a Select needs is not computed in the frames that take the other, and every bit is right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign import cycles
from codesign.board import load_board
from codesign.csim import Simulator
from codesign.emit import sources
from codesign.errors import PlanError
from codesign.estimate import estimate
from codesign.ir import Graph, evaluate
from codesign.latency import Ways
from codesign.ops import Concat, MaxPool, Mix, MixedConv, Select, Slice, Upsample
from codesign.plan import plan
from codesign.program import Program
from codesign.walk import walk
from tests.engine.engines import LANES, assert_equal, engine, generic, simulate
from tests.models import I8, Builder, random_feeds, random_skipping_graph

SHAPE = (6, 5, 7)


def network(draw: st.DrawFn) -> Graph:
    """Anything that is selected from anything: maps of one size, numbers given or computed, used once or often."""
    b = Builder(draw(st.integers(0, 9)))
    first = b.input("x", SHAPE, I8)
    maps = [b.conv("stem", first, SHAPE[2])]
    gates = [b.input(f"g{i}", (1, 1, 1)) for i in range(draw(st.integers(1, 2)))]
    for i in range(draw(st.integers(2, 12))):
        x = draw(st.sampled_from(maps))
        kind = draw(
            st.sampled_from(
                ["conv", "dw", "pool", "parts", "gated", "mixed", "select", "select", "select", "gate"]
            )
        )
        if kind == "conv":
            maps.append(b.conv(f"n{i}", x, SHAPE[2], kernel=draw(st.sampled_from([1, 3]))))
        elif kind == "dw":
            maps.append(b.dwconv(f"n{i}", x))
        elif kind == "pool":
            maps.append(b.add(f"n{i}", MaxPool((3, 3), (1, 1), (1, 1, 1, 1)), x))
        elif kind == "parts":
            part = b.add(f"n{i}.part", Slice(0, 3), x)
            rest = b.add(f"n{i}.rest", Slice(3, SHAPE[2]), draw(st.sampled_from(maps)))
            maps.append(b.add(f"n{i}", Concat(), *draw(st.permutations([part, rest]))))
        elif kind == "gated":
            b.add(f"n{i}", Mix(), x, b.gates(f"n{i}.g", draw(st.sampled_from(maps)), SHAPE[2]))
            maps.append(b.requant(f"n{i}"))
        elif kind == "mixed":
            share = b.gates(f"n{i}.g", draw(st.sampled_from(maps)), 3)
            maps.append(b.mixed_conv(f"n{i}", x, share, SHAPE[2], MixedConv()))
        elif kind == "gate" and len(gates) < 4:
            gates.append(b.gate(f"n{i}", b.add(f"n{i}.in", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), x)))
        else:
            y, gate = draw(st.sampled_from(maps)), draw(st.sampled_from(gates))
            maps.append(b.add(f"n{i}", Select(draw(st.sampled_from([-30, 0, 0, 127]))), x, y, gate))
    last = b.add("up", Upsample(2), maps[-1]) if draw(st.booleans()) else maps[-1]
    other = draw(st.sampled_from(maps))
    return b.graph(
        (b.conv("y", last, 3, kernel=3), *([other] if draw(st.booleans()) and other != "x" else ()))
    )


networks = st.composite(network)()
SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@SETTINGS
@given(networks, st.sampled_from(LANES), st.booleans(), st.booleans(), st.integers(0, 3))
def test_any_network(graph, lanes, fuse, near, seed):
    """Every frame in the memory that the one before has left."""
    config = generic(lanes) if near else replace(generic(lanes), near_words=1)
    feeds = random_feeds(graph, seed=seed, batch=6)
    assert_equal(
        simulate(graph, feeds, lanes, config=config, fuse=fuse), evaluate(graph, feeds, reference=True)
    )


@settings(SETTINGS, max_examples=20)
@given(networks, st.sampled_from([1, 4, 16]))
def test_every_stored_tensor_is_the_graph_s(graph, lanes):
    """Where all are kept, all are computed: only what is selected is skipped."""
    feeds = random_feeds(graph, batch=3)
    planned = plan(graph, config=generic(lanes), keep=True)
    names = list(planned.program.tensors)
    got = Simulator(engine(planned.config), planned.program).run(feeds, keep=names)
    wanted = evaluate(graph, feeds, keep=names)
    assert_equal(got, {name: wanted[name] for name in got})


def both_ways() -> tuple[Graph, dict[str, np.ndarray]]:
    """With frames that take every side of every Select."""
    graph = random_skipping_graph(4)
    feeds = random_feeds(graph, batch=12)
    taken = evaluate(graph, feeds, keep=["gate.q", "exit.q"])
    for name in ("gate.q", "exit.q"):
        assert 0 < (taken[name] >= {"gate.q": 0, "exit.q": -20}[name]).sum() < 12, taken[name].ravel()
    return graph, feeds


@pytest.mark.parametrize("kind", ["native", "ap", "loops"])
@pytest.mark.parametrize("lanes", [4, 16])
def test_every_kind_of_simulation(kind, lanes):
    graph, feeds = both_ways()
    assert_equal(simulate(graph, feeds, lanes, kind=kind), evaluate(graph, feeds, reference=True))


@pytest.mark.parametrize("lanes", [4, 16])
def test_estimate_and_simulation_agree_on_every_way(lanes):
    """What is skipped is neither computed nor moved, and each frame takes what its own way is estimated to."""
    graph, feeds = both_ways()
    planned, board = plan(graph, config=generic(lanes)), load_board("ultra96")
    names = [s.nodes for s in planned.program.steps]
    ways = Ways(graph, planned.program, planned.config, board, names)
    taken = evaluate(graph, feeds, keep=["gate.q", "exit.q"])
    gates = {"block0": taken["gate.q"] < 0, "block1": feeds["given"] < 0, "hm": taken["exit.q"] < -20}
    seen = {}
    for k in range(12):
        jumps = {i: bool(gates[name][k].item()) for i, name in ways.branches.items()}
        if tuple(jumps.values()) in seen or len(seen) == 4:
            continue
        cost = estimate(planned.program, planned.config, board, jumps=jumps)
        counted = cycles.simulate(
            sources(planned.config), planned.program, board, feeds={n: f[k] for n, f in feeds.items()}
        )
        assert (cost.read_bytes, cost.written_bytes) == (counted.read_bytes, counted.written_bytes)
        # A formula of each step against a simulation, in a frame of short steps whose starts count.
        assert cost.cycles == pytest.approx(counted.cycles, rel=0.06)
        seen[tuple(jumps.values())] = cost.cycles
    assert len(seen) == 4 == len(set(seen.values()))


def run_steps(program: Program, jumps: dict[int, bool]) -> set[str]:
    """The nodes whose steps run."""
    return {n for t in walk(program.steps, jumps) if t.step is not None for n in program.steps[t.step].nodes}


def test_what_one_side_needs_is_skipped():
    graph, _ = both_ways()
    program = plan(graph, config=generic(4)).program
    branches = {s.nodes: i for i, s in enumerate(program.steps) if s.waits}
    assert set(branches) == {("block0",), ("block1",), ("hm",)}
    first, second, exits = (branches[name,] for name in ("block0", "block1", "hm"))
    all_of_it = run_steps(program, {})
    assert {"block0.b.q", "block1.b.q", "early.q"} <= all_of_it and not {"block0", "rest.a.q"} & all_of_it
    none = run_steps(program, {first: True, second: True, exits: True})
    assert {"block0", "block1", "rest.a.q", "rest.b.q"} <= none
    assert not {"block0.a.q", "block0.dw.q", "block0.b.q", "block1.b.q", "early.q"} & none


def test_one_decision_for_several_values():
    """Selects that share number and threshold share a branch, and what both need is skipped with them."""
    b = Builder(0)
    x, g = b.conv("stem", b.input("x", SHAPE), 8), b.input("g", (1, 1, 1))
    trunk = b.conv("trunk", x, 12, kernel=3)
    heads = [
        b.add(n, Select(5), b.conv(f"{n}.a", x, k), b.conv(f"{n}.b", trunk, k), g)
        for n, k in (("hm", 3), ("wh", 2))
    ]
    graph = b.graph(tuple(heads))
    program = plan(graph, config=generic(4)).program
    (branch,) = (i for i, s in enumerate(program.steps) if s.waits)
    assert program.steps[branch].nodes == ("hm", "wh")
    assert "trunk.q" not in run_steps(program, {}) and "trunk.q" in run_steps(program, {branch: True})
    feeds = random_feeds(graph, batch=8)
    assert 0 < (feeds["g"] >= 5).sum() < 8
    assert_equal(simulate(graph, feeds, 4), evaluate(graph, feeds, reference=True))


def test_a_skip_in_a_skip():
    b = Builder(1)
    x, gates = b.conv("stem", b.input("x", SHAPE), 7), [b.input(f"g{i}", (1, 1, 1)) for i in range(2)]
    y = b.conv("outer", x, 7, kernel=3)
    inner = b.add("inner", Select(0), b.conv("in", y, 7, kernel=3), y, gates[1])
    graph = b.graph((b.conv("y", b.add("s", Select(0), inner, x, gates[0]), 3, kernel=3),))
    program = plan(graph, config=generic(4)).program
    outer, within = (i for i, s in enumerate(program.steps) if s.waits)
    assert program.steps[outer].nodes == ("s",)
    assert not {"outer.q", "in.q", "inner"} & run_steps(program, {outer: True})
    assert {"outer.q", "inner"} <= run_steps(program, {within: True})
    feeds = random_feeds(graph, batch=12)
    assert len({tuple(np.array([feeds[f"g{i}"][k].item() >= 0 for i in range(2)])) for k in range(12)}) == 4
    assert_equal(simulate(graph, feeds, 4), evaluate(graph, feeds, reference=True))


def test_a_side_in_another_order_of_channels():
    """What is only moved may have to change the order: by a product with ones."""
    b = Builder(2)
    x, g = b.input("x", (4, 4, 12)), b.input("g", (1, 1, 1))
    low, high = b.add("low", Slice(0, 5), x), b.add("high", Slice(5, 12), x)
    turned = b.add("turned", Concat(), high, low)
    graph = b.graph((b.conv("y", b.add("s", Select(0), x, turned, g), 3, kernel=3),))
    program = plan(graph, config=generic(4)).program
    moves = [s for s in program.steps if s.nodes == ("s",) and s.branch is None]
    assert sorted(s.pointwise for s in moves) == ["int4", "none"]
    feeds = random_feeds(graph, batch=8)
    assert_equal(simulate(graph, feeds, 4), evaluate(graph, feeds, reference=True))


def test_an_engine_for_it_alone():
    graph, feeds = both_ways()
    for lanes in (4, 16):
        planned = plan(graph, lanes)
        assert planned.config.branches == 1
        got = Simulator(engine(planned.config, "ap"), planned.program).run(feeds)
        assert_equal(got, evaluate(graph, feeds, reference=True))
    with pytest.raises(
        PlanError, match=r"block0: needs kBranches = 1, the engine has 0\. Build an engine with"
    ):
        plan(graph, config=replace(planned.config, branches=0))
