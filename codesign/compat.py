"""Which Vivado and which PYNQ image go with a board: one place, used before synthesis and before deployment.

The facts are in boards/*.toml; this module holds what is true of PYNQ alone, and the two checks. A check refuses
what cannot work and says why; what nobody tested, but may work, is a note. Standard library only.
"""

from __future__ import annotations

import re

from codesign.board import RELEASE, Board
from codesign.errors import BoardError

# Releases of PYNQ and the Python of their images (PYNQ release notes: Ubuntu 18.04, 20.04, 22.04, 24.04).
PYTHONS = {(2, 5): "3.6", (2, 6): "3.6", (2, 7): "3.8", (3, 0): "3.10", (3, 1): "3.10", (4, 0): "3.12"}
PYTHON_FIRST = (3, 10)  # what pyproject.toml asks for
PATCHED_SINCE = "2022.1"  # HLS tools before it number IPs by date in 32 bits, which overflows since 2022
VIVADO_LAST = "2025.2"  # the newest release whose documents the emitted Tcl was checked against


def release_key(release: str) -> tuple[int, ...]:
    """Numbers of a release, for comparison: 2020.2.2 is newer than 2020.2."""
    return tuple(int(part) for part in release.split("."))


def parse_vivado(version: str) -> str:
    """The release in what a tool calls itself: "v2022.1 (64-bit)" is 2022.1. Raises BoardError without one."""
    found = re.search(rf"(?<!\d){RELEASE}(?!\d)", version)
    if found is None:
        raise BoardError(
            f"Vivado version {version!r}: not understood, expected a release such as 2020.1. "
            "Give the path of a Vivado installation."
        )
    return found.group()


def check_tools(board: Board, vivado: str) -> None:
    """Refuse a release of Vivado (or of the HLS tool, they share numbers) that cannot make this board's bitstream.

    Raises BoardError if `vivado` names no release or one that is too old.
    """
    release = parse_vivado(vivado)
    if release_key(release) < release_key(board.vivado_first):
        raise BoardError(
            f"{board.name}: Vivado {release} is too old, expected {board.vivado_first} or newer "
            f"({board.sources['vivado']}). Install a newer one, or choose it with --vivado."
        )


def check_image(board: Board, pynq: str, vivado: str | None = None) -> None:
    """Refuse a PYNQ image that does not run on the board or cannot run the driver.

    pynq: version of the pynq package on the board, such as 3.0.1; patch releases of a listed image pass.
    vivado: release that made the bitstream, checked as by check_tools if given.
    Raises BoardError.
    """
    series = _series(pynq)
    listed = {_series(image) for image in board.images}
    expected = " or ".join(board.images) or "none"
    if series not in listed:
        python = PYTHONS.get(series)
        old = python is not None and release_key(python) < PYTHON_FIRST
        why = f"its Python is {python} and the driver needs 3.10" if old else board.sources["pynq"]
        raise BoardError(
            f"{board.name}: PYNQ {pynq} is not supported, expected {expected} ({why}). "
            "Write an SD card with one of these images, or describe yours in a board TOML of your own."
        )
    if vivado is not None:
        check_tools(board, vivado)


def _series(pynq: str) -> tuple[int, int]:
    """Major and minor number of a version of PYNQ: patch releases of an image run the same overlays."""
    found = re.match(r"v?(\d+)\.(\d+)", pynq)
    if found is None:
        raise BoardError(
            f"PYNQ version {pynq!r}: not understood, expected one such as 3.0.1. Look at pynq.__version__ on the board."
        )
    return int(found.group(1)), int(found.group(2))


def notes(board: Board, vivado: str, pynq: str | None = None) -> tuple[str, ...]:
    """What is allowed but was tested by nobody we know of: sentences to show, none if all is as the vendor pairs it.

    pynq: version on the board; without it, every image of the board counts as a pairing.
    """
    release = parse_vivado(vivado)
    said = []
    if release_key(release) > release_key(VIVADO_LAST):
        said.append(
            f"Vivado {release} is newer than {VIVADO_LAST}, the last whose documents the scripts follow."
        )
    if release_key(release) < release_key(PATCHED_SINCE):
        said.append(
            f"Vivado {release} cannot export an IP since January 2022 unless AMD's patch y2k22_patch (answer "
            "record 76960) is installed: look for it if export fails with an invalid argument for core_revision."
        )
    wanted = None if pynq is None else _series(pynq)
    images = {
        image: built for image, built in board.images.items() if wanted is None or _series(image) == wanted
    }
    if images and release not in images.values():
        pairs = ", ".join(f"{image} with {built}" for image, built in images.items())
        said.append(
            f"{board.name}: the overlays of the PYNQ images were built with another Vivado ({pairs}); "
            f"a bitstream of Vivado {release} may load, but this pairing is not the vendor's."
        )
    return tuple(said)
