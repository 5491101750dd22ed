"""Estimate and simulation of the same frame, held within 5 % of each other; and a memory that is slower."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from codesign import cycles, passes
from codesign.board import load_board
from codesign.cli_compile import build_bundle
from codesign.cycles import Simulation, simulate
from codesign.dram import dram
from codesign.emit import sources
from codesign.estimate import Estimate, estimate
from codesign.explore import explore
from codesign.ir import Graph
from codesign.ops import MaxPool, SampledDwConv
from codesign.plan import Plan, plan
from codesign.shipped import models
from tests.engine.test_sampled import dysample
from tests.engine.test_steer import involution, kept
from tests.models import I8, Builder, random_codenet_graph, random_mixing_graph, random_residual_graph
from tests.test_estimate import verb

WITHIN = 0.05
SMALL = {"widths": (6, 24, 40, 64, 80), "repeats": (1, 2, 1), "decoder": (33, 20, 16), "head": 17}
MEDIUM = {"widths": (24, 60, 120, 136, 256), "repeats": (1, 2, 1), "decoder": (128, 64, 48), "head": 48}
BOARDS = ("ultra96", "pynq-z2", "zcu104", "kv260")
RANDOM = (  # board, lanes, (pixels, turns), graph
    ("ultra96", 16, (2, 1), {"seed": 1, "size": 64}),
    ("ultra96", 4, (1, 1), {"seed": 2, "size": (32, 96), "max_offset": 3, **SMALL}),
    ("pynq-z2", 8, (3, 2), {"seed": 3, "size": 64, "stem": "maxpool", **SMALL}),
    ("pynq-z2", 16, (4, 4), {"seed": 4, "size": 32}),
    ("zcu104", 2, (5, 1), {"seed": 5, "size": (40, 24)}),
    ("kv260", 16, (8, 1), {"seed": 6, "size": 128, **SMALL}),
    ("pynq-z2", 8, (13, 2), {"seed": 7, "size": 96, **MEDIUM}),  # an array that its store holds up
    ("kv260", 8, (13, 1), {"seed": 8, "size": 64, **MEDIUM}),  # lists of segments that hold up an array
    ("ultra96", 16, (11, 4), {"seed": 9, "size": (64, 96), **MEDIUM}),
    ("ultra96", 16, (2, 1), {"seed": 10, "size": 96, "sampler": SampledDwConv(7, 2, 0, 63), **SMALL}),
    ("pynq-z2", 8, (3, 2), {"seed": 11, "size": 64, "sampler": SampledDwConv(3, 0)}),
)


def both(made: Plan, board_name: str) -> tuple[Estimate, Simulation]:
    board = load_board(board_name)
    texts = sources(made.config)
    return estimate(made.program, made.config, board), simulate(texts, made.program, board)


def assert_agree(cost: Estimate, counted: Simulation) -> None:
    assert cost.header == pytest.approx(counted.header, rel=WITHIN)
    assert_frames_agree(cost, counted)


def assert_frames_agree(cost: Estimate, counted: Simulation) -> None:
    """All but the header by itself, which is short in programs of a dozen steps."""
    assert cost.cycles == pytest.approx(counted.cycles, rel=WITHIN)
    assert (cost.read_bytes, cost.written_bytes) == (counted.read_bytes, counted.written_bytes)
    for mine, theirs in zip(cost.steps, counted.steps, strict=True):
        # Steps of some hundred cycles are latencies: where short rows are repeated, requests run further ahead than
        # the estimate allows them to. Of a frame that is nothing; a step that is wrong altogether is found.
        assert mine.cycles == pytest.approx(theirs.cycles, rel=0.3, abs=450), mine.name


@pytest.mark.parametrize("index", range(len(RANDOM)))
def test_random_graphs(index):
    board, lanes, array, shape = RANDOM[index]
    assert_agree(*both(plan(random_codenet_graph(**shape), lanes, array=array), board))


def moving_windows() -> Graph:
    """Taps in a row, in a column, alone, at the border; and weights of every pixel, more of them than pixels."""
    b = Builder(12)
    x = b.conv("stem", b.input("image", (48, 40, 3)), 40, kernel=3)
    x = b.conv("one", b.sampled("row", x, SampledDwConv(4, 2, taps="1x9"), out=I8), 40)
    x = b.sampled("alone", x, SampledDwConv(3, 4, taps="1x1", border=True), out=I8)
    x = b.conv("two", b.varied("tv", x, out=I8), 32)
    x = b.sampled("still", x, SampledDwConv(0, 0, -128, 127, still=True), out=I8)
    return b.graph(
        (b.sampled("column", x, SampledDwConv(4, 2, 0, 63, (1, 1), "9x1", True)), b.varied("far", x, 2))
    )


@pytest.mark.parametrize(("board", "lanes"), [("ultra96", 16), ("pynq-z2", 8), ("kv260", 4), ("pynq-z2", 32)])
def test_windows_that_move_or_vary(board, lanes):
    """Words of 32 bytes are more than a port of the small board gives in a cycle: there the weights are waited for."""
    assert_frames_agree(*both(plan(moving_windows(), lanes), board))


@pytest.mark.parametrize(("board", "lanes"), [("ultra96", 16), ("pynq-z2", 8)])
def test_four_samples_that_become_pixels(board, lanes):
    assert_frames_agree(*both(plan(dysample((24, 32, 40)), lanes), board))


@pytest.mark.parametrize(
    ("board", "lanes", "array", "shape"),
    [
        ("ultra96", 16, (2, 1), {"seed": 1, "size": 64, "width": 24}),
        ("pynq-z2", 8, (3, 2), {"seed": 2, "size": 48}),
    ],
)
def test_sums_and_transposed_convolutions(board, lanes, array, shape):
    graph = passes.run(random_residual_graph(**shape))
    assert_frames_agree(*both(plan(graph, lanes, array=array), board))


@pytest.mark.parametrize(
    ("board", "lanes", "array", "arrays"),
    [
        ("ultra96", 16, (2, 1), 1),
        ("pynq-z2", 8, (3, 2), 2),
        ("kv260", 4, (1, 1), 1),
        ("pynq-z2", 32, (2, 1), 1),
    ],
)
def test_gates_and_weights_of_the_image(board, lanes, array, arrays):
    graph = random_mixing_graph(1, (20, 28), 24)
    assert_frames_agree(*both(plan(graph, lanes, array=array, arrays=arrays), board))


@pytest.mark.parametrize(("board", "lanes", "near"), [("ultra96", 16, 1), ("pynq-z2", 8, 2048)])
def test_kernels_that_stay_on_chip(board, lanes, near):
    """With maps in memory, and with maps on chip."""
    made = plan(involution(3, (24, 32)), lanes)
    made = made.on(replace(made.config, near_words=near, steer_words=2048))
    assert kept(made.program) == 3
    assert_frames_agree(*both(made, board))


def bent(size: tuple[int, int], width: int) -> Graph:
    """Tables behind convolutions, behind depthwise ones, of a map that others read too, and on one pixel."""
    b = Builder(3)
    x = b.table("t0", b.conv("a", b.input("image", (*size, 3)), width, kernel=3, stride=2, out=I8))
    for i in range(3):
        y = b.table(f"t{i}.1", b.conv(f"b{i}", x, 2 * width, out=I8), I8)
        y = b.table(f"t{i}.2", b.dwconv(f"d{i}", y, out=I8))
        x = b.conv(f"c{i}", y, width, out=I8)
    small = b.conv("s", b.table("others", x), 9, kernel=3, stride=4)
    return b.graph((b.conv("last", x, 5), b.table("end", small)))


@pytest.mark.parametrize(
    ("board", "lanes", "array", "size"),
    [("ultra96", 16, (2, 1), (64, 48)), ("pynq-z2", 8, (3, 2), (32, 32)), ("kv260", 4, (1, 1), (16, 24))],
)
def test_tables_of_codes(board, lanes, array, size):
    made = plan(bent(size, 20), lanes, array=array)
    assert sum(step.table is not None for step in made.program.steps) >= 8
    assert_frames_agree(*both(made, board))


def test_windows_of_five_by_five():
    b = Builder(1)
    x = b.conv("a", b.input("x", (32, 40, 3)), 20, kernel=5, stride=2)
    b.conv("y", x, 16, kernel=5)
    assert_frames_agree(*both(plan(b.graph(("y.q",)), 16, array=(2, 1)), "ultra96"))


@pytest.mark.slow
@pytest.mark.parametrize("board", BOARDS)
def test_random_graphs_on_the_engine_that_is_searched(board):
    graph = random_codenet_graph(seed=7 + BOARDS.index(board), size=(96, 128), **MEDIUM)
    assert_agree(*both(explore(graph, load_board(board)).plan, board))


@pytest.mark.slow
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("name", [m.name for m in models()])
def test_zoo(name, board, tmp_path, capsys):
    """On the engine that `build` chooses, through the command."""
    model = next(m.path for m in models() if m.name == name)
    build_bundle(str(model), tmp_path / "bundle", board, None)
    code, out, _ = verb(capsys, "estimate", tmp_path / "bundle", "--simulate", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["kind"] == "estimated" and facts["simulated"]["kind"] == "simulated"
    assert facts["cycles"] == pytest.approx(facts["simulated"]["cycles"], rel=WITHIN)
    assert facts["dram_read_bytes"] == facts["simulated"]["dram_read_bytes"]


def test_verb_prints_both(tmp_path, capsys):
    bundle = _bundle_of_mini(tmp_path)
    code, out, _ = verb(capsys, "estimate", bundle, "--simulate")
    assert code == 0 and "frames/s estimated" in out and "frames/s simulated" in out and "off by" in out
    assert "measured" not in out
    assert "simulated" not in verb(capsys, "estimate", bundle)[1]


def test_a_design_that_would_hang_ends_the_command(tmp_path, capsys, monkeypatch):
    """Its sources cannot be changed in a bundle: here a stream is said to be shallower than anything."""
    bundle = _bundle_of_mini(tmp_path)
    monkeypatch.setattr(cycles, "depths", lambda text: {"fetched": 0})
    code, _, err = verb(capsys, "estimate", bundle, "--simulate")
    assert code == 1 and "deadlock in step 0" in err
    assert "fetch waits to write to full stream fetched (depth 0), arrange waits" in " ".join(err.split())


def _bundle_of_mini(tmp_path: Path) -> Path:
    from tests.mini import bundle_of_mini

    return bundle_of_mini(tmp_path / "bundle", lanes=8)


def one_step() -> Graph:
    """A window without weights, so that all of its time is memory's when that is slow."""
    b = Builder(0)
    b.add("y", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), b.input("x", (64, 64, 32)))
    return b.graph(("y",))


def test_a_slower_memory_by_hand():
    """One max-pool: 64 x 64 x 32 bytes in, 32 x 32 x 32 out, at three quarters of the peak; nothing else matters."""
    made = plan(one_step(), 16)
    texts, board = sources(made.config), load_board("ultra96")
    assert len(made.program.steps) == 1
    moved = 64 * 64 * 32 + 32 * 32 * 32
    for peak in (400_000_000, 200_000_000, 100_000_000):
        slow = replace(board, dram_bytes_per_s=peak)
        counted = simulate(texts, made.program, slow)
        assert 1 / counted.seconds == pytest.approx(0.75 * peak / moved, rel=0.04)
        assert counted.steps[0].bound == "DRAM"
        assert estimate(made.program, made.config, slow).cycles == pytest.approx(counted.cycles, rel=0.03)
    fast = simulate(texts, made.program, board)
    turns = 64 * 64 * 2 * dram(board, 16).word_cycles  # a port takes so long for a word
    assert fast.steps[0].cycles == pytest.approx(turns + 32 * 32 * 2 * dram(board, 16).word_cycles, rel=0.1)


def test_sources_of_another_version_are_refused(tmp_path, capsys):
    """What counts here need not fit them."""
    bundle = _bundle_of_mini(tmp_path)
    config = bundle / "hls" / "config.hpp"
    config.write_text(config.read_text() + "// of another version\n")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["hls/config.hpp"] = sha256(config.read_bytes()).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    code, _, err = verb(capsys, "estimate", bundle, "--simulate")
    assert code == 2 and "1 files are not what this version of codesign writes" in " ".join(err.split())
    assert verb(capsys, "estimate", bundle)[0] == 0, "an estimate needs no sources"
