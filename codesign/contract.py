"""The loop contract: which loops of a design are pipelined, at which initiation interval, and whether a synthesis
kept to it.

    promised = contract(folder)                 what the pragmas of the emitted C++ say, by function and label
    verdicts = compare(promised, csynth(...))   against the reports, one Verdict a loop
    broken(verdicts), unproven(verdicts)        lines for those that differ, and for those in no report

Loops are told apart by function and label, because labels repeat (Word, Pass). A report names them otherwise than
the text, and what is known of that is undone here:

    load_Config_s                        load<Config>, in both tools
    window_Config_Pipeline_Word          Vitis HLS: a module for the loop Word of window<Config>
    Row_Pixel                            two nested loops made one
    Pass1                                the second Pass in one module
    a loop of a function in its caller   the function was inlined

Where several functions with such a loop were inlined into one, a loop that keeps one of the promises counts for that
one, and a loop that keeps none counts against all of them.

A pipelined loop whose pragma states no II promises to be pipelined and no more. A loop that is unrolled, or not
pipelined, or inside of a pipelined one, promises nothing: what the tool makes of it is not compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from codesign.csynth import Csynth, Loop
from codesign.errors import CodesignError
from codesign.scan import Body, calls, scan

TOP_FUNCTION = "codesign_engine"
NOT_SYNTHESIZED = ("sim/", "native/", "main.cpp")


class ContractError(CodesignError):
    """The sources of a design do not state their loops so that they can be compared."""


@dataclass(frozen=True)
class Promise:
    """A pipelined loop of the text. `ii` is None where the pragma states none."""

    file: str
    line: int
    function: str
    label: str
    outer: tuple[str, ...]  # labels of the loops around it in the function, outermost first
    ii: int | None

    @property
    def name(self) -> str:
        return f"{self.function}: {self.label}"

    @property
    def spellings(self) -> tuple[str, ...]:
        """How a report may call it: alone, or made one with the loops around it."""
        path = (*self.outer, self.label)
        return tuple("_".join(path[i:]) for i in range(len(path)))


@dataclass(frozen=True)
class Contract:
    """The promises of a design, and who calls whom, by names of functions."""

    promises: tuple[Promise, ...]
    calls: Mapping[str, frozenset[str]]
    plain: frozenset[tuple[str, str]]  # function and label of the loops that promise nothing

    def owner(self, module: str) -> str | None:
        """The function a module of the RTL was made from; None for one that is no function of the design."""
        found = [name for name in self.calls if re.search(_module_pattern(name.replace("::", "_")), module)]
        return max(found, key=len, default=None)

    def reach(self, function: str) -> frozenset[str]:
        """Functions that can be called from one, without itself."""
        seen: set[str] = set()
        todo = list(self.calls.get(function, ()))
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += self.calls.get(name, ())
        return frozenset(seen - {function})


@dataclass(frozen=True)
class Verdict:
    """One promise beside what the reports say. `found` is empty where no report names the loop."""

    promise: Promise
    found: tuple[Loop, ...] = field(default=())

    @property
    def state(self) -> str:
        """`met`, `differs`, or `missing`."""
        if not self.found:
            return "missing"
        return "met" if all(_kept(self.promise, loop) for loop in self.found) else "differs"

    def __str__(self) -> str:
        promise = self.promise
        where = f"{promise.file}:{promise.line}: loop {promise.label} of {promise.function}"
        expected = "pipelined" if promise.ii is None else f"II={promise.ii}"
        if not self.found:
            return f"{where}: in no report, expected {expected}"
        said = ", ".join(
            f"{'not pipelined' if not loop.pipelined else f'II={loop.ii}' if loop.ii is not None else 'II unknown'}"
            f" in {loop.module}"
            for loop in self.found
            if not _kept(promise, loop)
        )
        return f"{where}: {said or 'as promised'}, expected {expected}"


def contract(design: Path | Mapping[str, str], top: str = TOP_FUNCTION) -> Contract:
    """Promises of the functions that the top function reaches; `design` is a directory or texts by path.

    Raises ContractError where a pipelined loop has no label, or an II that is no number.
    """
    texts = design if isinstance(design, Mapping) else _texts(design)
    bodies = {
        name: scan(text) for name, text in sorted(texts.items()) if not name.startswith(NOT_SYNTHESIZED)
    }
    functions = {body.name for found in bodies.values() for body in found}
    if top not in functions:
        raise ContractError(f"{design if isinstance(design, Path) else 'design'}: has no function {top}, expected "
                            "the sources of a bundle. Build the bundle again.")  # fmt: skip
    edges: dict[str, set[str]] = {name: set() for name in functions}
    for found in bodies.values():
        for body in found:
            edges[body.name] |= calls(body, functions)
    whole = Contract((), {name: frozenset(targets) for name, targets in edges.items()}, frozenset())
    reached = whole.reach(top) | {top}
    promises: list[Promise] = []
    plain: set[tuple[str, str]] = set()
    faults: list[str] = []
    for file, found in bodies.items():
        for body in found:
            if body.name in reached:
                _promises(file, body, (), promises, plain, faults)
    if faults:
        raise ContractError(f"{'; '.join(faults)}. Correct the sources.")
    return Contract(tuple(promises), whole.calls, frozenset(plain))


def compare(promised: Contract, synthesis: Csynth) -> list[Verdict]:
    """Each promise with the loops of the reports that are it, in the order of the text."""
    found: dict[Promise, list[Loop]] = {promise: [] for promise in promised.promises}
    for module in synthesis.modules.values():
        owner = promised.owner(module.name)
        for loop in module.loops:
            for promise in _candidates(promised, owner, loop):
                found[promise].append(loop)
    return [Verdict(promise, tuple(loops)) for promise, loops in found.items()]


def broken(verdicts: Sequence[Verdict]) -> list[str]:
    """Loops that differ from what they promise, a line each."""
    return [str(v) for v in verdicts if v.state == "differs"]


def unproven(verdicts: Sequence[Verdict]) -> list[str]:
    """Loops that no report names, a line each: the tool has unrolled, merged or renamed them."""
    return [str(v) for v in verdicts if v.state == "missing"]


def _candidates(promised: Contract, owner: str | None, loop: Loop) -> list[Promise]:
    """Promises that a loop of a report may be. A function's own come before those of functions inlined into it."""
    inside = frozenset(promised.calls) if owner is None else promised.reach(owner)
    for name in (loop.name, loop.name.rstrip("0123456789")):
        named = [p for p in promised.promises if name in p.spellings]
        own = [p for p in named if p.function == owner]
        inlined = [p for p in named if p.function in inside]
        plain = any(label == name and (f == owner or f in inside) for f, label in promised.plain)
        if plain and not own and not loop.pipelined:
            return []  # it is the one of this name that promises nothing
        named = own or inlined
        if len(named) > 1:  # two functions inlined here have such a loop: it is the one that it keeps
            named = [p for p in named if _kept(p, loop)] or named
        if named:
            return named
    return []


def _kept(promise: Promise, loop: Loop) -> bool:
    return loop.pipelined and (promise.ii is None or loop.ii == promise.ii)


def _promises(
    file: str,
    body: Body,
    outer: tuple[str, ...],
    promises: list[Promise],
    plain: set[tuple[str, str]],
    faults: list[str],
) -> None:
    for loop in body.loops:
        where = f"{file}:{loop.line}"
        pragma, unrolled = loop.pragma("PIPELINE"), loop.pragma("UNROLL") is not None
        if not unrolled and pragma is not None and "off" not in pragma.lower().split():
            said = re.findall(r"\bII\s*=\s*(\S+)", pragma, re.IGNORECASE)
            if loop.label is None:
                faults.append(
                    f"{where}: a pipelined loop has no label, expected one for the reports to name it"
                )
            elif said and not said[0].isdigit():
                faults.append(f"{where}: II={said[0]}, expected a number for the reports to be compared with")
            else:
                ii = int(said[0]) if said else None
                promises.append(Promise(file, loop.line, body.name, loop.label, outer, ii))
            continue
        if loop.label is not None and not unrolled:
            plain.add((body.name, loop.label))
        inner = outer if unrolled or loop.label is None else (*outer, loop.label)
        below = Body(body.name, loop.line, loop.text, loop.loops)
        _promises(file, below, inner, promises, plain, faults)


def _module_pattern(function: str) -> str:
    """`window` names window, window_Config_s, window_Config_Pipeline_Word, design_1_core_0_0_window_Config_s, and
    window_0_s, as Vivado HLS spells template arguments until 2019."""
    return rf"(?:^|_){re.escape(function)}(?=_Config(?:_|$)|_Pipeline_|(?:_\d+)*(?:_s)?(?:_\d+)?$)"


def _texts(folder: Path) -> dict[str, str]:
    try:
        return {
            path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
            for path in sorted(folder.rglob("*"))
            if path.suffix in (".hpp", ".h", ".cpp")
        }
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{folder}: cannot be read ({error}). Build the bundle again.") from None
