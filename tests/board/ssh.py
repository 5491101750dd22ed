"""A machine behind `ssh` that is a directory: commands run here, with a home, a sudo and a Python of their own.

The Python is an environment without pip and packages, which sees those of the one with pynq; what is installed on "the
board" lands in it. `nobody@...` is refused as ssh refuses a key.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

SSH = """#!/bin/sh
while [ $# -gt 0 ]; do case $1 in -o) shift 2;; -*) shift;; *) break;; esac; done
host=$1; shift
printf '%s\\n' "$host" >> {log}
case $host in nobody@*) echo "$host: Permission denied (publickey)." >&2; exit 255;; esac
cd {home} && exec env -i {environment} sh -c "$*"
"""
SUDO = """#!/bin/sh
test "$1" = -n && shift
if test -e {home}/sudo-asks; then echo "sudo: a password is required" >&2; exit 1; fi
echo root >> {log}
exec "$@"
"""


def machine(folder: Path, pynq: Path, variables: Mapping[str, str]) -> Path:
    """Make one below `folder`; returns the directory of its `ssh`, for PATH. `pynq` is a Python that has it."""
    here, there, home, log = folder / "bin", folder / "remote", folder / "home", folder / "log"
    for path in (here, there, home):
        path.mkdir(parents=True)
    subprocess.run([str(pynq), "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = {
        python: subprocess.run(
            [str(python), "-c", where], check=True, capture_output=True, text=True
        ).stdout.strip()
        for python in (pynq, folder / "venv" / "bin" / "python3")
    }
    theirs, own = packages.values()
    (Path(own) / "pynq.pth").write_text(theirs + "\n")
    environment = dict(variables) | {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(there), str(folder / "venv" / "bin"), "/usr/bin", "/bin"]),
    }
    listed = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    script(here / "ssh", SSH.format(log=log, home=home, environment=listed))
    script(there / "sudo", SUDO.format(home=home, log=log))
    script(there / "id", "#!/bin/sh\necho 1000\n")
    return here


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
