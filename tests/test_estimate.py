"""The estimate: cycles against loops that are walked and counted, totals, size, the picture, and the verb."""

from __future__ import annotations

import builtins
import json
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import cli
from codesign.board import Board, load_board
from codesign.budget import over_budget
from codesign.bundle import load
from codesign.dram import LATENCY_S, USABLE, dram
from codesign.engine_config import EngineConfig
from codesign.errors import ToolMissing
from codesign.estimate import array_macs, estimate, used_macs
from codesign.ir import Graph
from codesign.plan import Plan, plan
from codesign.program import program_words
from codesign.resources import resources
from codesign.roofline import picture
from codesign.stages import chain, line_cycles, matrices, window_cycles
from codesign.step import Segment, Step, shrunk
from codesign.transfers import Transfer, loaded, row_words, stored, window_words
from tests.mini import bundle_of_mini
from tests.models import macs, random_codenet_graph


@pytest.fixture(scope="module")
def graph() -> Graph:
    """A small CoDeNet without a weight of 0, so that no lane in use looks like padding."""
    made = random_codenet_graph(seed=3, size=(32, 48))
    consts = {n: np.where(a == 0, 1, a) if n.endswith(".weight") else a for n, a in made.consts.items()}
    return replace(made, consts=consts)


@pytest.fixture(scope="module", params=[1, 2])
def planned(graph: Graph, request: pytest.FixtureRequest) -> Plan:
    return plan(graph, 8, arrays=request.param)


@pytest.fixture(scope="module")
def board() -> Board:
    return load_board("ultra96")


def walked_window(step: Step, config: EngineConfig) -> int:
    """Turns of the loop of window.hpp, one by one. Every input word must arrive, every output word must leave."""
    into, out = row_words(step, config), step.out_width * window_words(step, config)
    turns = arrived = left = fetched = 0
    centre = step.origin[0] - step.stride[0]
    for row in range(-1, step.out_height):
        last = row == step.out_height - 1
        lowest_needed = centre + step.stride[0] + step.reach  # by the next row
        waiting = into * (
            step.height - fetched if last else max(0, min(lowest_needed + 1, step.height) - fetched)
        )
        leaving = 0 if row == -1 else out
        fetched += waiting // into
        while waiting or leaving:
            turns += 1
            if waiting:
                waiting, arrived = waiting - 1, arrived + 1
            if leaving:
                leaving, left = leaving - 1, left + 1
        centre += step.stride[0]
    assert (arrived, left) == (step.height * into, step.out_height * out)
    return turns


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 12), width=st.integers(1, 6), groups=st.integers(1, 3), stride=st.integers(1, 4),
    window=st.sampled_from(["depthwise", "deformable", "max-pool", "gather"]), kernel=st.integers(1, 3),
    reach=st.integers(0, 5), packed=st.booleans(),
)  # fmt: skip
def test_window_cycles_are_the_turns_of_its_loop(
    height, width, groups, stride, window, kernel, reach, packed
):
    step = Step(
        (), (Segment(0, groups, groups),), (), height, width, groups, -(-height // stride), -(-width // stride),
        window=window, kernel=kernel if window in ("max-pool", "gather") else 3, stride=(stride, stride),
        reach=reach if window == "deformable" else 1, packed=packed and window == "gather",
    )  # fmt: skip
    config = EngineConfig(pack_log2=1)
    assert window_cycles(step, config) == walked_window(step, config)


def runs_of(transfer: Transfer) -> int:
    return sum(part.runs for chunk in transfer.chunks for part in chunk)


def walked_load(step: Step, config: EngineConfig) -> tuple[int, int, int]:
    """Words fetched, requests and words given of load.hpp, chunk by chunk and segment by segment."""
    plain = all(s.up == 0 for s in step.load)
    columns = row_words(step, config) if step.packed else step.width
    rows = step.height
    if plain:
        rows, columns = 1, rows * columns
    straight = plain and len(step.load) == 1
    pixels = columns if straight else min(step.load_pixels, columns)
    repeats = 1 << (min(s.up for s in step.load) if pixels == columns else 0)
    fetched = requests = given = 0
    for _ in range(0, rows, repeats):
        for first in range(0, columns, pixels):
            here = range(first, min(first + pixels, columns))
            for segment in step.load:
                places = {x >> segment.up for x in here}
                fetched += len(places) * segment.count
                requests += 1 if segment.stride == segment.count else len(places)
            given += len(here) * step.groups * repeats
    return fetched, requests, given


def test_what_is_moved_is_what_the_loops_move(planned: Plan):
    config = planned.config
    for step in planned.program.steps:
        load, store = loaded(step, config), stored(step, config)
        assert (load.moved, runs_of(load), sum(load.uses)) == walked_load(step, config)
        assert load.words == step.height * row_words(step, config) * (1 if not step.packed else step.groups)
        pixels = prod(step.stored_shape)
        assert store.moved == store.words == sum(store.uses) == pixels * sum(s.count for s in step.store)
        if len(step.store) == 1 and step.store[0].stride == step.store[0].count:
            assert runs_of(store) == 1
    assert any(len(loaded(s, config).chunks) > 1 for s in planned.program.steps)
    assert any(loaded(s, config).moved < loaded(s, config).words for s in planned.program.steps), "upsampled"


def test_blocks_are_the_turns_of_the_array(planned: Plan):
    for pixels, turns in (1, 1), (4, 2), (3, 8):
        config = replace(planned.config, pixels=pixels, turns=turns)
        for step in planned.program.steps:
            found = matrices(step)
            modes = [mode for mode in (step.pointwise, step.second) if mode != "none"]
            assert len(found) == len(modes)
            for matrix, mode in zip(found, modes, strict=True):
                products = 0
                for _ in range(matrix.out):
                    for _ in range(matrix.into):
                        products += turns * (2 if mode == "int8" else 1)
                assert matrix.block(config) == max(products, pixels * matrix.into)
                assert (matrix.blocks(config) - 1) * pixels < matrix.height * matrix.width
                assert matrix.blocks(config) * pixels >= matrix.height * matrix.width
            if step.middle_stride:
                assert found[1].into == found[0].out
            elif len(found) == 2:
                assert found[1].into == found[0].into and 0 <= found[0].out - found[1].out <= 1


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 7), st.sampled_from([1, 2]))
def test_lines_are_the_turns_of_their_loop(height: int, width: int, words: int, stride: int):
    """Turn of lines.hpp, turn by turn: every word arrives, every centre leaves."""
    y = x = slot = turns = arrived = left = 0
    while y <= height:
        turns += 1
        arrived += slot < words and y < height and x < width
        left += slot < words and y > 0 and x > 0 and (y - 1) % stride == 0 and (x - 1) % stride == 0
        slot += 1
        if slot == max(words, 4):
            slot, x = 0, x + 1
        if x > width:
            x, y = 0, y + 1
    assert turns == line_cycles(height, width, words)
    assert arrived == height * width * words
    assert left == shrunk(height, stride) * shrunk(width, stride) * words


def test_window_of_a_program_is_its_loop(planned: Plan):
    for step in planned.program.steps:
        if step.window == "pass":
            assert window_cycles(step, planned.config) == step.height * step.width * step.groups
        else:
            assert window_cycles(step, planned.config) == walked_window(step, planned.config)


@pytest.mark.parametrize("arrays", [1, 2])
@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
def test_macs_are_those_of_the_graph(graph: Graph, lanes: int, arrays: int):
    program = plan(graph, lanes, arrays=arrays).program
    assert sum(sum(used_macs(step, lanes)) for step in program.steps) == macs(graph.late.graph) < macs(graph)


def test_totals_are_the_sums_of_their_parts(planned: Plan, board: Board):
    cost = estimate(planned.program, planned.config, board)
    assert cost.cycles == cost.header + sum(s.cycles for s in cost.steps)
    assert sum(cost.by_bound().values()) == cost.cycles - cost.header
    assert cost.seconds == cost.cycles / (board.clock_mhz * 1e6)
    assert cost.array == array_macs(planned.config) == planned.config.arrays * planned.config.lanes**2
    assert 0 < cost.efficiency <= max(s.efficiency for s in cost.steps) <= 1
    for step in cost.steps:
        assert step.cycles > max(step.stages.values()) and step.cycles > step.parameters
        assert step.bound == "parameters" or step.stages[step.bound] == max(step.stages.values())


def test_every_byte_of_the_program_is_read(planned: Plan, board: Board):
    """Parameters once, header once, descriptors and segments twice."""
    cost = estimate(planned.program, planned.config, board)
    steps = planned.program.steps
    features = 8 * sum(loaded(s, planned.config).moved for s in steps)
    features += 8 * sum(s.out_height * (s.out_width >> s.offset.up) for s in steps if s.offset is not None)
    parameters = 8 * sum(step.parameter_words for step in steps)
    described = 8 * program_words(steps, 8) - parameters - 64
    assert cost.read_bytes == features + parameters + 64 + 2 * described
    assert cost.written_bytes == 8 * sum(stored(s, planned.config).words for s in steps)


def test_slow_memory_limits_every_step(planned: Plan, board: Board):
    quick = estimate(planned.program, planned.config, replace(board, dram_bytes_per_s=10**12))
    slow = estimate(planned.program, planned.config, replace(board, dram_bytes_per_s=10**7))
    assert not any(s.bound == "DRAM" for s in quick.steps)
    assert {s.bound for s in slow.steps} <= {"DRAM", "load", "store", "parameters"}
    least = (slow.read_bytes + slow.written_bytes) / (USABLE * 10**7)
    assert least <= slow.seconds <= 1.2 * least, "three quarters of the peak are usable"


def test_a_word_wider_than_a_port_takes_beats(graph: Graph):
    z2 = replace(load_board("pynq-z2"), dram_bytes_per_s=10**12)  # ports of 64 bits
    made = plan(graph, 16)
    for step in made.program.steps:
        narrow, wide = (
            chain(step, made.config, dram(replace(z2, hp_width_bits=bits), 16)) for bits in (64, 128)
        )
        words = max(loaded(step, made.config).moved, stored(step, made.config).moved)
        assert (narrow.stages["DRAM"], wide.stages["DRAM"]) == (2 * words, words)


def test_the_memory_of_a_board(board: Board):
    found = dram(board, 16)
    assert found.latency == round(LATENCY_S * 250e6) == 50
    assert found.bytes_per_cycle == pytest.approx(USABLE * board.dram_bytes_per_s / 250e6)
    assert (found.beats, dram(load_board("pynq-z2"), 16).beats) == (1, 2)
    assert found.cycles(1000, 200) == -(-1200 * 16 // found.bytes_per_cycle)
    assert dram(replace(board, dram_bytes_per_s=10**12), 16).cycles(1000, 200) == 1000


def verb(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_verb(tmp_path, capsys):
    bundle = bundle_of_mini(tmp_path / "bundle", lanes=8)
    code, out, _ = verb(capsys, "estimate", bundle)
    assert code == 0 and "frames/s estimated" in out and "limited by" in out
    dsps, _ = resources(load(bundle).config).on(load_board("ultra96"))
    assert f"{dsps} of 360" in out
    assert "measured" not in out
    code, out, _ = verb(capsys, "estimate", bundle, "--json")
    again = verb(capsys, "estimate", bundle, "--json")[1]
    facts: dict[str, Any] = json.loads(out)
    assert code == 0 and out == again
    assert facts["kind"] == facts["resources"]["kind"] == "estimated"
    assert sum(facts["cycles_by_bound"].values()) == sum(s["cycles"] for s in facts["steps"])
    assert facts["frames_per_s"] == pytest.approx(1e6 * facts["clock_mhz"] / facts["cycles"])
    assert facts["resources"]["over_budget"] == ""
    assert all(s["name"] and not s["name"].startswith("step ") for s in facts["steps"]), "names of the nodes"
    slower = json.loads(verb(capsys, "estimate", bundle, "--board", "pynq-z2", "--json")[1])
    assert slower["board"] == "pynq-z2" and slower["frames_per_s"] < facts["frames_per_s"]


def test_verb_refuses_what_does_not_fit(tmp_path, capsys):
    bundle = bundle_of_mini(tmp_path / "bundle", lanes=64)
    code, out, err = verb(capsys, "estimate", bundle)
    assert code == 1 and "frames/s" in out
    assert err.partition("over budget: ")[2].strip() == over_budget(
        load(bundle).config, load_board("ultra96")
    )
    code, out, _ = verb(capsys, "estimate", bundle, "--json")
    assert code == 1 and json.loads(out)["resources"]["budget"]["DSP"] == {"needs": 2048, "has": 360}


def test_verb_wants_a_bundle(tmp_path, capsys):
    code, _, err = verb(capsys, "estimate", tmp_path / "none")
    assert code == 2 and "no such directory, expected a bundle. Make one with `codesign build`." in err


def test_picture(planned: Plan, board: Board):
    pytest.importorskip("matplotlib", reason="the picture needs the extra [quant]")
    png = picture(estimate(planned.program, planned.config, board), board)
    assert png.startswith(b"\x89PNG") and len(png) > 10_000


def test_picture_says_what_to_install(planned: Plan, board: Board, monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ToolMissing) as refused:
        picture(estimate(planned.program, planned.config, board), board)
    assert str(refused.value) == (
        "matplotlib: not installed, expected for --picture. Install the extra: "
        "pip install 'codesign-fpga[quant]', or leave out --picture."
    )
