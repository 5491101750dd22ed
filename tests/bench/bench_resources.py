"""The size of engines: our count beside CoDeNet's bitstream, and beside yosys for the same memories and arithmetic.

Nothing here is timed, and nothing was synthesized by a vendor's tool but CoDeNet's bitstream.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

from codesign import published_size
from codesign.fabric import Unit
from codesign.reports import Cells
from tests.bench.harness import Table
from tests.eda.units import Twin, twins
from tests.eda.yosys import runs

KINDS = ("DSP", "BRAM36", "URAM", "LUT", "FF")


def tables() -> Iterator[Table]:
    yield _published()
    yield _yosys()


def _published() -> Table:
    table = Table(
        "CoDeNet's engine: the structure of its published sources by our count, and its bitstream",
        ("unit", *KINDS),
        note="DSPs of units are products, all of them; of the whole, those that a ZU3EG has, and the rest are in LUTs. "
        "The bitstream holds the block design too, and its version of the sources is not known",
    )
    found = published_size.units()
    for unit in found:
        table.rows.append((unit.name, *(_number(n) for n in _row(unit))))
    ours, theirs = published_size.totals(), published_size.PUBLISHED
    table.rows.append(("engine, estimated", *(f"{ours[kind]:,}" for kind in KINDS)))
    table.rows.append(("bitstream", *(f"{theirs[kind]:,}" for kind in KINDS)))
    off = (f"{ours[kind] / theirs[kind] - 1:+.0%}" if theirs[kind] else "" for kind in KINDS)
    table.rows.append(("off by", *off))
    return table


def _row(unit: Unit) -> tuple[float, ...]:
    return unit.dsps, unit.bram18 / 2, unit.uram, unit.luts, unit.ffs


def _yosys() -> Table:
    table = Table(
        "Memories and arithmetic: counted / as yosys makes them",
        ("unit", "family", "DSP", "BRAM18", "URAM", "LUT", "yosys / counted", "FF", "because"),
        note="known of yosys: memories and DSPs as in the data books; against Vivado's reports LUTs of adders within "
        "10 %, of comparisons, choices and shifters 40 to 67 % too many",
    )
    if importlib.util.find_spec("pyosys") is None:
        table.note = "not run: pyosys is not installed"
        return table
    with tempfile.TemporaryDirectory() as folder:
        for twin, family, cells in runs(twins(), Path(folder)):
            table.rows.append(_pair(twin, family, cells))
    return table


def _pair(twin: Twin, family: str, made: Cells) -> tuple[str, ...]:
    ours = twin.ours
    counts = [
        f"{a} / {b}" if a or b else ""
        for a, b in zip((ours.dsp, ours.bram18, ours.uram), (made.dsp, made.bram18, made.uram), strict=True)
    ]
    ratio = f"{made.lut / ours.lut:.2f}" if ours.lut else ""
    luts = f"{ours.lut} / {made.lut}" if ours.lut or made.lut else ""
    why = twin.luts[2] if made.lut != ours.lut else ""
    return (twin.name, family, *counts, luts, ratio, f"{ours.ff} / {made.ff}", why)


def _number(value: float) -> str:
    return f"{value:,g}" if value else ""
