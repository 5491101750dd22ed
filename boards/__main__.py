"""What `codesign deploy` and `codesign bench` run on the board; by hand as root: python3 -m boards --help

    python3 -m boards install codenet-tiny.codesign     unpack it where Detector and PYNQ find it by name
    python3 -m boards list
    python3 -m boards check codenet-tiny                compare the engine with its test vectors
    python3 -m boards bench codenet-tiny --frames 500   latency, frames a second, power, ...

The result is JSON on stdout. Exit codes: 0 all is well, 1 a check failed, 2 bad input or a board that fails.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from boards.overlays import HOME, installed
from codesign.errors import CodesignError
from codesign.switch import parsed
from codesign.transport import SUFFIX, unpack

FAILED, BAD_INPUT = 1, 2


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python3 -m boards", description="Deploy and measure a bundle on this board."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    install = verbs.add_parser("install", help="unpack a packed bundle where it is found by name")
    install.add_argument("file", type=Path)
    install.add_argument("--notebooks", type=Path, help="folder of Jupyter (else $PYNQ_JUPYTER_NOTEBOOKS)")
    verbs.add_parser("list", help="names of installed bundles")
    for name, what in (("check", "compare the engine with its test vectors"), ("bench", "measure")):
        verb = verbs.add_parser(name, help=what)
        verb.add_argument("bundle", help="a name, a directory or a packed file")
        verb.add_argument("--timeout", type=float, default=2.0, help="seconds that a frame may take")
        if name == "bench":
            verb.add_argument("--frames", type=int, default=200)
            verb.add_argument(
                "--choose", action="append", metavar="NAME=WAY", help="as codesign bench has it"
            )
            verb.add_argument("--pictures", type=Path, help="file of `codesign bench --data`, for accuracy")
    given = parser.parse_args(arguments)
    try:
        result, status = globals()[f"_{given.verb}"](given)
    except CodesignError as error:
        sys.stderr.write(f"error: {error}\n")
        return BAD_INPUT
    sys.stdout.write(json.dumps(result) + "\n")
    return int(status)


def _install(given: argparse.Namespace) -> tuple[Any, int]:
    name = given.file.name.removesuffix(SUFFIX)
    found = unpack(given.file, HOME / name)
    notebooks = given.notebooks or os.environ.get("PYNQ_JUPYTER_NOTEBOOKS")
    copied = None
    if notebooks and Path(notebooks).is_dir():
        copied = Path(notebooks) / "codesign" / "deploy.ipynb"
        copied.parent.mkdir(exist_ok=True)
        shutil.copyfile(Path(__file__).resolve().parent / "notebooks" / "deploy.ipynb", copied)
    return {
        "name": name,
        "directory": str(HOME / name),
        "board": found.bundle.board,
        "notebook": None if copied is None else str(copied),
    }, 0


def _list(given: argparse.Namespace) -> tuple[Any, int]:
    return list(installed()), 0


def _check(given: argparse.Namespace) -> tuple[Any, int]:
    from boards.bench import bit_exact, source
    from boards.detector import Detector

    with Detector(given.bundle, timeout=given.timeout) as detector:
        result = bit_exact(detector, detector.deployed.vectors())
    return {"source": source(), **result}, FAILED if result["differences"] else 0


def _bench(given: argparse.Namespace) -> tuple[Any, int]:
    from boards.bench import bench
    from boards.detector import Detector

    with Detector(given.bundle, timeout=given.timeout) as detector:
        result = bench(detector, given.frames, given.pictures, _say, choose=parsed(given.choose or ()))
    return result, FAILED if result["bit_exact"]["differences"] else 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
