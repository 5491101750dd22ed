"""Adding a board of a known family is one TOML and nothing else: two boards that do not exist go all the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from codesign import cli
from codesign.board import CARRIED, bundle_board, load_board
from codesign.bundle import load
from codesign.compat import check_image, check_tools
from codesign.handoff import board_clock
from codesign.synth_tcl import STEPS, Job, scripts
from codesign.transport import read
from tests.mini import MINI
from tests.vendor.launch import install

POCKET = """
title = "Pocket 7, which does not exist"
[part]
name = "xc7z014sclg400-2"
family = "zynq7000"
source = "this test"
[resources]
luts = 40_600
ffs = 81_200
bram36 = 107
uram = 0
dsps = 170
source = "AMD DS190, XC7Z014S"
[dram]
capacity_mib = 1_024
width_bits = 32
bytes_per_s = 4_264_000_000
source = "this test"
[hp]
ports = 4
width_bits = 64
source = "AMD UG585"
[ps]
fabric_pll_mhz = 1_000
source = "this test"
[ps.properties]
PCW_CRYSTAL_PERIPHERAL_FREQMHZ = "40"
PCW_FCLK0_PERIPHERAL_CLKSRC = "IO PLL"
PCW_UIPARAM_DDR_PARTNO = "MT41K256M16 RE-125"
[vivado]
first = "2019.1"
source = "this test"
[pynq]
images = { "3.1.2" = "2024.1" }
source = "this test"
[default]
clock_mhz = 120
lanes = 4
source = "this test"
"""
CARRIER = """
title = "Carrier 4, which does not exist"
[part]
name = "xczu4ev-sfvc784-1-e"
family = "zynqmp"
source = "this test"
[resources]
luts = 87_840
ffs = 175_680
bram36 = 128
uram = 48
dsps = 728
source = "AMD DS891, ZU4EV"
[dram]
capacity_mib = 4_096
width_bits = 64
bytes_per_s = 19_200_000_000
source = "this test"
[hp]
ports = 4
width_bits = 128
source = "AMD UG1085"
[ps]
fabric_pll_mhz = 1_500
source = "this test"
[ps.properties]
PSU__PSS_REF_CLK__FREQMHZ = "33.333333"
PSU__CRL_APB__PL0_REF_CTRL__SRCSEL = "IOPLL"
PSU__DDRC__SPEED_BIN = "DDR4_2400R"
[vivado]
first = "2019.1"
source = "this test"
[pynq]
images = { "3.1.2" = "2024.1" }
source = "this test"
[default]
clock_mhz = 214
lanes = 8
source = "this test"
"""
TOOLS = (("vivado_hls", "2020.1"), ("vitis_hls", "2022.1"), ("vitis-run", "2025.2"))


@pytest.fixture(params=[("pocket", POCKET), ("carrier", CARRIER)], ids=["zynq7000", "zynqmp"])
def toml(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, text = request.param
    path = tmp_path / "boards of mine" / f"{name}.toml"
    path.parent.mkdir()
    path.write_text(text)
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(a) for a in arguments])
    return int(ended.value.code or 0)


def test_one_toml_is_built_estimated_simulated_and_synthesized_for(toml: Path, tmp_path: Path, capsys):
    bundle = tmp_path / "bundle"
    assert run("build", MINI, "--board", toml, "-o", bundle) == 0
    assert f"lanes for {toml.stem}, program" in capsys.readouterr().out
    board = load_board(toml)
    shutil.rmtree(toml.parent)  # the bundle needs it no more

    found = load(bundle)
    assert board.lanes <= 2 * found.program.lanes <= 4 * board.lanes
    assert bundle_board(bundle, found.board) == board

    assert run("estimate", bundle, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["clock_mhz"] == board.clock_mhz and facts["frames_per_s"] > 0
    have = {what: row["has"] for what, row in facts["resources"]["budget"].items()}
    assert have["DSP"] == board.dsps and board.luts in have.values()

    picture = tmp_path / "grey.png"
    Image.new("RGB", (64, 64), (120, 130, 140)).save(picture)
    assert run("csim", bundle, "--images", picture, "-o", tmp_path / "maps", "--json") == 0
    assert {row["output"] for row in json.loads(capsys.readouterr().out)} == set(found.program.outputs)

    for program, release in TOOLS:
        check_tools(board, release)
        texts = scripts(Job(board, board.clock_mhz, program, release, release))
        assert list(texts) == [f"{step}.tcl" for step in STEPS]
        assert f"set_part {board.part}\n" in texts["csim.tcl"].replace("  ", "")
        assert f"set part {board.part}\n" in texts["design.tcl"]
        for name, value in board.ps.items():
            assert f"CONFIG.{name} {{{value}}}" in texts["design.tcl"]
    check_image(board, "3.1.2", "2024.1")


@pytest.mark.skipif(
    shutil.which("tclsh") is None, reason="tclsh is not installed: the stand-in tools need it"
)
def test_one_toml_gets_a_bitstream_from_the_stand_in(toml: Path, tmp_path: Path, capsys):
    """To the one file that goes to the board, with the TOML in it, which says which image it needs."""
    bundle = tmp_path / "bundle"
    assert run("build", MINI, "--board", toml, "--lanes", 1, "-o", bundle) == 0
    board = load_board(toml)
    shutil.rmtree(toml.parent)
    tools = install(tmp_path / "xilinx", "2022.1")
    assert run("synth", bundle, "--tools", tools, "--no-cosim") == 0, capsys.readouterr().err
    record = json.loads((bundle / "synthesis.json").read_text())
    assert (record["board"], record["part"]) == (toml.stem, board.part)
    assert record["clock_mhz"] == pytest.approx(board.fabric_mhz(board.clock_mhz), abs=1e-3)
    assert board_clock(bundle / "design.hwh", board) == pytest.approx(record["clock_mhz"], abs=1e-3)

    assert run("bundle", bundle, "-o", tmp_path / "one.codesign") == 0
    assert read(tmp_path / "one.codesign")[CARRIED].decode() == (bundle / CARRIED).read_text()


def test_a_bundle_carries_only_boards_that_the_package_lacks(toml: Path, tmp_path: Path):
    assert run("build", MINI, "--board", "pynq-z2", "-o", tmp_path / "shipped") == 0
    assert not (tmp_path / "shipped" / CARRIED).exists()
    assert run("build", MINI, "--board", toml, "-o", tmp_path / "mine") == 0
    manifest = json.loads((tmp_path / "mine" / "manifest.json").read_text())
    assert CARRIED in manifest["files"] and manifest["board"] == toml.stem
    assert (tmp_path / "mine" / CARRIED).read_text() == toml.read_text()


def test_a_carried_board_that_was_edited_is_found_out(toml: Path, tmp_path: Path, capsys):
    bundle = tmp_path / "mine"
    assert run("build", MINI, "--board", toml, "-o", bundle) == 0
    text = (bundle / CARRIED).read_text()
    (bundle / CARRIED).write_text(text.replace("dsps = ", "dsps = 9"))
    assert run("estimate", bundle) == 2
    assert "board.toml is not what was built" in capsys.readouterr().err
