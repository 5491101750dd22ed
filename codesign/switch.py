"""Decisions of a program, and how they are changed at run time: two numbers of a descriptor for each branch.

A frame computes a number and branches compare it with thresholds: from the highest on it takes way 0, from the next on
way 1, and so on. A decision is changed as if the frame had computed another number:

    a way, 0, 1, ...    every frame takes it: branches that look no more lead there
    a shift, +12, -3    thresholds move by so many codes of the number: fewer frames take the first ways, or more
    frame               each frame decides, as built

Bitstream, weights and all other descriptors stay. Numpy only: the driver on a board uses this module as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from codesign.descriptor import STEP_INTS, int_words
from codesign.errors import CodesignError
from codesign.program import HEADER_INTS, Program
from codesign.windows import ALWAYS, Branch

THRESHOLD_INT = 44  # of a descriptor; the target follows
FRAME = "frame"


class SwitchError(CodesignError):
    """There is no such decision, or it has no such way."""


@dataclass(frozen=True)
class Cut:
    """One threshold: from it on, the values `selects` are their first side. `steps` are the branches that look."""

    threshold: int
    selects: tuple[str, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Decision:
    """What one number of the frame decides; the highest threshold first."""

    number: str
    cuts: tuple[Cut, ...]

    @property
    def ways(self) -> int:
        return len(self.cuts) + 1

    def __str__(self) -> str:
        return f"{self.number} ({self.ways} ways, of {', '.join(self.selects)})"

    @property
    def selects(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for cut in self.cuts for name in cut.selects))

    def to_json(self) -> dict[str, Any]:
        cuts = [{"threshold": c.threshold, "selects": c.selects, "steps": c.steps} for c in self.cuts]
        return {"number": self.number, "cuts": cuts}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Decision:
        cuts = (Cut(int(c["threshold"]), tuple(c["selects"]), tuple(c["steps"])) for c in data["cuts"])
        return cls(str(data["number"]), tuple(cuts))

    def thresholds(self, how: str) -> tuple[int | bool, ...]:
        """Of each cut its threshold, or whether the first side is taken whatever the number is. Raises SwitchError."""
        if how == FRAME:
            return tuple(cut.threshold for cut in self.cuts)
        if re.fullmatch(r"[+-]\d+", how):
            return tuple(cut.threshold + int(how) for cut in self.cuts)
        if not how.isdecimal() or int(how) >= self.ways:
            ways = ", ".join(map(str, range(self.ways)))
            raise SwitchError(
                f"{self.number}: {how!r} is no way, expected {ways}, a shift such as +4, or {FRAME}. Choose one."
            )
        return tuple(i >= int(how) for i in range(len(self.cuts)))


Choices = Mapping[str, str]  # by the number that decides, or what it selects: a way, a shift, or FRAME


def decisions(program: Program) -> tuple[Decision, ...]:
    """Those of a program that was planned here, in the order of their first branches."""
    found: dict[str, dict[int, Cut]] = {}
    for i, step in enumerate(program.steps):
        branch = step.branch
        if branch is None or not branch.number:
            continue
        cuts = found.setdefault(branch.number, {})
        cut = cuts.get(branch.threshold, Cut(branch.threshold, (), ()))
        selects = tuple(dict.fromkeys((*cut.selects, *step.nodes)))
        cuts[branch.threshold] = Cut(branch.threshold, selects, (*cut.steps, i))
    return tuple(
        Decision(number, tuple(cuts[t] for t in sorted(cuts, reverse=True))) for number, cuts in found.items()
    )


def parsed(texts: Iterable[str]) -> dict[str, str]:
    """Choices from NAME=WAY. Raises SwitchError."""
    found = {}
    for text in texts:
        name, equal, way = text.rpartition("=")
        if not equal or not name:
            raise SwitchError(
                f"{text!r}: is no choice, expected NAME=WAY, such as {FRAME} for WAY. Correct it."
            )
        found[name] = way
    return found


def resolved(known: Sequence[Decision], given: Choices) -> dict[Decision, str]:
    """By decision. A name may be a part of one that no other has. Raises SwitchError."""
    found: dict[Decision, str] = {}
    for name, how in given.items():
        exact = [d for d in known if name in (d.number, *d.selects)]
        fits = exact or [d for d in known if any(name in full for full in (d.number, *d.selects))]
        if len(fits) != 1:
            what = "stands for several decisions" if fits else "is no decision"
            listed = "; ".join(map(str, fits or known)) or "a program that has some"
            raise SwitchError(f"{name}: {what}, expected one of {listed}. Name one of them.")
        fits[0].thresholds(how)
        found[fits[0]] = how
    return found


def branches(program: Program, chosen: Mapping[Decision, str]) -> dict[int, Branch]:
    """The branches of a program as it was built, by step, as decisions want them."""
    found = {}
    for decision, how in chosen.items():
        for cut, wanted in zip(decision.cuts, decision.thresholds(how), strict=True):
            for i in cut.steps:
                branch = program.steps[i].branch
                assert branch is not None
                if isinstance(wanted, bool):
                    found[i] = replace(branch, threshold=ALWAYS, target=i + 1 if wanted else branch.target)
                else:
                    found[i] = replace(branch, threshold=wanted)
    return found


def switched(program: Program, chosen: Mapping[Decision, str]) -> Program:
    """A program as it was built, with some decisions changed."""
    changed = branches(program, chosen)
    steps = (replace(s, branch=changed.get(i, s.branch)) for i, s in enumerate(program.steps))
    return replace(program, steps=tuple(steps))


def place(program: Program, step: int) -> int:
    """Where the threshold of a branch lies in the memory, and then its target: bytes, little-endian int32 each."""
    lanes = program.lanes
    words = program.base + int_words(HEADER_INTS, lanes) + step * int_words(STEP_INTS, lanes)
    return words * lanes + 4 * THRESHOLD_INT
