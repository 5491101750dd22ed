"""Facts of the boards, one TOML each, and what runs on a board: driver, overlay, detector, bench.

Imports numpy, pynq, and those modules of codesign/ that need no more: neither torch nor onnx reaches a board. What is
installed there is a package of its own (codesign/board_wheel.py); tests/test_board.py runs it under the real pynq.
"""

from pathlib import Path

TOMLS = Path(__file__).resolve().parent
