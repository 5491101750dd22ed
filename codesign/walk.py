"""In which order the engine walks over the steps of a program: the loop `Run` of hls_templates/engine.hpp.

A turn reads a descriptor and runs a step while the parameters of what it has read come; or it decides a branch. What
a branch decides is known when the step before it has run, so that the step which follows is prepared in a turn of its
own, beside an idle step. `walk` goes one way; `ways` finds the cheapest and the dearest of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from codesign.step import Step


@dataclass(frozen=True)
class Turn:
    """`step` runs (None: an idle one) while the parameters of `brings` come; or nothing `runs`: a branch decides."""

    reads: int | None  # the step whose descriptor is read before
    runs: bool = True
    step: int | None = None
    brings: int | None = None
    looks: bool = False  # a branch reads the number that decides


@dataclass(frozen=True)
class _State:
    """Before a turn: the step that will run, or None, and the one whose descriptor is read."""

    step: int | None
    following: int

    @property
    def order(self) -> tuple[int, bool]:
        """No turn leads to a state of a lesser one."""
        return self.following, self.step is None


@dataclass(frozen=True)
class Way:
    """What is summed along one way, and the branches on it that jump."""

    cost: float
    jumps: Mapping[int, bool]


def walk(steps: Sequence[Step], jumps: Mapping[int, bool]) -> Iterator[Turn]:
    """The turns of a frame in which the branches decide as `jumps` says; those that are not named do not jump."""
    state = _State(None, 0)
    while state.step is not None or state.following < len(steps):
        turn, ahead = _turn(steps, state, jumps.get(state.following, False))
        yield turn
        state = ahead


def ways(steps: Sequence[Step], cost: Callable[[Turn], float]) -> tuple[Way, Way]:
    """The cheapest way from the first step to the end, and the dearest."""
    start = _State(None, 0)
    least, most = {start: Way(0.0, {})}, {start: Way(0.0, {})}
    while True:
        state = min(least, key=lambda s: s.order)
        if state.step is None and state.following >= len(steps):
            return least[state], most[state]
        low, high = least.pop(state), most.pop(state)
        for jump in (False, True):
            turn, ahead = _turn(steps, state, jump)
            if jump and not turn.looks:
                break  # nothing was decided
            for found, way, better in ((least, low, min), (most, high, max)):
                taken = {**way.jumps, state.following: jump} if turn.looks else way.jumps
                new = Way(way.cost + cost(turn), taken)
                found[ahead] = better(found.get(ahead, new), new, key=lambda w: w.cost)


def _turn(steps: Sequence[Step], state: _State, jump: bool) -> tuple[Turn, _State]:
    """A turn, and what is before the next one."""
    at, turn = state.following, Turn(None, True, state.step)
    if at >= len(steps):
        return turn, _State(None, at)
    turn, branch, idle = replace(turn, reads=at), steps[at].branch, state.step is None
    if branch is not None and (idle or branch.always):
        ahead = branch.target if branch.always or jump else at + 1
        return replace(turn, runs=False, step=None, looks=not branch.always), _State(state.step, ahead)
    if steps[at].waits and not idle:
        return turn, _State(None, at)
    return replace(turn, brings=at), _State(at, at + 1)
