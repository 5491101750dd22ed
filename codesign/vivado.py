"""Find the vendor's tools on a machine, and their releases.

The HLS tool of a release: Vivado HLS to 2020.1 (`vivado_hls -f`), Vitis HLS to 2024.1 (`vitis_hls -f`), then
`vitis-run --mode hls --tcl` (UG1399). HLS tool and Vivado are taken of one release, because a block of a newer one
does not open in an older Vivado.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from codesign.board import RELEASE
from codesign.compat import release_key
from codesign.errors import ToolMissing
from codesign.machines import Machine

HLS_TOOLS = ("vivado_hls", "vitis_hls", "vitis-run")
VARIABLES = ("XILINX_HLS", "XILINX_VITIS", "XILINX_VIVADO")
FIRST_HLS = "2019.2"  # the first Vivado HLS whose compilers read C++11 in simulation and in synthesis
# What settings64.sh has put into the environment, or an installation: /tools/Xilinx/Vivado/2020.1 (to 2024.2),
# /tools/Xilinx/2025.1/Vivado (later), or one of these itself.
_PLACES = ("{0}/bin", "{0}/*/bin", "{0}/*/*/bin")


@dataclass(frozen=True)
class Tool:
    """A program of the vendor's: what it is called, where it is, of which release."""

    name: str
    path: str
    release: str

    @property
    def title(self) -> str:
        """`Vivado HLS 2020.1`, as its log says."""
        title = {"vivado": "Vivado", "vivado_hls": "Vivado HLS"}.get(self.name, "Vitis HLS")
        return f"{title} {self.release}"

    def command(self, script: str) -> list[str]:
        """The command that runs a Tcl script without asking anything. Logs and journals do not pile up."""
        if self.name == "vivado":
            return [self.path, "-mode", "batch", "-nojournal", "-nolog", "-notrace", "-source", script]
        if self.name == "vitis-run":
            return [self.path, "--mode", "hls", "--tcl", script]
        return [self.path, "-f", script]


def hls_tool_of(release: str) -> str:
    """The name of the program that does HLS in a release."""
    key = release_key(release)[:2]
    return "vivado_hls" if key <= (2020, 1) else "vitis_hls" if key <= (2024, 1) else "vitis-run"


def find(machine: Machine, place: str | None, wanted: str | None, vivado: bool) -> tuple[Tool, Tool | None]:
    """The HLS tool, and Vivado of the same release if `vivado`.

    place: an installation's folder, looked at alone; else the XILINX_* variables, then PATH.
    wanted: a release; else the newest that has all of what is needed.
    Raises ToolMissing naming what is there.
    """
    tools = _tools(machine, place)
    hls = {t.release: t for t in reversed(tools) if t.name != "vivado" and t.name == hls_tool_of(t.release)}
    synthesis = {t.release: t for t in reversed(tools) if t.name == "vivado"}
    releases = sorted(hls, key=release_key, reverse=True)
    usable = [r for r in releases if not vivado or r in synthesis]
    if wanted is not None:
        usable = [r for r in usable if r == wanted]
    if usable and release_key(usable[0]) < release_key(FIRST_HLS):
        raise ToolMissing(
            f"Vivado HLS {usable[0]} on {machine.name}: too old, expected {FIRST_HLS} or newer (it does not read "
            "C++11 throughout). Install a newer release, or choose it with --vivado."
        )
    if not usable:
        raise ToolMissing(_missing(machine, place, wanted, vivado, tools))
    return hls[usable[0]], synthesis.get(usable[0]) if vivado else None


def _missing(
    machine: Machine, place: str | None, wanted: str | None, vivado: bool, tools: Sequence[Tool]
) -> str:
    where = place or f"PATH and {', '.join(VARIABLES)}"
    found = ", ".join(f"{t.title} ({t.name})" for t in tools) or "none of the vendor's tools"
    release = wanted or "one release"
    needed = f"an HLS tool{' and Vivado' if vivado else ''} of {release}"
    if wanted is not None:
        needed = f"{hls_tool_of(wanted)}{' and vivado' if vivado else ''} {wanted}"
    return (
        f"{machine.name}: {found} found in {where}, expected {needed}. Source the vendor's settings64.sh, or give "
        "the folder of the installation with --tools, or another machine with --host."
    )


def _tools(machine: Machine, place: str | None) -> list[Tool]:
    """Every tool there is, the first place first."""
    found = []
    for line in machine.capture(_search(place), timeout=600).splitlines():
        name, _, rest = line.partition("\t")
        path, _, said = rest.partition("\t")
        release = re.search(rf"(?<!\d){RELEASE}(?!\d)", said)
        if name in (*HLS_TOOLS, "vivado") and release is not None:
            found.append(Tool(name, path, release.group()))
    return found


def _search(place: str | None) -> str:
    """A shell script that prints name, path and what each tool says of its version, by tabs.

    A tool is asked once, whatever number of ways lead to it.
    """
    if place is not None:
        given = '"$HOME"/' + shlex.quote(place[2:]) if place.startswith("~/") else shlex.quote(place)
        folders = " ".join(p.format(given) for p in _PLACES)
    else:
        folders = " ".join(f'"${{{v}:-/nonexistent}}"/bin' for v in VARIABLES)
    names = " ".join((*HLS_TOOLS, "vivado"))
    path = "" if place is not None else "p=$(command -v $n) && echo $n $p; "
    return (
        f'{{ for n in {names}; do for d in {folders}; do test -x "$d/$n" && echo "$n $d/$n"; done; {path}done; }} | '
        "awk '!seen[$0]++' | while read n p; do "
        "case $n in vitis-run) v=--version;; *) v=-version;; esac; "
        'said=$("$p" $v </dev/null 2>/dev/null | tr \'\\n\\t\' \'  \'); printf \'%s\\t%s\\t%s\\n\' "$n" "$p" "$said"; '
        "done"
    )
