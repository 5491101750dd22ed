"""What runs only where a Select takes it: in which order drafts run then, and the branches between their steps.

A draft's *guard* says which way every decision around it must go, the outermost first. What no side of a Select needs
alone has an empty one. Drafts are ordered so that those of one guard run together, as late as others allow; a branch
before them leads past them, and one behind the first side past the second:

    branch: number < threshold -> other     steps of side a     branch: always -> behind     other: steps of side b
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from codesign.draft import Condition, Draft
from codesign.fit import Work
from codesign.ir import Graph
from codesign.layout import Layout, load_order, views
from codesign.ports import Ints
from codesign.windows import ALWAYS

Guard = tuple[tuple[Condition, bool], ...]
Part = tuple[Work, int, int]  # a step: its draft, and the words [a, b) that it computes


@dataclass(frozen=True)
class Jump:
    """A branch between steps: to slot `target` if the number that decides is below its threshold, or always."""

    condition: Condition | None
    names: tuple[str, ...]  # of the values that it selects
    target: int

    @property
    def threshold(self) -> int:
        return ALWAYS if self.condition is None else self.condition.threshold


Slot = Part | Jump


def guards(graph: Graph, made: Sequence[Draft], keep: bool = False) -> dict[str, Guard]:
    """The guard of every draft, by name; with `keep` only what stores a side of a Select has one."""
    every = views(graph)
    uses: dict[str, list[Guard]] = {source[0]: [()] for name in graph.outputs for source in every[name]}
    found: dict[str, Guard] = {}
    for draft in reversed(made):
        guard: Guard = () if keep else _common(uses.get(draft.stores, [()]))
        if draft.taken is not None:
            uses.setdefault(draft.taken[0].gate[0], []).append(guard)
            guard = (*guard, draft.taken)
        found[draft.name] = guard
        for tensor in {source[0] for source in (*draft.view, *draft.offset, *draft.gates)}:
            uses.setdefault(tensor, []).append(guard)
    return found


def _common(found: Sequence[Guard]) -> Guard:
    """What all of them begin with."""
    same = 0
    for level in zip(*found, strict=False):
        if len(set(level)) > 1:
            break
        same += 1
    return found[0][:same]


def ordered(graph: Graph, made: Sequence[Draft], keep: bool = False) -> tuple[Draft, ...]:
    """The drafts in the order in which they run."""
    if not any(draft.taken for draft in made):
        return tuple(made)
    known = guards(graph, made, keep)
    writers: dict[str, list[str]] = {}
    for draft in made:
        writers.setdefault(draft.stores, []).append(draft.name)
    needs = {d.name: {w for tensor in _read(d, known[d.name]) for w in writers.get(tensor, ())} for d in made}
    left, done, last = list(made), set[str](), list[Draft]()
    while left:
        ready = [d for d in left if needs[d.name] <= done]
        now = known[last[-1].name] if last else ()
        chosen = min(ready, key=lambda d: _distance(now, known[d.name]))
        left.remove(chosen)
        done.add(chosen.name)
        last.append(chosen)
    return tuple(last)


def _read(draft: Draft, guard: Guard) -> set[str]:
    """The tensors that must be there before a draft runs: those that it reads, and those that decide."""
    return {source[0] for source in (*draft.view, *draft.offset, *draft.gates)} | {
        c.gate[0] for c, _ in guard
    }


def _distance(now: Guard, then: Guard) -> tuple[int, int]:
    """How late what has guard `then` should run: the same goes first, then what lies within, then the other side of the
    same decision, then what is outside."""
    common = len(_common([now, then]))
    beside = len(now) == len(then) == common + 1 and now[-1][0] == then[-1][0]
    left = 2 * (len(now) - common) - beside
    return left, len(then)


def with_jumps(parts: Sequence[Part], known: dict[str, Guard]) -> list[Slot]:
    """Steps in order, with branches between them; every side a before its side b."""
    found: list[Slot] = []
    _emit([(known[part[0].draft.name], part) for part in parts], 0, found)
    return found


def _emit(items: Sequence[tuple[Guard, Part]], depth: int, found: list[Slot]) -> None:
    at = 0
    while at < len(items):
        guard, part = items[at]
        if len(guard) == depth:
            found.append(part)
            at += 1
            continue
        condition, side = guard[depth]
        first = _run(items, at, depth, (condition, side))
        second = _run(items, first, depth, (condition, not side))
        taken, other = items[at:first], items[first:second]
        if not side:
            taken, other = other, taken
        at = second
        branch = len(found)
        sides = [p[0].draft for g, p in (*taken, *other) if len(g) == depth + 1 and p[0].draft.taken]
        found.append(Jump(condition, tuple(dict.fromkeys(d.stores for d in sides)), 0))
        _emit(taken, depth + 1, found)
        if other:
            over = len(found)
            found.append(Jump(None, (), 0))
            _lead(found, branch)
            _emit(other, depth + 1, found)
            _lead(found, over)
        else:
            _lead(found, branch)


def _run(items: Sequence[tuple[Guard, Part]], at: int, depth: int, way: tuple[Condition, bool]) -> int:
    """The end of the items from `at` on that go one way."""
    while at < len(items) and len(items[at][0]) > depth and items[at][0][depth] == way:
        at += 1
    return at


def _lead(found: list[Slot], branch: int) -> None:
    """Let a branch lead to what comes next."""
    jump = found[branch]
    assert isinstance(jump, Jump)
    found[branch] = replace(jump, target=len(found))


def selected_order(draft: Draft, layouts: Mapping[str, Layout], order: Ints) -> Ints:
    """The order in which a Select's result lies, or what is given where no side of it has been placed."""
    return layouts[draft.into].order if draft.into in layouts else order


def moved_order(
    draft: Draft, made: Sequence[Draft], layouts: Mapping[str, Layout], lanes: int
) -> Ints | None:
    """The order of a side of the same Select that is only moved, if all of it is placed: nothing else has a wish."""
    for other in made:
        there = all(tensor in layouts for tensor, _, _ in other.view)
        if other.into == draft.into and other.dense is None and there:
            return load_order(other.view, layouts, lanes)[1]
    return None
