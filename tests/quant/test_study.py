"""The study of what helps: figures of the integer rung, kept, and a table with means and spreads."""

from __future__ import annotations

import json

import pytest

from codesign.rungs import integer_runner
from quant.evaluate import detector_meta
from quant.export import export_onnx
from quant.pipeline import accuracy, calibration_images, configuration, float_model, opened
from quant.posttraining import post_training
from quant.study import WAYS, main, study, table
from tests.quant.runs import small_run

BY_TITLE = {w.title: w for w in WAYS}
BIASED, TRAINED = BY_TITLE["W8A8, MSE, bias correction"], BY_TITLE["W4A8, trained"]


def test_ways_have_titles_and_presets_of_their_own():
    assert len(BY_TITLE) == len(WAYS)
    assert len({(str(w.preset.to_dict()), w.qat) for w in WAYS}) == len(WAYS)


@pytest.mark.slow  # three exports and a training
def test_figures_are_those_of_the_integers_and_are_kept(tmp_path):
    run, said = small_run(tmp_path / "run"), []
    settings = {"calibration": 8, "qat_images": 8}
    parent, biased, trained = study(run, tmp_path / "out", [BIASED, TRAINED], settings, said.append)
    assert parent["title"] == "float parent" and len(said) == 2
    assert [r["title"] for r in (biased, trained)] == [BIASED.title, TRAINED.title]
    recipe = opened(run)
    model, data = float_model(recipe, run)
    twin = post_training(model, BIASED.preset, calibration_images(recipe, data, model)).eval()
    config = configuration(recipe, len(data.classes))
    export_onnx(twin, tmp_path / "x.onnx", config.size, detector_meta(config, data.classes))
    again = accuracy(integer_runner(tmp_path / "x.onnx"), recipe.held_out)
    assert {k: biased[k] for k in again} == again
    lines = (tmp_path / "out" / "study.jsonl").read_text()
    assert study(run, tmp_path / "out", [BIASED, TRAINED], settings, said.append) == [parent, biased, trained]
    assert len(said) == 2 and (tmp_path / "out" / "study.jsonl").read_text() == lines
    assert not list((tmp_path / "out" / "work").iterdir())
    assert json.loads(lines.splitlines()[1])["how"]["preset"]["bits"]["pw"] == 8


def record(title, seed, ap50):
    return {"model": "m", "run": f"r{seed}", "seed": seed, "title": title, "ap50": ap50}


def test_the_table_shows_means_spreads_and_what_is_missing():
    parents = [record("float parent", s, 0.5 + 0.1 * s) for s in range(3)]
    biased = [record(BIASED.title, s, 0.4 + 0.1 * s) for s in range(2)]
    assert table([*biased, *parents]).splitlines() == [
        "| m | runs | AP50 | against float | seed 0 | seed 1 | seed 2 |",
        "|---|---|---|---|---|---|---|",
        "| float parent | 3 | 0.600 ± 0.100 | +0.000 ± 0.000 | 0.500 | 0.600 | 0.700 |",
        f"| {BIASED.title} | 2 | 0.450 ± 0.071 | -0.100 ± 0.000 | 0.400 | 0.500 | - |",
    ]


def test_a_folder_that_holds_no_run_is_an_error(tmp_path, capsys):
    assert main([str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: holds no run, expected recipe.json in it.")
