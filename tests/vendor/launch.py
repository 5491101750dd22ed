"""Launchers of the stand-in tools, named and laid out as the vendor's installer does.

    install(folder, "2020.1")      folder/Vivado/2020.1/bin/{vivado,vivado_hls}
    install(folder, "2022.1")      folder/Vivado/2022.1/bin/vivado, folder/Vitis_HLS/2022.1/bin/vitis_hls
    install(folder, "2025.1")      folder/2025.1/Vivado/bin/vivado, folder/2025.1/Vitis/bin/vitis-run

Each takes the command line of its release and nothing else.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HLS_TITLE = "High-Level Synthesis from C, C++ and OpenCL"
BUILDS = {
    "vivado": "Vivado",
    "vivado_hls": f"Vivado(TM) HLS - {HLS_TITLE}",
    "vitis_hls": f"Vitis HLS - {HLS_TITLE}",
    "vitis-run": "****** vitis-run",
}


def install(folder: Path, release: str, tools: Sequence[str] | None = None) -> Path:
    """Returns the folder that `--tools` takes."""
    year = tuple(int(part) for part in release.split(".")[:2])
    hls = "vivado_hls" if year <= (2020, 1) else "vitis_hls" if year <= (2024, 1) else "vitis-run"
    for tool in tools if tools is not None else (hls, "vivado"):
        product = {
            "vivado": "Vivado",
            "vivado_hls": "Vivado",
            "vitis_hls": "Vitis_HLS",
            "vitis-run": "Vitis",
        }[tool]
        place = folder / (f"{release}/{product}" if year >= (2025, 1) else f"{product}/{release}") / "bin"
        place.mkdir(parents=True, exist_ok=True)
        script = place / tool
        words = shlex.join([sys.executable, "-m", "tests.vendor.launch", tool, release])
        path = shlex.quote(str(ROOT))
        script.write_text(f'#!/bin/sh\nPYTHONPATH={path}${{PYTHONPATH:+:$PYTHONPATH}} exec {words} "$@"\n')
        script.chmod(0o755)
    return folder


def script_of(tool: str, arguments: Sequence[str]) -> str | None:
    """The Tcl script a command line names. None where it is not one that the tool takes in batch."""
    words = list(arguments)
    if tool == "vivado":
        flags = {"-nojournal", "-nolog", "-notrace"}
        words = [w for w in words if w not in flags]
        if len(words) == 4 and words[:3] == ["-mode", "batch", "-source"]:
            return words[3]
        return None
    if tool == "vitis-run":
        return words[3] if len(words) == 4 and words[:3] == ["--mode", "hls", "--tcl"] else None
    return words[1] if len(words) == 2 and words[0] == "-f" else None


def main(arguments: Sequence[str]) -> int:
    tool, release, *words = arguments
    if words == ["--version" if tool == "vitis-run" else "-version"]:
        sys.stdout.write(f"{BUILDS[tool]} v{release} (64-bit)\n")
        sys.stdout.write("  **** SW Build 2902540 on Wed May 27 19:54:35 MDT 2020" + "\n")
        sys.stdout.write("Copyright 1986-2020 Xilinx, Inc. All Rights Reserved." + "\n")
        return 0
    script = script_of(tool, words)
    if script is None:
        sys.stdout.write(f"ERROR: [Common 17-170] {tool} {release} does not take {shlex.join(words)}" + "\n")
        return 1
    if not Path(script).is_file():
        sys.stdout.write(f"ERROR: [Common 17-180] File '{script}' does not exist." + "\n")
        return 1
    sys.stdout.write(f"{BUILDS[tool]} v{release} (64-bit)" + "\n")
    sys.stdout.flush()
    tcl = Path(__file__).with_name("tool.tcl")
    os.execvp("tclsh", ["tclsh", str(tcl), sys.executable, tool, release, script])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
