"""How the vendor's reports look: headings, tables, and those that need no design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

BUILDS = {
    "2018.3": "2405991",
    "2019.2": "2708876",
    "2020.1": "2902540",
    "2022.1": "3526262",
    "2023.1": "3865809",
}


def xml(tree: Sequence[object], indent: bool, depth: int = 0) -> str:
    """[tag, *children] as text; Vitis HLS indents by four, Vivado HLS does not."""
    tag, *children = tree
    pad = "    " * depth if indent else ""
    if not children:
        return f"{pad}<{tag}/>\n"
    if len(children) == 1 and isinstance(children[0], str):
        return f"{pad}<{tag}>{escape(children[0])}</{tag}>\n"
    inside = "".join(xml(child, indent, depth + 1) for child in children if isinstance(child, list))
    return f"{pad}<{tag}>\n{inside}{pad}</{tag}>\n"


def tabulated(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """A table with rules of + and -; the first `left` columns are flush left."""
    widths = [max(len(r[i]) for r in [columns, *rows]) for i in range(len(columns))]
    rule = "+" + "+".join("-" * (w + 2) for w in widths) + "+\n"
    head = "|" + "|".join(f" {c:^{w}} " for c, w in zip(columns, widths, strict=True)) + "|\n"
    body = "".join(
        "|"
        + "|".join(
            f" {cell:<{w}} " if i < left else f" {cell:>{w}} "
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        + "|\n"
        for row in rows
    )
    return rule + head + rule + body + rule


def heading(values: Mapping[str, str], command: str, state: str, pad: int = 13) -> str:
    """What stands above every report of Vivado."""
    version = values["version"]
    build = BUILDS.get(version, "5076996")
    facts = {
        "Tool Version": f"Vivado v.{version} (lin64) Build {build} Wed May 27 19:54:35 MDT 2020",
        "Date": "Mon Nov 23 10:14:02 2026",
        "Host": "host running 64-bit Ubuntu 18.04.5 LTS",
        "Command": command,
        "Design": f"{values['design']}_wrapper",
        "Device": values["part"],
        "Design State": state,
    }
    rule = "-" * 118 + "\n"
    lines = "".join(f"| {key:<{pad}}: {value}\n" for key, value in facts.items())
    years = f"Copyright 1986-{version.split('.')[0]} Xilinx, Inc. All Rights Reserved.\n"
    return years + rule + lines + rule + "\n"


def is_vitis(values: Mapping[str, str]) -> bool:
    """Since 2020.2 the tool is Vitis HLS."""
    return tuple(map(int, values["version"].split(".")[:2])) >= (2020, 2)


def cosim(values: Mapping[str, str]) -> str:
    """Of cosim_design; since Vitis HLS with a column for all transactions together."""
    vitis = is_vitis(values)
    cells = [values.get("rtl", "Verilog"), values.get("status", "Pass")]
    cells += [values.get(k, "NA") for k in ("min", "avg", "max")] + ["NA"] * 3
    rows = [["VHDL"] + ["NA"] * 7, cells]
    widths, last = [10, 10] + [15] * 6, 22
    unit = "(Clock Cycles)" if vitis else ""
    long = "-" * 47
    rule = f"+{'-' * 10}+{'-' * 10}+{long}+{long}+" + ("-" * last + "+" if vitis else "")
    head = [
        rule,
        f"|{'':10}|{'':10}|{'Latency' + unit:^47}|{'Interval' + unit:^47}|"
        + (" Total Execution Time |" if vitis else ""),
        f"+   RTL    +  Status  +{long}+{long}+" + ("    (Clock Cycles)    +" if vitis else ""),
        f"|{'':10}|{'':10}|"
        + "|".join(f"{k:^15}" for k in ("min", "avg", "max") * 2)
        + "|"
        + (" " * last + "|" if vitis else ""),
        rule,
    ]
    body = [
        "|"
        + "|".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True))
        + "|"
        + (f"{row[4]:>{last}}|" if vitis else "")
        for row in rows
    ]
    intro = "Report time       : Mon Nov 23 10:14:02 UTC 2026.\nSolution          : solution1.\n"
    return intro + "Simulation tool   : xsim.\n\n" + "\n".join([*head, *body, rule, ""])


def timing(values: Mapping[str, str]) -> str:
    """Of report_timing_summary, without the details of paths."""
    period = float(values.get("period_ns", "10"))
    wns, whs = float(values.get("wns", "0.412")), float(values.get("whs", "0.021"))
    failing, endpoints = int(values.get("failing", "0")), int(values.get("endpoints", "48211"))
    setup = failing if wns < 0 else 0
    hold = failing if whs < 0 else 0
    tns, ths = min(0.0, wns) * max(setup, 1), min(0.0, whs) * max(hold, 1)
    clock = values.get("clock", "clk_fpga_0")
    row = [
        *[f"{wns:.3f}", f"{tns:.3f}", str(setup), str(endpoints)],
        *[f"{whs:.3f}", f"{ths:.3f}", str(hold), str(endpoints)],
        *[f"{float(values.get('wpws', '3.75')):.3f}", "0.000", "0", str(endpoints // 2)],
    ]
    columns = [
        *["WNS(ns)", "TNS(ns)", "TNS Failing Endpoints", "TNS Total Endpoints"],
        *["WHS(ns)", "THS(ns)", "THS Failing Endpoints", "THS Total Endpoints"],
        *["WPWS(ns)", "TPWS(ns)", "TPWS Failing Endpoints", "TPWS Total Endpoints"],
    ]

    def lines(*cells: Sequence[str]) -> str:
        return "".join(
            "    " + "  ".join(f"{c:>{w}}" for c, w in zip(r, widths, strict=True)) + "  \n" for r in cells
        )

    widths = [max(len(c), 11) for c in columns]
    rules = ["-" * len(c) for c in columns]
    met = min(wns, whs) >= 0
    verdict = "All user specified timing constraints are met." if met else "Timing constraints are not met."
    bar = "-" * 96 + "\n"

    def section(title: str) -> str:
        return f"{bar}| {title}\n| {'-' * len(title)}\n{bar}\n"

    half = period / 2
    text = heading(values, "report_timing_summary -file timing.rpt -warn_on_violation", "Routed", 18)
    text += "Timing Summary Report\n\n" + section("Timer Settings")
    text += "  Enable Multi Corner Analysis               :  Yes\n\n\n"
    text += section("Design Timing Summary") + lines(columns, rules, row) + f"\n\n{verdict}\n\n\n"
    text += section("Clock Summary")
    text += f"{'Clock':<12}{'Waveform(ns)':<21}{'Period(ns)':<16}Frequency(MHz)\n"
    text += f"{'-----':<12}{'------------':<21}{'----------':<16}--------------\n"
    text += f"{clock:<12}{{0.000 {half:.3f}}}{'':<7}{period:<16.3f}{1000 / period:.3f}\n\n\n"
    text += section("Timing Details")
    word = "MET" if met else "VIOLATED"
    text += f"\nMax Delay Paths\n{'-' * 86}\nSlack ({word}) :{wns:>18.3f}ns  (required time - arrival time)\n"
    engine = f"{values['design']}_i/{values.get('engine', 'codesign_engine_0')}/inst"
    text += (
        f"  Source:                 {engine}/acc_reg[3]/C\n  Destination:            {engine}/acc_reg[31]/D\n"
    )
    return text + f"  Path Group:             {clock}\n\n\n"


def power(values: Mapping[str, str]) -> str:
    """Of report_power."""
    total, static = float(values.get("total", "1.93")), float(values.get("static", "0.14"))
    confidence = values.get("confidence", "Low")
    summary = [
        ("Total On-Chip Power (W)", f"{total:.3f}"),
        ("Design Power Budget (W)", "Unspecified*"),
        ("Power Budget Margin (W)", "NA"),
        ("Dynamic (W)", f"{total - static:.3f}"),
        ("Device Static (W)", f"{static:.3f}"),
        ("Effective TJA (C/W)", "11.5"),
        ("Max Ambient (C)", "62.4"),
        ("Junction Temperature (C)", f"{25 + 11.5 * total:.1f}"),
        ("Confidence Level", confidence),
        ("Setting File", "---"),
        ("Simulation Activity File", "---"),
        ("Design Nets Matched", "NA"),
    ]
    width, right = max(len(k) for k, _ in summary), max(len(v) for _, v in summary)
    rule = f"+{'-' * (width + 2)}+{'-' * (right + 2)}+\n"
    table = rule + "".join(f"| {k:<{width}} | {v:<{right}} |\n" for k, v in summary) + rule
    system = "PS7" if values["part"].startswith("xc7z") else "PS8"
    parts = [
        ("Clocks", 0.08),
        ("Slice Logic" if system == "PS7" else "CLB Logic", 0.11),
        ("DSPs", 0.05),
        (system, total - static - 0.24),
        ("Static Power", static),
        ("Total", total),
    ]
    rows = [[name, f"{watts:.3f}"] for name, watts in parts]
    text = heading(values, "report_power -file power.rpt", "routed", 17)
    text += "Power Report\n\nTable of Contents\n-----------------\n1. Summary\n1.1 On-Chip Components\n\n"
    text += f"1. Summary\n----------\n\n{table}\n\n1.1 On-Chip Components\n----------------------\n\n"
    return text + tabulated(["On-Chip", "Power (W)"], rows, left=1) + "\n\n"
