"""Errors a user can cause. Anything else that escapes is a bug in codesign.

Every text reads *where: what, expected what. What to do.* and names all problems of its kind at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class CodesignError(Exception):
    """Base of every error whose message is written for the user."""


class TypeMismatch(CodesignError):
    """An operator was given tensors it is not defined on."""


class ModelError(CodesignError):
    """A model file cannot be read: missing, damaged, too large, of an unknown version."""


class PlanError(CodesignError):
    """A graph does not fit the engine it is planned for."""


class BundleError(CodesignError):
    """A bundle directory cannot be read or written."""


class BoardError(CodesignError):
    """An unknown board, or a board file with wrong facts."""


class DataError(CodesignError):
    """An image or a data set cannot be read."""


class ToolMissing(CodesignError):
    """A program or header that this step needs is not installed."""


@dataclass(frozen=True)
class Problem:
    """One thing in a model that cannot be compiled: where it is, what is wrong, what to do."""

    where: str  # "Conv 'stem'", "output 'hm'"
    reason: str  # a sentence without its full stop
    remedy: str  # a sentence with its full stop

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}. {self.remedy}"


class ModelRefused(ModelError):
    """A readable model with parts outside the contract; `problems` lists every one of them."""

    def __init__(self, where: str, problems: Sequence[Problem], done: str = "be compiled") -> None:
        self.problems, self.done = tuple(problems), done
        what = "1 part cannot" if len(problems) == 1 else f"{len(problems)} parts cannot"
        super().__init__("\n  ".join([f"{where}: {what} {done}.", *map(str, problems)]))
