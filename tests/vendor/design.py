"""What a synthesis makes of an emitted design, as far as reports show it: modules, their loops, their size.

The sources are read with a C++ parser, so that reports written from them follow the code and its pragmas and nothing
else: which loop is pipelined at which II, which are unrolled, which nests are flattened, who calls whom. Sizes are
plausible counts from config.hpp and say nothing about any real tool.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import clang.cindex as ci
from clang.cindex import CursorKind as K

from tests.hlslint.source import FUNCTIONS, LOOPS, RECORDS, Scope, Unit

UNSTATED = 6  # of a pipelined loop whose pragma says no II


@dataclass
class Loop:
    """A loop as reports name it; `ii` is None for one that is not pipelined."""

    name: str
    ii: int | None
    inner: list[Loop] = field(default_factory=list)


@dataclass
class Area:
    """Cells. `bram18` counts halves of a BRAM36."""

    lut: int = 0
    ff: int = 0
    dsp: int = 0
    bram18: int = 0

    def __add__(self, other: Area) -> Area:
        return Area(
            self.lut + other.lut, self.ff + other.ff, self.dsp + other.dsp, self.bram18 + other.bram18
        )


@dataclass
class Module:
    """One module of the RTL: a function as it was instantiated."""

    name: str  # window_Config_s
    function: str  # window
    loops: list[Loop]
    calls: list[str]  # names of modules, in the order of the text
    own: Area  # without what it calls
    dataflow: bool


def read(folder: Path, top: str = "codesign_engine", inline: Sequence[str] = ()) -> list[Module]:
    """Modules of the sources in `folder`, the top one first. Functions in `inline` become part of their callers.

    Functions that keep no loop are part of their callers, as small ones are in synthesis.
    """
    names = (p for p in sorted(folder.rglob("*")) if p.suffix in (".hpp", ".h", ".cpp"))
    texts = tuple((p.relative_to(folder).as_posix(), p.read_bytes()) for p in names)
    found = deepcopy(_functions(texts, top))
    own, calls = {f.rtl: f.loops for f in found}, {f.rtl: f.calls for f in found}
    constants = _constants(folder)
    kept = {top}
    for f in found:
        if f.name not in inline and not f.inlined and any(own[n] for n in _below(f.rtl, calls)):
            kept.add(f.rtl)
    modules = []
    for f in found:
        if f.rtl in kept:
            loops, below = _merged(f.rtl, kept, own, calls)
            area = _area(f.name, f.rtl == top, constants, len(loops))
            modules.append(Module(f.rtl, f.name, loops, below, area, f.dataflow))
    return modules


@dataclass
class Function:
    """A function as the top function instantiates it, with what its own text holds."""

    name: str
    rtl: str
    loops: list[Loop]
    calls: list[str]  # RTL names, in the order of the text
    inlined: bool
    dataflow: bool


@lru_cache(maxsize=8)
def _functions(texts: tuple[tuple[str, bytes], ...], top: str) -> list[Function]:
    """Of sources by path. Parsing takes most of the time that a report takes."""
    with tempfile.TemporaryDirectory() as work:
        for name, text in texts:
            path = Path(work).resolve() / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
        return _instantiated(Unit(Path(work).resolve(), "vivado", top), top)


def _instantiated(unit: Unit, top: str) -> list[Function]:
    for error in unit.errors():
        raise SystemExit(f"ERROR: [HLS 207-3777] {error}")
    scopes = {Unit.key(s.function): s for s in unit.scopes if s.kind == "function"}
    found: dict[str, Function] = {}
    todo = [(top, next(c for c in unit.nodes.values() if c.spelling == top))]
    while todo:
        name, cursor = todo.pop(0)
        if name in found:
            continue
        calls = []
        for call in cursor.walk_preorder():
            target = call.referenced if call.kind is K.CALL_EXPR else None
            if target is None or target.kind not in FUNCTIONS or unit.file(target) is None:
                continue
            body = target.get_definition() or target
            calls.append(_rtl_name(body))
            todo.append((calls[-1], body))
        scope = scopes.get(Unit.key(cursor))
        inlined, dataflow = (scope is not None and scope.has(n) is not None for n in ("inline", "dataflow"))
        found[name] = Function(_name(cursor), name, _loops(unit, cursor), calls, inlined, dataflow)
    return list(found.values())


def total(module: Module, modules: Mapping[str, Module]) -> Area:
    """Of a module with everything that it calls; a function called twice is one module."""
    area = module.own
    for name in dict.fromkeys(module.calls):
        area = area + total(modules[name], modules)
    return area


def _rtl_name(cursor: ci.Cursor) -> str:
    """load<Config> is load_Config_s, as in the vendor's RTL; functions that are no templates keep their name."""
    parts = []
    for i in range(max(cursor.get_num_template_arguments(), 0)):
        kind = cursor.get_template_argument_type(i)
        parts.append(re.sub(r"\W+", "_", kind.spelling or str(cursor.get_template_argument_value(i))))
    name = _name(cursor).replace("::", "_")
    return "_".join([name, *parts, "s"]) if parts else name


def _name(cursor: ci.Cursor) -> str:
    """Struct::function for a member of a struct."""
    parent = cursor.semantic_parent
    inside = parent is not None and parent.kind in RECORDS
    return f"{parent.spelling}::{cursor.spelling}" if inside else str(cursor.spelling)


def _below(name: str, calls: Mapping[str, Sequence[str]]) -> set[str]:
    seen: set[str] = set()
    todo = [name]
    while todo:
        at = todo.pop()
        if at not in seen:
            seen.add(at)
            todo += calls.get(at, ())
    return seen


def _merged(
    name: str, kept: set[str], own: Mapping[str, list[Loop]], calls: Mapping[str, Sequence[str]]
) -> tuple[list[Loop], list[str]]:
    """Loops and calls of a function and of those that became part of it; a name used twice gets a number."""
    loops, below = [], []

    def take(at: str) -> None:
        loops.extend(own[at])
        for called in calls[at]:
            if called in kept:
                below.append(called)
            else:
                take(called)

    take(name)
    seen: dict[str, int] = {}
    named = []
    for loop in loops:
        count = seen.get(loop.name, 0)
        seen[loop.name] = count + 1
        named.append(Loop(f"{loop.name}{count}" if count else loop.name, loop.ii, loop.inner))
    return named, below


def _loops(unit: Unit, function: ci.Cursor) -> list[Loop]:
    """Loops that are left of a function's: without unrolled ones and what is inside of pipelined ones."""
    places = {loop.location.offset: (loop, parent) for loop, parent, f in unit.loops
              if f.location.offset == function.location.offset and unit.file(f) == unit.file(function)}  # fmt: skip
    scopes = {s.owner.location.offset: s for s in unit.scopes
              if s.kind == "loop" and s.file == unit.file(function)}  # fmt: skip

    def below(cursor: ci.Cursor) -> Iterator[Loop]:
        for child in cursor.get_children():
            if child.kind in LOOPS and child.location.offset in places:
                yield from made(child)
            else:
                yield from below(child)

    def made(loop: ci.Cursor) -> Iterator[Loop]:
        parent = places[loop.location.offset][1]
        scope = scopes.get(loop.location.offset)
        name = parent.spelling if parent.kind is K.LABEL_STMT else "Loop 1"
        if scope is not None and scope.has("unroll"):
            yield from below(loop)
            return
        pipeline = scope.has("pipeline") if scope is not None else None
        if pipeline is not None:
            said = [w.split("=")[1] for w in pipeline.words if w.lower().startswith("ii=")]
            yield Loop(name, int(said[0]) if said else UNSTATED)
            return
        inner = list(below(loop))
        if len(inner) == 1 and inner[0].ii is not None and scope is not None and _perfect(scope):
            yield Loop(f"{name}_{inner[0].name}", inner[0].ii)
        else:
            yield Loop(name, None, inner)

    written = next(c for c in unit.nodes.values() if c.location.offset == function.location.offset
                   and unit.file(c) == unit.file(function))  # fmt: skip
    return list(below(written))


def _perfect(scope: Scope) -> bool:
    statements = scope.statements
    return len(statements) == 1 and statements[0].kind in {*LOOPS, K.LABEL_STMT}


def _constants(folder: Path) -> dict[str, int]:
    text = (folder / "config.hpp").read_text(encoding="utf-8")
    return {name: int(value) for name, value in re.findall(r"\b(k[A-Z]\w*)\s*=\s*(-?\d+)", text)}


def _area(function: str, is_top: bool, constants: Mapping[str, int], loops: int) -> Area:
    """Of the kind and order of size that such code gives."""
    lanes = constants.get("kLanes", 16)
    area = Area(lut=180 + 60 * loops + 9 * lanes, ff=150 + 80 * loops + 12 * lanes)
    if function == "pointwise":
        area += Area(lut=11 * lanes * lanes, ff=14 * lanes * lanes, dsp=lanes * lanes + 2 * lanes)
        area += Area(bram18=-(-9 * lanes // 36))
    elif function == "window":
        rows, words = constants.get("kRingRows", 4), constants.get("kRowWords", 512)
        blocks = 2 * rows * -(-9 * lanes // 18) * -(-words // 1024)
        area += Area(lut=420 * lanes, ff=260 * lanes, dsp=11 * lanes, bram18=blocks)
    elif is_top:
        tiles = constants.get("kWeightTiles", 64)
        blocks = -(-5 * lanes * lanes // 36) * -(-tiles // 512)
        area += Area(lut=2900, ff=4100, bram18=blocks + 8 * -(-lanes // 4))
    return area
