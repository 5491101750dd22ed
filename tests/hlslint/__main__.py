"""python -m tests.hlslint DIR: findings in the sources of a bundle, as both tools would read them."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.hlslint import lint


def main(folder: Path) -> int:
    wrong = 0
    for dialect in ("vivado", "vitis"):
        for finding in lint(folder, dialect, "codesign_engine"):
            wrong += 1
            sys.stdout.write(f"{dialect}: {finding}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
