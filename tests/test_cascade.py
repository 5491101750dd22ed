"""Several networks on one engine, and what it costs and finds to ask the cheaper one first."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign import cli
from codesign.board import load_board
from codesign.bundle import Bundle, load
from codesign.cascade import answered_by, doubt
from codesign.cascade_figures import Seen, outcome
from codesign.cli_compile import build_bundle
from codesign.csim import Engine
from codesign.decode import Detections
from codesign.digest import design_digest
from codesign.errors import BundleError, PlanError
from codesign.estimate import estimate
from codesign.ir import evaluate
from codesign.metrics import Objects, score
from codesign.onnx_io import import_model
from codesign.plan import plan
from codesign.rungs import csim_runner, integer_runner, simulator_of
from codesign.shared_engine import holding
from codesign.transport import check
from tests.board.bundles import synthesised
from tests.mini import MINI
from tests.models import random_codenet_graph, random_feeds
from tests.onnx_models import to_onnx
from tests.test_cli import voc

NARROW: dict[str, Any] = {
    "size": 32, "widths": (4, 6, 8, 10, 12), "repeats": (1, 0, 0), "decoder": (8, 6, 6), "head": 4, "max_offset": 3
}  # fmt: skip
WIDE: dict[str, Any] = {"size": 32, "widths": (40, 48, 64, 80, 96), "decoder": (64, 48, 40), "max_offset": 8}


def detector(path: Path, seed: int = 0, **shape: Any) -> Path:
    """A file of random weights that says of itself what tests/data/mini.onnx says."""
    meta = {e.key: e.value for e in onnx.load(MINI).metadata_props if e.key == "codesign.detector"}
    onnx.save(to_onnx(replace(random_codenet_graph(seed, **shape), meta=meta)), path)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles `mini` with an engine that is large enough for `narrow`, and `narrow` on that engine."""
    folder = tmp_path_factory.mktemp("cascade")
    narrow = detector(folder / "narrow.onnx", **NARROW)
    build_bundle(str(MINI), folder / "mini", "ultra96", 4, (1, 1), also=[str(narrow)])
    build_bundle(str(narrow), folder / "narrow", "ultra96", engine=folder / "mini")
    return folder


def test_one_engine_runs_both_in_turns(place: Path) -> None:
    """Both programs on the very same compiled design, frame by frame, each equal to its graph."""
    bundles = [load(place / name) for name in ("mini", "narrow")]
    manifests = [json.loads((b.directory / "manifest.json").read_text()) for b in bundles]
    assert design_digest(manifests[0]) == design_digest(manifests[1]), "one bitstream"
    engine = Engine(bundles[0].hls)
    simulators = [simulator_of(bundle, engine) for bundle in bundles]
    for seed in (1, 2):
        for bundle, simulator in zip(bundles, simulators, strict=True):
            graph = import_model(bundle.model)
            feeds = random_feeds(graph, seed)
            for name, maps in evaluate(graph, feeds).items():
                np.testing.assert_array_equal(simulator.run(feeds)[name], maps)


def test_the_engine_grows_by_what_others_need_and_no_more() -> None:
    narrow, wide = random_codenet_graph(0, **NARROW), random_codenet_graph(1, **WIDE)
    board = load_board("ultra96")
    small = plan(narrow, 8).config
    with pytest.raises(PlanError, match="needs kMaxOffset = 8, the engine has 3"):
        plan(wide, config=small)
    both = holding(small, {"wide": wide}, board)
    assert both.max_offset == 8 and plan(wide, config=both) and plan(narrow, config=both)
    assert holding(both, {"narrow": narrow, "wide": wide}, board) == both
    assert (both.lanes, both.arrays, both.pixels, both.turns) == (
        small.lanes, small.arrays, small.pixels, small.turns
    )  # fmt: skip


def test_an_engine_that_is_too_small_says_what_for(place: Path, tmp_path: Path) -> None:
    wide = detector(tmp_path / "wide.onnx", **WIDE)
    with pytest.raises(PlanError, match="needs kMaxOffset = 8, the engine has 7") as caught:
        build_bundle(str(wide), tmp_path / "wide", "ultra96", engine=place / "mini")
    assert str(caught.value).endswith(f"\nOr build {place / 'mini'} again with --also and this model.")
    assert not (tmp_path / "wide").exists()


def test_a_board_that_is_too_small_says_by_what() -> None:
    wide = random_codenet_graph(1, **WIDE)
    board = replace(load_board("pynq-z2"), bram36=10)
    config = plan(random_codenet_graph(0, **NARROW), 16).config
    with pytest.raises(PlanError, match="wide: the engine with what they need, too, is too large") as caught:
        holding(config, {"wide": wide}, board)
    assert "BRAM36 of 10" in str(caught.value)


def test_an_engine_of_another_version_is_none(place: Path, tmp_path: Path) -> None:
    build_bundle(str(MINI), tmp_path / "old", "ultra96", 4, (1, 1))
    manifest = json.loads((tmp_path / "old" / "manifest.json").read_text())
    header = tmp_path / "old" / "hls" / "window.hpp"
    header.write_text(header.read_text() + "// of before\n")
    manifest["files"]["hls/window.hpp"] = hashlib.sha256(header.read_bytes()).hexdigest()
    (tmp_path / "old" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError) as caught:
        build_bundle(str(MINI), tmp_path / "new", "ultra96", engine=tmp_path / "old")
    assert str(caught.value) == (
        f"{tmp_path / 'old'}: its window.hpp is of another version of codesign, which one bitstream cannot be. "
        "Build it again."
    )


def test_a_bitstream_comes_along(place: Path, tmp_path: Path) -> None:
    engine = synthesised(Path(shutil.copytree(place / "mini", tmp_path / "mini")))
    build_bundle(str(place / "narrow.onnx"), tmp_path / "other", "ultra96", engine=engine)
    assert check(tmp_path / "other").synthesis == check(tmp_path / "mini").synthesis


def answers(*best: float) -> tuple[Detections, ...]:
    def one(value: float) -> Detections:
        boxes = np.array([[0, 0, 10, 5 + 5 * value]], np.float32)
        return Detections(boxes, np.zeros(1, np.int64), np.array([value], np.float32))

    return tuple(one(value) if value else Detections() for value in best)


def test_doubt() -> None:
    scores = np.array([0.875, 0.5, 0.125, 0.0625], np.float32)
    found = Detections(np.zeros((4, 4), np.float32), np.zeros(4, np.int64), scores)
    assert doubt(found) == 0.875 * 0.125 + 0.25 + 0.125 * 0.875
    assert doubt(Detections()) == 0


SCORES = st.sampled_from([0, 0.0625, 0.125, 0.25, 0.5, 0.75, 1])


@given(st.lists(SCORES, min_size=1, max_size=4), st.sampled_from([0, 0.1, 0.1875, 0.25]))
def test_the_first_that_is_sure_answers(best: list[float], most: float) -> None:
    doubts = [value * (1 - value) if value >= 0.1 else 0 for value in best]
    sure = [i for i, value in enumerate(doubts[:-1]) if value <= most]
    assert answered_by(answers(*best), most) == (sure[0] if sure else len(best) - 1)


def test_figures_of_a_threshold() -> None:
    truth = Objects(np.array([[0, 0, 10, 10]], np.float32), np.zeros(1, np.int64), np.zeros(1, bool))
    pictures = [
        Seen(truth, answers(a, b, c)) for a, b, c in ((0.9, 0.9, 0.9), (0.4, 0.8, 0.9), (0.5, 0.5, 0))
    ]
    found = outcome(pictures, [1, 2, 4], 0.2, ["thing"])
    assert found.shares == (1 / 3, 1 / 3, 1 / 3)
    assert (found.least, found.mean, found.most) == (1, (1 + 3 + 7) / 3, 7)
    taken = [pictures[0].found[0], pictures[1].found[1], pictures[2].found[2]]
    assert str(found.scores) == str(score([truth] * 3, taken, ["thing"])), "of the answers that are taken"
    assert found.scores.ap50 > 0.5


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, " ".join(captured.err.split())


def seconds_of(bundle: Bundle) -> float:
    return estimate(bundle.program, bundle.config, load_board(bundle.board)).seconds


def test_verb(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = f"voc:{voc(tmp_path / 'voc')}:test"
    arguments = ("cascade", place / "mini", place / "narrow", "--data", data)
    code, out, _ = run(capsys, *arguments, "--doubt", "1e9", "--doubt", "0", "--json")
    report = json.loads(out)
    assert code == 0 and report["kind"] == "estimated"
    cheap, dear = (load(place / name) for name in ("narrow", "mini"))
    assert [n["bundle"] for n in report["networks"]] == [str(cheap.directory), str(dear.directory)], (
        "cheapest first"
    )
    low, high = seconds_of(cheap), seconds_of(dear)
    assert low < high
    none, every = report["thresholds"]
    assert (none["settled"], every["settled"]) == ([0, 1], [1, 0])
    for times in none["milliseconds"].values():
        assert times == pytest.approx(1e3 * (low + high), rel=1e-12)  # a sum in another order
    for times in every["milliseconds"].values():
        assert times == pytest.approx(1e3 * low, rel=1e-12)
    assert [t["coco_ap"] for t in (every, none)] == [n["coco_ap"] for n in report["networks"]]
    code, again, _ = run(capsys, *arguments, "--rung", "csim", "--doubt", "1e9", "--doubt", "0", "--json")
    assert code == 0 and json.loads(again) == report, "the C++ finds the same"
    code, out, err = run(capsys, *arguments)
    assert code == 0 and "narrow alone" in out and "Latency is estimated, of the engine alone" in err


def test_what_the_verb_refuses(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_bundle(str(MINI), tmp_path / "other", "ultra96", 8, (1, 1))
    data = ("--data", "scenes:count=1,size=64")
    code, _, err = run(capsys, "cascade", place / "mini", tmp_path / "other", *data)
    assert (code, err) == (
        2,
        f"error: {tmp_path / 'other'}: has another engine than {place / 'mini'}, expected the same. "
        f"Build it with --engine {place / 'mini'}.",
    )
    code, _, err = run(capsys, "cascade", place / "mini", *data)
    assert code == 2 and err.endswith("one bundle, expected two or more. Name the dearer networks, too.")
    code, _, err = run(capsys, "cascade", place / "mini", place / "narrow", *data, "--rung", "float")
    assert code == 2 and err.endswith("--rung is float, expected integer or csim. Choose one of them.")
    code, _, err = run(
        capsys, "build", MINI, "-o", tmp_path / "x", "--engine", place / "mini", "--lanes", "4"
    )
    assert (code, err) == (
        2, "error: --engine: leaves nothing to --lanes, --array and --also. Leave them out."
    )  # fmt: skip


def test_csim_of_a_shared_engine_detects_as_the_integers(place: Path) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    bundle = load(place / "narrow")
    found, wanted = csim_runner(bundle).detect(picture), integer_runner(bundle.model).detect(picture)
    np.testing.assert_array_equal(found.boxes, wanted.boxes)
    np.testing.assert_array_equal(found.scores, wanted.scores)
