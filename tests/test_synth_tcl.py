"""The Tcl of every step: as text, for each board and release; and in tclsh, where each line is known and needed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from boards import TOMLS
from codesign.board import board_names, load_board
from codesign.synth_tcl import STEPS, Job, handoff, scripts
from codesign.vivado import hls_tool_of
from tests.vendor.component import component, engine_registers
from tests.vendor.grammar import Refused, commands, parse
from tests.vendor.launch import install
from tests.vendor.parts import known_part

RELEASES = ("2020.1", "2022.1", "2025.1")
needs_tclsh = pytest.mark.skipif(
    shutil.which("tclsh") is None, reason="tclsh is not installed: the stand-in tools need it"
)
ARGUMENTS = [("features", True), ("offsets", True), ("program_port", True), ("results", True), ("program", False),
             ("memory_words", False)]  # fmt: skip


def job(board: str, release: str) -> Job:
    facts = load_board(board)
    return Job(facts, facts.clock_mhz, hls_tool_of(release), release, release)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("board", board_names())
def test_scripts(board: str, release: str, golden: Callable[..., None]) -> None:
    """All steps; what boards/*.tcl add to the block design as they are is left out."""
    texts = scripts(job(board, release))
    assert list(texts) == [f"{step}.tcl" for step in STEPS]
    for name in (load_board(board).family, "overlay"):
        shared = (TOMLS / f"{name}.tcl").read_text()
        assert shared in texts["design.tcl"]
        texts["design.tcl"] = texts["design.tcl"].replace(shared, f"# ... boards/{name}.tcl ...\n")
    golden("\n".join(f"==== {name} ====\n{text}" for name, text in texts.items()), "tcl")


def test_where_the_handoff_lies_depends_on_the_release() -> None:
    assert ".srcs/" in handoff(job("pynq-z2", "2020.1")) and ".gen/" in handoff(job("pynq-z2", "2020.2"))


def test_settings_are_single_words_of_tcl() -> None:
    facts = replace(load_board("pynq-z2"), ps={"PCW_X": "a b", "PCW_Y": "{", "PCW_Z": "$x [y]"})
    text = scripts(replace(job("pynq-z2", "2020.1"), board=facts))["design.tcl"]
    assert 'CONFIG.PCW_X {a b} \\\n  CONFIG.PCW_Y "\\{" \\\n  CONFIG.PCW_Z {$x [y]} \\' in text


@pytest.mark.parametrize("board", board_names())
def test_the_parts_of_our_boards_are_spelled_as_the_vendor_does(board: str) -> None:
    assert known_part(load_board(board).part)


# --- in tclsh ----------------------------------------------------------------------------------------------------


class Tools:
    """The stand-ins, run by hand in a work folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "bundle" / "synthesis"
        self.work.mkdir(parents=True)
        self.installed = install(folder / "tools", "2020.1")
        for release in RELEASES[1:]:
            install(folder / "tools", release)

    def run(self, tool: str, release: str, script: str) -> subprocess.CompletedProcess[str]:
        (self.work / "script.tcl").write_text(script)
        (path,) = [p for p in self.installed.rglob(tool) if release in str(p)]
        options = {"vivado": ["-mode", "batch", "-source"], "vitis-run": ["--mode", "hls", "--tcl"]}
        command = [str(path), *options.get(tool, ["-f"]), "script.tcl"]
        return subprocess.run(
            command, cwd=self.work, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    def export(self, wide: bool) -> None:
        """What export_design would leave: the IP."""
        masters = ["features", "offsets", "program", "results"]
        folder = self.work / "engine/solution1/impl/ip"
        folder.mkdir(parents=True)
        registers = engine_registers(ARGUMENTS, wide, vitis=True)
        vlnv = ("xilinx.com", "hls", "codesign_engine", "1.0")
        (folder / "component.xml").write_text(component(vlnv, masters, 128, 64 if wide else 32, registers))


@pytest.fixture
def stand_ins(tmp_path: Path) -> Tools:
    return Tools(tmp_path)


@needs_tclsh
@pytest.mark.parametrize("board", board_names())
def test_every_board_has_a_block_design_that_is_valid(stand_ins: Tools, board: str) -> None:
    """With every release's catalogue of IPs for two of them, else with one."""
    facts = load_board(board)
    stand_ins.export(facts.family == "zynqmp")
    for release in RELEASES if board in ("pynq-z2", "ultra96") else RELEASES[1:2]:
        made = job(board, release)
        done = stand_ins.run("vivado", release, scripts(made)["design.tcl"])
        assert done.returncode == 0, done.stdout[-2000:]
        assert (stand_ins.work / handoff(made)).is_file()
        shutil.rmtree(stand_ins.work / "overlay")


REMOVED = [
    "connect_bd_net [get_bd_pins $ps/$ps_reset]",
    "connect_bd_intf_net [get_bd_intf_pins $ps/$ps_control]",
    "connect_bd_intf_net [get_bd_intf_pins $control/M00_AXI]",
    "connect_bd_intf_net [get_bd_intf_pins $control/M01_AXI]",
    "connect_bd_net [get_bd_pins $engine/interrupt]",
    "connect_bd_net [get_bd_pins $intc/irq]",
    "set_property -dict [list CONFIG.C_IRQ_CONNECTION 1]",
    "lappend clock_pins [get_bd_pins $control/aclk]",
    "lappend reset_pins [get_bd_pins $control/aresetn]",
    "connect_bd_intf_net [get_bd_intf_pins $master]",
    "connect_bd_intf_net [get_bd_intf_pins $bridge/M00_AXI]",
    "lappend clock_pins [get_bd_pins $bridge/aclk]",
    "lappend reset_pins [get_bd_pins $bridge/aresetn]",
    "assign_bd_address",
    "validate_bd_design",
    "save_bd_design",
    "update_ip_catalog",
    "set_property ip_repo_paths",
    "create_bd_design",
]


@needs_tclsh
@pytest.mark.parametrize("line", REMOVED)
def test_every_line_of_the_block_design_is_needed(stand_ins: Tools, line: str) -> None:
    """Without it the stand-in ends with an error, as Vivado would at the latest in implementation."""
    stand_ins.export(False)
    text = scripts(job("pynq-z2", "2020.1"))["design.tcl"]
    pattern = rf"^ *{re.escape(line)}(?:.*\\\n)*.*\n"
    assert len(re.findall(pattern, text, re.MULTILINE)) == 1, line
    done = stand_ins.run("vivado", "2020.1", re.sub(pattern, "", text, flags=re.MULTILINE))
    assert done.returncode == 1 and "ERROR: " in done.stdout


@needs_tclsh
@pytest.mark.parametrize(
    ("family", "old", "new", "said"),
    [
        ("pynq-z2", "set hp_ports 4", "set hp_ports 3", "the engine has 4 memory ports, the board 3 HP ports"),
        ("pynq-z2", "set hp_width 64", "set hp_width 128", "S_AXI_HP0_DATA_WIDTH 128 is out of the range"),
        ("pynq-z2", "PCW_EN_CLK0_PORT 1", "PCW_EN_CLK_PORT 1", "Cannot set the parameter PCW_EN_CLK_PORT"),
        ("pynq-z2", "set part xc7z020clg400-1", "set part xc7z020-clg400-1", "part could not be found"),
        ("pynq-z2", "[newest smartconnect]", "[newest smart_connect]", "this Vivado has no IP smart_connect"),
        ("pynq-z2", "$control/S00_AXI", "$control/S01_AXI", "No interface matched"),
        ("pynq-z2", "create_bd_intf_port -mode Master -vlnv xilinx.com:interface:ddrx_rtl:1.0 DDR",
         "create_bd_intf_port -mode Slave -vlnv xilinx.com:interface:ddrx_rtl:1.0 DDR", "are Master and Slave"),
        ("ultra96", "CONFIG.PSU__USE__M_AXI_GP1 0", "CONFIG.PSU__USE__M_AXI_GP1 1",
         "maxihpm1_fpd_aclk is not connected"),
        ("ultra96", "CONFIG.PSU__USE__IRQ0 1", "CONFIG.PSU__USE__IRQ0 0", "No pin matched"),
    ],
)  # fmt: skip
def test_mistakes_in_a_block_design_are_found(
    stand_ins: Tools, family: str, old: str, new: str, said: str
) -> None:
    stand_ins.export(family == "ultra96")
    text = scripts(job(family, "2022.1"))["design.tcl"]
    assert old in text
    done = stand_ins.run("vivado", "2022.1", text.replace(old, new))
    assert done.returncode == 1
    assert said in done.stdout


HLS_PROJECT = """\
open_project p
set_top codesign_engine
open_solution s
set_part xc7z020clg400-1
create_clock -period 5
"""


@needs_tclsh
@pytest.mark.parametrize(
    ("tool", "release", "script", "said"),
    [
        ("vivado_hls", "2020.1", "open_projekt p", 'invalid command name "open_projekt"'),
        ("vivado_hls", "2020.1", "open_project p -rest", "Unknown option '-rest'"),
        ("vivado_hls", "2020.1", "open_project p -upgrade", "Unknown option '-upgrade'"),
        ("vivado_hls", "2020.1", "open_project p\nopen_solution s -flow_target vivado",
         "Unknown option '-flow_target'"),
        ("vivado_hls", "2020.1", "open_project p\nopen_solution s\nconfig_interface -m_axi_addr64=true",
         "takes no such value"),
        ("vitis_hls", "2022.1", "open_project p\nopen_solution s\nconfig_interface -trim_dangling_port",
         "Unknown option '-trim_dangling_port'"),
        ("vitis_hls", "2022.1", HLS_PROJECT + "export_design -evaluate verilog", "Unknown option '-evaluate'"),
        ("vitis-run", "2025.1", HLS_PROJECT + "csim_design -profile", "Unknown option '-profile'"),
        ("vivado_hls", "2020.1", "open_solution s", "No project is open"),
        ("vivado_hls", "2020.1", "open_project p\nset_part xc7z020clg400-1", "No solution is open"),
        ("vivado_hls", "2020.1", "open_project p\nopen_solution s\nset_part xc7z020", "Part 'xc7z020' not found"),
        ("vivado_hls", "2020.1", "open_project p\nadd_files top.cpp", "The source file 'top.cpp' does not exist"),
        ("vivado_hls", "2020.1", HLS_PROJECT + "csynth_design", "lacks a top function or files"),
        ("vivado_hls", "2020.1", "open_project", "0 positional arguments, expected 1"),
        ("vivado_hls", "2020.1", "create_clock -period", "needs a value"),
        ("vivado_hls", "2020.1", "exec ls", 'invalid command name "exec"'),
        ("vivado_hls", "2020.1", "lmap x {1 2} {}", 'invalid command name "lmap"'),
        ("vitis_hls", "2022.1", "open_project p", "ends without exit"),
        ("vivado", "2020.1", "validate_bd_design", "No open project"),
        ("vivado", "2020.1", "create_project -part xc7z020clg400-1 a a\nlaunch_runs synth_1", "No top module is set"),
        ("vivado", "2020.1", "create_project -part xc7z020clg400-1 a a\nwait_on_run synth_1", "has not been launched"),
        ("vivado", "2020.1", "open_project a/a.xpr", "Can't find specified project"),
    ],
)  # fmt: skip
def test_the_stand_ins_refuse_what_the_tools_do_not_know(
    stand_ins: Tools, tool: str, release: str, script: str, said: str
) -> None:
    done = stand_ins.run(tool, release, script + "\n")
    assert done.returncode != 0
    assert said in done.stdout, done.stdout


@needs_tclsh
def test_a_project_of_another_tool_is_refused(stand_ins: Tools) -> None:
    assert stand_ins.run("vivado_hls", "2020.1", "open_project p\nexit\n").returncode == 0
    done = stand_ins.run("vitis_hls", "2022.1", "open_project p\nexit\n")
    assert done.returncode != 0 and "is a project of another tool" in done.stdout


def test_options_are_read_as_the_tools_do() -> None:
    known = commands("vitis_hls", "2022.1")
    assert parse(known["config_interface"], ["-m_axi_addr64=false"]) == ({"m_axi_addr64": "false"}, [])
    assert parse(known["csim_design"], ["-O", "-argv", "-5 a"]) == ({"O": "1", "argv": "-5 a"}, [])
    with pytest.raises(Refused, match="twice"):
        parse(known["csim_design"], ["-O", "-O"])
    assert "flow_target" not in commands("vivado_hls", "2020.1")["open_solution"].options
