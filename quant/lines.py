"""Results kept as JSON lines under a key made of what they depend on, so that long work goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def digest(*parts: Any) -> str:
    """A key of anything JSON holds; a path stands for the content of its file."""
    made = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else json.dumps(part, sort_keys=True).encode()
        made.update(hashlib.sha256(content).digest())
    return made.hexdigest()[:16]


class Lines:
    """Records of a file by their key. A line that an interruption cut short is left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, dict[str, Any]] = {}
        for line in path.read_text().splitlines() if path.is_file() else []:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            self.records[record["key"]] = record

    def get(self, key: str) -> dict[str, Any] | None:
        return self.records.get(key)

    def put(self, key: str, **values: Any) -> dict[str, Any]:
        record = {"key": key, **values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        cut = self.path.is_file() and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a") as file:
            file.write("\n" * cut + json.dumps(record) + "\n")
        self.records[key] = record
        return record
