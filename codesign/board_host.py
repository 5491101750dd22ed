"""A board over ssh: copy the package and a bundle to it, install both, and run python there as root.

Root, because PYNQ maps physical memory. The board's Python and its XRT are set up as /etc/profile.d of the PYNQ images
does for a login (pynq_venv.sh, xrt_setup.sh, boardname.sh). Needs `ssh` here, a key that the board accepts, and
sh, tar and sudo there.
"""

from __future__ import annotations

import io
import json
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

from codesign.errors import CodesignError, ToolMissing

FOLDER = ".codesign-deploy"  # in the user's home on the board
SET_UP = "for f in pynq_venv xrt_setup boardname; do test -r /etc/profile.d/$f.sh && . /etc/profile.d/$f.sh; done; "
PYNQ_VERSION = "import json, platform, pynq; print(json.dumps([pynq.__version__, platform.python_version()]))"


class HostError(CodesignError):
    """The board cannot be reached, or what was run on it failed."""


class CheckFailed(HostError):
    """What was run on the board found a difference: `result` is what it reported."""

    def __init__(self, text: str, result: Any) -> None:
        self.result = result
        super().__init__(text)


class BoardHost:
    """`user@board`, as ssh takes it. Ports, keys and jumps belong into ~/.ssh/config; no password is asked."""

    def __init__(self, host: str) -> None:
        if not host or host.startswith("-"):
            raise HostError(f"--host {host!r}: expected user@board, as ssh takes it. Correct it.")
        if shutil.which("ssh") is None:
            raise ToolMissing("ssh: not found in PATH, expected for --host. Install an OpenSSH client.")
        self.name = host
        self._ssh = [
            "ssh",
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=15",
            "-o",
            "ServerAliveInterval=15",
            host,
        ]

    def versions(self) -> tuple[str, str]:
        """Of pynq and Python on the board. Raises HostError where root's Python has no pynq."""
        try:
            found = json.loads(self.python(["-W", "ignore", "-c", PYNQ_VERSION], 120).splitlines()[-1])
        except (ValueError, IndexError):
            raise HostError(
                f"{self.name}: did not say which pynq it has. Is it a board with a PYNQ image?"
            ) from None
        return str(found[0]), str(found[1])

    def put(self, files: Mapping[str, bytes]) -> None:
        """Copy files into the folder; those of the same name are replaced."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(data), 0o644
                tar.addfile(member, io.BytesIO(data))
        self._run(f"mkdir -p {FOLDER} && tar -xf - -C {FOLDER}", packed.getvalue(), 600)

    def python(self, arguments: Sequence[str], timeout: float) -> str:
        """What Python prints as root, started in the folder. Raises HostError with its last words, or CheckFailed."""
        inner = f"{SET_UP}cd {FOLDER} 2>/dev/null; exec python3 {shlex.join(arguments)}"
        root = f'cd; test $(id -u) = 0 || set -- sudo -n; exec "$@" bash -c {shlex.quote(inner)}'
        return self._run(root, b"", timeout)

    def json(self, arguments: Sequence[str], timeout: float = 600) -> Any:
        """The JSON that `python3 -m boards ...` ends with."""
        said = self.python(["-W", "ignore", "-m", "boards", *arguments], timeout)
        return _last_json(said, self.name)

    def _run(self, script: str, data: bytes, timeout: float) -> str:
        command = [*self._ssh, f"sh -c {shlex.quote(script)}"]
        try:
            done = subprocess.run(
                command, input=data, capture_output=True, timeout=timeout, start_new_session=True
            )
        except subprocess.TimeoutExpired:
            raise HostError(
                f"{self.name}: no answer in {timeout:.0f} s. Is the board on? Its power switch ends what runs there."
            ) from None
        out, said = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace").strip()
        last = said.splitlines()[-1] if said else f"status {done.returncode}"
        if done.returncode == 255:
            raise HostError(
                f"{self.name}: ssh failed ({last}). Try `ssh {self.name} true`: a key must be accepted without a "
                f"password (`ssh-copy-id {self.name}`)."
            )
        if "sudo:" in said and "password" in said:
            raise HostError(
                f"{self.name}: sudo asks for a password, and PYNQ needs root. Log in as root, or once on the board: "
                'echo "$USER ALL=(ALL) NOPASSWD: ALL" | sudo tee /etc/sudoers.d/codesign'
            )
        if done.returncode == 1 and out.strip():
            raise CheckFailed(f"{self.name}: a check failed", _last_json(out, self.name))
        if done.returncode != 0:
            reason = next(
                (line for line in said.splitlines() if line.startswith("error: ")), f"error: {last}"
            )
            raise HostError(f"{self.name}: {reason.removeprefix('error: ')}")
        return out


def _last_json(text: str, where: str) -> Any:
    try:
        return json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise HostError(f"{where}: answered {text[-200:]!r}, expected JSON. Deploy again.") from None
