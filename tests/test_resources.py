"""DSP, block RAM and LUTs, counted from the structure of an engine."""

from dataclasses import replace

import pytest

from codesign.board import load_board
from codesign.program import EngineConfig
from codesign.resources import Unit, budget, memory, over_budget, resources


@pytest.mark.parametrize(
    ("words", "bits", "copies", "expected"),
    [
        (512, 36, 1, Unit("m", bram18=1)),  # the forms of the vendors' memory guides (UG473, UG573)
        (1024, 18, 1, Unit("m", bram18=1)),
        (512, 72, 1, Unit("m", bram18=2)),
        (513, 36, 1, Unit("m", bram18=2)),
        (1024, 18, 2, Unit("m", bram18=2)),
        (64, 99, 3, Unit("m", memory_luts=396)),
    ],
)
def test_memories(words: int, bits: int, copies: int, expected: Unit):
    assert memory("m", words, bits, copies) == expected


def test_the_array_has_a_multiplier_for_two_weights():
    """UG579, UG479: a DSP48 multiplies 27 or 25 bits by 18; DotProducts puts two weights into 24."""
    for lanes, pixels, turns, dsps in (
        (16, 5, 2, 320),
        (16, 1, 1, 128),
        (8, 6, 1, 192),
        (8, 1, 8, 8),
        (1, 3, 1, 3),
    ):
        assert resources(EngineConfig(lanes=lanes, pixels=pixels, turns=turns)).dsps == dsps


def test_size_grows_with_every_constant():
    config = EngineConfig(lanes=8)
    least = resources(config)
    for name in ("ring_rows", "row_words", "weight_tiles", "window_groups", "input_words", "output_words"):
        more = resources(replace(config, **{name: 16 * getattr(config, name)}))
        assert more.bram36 > least.bram36 and more.dsps == least.dsps


def test_over_budget_names_the_largest_and_a_remedy():
    board = load_board("ultra96")
    assert over_budget(EngineConfig(lanes=8), board) == ""
    fitting = EngineConfig(pixels=5, turns=2, weight_tiles=512)
    assert all(need <= have for _, need, have in budget(resources(fitting), board))
    assert over_budget(EngineConfig(pixels=4, weight_tiles=512), board) == (
        "ultra96: needs 512 DSP of 360 (estimated). Largest: pointwise array (512). Build with --search, which "
        "looks for an engine that fits, or build for zcu104."
    )
    huge = EngineConfig(lanes=64, weight_tiles=1 << 16)
    assert over_budget(huge, board).endswith(" Build with --search, which looks for an engine that fits.")
    assert over_budget(huge, board, searched=True).endswith(" Build a smaller model.")
