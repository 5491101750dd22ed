"""Where the hand-written C++ lives. `HEADERS` is an include directory."""

from pathlib import Path

HEADERS = Path(__file__).parent
