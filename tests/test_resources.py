"""DSP, block RAM, UltraRAM, LUTs and registers, counted from the structure of an engine."""

import re
from dataclasses import replace
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.board import load_board
from codesign.budget import budget, over_budget, placed
from codesign.emit import emit, sources
from codesign.engine_config import EngineConfig
from codesign.fabric import Unit, choice_luts, fifo, memory, shifter_luts, tree_adders
from codesign.resources import CONTROL, PRODUCT_DSPS, Resources, resources
from codesign.units import FUNCTIONS


@pytest.mark.parametrize(
    ("words", "bits", "copies", "expected"),
    [
        (512, 36, 1, Unit("m", bram18=1)),  # the forms of the vendors' memory guides (UG473, UG573)
        (1024, 18, 1, Unit("m", bram18=1)),
        (512, 72, 1, Unit("m", bram18=2)),
        (513, 36, 1, Unit("m", bram18=2)),
        (1024, 18, 2, Unit("m", bram18=2)),
        (
            64,
            99,
            3,
            Unit("m", memory_luts=396, ffs=297),
        ),  # RAM64M, and the register that block RAM has inside
        (32, 96, 1, Unit("m", memory_luts=64, ffs=96)),
    ],
)
def test_memories(words: int, bits: int, copies: int, expected: Unit):
    assert memory("m", words, bits, copies) == expected


def test_ultraram_has_one_form():
    """UG573: 4096 words of 72 bits."""
    assert memory("m", 4096, 72, uram=True) == Unit("m", uram=1)
    assert memory("m", 1024, 1280, uram=True) == Unit("m", uram=18)
    assert memory("m", 4097, 73, 2, uram=True) == Unit("m", uram=8)


@given(st.integers(2, 64), st.integers(1, 48))
def test_choices_and_sums_of_more_are_larger(count: int, bits: int):
    """A choice takes between a fourth of a LUT and half of one for each input and bit."""
    luts = choice_luts(count, bits)
    assert count * bits / 4 <= luts <= max(count * bits / 2, bits)
    assert choice_luts(count + 1, bits) >= luts and shifter_luts(bits, count + 1) >= shifter_luts(bits, count)
    assert (count - 1) * (bits + 1) <= tree_adders(count, bits) <= (count - 1) * (bits + 6)
    assert fifo("s", count, bits).memory_luts == bits * (1 if count <= 32 else 2)


def test_the_arrays_have_a_multiplier_for_two_weights():
    """UG579, UG479: a DSP48 multiplies 27 or 25 bits by 18; DotProducts puts two weights into 24."""
    for lanes, pixels, turns, dsps in (
        (16, 5, 2, 320),
        (16, 1, 1, 128),
        (8, 6, 1, 192),
        (8, 1, 8, 8),
        (1, 3, 1, 3),
    ):
        config = EngineConfig(lanes=lanes, pixels=pixels, turns=turns)
        assert resources(config).dsps == dsps
        assert resources(replace(config, arrays=2)).dsps == 2 * dsps
        assert resources(replace(config, fabric=1)).dsps == dsps - dsps // pixels


def test_size_grows_with_every_constant():
    config = EngineConfig(lanes=8)
    least = resources(config)
    for name in ("ring_rows", "row_words", "weight_tiles", "window_groups", "input_words", "output_words"):
        more = resources(replace(config, **{name: 16 * getattr(config, name)}))
        assert more.bram36 > least.bram36 and more.dsps == least.dsps
    for name, value in (
        ("pixels", 3),
        ("acc_bits", 48),
        ("ring_rows", 40),
        ("pack_log2", 3),
        ("max_segments", 60),
        ("arrays", 2),
        ("sampler", 1),
        ("sampler", 3),
        ("mixer", 8),
        ("global_words", 8),
        ("tables", 1),
        ("branches", 1),
    ):
        more = resources(replace(config, **{name: value}))
        assert more.luts > least.luts and more.ffs >= least.ffs
    wide = resources(replace(config, lanes=16))
    assert wide.luts > 1.5 * least.luts and wide.ffs > 1.2 * least.ffs


def test_products_take_dsps_while_there_are_any():
    found, board = resources(EngineConfig(lanes=8, pixels=2)), load_board("ultra96")
    assert found.on(board) == (found.dsps + PRODUCT_DSPS * found.products, found.luts)
    scarce = replace(board, dsps=found.dsps + PRODUCT_DSPS * 2 + 1)
    dsps, luts = found.on(scarce)
    assert dsps == found.dsps + PRODUCT_DSPS * 2 <= scarce.dsps
    assert luts == found.luts + (found.products - 2) * 32 * 32
    none = replace(board, dsps=found.dsps - 1)
    assert found.on(none) == (found.dsps, found.luts + found.products * 32 * 32), (
        "the array has no other place"
    )


def test_control_is_counted_for_every_unit_of_the_engine():
    assert set(CONTROL) == set(FUNCTIONS)
    names = [unit.name for unit in resources(EngineConfig()).units]
    assert len(set(names)) == len(names) and {f"{name}: control" for name in FUNCTIONS} <= set(names)


def test_a_sampler_costs_nothing_where_there_is_none():
    """And more with every bit of fraction, by the four neighbours that are mixed."""
    none, *some = (resources(EngineConfig(sampler=k)) for k in range(6))
    assert not any("sampler" in unit.name or "taps" == unit.name for unit in none.units)
    sizes = [found.luts for found in (none, *some)]
    assert sizes == sorted(set(sizes)) and all(found.dsps == none.dsps for found in some)
    assert some[2].bram36 == none.bram36


def test_gates_and_sums_of_maps_cost_nothing_where_there_are_none():
    none, gates, sums = (
        resources(EngineConfig(mixer=m, global_words=g)) for m, g in ((0, 0), (8, 0), (0, 8))
    )
    assert not any(unit.name.startswith(("mix", "global", "offsets: gates")) for unit in none.units)
    assert [u.name for u in gates.units if u not in none.units] == [
        "mix: lanes", "mix: requantizers of maps", "mix: requantizers of weights", "mix: control",
        "mix: words of two pixels", "mix: gates", "offsets: gates",
    ]  # fmt: skip
    assert all(u.name.startswith("global: ") for u in sums.units if u not in none.units)
    more = resources(EngineConfig(mixer=512, global_words=512))
    assert more.bram36 > max(gates.bram36, sums.bram36)


@pytest.mark.parametrize("lanes", [4, 16, 64])
def test_tables_are_a_copy_a_lane_and_cost_nothing_where_there_are_none(lanes):
    none, some = (resources(EngineConfig(lanes=lanes, tables=n)) for n in (0, 1))
    assert not any("table" in unit.name and "finish" not in unit.name for unit in none.units)
    (held,) = (unit for unit in some.units if unit.name == "tables")
    assert held.memory_luts == 2 * lanes * ceil(4 * 32 / 3)  # 64 rows of 4 entries, for each of two steps
    assert some.dsps == none.dsps and some.bram36 == none.bram36
    assert lanes * 90 < some.luts - none.luts < lanes * 200


def test_over_budget_names_the_largest_and_a_remedy():
    board = load_board("ultra96")
    assert over_budget(EngineConfig(lanes=8), board) == ""
    fitting = EngineConfig(pixels=4, turns=2, weight_tiles=512)
    assert all(need <= have for _, need, have in budget(resources(fitting), board))
    assert over_budget(EngineConfig(pixels=4, weight_tiles=256), load_board("zcu104")) == ""
    refused = over_budget(EngineConfig(pixels=4, weight_tiles=512), board).splitlines()
    assert refused[0] == "ultra96: needs 512 DSP of 360 (estimated). Largest: pointwise arrays (512)."
    assert (
        refused[1].startswith("ultra96: needs ")
        and " LUT of 70560 (estimated). Largest: requantizers (" in refused[1]
    )
    assert refused[1].endswith(
        " Build without --lanes or --array, which looks for an engine that fits, or build for zcu104."
    )
    huge = EngineConfig(lanes=64, weight_tiles=1 << 16)
    assert over_budget(huge, board).endswith(
        " Build without --lanes or --array, which looks for an engine that fits."
    )
    assert over_budget(huge, board, searched=True).endswith(" Build a smaller model.")


@pytest.mark.parametrize("what", ["DSP", "BRAM36", "URAM", "LUT", "FF"])
def test_every_resource_can_be_short(what: str):
    board = load_board("zcu104")
    lacking = {"DSP": "dsps", "BRAM36": "bram36", "URAM": "uram", "LUT": "luts", "FF": "ffs"}[what]
    found = Resources((Unit("u", 9, 8, 4, 3, 2, 1),))
    have = {"DSP": 9, "BRAM36": 4, "URAM": 4, "LUT": 5, "FF": 1}[what]
    assert all(need <= limit for _, need, limit in budget(found, board))
    short = budget(found, replace(board, **{lacking: have - 1 if have > 1 else 0}))
    assert [name for name, need, limit in short if need > limit] == [what]


def test_large_memories_lie_in_ultraram_where_a_board_has_enough():
    config = EngineConfig(weight_tiles=512, input_words=32, output_words=16)
    board, without = load_board("kv260"), load_board("ultra96")
    assert placed(config, without) == config
    there = placed(config, board)
    assert there == replace(config, ultra=1) and resources(config).uram == 0
    found, before = resources(there), resources(config)
    assert (found.uram, before.bram36 - found.bram36) == (18 + 16 + 11, 36 + 16 + 11)
    assert placed(replace(config, weight_tiles=1 << 16), board).ultra == 0, "more than the board has"
    text = emit(there)["config.hpp"]
    assert "#define CODESIGN_IN_ULTRARAM" in text and "CODESIGN_IN_ULTRARAM" not in emit(config)["config.hpp"]
    marked = re.findall(r"^ *CODESIGN_LARGE\((\w+)\)", sources(there)["stages.hpp"], re.M)
    assert set(marked) == {"tiles", "depthwise", "window_requant"}, "those that resources.py counts"
