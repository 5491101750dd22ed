"""Makes every Python that has this folder in PYTHONPATH a board: pynq finds the software device in it."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

import soft_device  # noqa: F401
