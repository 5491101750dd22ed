"""`codesign synth` from end to end, on stand-ins for the vendor's tools (tests/vendor): every step, every fault."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from codesign import cli, vectors
from codesign.bundle import load
from codesign.digest import design_digest
from codesign.ladder import hardware
from codesign.synth_files import file_digest
from tests.mini import bundle_of_mini
from tests.vendor.launch import install

pytestmark = [
    pytest.mark.skipif(
        shutil.which("tclsh") is None, reason="tclsh is not installed: the stand-in tools need it"
    ),
    pytest.mark.skipif(
        shutil.which("g++") is None, reason="g++ is not installed: the stand-in compiles with it"
    ),
]
ALL = ["C simulation", "C synthesis", "RTL co-simulation", "IP export", "block design", "synthesis",
       "place, route, bitstream"]  # fmt: skip
Synth = Callable[..., "Ended"]


class Ended:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def failed(self) -> str:
        """The reason, of a tool or a check."""
        assert self.code == 1, (self.code, self.out, self.err)
        return self.err.partition("failed: ")[2].strip()

    def states(self) -> dict[str, str]:
        """Done or kept, by step, as the table says."""
        rows = [line.split("│") for line in self.out.splitlines() if line.startswith("│")]
        return {row[1].strip(): row[2].strip() for row in rows}


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("xilinx")
    for release in ("2020.1", "2022.1", "2025.1"):
        install(folder, release)
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One lane: its C++ compiles fastest, and every test of the session compiles the same."""
    return bundle_of_mini(tmp_path_factory.mktemp("synth") / "bundle", "pynq-z2", lanes=1)


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture(scope="session")
def finished(built: Path, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with its bitstream, to be copied."""
    folder = tmp_path_factory.mktemp("finished") / "bundle"
    shutil.copytree(built, folder)
    with pytest.raises(SystemExit) as ended:
        cli.main(["synth", str(folder), "--tools", str(tools), "--vivado", "2020.1", "--no-cosim"])
    assert not ended.value.code
    return folder


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def synth(tools: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Synth:
    def call(bundle: Path, *arguments: object, release: str = "2020.1", faults: str = "") -> Ended:
        monkeypatch.setenv("STANDIN_FAULTS", faults)
        given = ["synth", str(bundle), "--tools", str(tools), "--vivado", release, *map(str, arguments)]
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(given)
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return call


def logs(bundle: Path) -> dict[str, int]:
    """When each log was written: a step that was run again has a new one."""
    return {p.name: p.stat().st_mtime_ns for p in (bundle / "synthesis" / "logs").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("board", "release"),
    [("pynq-z2", "2020.1"), ("pynq-z2", "2025.1"), ("ultra96", "2020.1"), ("ultra96", "2022.1")],
)
def test_a_bundle_gets_its_bitstream(synth: Synth, tmp_path: Path, board: str, release: str) -> None:
    """Both families, every HLS tool."""
    bundle = bundle_of_mini(tmp_path / "bundle", board, lanes=1)
    before = {p: file_digest(p) for p in bundle.rglob("*") if p.is_file()}
    ended = synth(bundle, release=release)
    assert ended.code == 0, ended.err
    assert ended.states() == dict.fromkeys(ALL, "done")
    record = json.loads((bundle / "synthesis.json").read_text())
    manifest = json.loads((bundle / "manifest.json").read_text())
    title = {"2020.1": "Vivado HLS 2020.1", "2022.1": "Vitis HLS 2022.1", "2025.1": "Vitis HLS 2025.1"}[
        release
    ]
    assert record.pop("finished").startswith("20")
    part, mhz = {"pynq-z2": ("xc7z020clg400-1", 142.857), "ultra96": ("xczu3eg-sbva484-1-i", 250.0)}[board]
    assert record == {
        "format": "codesign-synthesis", "version": 1, "tool": {"hls": title, "vivado": release}, "board": board,
        "part": part, "clock_mhz": mhz, "design": design_digest(manifest),
        "bit": file_digest(bundle / "design.bit"), "hwh": file_digest(bundle / "design.hwh"),
    }  # fmt: skip
    assert hardware(bundle)[0].status == "quoted", "verify tells of the co-simulation"
    assert {p: file_digest(p) for p in before} == before
    load(bundle)
    work = bundle / "synthesis"
    reports = {p.name for p in (work / "reports").iterdir()}
    assert reports >= {"csynth.xml", "codesign_engine_csynth.xml", "cosim.rpt", "utilization.rpt", "timing.rpt",
                       "power.rpt"}  # fmt: skip
    steps = {"csim", "csynth", "cosim", "export", "design", "synthesis", "bitstream"}
    assert {p.name for p in (work / "logs").iterdir()} == {f"{step}.log" for step in steps}
    assert set(json.loads((work / "state.json").read_text())["steps"]) == steps
    assert not list(bundle.rglob(".*.new"))


def test_the_handoff_has_registers_addresses_and_the_interrupt(done: Path) -> None:
    root = ElementTree.parse(done / "design.hwh").getroot()
    modules = {m.get("MODTYPE"): m for m in root.iter("MODULE")}
    assert set(modules) == {
        "codesign_engine",
        "processing_system7",
        "proc_sys_reset",
        "smartconnect",
        "axi_intc",
    }
    registers = [
        (r.get("NAME"), p.get("VALUE")) for r in modules["codesign_engine"].iter("REGISTER")
        for p in r.findall("PROPERTY") if p.get("NAME") == "ADDRESS_OFFSET"
    ]  # fmt: skip
    assert registers[:6] == [("CTRL", "0"), ("GIER", "4"), ("IP_IER", "8"), ("IP_ISR", "12"), ("ap_return", "16"),
                             ("features_V", "24")]  # fmt: skip
    ranges = {m.get("INSTANCE"): m.get("BASEVALUE") for m in modules["processing_system7"].iter("MEMRANGE")}
    assert ranges == {"codesign_engine_0": "0x40000000", "axi_intc_0": "0x40010000"}
    ports = {p.get("NAME"): p.get("SIGNAME") for p in modules["axi_intc"].iter("PORT")}
    assert ports["intr"] == "codesign_engine_0_interrupt"
    memory = {m.get("SLAVEBUSINTERFACE") for m in modules["codesign_engine"].iter("MEMRANGE")}
    assert memory == {f"S_AXI_HP{i}" for i in range(4)}


def test_finished_steps_are_kept(synth: Synth, done: Path) -> None:
    before = logs(done)
    ended = synth(done, "--no-cosim", faults="csim_design=crash,launch_runs=synth_1")
    assert set(ended.states().values()) == {"kept"}
    assert logs(done) == before


@pytest.mark.slow
def test_it_goes_on_after_a_failure(synth: Synth, bundle: Path) -> None:
    ended = synth(bundle, "--no-cosim", faults="launch_runs=impl_1")
    assert ended.failed().startswith(
        "place, route, bitstream (Vivado 2020.1 on here): ERROR: [Place 30-640] Place Check : This design requires "
        "more Slice LUTs than are available. The log is "
    )
    assert not (bundle / "design.bit").exists() and not (bundle / "synthesis.json").exists()
    again = synth(bundle, "--no-cosim")
    assert again.states() == {**dict.fromkeys(ALL[:2] + ALL[3:6], "kept"), ALL[6]: "done"}
    assert (bundle / "design.bit").exists()
    kept = {p.name for p in (bundle / "synthesis" / "logs").iterdir()}
    assert {"bitstream.log", "bitstream.previous.log"} <= kept


def test_other_pictures_run_the_simulation_and_nothing_else(synth: Synth, done: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (40, 30), (200, 10, 90)).save(tmp_path / "other.png")
    ended = synth(done, "--no-cosim", "--images", tmp_path / "other.png")
    assert ended.states() == {ALL[0]: "done", **dict.fromkeys(ALL[1:2] + ALL[3:], "kept")}


def test_another_clock_begins_again_with_a_new_project(synth: Synth, done: Path) -> None:
    left = done / "synthesis" / "engine" / "left_over"
    left.write_text("of the earlier project")
    bit = file_digest(done / "design.bit")
    ended = synth(done, "--no-cosim", "--clock", 100, "--stop-after", "csynth")
    assert ended.states() == dict.fromkeys(ALL[:2], "done")
    assert not left.exists()
    assert "create_clock -period 10.000" in (done / "synthesis/scripts/csim.tcl").read_text()
    assert file_digest(done / "design.bit") == bit, "an earlier bitstream stays until there is a new one"


def test_another_release_begins_again(synth: Synth, done: Path) -> None:
    ended = synth(done, "--no-cosim", "--stop-after", "csynth", release="2022.1")
    assert ended.states() == dict.fromkeys(ALL[:2], "done")
    assert "Vitis HLS" in (done / "synthesis/logs/csim.log").read_text()


@pytest.mark.parametrize("damage", ["output/design.bit", "reports/timing.rpt"])
def test_what_was_deleted_is_made_again(synth: Synth, done: Path, damage: str) -> None:
    (done / "synthesis" / damage).unlink()
    ended = synth(done, "--no-cosim")
    assert ended.states() == {**dict.fromkeys(ALL[:2] + ALL[3:6], "kept"), ALL[6]: "done"}


def test_a_damaged_state_runs_all_again(synth: Synth, done: Path) -> None:
    (done / "synthesis" / "state.json").write_text('{"format": "codesign-syn')
    ended = synth(done, "--no-cosim", "--stop-after", "csynth")
    assert ended.states() == dict.fromkeys(ALL[:2], "done")


def test_a_bitstream_replaced_by_hand_is_put_back(synth: Synth, done: Path) -> None:
    (done / "design.bit").write_bytes(b"of another design")
    assert synth(done, "--no-cosim").code == 0
    record = json.loads((done / "synthesis.json").read_text())
    assert file_digest(done / "design.bit") == record["bit"]


def test_timing_that_is_not_met_leaves_the_earlier_bitstream(synth: Synth, done: Path) -> None:
    before = {n: file_digest(done / n) for n in ("design.bit", "design.hwh", "synthesis.json")}
    (done / "synthesis/output/design.bit").unlink()
    ended = synth(done, "--no-cosim", faults="report_timing_summary=violated")
    said = ended.failed()
    assert said.startswith(
        "pynq-z2: timing is not met at 142.9 MHz: setup -0.731 ns, hold +0.021 ns, 112 endpoints "
    )
    assert "No bitstream was put into the bundle. Try --clock 125, or look at the paths in " in said
    assert {n: file_digest(done / n) for n in before} == before
    assert synth(done, "--no-cosim").states()[ALL[6]] == "done", "the step has not passed, so it is not kept"


def test_a_loop_that_misses_its_interval_ends_it(synth: Synth, bundle: Path) -> None:
    ended = synth(bundle, faults="csynth_design=ii:pointwise_Config_0_s.MultiplyAccumulate:2")
    said = ended.failed()
    assert said.startswith("C synthesis: 1 of ") and "loops are not as their pragmas promise." in said
    assert "loop MultiplyAccumulate of pointwise: II=2 in pointwise_Config_0_s, expected II=1" in said
    assert not (bundle / "synthesis/logs/export.log").exists()
    assert "csynth" not in json.loads((bundle / "synthesis/state.json").read_text())["steps"]


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ("csim_design=crash", "C simulation (Vivado HLS 2020.1 on here): ERROR: [HLS 200-70] Pre-synthesis failed: "
         "cannot schedule 'Word'. The log is "),
        ("csim_design=stream", "C simulation: WARNING: Hls::stream 'loaded' contains leftover data, expected none. "),
        ("csynth_design=damage:truncate", "reports"),
        ("csynth_design=killed", "C synthesis (Vivado HLS 2020.1 on here): ended with status -9 and named no error. "),
        ("export_design=y2k22", "IP export (Vivado HLS 2020.1 on here): bad lexical cast: source type value could not "
         "be interpreted as target. Vivado and HLS releases before 2022.1 number IPs by date, which no longer fits: "
         "install AMD's y2k22_patch (answer record 76960). The log is "),
    ],
)  # fmt: skip
def test_faults_of_hls(synth: Synth, bundle: Path, faults: str, said: str) -> None:
    ended = synth(bundle, "--no-cosim", "--stop-after", "export", faults=faults)
    assert said in ended.failed()
    again = synth(bundle, "--no-cosim", "--stop-after", "export")
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("faults", "step", "said"),
    [
        ("assign_bd_address=nothing", "design", "m_axi_features reaches no address. The log is "),
        ("launch_runs=synth_1", "synthesis", "ERROR: [Place 30-640]"),
        ("launch_runs=killed", "bitstream", "ended with status -9 and named no error."),
        ("report_timing_summary=truncated", "bitstream", "timing.rpt"),
    ],
)
def test_faults_of_vivado(synth: Synth, done: Path, faults: str, step: str, said: str) -> None:
    state = done / "synthesis" / "state.json"
    facts = json.loads(state.read_text())
    del facts["steps"][step]
    state.write_text(json.dumps(facts))
    before = {n: file_digest(done / n) for n in ("design.bit", "design.hwh", "synthesis.json")}
    assert said in synth(done, "--no-cosim", faults=faults).failed()
    assert {n: file_digest(done / n) for n in before} == before, "nothing half-written in the bundle"


def test_a_tool_that_hangs_is_ended(synth: Synth, bundle: Path) -> None:
    ended = synth(bundle, "--hours", "0.001", "--stop-after", "csynth", faults="csim_design=hang")
    assert ended.failed().startswith(
        "C simulation (Vivado HLS 2020.1 on here): not finished after 0.001 h, ended while 'Scheduling for ever', "
        "expected it to end. Give it longer with --hours. The log is "
    )
    assert running_in(bundle) == []


def running_in(folder: Path) -> list[str]:
    """Processes that work below a folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if (process / "cwd").resolve().is_relative_to(folder.resolve()):
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue  # ended meanwhile, or another user's
    return found


def test_a_difference_from_our_simulation_fails(
    synth: Synth, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bit of one expected byte."""
    write = vectors.write_vectors

    def wrong(path: Path, frames: list, *rest: int) -> None:  # type: ignore[type-arg]
        at, data, mask = frames[0].checks[0]
        data = data.copy()
        data[int(mask.argmax())] ^= 1
        checks = [(at, data, mask), *frames[0].checks[1:]]
        write(path, [type(frames[0])(frames[0].patches, checks), *frames[1:]], *rest)

    monkeypatch.setattr(vectors, "write_vectors", wrong)
    said = synth(bundle, "--stop-after", "csynth").failed()
    assert said.startswith("C simulation (Vivado HLS 2020.1 on here): ERROR: [SIM 211-100]"), said
    log = (bundle / "synthesis/logs/csim.log").read_text()
    assert "2 frames, 1 differences" in log


@pytest.mark.slow
def test_co_simulation_that_differs_fails(
    synth: Synth, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole frames read through one port what they wrote through another: RTL co-simulation cannot show that."""
    steps = vectors.step_frames

    def whole(program, far, config, engine, memory, feed, chosen):  # type: ignore[no-untyped-def]
        frames = steps(program, far, config, engine, memory, feed, chosen)
        at, data, mask = frames[0].checks[0]
        return [type(frames[0])(frames[0].patches[:1], [(at, data, mask)]), *frames[1:]]

    monkeypatch.setattr(vectors, "step_frames", whole)
    said = synth(bundle, "--stop-after", "cosim").failed()
    assert said.startswith("RTL co-simulation (Vivado HLS 2020.1 on here): ERROR: "), said
    assert "*** C/RTL co-simulation finished: FAIL ***" in (bundle / "synthesis/logs/cosim.log").read_text()


def test_one_at_a_time(synth: Synth, bundle: Path) -> None:
    (bundle / "synthesis").mkdir()
    with (bundle / "synthesis" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ended = synth(bundle)
    assert ended.code == 2
    assert "another `codesign synth` is at work there, expected none. Wait for it, or end it." in ended.err


def test_bad_input(synth: Synth, bundle: Path, tmp_path: Path) -> None:
    assert "--no-cosim: leaves out the step that --stop-after names. Drop one of them." in synth(
        bundle, "--no-cosim", "--stop-after", "cosim"
    ).err  # fmt: skip
    spaced = tmp_path / "a b"
    shutil.copytree(bundle, spaced)
    ended = synth(spaced)
    assert ended.code == 2
    assert (
        "has a space in its path, expected none: the vendor's tools cut it there. Move the bundle."
        in ended.err
    )
    assert "expected a bundle" in synth(tmp_path / "none").err


def test_json(synth: Synth, done: Path) -> None:
    facts = json.loads(synth(done, "--no-cosim", "--json").out)
    assert facts["bitstream"] == str(done / "design.bit")
    assert [step["step"] for step in facts["steps"]] == [
        "csim",
        "csynth",
        "export",
        "design",
        "synthesis",
        "bitstream",
    ]
    assert {tool["release"] for tool in facts["tools"]} == {"2020.1"}


def test_building_again_keeps_a_synthesis_of_the_same_sources(done: Path, synth: Synth) -> None:
    """Other weights are another program for the same engine."""
    bit = file_digest(done / "design.bit")
    bundle_of_mini(done, "pynq-z2", lanes=1)
    assert file_digest(done / "design.bit") == bit
    assert set(synth(done, "--no-cosim").states().values()) == {"kept"}
    bundle_of_mini(done, "pynq-z2", lanes=2)
    assert not (done / "design.bit").exists() and not (done / "synthesis").exists()


def test_the_number_of_processes_is_no_reason_to_run_again(synth: Synth, done: Path) -> None:
    assert set(synth(done, "--no-cosim", "--jobs", 7).states().values()) == {"kept"}
