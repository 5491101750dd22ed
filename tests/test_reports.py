"""Readers of the vendor's reports: what they take from each layout, and what they say of a file that is no report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codesign.csynth import csynth
from codesign.reports import Cells, Cosim, Power, ReportError, cosim, power, timing, utilization
from tests.emitted import DESIGN, emitted
from tests.vendor import reports as vendor

HLS_VERSIONS = ("2018.3", "2019.2", "2020.1", "2020.2", "2023.2", "2024.2")
READERS = {"utilization": utilization, "timing": timing, "power": power, "cosim": cosim}
WHAT = {
    "utilization": "a table of report_utilization -hierarchical",
    "timing": "a report of report_timing_summary",
    "power": "a report of report_power",
    "cosim": "a report of cosim_design",
}


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return emitted(tmp_path_factory.mktemp("design"))


def written(kind: str, out: Path, design: Path, **values: object) -> Path:
    """A report by the stand-in tools."""
    assert vendor.main([kind, str(out), f"sources={design}", *(f"{k}={v}" for k, v in values.items())]) == 0
    return out


# What the tools have been seen to write, cut down to the lines that matter; the figures are made up.
VIVADO_HLS = """<profile>

<ReportVersion>
<Version>2019.1</Version>
</ReportVersion>

<UserAssignments>
<unit>ns</unit>
<ProductFamily>zynquplus</ProductFamily>
<Part>xczu3eg-sbva484-1-e</Part>
<TopModelName>outer</TopModelName>
<TargetClockPeriod>4.00</TargetClockPeriod>
<ClockUncertainty>0.50</ClockUncertainty>
</UserAssignments>

<PerformanceEstimates>
<PipelineType>none</PipelineType>
<SummaryOfTimingAnalysis>
<unit>ns</unit>
<EstimatedClockPeriod>3.512</EstimatedClockPeriod>
</SummaryOfTimingAnalysis>
<SummaryOfOverallLatency>
<unit>clock cycles</unit>
<Best-caseLatency>41</Best-caseLatency>
<Average-caseLatency>57</Average-caseLatency>
<Worst-caseLatency>73</Worst-caseLatency>
<Interval-min>41</Interval-min>
<Interval-max>73</Interval-max>
</SummaryOfOverallLatency>
<SummaryOfLoopLatency>
<Rows_Columns>
<TripCount>1</TripCount>
<Latency>58</Latency>
<AbsoluteTimeLatency>232</AbsoluteTimeLatency>
<IterationLatency>58</IterationLatency>
<Fill>
<TripCount>
<range>
<min>0</min>
<max>64</max>
</range>
</TripCount>
<Latency>55</Latency>
<AbsoluteTimeLatency>220</AbsoluteTimeLatency>
<PipelineII>2</PipelineII>
<PipelineDepth>7</PipelineDepth>
</Fill>
</Rows_Columns>
</SummaryOfLoopLatency>
</PerformanceEstimates>

<AreaEstimates>
<Resources>
<DSP48E>19</DSP48E>
<FF>1098</FF>
<LUT>867</LUT>
<BRAM_18K>3</BRAM_18K>
</Resources>
<AvailableResources>
<BRAM_18K>432</BRAM_18K>
<DSP48E>360</DSP48E>
<FF>141120</FF>
<LUT>70560</LUT>
<URAM>0</URAM>
</AvailableResources>
</AreaEstimates>

</profile>
"""


def test_synthesis_as_vivado_hls_writes_it(tmp_path: Path) -> None:
    """Loops within loops, ranges instead of numbers, DSP48E instead of DSP, no URAM."""
    (tmp_path / "csynth.xml").write_text(VIVADO_HLS)
    found = csynth(tmp_path)
    assert (found.tool, found.part, found.top) == ("Vivado HLS 2019.1", "xczu3eg-sbva484-1-e", "outer")
    assert (found.target_ns, found.uncertainty_ns, found.estimated_ns) == (4.0, 0.5, 3.512)
    assert not found.clock_met
    assert found.cells == Cells(lut=867, ff=1098, dsp=19, bram18=3)
    assert found.cells.bram36 == 1.5
    assert found.available == Cells(lut=70560, ff=141120, dsp=360, bram18=432)
    outer, inner = found.modules["outer"].loops
    assert (outer.name, outer.outer, outer.pipelined, outer.ii) == ("Rows_Columns", (), False, None)
    assert (inner.name, inner.outer, inner.ii, inner.depth) == ("Fill", ("Rows_Columns",), 2, 7)
    assert found.modules["outer"].latency == (41, 73)


def test_loops_that_vitis_hls_made_modules_are_read_from_the_summary_alone(
    design: Path, tmp_path: Path
) -> None:
    written("csynth", tmp_path, design, version="2023.2", part="xczu3eg-sbva484-1-e")
    everything = csynth(tmp_path)
    for path in tmp_path.glob("*_csynth.xml"):
        path.unlink()
    assert csynth(tmp_path) == everything
    assert everything.tool == "Vitis HLS 2023.2"
    (word,) = everything.modules["window_Config_Pipeline_Word"].loops
    assert (word.name, word.ii) == ("Word", 1)


@pytest.mark.parametrize("version", HLS_VERSIONS)
def test_every_version_tells_the_same_of_one_design(design: Path, tmp_path: Path, version: str) -> None:
    written(
        "csynth", tmp_path, design, version=version, clock_ns=4, estimated_ns=3.1, part="xczu3eg-sbva484-1-e"
    )
    found = csynth(tmp_path)
    assert found.top == "codesign_engine" and found.version == version
    assert found.clock_met is (version < "2020.2")  # Vitis HLS keeps 27 % of a period, Vivado HLS an eighth
    pipelined = {loop.name for m in found.modules.values() for loop in m.loops if loop.pipelined}
    assert {"Word", "Pass"} <= pipelined
    assert found.cells.dsp >= 9 * DESIGN.lanes and found.cells.bram18 > 0


@pytest.mark.parametrize("version", ["2019.2", "2024.1"])
@pytest.mark.parametrize("part", ["xc7z020clg400-1", "xczu3eg-sbva484-1-e"])
def test_utilization(design: Path, tmp_path: Path, part: str, version: str) -> None:
    """Parents hold their children, with and without the column for URAM."""
    root = utilization(written("utilization", tmp_path / "u.rpt", design, part=part, version=version))
    assert root.name == "design_1_wrapper" and root.module == "(top)"
    assert not any(instance.name.startswith("(") for instance in root.walk())
    assert sum((i.own for i in root.walk()), Cells()) == root.cells
    window = next(i for i in root.walk() if i.name == "window_Config_s_U0")
    assert window.module == "design_1_codesign_engine_0_0_window_Config_s"
    text = (tmp_path / "u.rpt").read_text()
    cells = re.search(r"^\|\s+window_Config_s_U0\s*\|(.*)\|$", text, re.MULTILINE)
    assert cells is not None
    counts = [int(c) for c in cells[1].split("|")[1:]]
    assert window.cells == Cells(counts[0], counts[4], counts[-1], 2 * counts[5] + counts[6])


def test_utilization_with_percentages(tmp_path: Path) -> None:
    path = tmp_path / "u.rpt"
    path.write_text(
        "| Tool Version : Vivado v.2020.1\n"
        "+----------+--------+-------------+-------------+-----------+----------+-------------+----------+---------+\n"
        "| Instance | Module |  Total LUTs |  Logic LUTs |  LUTRAMs  |  RAMB36  |     FFs     |  RAMB18  | DSP48E2 |\n"
        "+----------+--------+-------------+-------------+-----------+----------+-------------+----------+---------+\n"
        "| top      |  (top) | 7056(10.0%) | 7056(10.0%) | 10(<0.1%) | 4(1.85%) | 1411(1.00%) | 3(0.69%) | 9(2.5%) |\n"
        "|   below  |   unit |    0(0.00%) |    0(0.00%) |  0(0.00%) | 4(1.85%) |    0(0.00%) | 3(0.69%) | 0(0.0%) |\n"
        "+----------+--------+-------------+-------------+-----------+----------+-------------+----------+---------+\n"
    )
    root = utilization(path)
    assert root.cells == Cells(lut=7056, ff=1411, dsp=9, bram18=11)
    assert [i.name for i in root.below] == ["below"]
    assert root.own == Cells(lut=7056, ff=1411, dsp=9)


def test_timing_that_is_met(design: Path, tmp_path: Path) -> None:
    found = timing(written("timing", tmp_path / "t.rpt", design, period_ns=4, clock="clk_pl_0", wns=0.031))
    assert found.met and (found.wns, found.whs, found.failing) == (0.031, 0.021, 0)
    assert found.clocks == {"clk_pl_0": 4.0}
    assert found.worst is None


@pytest.mark.parametrize("slacks", [{"wns": -0.31}, {"whs": -0.02}])
def test_timing_that_is_not_met(design: Path, tmp_path: Path, slacks: dict[str, float]) -> None:
    found = timing(written("timing", tmp_path / "t.rpt", design, failing=17, **slacks))
    assert not found.met and found.failing == 17
    assert {found.wns, found.whs} >= set(slacks.values())
    assert found.worst == (
        "design_1_i/codesign_engine_0/inst/acc_reg[3]/C to design_1_i/codesign_engine_0/inst/acc_reg[31]/D"
    )


def test_timing_without_pulse_widths(tmp_path: Path) -> None:
    """A summary of a design without such checks says NA."""
    path = tmp_path / "t.rpt"
    path.write_text(
        "| Design Timing Summary\n\n"
        "    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)      THS(ns)  ...\n"
        "    -------      -------  ---------------------  -------------------      -------      -------  ---\n"
        "      0.184        0.000                      0                 2374        0.033        0.000  0  2374"
        "   NA  NA  NA  NA\n\n\n"
        "All user specified timing constraints are met.\n\n"
        "Clock  Waveform(ns)         Period(ns)      Frequency(MHz)\n"
        "-----  ------------         ----------      --------------\n"
        "clk    {0.000 2.500}        5.000           200.000         \n"
    )
    found = timing(path)
    assert (found.met, found.wns, found.whs, found.wpws, found.clocks) == (
        True,
        0.184,
        0.033,
        None,
        {"clk": 5.0},
    )


def test_timing_without_constraints(tmp_path: Path) -> None:
    path = tmp_path / "t.rpt"
    path.write_text("| Design Timing Summary\n\nThere are no user specified timing constraints.\n")
    with pytest.raises(ReportError) as error:
        timing(path)
    assert str(error.value) == (
        f"{path}: the design has no timing constraints, expected a clock of the engine. "
        "Without one nothing is known about its speed."
    )


def test_power(design: Path, tmp_path: Path) -> None:
    found = power(written("power", tmp_path / "p.rpt", design, total=2.75, static=0.31, confidence="Medium"))
    assert found == Power(total=2.75, dynamic=2.44, static=0.31, confidence="Medium")


def test_power_with_a_remark(design: Path, tmp_path: Path) -> None:
    path = written("power", tmp_path / "p.rpt", design, total=31.5, static=2.5)
    text = path.read_text().replace("| 31.500       |", "| 31.500 (Junction temp exceeded!) |")
    path.write_text(text.replace("| 2.500 ", "| <2.500"))
    assert power(path) == Power(total=31.5, dynamic=29.0, static=2.5, confidence="Low")
    path.write_text(text.replace("| 2.500 ", "| NA    "))
    with pytest.raises(ReportError, match=r"has a power of 'NA', expected a report of report_power"):
        power(path)


@pytest.mark.parametrize("version", ["2020.1", "2024.1"])
def test_cosim(design: Path, tmp_path: Path, version: str) -> None:
    path = written("cosim", tmp_path / "c.rpt", design, version=version, min=90, avg=95, max=101)
    assert cosim(path) == Cosim(True, 90, 95, 101)
    path = written("cosim", tmp_path / "c.rpt", design, version=version, status="Fail", rtl="Verilog")
    assert cosim(path) == Cosim(False, None, None, None)


@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_report(design: Path, tmp_path: Path, kind: str) -> None:
    """Missing, empty, cut short, of another tool: one error that names the file and what was expected."""
    path, expected = tmp_path / f"{kind}.rpt", WHAT[kind]
    with pytest.raises(ReportError) as error:
        READERS[kind](path)
    assert str(error.value) == (
        f"{path}: cannot be read (No such file or directory), expected {expected}. Run `codesign synth` again."
    )
    with pytest.raises(ReportError) as error:
        READERS[kind](written(kind, path, design, damage="empty"))
    assert str(error.value) == f"{path}: is empty, expected {expected}. Run `codesign synth` again."
    for damage in ("truncate", "other"):
        with pytest.raises(ReportError) as error:
            READERS[kind](written(kind, path, design, damage=damage))
        assert re.fullmatch(
            re.escape(f"{path}: ") + r"(?P<fault>[^.,:]+), expected " + re.escape(expected)
            + r"\. It was cut short or written by another tool; run `codesign synth` again\.",
            str(error.value),
        ), str(error.value)  # fmt: skip


@pytest.mark.parametrize("kind", READERS)
def test_every_cut_is_noticed_or_changes_nothing(design: Path, tmp_path: Path, kind: str) -> None:
    """A report that stops anywhere is refused, unless all that is read of it stands before."""
    path = written(kind, tmp_path / "whole.rpt", design)
    whole, text = READERS[kind](path), path.read_text()
    refused = 0
    for end in range(0, len(text), max(1, len(text) // 150)):
        path.write_text(text[:end])
        try:
            assert READERS[kind](path) == whole, end
        except ReportError:
            refused += 1
    assert refused >= 30


def test_synthesis_reports_that_are_not_whole(design: Path, tmp_path: Path) -> None:
    """All files at once, in one error."""
    with pytest.raises(ReportError) as error:
        csynth(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/csynth.xml: cannot be read (No such file or directory), expected a report of csynth_design. "
        "Run `codesign synth` again."
    )
    written("csynth", tmp_path, design)
    window, load = tmp_path / "window_Config_s_csynth.xml", tmp_path / "load_Config_s_csynth.xml"
    window.write_text(window.read_text().partition("<SummaryOfLoopLatency>")[0])
    load.write_text(load.read_text().replace("<Version>2020.1", "<Version>2019.1"))
    (tmp_path / "store_Config_s_csynth.xml").write_text("")
    area = tmp_path / "pointwise_Config_0_s_csynth.xml"
    area.write_text(re.sub(r"<(LUT|FF)>\d+</\1>\n", "", area.read_text(), count=2))
    with pytest.raises(ReportError) as error:
        csynth(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: load_Config_s_csynth.xml is of version 2019.1, csynth.xml of 2020.1; "
        "pointwise_Config_0_s_csynth.xml has no count of LUT, FF in AreaEstimates/Resources; "
        "store_Config_s_csynth.xml is no whole XML (no element found: line 1, column 0); "
        "window_Config_s_csynth.xml is no whole XML (no element found: line 31, column 0). "
        "Expected reports of one run of csynth_design; these were cut short or written by another tool or version. "
        "Run `codesign synth` again."
    )


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("<profile>", "<report>", r"is no whole XML \(mismatched tag: line \d+, column 2\)"),
        ("<Version>2020.1</Version>", "", "has no ReportVersion/Version"),
        ("10.00</TargetClockPeriod>", "fast</TargetClockPeriod>",
         "has UserAssignments/TargetClockPeriod fast, expected a number"),
    ],
)  # fmt: skip
def test_a_summary_of_another_form(design: Path, tmp_path: Path, old: str, new: str, fault: str) -> None:
    written("csynth", tmp_path, design, inline="run_program")
    for path in tmp_path.glob("*_csynth.xml"):
        path.unlink()
    path = tmp_path / "csynth.xml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ReportError) as error:
        csynth(tmp_path)
    said = (
        " Expected reports of one run of csynth_design; these were cut short or written by another tool or version. "
        "Run `codesign synth` again."
    )
    assert re.fullmatch(rf"{tmp_path}: csynth\.xml {fault}\.{re.escape(said)}", str(error.value)), error.value


def test_what_a_version_adds_to_a_loop_is_no_loop(tmp_path: Path) -> None:
    added = "<Fill>\n<Slack>1.2</Slack>\n<Remarks><Burst>yes</Burst></Remarks>"
    (tmp_path / "csynth.xml").write_text(VIVADO_HLS.replace("<Fill>", added))
    assert [loop.name for loop in csynth(tmp_path).modules["outer"].loops] == ["Rows_Columns", "Fill"]


def test_xml_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "csynth.xml").write_text("<?xml version='1.0'?>\n<html><body/></html>\n")
    with pytest.raises(ReportError, match=r"csynth\.xml begins with <html>, not with <profile>\. Expected"):
        csynth(tmp_path)


def test_the_reader_of_hls4ml_agrees(
    design: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the folders that it needs, hls4ml's reader takes the same figures from the same files."""
    hls4ml = pytest.importorskip("hls4ml.report", reason="hls4ml: not installed")
    top = "codesign_engine"
    solution = tmp_path / f"{top}_prj" / "solution1"
    routed = (
        tmp_path
        / "codesign_vivado_accelerator/project_1.runs/impl_1/design_1_wrapper_timing_summary_routed.rpt"
    )
    written("csynth", solution / "syn/report", design)
    written("cosim", solution / f"sim/report/{top}_cosim.rpt", design, min=70, avg=80, max=90)
    written("timing", routed, design, wns=-0.2, failing=3)
    (tmp_path / "project.tcl").write_text(f'set project_name "{top}"\nset backend "vivado"\n')
    (solution.parent / "vivado_hls.app").write_text(
        '<project><solutions><solution name="solution1"/></solutions></project>'
    )
    theirs = hls4ml.parse_vivado_report(str(tmp_path))
    ours = csynth(solution / "syn/report")
    report = theirs["CSynthesisReport"]
    assert float(report["TargetClockPeriod"]) == ours.target_ns
    assert float(report["EstimatedClockPeriod"]) == ours.estimated_ns
    counts = [int(report[k]) for k in ("LUT", "FF", "DSP", "BRAM_18K")]
    assert Cells(*counts) == ours.cells
    available = [int(report[f"Available{k}"]) for k in ("LUT", "FF", "DSP", "BRAM_18K")]
    assert Cells(*available) == ours.available
    simulated = cosim(solution / f"sim/report/{top}_cosim.rpt")
    said = theirs["CosimReport"]
    assert (said["Status"], int(said["LatencyMin"]), int(said["LatencyMax"])) == (
        "Pass", simulated.minimum, simulated.maximum)  # fmt: skip
    slacks = timing(routed)
    assert (theirs["TimingReport"]["WNS"], theirs["TimingReport"]["WHS"]) == (slacks.wns, slacks.whs)
