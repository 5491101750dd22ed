"""What a cascade costs and finds on a data set, for any threshold, from one run of every network on every picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from codesign.cascade import answered_by
from codesign.decode import Detections
from codesign.metrics import Objects, Scores, score


@dataclass(frozen=True)
class Seen:
    """A picture's objects, and what each network, cheapest first, finds on it; labels are those of the data set."""

    truth: Objects
    found: tuple[Detections, ...]


@dataclass(frozen=True)
class Outcome:
    """Of one threshold. Seconds are of the engine alone, of the networks that a picture has to go through."""

    doubt: float
    shares: tuple[float, ...]  # of the pictures that each network settles
    least: float
    mean: float
    most: float
    scores: Scores

    def to_json(self) -> dict[str, Any]:
        times = {"min": self.least * 1e3, "mean": self.mean * 1e3, "max": self.most * 1e3}
        return {
            "doubt": self.doubt,
            "settled": list(self.shares),
            "milliseconds": times,
            **asdict(self.scores),
        }


def outcome(
    pictures: Sequence[Seen], seconds: Sequence[float], threshold: float, classes: Sequence[str]
) -> Outcome:
    """`seconds` of each network; an answer in more doubt than `threshold` is not taken, but the last one's."""
    taken = [answered_by(picture.found, threshold) for picture in pictures]
    times = [sum(seconds[: i + 1]) for i in taken]
    found = [picture.found[i] for picture, i in zip(pictures, taken, strict=True)]
    return Outcome(
        threshold,
        tuple(taken.count(i) / len(taken) for i in range(len(seconds))),
        min(times),
        sum(times) / len(times),
        max(times),
        score([picture.truth for picture in pictures], found, classes),
    )
