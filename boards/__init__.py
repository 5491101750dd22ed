"""Facts of the boards, one TOML each; what runs on a board (driver, bench) comes to live here too.

Imports numpy and pynq at most: neither torch nor onnx reaches a board.
"""

from pathlib import Path

TOMLS = Path(__file__).resolve().parent
