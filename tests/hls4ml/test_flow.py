"""`codesign build --flow hls4ml`: what is written, what is refused and why, and its rungs."""

import ast
import json
import shutil

import numpy as np
import onnx
import pytest

from codesign import cli
from codesign.board import load_board
from codesign.bundle import MANIFEST, digest, files
from codesign.difference import failed
from codesign.errors import BundleError, ModelRefused
from codesign.hls4ml import project
from codesign.hls4ml.design import convert
from codesign.hls4ml.limits import cost, refusals
from codesign.hls4ml.report import REPORTS, report
from codesign.hls4ml.verify import climb
from codesign.ops import MixedConv, Upsample
from tests.hls4ml.nets import every_layer, mixing_net, small_net
from tests.models import I8, Builder
from tests.onnx_models import to_onnx
from tests.test_reports import VIVADO_HLS


def saved(graph, folder):
    path = folder / "net.onnx"
    onnx.save(to_onnx(graph, "qonnx"), path)
    return path


def built(graph, folder, board="pynq-z2", io_type="io_stream"):
    path = saved(graph, folder)
    project.build(graph, path, folder / "design", load_board(board), io_type, lambda text: None)
    return folder / "design"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return built(small_net(8, 12), tmp_path_factory.mktemp("small"))


def test_a_board_project_is_written_whole(small):
    found = project.load(small)
    assert (found.board, found.backend, found.io_type) == ("pynq-z2", "VivadoAccelerator", "io_stream")
    assert found.inputs == {"image": project.End((8, 12, 3), 2.0**-7)}
    assert found.outputs == {"hm": project.End((8, 12, 3), 2.0**-4)}
    names = set(files(found.hls))
    assert {"design.tcl", "build_prj.tcl", "axi_stream_driver.py", "firmware/network_axi.cpp"} <= names
    assert "firmware/nnet_utils/nnet_square_deform.h" in names
    settings = (found.hls / "project.tcl").read_text()
    assert 'set part "xc7z020clg400-1"' in settings and "set clock_period 6.993" in settings
    assert "tul.com.tw:pynq-z2" in (found.hls / "design.tcl").read_text()
    ast.parse((found.hls / "axi_stream_driver.py").read_text())
    texts = [path.read_bytes() for path in small.rglob("*") if path.is_file()]
    assert not any(str(small.parent).encode() in text for text in texts)


def test_other_boards_get_a_core_for_their_part(tmp_path):
    facts = project.build(
        small_net(), saved(small_net(), tmp_path), tmp_path / "d", load_board("ultra96"), "io_parallel", print
    )
    assert facts["backend"] == "Vitis" and facts["instead"].startswith(
        "hls4ml has no project for ultra96 (pynq-z2,"
    )
    assert "xczu3eg-sbva484-1-i" in (tmp_path / "d" / "hls4ml" / "project.tcl").read_text()


def test_several_outputs_are_no_board_project():
    backend, why = project.backend_of(every_layer(), load_board("pynq-z2"))
    assert backend == "Vitis"
    assert (
        why == "hls4ml's board projects have one input and one output, the model has 1 inputs and 2 outputs"
    )


def test_the_report_has_what_is_estimated(small):
    found = report(project.load(small))
    # The deformable layer: (8 + 3 + 1) rows of 12 pixels, two cycles each; a number a cycle into the design.
    assert found.cycles["SquareDeform2D_deform_q_sums"]["estimated"] == 288
    assert found.cycles["AXI, in"]["estimated"] == 8 * 12 * 3
    assert found.speed["design, cycles"]["estimated"] == 288
    assert found.size["design"]["BRAM36"]["estimated"] == 4
    assert found.to_json()["size"]["design"]["LUT"]["synthesized"] is None
    assert any(text.startswith("No synthesis: run build_prj.tcl in ") for text in found.notes)


def test_the_report_has_what_hls4mls_own_build_left(small, tmp_path):
    """Where build_prj.tcl puts it; the text is one as documented, with made-up figures."""
    shutil.copytree(small, tmp_path / "d")
    folder = tmp_path / "d" / "hls4ml" / REPORTS
    folder.mkdir(parents=True)
    (folder / "csynth.xml").write_text(VIVADO_HLS)
    found = report(project.load(tmp_path / "d"))
    assert found.tool == "Vivado HLS 2019.1"
    assert found.speed["design, cycles"]["synthesized"] == 73
    assert (
        found.size["design"]["BRAM36"] | {"estimated": 4.0, "synthesized": 1.5}
        == found.size["design"]["BRAM36"]
    )
    assert found.size["design"]["LUT"]["synthesized"] == 867
    assert not any("No synthesis" in text for text in found.notes)


def refused(graph, tmp_path, **where):
    with pytest.raises(ModelRefused) as caught:
        built(graph, tmp_path, **where)
    assert not (tmp_path / "design").exists()
    return str(caught.value).replace(str(tmp_path), "DIR")


def test_weights_that_are_too_many_are_named(tmp_path):
    b = Builder(1)
    b.conv("wide", b.conv("first", b.input("image", (6, 6, 3)), 40), 12, kernel=3, result="hm", out=I8)
    assert refused(b.graph(("hm",)), tmp_path) == (
        "DIR/net.onnx: 1 part cannot be compiled.\n"
        "  Conv2D 'Conv2D_hm_sums': has weights of 4,320 elements, hls4ml's limit is 4,096 (maximum_size of "
        "project.tcl). Build it for the engine: leave out --flow hls4ml."
    )


def test_mixed_weights_that_are_too_many_are_named(tmp_path):
    b = Builder(1)
    x = b.conv("first", b.input("image", (4, 4, 3)), 32)
    op = MixedConv((3, 3), pads=(1, 1, 1, 1))
    b.mixed_conv("wide", x, b.gates("gate", x, 2), 15, op, result="hm", out=I8)
    design = convert(b.graph(("hm",)), "net", tmp_path, backend="Vitis", io_type="io_stream")
    assert [str(p) for p in refusals(design, load_board("pynq-z2"), cost(design))] == [
        "MixedConv2D 'MixedConv2D_hm_sums': has mixed weights of 4,320 elements, hls4ml's limit is 4,096 "
        "(maximum_size of project.tcl). Build it for the engine: leave out --flow hls4ml."
    ]


def test_what_gates_and_mixed_weights_take(tmp_path):
    found = cost(convert(mixing_net(), "net", tmp_path, backend="Vitis", io_type="io_stream"))
    # 3 x 3 x 4 cycles to mix, (6 + 2) rows of (8 + 2) pixels; three kernels of 6 filters and 36 weights of each.
    assert found.turns["MixedConv2D_mixed_q_sums"] == 36 + 8 * 10
    assert found.multipliers["MixedConv2D_mixed_q_sums"] == 6 * (3 + 36)
    assert found.multipliers["ChannelMix2D_open_q_sums"] == 6
    assert found.turns["GlobalSum2D_gate_sum_q_sums"] == 6 * 8


def test_maps_that_are_too_large_in_parallel_are_named(tmp_path):
    b = Builder(1)
    b.conv("first", b.input("image", (40, 40, 3)), 2, result="hm", out=I8)
    assert refused(b.graph(("hm",)), tmp_path, io_type="io_parallel") == (
        "DIR/net.onnx: 1 part cannot be compiled.\n"
        "  Input 'image': has map of 4,800 elements, hls4ml's limit is 4,096 (maximum_size of project.tcl). Take --io "
        "stream."
    )


def test_fifos_that_the_board_cannot_hold_are_named(tmp_path):
    b = Builder(1)
    x = b.add("up", Upsample(2), b.conv("first", b.input("image", (128, 128, 3)), 8))
    b.conv("last", x, 2, result="hm", out=I8)
    assert refused(b.graph(("hm",)), tmp_path) == (
        "DIR/net.onnx: 1 part cannot be compiled.\n"
        "  FIFOs, one a map and as deep as it has pixels: need 204 BRAM36 estimated, pynq-z2 has 140; the largest: up "
        "65,536 x 64 bits, 128, Conv2D_first_q_sums 16,384 x 64 bits, 32, Conv2D_hm_sums 65,536 x 16 bits, 32. Build "
        "it for the engine: leave out --flow hls4ml."
    )


def test_a_design_that_was_changed_is_not_read(small, tmp_path):
    shutil.copytree(small, tmp_path / "d")
    (tmp_path / "d" / "hls4ml" / "project.tcl").write_text("set part x\n")
    with pytest.raises(BundleError, match="hls4ml/project.tcl is not what was built"):
        project.load(tmp_path / "d")


def ended(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(a) for a in arguments])
    return int(caught.value.code or 0), capsys.readouterr()


def test_the_verbs_tell_the_flows_apart(small, tmp_path, capsys):
    path = saved(small_net(8, 12), tmp_path)
    build = ("build", path, "--flow", "hls4ml", "--board", "pynq-z2", "-o", tmp_path / "d")
    code, said = ended(capsys, *build)
    assert code == 0
    assert (
        "7 layers of hls4ml 1.3.0 for pynq-z2, backend VivadoAccelerator; 159 multipliers, FIFOs of 4 of 140"
        in (" ".join(said.out.split()))
    )
    code, said = ended(capsys, *build, "--lanes", "4")
    assert code == 2 and "--flow hls4ml: has neither lanes nor an array." in said.err
    code, said = ended(capsys, "report", small, "--json")
    assert code == 0 and json.loads(said.out)["speed"]["design, cycles"]["estimated"] == 288
    for verb in ("verify", "report"):
        extra = ("--lanes", "4") if verb == "verify" else ("--simulate",)
        code, said = ended(capsys, verb, small, *extra)
        assert code == 2 and "holds a design of hls4ml" in said.err
    code, said = ended(capsys, "estimate", small)
    assert code == 2 and "Only `codesign verify` and `codesign report` read it" in " ".join(said.err.split())


@pytest.mark.slow  # compiles ap_types twice
def test_the_rungs_are_climbed_and_a_wrong_weight_is_found(small, tmp_path):
    rungs = climb(project.load(small), [])
    states = {rung.number: (rung.status, rung.different) for rung in rungs}
    assert states[5] == ("ok", 0) and not failed(rungs)
    assert next(r for r in rungs if r.number == 5).compared == 8 * 12 * 3  # a frame of noise

    wrong = tmp_path / "wrong"
    shutil.copytree(small, wrong)
    weights = next(
        p for p in sorted((wrong / "hls4ml" / "firmware" / "weights").glob("w*.txt")) if p.stat().st_size
    )
    numbers = weights.read_text().split(",")
    numbers[0] = str(float(numbers[0]) + 1)
    weights.write_text(",".join(numbers))
    manifest = json.loads((wrong / MANIFEST).read_text())
    name = weights.relative_to(wrong).as_posix()
    manifest["files"][name] = digest(weights)
    (wrong / MANIFEST).write_text(json.dumps(manifest))
    rungs = climb(project.load(wrong), [])
    broken = next(r for r in rungs if r.number == 5)
    assert broken.status == "fail" and broken.different > 0 and "first differs in hm" in broken.note
    assert np.array_equal([r.status for r in rungs if r.number == 3], ["ok"])
