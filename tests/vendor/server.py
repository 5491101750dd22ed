"""Serves the commands of one run of a stand-in tool: requests on stdin, answers on stdout (see tool.tcl).

    python -m tests.vendor.server TOOL RELEASE

STANDIN_FAULTS makes it fail as real tools do: `COMMAND=FAULT` separated by commas, for example csynth_design=crash.
Faults: crash (many warnings, then an error), hang, killed (by a signal, in the middle of its files), and those that a
command names itself.
"""

from __future__ import annotations

import base64
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Protocol

from tests.vendor.grammar import Refused, commands, parse


class Tool(Protocol):
    def call(self, name: str, options: dict[str, str], others: list[str]) -> str: ...


class Session:
    """What the commands of a tool share: its log, its release, the faults that were asked for."""

    def __init__(self, tool: str, release: str) -> None:
        self.tool, self.release = tool, release
        given = os.environ.get("STANDIN_FAULTS", "")
        self.faults = dict(pair.split("=", 1) for pair in given.split(",") if pair)

    @property
    def key(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.release.split("."))

    def log(self, text: str) -> None:
        _answer("L", text)

    def fault(self, command: str, name: str) -> bool:
        return self.faults.get(command) == name

    def misbehave(self, command: str) -> None:
        """Crash or hang, if that was asked for."""
        if self.fault(command, "crash"):
            for i in range(200):
                self.log(f"WARNING: [HLS 200-{i}] something that does not matter, ERROR-free")
            self.log("ERROR: [HLS 200-70] Pre-synthesis failed: cannot schedule 'Word'.")
            self.log("ERROR: [Common 17-69] Command failed: see the messages above.")
            raise Refused("command 'ap_source' returned error code")
        if self.fault(command, "hang"):
            self.log("INFO: [HLS 200-10] Scheduling for ever")
            time.sleep(600)

    def die(self, command: str) -> None:
        """End at once, like a process that the kernel kills for memory, if that was asked for."""
        if self.fault(command, "killed"):
            os.killpg(0, signal.SIGKILL)


def _answer(kind: str, text: str) -> None:
    sys.stdout.write(kind + base64.b64encode(text.encode()).decode() + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    name, release = arguments
    session = Session(name, release)
    known = commands(name, release)
    tool: Tool
    if name == "vivado":
        from tests.vendor.vivado import Vivado

        tool = Vivado(session)
    else:
        from tests.vendor.hls import Hls

        tool = Hls(session)
    for line in sys.stdin:
        words = [base64.b64decode(word[1:]).decode() for word in line.split()]
        if words[0] == "::commands":
            _answer("R", " ".join(known))
            continue
        if words[0] == "exit":
            session.log(f"INFO: [Common 17-206] Exiting {name}...")
            _answer("R", "")
            return 0
        try:
            session.misbehave(words[0])
            options, others = parse(known[words[0]], words[1:])
            _answer("R", tool.call(words[0], options, others))
        except Refused as error:
            _answer("L", f"ERROR: {error}" if str(error).startswith("[") else str(error))
            _answer("E", f"ERROR: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
