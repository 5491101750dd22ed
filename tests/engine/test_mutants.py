"""Mistakes in the headers of sampled windows, gates, branches and wide rows, each caught by a small network.

One engine holds all of them, and one with wide rows those in these: where a mistake could be made it asks `mutant()`
whether to make it, so that one compilation serves them all. What is expected is codesign/ops/, to the last bit.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pytest

from codesign.csim import Engine, EngineFailed, Simulator
from codesign.emit import sources
from codesign.engine_config import EngineConfig
from codesign.ir import Graph, evaluate
from codesign.plan import plan
from tests.engine.cases import deformable, gated, mixed, picked, sampled, varied
from tests.engine.engines import generic, wide
from tests.engine.test_sampled import OPS, chosen
from tests.models import random_codenet_graph, random_feeds, random_skipping_graph
from tests.wide import beside_ties, with_wide

LANES = 4
Feeds = dict[str, np.ndarray]
ASK = "#pragma once\nnamespace codesign {\ninline int &mutant() {\n  static int which = -1;\n  return which;\n}\n}\n"
SET = '\nextern "C" void codesign_mutant(int which) { codesign::mutant() = which; }\n'


def taps(name: str, choose: str = "any", **options: bool) -> Callable[[], tuple[Graph, Feeds]]:
    """A map higher than the ring of rows, of two words a pixel."""

    def case() -> tuple[Graph, Feeds]:
        op = OPS[name]
        graph = sampled((2 * op.max_offset + 12, 8, 6), op, **options)
        return graph, chosen(graph, op, choose)

    return case


def plain(graph: Callable[[], Graph], **given: int) -> Callable[[], tuple[Graph, Feeds]]:
    """Any codes, but at some inputs the same one everywhere."""

    def case() -> tuple[Graph, Feeds]:
        made = graph()
        feeds = random_feeds(made, batch=4)
        return made, feeds | {name: np.full_like(feeds[name], code) for name, code in given.items()}

    return case


class Mutant(NamedTuple):
    file: str
    right: str  # an expression
    wrong: str
    case: Callable[[], tuple[Graph, Feeds]]


LIMITED_Y = "larger(smaller(dy, limit), -limit)"
MASK = "step.masked != 0 ? larger(smaller(mask, step.mask_high), step.mask_low) : 1"
WINDOW_PLACE = "Ring<C>::wrap(there.slot + sample.row, at.rows)"
maps, picks = plain(lambda: gated((5, 6, 10), 3)), plain(lambda: picked((5, 6, 10), 3))
weights = plain(lambda: mixed((5, 6, 10), 7, 6))
skips = plain(lambda: random_skipping_graph(4))

MUTANTS = {
    "offsets not limited below": Mutant("sample.hpp", LIMITED_Y, "smaller(dy, limit)", taps("sixteenths", "beyond")),
    "bound one step too small": Mutant(
        "sample.hpp", LIMITED_Y, "larger(smaller(dy, limit - 1), -limit)", taps("sixteenths", "ends")),
    "bound not symmetric": Mutant(
        "sample.hpp", LIMITED_Y, "larger(smaller(dy, limit), -limit - 1)", taps("half pixels", "beyond")),
    "columns before rows": Mutant(
        "sample.hpp", "numbers[2 * tap % Types<C>::kNumbers]", "numbers[(2 * tap + 1) % Types<C>::kNumbers]",
        taps("nearest")),
    "all rows, then all columns": Mutant(
        "sample.hpp", "numbers[2 * tap % Types<C>::kNumbers]", "numbers[tap % Types<C>::kNumbers]", taps("nearest")),
    "offsets rounded towards zero": Mutant("sample.hpp", "y >> step.grid", "y / one", taps("half pixels")),
    "the share of the column for the row": Mutant(
        "sample.hpp", "(y & most) << finer", "(x & most) << finer", taps("sixteenths")),
    "grid of the engine, not of the step": Mutant(
        "sample.hpp", "(y & most) << finer", "(y & most)", taps("half pixels")),
    "masks ignored": Mutant("sample.hpp", MASK, "1", taps("masks")),
    "masks not limited": Mutant("sample.hpp", MASK, "step.masked != 0 ? mask : 1", taps("masks", "beyond")),
    "masks where there are none": Mutant("sample.hpp", MASK, "mask", taps("nearest")),
    "the mask of the next tap": Mutant(
        "sample.hpp", "numbers[(first + tap) % Types<C>::kNumbers]", "numbers[(first + tap + 1) % Types<C>::kNumbers]",
        taps("signed masks")),
    "masks of still taps behind offsets": Mutant(
        "sample.hpp", "kShapes && step.still != 0", "false", taps("still")),
    "zeros instead of the border": Mutant(
        "sample.hpp", "kShapes && step.border != 0", "false", taps("border")),
    "the border instead of zeros": Mutant("sample.hpp", "kShapes && step.border != 0", "kShapes", taps("sixteenths")),
    "the border one row too low": Mutant(
        "sample.hpp", "(at.height - 1 - at.y)", "(at.height - at.y)", taps("border")),
    "the border of the height for the width": Mutant(
        "sample.hpp", "(at.width - 1 - at.x)", "(at.height - 1 - at.x)", taps("border")),
    "a column of taps one row too low": Mutant(
        "sample.hpp", "taps == kTapColumn ? tap - 4 : 0", "taps == kTapColumn ? tap - 3 : 0", taps("column")),
    "a row of taps that is a column": Mutant(
        "sample.hpp", "taps == kTapRow ? tap - 4 : 0", "taps == kTapColumn ? tap - 4 : 0", taps("row")),
    "columns and rows of taps swapped": Mutant("sample.hpp", "tap / 3 - 1", "tap % 3 - 1", taps("nearest")),
    "the pixels beside and below swapped": Mutant(
        "sample.hpp", "int(taps.word[1][2][lane])", "int(taps.word[2][1][lane])", taps("sixteenths")),
    "mixed the wrong way round": Mutant("sample.hpp", "b - a", "a - b", taps("sixteenths")),
    "the lower two mixed by the row's share": Mutant(
        "sample.hpp", "lower * sample.right", "lower * sample.down", taps("sixteenths")),
    "rows mixed the wrong way round": Mutant("sample.hpp", "bottom - top", "top - bottom", taps("sixteenths")),
    "shares of a coarse grid not undone": Mutant(
        "sample.hpp", "(top * kOne + across) >> finer", "(top * kOne + across) >> (finer / 2)", taps("half pixels")),
    "weights of taps turned round": Mutant(
        "sample.hpp", "int(weights.tap[tap][lane])", "int(weights.tap[8 - tap][lane])", taps("nearest")),
    "the pixel's weight of another channel": Mutant(
        "sample.hpp", "int(numbers[lane % Types<C>::kNumbers]) ^ 128", "int(numbers[(lane + 1) % C::kLanes]) ^ 128",
        plain(lambda: varied((7, 9, 10)))),
    "a column of one word": Mutant(
        "window.hpp", "sample.column * pixel_words", "sample.column", taps("nearest")),
    "the row of the tap forgotten": Mutant("window.hpp", WINDOW_PLACE, "there.slot", taps("nearest")),
    "rows outside the map not noticed": Mutant(
        "window.hpp", "there.y += sample.row", "there.y += 0", taps("nearest")),
    "columns outside the map not noticed": Mutant(
        "window.hpp", "there.x += sample.column", "there.x += 0", taps("nearest")),
    "sums that go on in the next word": Mutant(
        "window.hpp", "(turn == 0)", "(turn == 0 && index == 0)", taps("nearest")),
    "offsets of the first word alone": Mutant(
        "load.hpp", "(wordwise ? 0 : index * C::kLanes)", "(wordwise || index > 1 ? 0 : index * C::kLanes)",
        taps("nearest")),
    "a deformable window's bound one too small": Mutant(
        "load.hpp", "smaller(int(Types<C>::Memory::byte(word, step.offset_lane)), step.reach)",
        "smaller(int(Types<C>::Memory::byte(word, step.offset_lane)), step.reach - 1)",
        plain(lambda: deformable((20, 9, 6), 3), d=3)),
    "offsets that are upsampled, of one row": Mutant(
        "load.hpp", "(y >> offset.up)", "0",
        taps("nearest", up=True)),
    "the gate of the next channel": Mutant("mix.hpp", "int(gate[lane])", "int(gate[(lane + 1) % C::kLanes])", maps),
    "gates of the first part for all": Mutant("mix.hpp", "gates[picks ? group : at]", "gates[group]", maps),
    "sums of parts that go on in the next word": Mutant(
        "mix.hpp", "(picks || part == 0 ? 0 : int(acc[lane])) + product", "(picks ? 0 : int(acc[lane])) + product",
        maps),
    "a mean at the threshold": Mutant(
        "mix.hpp", "factor < step.threshold", "factor <= step.threshold",
        plain(lambda: picked((5, 6, 10), 3, 77), **{"g.in": 77})),
    "the most, not as many times as there are parts": Mutant(
        "mix.hpp", "step.parts * int(best[lane])", "int(best[lane])", picks),
    "the most of the word before": Mutant(
        "mix.hpp", "part == 0 || value > int(best[lane])", "value > int(best[lane])", picks),
    "a mean that is the last part": Mutant("mix.hpp", "(part == 0 ? 0 : int(sum[lane])) + value", "value", picks),
    "kernels by the first gate": Mutant(
        "mix.hpp", "int(gates[part / C::kLanes][part % C::kLanes])", "int(gates[0][0])", weights),
    "kernels by gates of the first word": Mutant(
        "mix.hpp", "int(gates[part / C::kLanes][part % C::kLanes])", "int(gates[0][part % C::kLanes])", weights),
    "one row of weights for two": Mutant(
        "mix.hpp", "int(second ? first[lane] : weight[lane])", "int(weight[lane])", weights),
    "kernels that are added to the one before": Mutant(
        "mix.hpp", "((part == 0 ? 0 : int(acc[lane])) + product)", "(int(acc[lane]) + product)", weights),
    "a branch that leads away at the threshold": Mutant(
        "branch.hpp", "(number ^ sign) - sign < branch.threshold", "(number ^ sign) - sign <= branch.threshold",
        plain(lambda: random_skipping_graph(4), given=0)),
    "a branch that looks at unsigned numbers": Mutant(
        "branch.hpp", "branch.offset.is_signed ? 128 : 0", "0",
        plain(lambda: random_skipping_graph(4), given=-1)),
    "a branch that leads away where it should not": Mutant(
        "branch.hpp", "(number ^ sign) - sign < branch.threshold", "(number ^ sign) - sign >= branch.threshold",
        plain(lambda: random_skipping_graph(4), given=5)),
}  # fmt: skip


CONSTANT = "static_cast<long long>((upper ^ 32768) - 32768) * (1LL << 32) + lower"
STEP = "odd ? Sum(near - 1) : Sum(-near)"
widely = plain(lambda: with_wide(random_codenet_graph(seed=3, size=16, max_offset=2)))
ties = plain(lambda: beside_ties(random_codenet_graph(seed=3, size=16, max_offset=2)))

WIDE = {
    "constants of 32 bits": Mutant("rows.hpp", CONSTANT, "static_cast<long long>(int(lower))",
        plain(lambda: with_wide(random_codenet_graph(seed=3, size=16, max_offset=2), up=20))),
    "constants without a sign": Mutant(
        "rows.hpp", CONSTANT, "static_cast<long long>(upper) * (1LL << 32) + lower", widely),
    "no constants": Mutant(
        "rows.hpp", "product_of(acc, mult[lane]) + bias[lane]", "product_of(acc, mult[lane])", widely),
    "factors of 16 bits": Mutant("rows.hpp", "int(factor)", "int(factor & 0xffff)", widely),
    "factors without a sign": Mutant("rows.hpp", "int(factor)", "int(factor & 0x7fffffff)", widely),
    "shifts by one less": Mutant("rows.hpp", "Memory::byte(word[10], lane) & 63",
                                 "(Memory::byte(word[10], lane) & 63) - 1", widely),
    "ties to odd": Mutant("rows.hpp", STEP, "odd ? Sum(-near) : Sum(near - 1)", ties),
    "ties up": Mutant("rows.hpp", STEP, "Sum(near - 1)", ties),
    "ties down": Mutant("rows.hpp", STEP, "Sum(-near)", ties),
    "ties that are exact only": Mutant("rows.hpp", "halves < right ? halves : right - 1", "0", ties),
    "ties of the whole step": Mutant("rows.hpp", "halves < right ? halves : right - 1", "right - 1", ties),
    "odd before the shift": Mutant("rows.hpp", "((value >> right) & 1) != 0", "(value & 1) != 0", ties),
}  # fmt: skip
ALL = {False: MUTANTS, True: WIDE}


def config(is_wide: bool) -> EngineConfig:
    return wide(LANES) if is_wide else generic(LANES)


@lru_cache(maxsize=2)
def spoiled(is_wide: bool) -> Engine:
    """The engine that makes the mistake it is told to make; none before it is told."""
    texts, mutants = sources(config(is_wide)), ALL[is_wide]
    for i, (file, right, _, _) in enumerate(mutants.values()):
        assert texts[file].count(right) == 1, (file, right)
        first = next(
            k for k, other in enumerate(mutants.values()) if (other.file, other.right) == (file, right)
        )
        if first == i:
            texts[file] = texts[file].replace(right, choice(mutants, file, right))
    texts["layout.hpp"] = texts["layout.hpp"].replace("#pragma once", ASK, 1)
    texts["top.cpp"] += SET
    return Engine(texts)


def choice(mutants: dict[str, Mutant], file: str, right: str) -> str:
    """Which expression stands there: a wrong one if its number is asked for."""
    text = f"({right})"
    for k, other in enumerate(mutants.values()):
        if (other.file, other.right) == (file, right):
            text = f"(mutant() == {k} ? ({other.wrong}) : {text})"
    return text


@pytest.mark.parametrize(("is_wide", "name"), [(kind, name) for kind in ALL for name in ALL[kind]])
def test_a_mistake_is_noticed(is_wide: bool, name: str) -> None:
    mutants, tell = ALL[is_wide], ctypes.CDLL(str(spoiled(is_wide).path)).codesign_mutant
    graph, feeds = mutants[name].case()
    planned = plan(graph, config=config(is_wide))
    simulator, wanted = Simulator(spoiled(is_wide), planned.program), evaluate(graph, feeds, reference=True)
    got = simulator.run(feeds, workers=1)
    assert all(np.array_equal(got[output], wanted[output]) for output in wanted), "the sound engine differs"
    tell(list(mutants).index(name))
    try:
        got = simulator.run(feeds, workers=1)
    except EngineFailed:
        return  # streams that are read too often, or not to their end
    finally:
        tell(-1)
    assert any(not np.array_equal(got[output], wanted[output]) for output in wanted), "no output differs"
