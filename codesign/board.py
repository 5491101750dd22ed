"""Facts of a board, read from boards/NAME.toml or from a file of the same form.

Adding a board is adding one TOML: every table names its source, every number its unit.
"""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from boards import TOMLS
from codesign.errors import BoardError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FAMILIES = ("zynq7000", "zynqmp")
LANES = (1, 2, 4, 8, 16)
CARRIED = "board.toml"  # in a bundle that was built for a board of the user's
RELEASE = r"20\d\d\.\d(\.\d)?"  # of Vivado: year, number, update
_WANTED: Mapping[type, str] = {str: "text", dict: "a table of texts"}

# table -> key -> (type, smallest, largest); text and tables of text have no bounds
FORM: Mapping[str, Mapping[str, tuple[type, int, int]]] = {
    "part": {"name": (str, 0, 0), "family": (str, 0, 0)},
    "resources": {
        "luts": (int, 1_000, 10_000_000),
        "ffs": (int, 1_000, 20_000_000),
        "bram36": (int, 1, 10_000),
        "uram": (int, 0, 10_000),
        "dsps": (int, 1, 20_000),
    },
    "dram": {
        "capacity_mib": (int, 1, 1 << 20),
        "width_bits": (int, 8, 1024),
        "bytes_per_s": (int, 10_000_000, 10**13),
    },
    "hp": {"ports": (int, 1, 64), "width_bits": (int, 8, 1024)},
    "ps": {"fabric_pll_mhz": (int, 100, 1_600), "properties": (dict, 0, 0)},
    "vivado": {"first": (str, 0, 0)},
    "pynq": {"images": (dict, 0, 0)},
    "default": {"clock_mhz": (int, 25, 1_000), "lanes": (int, min(LANES), max(LANES))},
}


@dataclass(frozen=True)
class Board:
    """One board. Peak bandwidth is what the memory's pins can move; what is usable is less."""

    name: str
    title: str
    part: str  # as Vivado spells it
    family: str  # zynq7000 or zynqmp
    luts: int
    ffs: int
    bram36: int  # blocks of 36 Kbit
    uram: int  # blocks of 288 Kbit
    dsps: int
    dram_bytes: int
    dram_width_bits: int
    dram_bytes_per_s: int  # peak
    hp_ports: int  # AXI slave ports of the processing system that reach DRAM
    hp_width_bits: int
    fabric_pll_mhz: int  # rate of the PLL that the clock of the fabric is divided from
    ps: Mapping[str, str]  # settings of the processing system's IP, names and values as Vivado spells them
    vivado_first: str  # the first release that is taken for this board, such as 2019.2
    images: Mapping[str, str]  # PYNQ release -> Vivado release that the image's own overlays were built with
    clock_mhz: int  # default
    lanes: int  # default
    sources: Mapping[str, str] = field(repr=False)  # table of the TOML -> where its facts come from
    own: str = field(default="", repr=False, compare=False)  # text of the TOML, where it is not the package's

    def fabric_divisor(self, mhz: float) -> int:
        """What the PLL is divided by for a clock of `mhz`, or the nearest below that it can give.

        PYNQ 3 sets this divisor when it loads an overlay; the PLL and its rate stay as the board booted
        (pynq/ps.py), so no other clocks exist. Half a MHz above is let pass: 143 means 1000 / 7.
        """
        return max(1, math.ceil(self.fabric_pll_mhz / (mhz + 0.5)))

    def fabric_mhz(self, mhz: float) -> float:
        """The clock that the fabric really gets where `mhz` is asked for."""
        return self.fabric_pll_mhz / self.fabric_divisor(mhz)


def board_names() -> tuple[str, ...]:
    """Names of the boards that come with the package, sorted."""
    return tuple(sorted(path.stem for path in TOMLS.glob("*.toml")))


def load_board(name_or_path: str | Path) -> Board:
    """A board that comes with the package by its name, or any other by the path of its TOML.

    Raises BoardError for an unknown name, or a file that is missing or does not have the form.
    """
    text = str(name_or_path)
    path = Path(text)
    if path.suffix != ".toml":
        names = board_names()
        if text not in names:
            raise BoardError(_unknown(text, names))
        return _parse(TOMLS / f"{text}.toml", _read(TOMLS / f"{text}.toml"))
    board = _parse(path, _read(path))
    return board if path.parent.resolve() == TOMLS.resolve() else replace(board, own=path.read_text("utf-8"))


def bundle_board(directory: Path, name: str) -> Board:
    """The board that a bundle was built for: the file it carries if the board was the user's own, else by `name`."""
    path = directory / CARRIED
    return replace(load_board(path), name=name) if path.is_file() else load_board(name)


def _unknown(name: str, names: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name.lower().replace("_", "-"), names, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return (
        f"board {name!r}: not known, expected one of {', '.join(names)}. "
        f"{hint}Another board is described by a TOML like those in boards/: give its path."
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise BoardError(f"{path}: cannot be read ({error.strerror}). Check the path.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BoardError(f"{path}: not TOML: {error}. Correct that line.") from None


def _fits(value: object, kind: type, low: int, high: int) -> bool:
    if isinstance(value, dict):
        return kind is dict and all(isinstance(text, str) for text in value.values())
    return type(value) is kind and (not isinstance(value, int) or low <= value <= high)


def _release_faults(first: str, images: Mapping[str, str]) -> list[str]:
    named = [("vivado.first", first)] + [(f"pynq.images.{image}", built) for image, built in images.items()]
    return [
        f"{key} is {release!r}, expected a release of Vivado such as 2020.1"
        for key, release in named
        if not re.fullmatch(RELEASE, release)
    ] + [
        f"pynq.images.{image} is not a release of PYNQ such as 3.1.2"
        for image in images
        if not re.fullmatch(r"\d+\.\d+(\.\d+)?", image)
    ]


def _parse(path: Path, data: Mapping[str, Any]) -> Board:
    faults: list[str] = []
    if not isinstance(data.get("title"), str):
        faults.append("title is missing, expected text")
    values: dict[str, Any] = {}
    for table, keys in FORM.items():
        given = data.get(table)
        if not isinstance(given, Mapping):
            faults.append(f"[{table}] is missing, expected {', '.join(keys)} and source")
            continue
        if not isinstance(given.get("source"), str):
            faults.append(f"{table}.source is missing, expected where the facts of [{table}] come from")
        for key, (kind, low, high) in keys.items():
            value = given.get(key)
            values[f"{table}.{key}"] = value
            wanted = _WANTED.get(kind, f"an integer from {low} to {high}")
            if value is None:
                faults.append(f"{table}.{key} is missing, expected {wanted}")
            elif not _fits(value, kind, low, high):
                faults.append(f"{table}.{key} is {value!r}, expected {wanted}")
        faults += [f"{table}.{key} is not known" for key in sorted(set(given) - set(keys) - {"source"})]
    faults += [f"{key} is not known" for key in sorted(set(data) - set(FORM) - {"title"})]
    if not faults:
        if values["part.family"] not in FAMILIES:
            faults.append(f"part.family is {values['part.family']!r}, expected {' or '.join(FAMILIES)}")
        if values["default.lanes"] not in LANES:
            faults.append(f"default.lanes is {values['default.lanes']}, expected one of {LANES}")
        faults += _release_faults(values["vivado.first"], values["pynq.images"])
    if faults:
        raise BoardError(f"{path}: {'; '.join(faults)}. Compare it with a file in boards/.")
    return Board(
        name=path.stem,
        title=data["title"],
        part=values["part.name"],
        family=values["part.family"],
        luts=values["resources.luts"],
        ffs=values["resources.ffs"],
        bram36=values["resources.bram36"],
        uram=values["resources.uram"],
        dsps=values["resources.dsps"],
        dram_bytes=values["dram.capacity_mib"] << 20,
        dram_width_bits=values["dram.width_bits"],
        dram_bytes_per_s=values["dram.bytes_per_s"],
        hp_ports=values["hp.ports"],
        hp_width_bits=values["hp.width_bits"],
        fabric_pll_mhz=values["ps.fabric_pll_mhz"],
        ps=values["ps.properties"],
        vivado_first=values["vivado.first"],
        images=values["pynq.images"],
        clock_mhz=values["default.clock_mhz"],
        lanes=values["default.lanes"],
        sources={table: data[table]["source"] for table in FORM},
    )
