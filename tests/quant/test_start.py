"""A network that begins with another's parameters, and real photographs in small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from quant.data.specs import load
from quant.models import build
from quant.pipeline import begin_with, configuration, quantize_trained, train_float
from quant.recipe import Phase, Recipe, Stage
from quant.train import TrainingError
from tests.kernels import needs_deform_conv

SMALL = {"widths": [8, 12, 20, 28, 36], "repeats": [1, 1, 1], "decoder": [24, 16, 12], "head": 12}
HELD = "scenes:split=test,count=2,size=64,seed=0"
RECIPE = Recipe(
    "codenet-tiny",
    "scenes:split=train,seed=1",
    HELD,
    Stage((), 1.0),
    Stage((Phase(64, 16, 4),), 4e-3),
    Stage((Phase(64, 8, 4),), 5e-4),
    calibration=8,
    options={**SMALL, "size": [64, 64]},
)


@pytest.fixture(scope="module")
def scenes_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("start") / "scenes"
    train_float(RECIPE, run)
    return run


def test_all_but_the_classes_is_taken(scenes_run: Path) -> None:
    torch.manual_seed(1)
    model = build(configuration(RECIPE, 3))
    fresh = {k: v.clone() for k, v in model.state_dict().items()}
    begin_with(model, scenes_run)
    given = load_file(scenes_run / "float.safetensors")
    for name, value in model.state_dict().items():
        expected = fresh if name.startswith("heads.hm.2.") else given
        assert torch.equal(value, expected[name]), name


def test_the_same_classes_are_taken_too(scenes_run: Path) -> None:
    classes = load(RECIPE.data).classes
    model = build(configuration(RECIPE, len(classes)))
    begin_with(model, scenes_run, classes)
    given = load_file(scenes_run / "float.safetensors")
    assert all(torch.equal(value, given[name]) for name, value in model.state_dict().items())


def test_maps_that_belong_to_a_size_are_brought_to_another(tmp_path: Path) -> None:
    """Affinity maps of TVConv; to its own size they are taken as they are."""
    options = {**RECIPE.options, "spatial": "tvconv"}
    small = build(configuration(replace(RECIPE, options=options), 3))
    save_file(small.state_dict(), tmp_path / "small.safetensors")
    same = build(configuration(replace(RECIPE, options=options), 3))
    begin_with(same, tmp_path / "small.safetensors")
    assert all(torch.equal(v, small.state_dict()[k]) for k, v in same.state_dict().items())
    large = build(configuration(replace(RECIPE, options={**options, "size": [128, 96]}), 3))
    begin_with(large, tmp_path / "small.safetensors")
    key = "decoder.1.dw.affinity"
    found, wanted = large.state_dict()[key], small.state_dict()[key]
    assert found.shape == (1, 4, 8, 6) and wanted.shape == (1, 4, 4, 4)
    torch.testing.assert_close(found, F.interpolate(wanted, (8, 6), mode="bilinear"))


def test_a_file_gives_what_it_holds(scenes_run: Path, tmp_path: Path) -> None:
    given = {k: v for k, v in load_file(scenes_run / "float.safetensors").items() if k.startswith("neck.")}
    save_file(given, tmp_path / "neck.safetensors")
    torch.manual_seed(1)
    model = build(configuration(RECIPE, 3))
    fresh = {k: v.clone() for k, v in model.state_dict().items()}
    begin_with(model, tmp_path / "neck.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, given.get(name, fresh[name])), name


def test_another_network_is_refused(scenes_run: Path, tmp_path: Path) -> None:
    other = build(configuration(replace(RECIPE, options={**SMALL, "head": 16}), 3))
    with pytest.raises(
        TrainingError, match=r"scenes: \d+ tensors are not this network's, the first is heads\.hm"
    ):
        begin_with(other, scenes_run)
    with pytest.raises(TrainingError, match="holds no run"):
        begin_with(other, tmp_path)


def test_an_older_recipe_without_newer_keys_is_the_same_run(scenes_run: Path) -> None:
    path = scenes_run / "recipe.json"
    text = path.read_text()
    older = json.loads(text)
    for key in ("start", "name", "upside_down"):
        del older[key]
    path.write_text(json.dumps(older))
    try:
        assert train_float(RECIPE, scenes_run)["float"] is not None
        with pytest.raises(TrainingError, match="holds a run of another recipe"):
            train_float(replace(RECIPE, seed=7), scenes_run)
    finally:
        path.write_text(text)


@needs_deform_conv
def test_photographs_of_blood_cells_from_training_to_integers(
    scenes_run: Path, bccd: Path, tmp_path: Path
) -> None:
    """The recipe bccd-a in small: nine photographs, a few steps, exported, integers equal to the trained network."""
    pytest.importorskip("brevitas", reason="needs the extra [quant]")
    from quant.publish import export_run

    data = tmp_path / "cells"
    (data / "ImageSets" / "Main").mkdir(parents=True)
    for folder in ("Annotations", "JPEGImages"):
        (data / folder).symlink_to(bccd / folder)
    for split, count in (("trainval", 6), ("test", 3)):
        names = (bccd / "ImageSets" / "Main" / f"{split}.txt").read_text().split()[:count]
        (data / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
    recipe = replace(
        RECIPE,
        name="cells",
        data=f"voc:{data}:trainval",
        held_out=f"voc:{data}:test",
        start=str(scenes_run),
        upside_down=True,
        float_stage=Stage((Phase(64, 100, 2, width=96),), 4e-3),
        qat_stage=Stage((Phase(64, 8, 4, width=96),), 5e-4),
        options={**SMALL, "size": [64, 96]},
    )
    assert load(recipe.data).classes == ("Platelets", "RBC", "WBC")
    run = tmp_path / "run"
    train_float(recipe, run)
    figures = quantize_trained(recipe, run)
    card = export_run(recipe, run, run / "model.onnx")
    assert card["integer"] == figures["fake-quant"] and card["export"]["different"] == 0
    assert card["commands"][0] == "codesign train cells -o RUN --start OTHER"
    text = (run / "model.md").read_text()
    assert "96x64 input" in text and "synthetic" not in text
