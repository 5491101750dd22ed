"""The parts of the engine by which figures are compared, and what each is called where.

An estimate counts memories and multipliers, a synthesis has modules, a routed netlist has instances. Here they
meet: a unit is the functions of the design that are its part. What the engine holds outside of these functions
(weights, tables, ports, the walk over the steps) is the unit ENGINE; what is in the bitstream beside the engine
is OUTSIDE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codesign.board import Board
from codesign.contract import Contract, Verdict
from codesign.csynth import Csynth
from codesign.cycles import Simulation
from codesign.estimate import Estimate
from codesign.reports import Cells, Instance
from codesign.resources import Resources

ENGINE = "weights, tables, ports, walk"
OUTSIDE = "interconnect and reset"
# Functions by unit. A function called by one of these, and by nothing else in this table, is in it as well.
FUNCTIONS = {
    "load": ("load",),
    "offsets": ("load_offsets",),
    "window": ("window",),
    "pointwise": ("pointwise",),
    "finish": ("finish",),
    "middle": ("middle", "feed"),
    "tail": ("tail",),
    "store": ("store",),
    "parameters": ("prefetch", "prefetch_both"),
    "descriptors": ("read_header", "read_step"),
}
# Which unit an estimate's part is compared with, by words in its name; the first that fits decides. Weights and
# tables belong to the engine, because they are filled by one function and read by another.
PARTS = (
    ("weights", ENGINE),
    ("window requantization", ENGINE),
    ("pointwise requantization", ENGINE),
    ("middle requantization", ENGINE),
    ("middle", "middle"),
    ("pool", "tail"),
    ("tail", "tail"),
    ("table", ENGINE),
    ("port", ENGINE),
    ("window", "window"),
    ("depthwise", "window"),
    ("ring", "window"),
    ("pointwise", "pointwise"),
    ("kept", "pointwise"),
)
SHARED = "requantizers"  # one behind each depthwise, one behind each array


def units_of(design: Contract) -> tuple[str, ...]:
    """The units that a design has, in the order of its stages, ENGINE last."""
    named = [unit for unit, functions in FUNCTIONS.items() if any(name in design.calls for name in functions)]
    return (*named, ENGINE)


def estimated(found: Resources, design: Contract, board: Board) -> dict[str, Cells]:
    """An estimate's parts by unit, on a board."""
    units = dict.fromkeys(units_of(design), Cells())

    def add(unit: str, counted: Cells) -> None:
        place = unit if unit in units else ENGINE
        units[place] += counted

    for part, (dsps, luts) in zip(found.units, found.each_on(board), strict=True):
        counted = Cells(luts, part.ffs, dsps, part.bram18, part.uram)
        if part.name == SHARED:
            fourth = Cells(*(value // 4 for value in counted.values()))
            add("window", fourth)
            add("middle", fourth)
            add("finish", counted - fourth - fourth)
        else:
            named = part.name.partition(":")[0]  # "load: chunks" says whose it is
            add(named if named in FUNCTIONS else _unit_by_words(part.name), counted)
    return units


def _unit_by_words(part: str) -> str:
    return next((unit for word, unit in PARTS if word in part), ENGINE)


def unit_of(function: str | None, design: Contract) -> str | None:
    """The unit a function is in: named in FUNCTIONS, or called by functions of one unit only."""
    for unit, functions in FUNCTIONS.items():
        if function in functions:
            return unit
    users = [
        unit
        for unit, functions in FUNCTIONS.items()
        if any(function in design.reach(name) for name in functions)
    ]
    return users[0] if len(users) == 1 else None


def synthesized(found: Csynth, design: Contract) -> dict[str, Cells]:
    """A synthesis's cells by unit; only units that have modules of their own, and the rest of the engine.

    Modules hold those they call, so of a unit's modules only those count that no other of them holds. What several
    units call is counted in each, as each has its own.
    """
    owners = {name: design.owner(name) for name in found.modules}
    units: dict[str, Cells] = {}
    for unit in FUNCTIONS:
        own = {name: owner for name, owner in owners.items() if owner and unit_of(owner, design) == unit}
        outer = [n for n in own if not any(_holds(own[other], other, own[n], n, design) for other in own)]
        if outer:
            units[unit] = sum((found.modules[name].cells for name in outer), Cells())
    units[ENGINE] = found.cells - sum(units.values(), Cells())
    return units


def _holds(outer: str, outer_module: str, inner: str, module: str, design: Contract) -> bool:
    """Whether a module contains another: by calls, or as the loop that was made a module of its own."""
    if outer == inner:
        return "_Pipeline_" in module and "_Pipeline_" not in outer_module
    return inner in design.reach(outer)


def routed(root: Instance, design: Contract, top: str) -> dict[str, Cells]:
    """A routed design's cells by unit, OUTSIDE included. Each instance counts where it, or what it is in, belongs."""
    units: dict[str, Cells] = {}

    def add(instance: Instance, unit: str) -> None:
        owner = design.owner(instance.module)
        if owner == top:
            unit = ENGINE
        elif owner is not None and unit != OUTSIDE:
            named = next((u for u, functions in FUNCTIONS.items() if owner in functions), None)
            unit = named or unit
        units[unit] = units.get(unit, Cells()) + instance.own
        for below in instance.below:
            add(below, unit)

    add(root, OUTSIDE)
    return units


# What an estimate calls the stages of a step, where that is not the name of a unit.
STAGES = {"compute": "pointwise"}
BEFORE = ("control", "parameters")  # what a simulation calls the regions before a step's stages


def cycles_estimated(cost: Estimate, design: Contract) -> dict[str, int]:
    """Cycles of a frame in which each unit works. What comes before a step's stages is the parameters', with the
    descriptor that names them."""
    units = dict.fromkeys(units_of(design), 0)
    found: dict[str, int] = {}
    for step in cost.steps:
        for stage, count in step.stages.items():
            unit = STAGES.get(stage, stage)
            if unit in units:
                found[unit] = found.get(unit, 0) + count
        found["parameters"] = found.get("parameters", 0) + step.parameters
    return {unit: found[unit] for unit in units if unit in found}


def cycles_simulated(found: Simulation, design: Contract) -> dict[str, int]:
    """Cycles of a frame in which each unit works, stalls left out: of its processes the busiest, step by step.

    What is not a step's region comes before the stages, and is the parameters' as in an estimate, waits included.
    """
    units: dict[str, int] = {}
    for region in found.regions:
        if region.name in BEFORE:
            units["parameters"] = units.get("parameters", 0) + region.cycles
            continue
        busy: dict[str, int] = {}
        for process in region.processes:
            unit = unit_of(process.name.removeprefix("second_"), design)
            if unit is not None:
                busy[unit] = max(busy.get(unit, 0), process.busy + process.fill + process.control)
        for unit, count in busy.items():
            units[unit] = units.get(unit, 0) + count
    return units


def slower(verdicts: Sequence[Verdict], design: Contract) -> dict[str, float]:
    """By how much each unit's slowest loop is slower than promised: 1 where all intervals are as stated.

    Without a unit that has a loop which no report names, or whose interval is not known.
    """
    factors: dict[str, list[float]] = {}
    unknown: set[str | None] = set()
    for verdict in verdicts:
        unit, promise = unit_of(verdict.promise.function, design), verdict.promise
        if unit is None or promise.ii is None:
            continue
        intervals = [loop.ii for loop in verdict.found if loop.ii is not None]
        if not intervals or len(intervals) < len(verdict.found):
            unknown.add(unit)
        factors.setdefault(unit, []).extend(ii / promise.ii for ii in intervals)
    return {unit: max(found) for unit, found in factors.items() if unit not in unknown}


def whole(units: Mapping[str, Cells]) -> Cells:
    """The engine: all units without OUTSIDE."""
    return sum((cells for unit, cells in units.items() if unit != OUTSIDE), Cells())
