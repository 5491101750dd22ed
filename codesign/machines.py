"""Where the vendor's tools run: here, or on another machine over ssh. Both look the same to the steps.

A machine has one work folder with hls/ and synthesis/ in it; commands run in synthesis/. Here that is the bundle
itself; elsewhere it is a folder in the user's home, filled by tar over ssh and fetched the same way. Nothing but
`ssh` is needed here, and sh, tar and timeout (coreutils) there.
"""

from __future__ import annotations

import io
import os
import shlex
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

from codesign.errors import CodesignError, ToolMissing

WORK = "synthesis"
GRACE = 10.0  # seconds between asking a tool to end and ending it
TIMED_OUT = 124  # what timeout(1) returns
KILLED = 137

Tick = Callable[[float], None]  # hears the seconds since the start, about once a second


class MachineError(CodesignError):
    """Another machine cannot be reached, or refuses what it was asked."""


class Machine(Protocol):
    """`run` returns the exit status, or None after the time-out."""

    name: str

    def capture(self, script: str, timeout: float = 120.0) -> str: ...
    def run(self, command: Sequence[str], log: Path, timeout: float, tick: Tick) -> int | None: ...
    def has(self, names: Sequence[str]) -> bool: ...
    def remove(self, names: Sequence[str]) -> None: ...
    def put(self, root: Path, names: Sequence[str]) -> None: ...
    def fetch(self, root: Path, names: Sequence[str]) -> None: ...


class Here:
    """This machine; the bundle is the work folder."""

    name = "here"

    def __init__(self, root: Path) -> None:
        self._work = root / WORK

    def capture(self, script: str, timeout: float = 120.0) -> str:
        """What a shell script prints, whatever its exit status."""
        return _captured(["sh", "-c", script], "sh", timeout)

    def run(self, command: Sequence[str], log: Path, timeout: float, tick: Tick) -> int | None:
        with log.open("wb") as out:
            child = subprocess.Popen(
                command, cwd=self._work, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            return _wait(child, timeout, tick)

    def has(self, names: Sequence[str]) -> bool:
        return all((self._work / name).exists() for name in names)

    def remove(self, names: Sequence[str]) -> None:
        """Folders of synthesis/."""
        for name in names:
            if (self._work / name).exists():
                shutil.rmtree(self._work / name)

    def put(self, root: Path, names: Sequence[str]) -> None:
        """Nothing to do: it is here."""

    def fetch(self, root: Path, names: Sequence[str]) -> None:
        """Nothing to do: it is here."""


class Remote:
    """Another machine: `user@host`, or a name of ~/.ssh/config, where keys and jumps belong. Asks no password."""

    def __init__(self, host: str, folder: str) -> None:
        if host.startswith("-") or not host:
            raise MachineError(f"--host {host!r}: expected user@machine, as ssh takes it. Correct it.")
        if shutil.which("ssh") is None:
            raise ToolMissing("ssh: not found in PATH, expected for --host. Install an OpenSSH client.")
        self.name, self._folder = host, folder
        self._ssh = ["ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=30", host]

    def capture(self, script: str, timeout: float = 120.0) -> str:
        return _captured([*self._ssh, f"sh -c {shlex.quote(script)}"], self.name, timeout, remote=True)

    def run(self, command: Sequence[str], log: Path, timeout: float, tick: Tick) -> int | None:
        """The tool ends with the connection: a `cat` there waits for its end and then ends the tool."""
        limit = f"timeout -k {GRACE:.0f} {max(timeout, 1):.0f} {shlex.join(command)}"
        script = (
            f"cd {self._place(WORK)} || exit 2; exec 3<&0; {limit} </dev/null 3<&- & tool=$!; "
            "(cat <&3 >/dev/null; kill $tool 2>/dev/null) & watch=$!; exec 3<&-; "
            "wait $tool; status=$?; kill $watch 2>/dev/null; exit $status"
        )
        start = time.monotonic()
        with log.open("wb") as out:
            child = subprocess.Popen(
                [*self._ssh, f"sh -c {shlex.quote(script)}"], stdin=subprocess.PIPE, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            status = _wait(child, timeout + 3 * GRACE, tick)
        if status == 255:
            raise MachineError(
                f"{self.name}: ssh failed ({_last_line(log)}). Try `ssh {self.name} true`, then run this again: "
                "finished steps are kept."
            )
        in_time = (
            time.monotonic() - start < timeout
        )  # or else killed there for another reason, such as memory
        return None if status in (TIMED_OUT, KILLED) and not in_time else status

    def has(self, names: Sequence[str]) -> bool:
        tests = " && ".join(f"test -e {self._place(f'{WORK}/{name}')}" for name in names) or "true"
        return self.capture(f"if {tests}; then echo yes; fi").strip() == "yes"

    def remove(self, names: Sequence[str]) -> None:
        self._transfer("rm -rf " + " ".join(self._place(f"{WORK}/{name}") for name in names), b"")

    def put(self, root: Path, names: Sequence[str]) -> None:
        """Copy files or folders of the bundle; what was there under the same names goes."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name in names:
                tar.add(root / name, name)
        old = " ".join(self._place(name) for name in names)
        script = f"mkdir -p {self._place(WORK)} && rm -rf {old} && cd {self._place('.')} && tar -xf -"
        self._transfer(script, packed.getvalue())

    def fetch(self, root: Path, names: Sequence[str]) -> None:
        """Bring files or folders of synthesis/ back; those that are not there are left out."""
        listed = " ".join(shlex.quote(name) for name in names)
        script = (
            f'cd {self._place(WORK)} && found=; for name in {listed}; do test -e $name && found="$found $name"; '
            'done; test -z "$found" || tar -cf - $found'
        )
        data = self._transfer(script, b"")
        if data:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r") as tar:
                _extract(tar, root / WORK)

    def _place(self, name: str) -> str:
        """A path on the other side, for its shell; ~ is expanded there."""
        folder = self._folder.removeprefix("~/")
        start = "" if folder == self._folder else '"$HOME"/'
        return start + shlex.quote(folder if name == "." else f"{folder}/{name}")

    def _transfer(self, script: str, data: bytes) -> bytes:
        done = subprocess.run(
            [*self._ssh, f"sh -c {shlex.quote(script)}"],
            input=data,
            capture_output=True,
            start_new_session=True,
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise MachineError(
                f"{self.name}: copying failed ({said[-1] if said else f'status {done.returncode}'}). "
                f"Try `ssh {self.name} true`, then run this again."
            )
        return done.stdout


def _captured(command: Sequence[str], name: str, timeout: float, remote: bool = False) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, start_new_session=True
        )
    except subprocess.TimeoutExpired:
        raise MachineError(
            f"{name}: no answer in {timeout:.0f} s. Check the machine and its licence server."
        ) from None
    if remote and done.returncode == 255:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise MachineError(
            f"{name}: ssh failed ({said[-1] if said else 'no reason given'}). Try `ssh {name} true`: a key must be "
            "accepted without a password."
        )
    return done.stdout.decode(errors="replace")


def _wait(child: subprocess.Popen[Any], timeout: float, tick: Tick) -> int | None:
    """Wait for a process; on the time-out or an interruption end it and all it started."""
    start = time.monotonic()
    try:
        while True:
            passed = time.monotonic() - start
            try:
                return child.wait(min(1.0, max(0.01, timeout - passed)))
            except subprocess.TimeoutExpired:
                passed = time.monotonic() - start
                tick(passed)
                if passed >= timeout:
                    return None
    finally:
        if child.stdin is not None:
            child.stdin.close()  # the other side ends its tool when it sees this, and then ssh ends
            with suppress(subprocess.TimeoutExpired):
                child.wait(GRACE)
        if child.poll() is None:
            _end(child)


def _end(child: subprocess.Popen[Any]) -> None:
    """Ask the process group to end, then make it."""
    for number, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):  # all of the group have ended by themselves
            os.killpg(child.pid, number)
        try:
            child.wait(seconds)
            break
        except subprocess.TimeoutExpired:
            continue


def _extract(tar: tarfile.TarFile, target: Path) -> None:
    """Unpack files and folders below `target`, each written beside and renamed; nothing else is taken."""
    for member in tar:
        name = Path(member.name)
        if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
            raise MachineError(
                f"{member.name}: not a plain file below the work folder. Look at the other machine."
            )
        path = target / name
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        source = tar.extractfile(member)
        assert source is not None  # a plain file
        _write(path, source)


def _write(path: Path, source: IO[bytes]) -> None:
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        shutil.copyfileobj(source, file)
    os.replace(beside, path)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no reason given"
