"""The search for an engine: what it takes fits, is the fastest but for a little, and computes the same."""

import json
from dataclasses import replace

import pytest

from codesign.board import load_board
from codesign.bundle import load
from codesign.errors import PlanError
from codesign.estimate import estimate
from codesign.explore import SLACK, explore
from codesign.ir import evaluate
from codesign.program import EngineConfig
from codesign.resources import fits, resources
from tests.engine.engines import assert_equal, simulate
from tests.mini import MINI
from tests.models import random_codenet_graph, random_feeds
from tests.test_estimate import verb


@pytest.mark.parametrize("name", ["ultra96", "pynq-z2"])
def test_what_is_taken_fits_and_is_fastest_but_for_a_little(name):
    graph, board = random_codenet_graph(seed=1, size=64), load_board(name)
    made, choices = explore(graph, board)
    assert made.config == choices[0].config and choices[0].fits
    assert choices[0].frames_per_s * SLACK >= max(c.frames_per_s for c in choices if c.fits)
    assert len({(c.config.lanes, c.config.pixels, c.config.turns) for c in choices}) == len(choices) > 9
    for c in choices:
        assert c.fits == fits(resources(c.config), board)
    again = 1 / estimate(made.program, made.config, board).seconds
    assert choices[0].frames_per_s == pytest.approx(again, rel=1e-12), (
        "the same figure as codesign estimate's"
    )
    feeds = random_feeds(graph)
    assert_equal(simulate(graph, feeds, made.config.lanes, config=made.config), evaluate(graph, feeds))


def test_a_larger_board_is_not_slower():
    graph, board = random_codenet_graph(seed=1, size=64), load_board("ultra96")
    larger = replace(board, dsps=2 * board.dsps, bram36=2 * board.bram36, luts=2 * board.luts)
    assert explore(graph, larger)[1][0].frames_per_s * SLACK >= explore(graph, board)[1][0].frames_per_s


def test_a_board_that_nothing_fits_is_refused_with_the_largest_units():
    tiny = replace(load_board("pynq-z2"), bram36=2)
    with pytest.raises(PlanError, match=r"pynq-z2: needs \d+ BRAM36 of 2 \(estimated\)[.] Largest: "):
        explore(random_codenet_graph(seed=1, size=64), tiny)


def test_build_searches_and_says_what_it_looked_at(tmp_path, capsys):
    code, out, _ = verb(capsys, "build", MINI, "-o", tmp_path / "b", "--search", "--json")
    facts = json.loads(out)
    taken = facts["choices"][0]
    config: EngineConfig = load(tmp_path / "b").config
    assert code == 0 and [config.pixels, config.turns] == facts["array"] == [taken["pixels"], taken["turns"]]
    code, out, _ = verb(capsys, "build", MINI, "-o", tmp_path / "c", "--search", "--lanes", "8")
    assert (
        code == 0
        and "engines estimated, the first one taken" in out
        and load(tmp_path / "c").config.lanes == 8
    )


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ("5", "--array: '5', expected PIXELSxTURNS, such as 5x2. Use 1x1 for the smallest array."),
        ("2x3", "array: 2 pixels in 3 turns, expected turns that divide 8 lanes. Use 2x1."),
    ],
)
def test_arrays_that_are_none(array, message, tmp_path, capsys):
    code, _, err = verb(capsys, "build", MINI, "-o", tmp_path / "b", "--lanes", "8", "--array", array)
    assert code == 2 and message in " ".join(err.split()) and not (tmp_path / "b").exists()
