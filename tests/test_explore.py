"""The search for an engine: what it takes fits, is the fastest but for a little, is kept, and computes the same."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from codesign import choices
from codesign.apart import chained, stored_apart
from codesign.board import load_board
from codesign.budget import fits
from codesign.bundle import load
from codesign.engine_config import EngineConfig
from codesign.errors import PlanError
from codesign.estimate import estimate
from codesign.explore import MOST_PIXELS, ROW_WORDS, SLACK, TURNS, WEIGHT_KIB, explore
from codesign.fit import Limits
from codesign.ir import evaluate
from codesign.plan import plan
from codesign.resources import resources
from codesign.room import LUT_SHARE, in_luts, with_maps
from tests.engine.engines import assert_equal, simulate
from tests.mini import MINI
from tests.models import Builder, random_codenet_graph, random_feeds
from tests.test_estimate import verb


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Nothing was searched before. Compiled simulations stay where all tests keep them."""
    monkeypatch.setattr(choices, "cache", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize("name", ["ultra96", "pynq-z2"])
def test_what_is_taken_fits_and_is_fastest_but_for_a_little(name):
    graph, board = random_codenet_graph(seed=1, size=64), load_board(name)
    found = explore(graph, board)
    made, taken = found.plan, found.choices[0]
    assert made.config == taken.config and not found.kept
    assert taken.frames_per_s * SLACK >= max(c.frames_per_s for c in found.choices)
    assert len({c.config for c in found.choices}) == len(found.choices) > 9
    assert all(fits(resources(c.config), board) for c in found.choices)
    again = 1 / estimate(made.program, made.config, board).seconds
    assert taken.frames_per_s == pytest.approx(again, rel=1e-12), "the same figure as codesign estimate's"
    feeds = random_feeds(graph)
    assert_equal(simulate(graph, feeds, made.config.lanes, config=made.config), evaluate(graph, feeds))


@pytest.mark.parametrize(("name", "seed", "size"), [("pynq-z2", 1, 64), ("ultra96", 2, (32, 128))])
def test_as_good_as_looking_at_every_point(name, seed, size):
    graph, board = random_codenet_graph(seed=seed, size=size, decoder=(64, 40, 24)), load_board(name)
    reached = explore(graph, board, lanes=8).choices[0].frames_per_s
    best = 0.0
    for kib, words, arrays in product(WEIGHT_KIB, ROW_WORDS, (1, 2)):
        whole = plan(graph, 8, arrays=arrays, limits=Limits(kib << 10, words))
        parts = plan(graph, config=whole.config, apart=chained(graph))
        for turns, pixels in product(TURNS, range(1, MOST_PIXELS + 1)):
            config = in_luts(replace(whole.config, turns=turns, pixels=pixels), board)
            config = with_maps(config, whole.most_near, board)
            size = resources(config)
            if fits(size, board) and (not config.fabric or size.on(board)[1] <= LUT_SHARE * board.luts):
                for made in (whole, parts):
                    best = max(best, 1 / estimate(made.on(config).program, config, board).seconds)
    assert best / SLACK <= reached, "chains can pay in part, so that it may be better"


def test_a_larger_board_is_not_slower():
    graph, board = random_codenet_graph(seed=1, size=64), load_board("ultra96")
    larger = replace(board, dsps=2 * board.dsps, bram36=2 * board.bram36, luts=2 * board.luts)
    speeds = [explore(graph, b).choices[0].frames_per_s for b in (board, larger)]
    assert speeds[1] * SLACK >= speeds[0]


def test_a_board_that_nothing_fits_is_refused_with_the_largest_units():
    tiny = replace(load_board("pynq-z2"), bram36=2)
    with pytest.raises(PlanError, match=r"pynq-z2: needs \d+ BRAM36 of 2 \(estimated\)[.] Largest: "):
        explore(random_codenet_graph(seed=1, size=64), tiny)


def test_the_end_of_the_budget_is_named():
    graph, board = random_codenet_graph(seed=1, size=64), load_board("ultra96")
    scarce = explore(graph, replace(board, dsps=40, luts=40_000), lanes=8)
    assert scarce.end.endswith((" DSP of 40", " LUT of 40,000")) and " would need " in scarce.end
    plenty = replace(board, dsps=20_000, bram36=10_000, luts=10_000_000)
    assert explore(graph, plenty, lanes=8, array=(4, 1)).end == ""


def test_a_result_is_kept_for_the_same_model_board_and_sources(own_cache, monkeypatch):
    graph, board = random_codenet_graph(seed=1, size=32), load_board("ultra96")
    first = explore(graph, board, lanes=8)
    again = explore(random_codenet_graph(seed=1, size=32), board, lanes=8)
    assert again.kept and again.choices == first.choices and again.end == first.end
    assert np.array_equal(again.plan.program.encode(), first.plan.program.encode())
    (file,) = own_cache.iterdir()
    others = [
        (random_codenet_graph(seed=2, size=32), board, 8),
        (graph, replace(board, dsps=359), 8),
        (graph, board, 4),
    ]
    assert not any(explore(g, b, lanes=n).kept for g, b, n in others)
    monkeypatch.setattr(choices, "_sources", lambda: "others")
    assert not explore(graph, board, lanes=8).kept
    monkeypatch.undo()
    monkeypatch.setattr(choices, "cache", lambda: own_cache)
    for damaged in ("", "[]", '{"choices": []}', file.read_text().replace("lanes", "lames")):
        file.write_text(damaged)
        assert choices.kept(choices.key_of(graph, board, 8, None)) is None
    assert explore(graph, board, lanes=8).choices == first.choices


def test_where_nothing_can_be_kept_the_search_works(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(choices, "cache", lambda: tmp_path / "file")
    found = explore(random_codenet_graph(seed=1, size=32), load_board("ultra96"), lanes=8)
    assert found.choices and not found.kept


def test_a_window_is_stored_where_that_is_faster():
    """Many outputs and few weights on chip: fused, the window would be computed again for each part of them."""
    b = Builder(5)
    graph = b.graph((b.conv("y", b.deform("d", b.input("x", (16, 16, 32))), 256),))
    board = load_board("ultra96")
    config = plan(graph, 8, array=(8, 1), limits=Limits(weight_bytes=128)).config
    fused, unfused = plan(graph, config=config), plan(graph, config=config, apart=["d.q"])
    costs = [estimate(made.program, config, board).cycles for made in (fused, unfused)]
    assert costs[1] < costs[0] and stored_apart(graph, config, board) == ("d.q",)
    whole = plan(graph, 8, array=(8, 1)).config
    assert stored_apart(graph, whole, board) == ()
    feeds = random_feeds(graph)
    assert_equal(simulate(graph, feeds, 8, config=config, apart=["d.q"]), evaluate(graph, feeds))


def test_build_searches_what_is_not_given_and_says_what_it_found(tmp_path, capsys):
    code, out, _ = verb(capsys, "build", MINI, "-o", tmp_path / "b", "--json")
    facts = json.loads(out)
    taken = facts["choices"][0]
    config: EngineConfig = load(tmp_path / "b").config
    assert code == 0 and [config.pixels, config.turns] == facts["array"] == [taken["pixels"], taken["turns"]]
    assert not facts["kept"] and len(facts["choices"]) > 9
    code, out, err = verb(capsys, "build", MINI, "-o", tmp_path / "c")
    line, more = out.splitlines()[-2:]
    assert code == 0 and line.startswith(
        f"Engine: {taken['engine']}: {taken['frames_per_s']:.1f} frames/s estimated, "
    )
    assert more.startswith("Next best: ") and "engines estimated in an earlier search." in err
    assert facts["end"] in more if facts["end"] else more.endswith("No larger engine is faster.")
    assert f"{taken['dsps']} of 360 DSP, {taken['bram36']} of 216 BRAM36" in line
    code, out, _ = verb(capsys, "build", MINI, "-o", tmp_path / "d", "--lanes", "8")
    assert code == 0 and "Engine: 8 lanes, " in out and load(tmp_path / "d").config.lanes == 8
    code, out, _ = verb(capsys, "build", MINI, "-o", tmp_path / "e", "--array", "3x2")
    config = load(tmp_path / "e").config
    assert code == 0 and (config.pixels, config.turns) == (3, 2) and ", array 3x2, " in out
    code, out, _ = verb(capsys, "build", MINI, "-o", tmp_path / "f", "--array", "1x1", "--lanes", "16")
    assert code == 0 and "Engine: " not in out, "nothing was searched"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (["5"], "--array: '5', expected PIXELSxTURNS, such as 5x2. Use 1x1 for the smallest array."),
        (["2x3"], "array: 2 pixels in 3 turns, expected turns that divide 8 or 16 lanes. Use 2x1."),
        (["2x3", "--lanes", "8"], "array: 2 pixels in 3 turns, expected turns that divide 8 lanes. Use 2x1."),
    ],
)
def test_arrays_that_are_none(array, message, tmp_path, capsys):
    code, _, err = verb(capsys, "build", MINI, "-o", tmp_path / "b", "--array", *array)
    assert code == 2 and message in " ".join(err.split()) and not (tmp_path / "b").exists()
