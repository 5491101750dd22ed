"""Sources of designs as files, for what reads directories."""

from __future__ import annotations

from pathlib import Path

from codesign.emit import sources
from codesign.engine_config import EngineConfig

DESIGN = EngineConfig(lanes=8)


def emitted(folder: Path, config: EngineConfig = DESIGN) -> Path:
    """Write the sources of a design."""
    for name, text in sources(config).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder
