"""The HLS tools' commands: projects, C simulation by really compiling and running the test bench, reports, IPs.

RTL co-simulation has no RTL here. What it is run for is kept: the test bench calls the engine through a wrapper that
gives each memory port a copy of its own, of as many words as its `depth` says, and brings back only what the writing
port holds. So vectors that would fail for that reason in the real tools fail here too.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.vendor import reports
from tests.vendor.bench import binary, depth, interface
from tests.vendor.component import Register, component, engine_registers
from tests.vendor.grammar import Refused
from tests.vendor.parts import known_part
from tests.vendor.server import Session

SAVED = ".standin.json"  # in the project's folder: what the tool's own files would hold


class Hls:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.vitis = session.tool != "vivado_hls"
        self.project: Path | None = None
        self.solution: str | None = None
        self.state: dict[str, Any] = {}

    def call(self, name: str, options: dict[str, str], others: list[str]) -> str:
        return str(getattr(self, name)(options, others) or "")

    # --- the project ---

    def open_project(self, options: dict[str, str], others: list[str]) -> None:
        path = Path(others[0])
        app, foreign = ("hls.app", "vivado_hls.app") if self.vitis else ("vivado_hls.app", "hls.app")
        if "reset" in options:
            shutil.rmtree(path, ignore_errors=True)
        if (path / foreign).exists() and "upgrade" not in options:
            raise Refused(f"[HLS 200-1009] '{path}' is a project of another tool, use -upgrade or -reset.")
        path.mkdir(exist_ok=True)
        (path / app).write_text(f'<project name="{path.name}" top=""/>\n')
        saved = path / SAVED
        self.state = (
            json.loads(saved.read_text()) if saved.exists() else {"files": [], "tb": [], "solutions": {}}
        )
        self.project, self.solution = path, None
        self.session.log(f"INFO: [HLS 200-10] Opening project '{path.resolve()}'.")

    def close_project(self, options: dict[str, str], others: list[str]) -> None:
        self._project()
        self.project = self.solution = None

    def close_solution(self, options: dict[str, str], others: list[str]) -> None:
        self._solution()
        self.solution = None

    def set_top(self, options: dict[str, str], others: list[str]) -> None:
        self._project()
        self.state["top"] = others[0]
        self._save()

    def add_files(self, options: dict[str, str], others: list[str]) -> None:
        self._project()
        flags = shlex.split(options.get("cflags", ""))
        for flag in flags:
            if flag.startswith("-I") and not Path(flag[2:]).is_dir():
                raise Refused(f"[HLS 200-40] Include folder '{flag[2:]}' does not exist.")
            if flag.startswith("-I") and (Path(flag[2:]) / "hls_stream.h").exists():
                raise Refused(f"[HLS 200-41] '{flag[2:]}' hides the tool's own hls_stream.h.")
        kind = "tb" if "tb" in options else "files"
        for name in others[0].split():
            if not Path(name).is_file():
                raise Refused(f"[HLS 200-642] The source file '{name}' does not exist.")
            entry = [str(Path(name).resolve()), flags]
            self.state[kind] = [e for e in self.state[kind] if e[0] != entry[0]] + [entry]
        self._save()

    def open_solution(self, options: dict[str, str], others: list[str]) -> None:
        project = self._project()
        if options.get("flow_target", "vivado") not in ("vivado", "vitis"):
            raise Refused(f"[HLS 200-43] flow_target '{options['flow_target']}' is not known.")
        self.solution = others[0]
        if "reset" in options or others[0] not in self.state["solutions"]:
            shutil.rmtree(project / others[0], ignore_errors=True)
            self.state["solutions"][others[0]] = {}
        (project / others[0]).mkdir(exist_ok=True)
        self._save()

    def set_part(self, options: dict[str, str], others: list[str]) -> None:
        if not known_part(others[0]):
            raise Refused(f"[HLS 200-70] Part '{others[0]}' not found.")
        self._set(part=others[0])

    def create_clock(self, options: dict[str, str], others: list[str]) -> None:
        period = float(options.get("period", "10"))
        if not 1 <= period <= 100:
            raise Refused(f"[HLS 200-71] Clock period {period} is out of range.")
        self._set(period=period)

    def set_clock_uncertainty(self, options: dict[str, str], others: list[str]) -> None:
        if not re.fullmatch(r"\d+(\.\d+)?%?", others[0]):
            raise Refused(f"[HLS 200-72] Uncertainty '{others[0]}' is no number of ns and no percentage.")
        self._set(uncertainty=others[0])

    def config_interface(self, options: dict[str, str], others: list[str]) -> None:
        if "m_axi_addr64" in options:
            self._set(addr64=options["m_axi_addr64"] in ("1", "true"))

    def config_compile(self, options: dict[str, str], others: list[str]) -> None:
        self._solution()

    def config_export(self, options: dict[str, str], others: list[str]) -> None:
        self._set(export=options)

    # --- the runs ---

    def csim_design(self, options: dict[str, str], others: list[str]) -> None:
        folder = self._solution() / "csim" / "build"
        folder.mkdir(parents=True, exist_ok=True)
        self.session.log("INFO: [SIM 211-2] *************** CSIM start ***************")
        self.session.log("INFO: [SIM 211-4] CSIM will launch GCC as the compiler.")
        if self.session.fault("csim_design", "stream"):
            self.session.log("WARNING: Hls::stream 'loaded' contains leftover data, which may result in RTL simulation"
                             " hanging.")  # fmt: skip
        self._run(binary(self.state, None), options, folder)
        self.session.log("INFO: [SIM 211-1] CSim done with 0 errors.")
        self.session.log("INFO: [SIM 211-3] *************** CSIM finish ***************")

    def csynth_design(self, options: dict[str, str], others: list[str]) -> None:
        solution, facts = self._ready()
        top, source = self.state["top"], Path(self.state["files"][0][0])
        if not re.search(rf"\b{re.escape(top)}\s*\(", source.read_text()):
            raise Refused(f"[HLS 200-70] Top function '{top}' not found in {source.name}.")
        self.session.log("INFO: [HLS 200-10] Analyzing design file 'top.cpp' ...")
        values = [
            f"sources={source.parent}", f"top={top}", f"version={self.session.release}", f"part={facts['part']}",
            f"clock_ns={facts['period']}",
        ]  # fmt: skip
        for key in ("ii", "drop", "damage"):
            fault = self.session.faults.get("csynth_design", "")
            if fault.startswith(f"{key}:"):
                values.append(f"{key}={fault[len(key) + 1 :]}")
        folder = solution / "syn" / "report"
        reports.main(["csynth", str(folder), *values])
        self.session.die("csynth_design")
        rtl = solution / "syn" / "verilog" / f"{top}.v"
        rtl.parent.mkdir(parents=True, exist_ok=True)
        rtl.write_text(f"module {top} (); endmodule\n")
        self._set(synthesized=True)
        self.session.log(f"INFO: [RTGEN 206-100] Finished creating RTL model for '{top}'.")

    def cosim_design(self, options: dict[str, str], others: list[str]) -> None:
        solution = self._synthesized()
        if options.get("rtl", "verilog") not in ("verilog", "vhdl"):
            raise Refused(f"[COSIM 212-1] RTL '{options['rtl']}' is not known.")
        if options.get("tool", "auto") not in (
            "auto",
            "xsim",
            "vcs",
            "modelsim",
            "riviera",
            "ncsim",
            "xceliumn",
        ):
            raise Refused(f"[COSIM 212-2] Simulator '{options['tool']}' is not known.")
        if options.get("trace_level", "none") not in ("none", "all", "port", "port_hier"):
            raise Refused(f"[COSIM 212-3] Trace level '{options['trace_level']}' is not known.")
        folder = solution / "sim" / "wrapc_pc"
        folder.mkdir(parents=True, exist_ok=True)
        self.session.log("INFO: [COSIM 212-47] Using XSIM for RTL simulation.")
        failed = ""
        try:
            self._run(binary(self.state, depth(Path(self.state["files"][0][0]))), options, folder)
        except Refused as error:
            failed = str(error)
        path = solution / "sim" / "report" / f"{self.state['top']}_cosim.rpt"
        status = "Fail" if failed else "Pass"
        reports.main(["cosim", str(path), f"top={self.state['top']}", f"version={self.session.release}",
                      f"status={status}"])  # fmt: skip
        self.session.log(f"INFO: [COSIM 212-1000] *** C/RTL co-simulation finished: {status.upper()} ***")
        if failed:
            raise Refused(
                "[COSIM 212-359] Aborting co-simulation: C TB post check failed, nonzero return value."
            )

    def export_design(self, options: dict[str, str], others: list[str]) -> None:
        solution, facts = self._synthesized(), self._facts()
        options = {**facts.get("export", {}), **options}
        if options.get("format", "ip_catalog") not in ("ip_catalog", "syn_dcp", "sysgen", "xo"):
            raise Refused(f"[IMPL 213-5] Format '{options['format']}' is not known.")
        if self.session.fault("export_design", "y2k22"):
            self.session.log("source run_ippack.tcl -notrace")
            self.session.log("bad lexical cast: source type value could not be interpreted as target")
            self.session.log("    while executing")
            self.session.log('"rdi::set_property core_revision 2611230914 {component component_1}"')
            raise Refused("[IMPL 213-28] Failed to generate IP.")
        folder = solution / "impl" / "ip"
        folder.mkdir(parents=True, exist_ok=True)
        vlnv = (options.get("vendor", "xilinx.com"), options.get("library", "hls"),
                options.get("ipname", self.state["top"]), options.get("version", "1.0"))  # fmt: skip
        source = Path(self.state["files"][0][0])
        masters, arguments, width = interface(source)
        table: list[Register] = engine_registers(
            arguments, facts.get("addr64", self._default64()), self.vitis
        )
        text = component(vlnv, masters, max(32, width), 64 if facts.get("addr64") else 32, table)
        (folder / "component.xml").write_text(text)
        self.session.log("INFO: [IMPL 213-8] Exporting RTL as a Vivado IP.")

    def _default64(self) -> bool:
        return (
            False  # of the Vivado IP flow, in both tools (UG1399: enabled for the Vitis flow, else disabled)
        )

    # --- state ---

    def _project(self) -> Path:
        if self.project is None:
            raise Refused("[HLS 200-101] No project is open, use open_project first.")
        return self.project

    def _solution(self) -> Path:
        project = self._project()
        if self.solution is None:
            raise Refused("[HLS 200-102] No solution is open, use open_solution first.")
        return project / self.solution

    def _facts(self) -> dict[str, Any]:
        self._solution()
        found: dict[str, Any] = self.state["solutions"][self.solution]
        return found

    def _set(self, **facts: Any) -> None:
        self._facts().update(facts)
        self._save()

    def _save(self) -> None:
        (self._project() / SAVED).write_text(json.dumps(self.state))

    def _ready(self) -> tuple[Path, dict[str, Any]]:
        solution, facts = self._solution(), self._facts()
        missing = [name for name in ("part", "period") if name not in facts]
        if missing or "top" not in self.state or not self.state["files"]:
            raise Refused(
                f"[HLS 200-103] The project lacks {', '.join(missing) or 'a top function or files'}."
            )
        return solution, facts

    def _synthesized(self) -> Path:
        solution, facts = self._ready()
        if not facts.get("synthesized") or not (solution / "syn" / "verilog").is_dir():
            raise Refused("[HLS 200-104] The design is not synthesized, run csynth_design first.")
        return solution

    # --- the test bench ---

    def _run(self, program: Path, options: dict[str, str], folder: Path) -> None:
        arguments = shlex.split(options.get("argv", ""))
        done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True)
        for line in (done.stdout + done.stderr).splitlines():
            self.session.log(line)
        if done.returncode != 0:
            self.session.log("ERROR: [SIM 211-100] CSim failed with errors.")
            raise Refused(f"[SIM 211-100] 'csim_design' failed: nonzero return value ({done.returncode}).")
