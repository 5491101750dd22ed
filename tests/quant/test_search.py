"""The search for bits: its path against brute force, its measurements, and the whole verb on a small run."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from codesign import cli
from quant.lines import Lines, digest
from quant.pipeline import derived, opened
from quant.pipeline import float_model as float_network
from quant.preset import preset
from quant.quantize import quantize_model, weight_layers
from quant.search import Layer, at_bits, first_within, search, upgrades
from tests.quant.runs import small_run
from tests.quant.twins import float_model, images

COSTS = st.lists(
    st.tuples(st.integers(1, 50), st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=5
)


def layers_of(costs):
    made = []
    for k, (weights, worst, middle) in enumerate(costs):
        made.append(Layer(f"l{k}", weights, {2: float(worst), 4: float(min(worst, middle)), 8: 0.0}))
    return made


@given(COSTS)
def test_no_choice_of_bits_is_smaller_and_better_than_a_point_of_the_path(costs):
    layers = layers_of(costs)
    path = upgrades(layers)
    assert set(path[0].bits.values()) == {2} and set(path[-1].bits.values()) == {8}
    assert all(a.bytes < b.bytes and a.cost >= b.cost for a, b in itertools.pairwise(path))
    for chosen in itertools.product((2, 4, 8), repeat=len(layers)):
        size = sum(x.bytes(b) for x, b in zip(layers, chosen, strict=True))
        cost = sum(x.cost[b] for x, b in zip(layers, chosen, strict=True))
        for point in path:
            assert not (size <= point.bytes and cost < point.cost - 1e-9)


@given(st.integers(1, 60), st.data())
def test_bisection_finds_the_first_that_keeps_the_budget(count, data):
    first = data.draw(st.integers(0, count - 1))
    asked: list[int] = []
    assert first_within(count, lambda k: asked.append(k) or k >= first) == first
    assert len(asked) <= 6 and len(set(asked)) == len(asked)


def test_a_layer_is_at_other_bits_only_inside():
    twin = quantize_model(float_model(), "w8a8").eval()
    layer = weight_layers(twin)["neck.conv"]
    q, x = layer.weight_quant.tensor_quant, images(1)
    before, state = twin(x)[0], {k: v.clone() for k, v in twin.state_dict().items()}
    with pytest.raises(RuntimeError, match="stop"), at_bits(layer, 2):
        assert torch.unique((q(layer.weight)[0] / q.scale()).detach()).tolist() == [-1, 0, 1]
        assert not torch.equal(twin(x)[0], before)
        raise RuntimeError("stop")
    assert (q.lo, q.hi, q.bits) == (-127, 127, 8) and torch.equal(twin(x)[0], before)
    assert all(torch.equal(v, state[k]) for k, v in twin.state_dict().items())


def test_lines_survive_an_interruption_and_keys_follow_content(tmp_path):
    (tmp_path / "w").write_bytes(b"1")
    key = digest(tmp_path / "w", {"a": 1, "b": [2]})
    assert key == digest(tmp_path / "w", {"b": [2], "a": 1}) != digest(tmp_path / "w", {"a": 1, "b": [3]})
    Lines(tmp_path / "x.jsonl").put(key, ap50=0.5)
    with (tmp_path / "x.jsonl").open("a") as file:
        file.write('{"key": "cut')
    lines = Lines(tmp_path / "x.jsonl")
    assert lines.get(key) == {"key": key, "ap50": 0.5}
    lines.put("next", ap50=0.25)
    assert Lines(tmp_path / "x.jsonl").get("next") == {"key": "next", "ap50": 0.25}
    (tmp_path / "w").write_bytes(b"2")
    assert digest(tmp_path / "w", {"a": 1, "b": [2]}) != key


@pytest.fixture
def run(tmp_path):
    return small_run(tmp_path / "run")


def end(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(a) for a in arguments])
    return int(ended.value.code or 0)


def test_a_size_budget_is_kept_measured_and_drawn(run, tmp_path, capsys):
    layers = weight_layers(quantize_model(float_network(opened(run), run)[0]))
    weights = sum(m.weight.numel() for m in layers.values())
    kilobytes = weights * 5 / 8 / 1000
    out = tmp_path / "mixed"
    assert end("quantize", run, "--search", "--budget", kilobytes, "--no-qat", "-o", out, "--json") == 0
    assert "ptq" in json.loads(capsys.readouterr().out)
    seen = json.loads((out / "search.json").read_text())
    assert set(seen["bits"]) == set(layers) and set(seen["bits"].values()) == {4, 8}
    used = sum(layers[n].weight.numel() * b for n, b in seen["bits"].items()) / 8
    assert (
        used
        == seen["path"][seen["chosen"]]["bytes"]
        <= 1000 * kilobytes
        < seen["path"][seen["chosen"] + 1]["bytes"]
    )
    assert [k for k, p in enumerate(seen["path"]) if p["ap50"] is not None] == [
        0,
        seen["chosen"],
        len(seen["path"]) - 1,
    ]
    assert min(Image.open(out / "search.png").size) > 200 and (out / "search.png").stat().st_size < 150_000
    chosen = preset(opened(out).preset)
    assert dict(chosen.layers) == seen["bits"] and chosen.name == "mixed"
    again = (out / "search.jsonl").read_text()
    said: list[str] = []
    assert search(run, out, size=1000 * kilobytes, say=said.append) == chosen
    assert (out / "search.jsonl").read_text() == again  # nothing is measured twice


def test_budgets_that_make_no_sense(run, tmp_path, capsys):
    out = tmp_path / "mixed"
    assert end("quantize", run, "--search", "-o", out) == 2
    assert end("quantize", run, "--search", "--budget", 0.001, "-o", out) == 2
    assert end("quantize", run, "--budget", 1, "-o", out) == 2
    assert end("quantize", run, "--search", "--drop", 0.1) == 2
    assert end("quantize", run, "--search", "--drop", 0.1, "--choices", "4;8", "-o", out) == 2
    assert end("quantize", run, "--search", "--drop", 0.1, "--choices", "4,9", "-o", out) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    smallest = errors.pop(1)
    assert smallest.startswith("error: search: 0.001 kB is too small, expected at least ")
    assert errors == [
        "error: search: expected one budget, a size or a drop. Give either.",
        "error: codesign quantize: --budget and --drop go with --search. Add --search.",
        "error: codesign quantize: another preset makes a run of its own. Name its folder with -o.",
        "error: codesign quantize: --choices is '4;8', expected whole numbers such as 4,8. Correct it.",
        "error: search: bits are [4, 9], expected two or more from 2 to 8. Give 4,8.",
    ]


def test_a_derived_run_stands_alone_and_does_not_mix(run, tmp_path, capsys):
    recipe = derived(run, tmp_path / "eight", "w8a8")
    assert recipe.preset == "w8a8" == opened(tmp_path / "eight").preset
    assert (tmp_path / "eight" / "float.safetensors").read_bytes() == (run / "float.safetensors").read_bytes()
    assert opened(run).preset == "w4a8"
    other = derived(run, tmp_path / "other", "w4a8", seed=3, data="scenes:split=train,seed=2")
    assert (other.seed, other.data) == (3, "scenes:split=train,seed=2") and other == opened(
        tmp_path / "other"
    )
    assert (
        end("quantize", run, "--seed", 0) == 2
        and end("quantize", run, "--data", "x", "--search", "-o", "x") == 2
    )
    wanted = "codesign quantize: --seed and --data make a run of its own, without --search."
    assert capsys.readouterr().err.count(wanted) == 2
    assert end("quantize", run, "-p", "w4a4", "-o", tmp_path / "eight") == 2
    assert "holds a run of another recipe" in capsys.readouterr().err
    assert end("quantize", run, "-p", "w3a3", "-o", tmp_path / "three") == 2
    assert capsys.readouterr().err.startswith("error: w3a3: no such preset, expected one of w2a8, ")
    assert not (tmp_path / "three").exists()
