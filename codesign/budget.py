"""What an engine needs beside what a board has."""

from __future__ import annotations

from dataclasses import replace

from codesign.board import Board, board_names, load_board
from codesign.engine_config import EngineConfig
from codesign.fabric import Unit
from codesign.resources import Resources, resources


def placed(config: EngineConfig, board: Board) -> EngineConfig:
    """With the large memories in UltraRAM, if the board has enough of it."""
    large = replace(config, ultra=1)
    return large if 0 < resources(large).uram <= board.uram else config


def fits(found: Resources, board: Board) -> bool:
    """Whether everything that is counted is within the board's budget."""
    return all(need <= have for _, need, have in budget(found, board))


def budget(found: Resources, board: Board) -> tuple[tuple[str, int, int], ...]:
    """Name, need and what the board has."""
    dsps, luts = found.on(board)
    return (
        ("DSP", dsps, board.dsps),
        ("BRAM36", found.bram36, board.bram36),
        ("URAM", found.uram, board.uram),
        ("LUT", luts, board.luts),
        ("FF", found.ffs, board.ffs),
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
    shares = (unit.dsps, unit.bram18 / 2, unit.uram, unit.luts, unit.ffs)
    return dict(zip(("DSP", "BRAM36", "URAM", "LUT", "FF"), shares, strict=True))[what]


def _remedy(config: EngineConfig, board: Board, searched: bool) -> str:
    others = [
        name for name in board_names() if name != board.name and fits(resources(config), load_board(name))
    ]
    offers = [] if searched else ["build without --lanes or --array, which looks for an engine that fits"]
    offers += [f"build for {', '.join(others)}"] if others else []
    text = ", or ".join(offers) or "build a smaller model"
    return f"{text[0].upper()}{text[1:]}."
