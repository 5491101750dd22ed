"""Layouts, addresses and refusals of the planner."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign import layout
from codesign.board import board_names, load_board
from codesign.dram import dram
from codesign.engine_config import EngineConfig
from codesign.errors import CodesignError, PlanError
from codesign.fit import Limits
from codesign.ir import IntType
from codesign.layout import Buffer
from codesign.ops import Concat, Conv, DwConv, MaxPool, Requant, Upsample
from codesign.plan import plan
from tests.engine.engines import LANES, generic
from tests.models import CONFIG_A, I4, I8, U8, Builder, random_codenet_graph

lives = st.tuples(st.integers(1, 40), st.integers(0, 20), st.integers(0, 20))


@given(st.lists(lives, max_size=25))
def test_buffers_that_live_together_never_overlap(given_lives):
    buffers = [Buffer(size, min(a, b), max(a, b)) for size, a, b in given_lives]
    total = layout.allocate(buffers)
    for i, a in enumerate(buffers):
        assert 0 <= a.address and a.address + a.size <= total
        for b in buffers[:i]:
            if a.first <= b.last and b.first <= a.last:
                assert a.address + a.size <= b.address or b.address + b.size <= a.address


@given(st.lists(lives, max_size=25), st.sampled_from((*LANES, 32, 64)))
def test_buffers_begin_where_a_memory_s_block_does(given_lives, lanes):
    buffers = [Buffer(size, min(a, b), max(a, b)) for size, a, b in given_lives]
    layout.allocate(buffers, lanes)
    assert all(b.address * lanes % layout.BLOCK_BYTES == 0 for b in buffers)


@pytest.mark.parametrize(("lanes", "base"), [(8, 0), (16, 3), (2, 7)])
def test_maps_begin_where_a_memory_s_block_does(lanes, base):
    """A burst of whole blocks then moves no block beside them. No board's memory has larger ones."""
    program = plan(random_codenet_graph(seed=1, size=64), lanes, base=base).program
    whole = [s for step in program.steps for s in step.store if s.stride == s.count]
    assert program.arena[0] * lanes % layout.BLOCK_BYTES == 0
    assert len(whole) > 20 and all(s.address * lanes % layout.BLOCK_BYTES == 0 for s in whole)
    boards = [load_board(name) for name in board_names()]
    assert all(layout.BLOCK_BYTES % dram(board, lanes).block == 0 for board in boards)


@given(st.lists(st.sets(st.sampled_from("abc")), min_size=1, max_size=60), st.sampled_from(LANES))
def test_free_order_places_every_channel_once(readers, lanes):
    who = [frozenset(r) for r in readers]
    order, segments = layout.free_order(who, lanes)
    assert sorted(c for c in order.reshape(-1).tolist() if c >= 0) == list(range(len(who)))
    assert [a for a, _ in segments] == np.cumsum([0, *(n for _, n in segments)])[:-1].tolist()
    assert sum(n for _, n in segments) == len(order)
    for one in "abc":  # a reader loads at most one word more than its channels fill
        wanted = [c for c, r in enumerate(who) if one in r]
        loaded = sum(any(c in wanted for c in row) for row in order.tolist())
        classes = len({who[c] for c in wanted})
        assert loaded <= len(wanted) // lanes + classes


def test_no_step_only_moves_data():
    """Shuffles, slices, concats and upsampling of a whole network cost no step and no store."""
    graph = random_codenet_graph(seed=1, size=64)
    steps = plan(graph, lanes=16).program.steps
    convolutions = sum(isinstance(n.op, Conv) for n in graph.nodes)
    stored = sum(isinstance(n.op, DwConv | MaxPool) for n in graph.nodes)
    assert len(steps) <= convolutions + stored
    assert all(s.pointwise != "none" or s.window != "pass" for s in steps)


def test_depthwise_and_pointwise_become_one_step():
    graph = random_codenet_graph(seed=1, size=64)
    fused = [
        s
        for s in plan(graph).program.steps
        if s.window in ("depthwise", "deformable") and s.pointwise != "none"
    ]
    assert len(fused) == sum(isinstance(n.op, Conv) for n in graph.nodes) - sum(
        s.window in ("pass", "gather") for s in plan(graph).program.steps
    )
    assert all(
        s.window != "depthwise" or s.pointwise == "none" for s in plan(graph, fuse=False).program.steps
    )


def test_what_is_kept_apart_is_stored():
    graph = random_codenet_graph(seed=1, size=64)
    fused = [s.nodes[0] for s in plan(graph, lanes=4).program.steps if s.nodes[0].endswith(".dw")]
    made = plan(graph, lanes=4, apart={"decoder1.dw.q", "head.hm.dw.q"}).program
    alone = [s.nodes for s in made.steps if s.nodes[0] in ("decoder1.dw", "head.hm.dw")]
    assert {"decoder1.dw", "head.hm.dw"} <= set(fused)
    assert alone == [("decoder1.dw", "decoder1.dw.q"), ("head.hm.dw", "head.hm.dw.q")]


def test_limits_bound_what_the_model_does_not_need():
    graph = random_codenet_graph(size=64, **CONFIG_A | {"repeats": (1, 1, 1)})
    configs = [
        plan(graph, 8, limits=Limits(weight_bytes=kib << 10, row_words=words)).config
        for kib, words in ((16, 64), (64, 128), (256, 512))
    ]
    assert [c.weight_tiles for c in configs] == [512, 2048, 7552], "and no more than a step has"
    assert [c.row_words for c in configs] == [64, 128, 256], "no longer than the longest row"
    least = plan(graph, 8, limits=Limits(1, 1)).config
    assert least.weight_tiles < 512 and least.row_words < 64, "what the model needs, it gets"


@pytest.mark.slow
def test_padding_of_config_a_stays_small():
    """Lanes that carry no wanted channel cost little: words multiplied against words that must be."""
    graph = random_codenet_graph(seed=1, size=64, **CONFIG_A)
    steps = plan(graph, lanes=16).program.steps
    done = sum(s.out_height * s.out_width * s.pointwise_in * s.pointwise_out for s in steps) * 256
    types = graph.types()
    dense = [n for n in graph.nodes if isinstance(n.op, Conv)]
    needed = sum(n.op.macs(*(types[i] for i in n.inputs)) for n in dense)
    assert needed < done < 1.35 * needed


def refused(graph, message: str, **options) -> None:
    with pytest.raises(PlanError) as error:
        plan(graph, **options)
    assert str(error.value) == message


def wide() -> Builder:
    b = Builder(0)
    b.conv("y", b.input("x", (4, 40, 24)), 9, kernel=3)
    return b


@pytest.mark.parametrize(
    ("constant", "value", "message"),
    [
        (
            "row_words",
            59,
            "y.q: needs kRowWords = 60, the engine has 59. Build an engine with row_words >= 60.",
        ),
        (
            "input_words",
            50,
            "y.q: needs kInputWords = 54, the engine has 50. Build an engine with input_words >= 54.",
        ),
        (
            "weight_tiles",
            9,
            "y.q: needs kWeightTiles = 54, the engine has 9. Build an engine with weight_tiles >= 54.",
        ),
        ("acc_bits", 12, "y: needs kAccBits = 19, the engine has 12. Build an engine with acc_bits >= 19."),
    ],
)
def test_the_constant_that_is_too_small_is_named(constant, value, message):
    refused(wide().graph(("y.q",)), message, config=replace(generic(4), **{constant: value}))


def test_every_constant_that_is_too_small_is_named_at_once():
    small = EngineConfig(lanes=4, row_words=1, input_words=1, weight_tiles=1, acc_bits=16)
    with pytest.raises(PlanError) as error:
        plan(wide().graph(("y.q",)), config=small)
    assert [line.split(" ")[2] for line in str(error.value).splitlines()] == [
        "kRowWords", "kInputWords", "kWeightTiles", "kAccBits"
    ]  # fmt: skip


def test_too_many_lanes():
    refused(wide().graph(("y.q",)), "lanes: 3, expected a power of two from 1 to 64. Use 16.", lanes=3)


def test_operators_without_a_unit_are_all_named():
    b = Builder(0)
    x = b.input("x", (12, 12, 3))
    b.add("big", Conv((7, 7), (1, 1), (2, 2, 2, 2)), x, b.weight("big", (7, 7, 3, 4), I4))
    b.add("fast", Conv((3, 3), (5, 5), (1, 1, 1, 1)), x, b.weight("fast", (3, 3, 3, 4), I4))
    b.add("pool", MaxPool((3, 2), (1, 1), (1, 0, 1, 1)), x)
    b.add("bare", Conv(), x, b.weight("bare", (1, 1, 3, 4), I4))
    refused(
        b.graph((b.requant("big"), b.requant("fast"), "pool", "bare")),
        "pool: kernel (3, 2), expected a square of at most 3. Use 3x3.\n"
        "bare: an accumulator, expected one Requant behind it and no other reader.\n"
        "big: kernel (7, 7), expected at most 5x5. Use several of those.\n"
        "fast: stride (5, 5), expected at most 4. Use smaller strides.",
    )


def test_wide_types_are_refused():
    b = Builder(0)
    b.conv("y", b.input("x", (2, 2, 3), IntType(9)), 2)
    refused(b.graph(("y.q",)), "y: reads x, which is i9, expected 8 bits. Put a Requant before.")
    b = Builder(0)
    b.conv("y", b.input("x", (2, 2, 3)), 2, out=IntType(9))
    refused(b.graph(("y.q",)), "y.q: makes i9, expected 8 bits at most. Quantize to 8 bits.")
    b = Builder(0)
    b.conv("y", b.input("x", (2, 2, 3)), 2, bits=IntType(9))
    refused(b.graph(("y.q",)), "y: weights over 8 bits, expected i8. Quantize to 8 bits.")


def test_upsampling_four_times_is_refused():
    b = Builder(0)
    x = b.input("x", (1, 1, 3))
    for i in range(4):
        x = b.add(f"up{i}", Upsample(2), x)
    b.conv("y", x, 2)
    refused(b.graph(("y.q",)), "y: up3 is upsampled 4 times, expected 3 at most.")


def test_two_inputs_and_an_output_that_is_an_input():
    b = Builder(0)
    x, y = b.input("x", (3, 4, 2)), b.input("y", (3, 4, 3))
    b.conv("z", b.add("both", Concat(), x, y), 4)
    program = plan(b.graph(("z.q", "both")), lanes=4).program
    assert set(program.inputs) == {"x", "y"} and set(program.outputs) == {"z.q", "both"}


def test_arena_shrinks_with_lives():
    graph = random_codenet_graph(seed=1, size=64)
    alone, kept = plan(graph).program, plan(graph, keep=True).program
    assert alone.arena[1] - alone.arena[0] < 0.5 * (kept.arena[1] - kept.arena[0])
    assert set(kept.tensors) > {"image", "stem.q"}


def test_errors_are_for_users():
    assert issubclass(PlanError, CodesignError)
    assert Requant(I8, 0, 1).out == I8 and U8.max == 255
