"""`codesign report`: figures of every source side by side, by unit; what is wrong ends with exit code 1."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codesign import cli
from codesign.board import load_board
from codesign.contract import contract
from codesign.csynth import csynth
from codesign.digest import design_digest
from codesign.estimate import estimate
from codesign.figures import SOURCES
from codesign.report import Report, report
from codesign.reports import Cells, ReportError, utilization
from codesign.resources import resources
from codesign.units import ENGINE, OUTSIDE, estimated, routed, synthesized, units_of
from tests.mini import bundle_of_mini
from tests.vendor import reports as vendor

BOARD = "pynq-z2"
KINDS = ("csynth", "cosim", "utilization", "timing", "power")
FILES = {"csynth": "", **{kind: f"{kind}.rpt" for kind in KINDS[1:]}}
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of_mini(tmp_path_factory.mktemp("mini") / "bundle", BOARD)


@pytest.fixture
def make(built: Path, tmp_path: Path) -> Make:
    """A copy of the bundle with reports of the stand-in tools; `kinds` chooses some, keys of each by its name."""

    def bundle(*kinds: str, finished: bool = False, **values: dict[str, object]) -> Path:
        target = tmp_path / "bundle"
        shutil.copytree(built, target, dirs_exist_ok=True)
        period = 1e3 / fabric_mhz()
        for kind in kinds:
            given = {
                "part": load_board(BOARD).part,
                "clock_ns": f"{period:.2f}",
                "period_ns": f"{period:.3f}",
            }
            given |= {str(k): str(v) for k, v in values.get(kind, {}).items()}
            out = target / "synthesis/reports" / FILES[kind]
            vendor.main(
                [kind, str(out), f"sources={target / 'hls'}", *(f"{k}={v}" for k, v in given.items())]
            )
        if finished:
            record(target)
        return target

    return bundle


def fabric_mhz() -> float:
    """What the board's PLL gives for its default clock."""
    board = load_board(BOARD)
    return board.fabric_mhz(board.clock_mhz)


def record(bundle: Path, **changes: object) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    facts = {
        "format": "codesign-synthesis", "version": 1, "tool": {"hls": "Vivado HLS 2020.1", "vivado": "2020.1"},
        "board": BOARD, "part": load_board(BOARD).part, "clock_mhz": load_board(BOARD).clock_mhz,
        "design": design_digest(manifest),
    }  # fmt: skip
    (bundle / "synthesis.json").write_text(json.dumps(facts | changes))


def bench(bundle: Path, **changes: object) -> None:
    spread = {"min": 4.0, "median": 4.5, "p95": 5.0, "max": 9.0}
    facts = {
        "format": "codesign-bench", "version": 1, "board": BOARD, "versions": {}, "frames": 100, "source": "board",
        "latency_ms": spread, "engine_ms": {k: v - 1 for k, v in spread.items()}, "frames_per_s": 230.5,
        "host_share": 0.2, "dram_bytes_per_frame": 1, "dram_kind": "counted from the program",
        "power_w": {"core": {"idle": 0.5, "busy": 0.75}, "input": {"idle": 2.5, "busy": 3.25}}, "accuracy": None,
        "bit_exact": {"vectors": 4, "values": 100, "differences": 0},
    }  # fmt: skip
    (bundle / "bench.json").write_text(json.dumps(facts | changes))


def run(bundle: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", str(bundle), *options])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def column(found: Report, source: str) -> dict[str, float | None]:
    return {quantity: figures[source] for quantity, figures in found.speed.items()}


# --- units ------------------------------------------------------------------------------------------------------


def test_every_part_of_an_estimate_is_in_one_unit(make: Make) -> None:
    from codesign.bundle import load

    bundle = load(make())
    found, board = resources(bundle.config), load_board(BOARD)
    counted = estimated(found, contract(bundle.hls), board)
    assert tuple(counted) == units_of(contract(bundle.hls))
    assert found.products > 0
    for dsps in (board.dsps, found.dsps + found.products // 2, 0):  # for all products, for some, for none
        on = replace(board, dsps=dsps)
        units = estimated(found, contract(bundle.hls), on).values()
        assert (sum(unit.dsp for unit in units), sum(unit.lut for unit in units)) == found.on(on)
    assert sum(unit.bram18 for unit in counted.values()) == sum(unit.bram18 for unit in found.units)
    assert sum(unit.uram for unit in counted.values()) == found.uram
    multipliers = {part.name: part for part in found.units}
    assert counted["pointwise"].dsp >= multipliers["pointwise arrays"].dsps > 0
    assert counted["window"].lut >= multipliers["window taps"].luts + multipliers["requantizers"].luts // 2
    assert counted[ENGINE].bram18 >= multipliers["port buffers"].bram18 > 0


@pytest.mark.parametrize("version", ["2020.1", "2023.2"])
def test_units_of_a_synthesis_are_the_whole_engine(make: Make, version: str) -> None:
    """Each unit has the cells of its own module; what is left is the engine's."""
    bundle = make("csynth", csynth={"version": version})
    found, design = csynth(bundle / "synthesis/reports"), contract(bundle / "hls")
    units = synthesized(found, design)
    assert tuple(units) == units_of(design)
    assert sum(units.values(), Cells()) == found.cells
    for unit in ("load", "window", "pointwise", "store"):
        module = f"{unit}_Config_0_s" if unit == "pointwise" else f"{unit}_Config_s"
        assert units[unit] == found.modules[module].cells
    parts = [found.modules[f"{name}_Config_s"].cells for name in ("read_header", "read_step")]
    assert units["descriptors"] == parts[0] + parts[1]
    assert all(value >= 0 for cells in units.values() for value in cells.values())


def test_units_of_inlined_functions(make: Make) -> None:
    """A unit whose function was inlined is made of what that called; one without any module is in the rest."""
    bundle = make("csynth", csynth={"inline": "load,store,collect,emit"})
    found, design = csynth(bundle / "synthesis/reports"), contract(bundle / "hls")
    units = synthesized(found, design)
    assert "store" not in units
    assert units["load"] == found.modules["fetch_Config_s"].cells + found.modules["arrange_Config_s"].cells
    assert sum(units.values(), Cells()) == found.cells


def test_units_of_a_routed_design(make: Make) -> None:
    bundle = make("utilization")
    root, design = utilization(bundle / "synthesis/reports/utilization.rpt"), contract(bundle / "hls")
    units = routed(root, design, "codesign_engine")
    assert sum(units.values(), Cells()) == root.cells
    instances = {i.name: i.cells for i in root.walk()}
    for unit in ("load", "window", "pointwise", "store"):
        module = f"{unit}_Config_0_s" if unit == "pointwise" else f"{unit}_Config_s"
        assert units[unit] == instances[f"{module}_U0"]
    assert units[OUTSIDE] == instances["smartconnect_0"] + instances["rst_0"]


# --- the table --------------------------------------------------------------------------------------------------


def test_a_bundle_that_was_never_synthesized(
    make: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from codesign.bundle import load

    bundle = make()
    code, out, err = run(bundle, capsys)
    assert code == 0
    assert "estimated" in out and "Initiation intervals" not in out
    assert f"No synthesis: run `codesign synth {bundle}` where Vivado is installed." in err
    assert "Nothing measured: run `codesign bench` with a board." in err
    found, cost = report(bundle), load(bundle)
    expected = estimate(cost.program, cost.config, load_board(BOARD))
    assert column(found, "estimated")["engine, cycles"] == expected.cycles
    assert column(found, "estimated")["frames/s"] == pytest.approx(1 / expected.seconds)
    for source in SOURCES[1:]:
        assert set(column(found, source).values()) == {None}
        assert all(kinds[k][source] is None for kinds in found.size.values() for k in kinds)


def test_everything_side_by_side(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make(*KINDS, finished=True, timing={"wns": 0.25}, power={"total": 2.1},
                  cosim={"min": 90_000, "avg": 95_000, "max": 99_000})  # fmt: skip
    bench(bundle)
    code, out, err = run(bundle, capsys, "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    mhz = load_board(BOARD).clock_mhz  # the estimate counts in whole MHz
    assert said["tool"] == "Vivado HLS 2020.1" and said["failures"] == []
    assert set(said["speed"]["frames/s"]) == set(SOURCES)
    assert said["speed"]["engine, cycles"]["co-simulated"] == 99_000
    assert said["speed"]["engine, ms"]["co-simulated"] == pytest.approx(99 / mhz)
    assert said["speed"]["engine, ms"]["measured"] == 3.5
    assert said["speed"]["image to boxes, ms"] == dict.fromkeys(SOURCES) | {"measured": 4.5}
    assert said["speed"]["frames/s"]["measured"] == 230.5
    assert said["speed"]["DRAM, bytes"]["measured"] is None  # counted, not measured
    assert said["speed"]["power, W"] == dict.fromkeys(SOURCES) | {"post-route": 2.1, "measured": 3.25}
    reached = said["speed"]["clock reached, MHz"]["post-route"]
    assert reached == pytest.approx(1e3 / (1e3 / fabric_mhz() - 0.25), rel=1e-3)
    assert "Power of the board: rail input, 3.25 W busy, 2.50 W idle." in said["notes"]
    for unit in ("window", "pointwise", "engine"):
        kinds = said["size"][unit]
        assert all(kinds["LUT"][s] > 0 for s in ("estimated", "synthesized", "post-route"))
        assert all(kinds["FF"][s] > 0 for s in ("estimated", "synthesized", "post-route"))
    assert (
        said["size"][OUTSIDE]["LUT"]["post-route"] > 0 and said["size"][OUTSIDE]["LUT"]["synthesized"] is None
    )
    modules = csynth(bundle / "synthesis/reports").modules
    assert said["modules"].keys() == modules.keys()
    assert said["modules"]["load_Config_s"]["lut"] == modules["load_Config_s"].cells.lut
    assert said["modules"]["load_Config_s"]["latency"] is None  # its loops have variable bounds
    loop = next(x for x in said["loops"] if (x["function"], x["loop"]) == ("pointwise", "MultiplyAccumulate"))
    assert loop["state"] == "met" and [f["ii"] for f in loop["found"]] == [loop["promised_ii"]]


def test_the_table_for_people(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make(*KINDS, finished=True)
    bench(bundle)
    code, out, err = run(bundle, capsys)
    assert code == 0
    lines = {line.split("│")[1].strip(): [c.strip() for c in line.split("│")[2:-1]]
             for line in out.splitlines() if line.startswith("│")}  # fmt: skip
    found = report(bundle)
    assert lines["engine, ms"][-1] == "3.50"
    assert lines["frames/s"][0] == f"{found.speed['frames/s']['estimated']:,.2f}"
    dsp = found.size["engine"]["DSP"]
    assert lines["engine"][0] == " / ".join(
        f"{dsp[s]:,g}" for s in ("estimated", "synthesized", "post-route")
    )
    assert lines["the board has"][0] == str(load_board(BOARD).dsps)
    assert lines["pointwise: MultiplyAccumulate"][:3] == ["met", "1", "1"]
    assert "Timing met: worst slack" in out and "Vivado's estimate" in out
    assert "measured" in out and "software device" not in out


def test_a_bench_without_a_board_is_never_called_measured(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make()
    bench(bundle, source="software device", power_w=None)
    code, out, err = run(bundle, capsys)
    assert code == 0
    assert "measured" not in out and "software device" in out
    assert "The last column comes from the software device: the driver works; how fast is not known." in err
    said = json.loads(run(bundle, capsys, "--json")[1])
    assert said["speed"]["frames/s"]["software device"] == 230.5
    assert "measured" not in said["speed"]["frames/s"]


def test_a_synthesis_that_stopped_early(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """Estimates are for the clock that was asked for."""
    bundle = make("csynth", csynth={"clock_ns": "10.00", "estimated_ns": "9.5"})
    code, out, err = run(bundle, capsys)
    assert code == 0
    assert "100 MHz, Vivado HLS 2020.1" in " ".join(out.split())
    assert (
        "Vivado HLS 2020.1 expects 9.5 ns, more than 10 ns less 1.25 ns for routing: timing may fail." in err
    )
    assert "The RTL was not simulated." in err and "Not placed and routed." in err
    assert column(report(bundle), "estimated")["clock asked, MHz"] == 100


@pytest.mark.slow
def test_a_simulated_frame(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """The same figures as the simulation's own; units work no longer than the frame lasts."""
    from codesign.bundle import load
    from codesign.cycles import simulate

    bundle = make("csynth", csynth={"ii": "pointwise.MultiplyAccumulate:2"})
    code, out, err = run(bundle, capsys, "--simulate", "--json")
    said = json.loads(out)
    cost = load(bundle)
    found = simulate(cost.hls, cost.program, load_board(BOARD))
    assert code == 1  # the interval
    assert said["speed"]["engine, cycles"]["simulated"] == found.cycles
    assert said["speed"]["frames/s"]["simulated"] == pytest.approx(1 / found.seconds)
    assert said["speed"]["DRAM, bytes"]["simulated"] == found.read_bytes + found.written_bytes
    cycles = said["cycles"]
    assert {"load", "window", "pointwise", "store"} <= cycles.keys()
    assert 0 < cycles["parameters"]["simulated"] <= found.cycles
    for unit in ("load", "window", "pointwise", "store"):
        assert 0 < cycles[unit]["simulated"] <= found.cycles
        assert 0 < cycles[unit]["estimated"]
        twice = 2 if unit == "pointwise" else 1
        assert cycles[unit]["synthesized"] == twice * cycles[unit]["estimated"]


def test_sources_of_another_version_are_not_simulated(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make()
    path = bundle / "hls/store.hpp"
    path.write_text(path.read_text() + "// older\n")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["hls/store.hpp"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert run(bundle, capsys)[0] == 0
    code, out, err = run(bundle, capsys, "--simulate")
    assert (code, out) == (2, "")
    assert err.replace(str(bundle), "DIR") == (
        "error: DIR/hls: 1 files are not what this version of codesign writes, expected its own to simulate them. "
        "Build the bundle again, or leave out --simulate.\n"
    )


# --- failures ---------------------------------------------------------------------------------------------------

FAILURES: dict[str, tuple[dict[str, dict[str, object]], str]] = {
    "interval": (
        {"csynth": {"ii": "pointwise.MultiplyAccumulate:3"}},
        "loop MultiplyAccumulate of pointwise: II=3 in pointwise_Config_0_s, expected II=1",
    ),
    "no such loop": (
        {"csynth": {"drop": "pointwise.MultiplyAccumulate"}},
        "loop MultiplyAccumulate of pointwise: in no report, expected II=1",
    ),
    "timing": (
        {"timing": {"wns": -0.4, "failing": 12}},
        "Timing: not met, worst slack setup -0.4 ns, hold 0.021 ns, 12 endpoints, worst from "
        "design_1_i/codesign_engine_0/inst/acc_reg[3]/C to design_1_i/codesign_engine_0/inst/acc_reg[31]/D",
    ),
    "co-simulation": (
        {"cosim": {"status": "Fail"}},
        "Co-simulation: the RTL differs from the C++, expected no difference",
    ),
    "part": (
        {"csynth": {"part": "xczu3eg-sbva484-1-e"}},
        "Part: synthesized for xczu3eg-sbva484-1-e, the board has xc7z020clg400-1",
    ),
    "clock": ({"timing": {"period_ns": "20.000"}}, "Clock: routed for 50.0 MHz, asked for {mhz:.1f} MHz"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_ends_with_exit_code_1(make: Make, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Each alone; the table is printed all the same."""
    values, expected = FAILURES[name]
    code, out, err = run(make(*KINDS, finished=True, **values), capsys)
    assert code == 1
    failed = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 1 and failed[0].endswith(expected.format(mhz=fabric_mhz())), failed
    assert "Size: estimated / synthesized / post-route" in out


def test_a_bench_with_a_wrong_bit(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make()
    bench(bundle, bit_exact={"vectors": 4, "values": 100, "differences": 7})
    code, out, err = run(bundle, capsys)
    assert code == 1
    assert "failed: Bench: 7 values differ from C simulation in 4 frames, expected none" in err


def fault(bundle: Path, capsys: pytest.CaptureFixture[str]) -> str:
    code, out, err = run(bundle, capsys)
    assert (code, out) == (2, "")
    return err.replace(str(bundle), "DIR").removeprefix("error: ").rstrip("\n")


def test_a_finished_synthesis_without_its_reports(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    assert fault(make("csynth", "timing", finished=True), capsys) == (
        "DIR/synthesis/reports: utilization.rpt, power.rpt missing though the synthesis is finished, expected all of "
        "csynth.xml, utilization.rpt, timing.rpt, power.rpt. Fetch them, or run `codesign synth` again."
    )


def test_a_synthesis_of_another_design(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make(*KINDS)
    record(bundle, design="0" * 64)
    assert fault(bundle, capsys) == (
        "DIR/synthesis.json: is of another design than DIR/hls, expected the synthesis of this bundle. Run `codesign "
        "synth` again."
    )


def test_reports_of_another_top_function(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make("csynth")
    path = bundle / "synthesis/reports/csynth.xml"
    path.write_text(path.read_text().replace(">codesign_engine<", ">myproject<"))
    assert fault(bundle, capsys) == (
        "DIR/synthesis/reports: reports of myproject, expected codesign_engine. They belong to another design; run "
        "`codesign synth` again."
    )


def test_a_netlist_without_the_engine(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make("utilization")
    path = bundle / "synthesis/reports/utilization.rpt"
    path.write_text(path.read_text().replace("codesign_engine", "someone_else___"))
    assert fault(bundle, capsys) == (
        "DIR/synthesis/reports/utilization.rpt: has no instance of codesign_engine, expected the routed design with "
        "the engine in it. Run `codesign synth` again."
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["truncate", "empty", "other"])
def test_damaged_reports(make: Make, capsys: pytest.CaptureFixture[str], kind: str, damage: str) -> None:
    text = fault(make(*KINDS, finished=True, **{kind: {"damage": damage}}), capsys)
    assert text.startswith("DIR/synthesis/reports") and text.endswith("un `codesign synth` again.")
    assert "\n" not in text and len(text) < 1000


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": "guess"}, "source is 'guess', expected 'board' or 'software device'. Run `codesign bench` again."),
        ({"latency_ms": {"median": "fast"}}, "latency_ms is no table of numbers. Run `codesign bench` again."),
        ({"power_w": {"core": {"busy": 1.0}}},
         "power_w is no table of busy and idle by rail. Run `codesign bench` again."),
        ({"engine_ms": 3, "bit_exact": None},
         "engine_ms is no table of numbers; bit_exact is no table of numbers. Run `codesign bench` again."),
        ({"version": 7}, "is codesign-bench 7, expected codesign-bench 1. Make it again with this version."),
        ({"format": None}, "is None 1, expected codesign-bench 1. Make it again with this version."),
    ],
)  # fmt: skip
def test_a_bench_of_another_form(
    make: Make, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    bundle = make()
    bench(bundle, **changes)
    assert fault(bundle, capsys) == f"DIR/bench.json: {said}"


def test_a_record_that_is_no_json(make: Make) -> None:
    bundle = make()
    (bundle / "synthesis.json").write_text("{")
    with pytest.raises(ReportError) as error:
        report(bundle)
    assert str(error.value).replace(str(bundle), "DIR") == (
        "DIR/synthesis.json: cannot be read (Expecting property name enclosed in double quotes: line 1 column 2 "
        "(char 1)), expected codesign-synthesis. Remove it, or make it again."
    )
    (bundle / "synthesis.json").write_text("[]")
    with pytest.raises(ReportError, match=r"synthesis\.json: is no object, expected codesign-synthesis 1\."):
        report(bundle)


def test_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fault(tmp_path / "nothing", capsys) == (
        "DIR: no such directory, expected a bundle. Make one with `codesign build`."
    )
