"""One engine for several networks: what it must hold, and plans for an engine that there is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

from codesign.board import Board
from codesign.budget import over_budget
from codesign.bundle import Bundle
from codesign.emit import sources
from codesign.engine_config import EngineConfig
from codesign.errors import BundleError, PlanError
from codesign.fit import Limits
from codesign.ir import Graph
from codesign.plan import Plan, plan
from codesign.room import with_maps
from codesign.transport import BITSTREAM, HANDOFF, SYNTHESIS


def holding(config: EngineConfig, others: Mapping[str, Graph], board: Board) -> EngineConfig:
    """The engine, with each memory and width as large as the other networks need, where it is not yet.

    Raises PlanError if a network cannot run on such an engine, or the engine does not fit the board any more.
    """
    most, steering = config.near_words, config.steer_words
    config = replace(config, near_words=1, steer_words=1)  # what is left in the end keeps maps
    for name, graph in others.items():
        limits = Limits(0, config.row_words, config.middle_words)  # what it cannot do without, and no more
        array = (config.pixels, config.turns)
        try:
            least = plan(graph, config.lanes, arrays=config.arrays, array=array, limits=limits).config
            larger = {f.name: max(getattr(config, f.name), getattr(least, f.name)) for f in fields(config)}
            config = replace(config, **larger)
            plan(graph, config=config)
        except PlanError as error:
            raise PlanError(f"{name}: {error}") from None
    if excess := over_budget(config, board):
        raise PlanError(f"{', '.join(others)}: the engine with what they need, too, is too large.\n{excess}")
    return with_maps(config, most, board, steering)


def planned_for(graph: Graph, engine: Bundle) -> Plan:
    """The graph on another bundle's engine.

    Raises PlanError naming each constant of the engine that is too small, and BundleError if this version of codesign
    makes other hardware of the same constants.
    """
    for name, text in sources(engine.config).items():
        path = engine.hls / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            raise BundleError(
                f"{engine.directory}: its {name} is of another version of codesign, which one bitstream cannot be. "
                "Build it again."
            )
    try:
        return plan(graph, config=engine.config)
    except PlanError as error:
        raise PlanError(f"{error}\nOr build {engine.directory} again with --also and this model.") from None


def take_synthesis(engine: Path, bundle: Path) -> bool:
    """Copy a bundle's bitstream, if it has one, to a bundle of the same engine. Whether there was one."""
    there = all((engine / name).is_file() for name in (BITSTREAM, HANDOFF, SYNTHESIS))
    if there:
        for name in (BITSTREAM, HANDOFF, SYNTHESIS):
            shutil.copyfile(engine / name, bundle / name)
    return there
