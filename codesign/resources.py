"""DSP, block RAM and LUTs of an engine, counted from its structure. All of it *estimated*.

DSP: one for two weights of the array and one pixel; nothing else is given one (CODESIGN_IN_LUTS). LUT: a multiplier
of a x b bits takes a*b, an upper bound (one LUT and its carry for each bit of each partial product); a choice among n
takes n/4 for each bit (a LUT and its wide multiplexers choose among four, UG474); shallow memories four for three bits
of 64 words (RAM64M, UG474). Block RAM: every memory of more than LUTRAM_DEPTH words in blocks of 18 Kbit at their
widest form that fits; all have one port to read and one to write. Not counted: FF, LUTs of adders, addresses and
control, FIFOs of a few words, and the block design around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from codesign.board import Board, board_names, load_board
from codesign.program import EngineConfig

NOT_COUNTED = "FF, LUTs of adders, addresses and control, FIFOs of a few words, the block design around it"
WEIGHTS_PER_DSP = 2  # DotProducts of exact/numbers.hpp
RING_COPIES = 3  # of each row: one for each column of taps
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
    logic_luts: int = 0  # of multipliers and choices

    @property
    def luts(self) -> int:
        return self.memory_luts + self.logic_luts


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
    def luts(self) -> int:
        """Of multipliers, choices and shallow memories; others are not counted."""
        return sum(u.luts for u in self.units)


def memory(name: str, words: int, bits: int, copies: int = 1) -> Unit:
    """A memory of words x bits, `copies` times, with one port to read and one to write."""
    if words <= LUTRAM_DEPTH:
        return Unit(name, memory_luts=copies * ceil(4 * bits / 3))
    return Unit(name, bram18=copies * min(ceil(words / w) * ceil(bits / b) for w, b in FORMS))


def multiplier_luts(a: int, b: int) -> int:
    """Of one multiplier of a x b bits without a DSP."""
    return a * b


def resources(config: EngineConfig) -> Resources:
    """What an engine of these constants is made of. Weights and tables have room for two steps."""
    n = config.lanes
    row = (32 + 8 + 8) * n  # of a requantization table
    outputs = n // config.turns
    ring = memory("ring of rows", config.row_words, 9 * n, RING_COPIES * config.ring_rows)
    chosen = 9 * ceil(config.ring_rows / 4) * 9 * n  # nine taps, each from any row of the ring
    chunk = max(512, config.row_words + config.input_words, config.output_words)
    return Resources((
        Unit("pointwise array", dsps=config.pixels * n * ceil(outputs / WEIGHTS_PER_DSP)),
        Unit("window taps", logic_luts=9 * n * multiplier_luts(9, 8) + chosen),
        Unit("requantizers", logic_luts=2 * n * multiplier_luts(33, 8)),
        ring,
        memory("pointwise weights", 2 * config.weight_tiles, 5 * n * n),
        memory("depthwise weights", 2 * config.window_groups, 8 * 9 * n),
        memory("window requantization", 2 * config.window_groups, row),
        memory("pointwise requantization", 2 * config.output_words, row),
        memory("kept words", 2 * config.input_words, 9 * n, config.pixels),
        memory("finish: words of a block", 2 * config.output_words, 9 * n, config.pixels),
        memory("load: chunks", 2 * chunk, 8 * n),
        memory("store: chunks", 2 * chunk, 9 * n),
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
        ("LUT", found.luts, board.luts),
    )


def over_budget(config: EngineConfig, board: Board, searched: bool = False) -> str:
    """One line for each resource that is short, with the largest units and what would fit; empty if all fit.

    `searched`: this is the nearest of all engines that a search looked at.
    """
    found = resources(config)
    lines = []
    for what, need, have in budget(found, board):
        if need > have:
            largest = sorted(found.units, key=lambda u: -_share(u, what))[:3]
            units = ", ".join(f"{u.name} ({_share(u, what):g})" for u in largest if _share(u, what))
            lines.append(f"{board.name}: needs {need} {what} of {have} (estimated). Largest: {units}.")
    if lines:
        lines[-1] += f" {_remedy(config, board, searched)}"
    return "\n".join(lines)


def _share(unit: Unit, what: str) -> float:
    shares = (unit.dsps, unit.bram18 / 2, unit.uram, unit.luts)
    return dict(zip(("DSP", "BRAM36", "URAM", "LUT"), shares, strict=True))[what]


def _remedy(config: EngineConfig, board: Board, searched: bool) -> str:
    others = [
        name for name in board_names() if name != board.name and fits(resources(config), load_board(name))
    ]
    offers = [] if searched else ["build with --search, which looks for an engine that fits"]
    offers += [f"build for {', '.join(others)}"] if others else []
    text = ", or ".join(offers) or "build a smaller model"
    return f"{text[0].upper()}{text[1:]}."
