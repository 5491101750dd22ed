"""From a synthesised bundle to a table, over ssh: bundle, deploy and bench against a machine that is a directory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from codesign import cli
from codesign.bundle import load
from codesign.rungs import csim_runner
from tests.board.bundles import synthesised
from tests.board.ssh import machine
from tests.mini import CLASSES, bundle_of_mini
from tests.test_board import HERE, PYTHON, environment, needs_pynq, picture

Run = Callable[..., "Ended"]
pytestmark = pytest.mark.slow


class Ended:
    """How a verb ended: exit code, stdout, stderr."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def error(self) -> str:
        assert self.code == 2, (self.code, self.out, self.err)
        return self.err.partition("error: ")[2].rstrip("\n")


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
    """For a board that has images of every PYNQ release that tests may run on."""
    return synthesised(bundle_of_mini(tmp_path_factory.mktemp("ssh") / "mini", "zcu104"))


@pytest.fixture(scope="module")
def board(bundle: Path) -> Path:
    """Folder of a board that nothing was deployed to."""
    variables = environment(bundle.parent, HERE / "site")
    machine(bundle.parent / "board", PYTHON, variables)
    return bundle.parent / "board"


@pytest.fixture
def reached(board: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PATH", f"{board / 'bin'}{os.pathsep}{os.environ['PATH']}")
    yield board
    (board / "home" / "sudo-asks").unlink(missing_ok=True)


def test_bundle_packs_one_file(bundle: Path, tmp_path: Path, run: Run) -> None:
    Image.fromarray(picture(64, 96)).save(tmp_path / "p.png")
    files = []
    for name in ("a", "b"):
        ended = run(
            "bundle", bundle, "-o", tmp_path / name / "x.codesign", "-i", tmp_path / "p.png", "--json"
        )
        assert ended.code == 0, ended.err
        facts = json.loads(ended.out)
        assert (facts["board"], facts["vectors"]) == ("zcu104", 3)
        files.append(Path(facts["file"]))
        assert facts["bytes"] == files[-1].stat().st_size
    assert files[0].read_bytes() == files[1].read_bytes(), "equal contents are equal files"
    with zipfile.ZipFile(files[0]) as archive:
        assert {"design.bit", "design.hwh", "synthesis.json", "program.bin", "vectors.npz"} <= set(
            archive.namelist()
        )
    assert run("bundle", bundle, "-o", tmp_path / "c.codesign").out.endswith(
        " MB for zcu104, 4 test vectors\n"
    )


def test_bundle_wants_a_bitstream(tmp_path: Path, run: Run) -> None:
    plain = bundle_of_mini(tmp_path / "plain")
    assert run("bundle", plain).error.replace(str(plain), "plain") == (
        "plain: design.bit, design.hwh, synthesis.json missing, expected a synthesised bundle. "
        "Run `codesign synth plain`."
    )
    assert not (tmp_path / "plain.codesign").exists()


@needs_pynq
def test_deploy_and_bench(bundle: Path, reached: Path, run: Run) -> None:
    """In order, as a user would: bench before deploy is refused; deploy installs and compares; bench measures."""
    ended = run("bench", bundle, "--host", "xilinx@board")
    assert "No module named boards" in ended.error
    ended = run("deploy", bundle, "--host", "xilinx@board", "--json", "--timeout", "20")
    assert ended.code == 0, ended.err
    result = json.loads(ended.out)
    assert (result["name"], result["board"], result["host"]) == ("mini", "zcu104", "xilinx@board")
    assert result["check"]["source"] == "software device"
    assert (result["check"]["differences"], result["check"]["vectors"]) == (0, 4)
    assert Path(result["directory"]).is_relative_to(reached / "venv"), "installed on the board, not here"
    assert set((reached / "log").read_text().split()) == {"xilinx@board", "root"}
    assert found_by_pynq(bundle, reached) == [
        str(Path(result["directory"]) / "design.bit"),
        "- codesign (source: boards)",
    ]
    shown = run("deploy", bundle, "--host", "xilinx@board", "--timeout", "20")
    assert "values of 4 test vectors are those of C simulation (software device)" in shown.out

    ended = run("bench", bundle, "--host", "xilinx@board", "--frames", "10", "--timeout", "20", "--data",
                "scenes:count=3", "--limit", "2")  # fmt: skip
    assert ended.code == 2, "scenes knows no class of the small model"
    assert "has the classes" in ended.error
    ended = run("bench", bundle, "--host", "xilinx@board", "--frames", "10", "--timeout", "20", "--json")
    assert ended.code == 0, ended.err
    result = json.loads(ended.out)
    assert (result["format"], result["version"], result["source"]) == ("codesign-bench", 1, "software device")
    assert result == json.loads((bundle / "bench.json").read_text())
    assert result["versions"]["codesign-board"] == result["versions"]["codesign"]
    shown = run("bench", bundle, "--host", "xilinx@board", "--frames", "5", "--timeout", "20")
    assert "mini on zcu104, 5 frames, not measured" in shown.out
    assert "These figures are of a software device: they say nothing about a board." in shown.out
    assert "frames/s" in shown.out


def found_by_pynq(bundle: Path, board: Path) -> list[str]:
    """What pynq finds by our entry points, in the board's Python: a bitstream without its path, and notebooks."""
    code = (
        "import sys; from pynq.bitstream import Bitstream; print(Bitstream('mini/design.bit').bitfile_name)\n"
        "from pynq._cli.get_notebooks import main; sys.argv[1:] = ['--list']; main()"
    )
    python = board / "venv" / "bin" / "python3"
    env = environment(bundle.parent, HERE / "site")
    done = subprocess.run(
        [str(python), "-W", "ignore", "-c", code], cwd=board, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if "modules" not in line]


@needs_pynq
def test_accuracy_on_a_folder_is_that_of_c_simulation(
    bundle: Path, reached: Path, run: Run, tmp_path: Path
) -> None:
    assert run("deploy", bundle, "--host", "xilinx@board", "--no-check").code == 0
    spec = labelled(tmp_path, bundle)
    *_, here = json.loads(run("eval", bundle, "--data", spec, "--rung", "csim", "--json").out)["rungs"]
    arguments = (
        "--host",
        "xilinx@board",
        "--frames",
        "2",
        "--timeout",
        "20",
        "--json",
        "-o",
        tmp_path / "b.json",
    )
    there = json.loads(run("bench", bundle, "--data", spec, *arguments).out)["accuracy"]
    assert there == {"data": spec, "images": 3, "ap50": here["ap50"], "ap50_voc07": here["ap50_voc07"]}
    assert 0 < there["ap50"] < 1


def labelled(folder: Path, bundle: Path) -> str:
    """A COCO folder whose truth is part of what C simulation finds; the spec of it."""
    runner = csim_runner(load(bundle))
    images, annotations = [], []
    for i, size in enumerate(((64, 96), (100, 80), (50, 200))):
        pixels = picture(*size)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": size[1], "height": size[0]})
        found = runner.detect(pixels)
        for (x1, y1, x2, y2), label in zip(
            found.boxes[::3].tolist(), found.labels[::3].tolist(), strict=True
        ):
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append({"id": len(annotations) + 1, "image_id": i, "category_id": label + 1, "bbox": box,
                                "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(content))
    return f"coco:images={folder},annotations={folder / 'truth.json'}"


@needs_pynq
def test_a_board_that_computes_something_else(bundle: Path, reached: Path, run: Run) -> None:
    ssh = (reached / "bin" / "ssh").read_text()
    (reached / "bin" / "ssh").write_text(ssh.replace("env -i ", "env -i CODESIGN_SOFT_FAULT=flip "))
    try:
        ended = run("deploy", bundle, "--host", "xilinx@board", "--timeout", "20")
    finally:
        (reached / "bin" / "ssh").write_text(ssh)
    assert ended.code == 1
    assert "values differ from C simulation (software device)" in ended.out


@needs_pynq
def test_what_a_board_refuses_is_said(bundle: Path, reached: Path, run: Run, tmp_path: Path) -> None:
    assert run("deploy", bundle, "--host", "nobody@board").error == (
        "nobody@board: ssh failed (nobody@board: Permission denied (publickey).). Try `ssh nobody@board true`: a key "
        "must be accepted without a password (`ssh-copy-id nobody@board`)."
    )
    (reached / "home" / "sudo-asks").touch()
    assert run("deploy", bundle, "--host", "xilinx@board").error == (
        "xilinx@board: sudo asks for a password, and PYNQ needs root. Log in as root, or once on the board: "
        'echo "$USER ALL=(ALL) NOPASSWD: ALL" | sudo tee /etc/sudoers.d/codesign'
    )
    assert run("deploy", bundle, "--host", "-oProxyCommand=x").error == (
        "--host '-oProxyCommand=x': expected user@board, as ssh takes it. Correct it."
    )


@needs_pynq
def test_the_image_has_to_go_with_the_board(reached: Path, run: Run, tmp_path: Path) -> None:
    """PYNQ 3.1.2 is here; a board that has no such image is refused before anything is copied."""
    other = synthesised(bundle_of_mini(tmp_path / "other", "ultra96"))
    assert re.match(
        r"ultra96: PYNQ \d\S* is not supported, expected 3.0.1 ",
        run("deploy", other, "--host", "xilinx@board").error,
    )
    assert not (reached / "home" / ".codesign-deploy" / "other.codesign").exists()


def test_bench_without_a_board(bundle: Path, run: Run) -> None:
    assert run("bench", bundle).error == (
        "codesign bench: pynq is not installed, so this is no board. Name one with --host user@machine."
    )
    packed = bundle.parent / "x.codesign"
    assert (
        "is no bundle directory, expected one for --data"
        in run("bench", packed, "--data", "scenes:count=1").error
    )
