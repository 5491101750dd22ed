"""Which engine for a model on a board: lanes, shape of the array, memories on chip and fusion, by what is estimated.

    found = explore(graph, board)
    found.plan          of the engine that is taken
    found.choices       every engine that fits and was estimated, the one taken first

A point of the search is lanes, one array or two, their pixels and turns, bytes of weights and words of a row on chip.
Pixels for which a board has no DSPs are multiplied in LUTs, and what block RAM or UltraRAM is left keeps maps. What an
engine needs is quickly counted, so that only those that fit are estimated, and a plan serves every shape of the arrays.
Few points are all looked at. Of many, Optuna's TPE looks at some, the largest arrays with the usual memories first;
then one thing after the other is changed in the best, until none is better. Last, what a step would join is stored
instead where a step for each part is estimated faster on the engine that is taken: what lies between 1x1, depthwise and
1x1, the result of a window, or of a convolution before a max-pool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING

from codesign.apart import chained, cheaper_apart, speed_of, stored_apart
from codesign.board import LANES, Board
from codesign.budget import budget, fits, over_budget, placed
from codesign.choices import Choice, Result, array_text, keep, kept, key_of, weight_kib
from codesign.engine_config import EngineConfig
from codesign.errors import PlanError
from codesign.fit import Limits
from codesign.ir import Graph
from codesign.plan import Plan, plan
from codesign.resources import resources
from codesign.room import has_luts, in_luts, limits_of, with_maps

if TYPE_CHECKING:
    import optuna

MOST_PIXELS = 20
TURNS = (4, 2, 1)
WEIGHT_KIB = (16, 32, 64, 128)
ROW_WORDS = (256, 512, 1024)
SLACK = 1.02  # of two engines as fast as this, the smaller one
FEW = 100  # points that are all looked at
TRIALS = 80  # of more
RANDOM = 10  # of them, before TPE has a model
SEED = 0  # the same engine every time

Say = Callable[[str], None]
Point = dict[str, int]


@dataclass(frozen=True)
class Found:
    """What a search ended with. `choices`, `apart` and `end` as in Result; `kept`: from an earlier search."""

    plan: Plan
    choices: tuple[Choice, ...]
    apart: tuple[str, ...]
    end: str
    kept: bool


def explore(
    graph: Graph,
    board: Board,
    lanes: int | None = None,
    array: tuple[int, int] | None = None,
    say: Say = lambda text: None,
) -> Found:
    """The best plan for a board, and every engine that was estimated. The same arguments give the same result.

    `lanes` and `array` (pixels, turns) leave only those. `say` hears how far it is. Results are kept in the folder of
    compiled simulations. Raises PlanError if no engine fits the board, with the units that are too large in the one
    that comes nearest, or if the graph cannot be planned.
    """
    key = key_of(graph, board, lanes, array)
    known = kept(key)
    result = known or _Search(graph, board, lanes, array, say).run()
    if known is None:
        keep(key, result)
    made = plan(graph, config=result.choices[0].config, apart=result.apart)
    return Found(made, result.choices, result.apart, result.end, known is not None)


class _Search:
    """Points that were looked at, and the plans that they share."""

    def __init__(
        self, graph: Graph, board: Board, lanes: int | None, array: tuple[int, int] | None, say: Say
    ) -> None:
        self.graph, self.board, self.say = graph, board, say
        self.space: dict[str, Sequence[int]] = {  # every list from small to large engines
            "lanes": _lanes(board) if lanes is None else (lanes,),
            "arrays": (1, 2) if array is None else (1,),
            "weight_kib": WEIGHT_KIB,
            "row_words": ROW_WORDS,
            "turns": TURNS if array is None else (array[1],),
            "pixels": range(1, MOST_PIXELS + 1) if array is None else (array[0],),
        }
        self.plans: dict[tuple[tuple[int, ...], tuple[str, ...]], Plan] = {}
        self.found: dict[EngineConfig, tuple[Choice, Point]] = {}
        self.fronts = chained(graph)
        self.misses: dict[EngineConfig, float] = {}  # over the budget, and by what factor at most

    def run(self) -> Result:
        few = prod(map(len, self.space.values())) <= FEW
        self._study(None if few else TRIALS, () if few else self._starts())
        if not self.found:
            self._refuse()
        self._around()
        best, point = self._best()
        others = sorted((c for c, _ in self.found.values() if c is not best), key=lambda c: -c.frames_per_s)
        apart = stored_apart(self.graph, best.config, self.board)
        made = plan(self.graph, config=best.config, apart=apart)
        best = replace(best, frames_per_s=speed_of(made, self.board))
        return Result((best, *others), apart, self._end(best, point))

    def _around(self) -> None:
        """All arrays with the lanes and memories of the best engine, and others of those, until none is better."""
        seen: Point = {}
        while (best := self._best()[1]) != seen:
            seen = best
            for name in ("lanes", "weight_kib", "row_words"):
                for value in self.space[name]:
                    self._value(best | {name: value})
            for arrays, turns, pixels in product(
                *(self.space[name] for name in ("arrays", "turns", "pixels"))
            ):
                self._value(best | {"arrays": arrays, "turns": turns, "pixels": pixels})

    def _value(self, point: Point) -> float:
        """Frames/s of an engine that fits; below zero, and the lower the larger, where it does not."""
        config = self._config(point)
        if config is None:
            return -float(MOST_PIXELS)
        if config in self.found:
            return self.found[config][0].frames_per_s
        size = budget(resources(config), self.board)
        if any(need > have for _, need, have in size) or not has_luts(config, self.board):
            self.misses[config] = max(need / max(have, 1) for _, need, have in size)
            return -self.misses[config]
        speed = self._speed(point, config)
        used = {what: need for what, need, _ in size}
        self.found[config] = Choice(config, speed, used["DSP"], used["BRAM36"], used["LUT"]), point
        return speed

    def _speed(self, point: Point, config: EngineConfig) -> float:
        """Where a chain does not pay, its parts are counted."""
        whole = self._plan(point).on(config)
        if config.arrays == 1 or not self.fronts:
            return speed_of(whole, self.board)
        parts = self._plan(point, self.fronts).on(config)
        apart = tuple(cheaper_apart(whole, parts, self.board))
        return max(speed_of(made, self.board) for made in (whole, self._plan(point, apart).on(config)))

    def _plan(self, point: Point, apart: tuple[str, ...] = ()) -> Plan:
        """Of its lanes and memories, as far as the model can use them: the array changes no step."""
        lanes, arrays, kib, words = (point[name] for name in ("lanes", "arrays", "weight_kib", "row_words"))
        most_kib, most_words = self.space["weight_kib"][-1], self.space["row_words"][-1]
        most = self._planned(lanes, arrays, most_kib, most_words)
        kib = most_kib if kib >= weight_kib(most.config) else kib
        words = most_words if words >= most.config.row_words else words
        made = self._planned(lanes, arrays, kib, words)
        key = (lanes, arrays, kib, words), apart
        if key not in self.plans:
            self.plans[key] = plan(self.graph, config=made.config, apart=apart)
        return self.plans[key]

    def _planned(self, lanes: int, arrays: int, kib: int, words: int) -> Plan:
        key: tuple[tuple[int, ...], tuple[str, ...]] = (lanes, arrays, kib, words), ()
        if key not in self.plans:
            self.plans[key] = plan(self.graph, lanes, arrays=arrays, limits=Limits(kib << 10, words))
        return self.plans[key]

    def _config(self, point: Point) -> EngineConfig | None:
        """None where the turns do not divide the lanes."""
        if point["lanes"] % point["turns"]:
            return None
        made = self._plan(point)
        config = replace(made.config, pixels=point["pixels"], turns=point["turns"])
        config = in_luts(placed(config, self.board), self.board)
        return with_maps(config, made.most_near, self.board, made.most_steering)

    def _fits(self, point: Point) -> bool:
        config = self._config(point)
        return config is not None and fits(resources(config), self.board) and has_luts(config, self.board)

    def _starts(self) -> list[Point]:
        """The usual memories, with the largest array that fits for each number of lanes and turns."""
        usual = {"weight_kib": Limits().weight_bytes >> 10, "row_words": Limits().row_words}
        starts = []
        for lanes, arrays, turns in product(*(self.space[name] for name in ("lanes", "arrays", "turns"))):
            first = usual | {"lanes": lanes, "arrays": arrays, "turns": turns}
            every = [first | {"pixels": n} for n in self.space["pixels"]]
            starts += [next(filter(self._fits, reversed(every)), every[0])]
        return starts

    def _study(self, trials: int | None, starts: Sequence[Point]) -> None:
        """So many points, `starts` first; or all of them."""
        import optuna  # takes half a second

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        some = optuna.samplers.TPESampler(seed=SEED, multivariate=True, n_startup_trials=len(starts) + RANDOM)
        every = optuna.samplers.GridSampler(self.space, seed=SEED)
        study = optuna.create_study(direction="maximize", sampler=every if trials is None else some)
        for start in starts:
            study.enqueue_trial(dict(start))

        def look(trial: optuna.Trial) -> float:
            best = max((choice.frames_per_s for choice, _ in self.found.values()), default=0.0)
            self.say(f"Searching: {trial.number} engines looked at, best {best:.1f} frames/s estimated")
            return self._value({name: _suggested(trial, name, self.space[name]) for name in self.space})

        study.optimize(look, n_trials=trials)

    def _best(self) -> tuple[Choice, Point]:
        fastest = max(choice.frames_per_s for choice, _ in self.found.values())
        close = [pair for pair in self.found.values() if pair[0].frames_per_s * SLACK >= fastest]
        return min(
            close, key=lambda pair: (pair[0].dsps, pair[0].bram36, pair[0].luts, -pair[0].frames_per_s)
        )

    def _refuse(self) -> None:
        if self.misses:
            nearest = min(self.misses, key=lambda config: self.misses[config])
            raise PlanError(over_budget(nearest, self.board, searched=True))
        pixels, turns, lanes = (self.space[name] for name in ("pixels", "turns", "lanes"))
        raise PlanError(f"array: {pixels[0]} pixels in {turns[0]} turns, expected turns that divide "
                        f"{' or '.join(map(str, lanes))} lanes. Use {pixels[0]}x1.")  # fmt: skip

    def _end(self, best: Choice, point: Point) -> str:
        """Of the engines that are one step larger in one thing and faster, what the one that nearly fits lacks."""
        lacking: list[tuple[float, str]] = []
        for name, values in self.space.items():
            at = list(values).index(point[name])
            larger = point | {name: values[min(at + 1, len(values) - 1)]}
            config = self._config(larger)
            if config is None or self._fits(larger):
                continue
            if self._speed(larger, config) > best.frames_per_s:
                excess, what, need, have = max(
                    (need / max(limit, 1), what, need, have)
                    for (what, need, have), (_, _, limit) in zip(
                        budget(resources(config), self.board), limits_of(config, self.board), strict=True
                    )
                )  # fmt: skip
                lacking.append(
                    (excess, f"{_difference(name, config)} would need {need:,} {what} of {have:,}")
                )
        return min(lacking, default=(0.0, ""))[1]


def _suggested(trial: optuna.Trial, name: str, values: Sequence[int]) -> int:
    if isinstance(values, range):
        return trial.suggest_int(name, values[0], values[-1])
    return int(trial.suggest_categorical(name, tuple(values)))


def _difference(name: str, config: EngineConfig) -> str:
    texts = {
        "lanes": f"{config.lanes} lanes",
        "weight_kib": f"{weight_kib(config):g} KiB of weights",
        "row_words": f"rows of {config.row_words}",
    }
    return texts.get(name, array_text(config))


def _lanes(board: Board) -> Sequence[int]:
    """Those the board suggests, which are as wide as its ports, half and twice as many."""
    return [n for n in LANES if board.lanes <= 2 * n <= 4 * board.lanes]
