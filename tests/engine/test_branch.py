"""Steps that say which step follows: the walk, step by step beside one in Python; what it costs; illegal branches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign.board import load_board
from codesign.cycles import simulate
from codesign.descriptor import STEP_INTS, int_words
from codesign.emit import sources
from codesign.engine_config import EngineConfig
from codesign.estimate import BRANCH, SKIPPED, estimate, extremes
from codesign.layout import aligned
from codesign.plan import plan
from codesign.ports import Bytes
from codesign.program import HEADER_INTS, Program, decode, program_words
from codesign.step import Segment, Step, branch_step
from codesign.steps import placed
from codesign.windows import ALWAYS, Branch
from tests.engine.engines import engine, generic
from tests.engine.test_program import FIELDS
from tests.models import random_codenet_graph, random_feeds

Branches = Mapping[
    int, tuple[Segment, int, Branch]
]  # before a step: where to look, the lane, and where to go


def config(lanes: int = 4) -> EngineConfig:
    """Without maps on chip, so that each step can also run alone."""
    return replace(generic(lanes), near_words=1, steer_words=1)


def plain(lanes: int = 4) -> Program:
    return plan(random_codenet_graph(seed=5, size=32, max_offset=3), config=config(lanes)).program


def branched(program: Program, branches: Branches) -> Program:
    """With branches before some steps; addresses and targets count from the arena, and in the plain program."""
    places = {at: at + sum(b < at for b in branches) for at in range(len(program.steps) + 1)}
    steps = []
    for at, step in enumerate((*program.steps, None)):
        if at in branches:
            where, lane, branch = branches[at]
            where = None if branch.always else replace(where, address=where.address + program.arena[0])
            steps.append(branch_step(where, lane, replace(branch, target=places[branch.target])))
        steps += [] if step is None else [step]
    begin = aligned(program.base + program_words(tuple(steps), program.lanes), program.lanes)
    by = begin - program.arena[0]
    ports = {
        name: replace(port, pieces=tuple(replace(p, address=p.address + by) for p in port.pieces))
        for name, port in program.inputs.items()
    }
    return replace(
        program, arena=(begin, program.arena[1] + by), steps=tuple(placed(s, by) for s in steps), inputs=ports
    )  # fmt: skip


def fresh(program: Program, seed: int) -> Bytes:
    """Its memory, with anything in the arena."""
    memory, rng = program.memory(), np.random.default_rng(seed)
    arena = memory[program.arena[0] * program.lanes :]
    arena[:] = rng.integers(0, 256, arena.size)
    return memory


def below(step: Step, memory: Bytes, lanes: int) -> bool:
    if step.offset is None:
        return True
    number = memory[step.offset.address * lanes + step.offset_lane]
    return int(number.view(np.int8) if step.offset.signed else number) < step.branch.threshold


def walked(program: Program, memory: Bytes, found: EngineConfig) -> list[int]:
    """Runs each step as a program of its own and decides branches here; the steps that were run or decided."""
    lanes, at, seen = program.lanes, 0, []
    code = memory[: program.arena[0] * lanes].copy()
    while at < len(program.steps):
        seen.append(at)
        step = program.steps[at]
        if step.branch is not None:
            at = step.branch.target if below(step, memory, lanes) else at + 1
            continue
        alone = Program(lanes, program.base, program.arena, (step,), {}, {}).encode()
        memory[program.base * lanes : program.base * lanes + alone.size] = alone
        assert engine(found).start(memory, lanes, program.base) == 0
        at += 1
    memory[: code.size] = code
    return seen


@st.composite
def some_branches(draw: st.DrawFn) -> tuple[Program, dict[int, tuple[Segment, int, Branch]]]:
    program = plain(draw(st.sampled_from([4, 16])))
    count, words = len(program.steps), program.arena[1] - program.arena[0]
    found = {}
    for at in draw(st.sets(st.integers(0, count), max_size=6)):
        where = Segment(draw(st.integers(0, words - 1)), 1, 1, 0, draw(st.booleans()))
        threshold = draw(
            st.sampled_from([-200, -128, 0, 1, 127, 128, 255, ALWAYS, 1 << 20]) | st.integers(-128, 255)
        )
        target = draw(st.integers(at, count) | st.just(min(at + 1, count)))
        found[at] = where, draw(st.integers(0, program.lanes - 1)), Branch(threshold, target)
    # A branch stands before a step, or behind the last: one that leads to where it stands leads to what it is before.
    return program, {at: b for at, b in found.items() if b[2].target not in found or b[2].target > at}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(some_branches(), st.integers(0, 9))
def test_the_walk(found, seed):
    """Branches anywhere, that look at anything: the same bytes as each step by itself."""
    program = branched(*found)
    wanted = fresh(program, seed)
    got = wanted.copy()
    seen = walked(program, wanted, config(program.lanes))
    assert engine(config(program.lanes)).start(got, program.lanes, program.base) == 0
    np.testing.assert_array_equal(got, wanted)
    assert seen == sorted(set(seen))


def test_exact_types_walk_the_same():
    program = plain()
    gate = Segment(0, 1, 1, 0, True)
    program = branched(program, {0: (gate, 3, Branch(20, 2)), 4: (gate, 1, Branch(ALWAYS, 7)),
                                 9: (gate, 2, Branch(-5, len(program.steps)))})  # fmt: skip
    ways = set()
    for seed in range(4):
        wanted = fresh(program, seed)
        got = wanted.copy()
        ways.add(tuple(walked(program, wanted, config())))
        assert engine(config(), "ap").start(got, 4, program.base) == 0
        np.testing.assert_array_equal(got, wanted)
    assert len(ways) > 1, "every frame took the same way"


def test_decode_gives_branches_back():
    program = branched(
        plain(),
        {2: (Segment(7, 1, 1, 0, True), 3, Branch(-9, 5)), 4: (Segment(0, 1, 1), 0, Branch(ALWAYS, 6))},
    )
    _, _, steps = decode(program.encode(), program.base)
    assert steps == tuple(replace(s, nodes=()) for s in program.steps)
    assert [s.waits for s in steps if s.branch] == [True, False]


BAD_BRANCHES = [
    ("kOffsetAddress", 0), ("kOffsetAddress", -1), ("kOffsetAddress", 1 << 30), ("kOffsetLane", 4), ("kOffsetLane", -1),
    ("kSampleFlags", 0), ("kSampleFlags", 3), ("kSampleFlags", 10_000), ("kSampleFlags", -1),
    ("kSampleMaskLow", 2), ("kSampleMaskHigh", 1), ("kLoadCount", 1), ("kHeight", 1), ("kNear", 1),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), BAD_BRANCHES)
def test_illegal_branches_are_refused_before_anything_runs(field, value):
    program = branched(plain(), {3: (Segment(0, 1, 1), 0, Branch(5, 6))})
    memory = fresh(program, 0)
    at = program.base + int_words(HEADER_INTS, 4) + 3 * int_words(STEP_INTS, 4) + FIELDS.index(field)
    memory[4 * at : 4 * at + 4] = np.array([value], "<i4").view(np.uint8)
    before = memory.copy()
    assert engine(config()).start(memory, 4, program.base) == 25 + 256 * 4
    np.testing.assert_array_equal(memory, before)


def test_the_engine_without_branches():
    program = branched(plain(), {3: (Segment(0, 1, 1), 0, Branch(5, 6))})
    assert engine(replace(config(), branches=0)).start(program.memory(), 4, program.base) == 10 + 256 * 4


def decided(program: Program, memory: Bytes) -> dict[int, bool]:
    seen = walked(program, memory, config(program.lanes))
    ahead = dict(zip(seen, [*seen[1:], len(program.steps)], strict=True))
    return {
        at: ahead[at] == s.branch.target for at, s in enumerate(program.steps) if s.branch and at in ahead
    }


@pytest.mark.parametrize("threshold", [-128, 127, ALWAYS])
def test_what_a_way_costs(threshold):
    """Estimated and simulated: the same bytes, and cycles as close as those of other programs."""
    board = load_board("ultra96")
    program = plain(16)
    (port,) = program.inputs.values()
    where = Segment(port.pieces[0].address - program.arena[0], 1, 1, 0, True)
    feed = {
        name: f[0] for name, f in random_feeds(random_codenet_graph(seed=5, size=32, max_offset=3)).items()
    }
    program = branched(program, {3: (where, 0, Branch(threshold, 9)), 14: (where, 1, Branch(-128, 17))})
    memory = program.memory()
    for name, entry in program.inputs.items():
        entry.write(memory, 16, feed[name])
    jumps = decided(program, memory)
    assert jumps == {3: threshold > -128} | {15: False}
    cost = estimate(program, config(16), board, jumps=jumps)
    counted = simulate(sources(config(16)), program, board, feeds=feed)
    # The estimate is a formula of each step, the simulation runs them: 5 % is what docs/status.md states of a frame.
    assert cost.cycles == pytest.approx(counted.cycles, rel=0.05)
    assert (cost.read_bytes, cost.written_bytes) == (counted.read_bytes, counted.written_bytes)
    for mine, theirs in zip(cost.steps, counted.steps, strict=True):
        assert mine.cycles == pytest.approx(theirs.cycles, rel=0.3, abs=450), mine
        assert (mine.bound in (SKIPPED, BRANCH)) == (theirs.bound == ""), mine
    assert [s.index for s in cost.steps if s.bound == SKIPPED] == (list(range(4, 10)) if jumps[3] else [])


def test_the_fastest_way_and_the_slowest():
    """Of all sixteen."""
    board, program = load_board("pynq-z2"), plain(16)
    gate = Segment(0, 1, 1)
    program = branched(program, {2: (gate, 0, Branch(5, 4)), 3: (gate, 1, Branch(5, 8)), 6: (gate, 0, Branch(1, 7)),
                                 9: (gate, 0, Branch(9, 12))})  # fmt: skip
    at = [i for i, s in enumerate(program.steps) if s.branch]
    costs = []
    for way in range(16):
        jumps = {index: bool(way >> i & 1) for i, index in enumerate(at)}
        cost = estimate(program, config(16), board, jumps=jumps)
        costs.append(cost.cycles - cost.header)
    low, high = extremes(program, config(16), board)
    # `estimate` rounds each step to whole cycles, `extremes` the sum.
    assert low.cost == pytest.approx(min(costs), abs=len(program.steps))
    assert high.cost == pytest.approx(max(costs), abs=len(program.steps))
    assert (
        estimate(program, config(16), board).cycles
        == max(costs) + estimate(program, config(16), board).header
    )
