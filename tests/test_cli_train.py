"""The verbs of the torch side, end to end on a run of a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from codesign import cli
from tests.kernels import needs_deform_conv

RECIPE = """
model = "codenet-tiny"
data = "scenes:split=train,seed=1"
held_out = "scenes:split=test,count=6,size=128,seed=0"
validation = "scenes:split=val,count=2,size=128,seed=0"
calibration = 8
[options]
widths = [8, 12, 20, 28, 36]
repeats = [1, 1, 1]
decoder = [24, 16, 12]
head = 12
[float]
lr = 4e-3
phases = [{ size = 64, images = 200, batch = 4 }]
[qat]
lr = 5e-4
phases = [{ size = 64, images = 200, batch = 4 }]
"""


def end(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(a) for a in arguments])
    return int(ended.value.code or 0)


@needs_deform_conv
@pytest.mark.slow
def test_train_quantize_export_eval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("brevitas", reason="needs the extra [quant]")
    (tmp_path / "r.toml").write_text(RECIPE)
    run = tmp_path / "run"
    assert end("train", tmp_path / "r.toml", "-o", run) == 0
    assert "float" in capsys.readouterr().out
    assert end("quantize", run, "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert {"float", "ptq", "fake-quant"} <= set(figures)
    assert end("export", run, "-o", tmp_path / "m.onnx", "--json") == 0
    card = json.loads(capsys.readouterr().out)
    assert card["export"]["compared"] == 6 * 32 * 32 * (len(card["classes"]) + 4)
    assert card["export"]["different"] == 0
    assert json.loads((tmp_path / "m.json").read_text()) == card
    for picture in ("m.curves.png", "m.samples.png"):
        assert min(Image.open(tmp_path / picture).size) > 100
    spec = card["held_out"]
    seen = {}
    for rung, what in (("fake-quant", run), ("onnx", tmp_path / "m.onnx"), ("integer", tmp_path / "m.onnx")):
        assert end("eval", what, "--data", spec, "--rung", rung, "--json") == 0
        *_, seen[rung] = json.loads(capsys.readouterr().out)["rungs"]
    assert end("eval", run, "--data", spec, "--json") == 0
    both = json.loads(capsys.readouterr().out)["rungs"]
    assert [(c["rung"], c["from"]) for c in both] == [("float", "run"), ("fake-quant", "run")]
    assert [c["ap50"] for c in both] == [figures["float"]["ap50"], figures["fake-quant"]["ap50"]]
    keys = ("ap50", "ap50_voc07", "coco_ap", "per_class")
    figures_of = {json.dumps([s[k] for k in keys]) for s in seen.values()}
    assert len(figures_of) == 1  # the rungs agree to the last bit
    assert seen["integer"]["ap50"] == card["integer"]["ap50"] == figures["fake-quant"]["ap50"]
    assert end("export", run, "-o", tmp_path / "q.onnx", "--qcdq", "--json") == 0
    assert json.loads(capsys.readouterr().out)["integer"] == card["integer"]
    assert end("build", tmp_path / "m.onnx", "-o", tmp_path / "b") == 0
    capsys.readouterr()
    assert end("verify", tmp_path / "b", "--json") == 0
    rungs = json.loads(capsys.readouterr().out)
    assert [r["status"] for r in rungs[:2]] == ["quoted", "quoted"]
    assert rungs[2]["note"].endswith(f"at export 0 of {card['export']['compared']:,} differed from torch")


def test_unknown_recipe_and_empty_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("brevitas", reason="needs the extra [quant]")
    assert end("train", "codenet-z", "-o", tmp_path / "x") == 2
    assert capsys.readouterr().err == (
        "error: codenet-z: no such recipe, expected one of bccd-a, bccd-a-192, codenet-a, codenet-tiny, "
        "or a .toml file.\n"
    )
    assert not (tmp_path / "x").exists()
    for verb in ("quantize", "export"):
        assert end(verb, tmp_path) == 2
        assert capsys.readouterr().err == (
            f"error: {tmp_path}: holds no run, expected recipe.json in it. Run `codesign train` first.\n"
        )
