"""The command line: help, exit codes, and every error once with its whole message."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codesign import cli, cli_common, shipped
from tests.kernels import needs_deform_conv
from tests.mini import CLASSES, MINI, bundle_of_mini

Run = Callable[..., "Ended"]
VERBS = (
    "zoo",
    "train",
    "quantize",
    "export",
    "inspect",
    "build",
    "estimate",
    "synth",
    "report",
    "bundle",
    "deploy",
    "bench",
    "csim",
    "verify",
    "compare",
    "detect",
    "eval",
    "cascade",
    "demo",
)


class Ended:
    """How a verb ended: exit code, stdout, stderr."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def error(self, **names: object) -> str:
        """The one error message; `names` are paths to write short."""
        assert self.code == 2, (self.code, self.out, self.err)
        text = self.err
        for short, path in names.items():
            text = text.replace(str(path), short)
        assert text.count("error: ") == 1, text
        return text.partition("error: ")[2].rstrip("\n")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Ended:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of_mini(tmp_path_factory.mktemp("cli") / "bundle")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (90, 120, 3)).astype(np.uint8)).save(path)
    return path


def voc(root: Path) -> Path:
    """A VOC directory of three noise pictures with boxes of the model's classes."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    random = np.random.default_rng(1)
    for i in range(3):
        Image.fromarray(random.integers(0, 256, (64, 96, 3)).astype(np.uint8)).save(
            root / f"JPEGImages/{i}.png"
        )
        box = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>40</xmax><ymax>40</ymax></bndbox>"
        item = f"<object><name>{CLASSES[i]}</name>{box}</object>"
        (root / f"Annotations/{i}.xml").write_text(f"<annotation>{item}</annotation>")
    (root / "ImageSets/Main/test.txt").write_text("0\n1\n2\n")
    return root


def test_every_verb_explains_itself_with_an_example(run: Run) -> None:
    overview = run("--help")
    assert overview.code == 0
    for verb in VERBS:
        assert verb in overview.out
        ended = run(verb, "--help")
        assert ended.code == 0
        assert f"Example:  codesign {verb}" in ended.out


def test_version(run: Run) -> None:
    assert run("--version").out == "codesign 0.1.0\n"


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["build", MINI], ["eval", MINI, "--data", "x", "--rung", "y"]]
)
def test_wrong_usage_ends_with_two(run: Run, arguments: list[object]) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "Usage: codesign" in ended.err


def test_zoo_lists_models_with_their_cards(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "ZOO", tmp_path)
    (tmp_path / "mini.onnx").write_bytes(MINI.read_bytes())
    card = {"data": "scenes:split=train", "float": {"ap50": 0.5}, "integer": {"ap50": 0.48}}
    (tmp_path / "mini.json").write_text(json.dumps(card))
    shown = run("zoo")
    assert shown.code == 0
    row = next(line for line in shown.out.splitlines() if "mini" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][:-1] == [
        "mini", "scenes:split=train", "96x64", "0.500", "-", "0.480",
    ]  # fmt: skip
    (entry,) = json.loads(run("zoo", "--json").out)
    assert entry == {"name": "mini", "path": str(tmp_path / "mini.onnx"), **card}


def test_inspect_lists_layers_and_counts(run: Run) -> None:
    shown = run("inspect", MINI)
    assert shown.code == 0
    assert "stem.conv.conv" in shown.out
    assert "DeformDwConv 3x3 d<=7" in shown.out
    assert "parameters. Everything runs in the accelerator, nothing is refused." in shown.out
    layers = json.loads(run("inspect", MINI, "--json").out)
    stem = layers[0]
    assert (stem["name"], stem["op"], stem["shape"]) == ("stem.conv.conv", "Conv 3x3/4", [16, 24, 8])
    assert (stem["macs"], stem["parameters"], stem["runs_in"]) == (16 * 24 * 8 * 27, 8 * 27 + 8, "step 0")
    assert {la["runs_in"] for la in layers if la["op"].startswith(("Concat", "Shuffle", "Slice"))} == {
        "addresses"
    }


def test_inspect_and_build_refuse_a_model_that_cannot_be_compiled(run: Run, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(MINI)
    first = next(node for node in model.graph.node if node.op_type == "Resize")
    next(a for a in first.attribute if a.name == "mode").s = b"linear"
    onnx.save(model, tmp_path / "bad.onnx")
    expected = (
        "M: 1 part cannot be compiled.\n"
        "  Resize 'decoder.0.resize': has mode linear, expected nearest. Upsample with mode nearest."
    )
    assert run("inspect", tmp_path / "bad.onnx").error(M=tmp_path / "bad.onnx") == expected
    assert (
        run("build", tmp_path / "bad.onnx", "-o", tmp_path / "out").error(M=tmp_path / "bad.onnx") == expected
    )
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "ZOO", tmp_path)
    (tmp_path / "codenet-tiny.onnx").write_bytes(MINI.read_bytes())
    assert run("build", "codenet-tinny", "-o", tmp_path / "b").error() == (
        "codenet-tinny: no such file, expected a model.onnx, a bundle or a shipped model (codenet-tiny). "
        "Did you mean codenet-tiny? Check the path."
    )
    assert run("inspect", tmp_path).error(D=tmp_path) == (
        "D: is a directory without manifest.json, expected a model.onnx, a bundle or a shipped model (codenet-tiny). "
        "Check the path."
    )


def test_an_unknown_board(run: Run, tmp_path: Path) -> None:
    text = run("build", MINI, "--board", "ultra69", "-o", tmp_path / "b").error()
    assert text.startswith("board 'ultra69': not known, expected one of ")
    assert "Did you mean ultra96" in text


def test_build_reports_and_writes_a_bundle(run: Run, tmp_path: Path) -> None:
    shown = run("build", MINI, "--board", "pynq-z2", "--lanes", "4", "-o", tmp_path / "b", "--json")
    facts = json.loads(shown.out)
    assert (shown.code, facts["board"], facts["lanes"]) == (0, "pynq-z2", 4)
    assert {p.name for p in (tmp_path / "b").iterdir()} >= {
        "manifest.json",
        "model.onnx",
        "program.bin",
        "hls",
    }


def test_a_full_disk_leaves_the_earlier_bundle(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = bundle_of_mini(tmp_path / "b")
    before = {p: p.read_bytes() for p in sorted(target.rglob("*")) if p.is_file()}

    def full(*_: object, **__: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "b"))

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(Path, "write_text", full)
    text = run("build", MINI, "-o", target, "--lanes", "4").error(B=target)
    assert "No space left on device" in text
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in sorted(target.rglob("*")) if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_ctrl_c_in_mid_build_leaves_the_earlier_bundle(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = bundle_of_mini(tmp_path / "b")
    before = {p: p.read_bytes() for p in sorted(target.rglob("*")) if p.is_file()}

    def interrupt(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupt)
    ended = run("build", MINI, "-o", target, "--lanes", "4")
    assert (ended.code, ended.out, ended.err) == (130, "", "Interrupted. Earlier results are as they were.\n")
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in sorted(target.rglob("*")) if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    from codesign.errors import ModelError

    with pytest.raises(ModelError):
        cli.main(["inspect", str(tmp_path / "no.onnx"), "--debug"])
    assert cli_common.debug


def test_torch_verbs_say_which_extra_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: None if name in ("torch", "brevitas") else find(name, *a),
    )
    for arguments in (("train", "codenet-tiny", "-o", "x"), ("quantize", "x"), ("export", "x")):
        assert run(*arguments).error() == (
            f"codesign {arguments[0]}: torch and brevitas not installed; only the base is. "
            "Install the extra: pip install 'codesign-fpga[quant]' (in a clone: pip install -e '.[quant]')."
        )
    assert (
        run("eval", "x", "--data", "scenes:", "--rung", "float")
        .error()
        .startswith("codesign eval --rung float: ")
    )


def test_csim_gives_equal_digests_with_both_kinds_of_types(
    run: Run, bundle: Path, picture: Path, tmp_path: Path
) -> None:
    def digests(kind: str) -> dict[str, str]:
        shown = run("csim", bundle, "--images", picture, "--kind", kind, "--json", "-o", tmp_path / kind)
        assert shown.code == 0, shown.err
        return {r["output"]: r["sha256"] for r in json.loads(shown.out)}

    native = digests("native")
    assert set(native) == {"hm", "wh", "reg"}
    assert native == digests("ap")
    maps = np.load(tmp_path / "native" / "noise.npz")
    assert maps["hm"].shape == (16, 24, 3)
    shown = run("csim", bundle, "--images", picture, picture)
    assert shown.out.count(native["hm"]) == 2
    assert run("csim", bundle).error() == (
        "codesign csim: no picture given, expected at least one. Add --images photo.jpg."
    )


def test_verify_prints_the_ladder(run: Run, bundle: Path) -> None:
    shown = run("verify", bundle)
    assert shown.code == 0, shown.out + shown.err
    for text in (
        "torch float",
        "quoted",
        "model.onnx in onnxruntime",
        "C++, ap_int types",
        "no Vivado",
        "no board",
    ):
        assert text in shown.out
    rungs = json.loads(run("verify", bundle, "--json").out)
    assert [r["number"] for r in rungs] == [0, 1, 2, 3, 4, 5, 5, 6, 7]
    assert sum(r["different"] for r in rungs) == 0


def test_verify_plans_for_other_lanes(run: Run, bundle: Path) -> None:
    rungs = json.loads(run("verify", bundle, "--json", "--lanes", "4, 1,4").out)
    names = [r["name"] for r in rungs if r["number"] == 5 and r["status"] == "ok"]
    assert names[2:] == ["C++, native types, 4 lanes", "C++, native types, 1 lane"]
    assert run("verify", bundle, "--lanes", "2,3,x").error() == (
        "--lanes: '3', 'x', expected numbers out of 1, 2, 4, 8, 16. Separate them by commas."
    )


def test_detect_draws_and_writes_coco_results(run: Run, bundle: Path, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "sub" / "noise.png"
    other.parent.mkdir()
    other.write_bytes(picture.read_bytes())
    out = tmp_path / "out"
    shown = run("detect", bundle, picture, other, "-o", out, "--score", "0", "--json")
    assert shown.code == 0, shown.err
    assert sorted(p.name for p in out.iterdir()) == ["detections.json", "noise-2.png", "noise.png"]
    results = json.loads((out / "detections.json").read_text())
    assert json.loads(shown.out) == results
    first = [r for r in results if r["image_id"] == "noise"]
    assert first
    assert [{**r, "image_id": "noise"} for r in results if r["image_id"] == "noise-2"] == first
    for entry in first:
        x, y, w, h = entry["bbox"]
        assert 0 <= x <= x + w <= 120.01  # rounded to hundredths
        assert 0 <= y <= y + h <= 90.01
        assert entry["category"] == CLASSES[entry["category_id"] - 1]
    assert "noise" in run("detect", bundle, picture, "-o", out).out


def test_detect_names_every_bad_picture_at_once(
    run: Run, bundle: Path, picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    ended = run(
        "detect", bundle, tmp_path / "none.jpg", picture, tmp_path / "text.png", "-o", tmp_path / "out"
    )
    assert ended.error(D=tmp_path) == (
        "D/none.jpg: no such file, expected a picture. Check the path.\n"
        "  D/text.png: is not a picture that Pillow can read, expected JPEG, PNG or the like. Convert it first."
    )
    assert not (tmp_path / "out").exists()


def test_verbs_on_a_bundle_that_is_not_there(run: Run, picture: Path, tmp_path: Path) -> None:
    for arguments in (["verify"], ["detect"], ["csim"]):
        extra = {"detect": [picture, "-o", tmp_path / "o"], "csim": ["-i", picture]}.get(arguments[0], [])
        text = run(*arguments, tmp_path / "nothing", *extra).error(D=tmp_path)
        assert text.startswith("D/nothing")


@needs_deform_conv
def test_eval_gives_the_same_figures_on_every_rung(run: Run, bundle: Path, tmp_path: Path) -> None:
    spec = f"voc:{voc(tmp_path / 'voc')}:test"
    shown = run("eval", bundle, "--data", spec, "--json", "-o", tmp_path / "all.json")
    assert shown.code == 0, shown.err
    every = json.loads(shown.out)
    assert (every["model"], every["data"], every["few_objects"]) == (str(bundle), spec, 20)
    assert every["sizes"] == {"small": [0, 1024], "medium": [1024, 9216], "large": [9216, 10**10]}
    *quoted, onnx, integer, csim = every["rungs"]
    assert [(c["rung"], c["from"], c["ap50"]) for c in quoted] == [
        ("float", "card", 0.5), ("fake-quant", "card", 0.48),
    ]  # fmt: skip
    assert [c.pop("rung") for c in (onnx, integer, csim)] == ["onnx", "integer", "csim"]
    assert onnx == integer == csim
    assert (csim["from"], csim["images"]) == ("run", 3)
    assert [c["name"] for c in csim["per_class"]] == sorted(CLASSES)
    assert [(s["size"], s["objects"]) for s in csim["sizes"]] == [("small", 0), ("medium", 3), ("large", 0)]
    found = json.loads((tmp_path / "all.json").read_text())
    assert found
    for rung, what in (("onnx", MINI), ("integer", MINI), ("csim", bundle)):
        alone = run("eval", what, "--data", spec, "--rung", rung, "--json", "-o", tmp_path / "one.json")
        assert json.loads(alone.out)["rungs"][2:] == [{"rung": rung, **csim}]
        assert json.loads((tmp_path / "one.json").read_text()) == found


def test_eval_prints_a_table_and_obeys_the_limit(run: Run, tmp_path: Path) -> None:
    spec = f"voc:{voc(tmp_path / 'voc')}:test"
    shown = run("eval", MINI, "--data", spec, "--limit", "2", "--rung", "integer", "--rung", "integer")
    assert shown.code == 0
    assert "2 pictures" in shown.out
    first, second = shown.out.split("By class, ")
    rows = {
        r[0]: r[1:] for r in ([c.strip() for c in line.split("│")[1:-1]] for line in first.splitlines()) if r
    }
    assert rows["AP50"][:3] == ["", "0.500", "0.480"]
    assert rows["COCO AP medium"][:3] == ["2*", "-", "-"]  # a card has no figures by size
    assert "float (card) ┃ fake-quant (card) ┃ integer ┃" in first
    assert second.startswith("integer ")
    assert "AP50 VOC07" in second
    assert "bar" not in second  # the third picture's class
    assert "(card): quoted from the model's card, on scenes:count=3." in shown.err
    assert "* marks fewer than 20 objects" in shown.err


def test_eval_says_why_a_rung_is_not_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    def old(*_: object, **__: object) -> Any:
        raise RuntimeError("no kernel for DeformConv")

    monkeypatch.setattr(onnxruntime, "InferenceSession", old)
    spec = f"voc:{voc(tmp_path / 'voc')}:test"
    shown = run("eval", MINI, "--data", spec)
    assert shown.code == 0
    assert "integer ┃" in shown.out and "onnx ┃" not in shown.out
    assert "onnx: not run. " in shown.err and "(no kernel for DeformConv)" in shown.err
    assert "(no kernel for DeformConv)" in run("eval", MINI, "--data", spec, "--rung", "onnx").error()


def test_eval_says_what_is_wrong_with_the_data(run: Run, tmp_path: Path) -> None:
    assert run("eval", MINI, "--data", "voc:nowhere:test").error() == (
        "nowhere: no such directory, expected a Pascal VOC directory. Check the path."
    )
    other = voc(tmp_path / "voc")
    for path in (other / "Annotations").iterdir():
        path.write_text(path.read_text().replace("<name>", "<name>other-"))
    assert run("eval", MINI, "--data", f"voc:{other}:test").error(D=tmp_path) == (
        "voc:D/voc:test: has the classes other-bar, other-disc, other-ring, but the model detects disc, ring, bar. "
        "Use a model that was trained on these classes."
    )


def test_demo_does_all_of_it(
    run: Run, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = tmp_path / "zoo"
    (zoo / "samples").mkdir(parents=True)
    (zoo / "mini.onnx").write_bytes(MINI.read_bytes())
    (zoo / "samples" / "noise.png").write_bytes(picture.read_bytes())
    monkeypatch.setattr(shipped, "ZOO", zoo)
    shown = run("demo", "-o", tmp_path / "demo", "--model", "mini", "--score", "0.1")
    assert shown.code == 0, shown.out + shown.err
    assert "C++, native types" in shown.out
    assert Image.open(tmp_path / "demo" / "detections.png").size[1] == 480
    results = json.loads((tmp_path / "demo" / "detections.json").read_text())
    assert {r["image_id"] for r in results} == {"noise"}
