"""Bundles that `codesign deploy` installed on this board, a directory each: NAME/design.bit and what goes with it.

PYNQ finds them by the entry point pynq.overlays: Overlay("NAME/design.bit") needs no path. CODESIGN_OVERLAYS names
another directory, which only our own driver knows.
"""

import os
from pathlib import Path

HOME = Path(os.environ.get("CODESIGN_OVERLAYS") or Path(__file__).resolve().parent)


def installed() -> tuple[str, ...]:
    """Names of the bundles that are here, sorted."""
    return tuple(sorted(path.parent.name for path in HOME.glob("*/design.bit")))
