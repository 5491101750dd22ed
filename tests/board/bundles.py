"""Bundles with a bitstream that the software device takes: what `codesign synth` leaves, without the vendor's tools."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from codesign.digest import design_digest
from tests.board import hwh


def synthesised(directory: Path, family: str = "zynqmp", clock_mhz: int = 250) -> Path:
    """Put design.bit, design.hwh and synthesis.json into a bundle."""
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "design.bit").write_bytes(b"for the software device")
    (directory / "design.hwh").write_text(hwh.text(family, clock_mhz))
    digests = {
        key: hashlib.sha256((directory / f"design.{key}").read_bytes()).hexdigest() for key in ("bit", "hwh")
    }
    record = {
        "format": "codesign-synthesis",
        "version": 1,
        "tool": {"hls": "Vitis HLS 2022.1", "vivado": "2022.1"},
        "board": manifest["board"],
        "part": "-",
        "clock_mhz": clock_mhz,
        "design": design_digest(manifest),
        **digests,
        "finished": "-",
    }
    (directory / "synthesis.json").write_text(json.dumps(record))
    return directory
