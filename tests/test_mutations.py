"""The ladder can fail: each small fault in a bundle makes `codesign verify` end with 1 and name the layer.

A mutated bundle is signed again, so that it is the comparison that finds the fault and not the checksum.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from codesign import cli
from codesign.bundle import load, write
from codesign.emit import sources
from codesign.onnx_io import import_model
from codesign.plan import plan
from codesign.program import Program
from codesign.step import Segment, Step
from tests.mini import MINI, bundle_of_mini


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of_mini(tmp_path_factory.mktemp("mutations") / "bundle")


@pytest.fixture
def bundle(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "bundle"))


def sign(bundle: Path) -> None:
    """Make the manifest agree with the files."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {n: hashlib.sha256((bundle / n).read_bytes()).hexdigest() for n in manifest["files"]}
    path.write_text(json.dumps(manifest))


def verify(bundle: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", str(bundle)])
    return int(ended.value.code or 0), capsys.readouterr().err


def edit(bundle: Path, name: str, old: str, new: str) -> None:
    path = bundle / "hls" / name
    text = path.read_text()
    assert text.count(old) == 1, (name, text.count(old))
    path.write_text(text.replace(old, new))


def rewrite(bundle: Path, change: Callable[[Program], tuple[int, Step]]) -> None:
    """Replace one step of program.bin."""
    program = load(bundle).program
    index, step = change(program)
    assert step != program.steps[index] or step.pointwise_parameters is not None
    steps = (*program.steps[:index], step, *program.steps[index + 1 :])
    (bundle / "program.bin").write_bytes(replace(program, steps=steps).encode().tobytes())


def a_weight_bit(program: Program) -> tuple[int, Step]:
    index = next(i for i, s in enumerate(program.steps) if s.pointwise == "int4")
    step = program.steps[index]
    assert step.pointwise_parameters is not None
    parameters = step.pointwise_parameters.copy()
    parameters[0, 0] ^= 1
    return index, replace(step, pointwise_parameters=parameters)


def segment_order(program: Program) -> tuple[int, Step]:
    """Two parts of a concatenation, the other way round."""
    index = next(
        i for i, s in enumerate(program.steps) if len({(g.count, g.up) for g in s.load}) < len(s.load)
    )
    step = program.steps[index]
    for i, first in enumerate(step.load):
        for j, second in enumerate(step.load[:i]):
            if (first.count, first.up, first.signed) == (second.count, second.up, second.signed):
                load = list(step.load)
                load[i], load[j] = second, first
                return index, replace(step, load=tuple(load))
    raise AssertionError("the model has no concatenation to turn round")


def an_address(program: Program) -> tuple[int, Step]:
    index = len(program.steps) // 2
    step = program.steps[index]
    first: Segment = step.load[0]
    return index, replace(step, load=(replace(first, address=first.address + 1), *step.load[1:]))


def test_the_sound_bundle_passes(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = verify(sound, capsys)
    assert code == 0
    assert "differs" not in said


@pytest.mark.parametrize("change", [a_weight_bit, segment_order, an_address])
def test_a_fault_in_the_program(
    bundle: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Program], tuple[int, Step]]
) -> None:
    index, _ = change(load(bundle).program)
    rewrite(bundle, change)
    sign(bundle)
    code, said = verify(bundle, capsys)
    assert code == 1
    field = "pointwise_parameters" if change is a_weight_bit else "load"
    found = re.findall(r"program.bin is first wrong in layer (\S+) \(step (\d+): (\w+)\)", said)
    assert [(int(step), name) for _, step, name in found] == [(index, field)] * 2  # native and ap_int types


def test_a_fault_in_a_program_that_keeps_a_window_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a search may: the program is compared with one of the same steps."""
    graph = import_model(MINI)
    whole = plan(graph, 16)
    window = next(
        s.nodes[1] for s in whole.program.steps if s.window == "depthwise" and s.pointwise != "none"
    )
    made = plan(graph, config=whole.config, apart=[window])
    assert len(made.program.steps) == len(whole.program.steps) + 1
    bundle = tmp_path / "bundle"
    write(bundle, made.config, made.program, sources(made.config), MINI, board="ultra96", scales=graph.scales,
          meta=graph.meta, carried={})  # fmt: skip
    index = max(i for i, s in enumerate(made.program.steps) if s.pointwise == "int4")
    step = made.program.steps[index]
    assert step.pointwise_parameters is not None
    blob = step.pointwise_parameters.copy()
    blob[0, 0] ^= 1
    rewrite(bundle, lambda program: (index, replace(program.steps[index], pointwise_parameters=blob)))
    sign(bundle)
    code, said = verify(bundle, capsys)
    assert code == 1
    assert f"first wrong in layer {step.nodes[-1]} (step {index}: pointwise_parameters)" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edits", "layer"),
    [
        pytest.param(
            [
                (
                    "exact/numbers.hpp",
                    "(product + half - 1 + odd) >> right",
                    "(product + half + 0 * odd) >> right",
                ),
                (
                    "native/numbers.hpp",
                    "return int((limited + integers) - integers);",
                    "return int(floor(limited + 0.5) + 0 * integers);",
                ),
            ],
            "stem",
            id="rounding half up",
        ),
        pytest.param(
            [
                (
                    "ring.hpp",
                    "      taps.inside[i][j] = inside;",
                    "      for (int lane = 0; lane < C::kLanes && !inside; ++lane) taps.word[i][j][lane] = 1;\n"
                    "      taps.inside[i][j] = inside;",
                )
            ],
            "stem",
            id="padding with one",
        ),
        pytest.param(
            [
                (  # of the sixteen rows that a deformable window needs, nine are lost
                    "window.hpp",
                    "at.rows = C::kRingRows >> step.spread;",
                    "at.rows = (C::kRingRows >> step.spread) - (step.spread == 0 ? 9 : 0);",
                ),
            ],
            "decoder.2.dw",
            id="a row ring too small",
        ),
    ],
)
def test_a_fault_in_the_cpp(
    bundle: Path, capsys: pytest.CaptureFixture[str], edits: list[tuple[str, str, str]], layer: str
) -> None:
    for name, old, new in edits:
        edit(bundle, name, old, new)
    sign(bundle)
    code, said = verify(bundle, capsys)
    assert code == 1
    blamed = re.findall(r"the C\+\+ is first wrong in layer (\S+)", said)
    assert len(blamed) == 2  # native and ap_int types
    assert all(name.startswith(layer) for name in blamed), blamed


def test_a_row_ring_too_small_does_not_compile(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(bundle, "config.hpp", "kRingRows = 16;", "kRingRows = 15;")
    sign(bundle)
    code, said = verify(bundle, capsys)
    assert code == 1
    assert "kRingRows must be at least 2 * kMaxOffset + 2" in said


def test_a_changed_file_is_found_before_anything_runs(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(bundle, a_weight_bit)
    code, said = verify(bundle, capsys)
    assert code == 2
    assert "program.bin is not what was built" in said
