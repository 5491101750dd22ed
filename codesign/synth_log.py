"""What the vendor's logs say: the error that came first, and the line that tells how far a tool is."""

from __future__ import annotations

import re
from pathlib import Path

# Said after something else has failed, or by our own scripts: the reason stands before.
ECHOES = (
    "[Common 17-69]",  # Command failed
    "[Common 17-39]",  # 'open_run' failed due to earlier errors
    "[Vivado 12-13638]",  # Failed runs(s) : 'synth_1'
    "[Project 1-1]",
    "[IMPL 213-28]",  # Failed to generate IP
    "[SIM 211-100]",  # CSim failed with errors
    "[COSIM 212-4]",  # *** C/RTL co-simulation finished: FAIL ***
    "[codesign ",
)
# Without "ERROR:" before them (the tools' own Tcl, the simulator, a shell), most telling first.
BARE = (
    r"^bad lexical cast.*",  # IPs are numbered by date in 32 bits: releases before 2022.1 need a patch
    r"^@E .*",
    r".*\bSegmentation fault\b.*",
    r".*\bAbnormal program termination\b.*",
    r".*\bFATAL_ERROR\b.*",
    r"^couldn't .*",
    r"^invalid command name .*",
)
PATCH = (
    "Vivado and HLS releases before 2022.1 number IPs by date, which no longer fits: install AMD's y2k22_patch "
    "(answer record 76960)"
)
STREAM_MISUSE = re.compile(
    r"WARNING\b.*Hls::stream.*(?:is read while empty|contains leftover data)", re.IGNORECASE
)


def read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""


def first_error(text: str) -> str:
    """The first line that names a reason, whatever number of warnings and echoes surround it; "" without one."""
    lines = [line.strip() for line in text.splitlines()]
    errors = [line for line in lines if re.match(r"(?:CRITICAL )?ERROR\b|\[?ERROR\]?:", line)]
    for line in errors:
        if not any(echo in line for echo in ECHOES):
            return line
    for pattern in BARE:
        for line in lines:
            if re.match(pattern, line):
                return line
    return errors[0] if errors else ""


def hint(text: str) -> str:
    """What to do about a failure that is known; "" for others."""
    if re.search(r"core_revision|bad lexical cast", text):
        return f"{PATCH}."
    if re.search(r"\[Common 17-345\]|valid license was not found|\[Licensing ", text, re.IGNORECASE):
        return "Set XILINXD_LICENSE_FILE, or choose a part that needs no licence."
    if re.search(r"No space left on device|\[Common 17-48\]", text):
        return "Free some space where it ran."
    if re.search(r"part '?\S+'? (?:was )?not found|\[Common 17-69\].*part|\[Coretcl 2-106\]", text):
        return "Install the device family of the board with the vendor's installer."
    return ""


def progress(text: str) -> str:
    """The last line that says what a tool is doing, without its tag."""
    for line in reversed(text.splitlines()):
        said = re.match(
            r"(?:INFO: \[[^\]]*\]|#+|Phase [\d.]+|Starting|\[[A-Z][a-z]{2} .*\])\s*(.+)", line.strip()
        )
        if said:
            return re.sub(r"\s+", " ", line.strip().partition("] ")[2] or line.strip())[:80]
    return ""
