"""Engines that a search looked at, and its results: kept beside compiled simulations, by all that decides them.

Numbers in a kept result are what the search of these very sources found, so that nobody needs to compare versions.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from codesign.board import Board
from codesign.compiled import cache
from codesign.engine_config import LEAST_NEAR, EngineConfig
from codesign.ir import Graph


@dataclass(frozen=True)
class Choice:
    """An engine that fits, what it is estimated to need, and how fast. DSP, BRAM36 and LUT as resources.py counts."""

    config: EngineConfig
    frames_per_s: float
    dsps: int
    bram36: int
    luts: int

    def __str__(self) -> str:
        c = self.config
        maps = f", {map_kib(c):g} KiB of maps" if c.near_words >= LEAST_NEAR else ""
        if c.steer_words >= LEAST_NEAR:
            maps += f", {steering_kib(c):g} KiB of offsets"
        return (
            f"{c.lanes} lanes, {array_text(c)}, {weight_kib(c):g} KiB of weights, rows of {c.row_words}"
            + maps
        )

    def to_json(self) -> dict[str, Any]:
        names = ("lanes", "arrays", "pixels", "turns", "fabric", "weight_tiles", "row_words", "near_words")
        shape = {name: getattr(self.config, name) for name in names}
        return {"engine": str(self)} | shape | {k: v for k, v in asdict(self).items() if k != "config"}


def array_text(config: EngineConfig) -> str:
    """`array 5x2`, `two arrays 5x4`; with pixels that are multiplied in LUTs, `array 7x2 (2 in LUTs)`."""
    shape = f"{config.pixels}x{config.turns}" + (f" ({config.fabric} in LUTs)" if config.fabric else "")
    return f"array {shape}" if config.arrays == 1 else f"two arrays {shape}"


def weight_kib(config: EngineConfig) -> float:
    """Of int4 weights on chip for one step."""
    return config.arrays * config.weight_tiles * config.lanes**2 / 2048


def map_kib(config: EngineConfig) -> float:
    """Of maps that stay on chip, in both memories."""
    return 2 * config.near_words * config.lanes / 1024


def steering_kib(config: EngineConfig) -> float:
    """Of what steers windows and stays on chip, in both memories."""
    return 2 * config.steer_words * config.lanes / 1024


@dataclass(frozen=True)
class Result:
    """What a search found: the engine taken first, then the others by speed."""

    choices: tuple[Choice, ...]
    apart: tuple[str, ...]  # results of windows that are stored although they could be fused
    end: str  # of the budget: what a faster engine would lack; empty where none is faster


def key_of(graph: Graph, board: Board, *options: object) -> str:
    """Of the graph with its constants, the facts of the board, the options, and the sources of this package."""
    digest = hashlib.sha256(_sources().encode())
    facts = {k: v for k, v in asdict(board).items() if k not in ("own", "sources")}
    for text in (str(graph), repr(sorted(facts.items())), repr(options)):
        digest.update(text.encode() + b"\0")
    for name in sorted(graph.consts):
        digest.update(graph.consts[name].tobytes())
    return digest.hexdigest()[:32]


def kept(key: str) -> Result | None:
    """A result that was kept, or None where there is none, or a damaged one."""
    try:
        data = json.loads(_path(key).read_text(encoding="utf-8"))
        choices = tuple(Choice(**{**c, "config": EngineConfig(**c["config"])}) for c in data["choices"])
        return Result(choices, tuple(data["apart"]), data["end"]) if choices else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(key: str, result: Result) -> None:
    """Keep a result; where the folder cannot be written to, the next search takes its seconds again."""
    path = _path(key)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as work:
            made = Path(work) / "made"
            made.write_text(json.dumps(asdict(result)), encoding="utf-8")
            os.replace(made, path)


def _path(key: str) -> Path:
    return cache() / f"search-{key}.json"


@lru_cache(maxsize=1)
def _sources() -> str:
    """Hash of the texts that decide: of the package, but for its command line."""
    files: Sequence[Path] = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        if not file.name.startswith("cli"):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
