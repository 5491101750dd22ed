"""The ladder: every rung on a small model, what it counts, and how it names the first layer that differs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from codesign import ladder
from codesign.bundle import Bundle, load
from codesign.cli_compile import build_bundle
from codesign.csim import Engine
from codesign.difference import Rung, compare, failed
from codesign.digest import design_digest
from codesign.errors import ToolMissing
from codesign.ir import evaluate
from codesign.ladder import CARD, climb, hardware, quoted, trial_codes
from codesign.onnx_io import import_model
from codesign.rungs import csim_runner, integer_runner, onnx_runner
from tests.kernels import needs_deform_conv
from tests.mini import MINI, bundle_of_mini
from tests.models import random_codenet_graph
from tests.onnx_models import to_onnx


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load(bundle_of_mini(tmp_path_factory.mktemp("ladder") / "bundle"))


@needs_deform_conv
def test_every_rung_of_a_sound_bundle(bundle: Bundle) -> None:
    said: list[str] = []
    picture = np.random.default_rng(5).integers(0, 256, (50, 40, 3)).astype(np.uint8)
    rungs = climb(bundle, [picture], said.append)
    assert not failed(rungs)
    assert [(r.number, r.status) for r in rungs] == [
        (0, "quoted"), (1, "quoted"), (2, "ok"), (3, "ok"), (4, "ok"), (5, "ok"), (5, "ok"), (6, "not run"),
        (7, "not run"),
    ]  # fmt: skip
    outputs = 2 * 16 * 24 * (3 + 2 + 2)  # two frames of hm, wh, reg
    assert [r.compared for r in rungs if r.number in (4, 5)] == [outputs] * 3
    assert all(r.different == 0 for r in rungs)
    layers, tensors = rungs[3].note.split()[0], rungs[3].compared
    assert int(layers) > 60  # node by node, not the outputs alone
    assert tensors > 20 * outputs
    assert said[0] == "Reading model.onnx"


def test_other_numbers_of_lanes_are_planned_and_compared(bundle: Bundle, tmp_path: Path) -> None:
    graph = import_model(bundle.model)
    codes = trial_codes(graph, [])
    values = evaluate(graph, {"image": codes})
    rungs = ladder.other_lanes(bundle, graph, codes, values, [1, 4], lambda text: None)
    assert [r.name for r in rungs] == ["C++, native types, 1 lane", "C++, native types, 4 lanes"]
    assert [(r.number, r.against, r.status, r.compared) for r in rungs] == [(5, 3, "ok", 16 * 24 * 7)] * 2
    values["wh"] = values["wh"].copy()
    values["wh"][0, 3, 2, 1] += 2
    (rung,) = ladder.other_lanes(bundle, graph, codes, values, [4], lambda text: None)
    assert (rung.status, rung.note, rung.different) == ("fail", "first differs in wh, by up to 2", 1)
    # They run on the bundle's own sources, not on the package's.
    shutil.copytree(bundle.directory, tmp_path / "broken")
    (tmp_path / "broken" / "hls" / "engine.hpp").write_text("#error broken here\n")
    broken = replace(bundle, directory=tmp_path / "broken")
    (rung,) = ladder.other_lanes(broken, graph, codes, values, [2], lambda text: None)
    assert rung.status == "fail" and "broken here" in rung.note


def test_a_network_of_unsigned_pixels_is_given_them_as_they_are(tmp_path: Path) -> None:
    model = to_onnx(random_codenet_graph(seed=5, size=16, max_offset=2))
    (image,) = (node for node in model.graph.node if node.name == "image.q")
    (signed,) = (a for a in image.attribute if a.name == "signed")
    signed.i = 0
    onnx.save(model, tmp_path / "net.onnx")
    build_bundle(str(tmp_path / "net.onnx"), tmp_path / "bundle", "ultra96", 4, (1, 1))
    bundle = load(tmp_path / "bundle")
    picture = np.random.default_rng(5).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    rungs = climb(bundle, [picture])
    assert not failed(rungs) and [r.number for r in rungs if r.status == "ok"] == [2, 3, 4, 5, 5]
    graph = import_model(bundle.model)
    wanted = evaluate(graph, {"image": picture[None].astype(np.int64)})
    for runner in (integer_runner(bundle.model), onnx_runner(bundle.model), csim_runner(bundle)):
        maps = runner.maps(picture)
        for name in graph.outputs:
            np.testing.assert_array_equal(maps[name], wanted[name][0])


def test_accuracy_is_quoted_from_the_card_and_says_so() -> None:
    graph = import_model(MINI)
    assert quoted(graph) == [
        Rung(0, "torch float", None, "quoted", "AP50 0.500 on scenes:count=3"),
        Rung(1, "torch fake-quant", 0, "quoted", "AP50 0.480, -0.020"),
    ]
    for card in ({}, {CARD: "{"}, {CARD: "[]"}, {CARD: '{"float": 1}'}):
        found = quoted(replace(graph, meta=card))
        assert [(r.status, r.note) for r in found] == [("not run", "the model's card has no figure")] * 2


def test_comparison_counts_and_names_the_first_that_differs() -> None:
    a = {n: np.zeros((1, 2, 2, 1), np.int64) for n in "xyz"}
    b = {n: v.copy() for n, v in a.items()}
    b["y"][0, 0, 0, 0], b["y"][0, 1, 1, 0], b["z"][:] = 1, -3, 9
    difference = compare(a, b, "xyz")
    assert (difference.compared, difference.different, difference.first, difference.worst) == (12, 6, "y", 3)
    rung = difference.rung(5, "C++", 3, "fine")
    assert (rung.status, rung.note) == ("fail", "first differs in y, by up to 3")
    assert compare(a, a, "xyz").rung(5, "C++", 3, "fine") == Rung(5, "C++", 3, "ok", "fine", 12, 0)


def test_trial_codes_are_the_pictures_and_noise_over_all_codes() -> None:
    codes = trial_codes(import_model(MINI), [np.full((64, 96, 3), 128, np.uint8)])
    assert (codes.shape, codes.dtype) == ((2, 64, 96, 3), np.int8)
    assert not codes[0].any()
    assert len(np.unique(codes[1])) == 256


@needs_deform_conv
def test_a_file_whose_values_are_no_codes_fails_rung_two(bundle: Bundle, tmp_path: Path) -> None:
    """A Quant body that forgets to round: the importer trusts the node's meaning, onnxruntime runs its body."""
    model = onnx.load(bundle.model)
    (quant,) = (f for f in model.functions if f.name == "Quant")
    rounding = [n for n in quant.node if n.op_type == "Round"]
    assert rounding
    for node in rounding:
        node.op_type = "Identity"
    path = tmp_path / "unrounded.onnx"
    onnx.save(model, path)
    rungs, _ = ladder.models(path, import_model(path), trial_codes(import_model(path), []), lambda text: None)
    assert [(r.number, r.status) for r in rungs] == [(2, "fail"), (3, "fail"), (4, "ok")]
    assert rungs[0].note == "values are no codes"
    assert rungs[1].note.startswith("first differs in stages.0.0.")


def test_without_a_deformable_kernel_the_file_is_not_run(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ToolMissing("onnxruntime 1.20 cannot run it")

    monkeypatch.setattr(ladder, "OnnxSession", refuse)
    graph = import_model(bundle.model)
    rungs, values = ladder.models(bundle.model, graph, trial_codes(graph, []), lambda text: None)
    assert [(r.number, r.status) for r in rungs] == [(2, "not run"), (3, "not run"), (4, "not run")]
    assert rungs[0].note == "onnxruntime 1.20 cannot run it"
    assert set(graph.outputs) <= set(values)


def test_without_a_compiler_there_is_no_ladder(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolMissing) as caught:
        climb(bundle, [])
    assert str(caught.value) == (
        "no-such-compiler: not found in PATH. C simulation needs a C++ compiler: install g++ or set CXX."
    )


def test_hardware_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder.shutil, "which", lambda name: None)
    assert [(r.number, r.status, r.note) for r in hardware()] == [
        (6, "not run", "no Vivado"), (7, "not run", "no board"),
    ]  # fmt: skip
    monkeypatch.setattr(ladder.shutil, "which", lambda name: name)
    assert hardware()[0].note == "run codesign synth --stop-after cosim"


def test_hardware_quotes_what_was_found_with_this_design(bundle: Bundle, tmp_path: Path) -> None:
    """Co-simulation of other sources, and a bench on the software device, say nothing of rungs 6 and 7."""
    shutil.copytree(bundle.directory, tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    (tmp_path / "b" / "synthesis").mkdir()
    state = tmp_path / "b" / "synthesis" / "state.json"
    for design, status in ((design_digest(manifest), "quoted"), ("another", "not run")):
        entry = {"design": design, "tool": "Vivado HLS 2020.1", "finished": "2026-11-23"}
        state.write_text(json.dumps({"steps": {"cosim": entry}}))
        assert hardware(tmp_path / "b")[0].status == status
    state.write_text("{")
    assert hardware(tmp_path / "b")[0].status == "not run"
    for source, differences, status in (
        ("board", 0, "quoted"),
        ("board", 3, "fail"),
        ("software device", 0, "not run"),
    ):
        bench = {"format": "codesign-bench", "version": 1, "source": source, "latency_ms": {"median": 1.0},
                 "board": "pynq-z2", "bit_exact": {"vectors": 4, "differences": differences}}  # fmt: skip
        (tmp_path / "b" / "bench.json").write_text(json.dumps(bench))
        assert hardware(tmp_path / "b")[1].status == status


def test_the_engine_is_compiled_from_the_bundle_itself(bundle: Bundle) -> None:
    assert Engine(bundle.hls).path == Engine(bundle.hls).path
    assert json.loads((bundle.hls.parent / "manifest.json").read_text())
