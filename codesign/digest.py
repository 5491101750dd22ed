"""One number that stands for a design's sources, so that a bitstream can be tied to the bundle it was made from.

Standard library only: the host writes it beside the bitstream, the board checks it before the first start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

SOURCES = "hls/"  # prefix of a bundle's files that synthesis reads


def design_digest(manifest: Mapping[str, Any]) -> str:
    """sha256 over name and sha256 of every file under hls/ in a bundle's manifest, sorted by name."""
    files = manifest["files"]
    text = "".join(f"{name}\0{files[name]}\n" for name in sorted(files) if name.startswith(SOURCES))
    return hashlib.sha256(text.encode()).hexdigest()
