"""Modules through yosys, for Xilinx parts: the cells of each. In a process of its own, since it ends on an error."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from codesign.reports import Cells
from tests.eda.units import Twin

FAMILIES = ("xc7", "xcup")  # 7-series, UltraScale+
# LUTs of a cell. Wide multiplexers, carries and inverters take none of their own.
LUTS = {"RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8, "SRL16E": 1, "SRLC32E": 1}
LUTS |= {f"LUT{n}": 1 for n in range(1, 7)}
FREE = re.compile("MUXF[789]|CARRY[48]|INV|BUFG|GND|VCC")
OTHERS = {
    "DSP48E1": Cells(dsp=1),
    "DSP48E2": Cells(dsp=1),
    "RAMB18E1": Cells(bram18=1),
    "RAMB18E2": Cells(bram18=1),
    "RAMB36E1": Cells(bram18=2),
    "RAMB36E2": Cells(bram18=2),
    "URAM288": Cells(uram=1),
}
RUN = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in sys.argv[1:]:
    libyosys.run_pass(command, design)
"""


def cells_of(counted: Mapping[str, int]) -> Cells:
    """Of the cells that yosys counts by type. Raises KeyError for one that is not known here."""
    total = Cells()
    for kind, count in counted.items():
        if FREE.fullmatch(kind):
            continue
        if re.fullmatch("FD[CPRS]E", kind):
            one = Cells(ff=1)
        else:
            one = Cells(lut=LUTS[kind]) if kind in LUTS else OTHERS[kind]
        for _ in range(count):
            total += one
    return total


def run_commands(commands: Sequence[str], folder: Path) -> None:
    run = subprocess.run([sys.executable, "-c", RUN, *commands], capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, f"yosys: {run.stdout[-2000:]}{run.stderr[-2000:]}"


def synthesize(modules: Mapping[str, str], family: str, folder: Path, *options: str) -> dict[str, Cells]:
    """Cells of each module by name; all of them in one run, kept apart."""
    instances = "\n".join(f"  {name} of_{name}();" for name in modules)
    text = "\n".join(f"(* keep_hierarchy *){text}" for text in modules.values())
    source, report = folder / "modules.v", folder / "cells.json"
    source.write_text(f"{text}\nmodule top();\n{instances}\nendmodule\n", encoding="ascii")
    chosen = " ".join(("-noiopad", "-noclkbuf", *options))
    commands = (f"read_verilog {source}", "hierarchy -top top", "setattr -set keep 1 top/c:*",
                f"synth_xilinx -family {family} -top top {chosen}", f"tee -q -o {report} stat -json")  # fmt: skip
    run_commands(commands, folder)
    found = json.loads(report.read_text(encoding="utf-8"))["modules"]
    return {name: cells_of(found[f"\\{name}"]["num_cells_by_type"]) for name in modules}


def runs(twins: Iterable[Twin], folder: Path) -> Iterator[tuple[Twin, str, Cells]]:
    """Each unit with its family and cells; those of the same family and options in one run."""
    groups: dict[tuple[str, tuple[str, ...]], list[Twin]] = {}
    for twin in twins:
        for family in twin.families:
            groups.setdefault((family, twin.options), []).append(twin)
    for (family, options), group in groups.items():
        found = synthesize({twin.name: twin.verilog for twin in group}, family, folder, *options)
        yield from ((twin, family, found[twin.name]) for twin in group)
