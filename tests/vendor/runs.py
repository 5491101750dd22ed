"""Vivado's runs and reports: what is launched, waited for, opened and written."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from tests.vendor import reports
from tests.vendor.block_design import Design
from tests.vendor.blocks import fabric_clock
from tests.vendor.grammar import Refused
from tests.vendor.server import Session


class Runs(ABC):
    """Of a project; the project and its block design are Vivado's (vivado.py)."""

    session: Session
    state: dict[str, Any]
    opened_run = ""

    @abstractmethod
    def _folder(self) -> Path: ...

    @abstractmethod
    def _design(self) -> Design: ...

    @abstractmethod
    def _save(self) -> None: ...

    def reset_run(self, options: dict[str, str], others: list[str]) -> None:
        self._run_name(others[0])
        self.state["runs"].pop(others[0], None)
        self._save()

    def launch_runs(self, options: dict[str, str], others: list[str]) -> None:
        name = self._run_name(others[0])
        if name in self.state["runs"]:
            raise Refused(f"[Common 17-69] Run '{name}' needs to be reset before launching.")
        if not self.state["top"]:
            raise Refused("[Project 1-68] No top module is set.")
        steps = ("opt_design", "place_design", "route_design", "write_bitstream")
        if options.get("to_step", steps[-1]) not in steps:
            raise Refused(f"[Vivado 12-1077] Step '{options['to_step']}' is not known.")
        if not options.get("jobs", "1").isdigit():
            raise Refused(f"[Common 17-165] -jobs {options['jobs']} is no number.")
        synthesized = self.state["runs"].get("synth_1", {}).get("PROGRESS") == "100%"
        if name == "impl_1" and not synthesized:
            raise Refused("[Common 17-69] synth_1 has not been run.")
        folder = self._folder() / f"{self.state['name']}.runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "runme.log"
        if self.session.fault("launch_runs", name):
            reason = (
                "ERROR: [Place 30-640] Place Check : This design requires more Slice LUTs than are available"
            )
            log.write_text("WARNING: [Synth 8-7080] nothing that matters\n" * 50 + reason + "\n")
            run = {"PROGRESS": "45%", "STATUS": f"{'place' if name == 'impl_1' else 'synth'}_design ERROR"}
        else:
            log.write_text("INFO: [Common 17-206] Exiting Vivado...\n")
            done = "synth_design" if name == "synth_1" else options.get("to_step", "route_design")
            run = {"PROGRESS": "100%", "STATUS": f"{done} Complete!"}
            if options.get("to_step") == "write_bitstream":
                path = folder / f"{self.state['top']}.bit"
                content = bitstream(self.state["top"], self.state["part"], self._design())
                path.write_bytes(content[: len(content) // 2])
                self.session.die("launch_runs")
                path.write_bytes(content)
        self.state["runs"][name] = {**run, "waited": False}
        self._save()
        self.session.log(f"[Mon Nov 23 10:14:02 2026] Launched {name}...")

    def wait_on_run(self, options: dict[str, str], others: list[str]) -> None:
        run = self.state["runs"].get(others[0])
        if run is None:
            raise Refused(f"[Vivado 12-1017] Run '{others[0]}' has not been launched.")
        run["waited"] = True
        self._save()
        if run["PROGRESS"] != "100%":
            self.session.log(f"ERROR: [Vivado 12-13638] Failed runs(s) : '{others[0]}'")

    def get_runs(self, options: dict[str, str], others: list[str]) -> str:
        return self._run_name(others[0])

    def open_run(self, options: dict[str, str], others: list[str]) -> None:
        if self.state["runs"].get(self._run_name(others[0]), {}).get("PROGRESS") != "100%":
            raise Refused(f"[Common 17-69] Run '{others[0]}' is not complete.")
        self.opened_run = others[0]

    def report_utilization(self, options: dict[str, str], others: list[str]) -> None:
        cell = next(c for c in self._design().cells.values() if c.kind.component is not None)
        sources = Path("../hls").resolve()
        self._report("utilization", options, f"sources={sources}", f"engine={cell.name}")

    def report_timing_summary(self, options: dict[str, str], others: list[str]) -> None:
        ps = next(
            c
            for c in self._design().cells.values()
            if c.kind.name in ("processing_system7", "zynq_ultra_ps_e")
        )
        values = [f"period_ns={1000 / fabric_clock(ps)[0]:.3f}"]
        if self.session.fault("report_timing_summary", "violated"):
            values += ["wns=-0.731", "failing=112"]
        if self.session.fault("report_timing_summary", "truncated"):
            values.append("damage=truncate")
        self._report("timing", options, *values)

    def report_power(self, options: dict[str, str], others: list[str]) -> None:
        self._report("power", options)

    def _report(self, kind: str, options: dict[str, str], *values: str) -> None:
        if self.opened_run != "impl_1":
            raise Refused("[Common 17-53] User Exception: No open design.")
        if "file" not in options:
            raise Refused("[Common 17-165] A report without -file is of no use here.")
        common = [
            f"design={self._design().name}",
            f"part={self.state['part']}",
            f"version={self.session.release}",
        ]
        reports.main([kind, options["file"], *common, *values])

    def _run_name(self, name: str) -> str:
        self._folder()
        if name not in ("synth_1", "impl_1"):
            raise Refused(f"[Vivado 12-1017] Run '{name}' is not known.")
        return name


def bitstream(top: str, part: str, design: Design) -> bytes:
    """A .bit with the header that Vivado writes: fields a to d are texts, e the length of what follows."""

    def field(key: str, text: str) -> bytes:
        data = text.encode() + b"\0"
        return key.encode() + len(data).to_bytes(2, "big") + data

    name = re.sub(r"^x[ca](7z.*?)(-.*)?$", r"\1", part)
    body = (b"\xff" * 32 + b"\x00\x00\x00\xbb\x11\x22\x00\x44" + b"\xff" * 8 + b"\xaa\x99\x55\x66") + repr(
        sorted(design.cells)).encode() * 200  # fmt: skip
    return (bytes.fromhex("00090ff00ff00ff00ff0000001") + field("a", f"{top};UserID=0XFFFFFFFF;Version=2020.1")
            + field("b", name) + field("c", "2026/11/23") + field("d", "10:14:02") + b"e"
            + len(body).to_bytes(4, "big") + body)  # fmt: skip
