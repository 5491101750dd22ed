"""Maps that stay on chip: where they lie, what that saves, and that it changes no bit."""

from dataclasses import replace

import pytest

from codesign.board import load_board
from codesign.budget import budget
from codesign.csim import Simulator
from codesign.engine_config import EngineConfig
from codesign.estimate import estimate
from codesign.ir import Graph, evaluate
from codesign.near import spilled
from codesign.ops import Concat
from codesign.plan import Plan, plan
from codesign.program import Program
from codesign.resources import resources
from codesign.room import with_maps
from tests.engine.engines import assert_equal, engine, generic
from tests.models import U8, Builder, random_codenet_graph, random_feeds


def near_words(program: Program) -> int:
    """Words that steps move between themselves and the memories on chip."""
    return sum(
        segment.count * (step.height >> segment.up) * (step.width >> segment.up)
        for step in program.steps
        for segment in step.load
        if segment.near
    )


def with_words(made: Plan, words: int) -> Plan:
    return made.on(replace(made.config, near_words=words))


@pytest.mark.parametrize("words", [1, 2, 40, 100, 333, 4096])
def test_no_size_changes_a_bit(words):
    graph = random_codenet_graph(seed=3, size=64, max_offset=3)
    feeds, made = random_feeds(graph), with_words(plan(graph, 8), words)
    assert (near_words(made.program) > 0) == (words >= 40)
    wanted = evaluate(graph, feeds)
    assert_equal(Simulator(engine(made.config), made.program).run(feeds), wanted)
    far = spilled(made.program, made.config)
    assert near_words(far) == 0
    assert_equal(Simulator(engine(made.config), far).run(feeds), wanted)


def test_more_room_saves_more_traffic_until_nothing_is_left_to_keep():
    made, board = plan(random_codenet_graph(seed=1, size=64), 8), load_board("ultra96")
    most = made.most_near
    costs = [
        estimate(with_words(made, n).program, made.config, board) for n in (1, most // 4, most, 2 * most)
    ]
    moved = [cost.read_bytes + cost.written_bytes for cost in costs]
    assert moved[0] > moved[1] > moved[2] == moved[3]
    assert costs[0].cycles > costs[2].cycles
    assert with_words(made, most).program == with_words(made, 2 * most).program
    kept = with_words(made, most).program
    assert any(s.near for step in kept.steps for s in step.load)
    assert not any(s.near for s in kept.steps[0].load), "the image is in DRAM"


def conflict() -> Graph:
    """`a` and `b` are read together, but the step that writes `b` reads `a`: they cannot both stay on chip."""
    b = Builder(3)
    x = b.input("x", (8, 8, 8))
    a = b.conv("a", x, 8, out=U8)
    both = b.add("both", Concat(), a, b.conv("b", a, 8, out=U8))
    return b.graph((b.conv("y", both, 8),))


def test_a_step_reads_one_memory_and_writes_the_other():
    graph = conflict()
    made = with_words(plan(graph, 8), 4096)
    kept = {s.address for step in made.program.steps for s in step.store if s.near}
    assert len(kept) == 1, "one of the two is in DRAM"
    feeds = random_feeds(graph)
    assert_equal(Simulator(engine(made.config), made.program).run(feeds), evaluate(graph, feeds))


def test_what_is_compared_is_in_dram():
    graph = random_codenet_graph(seed=1, size=64)
    made = plan(graph, config=generic(8), keep=True)
    assert near_words(made.program) == 0 and made.program.tensors


@pytest.mark.parametrize("name", ["ultra96", "kv260"])
def test_the_room_that_a_board_has_left_is_taken(name):
    board = load_board(name)
    config = replace(EngineConfig(), row_words=256, weight_tiles=512, ultra=int(board.uram > 0))
    filled = with_maps(config, 1 << 20, board)
    assert all(need <= have for _, need, have in budget(resources(filled), board))
    more = replace(filled, near_words=filled.near_words + 512)
    assert any(need > have for _, need, have in budget(resources(more), board))
    assert with_maps(config, 700, board).near_words == 1024, "no more than the model can use, in whole blocks"
    assert with_maps(config, 0, board).near_words == with_maps(config, 1, board).near_words == 1
