"""The small model of tests/data (see make_mini.py there), and bundles of it."""

from __future__ import annotations

from pathlib import Path

MINI = Path(__file__).resolve().parent / "data" / "mini.onnx"
CLASSES = ("disc", "ring", "bar")


def bundle_of_mini(folder: Path, board: str = "ultra96", lanes: int | None = None) -> Path:
    """On the smallest array, with the board's own lanes unless others are given."""
    from codesign.board import load_board
    from codesign.cli_compile import build_bundle

    build_bundle(str(MINI), folder, board, lanes or load_board(board).lanes, (1, 1))
    return folder
