"""Reports of high-level synthesis: csynth.xml and the NAME_csynth.xml of each module.

    found = csynth(folder)        folder of the reports, as Vivado HLS 2018.2 to Vitis HLS 2024.1 write them
    found.modules["window_Config_s"].loops

Figures are the synthesizer's own: cells and clock before place and route, initiation intervals as scheduled.
Files that cannot be read are named together in one ReportError.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codesign.reports import Cells, ReportError, text_of

TOP = "csynth.xml"
WHAT = "a report of csynth_design"
SHOWN = 6  # files that an error names
# What makes an element a loop; others hold violations, instances and whatever a version adds.
SIGNS = ("TripCount", "Latency", "IterationLatency", "PipelineII")


@dataclass(frozen=True)
class Loop:
    """A loop as it was scheduled."""

    module: str
    name: str  # OUTER_INNER where two were made one
    outer: tuple[str, ...]  # names of the loops around it in this module, outermost first
    pipelined: bool
    ii: int | None  # None: not pipelined, or not known
    depth: int | None  # cycles of one iteration in the pipeline


@dataclass(frozen=True)
class Module:
    """A function as it was synthesized. `cells` are with all modules it contains."""

    name: str
    loops: tuple[Loop, ...]
    cells: Cells
    latency: tuple[int, int] | None  # cycles, least and most; None where loops have variable bounds


@dataclass(frozen=True)
class Csynth:
    """A synthesis. Periods in ns."""

    version: str
    part: str
    top: str
    target_ns: float
    uncertainty_ns: float
    estimated_ns: float
    modules: dict[str, Module]
    available: Cells

    @property
    def tool(self) -> str:
        return f"{'Vivado' if version_of(self.version) < (2020, 2) else 'Vitis'} HLS {self.version}"

    @property
    def cells(self) -> Cells:
        return self.modules[self.top].cells

    @property
    def clock_met(self) -> bool:
        """Whether the synthesizer expects the clock to be reached with its margin."""
        return self.estimated_ns <= self.target_ns - self.uncertainty_ns + 1e-9


def version_of(text: str) -> tuple[int, int]:
    """2020.1 or 2023.1.1 as numbers; (0, 0) for what is no version."""
    parts = text.split(".")
    return (int(parts[0]), int(parts[1])) if len(parts) >= 2 and all(p.isdigit() for p in parts) else (0, 0)


class _Fault(Exception):
    """What is wrong with one file."""


def csynth(folder: Path) -> Csynth:
    """All modules of a synthesis. Raises ReportError naming the files that are not what they should be."""
    faults: list[str] = []
    found: Csynth | None = None
    modules: dict[str, Module] = {}
    text_of(folder / TOP, WHAT)  # missing or empty: nothing else matters
    try:
        root = _parsed(folder / TOP)
        found = _summary(root, modules)
        modules[found.top] = _module(root, found.top)
        for element in root.findall("ModuleInformation/Module"):
            module = _module(element, _text(element, "Name"))
            modules.setdefault(module.name, module)
    except _Fault as fault:
        faults.append(f"{TOP} {fault}")
    for path in sorted(folder.glob("*_csynth.xml")):
        try:
            element = _parsed(path)
            version = _text(element, "ReportVersion/Version")
            if found is not None and version != found.version:
                raise _Fault(f"is of version {version}, {TOP} of {found.version}")
            module = _module(element, _text(element, "UserAssignments/TopModelName"))
            modules.setdefault(module.name, module)
        except _Fault as fault:
            faults.append(f"{path.name} {fault}")
    if found is None or faults:
        if len(faults) > SHOWN:
            faults[SHOWN:] = [f"and {len(faults) - SHOWN} more"]
        raise ReportError(f"{folder}: {'; '.join(faults)}. Expected reports of one run of csynth_design; these were "
                          "cut short or written by another tool or version. Run `codesign synth` again.")  # fmt: skip
    return found


def _summary(root: ET.Element, modules: dict[str, Module]) -> Csynth:
    clock, performance = "UserAssignments/", "PerformanceEstimates/SummaryOfTimingAnalysis/"
    return Csynth(
        version=_text(root, "ReportVersion/Version"),
        part=_text(root, "UserAssignments/Part"),
        top=_text(root, "UserAssignments/TopModelName"),
        target_ns=_number(root, f"{clock}TargetClockPeriod"),
        uncertainty_ns=_number(root, f"{clock}ClockUncertainty"),
        estimated_ns=_number(root, f"{performance}EstimatedClockPeriod"),
        modules=modules,
        available=_cells(root, "AvailableResources"),
    )


def _parsed(path: Path) -> ET.Element:
    try:
        root = ET.fromstring(path.read_bytes())
    except OSError as error:
        raise _Fault(f"cannot be read ({error.strerror})") from None
    except ET.ParseError as error:
        raise _Fault(f"is no whole XML ({error})") from None
    if root.tag != "profile":
        raise _Fault(f"begins with <{root.tag}>, not with <profile>")
    return root


def _module(element: ET.Element, name: str) -> Module:
    loops = element.find("PerformanceEstimates/SummaryOfLoopLatency")
    overall = "PerformanceEstimates/SummaryOfOverallLatency/"
    least, most = (_text(element, f"{overall}{case}-caseLatency") for case in ("Best", "Worst"))
    latency = (int(least), int(most)) if least.isdigit() and most.isdigit() else None
    found = () if loops is None else tuple(_loops(loops, name, ()))
    return Module(name, found, _cells(element, "Resources"), latency)


def _loops(parent: ET.Element, module: str, outer: tuple[str, ...]) -> Iterator[Loop]:
    for element in parent:
        if all(element.find(sign) is None for sign in SIGNS):
            continue
        name = element.findtext("Name") or element.tag
        ii, depth = element.findtext("PipelineII"), element.findtext("PipelineDepth")
        yield Loop(module, name, outer, ii is not None, _whole(ii), _whole(depth))
        yield from _loops(element, module, (*outer, name))


def _cells(element: ET.Element, which: str) -> Cells:
    place = f"AreaEstimates/{which}"
    found = element.find(place)
    if found is None:
        raise _Fault(f"has no {place}")
    counts = {child.tag: _whole((child.text or "").strip()) for child in found}
    dsp = next((count for tag, count in counts.items() if tag.startswith("DSP")), None)  # DSP48E until 2019.2
    values = {
        "LUT": counts.get("LUT"),
        "FF": counts.get("FF"),
        "DSP": dsp,
        "BRAM_18K": counts.get("BRAM_18K"),
    }
    missing = [tag for tag, value in values.items() if value is None]
    if missing:
        raise _Fault(f"has no count of {', '.join(missing)} in {place}")
    lut, ff, blocks, bram = (value or 0 for value in values.values())
    return Cells(lut, ff, blocks, bram, counts.get("URAM") or 0)


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _text(element: ET.Element, place: str) -> str:
    text = element.findtext(place)
    if not text:
        raise _Fault(f"has no {place}")
    return text


def _number(element: ET.Element, place: str) -> float:
    try:
        return float(_text(element, place))
    except ValueError:
        raise _Fault(f"has {place} {_text(element, place)}, expected a number") from None
