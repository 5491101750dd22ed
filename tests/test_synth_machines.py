"""Where the tools run: found by folder, variable and PATH; here and over ssh, with a stand-in for ssh."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from codesign import cli, machines
from codesign.errors import ToolMissing
from codesign.machines import Here, MachineError, Remote
from codesign.vivado import VARIABLES, Tool, find, hls_tool_of
from tests.mini import bundle_of_mini
from tests.vendor.launch import install

needs_tclsh = pytest.mark.skipif(
    shutil.which("tclsh") is None, reason="tclsh is not installed: the stand-in tools need it"
)

SSH = """\
#!{python}
# Stands for ssh: options, a host, one command. Another machine is another home folder.
import os, sys
words = sys.argv[1:]
while words and words[0] == "-o":
    assert "=" in words[1], words
    words = words[2:]
host, command = words
with open({log!r}, "a") as file:
    file.write(host + " " + command[:60].replace("\\n", " ") + "\\n")
if host == "down":
    sys.stderr.write("ssh: connect to host down port 22: Connection refused\\n")
    sys.exit(255)
os.environ["HOME"] = {home!r}
os.chdir({home!r})
os.execvp("sh", ["sh", "-c", command])
"""


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of another machine, reached by a stand-in for ssh in PATH."""
    home, bin_ = tmp_path / "far", tmp_path / "bin"
    home.mkdir()
    bin_.mkdir()
    script = bin_ / "ssh"
    script.write_text(SSH.format(python=sys.executable, log=str(tmp_path / "ssh.log"), home=str(home)))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}{os.pathsep}{os.environ['PATH']}")
    return home


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without any of the vendor's settings."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def silent(seconds: float) -> None:
    """Hears how long a command has run."""


# --- finding the tools --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "name"),
    [("2018.3", "vivado_hls"), ("2020.1", "vivado_hls"), ("2020.1.1", "vivado_hls"), ("2020.2", "vitis_hls"),
     ("2024.1", "vitis_hls"), ("2024.2", "vitis-run"), ("2025.2", "vitis-run")],
)  # fmt: skip
def test_the_hls_tool_of_a_release(release: str, name: str) -> None:
    assert hls_tool_of(release) == name


def test_commands() -> None:
    assert Tool("vivado_hls", "/x/vivado_hls", "2020.1").command("a.tcl") == ["/x/vivado_hls", "-f", "a.tcl"]
    assert Tool("vitis-run", "v", "2025.1").command("a.tcl") == ["v", "--mode", "hls", "--tcl", "a.tcl"]
    assert Tool("vivado", "v", "2025.1").command("a.tcl")[:3] == ["v", "-mode", "batch"]


def test_found_in_a_folder_by_release(tmp_path: Path, clean: None) -> None:
    for release in ("2020.1", "2022.1", "2025.1"):
        install(tmp_path / "Xilinx", release)
    here = Here(tmp_path)
    hls, vivado = find(here, str(tmp_path / "Xilinx"), None, True)
    assert (hls.title, vivado and vivado.title) == ("Vitis HLS 2025.1", "Vivado 2025.1"), "the newest"
    hls, vivado = find(here, str(tmp_path / "Xilinx"), "2020.1", True)
    assert (hls.name, hls.release, vivado and vivado.release) == ("vivado_hls", "2020.1", "2020.1")
    assert find(here, str(tmp_path / "Xilinx" / "2025.1"), None, False)[1] is None


def test_found_by_variable_and_in_path(tmp_path: Path, clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "2020.1")
    install(tmp_path, "2022.1")
    here = Here(tmp_path)
    monkeypatch.setenv("XILINX_VIVADO", str(tmp_path / "Vivado/2020.1"))
    assert find(here, None, None, True)[0].release == "2020.1"
    monkeypatch.setenv("PATH", f"{tmp_path / 'Vitis_HLS/2022.1/bin'}{os.pathsep}{os.environ['PATH']}")
    assert find(here, None, None, False)[0].release == "2022.1"
    assert find(here, None, None, True)[0].release == "2020.1", "there is no Vivado 2022.1 among these"


@pytest.mark.parametrize(
    ("releases", "tools", "wanted", "said"),
    [
        ((), None, None, "here: none of the vendor's tools found in TOOLS, expected an HLS tool and Vivado of one "
         "release. Source the vendor's settings64.sh, or give the folder of the installation with --tools, or another "
         "machine with --host."),
        (("2022.1",), None, "2020.1", "here: Vitis HLS 2022.1 (vitis_hls), Vivado 2022.1 (vivado) found in TOOLS, "
         "expected vivado_hls and vivado 2020.1. Source"),
        (("2022.1",), ("vitis_hls",), None, "here: Vitis HLS 2022.1 (vitis_hls) found in TOOLS, expected an HLS tool "
         "and Vivado of one release. Source"),
        (("2019.1",), None, None, "Vivado HLS 2019.1 on here: too old, expected 2019.2 or newer (it does not read "
         "C++11 throughout). Install a newer release, or choose it with --vivado."),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(
    tmp_path: Path, clean: None, releases: tuple[str, ...], tools: tuple[str, ...] | None, wanted: str | None,
    said: str,
) -> None:  # fmt: skip
    folder = tmp_path / "Xilinx"
    folder.mkdir()
    for release in releases:
        install(folder, release, tools)
    with pytest.raises(ToolMissing) as raised:
        find(Here(tmp_path), str(folder), wanted, True)
    assert str(raised.value).replace(str(folder), "TOOLS").startswith(said)


# --- running --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["here", "far"])
def test_run_gives_status_and_log(tmp_path: Path, far: Path, where: str) -> None:
    machine = _machine(tmp_path, where)
    log = tmp_path / "log"
    assert machine.run(["sh", "-c", "pwd; echo said >&2; exit 3"], log, 60, silent) == 3
    said = log.read_text().splitlines()
    assert said[1] == "said" and said[0].endswith("/synthesis")


def _machine(tmp_path: Path, where: str) -> Here | Remote:
    bundle = tmp_path / "bundle"
    (bundle / "synthesis").mkdir(parents=True)
    (bundle / "hls").mkdir()
    (bundle / "hls" / "a.hpp").write_text("text")
    machine: Here | Remote = Here(bundle) if where == "here" else Remote("me@far", "~/work")
    machine.put(bundle, ["hls"])
    return machine


@pytest.mark.parametrize("where", ["here", "far"])
def test_a_time_out_ends_the_command_and_its_children(
    tmp_path: Path, far: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "GRACE", 1.0)
    machine = _machine(tmp_path, where)
    script = f"(sleep 300; echo {tmp_path.name}) & echo $! > pids; echo $$ >> pids; wait"
    heard: list[float] = []
    assert machine.run(["sh", "-c", script], tmp_path / "log", 2, heard.append) is None
    assert heard and heard == sorted(heard)
    folder = tmp_path / "bundle" if where == "here" else far / "work"
    for pid in (folder / "synthesis" / "pids").read_text().split():
        _ended(int(pid))


def _ended(pid: int) -> None:
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except FileNotFoundError:
            return
        time.sleep(0.1)
    raise AssertionError(f"process {pid} is still running")


@pytest.mark.parametrize("where", ["here", "far"])
def test_an_interruption_ends_the_command_too(tmp_path: Path, far: Path, where: str) -> None:
    """Ctrl-C, here; and there by the end of the connection."""
    machine = _machine(tmp_path, where)
    folder = tmp_path / "bundle" if where == "here" else far / "work"
    pid_file = folder / "synthesis" / "pid"

    def interrupt() -> None:
        for _ in range(200):
            if pid_file.exists() and pid_file.read_text().strip():
                break
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        machine.run(["sh", "-c", "echo $$ > pid; exec sleep 300"], tmp_path / "log", 60, silent)
    thread.join()
    _ended(int(pid_file.read_text()))


@pytest.mark.parametrize("where", ["here", "far"])
def test_a_command_that_is_killed_has_not_timed_out(tmp_path: Path, far: Path, where: str) -> None:
    """For memory, say: the shell over there makes 128 + 9 of it."""
    status = _machine(tmp_path, where).run(["sh", "-c", "kill -9 $$"], tmp_path / "log", 60, silent)
    assert status == (-9 if where == "here" else 137)


# --- over ssh -------------------------------------------------------------------------------------------------------


def test_files_go_there_and_come_back(tmp_path: Path, far: Path) -> None:
    machine = _machine(tmp_path, "far")
    assert (far / "work" / "hls" / "a.hpp").read_text() == "text"
    (tmp_path / "bundle" / "hls" / "a.hpp").rename(tmp_path / "bundle" / "hls" / "b.hpp")
    machine.put(tmp_path / "bundle", ["hls"])
    assert [p.name for p in (far / "work" / "hls").iterdir()] == ["b.hpp"], "what was there goes"
    assert not machine.has(["reports/x.rpt"])
    (far / "work" / "synthesis" / "reports").mkdir(parents=True)
    (far / "work" / "synthesis" / "reports" / "x.rpt").write_text("report")
    assert machine.has(["reports/x.rpt"])
    machine.fetch(tmp_path / "bundle", ["reports", "output"])
    assert (tmp_path / "bundle/synthesis/reports/x.rpt").read_text() == "report"
    machine.remove(["reports"])
    assert not (far / "work/synthesis/reports").exists()


def test_a_folder_with_odd_characters(tmp_path: Path, far: Path) -> None:
    machine = Remote("far", "~/a 'b' $c")
    (tmp_path / "bundle" / "hls").mkdir(parents=True)
    (tmp_path / "bundle" / "hls" / "f").write_text("x")
    machine.put(tmp_path / "bundle", ["hls"])
    assert (far / "a 'b' $c" / "hls" / "f").read_text() == "x"


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "link"])
def test_what_another_machine_sends_stays_below_the_work_folder(tmp_path: Path, name: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo(name)
        if name == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member, io.BytesIO(b""))
    packed.seek(0)
    with tarfile.open(fileobj=packed) as tar, pytest.raises(MachineError, match="not a plain file below"):
        machines._extract(tar, tmp_path / "work")


def test_a_machine_that_does_not_answer(tmp_path: Path, far: Path) -> None:
    down = Remote("down", "~/work")
    with pytest.raises(MachineError) as raised:
        down.capture("true")
    assert str(raised.value) == (
        "down: ssh failed (ssh: connect to host down port 22: Connection refused). Try `ssh down true`: a key must be "
        "accepted without a password."
    )
    with pytest.raises(MachineError, match="copying failed .*Connection refused"):
        down.remove(["x"])
    with pytest.raises(MachineError, match="finished steps are kept"):
        down.run(["true"], tmp_path / "log", 10, silent)
    with pytest.raises(MachineError, match="expected user@machine"):
        Remote("-oProxyCommand=x", "~/work")


def test_without_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ToolMissing, match="ssh: not found in PATH"):
        Remote("far", "~/work")


@pytest.fixture
def synth(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(["synth", *map(str, arguments)])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


@pytest.mark.slow
@needs_tclsh
def test_a_bitstream_from_another_machine(
    tmp_path: Path, far: Path, synth: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied, run, fetched; taken up again after a failure; and nothing is written here but the bundle."""
    bundle = bundle_of_mini(tmp_path / "bundle", "pynq-z2", lanes=1)
    install(far / "Xilinx", "2020.1")
    command = (bundle, "--host", "me@far", "--tools", "~/Xilinx", "--no-cosim")
    monkeypatch.setenv("STANDIN_FAULTS", "launch_runs=impl_1")
    code, _, err = synth(*command)
    assert code == 1 and "(Vivado 2020.1 on me@far): ERROR: [Place 30-640]" in err
    assert not (bundle / "design.bit").exists()
    monkeypatch.delenv("STANDIN_FAULTS")
    code, out, err = synth(*command)
    assert code == 0, err
    assert out.count(" kept ") == 5 and out.count(" done ") == 1
    assert json.loads((bundle / "synthesis.json").read_text())["tool"]["vivado"] == "2020.1"
    assert (bundle / "design.bit").exists() and (bundle / "synthesis/reports/timing.rpt").exists()
    assert not (bundle / "synthesis" / "engine").exists(), "the projects stay on the other machine"
    (work,) = (far / "codesign-synth").iterdir()
    assert work.name.endswith("-pynq-z2") and (work / "synthesis/engine").is_dir()


@needs_tclsh
def test_a_machine_without_the_tools(
    tmp_path: Path, far: Path, clean: None, synth: Callable[..., tuple[int, str, str]]
) -> None:
    bundle = bundle_of_mini(tmp_path / "bundle", "pynq-z2", lanes=1)
    code, _, err = synth(bundle, "--host", "me@far", "--tools", "~/Xilinx")
    assert code == 2
    assert (
        "me@far: none of the vendor's tools found in ~/Xilinx, expected an HLS tool and Vivado of one release."
        in err
    )
