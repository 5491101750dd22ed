"""A line of the verify ladder, and the comparison that it tells of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from codesign.ir import Array

Status = Literal["ok", "fail", "quoted", "not run"]
Say = Callable[[str], object]  # hears what is being done


@dataclass(frozen=True)
class Rung:
    """One line of the ladder: `compared` integers, of which `different` differ."""

    number: int
    name: str
    against: int | None
    status: Status
    note: str = ""
    compared: int = 0
    different: int = 0


@dataclass(frozen=True)
class Difference:
    """Outcome of a comparison by name: `first` is the first that differs, in the graph's order."""

    compared: int
    different: int
    first: str = ""
    worst: int = 0

    def rung(self, number: int, name: str, against: int, fine: str) -> Rung:
        status: Status = "fail" if self.different else "ok"
        note = f"first differs in {self.first}, by up to {self.worst}" if self.different else fine
        return Rung(number, name, against, status, note, self.compared, self.different)


def failed(rungs: Sequence[Rung]) -> bool:
    return any(r.status == "fail" for r in rungs)


def compare(
    expected: Mapping[str, Array], got: Mapping[str, npt.NDArray[Any]], names: Iterable[str]
) -> Difference:
    """Counts differing integers of the named arrays, in that order."""
    compared = different = worst = 0
    first = ""
    for name in names:
        a, b = expected[name], np.asarray(got[name], np.int64)
        assert a.shape == b.shape, (name, a.shape, b.shape)
        wrong = int(np.count_nonzero(a != b))
        compared, different = compared + a.size, different + wrong
        if wrong and not first:
            first, worst = name, int(np.abs(a - b).max())
    return Difference(compared, different, first, worst)
