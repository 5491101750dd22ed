"""The models that ship: small, as their cards say, and equal on every rung."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from codesign.accuracy import evaluate_detector
from codesign.bundle import load
from codesign.cli import app
from codesign.images import read_image
from codesign.ladder import CARD, climb
from codesign.rungs import csim_runner, integer_runner
from codesign.shipped import ZOO, models, samples
from tests.kernels import needs_deform_conv

NAMES = ("codenet-a", "codenet-tiny")


def model(name: str) -> Path:
    return ZOO / f"{name}.onnx"


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name in NAMES:
        made[name] = tmp_path_factory.mktemp("zoo") / name
        arguments = ["build", str(model(name)), "--board", "ultra96", "-o", str(made[name])]
        assert CliRunner().invoke(app, arguments).exit_code == 0
    return made


def test_what_ships_and_how_large_it_is() -> None:
    assert tuple(m.name for m in models()) == NAMES
    assert sum(p.stat().st_size for p in ZOO.rglob("*") if p.is_file()) < 10e6


@pytest.mark.parametrize("name", NAMES)
def test_the_card_beside_the_file_is_the_card_in_it(name: str) -> None:
    props = {p.key: p.value for p in onnx.load(model(name)).metadata_props}
    card = json.loads(model(name).with_suffix(".json").read_text())
    assert json.loads(props[CARD]) == card
    assert card["export"]["different"] == 0 and len(card["classes"]) >= 10
    text = model(name).with_suffix(".md").read_text()
    for network in ("float", "fake-quant", "integer"):
        assert f"{card[network]['ap50']:.3f}" in text
    assert card["integer"] == card["fake-quant"]  # integers are what was trained, to the last bit


@pytest.mark.parametrize("name", NAMES)
def test_integers_lose_at_most_two_points_of_the_float_parent(name: str) -> None:
    card = json.loads(model(name).with_suffix(".json").read_text())
    assert card["float"]["ap50"] - card["integer"]["ap50"] <= 0.02


@needs_deform_conv
@pytest.mark.parametrize("name", ["codenet-tiny", pytest.param("codenet-a", marks=pytest.mark.slow)])
def test_every_rung_is_equal(name: str, bundles: dict[str, Path]) -> None:
    rungs = climb(load(bundles[name]), [read_image(samples()[0])], lambda text: None)
    assert [(r.number, r.status) for r in rungs] == [
        (0, "quoted"), (1, "quoted"), (2, "ok"), (3, "ok"), (4, "ok"), (5, "ok"), (5, "ok"), (6, "not run"),
        (7, "not run"),
    ]  # fmt: skip
    assert all(r.different == 0 and (r.compared or 0) > 10_000 for r in rungs if r.status == "ok")


@pytest.mark.slow
def test_the_hardware_code_is_as_accurate_as_the_card_says(bundles: dict[str, Path]) -> None:
    """The card's AP50, measured again on every held-out scene by integers, and on some by the C++."""
    specs = pytest.importorskip("quant.data.specs", reason="needs the extra [quant]")
    card = json.loads(model("codenet-tiny").with_suffix(".json").read_text())
    data = specs.load(card["held_out"])
    integer, csim = integer_runner(model("codenet-tiny")), csim_runner(load(bundles["codenet-tiny"]))
    images = [data[i] for i in range(len(data))]
    scores = evaluate_detector(integer.detect, card["classes"], images, data.classes).scores
    assert (scores.ap50, scores.ap50_voc07, scores.coco_ap) == tuple(
        card["integer"][k] for k in ("ap50", "ap50_voc07", "coco_ap")
    )
    for sample in images[:50]:
        ours, theirs = csim.detect(sample.image), integer.detect(sample.image)
        for key in ("boxes", "labels", "scores"):
            np.testing.assert_array_equal(getattr(ours, key), getattr(theirs, key))
