"""The board side, run by the real pynq package in an environment of its own (.venv-pynq), on a device in software.

`make .venv-pynq/.made` creates that environment, as `make test` does. CODESIGN_PYNQ names another Python with pynq and
pytest: 3.0.1 (with Python 3.10 and numpy 1.21, as its images have them), 3.1.2 and 4.0.0 were tried.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from codesign import cli, compiled
from codesign.board_wheel import FILE, files, wheel
from codesign.bundle import load
from codesign.cli_compile import build_bundle
from codesign.decode import Detections
from codesign.deploy import pack, pictures_file
from codesign.images import letterbox, read_image
from codesign.rungs import csim_runner
from codesign.shipped import samples
from quant.data import Sample
from tests.board.bundles import synthesised
from tests.mini import CLASSES, MINI, bundle_of_mini
from tests.vendor.launch import install

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "tests" / "board"
PYTHON = Path(os.environ.get("CODESIGN_PYNQ", ROOT / ".venv-pynq" / "bin" / "python"))
WAYS = HERE / "on_pynq" / "check_ways.py"
CHECKS = sorted(path for path in (HERE / "on_pynq").glob("check_*.py") if path != WAYS)
SIZES = ((64, 96), (120, 90), (33, 200), (480, 640))

needs_pynq = pytest.mark.skipif(
    not PYTHON.is_file(),
    reason="no pynq here: `make .venv-pynq/.made`, or point CODESIGN_PYNQ at a Python that has it",
)


def picture(height: int, width: int) -> np.ndarray:
    """Blobs, which the small model's random weights take for many things."""
    random = np.random.default_rng(height)
    coarse = random.integers(0, 256, (-(-height // 8), -(-width // 8), 3)).astype(np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]


def plain(found: Detections) -> dict[str, Any]:
    return {"boxes": found.boxes.tolist(), "labels": found.labels.tolist(), "scores": found.scores.tolist()}


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthesised bundle `mini`, the packed `mini.codesign`, and what the host finds, in `expected`."""
    folder = tmp_path_factory.mktemp("board")
    mini = prepare(synthesised(bundle_of_mini(folder / "mini")))
    doubting(folder / "doubting.onnx")
    build_bundle(str(folder / "doubting.onnx"), folder / "doubting", "ultra96", engine=folder / "mini")
    runner = csim_runner(load(folder / "doubting"))
    found = [runner.detect(picture(*size)) for size in SIZES]
    (folder / "expected" / "doubted.json").write_text(json.dumps([plain(f) for f in found]))
    return mini


def doubting(path: Path) -> None:
    """The small model with a lower bias of the heat map: all scores are lower."""
    model = onnx.load(MINI)
    (bias,) = (t for t in model.graph.initializer if t.name == "hm.2.conv.bias")
    values = numpy_helper.to_array(bias)
    bias.CopyFrom(numpy_helper.from_array(values - np.float32(1), bias.name))
    onnx.save(model, path)


def prepare(directory: Path) -> Path:
    """Pack a bundle, and write what the host finds on some pictures, beside it. Returns its folder."""
    folder = directory.parent
    pictures = [picture(*size) for size in SIZES]
    pack(directory, folder / "mini.codesign", pictures[:2])
    runner = csim_runner(load(directory))
    found = [runner.detect(p) for p in pictures]
    expected = folder / "expected"
    expected.mkdir()
    np.savez(expected / "pictures.npz", **{f"p{i}": p for i, p in enumerate(pictures)})
    (expected / "found.json").write_text(json.dumps([plain(f) for f in found]))
    label(directory, pictures, found, expected)
    return folder


def label(directory: Path, pictures: list[np.ndarray], found: list[Detections], expected: Path) -> None:
    """A data set whose truth is some of what is found, moved a little, and its accuracy as the host computes it."""
    from codesign.accuracy import evaluate_detector

    samples = []
    for i, (image, seen) in enumerate(zip(pictures, found, strict=True)):
        boxes = (seen.boxes[:9] + np.float32(1 + i)).astype(np.float32)
        samples.append(Sample(image, boxes, seen.labels[:9], np.arange(9) == 4, i, Path(f"{i}.png")))
    (expected / "labelled.npz").write_bytes(pictures_file(load(directory), samples, CLASSES, "made"))
    scores = evaluate_detector(csim_runner(load(directory)).detect, CLASSES, samples, CLASSES).scores
    figures = {"data": "made", "images": len(samples), "ap50": scores.ap50, "ap50_voc07": scores.ap50_voc07}
    (expected / "accuracy.json").write_text(json.dumps(figures))


def environment(place: Path, *paths: Path) -> dict[str, str]:
    """Variables of a process that is a board: nothing of this environment but what it needs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(str(p) for p in (*paths, HERE)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "CODESIGN_SOFT_ENGINE": str(compiled.build(place / "mini" / "hls", "native")),
        "CODESIGN_TEST_BUNDLE": str(place / "mini"),
        "CODESIGN_TEST_DOUBTING": str(place / "doubting"),
        "CODESIGN_TEST_PACKED": str(place / "mini.codesign"),
        "CODESIGN_TEST_EXPECTED": str(place / "expected"),
    }


def run_checks(path: Path, place: Path) -> None:
    """Every check of a file, in the environment of pynq; none is skipped there."""
    ini = HERE / "on_pynq" / "pytest.ini"
    command = [str(PYTHON), "-m", "pytest", "-q", "-c", str(ini), "--rootdir", str(HERE / "on_pynq")]
    done = subprocess.run(
        [*command, str(path)], env=environment(place, ROOT), cwd=place, capture_output=True, text=True, timeout=900
    )  # fmt: skip
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in last, done.stdout
    assert "skipped" not in last or "PYNQ 4 dropped Zynq-7000" in done.stdout, done.stdout


@needs_pynq
@pytest.mark.parametrize("path", CHECKS, ids=lambda path: path.stem.removeprefix("check_"))
def test_under_pynq(path: Path, place: Path) -> None:
    run_checks(path, place)


@needs_pynq
@pytest.mark.slow  # compiles an engine of its own
def test_ways_are_chosen_on_the_board(tmp_path: Path) -> None:
    """A network of three widths: each frame's own, and each of them chosen by the driver, as C simulation has them."""
    pytest.importorskip("brevitas", reason="needs the extra [quant]")
    from codesign.csim import Engine
    from codesign.rungs import simulator_of
    from codesign.switch import branches, place
    from quant.evaluate import detector_meta
    from quant.export import to_onnx
    from tests.quant.test_ways import KINDS, case

    twin, config = case("nested")[0], KINDS["nested"]
    onnx.save(to_onnx(twin, config.size, detector_meta(config, CLASSES)), tmp_path / "ways.onnx")
    build_bundle(str(tmp_path / "ways.onnx"), tmp_path / "mini", "ultra96", 4, (1, 1))
    directory = synthesised(tmp_path / "mini")
    prepare(directory)
    bundle = load(directory)
    (decision,) = bundle.decisions
    assert decision.ways == 3
    codes = np.load(tmp_path / "expected" / "labelled.npz")["codes"]
    simulator = simulator_of(bundle, Engine(bundle.hls))
    found = {}
    for how in ("frame", "0", "1", "2", "+9"):
        for step, branch in branches(bundle.program, {decision: how}).items():
            at = place(bundle.program, step)
            simulator.memory[at : at + 8] = np.array([branch.threshold, branch.target], "<i4").view(np.uint8)
        maps = simulator.run({"image": codes})
        found |= {f"{how} {name}": values for name, values in maps.items()}
    assert not np.array_equal(found["0 hm"], found["2 hm"])
    np.savez(tmp_path / "expected" / "ways.npz", codes=codes, **found)
    run_checks(WAYS, tmp_path)


@needs_pynq
@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("tclsh") is None, reason="tclsh is not installed: the stand-in tools need it"
)
@pytest.mark.parametrize(
    ("release", "board"), [("2020.1", "pynq-z2"), ("2022.1", "ultra96"), ("2025.1", "zcu104")]
)
def test_what_synth_makes_runs_on_the_board(release: str, board: str, tmp_path: Path) -> None:
    """The handoff that `codesign synth` leaves with stand-ins for the tools of each release: 32-bit and 64-bit
    addresses, names that HLS changes, the interrupt controller. The driver finds its way in all of them.
    """
    directory = bundle_of_mini(tmp_path / "mini", board, lanes=1)
    tools = install(tmp_path / "tools", release)
    with pytest.raises(SystemExit) as ended:
        cli.main(["synth", str(directory), "--tools", str(tools), "--vivado", release, "--no-cosim"])
    assert not ended.value.code
    run_checks(HERE / "on_pynq" / "check_detector.py", prepare(directory))


@needs_pynq
@pytest.mark.slow
def test_the_notebook_runs_on_the_software_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a board: codenet-tiny is installed, the kernel is that of pynq's environment, boxes and figures are shown.

    On every picture it finds as many objects as C simulation does here.
    """
    nbformat = pytest.importorskip(
        "nbformat", reason="the notebook client of the test extra is not installed"
    )
    nbclient = pytest.importorskip(
        "nbclient", reason="the notebook client of the test extra is not installed"
    )
    extras = PYTHON.parent.parent / "notebook"  # Pillow and ipykernel, kept apart from what the driver needs
    if not extras.is_dir():
        pytest.skip("no ipykernel for the Python with pynq: `make .venv-pynq/.made`")
    build_bundle("codenet-tiny", tmp_path / "mini", "ultra96")
    directory = synthesised(tmp_path / "mini")
    pictures = [read_image(path) for path in samples()[:2]]
    pack(directory, tmp_path / "codenet-tiny.codesign", pictures)
    env = environment(tmp_path, HERE / "site", ROOT, extras)
    env["CODESIGN_OVERLAYS"] = str(tmp_path / "overlays")
    kernel = tmp_path / "jupyter" / "kernels" / "board"
    kernel.mkdir(parents=True)
    argv = [str(PYTHON), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "board", "language": "python", "env": env})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    install = ["install", str(tmp_path / "codenet-tiny.codesign"), "--notebooks", str(tmp_path)]
    done = subprocess.run(
        [str(PYTHON), "-m", "boards", *install], env=env, cwd=tmp_path, capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    installed = json.loads(done.stdout)
    assert (installed["name"], installed["board"]) == ("codenet-tiny", "ultra96")
    notebook = nbformat.read(installed["notebook"], as_version=4)
    folder = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="board", resources=folder).execute()
    shown = [out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", [])]
    texts = [data.get("text/plain", "") for data in shown]
    assert sum("image/png" in data for data in shown) == 2
    detect = csim_runner(load(directory)).detect
    counts = [len(detect(letterbox(p, 128, 128)[0]).above(0.3)) for p in pictures]
    assert all(counts)
    listed = next(text for text in texts if text.startswith("[") and text != "['codenet-tiny']")
    assert json.loads(listed)[:2] == counts
    assert any("'source': 'software device'" in text and "'differences': 0" in text for text in texts)


def test_the_package_for_the_board_is_complete_and_has_no_more() -> None:
    """Every import of ours in it leads to a file of it; nothing in it needs what a board lacks."""
    import io
    import zipfile

    names = set(files())
    assert {"boards/driver.py", "boards/__main__.py", "codesign/decode.py", "codesign/transport.py"} <= names
    compiler = ("onnx", "qonnx", "cli", "plan", "csim", "ir", "ops/")
    assert not {n for n in names if n.startswith(tuple(f"codesign/{name}" for name in compiler))}
    assert wheel() == wheel()
    archive = zipfile.ZipFile(io.BytesIO(wheel()))
    info = FILE.removesuffix("-py3-none-any.whl") + ".dist-info"
    listed = {line.split(",")[0] for line in archive.read(f"{info}/RECORD").decode().splitlines()}
    assert listed == set(archive.namelist())
    requires = [
        line for line in archive.read(f"{info}/METADATA").decode().splitlines() if "Requires-Dist" in line
    ]
    assert requires == ["Requires-Dist: numpy", "Requires-Dist: pynq (>=3.0,<5)"]
