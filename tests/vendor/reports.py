"""Reports as the vendor's tools lay them out, written from an emitted design and the figures that are asked for.

    python -m tests.vendor.reports KIND OUT key=value...

| KIND | OUT | keys beside version=2020.1, part=xc7z020clg400-1, damage= |
|---|---|---|
| csynth | directory for csynth.xml and NAME_csynth.xml of each module | sources= (the design's directory), top=, \
clock_ns=10, uncertainty_ns=, estimated_ns=, ii=MODULE.LOOP:N (changes one, `,` between several), \
drop=MODULE.LOOP, inline=FUNCTION (`,` between several) |
| cosim | file | top=, status=Pass, rtl=Verilog, min=, avg=, max= (cycles) |
| utilization | file | sources=, top=, inline=, design=design_1, engine=codesign_engine_0, scale=1 (of all counts) |
| timing | file | design=, clock=clk_fpga_0, period_ns=10, wns=0.412, whs=0.021, wpws=3.75, failing=0, endpoints=48211 |
| power | file | design=, total=1.93, static=0.14, confidence=Low |

damage= `truncate` (half of the text), `empty`, or `other` (text of another tool). The layouts follow reports that
Vivado HLS 2018.2 and 2020.1, Vitis HLS 2022.1 and 2023.2, Vivado 2018.3, 2019.2 and 2023.1 have written; figures
mean nothing. Vivado HLS reports every function; Vitis HLS moves each pipelined loop of a function that does
more into a module of its own, FUNCTION_Pipeline_LOOP, and repeats all modules in csynth.xml.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.vendor.design import Area, Loop, Module, read, total
from tests.vendor.layout import cosim, heading, is_vitis, power, tabulated, timing, xml

AVAILABLE = {  # LUT, FF, DSP, BRAM36 by the beginning of a part's name
    "xc7z010": (17600, 35200, 80, 60),
    "xc7z020": (53200, 106400, 220, 140),
    "xczu3eg": (70560, 141120, 360, 216),
    "xczu5eg": (117120, 234240, 1248, 144),
    "xczu7ev": (230400, 460800, 1728, 312),
    "xck26": (117120, 234240, 1248, 144),
}
Values = Mapping[str, str]
Xml = list[object]  # [tag, *children], a child being text or Xml


def main(arguments: Sequence[str]) -> int:
    kind, out, *pairs = arguments
    values = {"version": "2020.1", "part": "xc7z020clg400-1", "top": "codesign_engine", "design": "design_1"}
    values |= dict(pair.split("=", 1) for pair in pairs)
    if kind == "csynth":
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*csynth.xml"):
            old.unlink()
        for name, text in csynth(values).items():
            (folder / name).write_text(damaged(text, values), encoding="utf-8")
    else:
        path = Path(out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(damaged(KINDS[kind](values), values), encoding="utf-8")
    return 0


def damaged(text: str, values: Values) -> str:
    how = values.get("damage", "")
    if how == "other":
        return "Flow report for codesign\nQuartus Prime Version 22.1std.0 Build 915\n"
    return {"truncate": text[: len(text) // 2], "empty": ""}.get(how, text)


def available(values: Values) -> tuple[int, int, int, int]:
    part = values["part"].lower()
    return next((v for name, v in AVAILABLE.items() if part.startswith(name)), AVAILABLE["xc7z020"])


def _design(values: Values) -> list[Module]:
    inline = [name for name in values.get("inline", "").split(",") if name]
    return read(Path(values["sources"]), values["top"], inline)


def csynth(values: Values) -> dict[str, str]:
    """Texts by file name."""
    modules = _design(values)
    for change in filter(None, values.get("ii", "").split(",")):
        place, ii = change.split(":")
        for loop in _named(modules, place):
            loop.ii = int(ii) if ii != "none" else None
    dropped = [id(loop) for place in filter(None, values.get("drop", "").split(","))
               for loop in _named(modules, place)]  # fmt: skip
    for module in modules:
        module.loops = _without(module.loops, dropped)
    if is_vitis(values):
        modules = [part for module in modules for part in _outlined(module)]
    by_name = {module.name: module for module in modules}
    texts = {}
    for module in modules:
        tree = _profile(module, by_name, values)
        texts[f"{module.name}_csynth.xml"] = xml(tree, indent=is_vitis(values))
    tree = _profile(modules[0], by_name, values)
    if is_vitis(values):
        tree += [
            _hierarchy(modules[0], by_name),
            ["ModuleInformation", *(_module(m, by_name) for m in modules)],
        ]
    return texts | {"csynth.xml": xml(tree, indent=is_vitis(values))}


def _without(loops: list[Loop], dropped: Sequence[int]) -> list[Loop]:
    return [Loop(x.name, x.ii, _without(x.inner, dropped)) for x in loops if id(x) not in dropped]


def _named(modules: Sequence[Module], place: str) -> list[Loop]:
    """Loops called FUNCTION.LOOP; naming one that is not there is a mistake in a test."""
    function, _, label = place.partition(".")
    found: list[Loop] = []
    for module in modules:
        todo = list(module.loops) if function in (module.function, module.name) else []
        while todo:
            loop = todo.pop()
            todo += loop.inner
            if loop.name == label:
                found.append(loop)
    if not found:
        raise SystemExit(f"{place}: no such loop")
    return found


def _outlined(module: Module) -> list[Module]:
    """A module and those that Vitis HLS makes of its pipelined loops."""
    made: list[Module] = []

    def moved(loops: list[Loop]) -> list[Loop]:
        left = []
        for loop in loops:
            if loop.ii is not None and (len(loops) > 1 or loops is not module.loops):
                name = f"{module.name.removesuffix('_s')}_Pipeline_{loop.name}"
                made.append(Module(name, module.function, [loop], [], Area(90, 120), False))
            else:
                left.append(Loop(loop.name, loop.ii, moved(loop.inner)))
        return left

    loops = moved(module.loops)
    calls = [*module.calls, *(m.name for m in made)]
    return [Module(module.name, module.function, loops, calls, module.own, module.dataflow), *made]


def _loop(loop: Loop, values: Values) -> Xml:
    tag = loop.name.replace(" ", "")
    said: list[object] = [["Name", loop.name]] if is_vitis(values) else []
    said += [["Slack", "7.30"]] if is_vitis(values) else []
    said += [["TripCount", "undef"], ["Latency", "undef"], ["AbsoluteTimeLatency", "undef"]]
    if loop.ii is None:
        said += [["IterationLatency", "undef"]]
    else:
        said += [["PipelineII", str(loop.ii)], ["PipelineDepth", str(9 + len(loop.name))]]
    if is_vitis(values):
        said += [["PipelineType", "yes" if loop.ii is not None else "no"], ["InstanceList"]]
    return [tag, *said, *(_loop(inner, values) for inner in loop.inner)]


def _performance(module: Module, values: Values) -> Xml:
    clock = float(values.get("clock_ns", "10"))
    estimated = float(values.get("estimated_ns", f"{0.73 * clock}"))
    undefined = [[f"{case}-case{what}", "undef"] for what in ("Latency", "RealTimeLatency")
                 for case in ("Best", "Average", "Worst")]  # fmt: skip
    loops = [_loop(loop, values) for loop in module.loops]
    no_type = "no" if is_vitis(values) else "none"
    return [
        "PerformanceEstimates",
        ["PipelineType", "dataflow" if module.dataflow else no_type],
        ["SummaryOfTimingAnalysis", ["unit", "ns"], ["EstimatedClockPeriod", f"{estimated:.3f}"]],
        ["SummaryOfOverallLatency", ["unit", "clock cycles"], *undefined, ["Interval-min", "undef"],
         ["Interval-max", "undef"]],
        *([["SummaryOfLoopLatency", *loops]] if loops else []),
    ]  # fmt: skip


def _dsp(values: Values) -> str:
    """The tag for DSP blocks was DSP48E until 2019.2."""
    return "DSP" if tuple(map(int, values["version"].split(".")[:2])) >= (2020, 1) else "DSP48E"


def _resources(area: Area, values: Values) -> list[Xml]:
    cells = {"BRAM_18K": area.bram18, _dsp(values): area.dsp, "FF": area.ff, "LUT": area.lut, "URAM": 0}
    return [[tag, str(count)] for tag, count in cells.items()]


def _profile(module: Module, modules: Mapping[str, Module], values: Values) -> Xml:
    clock = float(values.get("clock_ns", "10"))
    uncertainty = values.get("uncertainty_ns", f"{0.27 * clock if is_vitis(values) else 0.125 * clock:.2f}")
    lut, ff, dsp, bram = available(values)
    family = "zynq" if values["part"].startswith("xc7z") else "zynquplus"
    return [
        "profile",
        ["ReportVersion", ["Version", values["version"]]],
        ["UserAssignments", ["unit", "ns"], ["ProductFamily", family], ["Part", values["part"]],
         ["TopModelName", module.name], ["TargetClockPeriod", f"{clock:.2f}"],
         ["ClockUncertainty", uncertainty], ["FlowTarget", "vivado"]],
        _performance(module, values),
        ["AreaEstimates", ["Resources", *_resources(total(module, modules), values)],
         ["AvailableResources", *_resources(Area(lut, ff, dsp, 2 * bram), values)]],
        ["InterfaceSummary", *(["RtlPorts", ["name", name], ["Object", module.name], ["Type", "return value"],
                                ["IOProtocol", "ap_ctrl_hs"], ["Dir", "in"], ["Bits", "1"],
                                ["Attribute", "control"]] for name in ("ap_clk", "ap_rst_n", "ap_start"))],
    ]  # fmt: skip


def _hierarchy(top: Module, modules: Mapping[str, Module]) -> Xml:
    def instances(module: Module) -> list[object]:
        names = list(dict.fromkeys(module.calls))
        if not names:
            return []
        made = [["Instance", ["InstName", f"grp_{name}_fu_{100 + i}"], ["ModuleName", name], ["ID", str(100 + i)],
                 *instances(modules[name])] for i, name in enumerate(names)]  # fmt: skip
        return [["InstancesList", *made]]

    return ["RTLDesignHierarchy", ["TopModule", ["ModuleName", top.name], *instances(top)]]


def _module(module: Module, modules: Mapping[str, Module]) -> Xml:
    values = {"version": "2020.2", "part": ""}
    area = _resources(total(module, modules), values)
    return ["Module", ["Name", module.name], ["Loops", *([loop.name.replace(" ", "")] for loop in module.loops)],
            _performance(module, values), ["AreaEstimates", ["Resources", *area]]]  # fmt: skip


def utilization(values: Values) -> str:
    modules = _design(values)
    by_name = {module.name: module for module in modules}
    scale, family7 = float(values.get("scale", "1")), values["part"].startswith("xc7")
    prefix = f"{values['design']}_{values.get('engine', 'codesign_engine_0')}_0"
    shell = Area(4200, 5900, 0, 4)
    engine = total(modules[0], by_name)
    rows: list[list[str]] = []

    def row(depth: int, instance: str, module: str, area: Area) -> None:
        lut, ff = int(area.lut * scale), int(area.ff * scale)
        shift, ram = lut // 40, lut // 25
        cells = [lut, lut - shift - ram, ram, shift, ff, area.bram18 // 2, area.bram18 % 2]
        cells += ([] if family7 else [0]) + [area.dsp]
        rows.append([" " * 2 * depth + instance, module, *map(str, cells)])

    def engine_rows(depth: int, instance: str, module: Module) -> None:
        name = f"{prefix}_{module.name}"
        row(depth, instance, name, total(module, by_name))
        below = list(dict.fromkeys(module.calls))
        if below:
            row(depth + 1, f"({instance})", name, module.own)
        for i, called in enumerate(below):
            inside = f"{called}_U0" if module.dataflow else f"grp_{called}_fu_{200 + i}"
            engine_rows(depth + 1, inside, by_name[called])

    row(0, f"{values['design']}_wrapper", "(top)", engine + shell)
    row(1, f"{values['design']}_i", values["design"], engine + shell)
    row(2, values.get("engine", "codesign_engine_0"), prefix, engine)
    engine_rows(3, "inst", modules[0])
    row(2, "smartconnect_0", f"{values['design']}_smartconnect_0_0", Area(4000, 5600, 0, 4))
    row(2, "rst_0", f"{values['design']}_rst_0_0", Area(200, 300))
    dsp = "DSP Blocks" if is_vitis(values) else "DSP48 Blocks"
    columns = ["Instance", "Module", "Total LUTs", "Logic LUTs", "LUTRAMs", "SRLs", "FFs", "RAMB36", "RAMB18"]
    columns += ([] if family7 else ["URAM"]) + [dsp]
    body = tabulated(columns, rows, left=1)
    command = "report_utilization -hierarchical -file utilization.rpt"
    contents = "Table of Contents\n-----------------\n1. Utilization by Hierarchy\n"
    return (
        heading(values, command, "Routed")
        + "Utilization Design Information\n\n"
        + contents
        + "\n1. Utilization by Hierarchy\n---------------------------\n\n"
        + body
        + "\n\n"
    )


KINDS: dict[str, Callable[[Values], str]] = {
    "cosim": cosim,
    "utilization": utilization,
    "timing": timing,
    "power": power,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
