"""The Tcl that the vendor's tools run, one script a step, as text by file name.

Pure: reads boards/*.tcl, writes nothing. Scripts run in DIR/synthesis, beside the sources in DIR/hls. Vivado and
Vivado HLS run Tcl 8.5, and every script ends its tool itself: `vitis_hls -f` would go on asking for commands.

What a release takes: UG902 (Vivado HLS 2020.1), UG1391 (what Vitis HLS took away and renamed), UG1399 (Vitis HLS
2020.2 to 2025.2), UG835 and UG994 (Vivado).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from boards import TOMLS
from codesign.board import Board
from codesign.compat import release_key

TOP = "codesign_engine"
PROJECT, SOLUTION = "engine", "solution1"  # of the HLS tool
OVERLAY = "overlay"  # project and block design of Vivado
CSIM_VECTORS, COSIM_VECTORS = "vectors.bin", "cosim.bin"
REPORTS, OUTPUT = "reports", "output"
UNCERTAINTY = "12.5%"  # of the clock period: Vivado HLS's default, Vitis HLS's is 27 % (UG1399)

HLS_STEPS = ("csim", "csynth", "cosim", "export")
VIVADO_STEPS = ("design", "synthesis", "bitstream")
STEPS = HLS_STEPS + VIVADO_STEPS


@dataclass(frozen=True)
class Job:
    """What the scripts depend on. Versions are releases such as 2020.1; `hls` is the program's name."""

    board: Board
    clock_mhz: int
    hls: str  # vivado_hls, vitis_hls or vitis-run
    hls_version: str
    vivado_version: str
    jobs: int = 2  # processes of Vivado at a time

    @property
    def period(self) -> float:
        """Of the engine's clock, in ns: of the clock that the board's PLL really gives."""
        return 1000 / self.board.fabric_mhz(self.clock_mhz)

    @property
    def vitis(self) -> bool:
        return self.hls != "vivado_hls"


def scripts(job: Job) -> dict[str, str]:
    """Every step's script: `csim.tcl` and so on."""
    bodies: Mapping[str, list[str]] = {
        "csim": [*_project(job), f"csim_design -clean -O -argv [file normalize {CSIM_VECTORS}]"],
        "csynth": [*_REOPEN, "csynth_design", *_keep("syn/report", "*csynth.xml")],
        "cosim": [
            *_REOPEN,
            f"cosim_design -O -rtl verilog -tool xsim -trace_level none -argv [file normalize {COSIM_VECTORS}]",
            f"set found {PROJECT}/{SOLUTION}/sim/report/{TOP}_cosim.rpt",
            f"file mkdir {REPORTS}",
            f"file copy -force $found {REPORTS}/cosim.rpt",
        ],
        "export": [
            *_REOPEN,
            "export_design -format ip_catalog -rtl verilog -vendor xilinx.com -library hls "
            f"-ipname {TOP} -version 1.0 -display_name {{codesign engine}}",
            f"if {{![file exists {PROJECT}/{SOLUTION}/impl/ip/component.xml]}} {{ "
            "error {the tool wrote no IP} }",
        ],
        "synthesis": _synthesis(job),
        "bitstream": _bitstream(job),
    }
    texts = {f"{name}.tcl": _script(job, name, body) for name, body in bodies.items()}
    texts["design.tcl"] = _design(job)
    return {f"{name}.tcl": texts[f"{name}.tcl"] for name in STEPS}


def _script(job: Job, name: str, body: list[str]) -> str:
    """A body as a procedure, whose failure ends the tool with status 1 and the reason as the last ERROR line."""
    lines = [
        f"# {name}.tcl -- written by codesign for {_tool_of(job, name)}, {job.board.name}. Do not edit.",
        "proc step {} {",
        *("  " + line for line in body),
        "}",
        *_guard(name),
    ]
    return "\n".join(lines) + "\n"


def _guard(name: str) -> list[str]:
    return [
        "if {[catch {step} message]} {",
        f'  puts "ERROR: \\[codesign {name}\\] $message"',
        "  exit 1",
        "}",
        "close_project",
        "exit 0",
    ]


def _tool_of(job: Job, step: str) -> str:
    if step in VIVADO_STEPS:
        return f"Vivado {job.vivado_version}"
    return f"{'Vitis' if job.vitis else 'Vivado'} HLS {job.hls_version}"


_REOPEN = [f"open_project {PROJECT}", f"open_solution {SOLUTION}"]


def _keep(folder: str, pattern: str) -> list[str]:
    return [
        f"file mkdir {REPORTS}",
        f"foreach old [glob -nocomplain {REPORTS}/{pattern}] {{ file delete $old }}",
        f"set found [glob {PROJECT}/{SOLUTION}/{folder}/{pattern}]",
        f"foreach report $found {{ file copy -force $report {REPORTS} }}",
    ]


def _project(job: Job) -> list[str]:
    """The project, new or as it was: the runner removes one of another design.

    The HLS tool's own hls_stream.h is used, never the simulation's: sim/ is no include folder.
    """
    standard = "-std=c++11" if job.vitis else "-std=c++0x"  # the older spelling is known to every Vivado HLS
    wide = job.board.family == "zynqmp"  # addresses of 64 bits; Zynq-7000 has 32
    if job.vitis:
        interface = f"config_interface -m_axi_addr64={'true' if wide else 'false'}"
        solution = f"open_solution -flow_target vivado {SOLUTION}"
    else:
        interface = "config_interface -m_axi_addr64" if wide else ""
        solution = f"open_solution {SOLUTION}"
    return [
        "set hls [file normalize ../hls]",
        f'set flags "{standard} -I$hls -I$hls/exact"',
        f"open_project {PROJECT}",
        f"set_top {TOP}",
        "add_files $hls/top.cpp -cflags $flags",
        "add_files -tb $hls/main.cpp -cflags $flags",
        solution,
        f"set_part {job.board.part}",
        f"create_clock -period {job.period:.3f} -name default",
        f"set_clock_uncertainty {UNCERTAINTY}",
        *([interface] if interface else []),
    ]


def _design(job: Job) -> str:
    """The block design: facts of the board, the file of its family, what all boards share."""
    board = job.board
    properties = [
        f"  CONFIG.{name.removeprefix('CONFIG.')} {_quoted(value)} \\" for name, value in board.ps.items()
    ]
    shared = [(TOMLS / f"{name}.tcl").read_text(encoding="utf-8") for name in (board.family, "overlay")]
    lines = [
        f"# design.tcl -- written by codesign for {_tool_of(job, 'design')}, {board.name}. Do not edit.",
        f"set part {board.part}",
        f"set clock_mhz {1000 / job.period:.3f}",
        f"set clock_divisor {board.fabric_divisor(job.clock_mhz)}",
        f"set ip_folder [file normalize {PROJECT}/{SOLUTION}/impl/ip]",
        f"set hp_ports {board.hp_ports}",
        f"set hp_width {board.hp_width_bits}",
        *(["set ps_properties [list \\", *properties, "]"] if properties else ["set ps_properties {}"]),
        "",
    ]
    return "\n".join(
        [
            *lines,
            *shared,
            "proc step {} { build_block_design }",
            *_guard("design"),
            "",
        ]
    )


def _quoted(value: str) -> str:
    """Text as one word of Tcl that nothing is substituted in."""
    if any(c in value for c in "{}\\"):
        return '"' + "".join("\\" + c if c in '"$[]{}\\' else c for c in value) + '"'
    return "{" + value + "}"


def _synthesis(job: Job) -> list[str]:
    return [*_open(), *_run(job, "synth_1", "")]


def _bitstream(job: Job) -> list[str]:
    """Place, route, reports, bitstream. Timing is judged by who reads timing.rpt; both files leave together."""
    bit = f"{OVERLAY}/{OVERLAY}.runs/impl_1/{OVERLAY}_wrapper.bit"
    return [
        *_open(),
        *_run(job, "impl_1", " -to_step write_bitstream"),
        "open_run impl_1",
        f"file mkdir {REPORTS}",
        f"report_utilization -hierarchical -file {REPORTS}/utilization.rpt",
        f"report_timing_summary -max_paths 10 -file {REPORTS}/timing.rpt",
        f"report_power -file {REPORTS}/power.rpt",
        f"file mkdir {OUTPUT}",
        f"file copy -force {bit} {OUTPUT}/design.bit",
        f"file copy -force {handoff(job)} {OUTPUT}/design.hwh",
    ]


def handoff(job: Job) -> str:
    """Where Vivado leaves the .hwh: generated files moved from .srcs to .gen in 2020.2 (UG994)."""
    sources = "gen" if release_key(job.vivado_version) >= (2020, 2) else "srcs"
    return f"{OVERLAY}/{OVERLAY}.{sources}/sources_1/bd/{OVERLAY}/hw_handoff/{OVERLAY}.hwh"


def _open() -> list[str]:
    return [f"open_project {OVERLAY}/{OVERLAY}.xpr"]


def _run(job: Job, run: str, options: str) -> list[str]:
    """A run from its beginning. What it says of its failure is in a log of its own: those lines are repeated."""
    return [
        f"reset_run {run}",
        f"launch_runs {run} -jobs {job.jobs}{options}",
        f"wait_on_run {run}",
        f'if {{[get_property PROGRESS [get_runs {run}]] != "100%"}} {{',
        f"  foreach log [glob -nocomplain {OVERLAY}/{OVERLAY}.runs/*/runme.log] {{",
        "    set file [open $log]",
        "    foreach line [split [read $file] \\n] { if {[string match ERROR* $line]} { puts $line } }",
        "    close $file",
        "  }",
        f"  error \"{run} ended as '[get_property STATUS [get_runs {run}]]'\"",
        "}",
    ]
