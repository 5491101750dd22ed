"""Text reports of Vivado and of co-simulation: utilization by hierarchy, timing, power, latency.

    utilization(path)   report_utilization -hierarchical     cells of every instance of the routed design
    timing(path)        report_timing_summary                slacks, clocks, and whether timing is met
    power(path)         report_power                         the vendor's estimate from the routed design
    cosim(path)         cosim_design                         pass or fail, cycles in RTL simulation

The layouts are those that Vivado 2018.3 to 2024.1 write. Every reader raises ReportError for a file that is missing,
empty, cut short or something else, and says which.

Readers of others do not fit: `vivado-report-parser` 0.5 is under the GPL, drops the indentation that is the
hierarchy, and meets a file that was cut short with an assertion; `hls4ml.report` takes the folders of an hls4ml
project and nothing else, reports problems by printing, and knows no loops.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from codesign.errors import CodesignError

COLUMNS = {"lut": "Total LUTs", "ff": "FFs", "bram36": "RAMB36", "bram18": "RAMB18"}  # of the hierarchy


class ReportError(CodesignError):
    """A report is missing, cut short, or not what its name says."""


@dataclass(frozen=True)
class Cells:
    """What a part of a design occupies. `bram18` counts blocks of 18 Kbit, two a BRAM36."""

    lut: int = 0
    ff: int = 0
    dsp: int = 0
    bram18: int = 0
    uram: int = 0

    @property
    def bram36(self) -> float:
        """Blocks of 36 Kbit, with halves."""
        return self.bram18 / 2

    def __add__(self, other: Cells) -> Cells:
        return Cells(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))

    def __sub__(self, other: Cells) -> Cells:
        return Cells(*(a - b for a, b in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[int, int, int, int, int]:
        return self.lut, self.ff, self.dsp, self.bram18, self.uram


@dataclass
class Instance:
    """An instance of the netlist, with everything below it."""

    name: str
    module: str
    cells: Cells  # with those below
    below: list[Instance] = field(default_factory=list)

    def walk(self) -> Iterator[Instance]:
        yield self
        for instance in self.below:
            yield from instance.walk()

    @property
    def own(self) -> Cells:
        """Without those below."""
        cells = self.cells
        for instance in self.below:
            cells = cells - instance.cells
        return cells


@dataclass(frozen=True)
class Timing:
    """After routing. Slacks in ns, negative where a path is too slow; periods of the clocks in ns."""

    met: bool
    wns: float  # setup
    whs: float  # hold
    wpws: float | None  # pulse width
    failing: int  # endpoints, of setup, hold and pulse width together
    clocks: dict[str, float]
    worst: str | None  # the path that misses most, "source to destination"


@dataclass(frozen=True)
class Power:
    """The vendor's estimate for the routed design, in W, from assumed activity unless `confidence` is High."""

    total: float
    dynamic: float
    static: float
    confidence: str


@dataclass(frozen=True)
class Cosim:
    """Simulation of the RTL with the test bench. Cycles of one start, None where the tool gives none."""

    passed: bool
    minimum: int | None
    average: int | None
    maximum: int | None


def text_of(path: Path, what: str) -> str:
    """The text of a report. Raises ReportError where there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ReportError(
            f"{path}: cannot be read ({error.strerror}), expected {what}. Run `codesign synth` again."
        ) from None
    if not text.strip():
        raise ReportError(f"{path}: is empty, expected {what}. Run `codesign synth` again.")
    return text


def broken(path: Path, fault: str, what: str) -> ReportError:
    """The error for a file that is not the report it should be."""
    return ReportError(
        f"{path}: {fault}, expected {what}. It was cut short or written by another tool; "
        "run `codesign synth` again."
    )


def utilization(path: Path) -> Instance:
    """The whole design, from the table of report_utilization -hierarchical."""
    what = "a table of report_utilization -hierarchical"
    lines = text_of(path, what).splitlines()
    start = next((i for i, s in enumerate(lines) if re.match(r"\|\s*Instance\s*\|\s*Module\s*\|", s)), None)
    if start is None:
        raise broken(path, "has no table of instances", what)
    names = [cell.strip() for cell in lines[start].strip().strip("|").split("|")]
    places = {key: names.index(name) for key, name in COLUMNS.items() if name in names}
    dsp = next((i for i, name in enumerate(names) if name.startswith("DSP")), None)
    if len(places) != len(COLUMNS) or dsp is None:
        missing = [name for key, name in COLUMNS.items() if key not in places] + ["DSP"] * (dsp is None)
        raise broken(path, f"has no column {', '.join(missing)}", what)
    uram = names.index("URAM") if "URAM" in names else None
    stack: list[tuple[int, Instance]] = []
    root: Instance | None = None
    for number, line in enumerate(lines[start + 2 :], start + 3):
        if line.startswith("+-"):
            if root is None:
                raise broken(path, "has an empty table", what)
            return root
        cells = line.strip().removeprefix("|").removesuffix("|").split("|")
        if not line.startswith("|") or len(cells) != len(names):
            raise broken(path, f"line {number} is no row of the table", what)
        try:
            counts = {key: _count(cells[place]) for key, place in places.items()}
            found = Cells(
                lut=counts["lut"], ff=counts["ff"], dsp=_count(cells[dsp]),
                bram18=2 * counts["bram36"] + counts["bram18"],
                uram=0 if uram is None else _count(cells[uram]),
            )  # fmt: skip
        except ValueError:
            raise broken(path, f"line {number} has a cell that is no count", what) from None
        name = cells[0].strip()
        if name.startswith("("):
            continue  # the share of the instance above it that is in none below
        depth = len(cells[0]) - len(cells[0].lstrip())
        instance = Instance(name, cells[1].strip(), found)
        while stack and stack[-1][0] >= depth:
            stack.pop()
        if stack:
            stack[-1][1].below.append(instance)
        elif root is None:
            root = instance
        else:
            raise broken(path, f"line {number} begins a second design", what)
        stack.append((depth, instance))
    raise broken(path, "ends within the table", what)


def timing(path: Path) -> Timing:
    """The design's summary, from report_timing_summary."""
    what = "a report of report_timing_summary"
    text = text_of(path, what)
    if "Design Timing Summary" not in text:
        raise broken(path, "has no Design Timing Summary", what)
    head = re.search(r"^\s*WNS\(ns\)\s+TNS\(ns\).*\n[\s-]+\n(.*)$", text, re.MULTILINE)
    row = head[1].split() if head else []
    if "All user specified timing constraints are met." in text:
        met = True
    elif "Timing constraints are not met." in text:
        met = False
    elif "There are no user specified timing constraints." in text:
        raise ReportError(f"{path}: the design has no timing constraints, expected a clock of the engine. "
                          "Without one nothing is known about its speed.")  # fmt: skip
    else:
        raise broken(path, "says neither that timing is met nor that it is not", what)
    try:
        wns, whs = float(row[0]), float(row[4])
        wpws = None if row[8] == "NA" else float(row[8])
        failing = sum(int(row[i]) for i in (2, 6, 10) if row[i] != "NA")
    except (IndexError, ValueError):
        raise broken(path, "has no row of slacks", what) from None
    if met != (min(wns, whs, 0.0 if wpws is None else wpws) >= 0):
        raise broken(
            path, f"says that timing is {'' if met else 'not '}met, with WNS {wns} and WHS {whs}", what
        )
    clocks = {
        match[1]: float(match[2])
        for match in re.finditer(r"^\s*(\S+)\s+\{[^}]*\}\s+(\d+\.\d+)\s+\d+\.\d+\s*$", text, re.MULTILINE)
    }
    if not clocks:
        raise broken(path, "lists no clock", what)
    return Timing(met, wns, whs, wpws, failing, clocks, _worst(text))


def _worst(text: str) -> str | None:
    path = re.search(
        r"Slack \(VIOLATED\).*\n\s+Source:\s+(\S+)(?:.*\n)*?\s+Destination:\s+(\S+)", text, re.MULTILINE
    )
    return f"{path[1]} to {path[2]}" if path else None


def power(path: Path) -> Power:
    """Totals of report_power."""
    what = "a report of report_power"
    text = text_of(path, what)
    found = {}
    for key, label in (
        ("total", "Total On-Chip Power (W)"),
        ("dynamic", "Dynamic (W)"),
        ("static", "Device Static (W)"),
        ("confidence", "Confidence Level"),
    ):
        row = re.search(rf"^\|\s*{re.escape(label)}\s*\|\s*([^|]*?)\s*\|", text, re.MULTILINE)
        if row is None:
            raise broken(path, f"has no row {label}", what)
        found[key] = row[1]
    watts = []
    for key in ("total", "dynamic", "static"):
        number = re.match(r"<?(\d+(?:\.\d+)?)", found[key])  # a remark may follow: (Junction temp exceeded!)
        if number is None:
            raise broken(path, f"has a power of {found[key]!r}", what)
        watts.append(float(number[1]))
    return Power(watts[0], watts[1], watts[2], found["confidence"])


def cosim(path: Path) -> Cosim:
    """Of the language that was simulated."""
    what = "a report of cosim_design"
    rows = re.findall(r"^\|\s*(VHDL|Verilog)\s*\|(.*)\|\s*$", text_of(path, what), re.MULTILINE)
    for _, rest in rows:
        cells = [cell.strip() for cell in rest.split("|")]
        if cells[0] == "NA":
            continue
        if len(cells) < 7 or cells[0] not in ("Pass", "Fail"):
            raise broken(path, f"has a result {cells[0]!r} of {len(cells)} columns", what)
        cycles = [int(c) if c.isdigit() else None for c in cells[1:4]]
        return Cosim(cells[0] == "Pass", cycles[0], cycles[1], cycles[2])
    raise broken(path, "has no result of a simulation", what)


def _count(cell: str) -> int:
    """12 or 12(3.4%)."""
    match = re.fullmatch(r"\s*(\d+)(?:\(\s*<?[\d.]+%\))?\s*", cell)
    if match is None:
        raise ValueError(cell)
    return int(match[1])
