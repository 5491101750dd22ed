"""DSP, block RAM and memory LUTs of an engine, counted from its structure. All of it *estimated*.

DSP: one for each multiplier of weights and activations; two for each multiplier of a requantizer, whose 33-bit
factor is wider than one takes. Block RAM: every memory of more than LUTRAM_DEPTH words in blocks of 18 Kbit at their
widest form that fits; shallower ones in LUTs, four for three bits of 64 words (RAM64M, UG474). Not counted: LUT and
FF of logic, address arithmetic (LUT and a few DSP), FIFOs of two words, control, and the block design around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from codesign.board import Board, board_names, load_board
from codesign.program import EngineConfig

NOT_COUNTED = (
    "LUT and FF of logic, address arithmetic, FIFOs of two words, control, the block design around it"
)
WEIGHTS_PER_DSP = 1  # multiply() of pointwise.hpp gives each weight its own multiplier
REQUANT_DSPS = 2  # a lane: 33-bit sum x 8-bit multiplier
RING_COPIES = 2  # of each row: two ports each, three columns read
LUTRAM_DEPTH = 64  # words of a LUT used as memory
PORT_WORDS = 256  # buffered by one m_axi port: 16 bursts of 16 words, the vendor's defaults
PORTS = 4
FORMS = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))  # words x bits of 18 Kbit


@dataclass(frozen=True)
class Unit:
    """A part of the engine. `bram18` counts halves of a BRAM36."""

    name: str
    dsps: int = 0
    bram18: int = 0
    uram: int = 0
    memory_luts: int = 0


@dataclass(frozen=True)
class Resources:
    """Of a whole engine."""

    units: tuple[Unit, ...]

    @property
    def dsps(self) -> int:
        return sum(u.dsps for u in self.units)

    @property
    def bram36(self) -> int:
        return ceil(sum(u.bram18 for u in self.units) / 2)

    @property
    def uram(self) -> int:
        return sum(u.uram for u in self.units)

    @property
    def memory_luts(self) -> int:
        """LUTs used as memory; those of logic are not counted."""
        return sum(u.memory_luts for u in self.units)


def memory(name: str, words: int, bits: int, copies: int = 1, *, two_readers: bool = False) -> Unit:
    """A memory of words x bits, `copies` times; with two readers a block gives at most 18 bits a port."""
    if words <= LUTRAM_DEPTH and not two_readers:
        return Unit(name, memory_luts=copies * ceil(4 * bits / 3))
    forms = FORMS[1:] if two_readers else FORMS
    return Unit(name, bram18=copies * min(ceil(words / w) * ceil(bits / b) for w, b in forms))


def resources(config: EngineConfig) -> Resources:
    """What an engine of these constants is made of."""
    n = config.lanes
    row = (32 + 8 + 8) * n  # of a requantization table
    ring = memory("ring of rows", config.row_words, 9 * n, RING_COPIES * config.ring_rows, two_readers=True)
    return Resources((
        Unit("pointwise array", dsps=ceil(n * n / WEIGHTS_PER_DSP)),
        Unit("window taps", dsps=9 * n),
        Unit("requantizers", dsps=2 * REQUANT_DSPS * n),
        ring,
        memory("pointwise weights", config.weight_tiles, 5 * n * n),
        memory("depthwise weights", config.window_groups, 8 * 9 * n),
        memory("window requantization", config.window_groups, row),
        memory("pointwise requantization", config.output_words, row),
        memory("kept words", config.input_words, 9 * n),
        memory("port buffers", PORT_WORDS, 8 * n, PORTS),
    ))  # fmt: skip


def fits(found: Resources, board: Board) -> bool:
    """Whether everything that is counted is within the board's budget."""
    return all(need <= have for _, need, have in budget(found, board))


def budget(found: Resources, board: Board) -> tuple[tuple[str, int, int], ...]:
    """Name, need and what the board has."""
    return (
        ("DSP", found.dsps, board.dsps),
        ("BRAM36", found.bram36, board.bram36),
        ("URAM", found.uram, board.uram),
        ("LUT as memory", found.memory_luts, board.luts),
    )


def over_budget(config: EngineConfig, board: Board) -> str:
    """One line for each resource that is short, with the largest units and what would fit; empty if all fit."""
    found = resources(config)
    lines = []
    for what, need, have in budget(found, board):
        if need > have:
            largest = sorted(found.units, key=lambda u: -_share(u, what))[:3]
            units = ", ".join(f"{u.name} ({_share(u, what):g})" for u in largest if _share(u, what))
            lines.append(f"{board.name}: needs {need} {what} of {have} (estimated). Largest: {units}.")
    if lines:
        lines[-1] += f" {_remedy(config, board)}"
    return "\n".join(lines)


def narrowed(config: EngineConfig, lanes: int) -> EngineConfig:
    """The constants that hold the same models with fewer lanes: more words in place of wider ones."""
    times = config.lanes // lanes
    return replace(
        config, lanes=lanes, row_words=config.row_words * times, window_groups=config.window_groups * times,
        input_words=config.input_words * times, output_words=config.output_words * times,
        weight_tiles=config.weight_tiles * times**2,
    )  # fmt: skip


def _share(unit: Unit, what: str) -> float:
    shares = (unit.dsps, unit.bram18 / 2, unit.uram, unit.memory_luts)
    return dict(zip(("DSP", "BRAM36", "URAM", "LUT as memory"), shares, strict=True))[what]


def _remedy(config: EngineConfig, board: Board) -> str:
    fewer: Sequence[int] = [n for n in (8, 4, 2, 1) if n < config.lanes]
    lanes = next((n for n in fewer if fits(resources(narrowed(config, n)), board)), None)
    others = [name for name in board_names() if fits(resources(config), load_board(name))]
    offers = [f"build with --lanes {lanes}"] if lanes else []
    offers += [f"build for {', '.join(others)}"] if others else []
    text = ", or ".join(offers) or "build a smaller model, or with smaller constants"
    return f"{text[0].upper()}{text[1:]}."
