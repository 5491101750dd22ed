"""The ablation: operators, arithmetic, table, and runs that go on after they were killed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from codesign import cli
from codesign.board import load_board
from codesign.estimate import Estimate, StepCost
from quant.models import ModelConfig, build
from tests.kernels import needs_deform_conv
from tests.quant.runs import small_run

pytest.importorskip("brevitas", reason="needs the extra [quant]")

from quant.ablation import command, comparison, costs, runs, windows
from quant.ablation.command import AblationError, ablate
from quant.ablation.costs import Cost, reckoned
from quant.ablation.results import answer, gains, interval, markdown, picture, rows
from quant.ablation.runs import Run
from quant.ablation.studies import PUBLISHED, STUDIES, Study, variant
from quant.ablation.variants import VARIANTS
from quant.deform import DeformConv2d

SMALL = ModelConfig("mini", (64, 64), "stride4", (8, 16, 24, 32, 40), (1, 1, 1), (24, 16, 16), 16, classes=12)
RECIPE = """
model = "codenet-tiny"
data = "scenes:split=train,seed=1"
held_out = "scenes:split=test,count=2,size=64,seed=0"
calibration = 8
[options]
widths = [8, 12, 20, 28, 36]
repeats = [1, 1, 1]
decoder = [24, 16, 12]
head = 12
[pretrain]
lr = 2e-3
phases = [{ size = 64, images = 8, batch = 4 }]
[float]
lr = 4e-3
phases = [{ size = 64, images = 8, batch = 4 }]
[qat]
lr = 5e-4
phases = [{ size = 64, images = 8, batch = 4 }]
"""


def cost(kind: str = "reckoned") -> Cost:
    return Cost(kind, 1000, 2_000_000, 30_000, 40_000, 5_000, 0.12)


def fake(kinds: dict[str, str] | None = None, study: Study = PUBLISHED) -> dict[str, Cost]:
    return {name: cost((kinds or {}).get(name, "reckoned")) for name in study.names}


def test_every_operator_is_a_network_of_its_own() -> None:
    kinds = {str(build(v.of(SMALL)).decoder) for v in VARIANTS}
    assert len(kinds) == len(VARIANTS) == 11
    assert [v.published for v in VARIANTS] == [
        39.2,
        39.1,
        40.6,
        41.9,
        42.3,
        42.9,
        41.0,
        None,
        41.1,
        None,
        None,
    ]


def estimate_of(steps: dict[str, int]) -> Estimate:
    made = tuple(
        StepCost(i, name, "compute", cycles, {}, 0, 1000, 100, 0, 0, 0.0)
        for i, (name, cycles) in enumerate(steps.items())
    )
    return Estimate("ultra96", 250_000_000, 16, made, 7, 512)


def test_reckoning_by_hand() -> None:
    board, bare = load_board("ultra96"), {f"decoder.{k}.dw + decoder.{k}.pw": 5 for k in range(3)}
    run = {
        "dw3x3": estimate_of({"stem": 100, **bare}),
        "dense3x3": estimate_of(
            {"stem": 100, "decoder.0.conv": 10_000, "decoder.1.conv": 5, "decoder.2.conv": 5}
        ),
        "deform-rounded": estimate_of({f"decoder.{k}.offset": 20 for k in range(3)} | bare),
    }
    start = run["dw3x3"].read_bytes
    # 64x64 input: 2x2, 4x4 and 8x8 pixels of 40, 24 and 16 channels: 3, 2 and 1 words of 16 lanes
    words = (4 * 3, 16 * 2, 64)
    inputs = 40 + 24 + 16
    five = reckoned(variant("dw5x5").of(SMALL), run, board)
    assert five == (107 + sum(3 * w for w in words), start + 16 * inputs, 400)
    square = reckoned(variant("deform-square").of(SMALL), run, board)
    assert square == (107 + 60 + sum(4 * w for w in words), start + 3000 + 84, 400 + 84)
    bounded = reckoned(variant("deform-bounded").of(SMALL), run, board)
    assert bounded == (square[0], square[1] + 17 * 84, square[2] + 17 * 84)
    free = reckoned(variant("deform-free").of(SMALL), run, board)
    assert free[1:] == (bounded[1] + sum(35 * w * 16 for w in words), bounded[2])
    rate = costs.dram(board, 16).bytes_per_cycle
    assert free[0] == 107 + 60 + sum(-(-36 * w * 16 // rate) for w in words) > bounded[0]
    full = reckoned(variant("full-deform").of(SMALL), run, board)
    assert full[0] == run["dense3x3"].cycles + 60 + sum(-(-36 * w * 16 // rate) - 5 for w in words[1:])


def done(root: Path, name: str, seed: int, ap50: float, integer: float | None = None) -> Run:
    run = Run("scenes", variant(name), seed, root / f"{name}-{seed}")
    run.folder.mkdir(parents=True)
    (run.folder / "figures.json").write_text(json.dumps({"float": {"ap50": ap50}, "parameters": 5}))
    if integer is not None:
        (run.folder / "model.json").write_text(json.dumps({"integer": {"ap50": integer}}))
        (run.folder / "model.onnx").write_bytes(b"")
    return run


def test_the_table_says_what_is_missing_and_what_is_kept(tmp_path: Path) -> None:
    every = [
        done(tmp_path, "dw3x3", 0, 0.30), done(tmp_path, "dw3x3", 1, 0.32), done(tmp_path, "deform-free", 0, 0.40),
        done(tmp_path, "deform-rounded", 0, 0.35, integer=0.345), done(tmp_path, "deform-rounded", 1, 0.9),
    ]  # fmt: skip
    table = rows(every, fake({"dw3x3": "estimated"}))
    text = markdown(table, ["scenes"], 2, "mini")
    lines = text.splitlines()
    assert lines[0] == (
        "| operator | published VOC AP | scenes AP50 | against depthwise 3x3 | scenes, integers AP50 "
        "| parameters | MMAC | kcycles | DRAM kB |  |"
    )
    assert "| depthwise 3x3 | 39.1 | 31.0 ± 1.4 |  |  | 1,000 | 2.0 | 30 | 45 | estimated |" in lines
    assert (
        "| depthwise deformable, rounded |  | 62.5 ± 38.9 | +31.5 ± 37.5 | 34.5 (1 of 2) "
        "| 1,000 | 2.0 | 30 | 45 | reckoned |" in lines
    )
    assert "| full deformable |  |  |  |  | 1,000 | 2.0 | 30 | 45 | reckoned |" in lines
    assert "mini; 2 seeds, mean ± standard deviation. A part of the ablation: 5 of 22 networks." in lines
    assert lines[-1] == (
        "- scenes: free deformable windows change AP50 by +10.0, the hardware's by +5.0, with one seed: "
        "whether that is more than chance is not known."
    )
    # Differences of decimal fractions, which floats do not hold.
    assert gains(table, "scenes") == [(pytest.approx(0.1), pytest.approx(0.05))]
    assert answer(table, "bccd") == "- bccd: not all of depthwise 3x3, free and rounded have been trained."
    picture(table, ["scenes"]).savefig(tmp_path / "p.png", dpi=60)
    width, height = Image.open(tmp_path / "p.png").size
    assert width > 300 and height > 200


def test_operators_beside_the_plain_window(tmp_path: Path) -> None:
    study = STUDIES["dynamic"]
    every = [
        done(tmp_path, "dw3x3", 0, 0.30, integer=0.28), done(tmp_path, "dw3x3", 1, 0.32, integer=0.30),
        done(tmp_path, "deform-rounded", 0, 0.35, integer=0.34),
        done(tmp_path, "deform-rounded", 1, 0.30, integer=0.28),
    ]  # fmt: skip
    counted = fake({}, study) | {
        "dw3x3": replace(cost("estimated"), engine=(9000, 8000, 100, 40)),
        "deform-rounded": replace(cost("estimated"), engine=(9500, 8200, 98, 40)),
    }
    table = rows(every, counted, study.variants)
    lines = comparison.markdown(table, ["scenes"], 2, "mini").splitlines()
    assert lines[0] == (
        "| operator | parameters | MMAC | kcycles | DRAM kB | +LUT | +FF | +DSP | +BRAM36 "
        "| scenes AP50, float | integers | against depthwise 3x3 |"
    )
    plain, ours = "| depthwise 3x3 | 1,000 | 2.0 | 30 | 45 |", "| deformable, one dilation a pixel (CoDeNet) "
    assert f"{plain} 9,000 | 8,000 | 100 | 40 | 31.0 ± 1.4 | 29.0 ± 1.4 |  |" in lines
    assert (
        f"{ours}| 1,000 | 2.0 | 30 | 45 | +500 | +200 | -2 | +0 | 32.5 ± 3.5 | 31.0 ± 4.2 | +2.0 ± 5.7 |"
        in lines
    )
    asked = 2 * len(study.variants)
    assert (
        f"mini; 2 seeds, mean ± standard deviation. A part of the comparison: 4 of {asked} networks." in lines
    )
    comparison.picture(table, ["scenes"]).savefig(tmp_path / "p.png", dpi=60)
    width, height = Image.open(tmp_path / "p.png").size
    assert width > 300 and height > 200


def test_studies_share_what_both_have(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only, asked = ("dw3x3",), []

    def counted(_: Any, study: Study) -> dict[str, Cost]:
        asked.append(set(study.names))
        return fake({}, study)

    monkeypatch.setattr(command, "costs", counted)
    ablate(tmp_path, ("first",), only, integers=False)
    trained = (tmp_path / "first" / "dw3x3-0" / "float.safetensors").stat().st_mtime_ns
    text = ablate(tmp_path, ("first",), only, integers=False, study=STUDIES["dynamic"])
    assert (tmp_path / "first" / "dw3x3-0" / "float.safetensors").stat().st_mtime_ns == trained
    assert text == (tmp_path / "dynamic.md").read_text() and "| depthwise 3x3 |" in text
    assert (tmp_path / "ablation.md").is_file() and (tmp_path / "dynamic.png").is_file()
    kept = json.loads((tmp_path / "costs.json").read_text())
    assert asked == [set(STUDIES["published"].names), set(STUDIES["dynamic"].names) - set(PUBLISHED.names)]
    assert kept.keys() == {name for study in STUDIES.values() for name in study.names}


@pytest.mark.parametrize(
    ("free", "end"),
    [
        (
            (0.40, 0.44, 0.42),
            "by +12.0 ± 2.0 (95 %: +7.0 to +17.0), the hardware's by +6.0 ± 1.0 (95 %: +3.5 to +8.5), against free "
            "-6.0 ± 1.0 (95 %: -8.5 to -3.5): 50% of the gain is kept, in the mean.",
        ),
        (
            (0.32, 0.39, 0.40),
            "by +7.0 ± 4.4 (95 %: -3.8 to +17.8), the hardware's by +6.0 ± 1.0 (95 %: +3.5 to +8.5), against free "
            "-1.0 ± 3.6 (95 %: -10.0 to +8.0): no gain of free windows beyond chance, so no share of it.",
        ),
        (
            (0.28, 0.27, 0.29),
            "by -2.0 ± 1.0 (95 %: -4.5 to +0.5), the hardware's by +6.0 ± 1.0 (95 %: +3.5 to +8.5), against free "
            "+8.0 ± 1.7 (95 %: +3.7 to +12.3): no gain of free windows beyond chance, so no share of it.",
        ),
        (
            (0.2, 0.2, 0.2),
            "by -10.0 ± 0.0 (95 %: -10.0 to -10.0), the hardware's by +6.0 ± 1.0 (95 %: +3.5 to +8.5), against free "
            "+16.0 ± 1.0 (95 %: +13.5 to +18.5): free windows lose.",
        ),
    ],
)
def test_a_share_is_given_of_a_gain_beyond_chance(tmp_path: Path, free: tuple[float, ...], end: str) -> None:
    found = {"dw3x3": (0.3, 0.3, 0.3), "deform-free": free, "deform-rounded": (0.35, 0.37, 0.36)}
    every = [done(tmp_path, name, seed, a) for name, values in found.items() for seed, a in enumerate(values)]
    said = answer(rows(every, fake()), "scenes")
    assert said == f"- scenes, pairs of 3 seeds: free deformable windows change AP50 {end}"


def test_intervals_are_students() -> None:
    """As tables of the t distribution have them; more pairs than the table has are given no narrower factor."""
    assert interval([1.0, 3.0]) == (pytest.approx(2 - 12.706), pytest.approx(2 + 12.706))
    many = [0.0, 2.0] * 10
    assert interval(many)[1] - 1 == pytest.approx(2.262 * stdev(many) / 20**0.5)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of a few steps, the second set being other scenes, and costs that cost nothing."""
    (tmp_path / "first.toml").write_text(RECIPE)
    (tmp_path / "second.toml").write_text(RECIPE.replace("split=train,seed=1", "split=train,seed=2"))
    sets = {name: tmp_path / f"{name}.toml" for name in ("first", "second")}
    monkeypatch.setattr(runs, "SETS", sets)
    monkeypatch.setattr(command, "SETS", sets)
    monkeypatch.setattr(command, "costs", lambda config, study: fake({"deform-rounded": "estimated"}, study))


def test_a_killed_ablation_goes_on_and_ends_as_one_that_was_not(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("dw5x5", "deform-free")

    def do(folder: str) -> str:
        return ablate(tmp_path / folder, ("first", "second"), names, 1, integers=False)

    whole = do("whole")
    finished = command.perform
    calls: list[Any] = []

    def killed(run: Run, *rest: Any) -> None:
        calls.append(run)
        if len(calls) == 3:
            raise KeyboardInterrupt
        finished(run, *rest)

    monkeypatch.setattr(command, "perform", killed)
    with pytest.raises(KeyboardInterrupt):
        do("cut")
    part = (tmp_path / "cut" / "ablation.md").read_text()
    assert "2 of 22 networks" in part and "4 of 22 networks" in whole
    first = tmp_path / "cut" / "first" / "dw5x5-0" / "float.safetensors"
    before = first.stat().st_mtime_ns
    monkeypatch.setattr(command, "perform", finished)
    assert do("cut") == whole
    assert first.stat().st_mtime_ns == before
    for name in ("first/dw5x5-0", "second/deform-free-0"):
        a, b = (load_file(tmp_path / f / name / "float.safetensors") for f in ("whole", "cut"))
        assert all(bool((a[k] == b[k]).all()) for k in a), name
    results = json.loads((tmp_path / "cut" / "results.json").read_text())
    assert [(r["data"], r["variant"]) for r in results] == [
        (d, n) for n in names for d in ("first", "second")
    ]
    recipe = json.loads((tmp_path / "cut" / "second" / "deform-free-0" / "recipe.json").read_text())
    assert recipe["start"].endswith("cut/first/deform-free-0") and recipe["options"]["offsets"] == "free"


def test_a_decoder_does_not_begin_as_that_of_the_network_it_begins_with(small: None, tmp_path: Path) -> None:
    """Drawn with the parent's seed, its own operator's decoder would: that one alone would fit the backbone."""
    parent = small_run(tmp_path / "parent", seed=101)
    message = (
        f"ablation: {parent} was trained with seed 101, expected none of the ablation's own, 100 to 101: the "
        "decoder of its operator would begin as its own did, and fit the rest at once. Train it with another."
    )
    with pytest.raises(AblationError) as refused:
        ablate(tmp_path / "a", ("first",), ("dw3x3",), 2, parent)
    assert str(refused.value) == message and not (tmp_path / "a").exists()
    recipes = runs.read_recipes(("first",))
    made = [
        runs.recipe_of(r, recipes, tmp_path)
        for r in runs.runs(tmp_path, recipes, ("dw3x3", "deform-free"), 2)
    ]
    assert [r.seed for r in made] == [100, 100, 101, 101]
    assert [r.data for r in made] == ["scenes:split=train,seed=101"] * 2 + ["scenes:split=train,seed=102"] * 2


@needs_deform_conv
@pytest.mark.slow  # exports: about 20 seconds
def test_what_the_engine_runs_is_measured_as_integers(small: None, tmp_path: Path) -> None:
    recipe = tmp_path / "first.toml"  # of so many steps that there is a log
    recipe.write_text(
        RECIPE.replace(
            "[float]\nlr = 4e-3\nphases = [{ size = 64, images = 8, batch = 4 }]",
            "[float]\nlr = 4e-3\nphases = [{ size = 64, images = 100, batch = 2 }]",
        )
    )
    text = ablate(tmp_path / "a", ("first",), ("deform-rounded",))
    found = json.loads((tmp_path / "a" / "results.json").read_text())
    assert found[0].keys() == {"data", "variant", "seed", "float", "integer"}
    assert "first, integers AP50" in text


@needs_deform_conv
@pytest.mark.slow  # exports of half a dozen networks: about 40 seconds
def test_costs_of_a_small_network() -> None:
    found = costs.costs(replace(SMALL, size=(64, 64)))
    assert {found[n].kind for n in ("dense3x3", "dw3x3", "deform-rounded")} == {"estimated"}
    assert {found[n].kind for n in ("deform-free", "deform-square", "full-deform")} == {"reckoned"}
    assert found["dense3x3"].macs > found["dw9x9"].macs > found["dw3x3"].macs
    assert found["deform-free"].read_bytes > found["deform-bounded"].read_bytes > found["dw3x3"].read_bytes
    assert found["deform-rounded"].cycles >= found["dw3x3"].cycles


@needs_deform_conv
@pytest.mark.parametrize("name", ["deform-modulated", "dcnv4"])
def test_costs_are_of_windows_that_move(name: str) -> None:
    """Offsets begin at zero; a file of such a network says that its windows stand still, and is planned so."""
    config = variant(name).of(replace(SMALL, size=(64, 64)))
    _, engine = costs.engine_estimate(config, load_board("ultra96"))
    assert engine.sampler > 0 and not engine.sampler_shapes


def test_windows_that_moved(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: one pixel of four whose tap is 0.6 away; a square rests at 1, a rounded one is moved by 2 or 0."""
    free, square = DeformConv2d(4, 4, 4, offsets="free", sampling="bilinear"), DeformConv2d(4, 4, 4)
    raw = torch.zeros(1, 18, 2, 2)
    raw[0, 7, 1, 0], raw[0, 3, 0, 0] = -0.6, 0.4
    assert windows.moved_share(free, raw) == 0.25
    assert windows.moved_share(square, torch.tensor([[[[1.4, 1.6], [0.4, 9.0]]]])) == 0.75
    model = build(SMALL).eval()
    with torch.no_grad():
        model.decoder[1].offset.bias.fill_(3.0)
    image = torch.zeros(64, 64, 3, dtype=torch.uint8)
    assert windows.moved(model, [image, image]) == {
        "decoder.0.dw": 0.0, "decoder.1.dw": 1.0, "decoder.2.dw": 0.0
    }  # fmt: skip
    run = small_run(tmp_path / "run", seed=0)
    assert windows.main([str(run)]) == 0
    assert capsys.readouterr().out.startswith(f"{run}: decoder.0.dw 0.0%, decoder.1.dw 0.0%, ")
    assert windows.main([str(tmp_path / "none")]) == 2 and "holds no run" in capsys.readouterr().err


def test_what_is_not_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AblationError, match="^ablation: dw11x11 is unknown, expected dense3x3, dw3x3"):
        ablate(tmp_path, variants=("dw11x11",))
    with pytest.raises(SystemExit) as ended:
        cli.main(["ablate", "-o", str(tmp_path / "x"), "--data", "voc"])
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err == "error: ablation: voc is no data of it, expected scenes, bccd. Name one.\n"
    )
    assert not (tmp_path / "x").exists()
