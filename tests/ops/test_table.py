"""Tables of codes: what they mean, against onnxruntime, and on the engine in every place that one can stand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.emit import sources
from codesign.errors import PlanError, TypeMismatch
from codesign.ir import Bounds, Graph, IntType, TensorType, evaluate
from codesign.ops import Concat, MaxPool, Slice, Table, Upsample
from codesign.plan import plan
from codesign.program import decode
from codesign.status import status_text
from tests.engine.engines import LANES, assert_equal, assert_exact, engine, generic, simulate
from tests.engine.test_program import FIELDS, HEADER_INTS, int_words, run_changed
from tests.models import I8, U8, Builder, random_feeds
from tests.onnx_models import run_node

ELEMS = st.builds(IntType, st.integers(1, 8), st.booleans())


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), ELEMS, ELEMS, st.integers(0, 99))
def test_table_equals_gather(h, w, c, elem, out, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(elem.min, elem.max, (2, h, w, c), endpoint=True)
    values = rng.integers(out.min, out.max, 256, endpoint=True)
    wanted = run_node("Gather", [values, x])  # a code below 0 counts from the end
    np.testing.assert_array_equal(Table(out).run(x, values), wanted)


@given(st.integers(1, 5), ELEMS, st.integers(0, 99))
def test_bounds_are_those_of_the_codes_that_occur(c, elem, seed):
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.integers(elem.min, elem.max, (2, c), endpoint=True), axis=0)
    values = rng.integers(-128, 127, 256, endpoint=True)
    found = Table(I8).bounds(Bounds(*ends), values)
    for channel in range(c):
        every = Table(I8).run(np.arange(ends[0, channel], ends[1, channel] + 1), values)
        assert (found.low[channel], found.high[channel]) == (every.min(), every.max())


def test_types():
    values = TensorType((256,), IntType(8, False))
    assert str(Table(U8).infer(TensorType((3, 5, 8), I8), values)) == "u8[3,5,8]"
    assert repr(Table(U8)) == "Table(out=u8)"
    for x, of, out, message in (
        (TensorType((3, 5, 8), IntType(9)), values, U8, r"^input is i9\[3,5,8\], expected a map of at most 8 bits$"),
        (TensorType((3, 5), I8), values, U8, r"^input is i8\[3,5\], expected a map of at most 8 bits$"),
        (TensorType((3, 5, 8), I8), TensorType((255,), U8), U8, r"^values are u8\[255\], expected \[256\]$"),
        (TensorType((3, 5, 8), I8), values, I8, r"^values are u8\[256\], expected at most i8$"),
        (TensorType((3, 5, 8), I8), values, IntType(9), r"^makes i9, expected at most 8 bits$"),
    ):  # fmt: skip
        with pytest.raises(TypeMismatch, match=message):
            Table(out).infer(x, of)


def everywhere(shape: tuple[int, int, int] = (6, 7, 5), seed: int = 1) -> Graph:
    """Behind a convolution, a depthwise and a fused one; of an input, of parts, of what others read, of a pool."""
    b = Builder(seed)
    x = b.input("x", shape)
    first = b.table("first", b.conv("a", x, 20, out=I8))
    second = b.table("second", b.dwconv("d", first), I8)
    fused = b.table("fused", b.conv("e", b.dwconv("f", second), 9), I8)
    b.table("part", b.add("some", Slice(3, 14), second))
    both = b.table("both", b.add("joined", Concat(), fused, b.table("again", fused, I8)), U8)
    b.table("pooled", b.add("pool", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), first), I8)
    b.table("image", x)
    b.add("up", Upsample(2), both)
    return b.graph(("part", "both", "pooled", "image", b.conv("last", "up", 3)))


def steps_with_tables(graph: Graph, **options: object) -> list[tuple[str, ...]]:
    return [s.nodes for s in plan(graph, 4, **options).program.steps if s.table is not None]  # type: ignore[arg-type]


@pytest.mark.parametrize("lanes", LANES)
def test_the_engine_looks_codes_up(lanes):
    graph = everywhere()
    assert_exact(graph, random_feeds(graph, batch=2), lanes)


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_exact_types_give_the_same(lanes):
    graph = everywhere((4, 3, 5))
    assert_exact(graph, random_feeds(graph), lanes, kind="ap")


def test_a_table_is_part_of_the_step_whose_result_nobody_else_reads():
    assert steps_with_tables(everywhere()) == [
        ("a", "a.q", "first"), ("d", "d.q", "second"), ("f", "f.q", "e", "e.q", "fused"), ("part",), ("again",),
        ("both",), ("pool", "pooled"), ("image",),
    ]  # fmt: skip
    apart = steps_with_tables(everywhere(), fuse=False)
    assert ("first",) in apart and ("a", "a.q") not in apart and ("pooled",) in apart


def test_a_table_stands_neither_between_what_is_chained_nor_behind_what_is_pooled():
    b = Builder(3)
    x = b.conv("first", b.input("x", (8, 8, 6)), 7)
    y = b.conv("second", b.dwconv("dw", b.table("t", x)), 5)
    z = b.add("pool", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), y)
    graph = b.graph((b.table("u", z, I8),))
    steps = plan(graph, arrays=2).program.steps
    assert not any(s.middle_stride for s in steps)
    assert [s.nodes for s in steps if s.table is not None] == [("first", "first.q", "t"), ("u",)]
    assert [bool(s.pool_stride) for s in steps] == [False, True, False]
    for lanes in (4, 8, 16):
        assert_exact(graph, random_feeds(graph, batch=2), lanes)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40)), st.integers(1, 40),
    st.sampled_from([I8, U8]), st.sampled_from([I8, U8]), st.sampled_from(LANES), st.integers(0, 99),
)  # fmt: skip
def test_any_table(shape, cout, elem, out, lanes, seed):
    b = Builder(seed)
    x = b.table("y", b.conv("a", b.input("x", shape, elem), cout, out=elem), out)
    graph = b.graph((b.table("z", x, elem), b.table("w", "x", out)))
    feeds = random_feeds(graph, seed)
    assert_equal(simulate(graph, feeds, lanes), evaluate(graph, feeds, reference=True))


def test_a_long_row_is_looked_up_in_parts():
    b = Builder(0)
    graph = b.graph((b.table("y", b.input("x", (2, 3, 300))),))
    config = replace(plan(graph, 4).config, row_words=20, input_words=3)
    steps = plan(graph, config=config).program.steps
    assert len(steps) > 1 and all(s.groups <= 23 and s.table is not None for s in steps)
    assert_exact(graph, random_feeds(graph), 4, config=config)


def test_a_table_is_encoded_and_decoded():
    program = plan(everywhere(), 4).program
    _, _, steps = decode(program.encode(), program.base)
    for got, step in zip(steps, program.steps, strict=True):
        assert (got.table is None) == (step.table is None)
        if step.table is not None:
            np.testing.assert_array_equal(got.table, step.table)


def test_an_engine_without_tables_refuses_them():
    graph = everywhere()
    config = replace(plan(graph, 4).config, tables=0)
    with pytest.raises(
        PlanError, match=r"needs kTables = 1, the engine has 0\. Build an engine with tables >= 1"
    ):
        plan(graph, config=config)
    program = plan(graph, 4).program
    status = engine(config).start(program.memory(), 4, program.base)
    assert status_text(status) == "step 0: the table lies outside the program, or the engine has none"
    assert "kTables = 0" in sources(config)["config.hpp"]
    b = Builder(0)
    assert plan(b.graph((b.conv("y", b.input("x", (3, 3, 3)), 3),)), 4).config.tables == 0


@pytest.mark.parametrize("value", [-1, 3, 1 << 30, 0x7FFFFFFF])
def test_a_table_outside_the_program_is_refused(value):
    program = replace(plan(everywhere(), config=generic(4)).program)
    end = program.base + program.encode().size // 4
    at = int_words(HEADER_INTS, 4) + FIELDS.index("kTable")  # 4 lanes: words are integers
    status = run_changed(program, at, end - 63 if value == 3 else value)  # one word too far
    assert (status & 255, (status >> 8) - 1) == (24, 0), status_text(status)


def test_a_table_behind_a_pool_is_refused():
    b = Builder(3)
    y = b.add("p", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), b.conv("a", b.input("x", (8, 8, 6)), 5))
    program = plan(b.graph((y, b.table("t", "x"))), config=generic(4)).program
    index = next(i for i, s in enumerate(program.steps) if s.pool_stride)
    table = next(s for s in program.steps if s.table is not None)
    steps = tuple(replace(s, table=table.table) if i == index else s for i, s in enumerate(program.steps))
    memory = replace(program, steps=steps, arena=tuple(a + 64 for a in program.arena)).memory()
    status = engine(generic(4)).start(memory, 4, program.base)
    assert (status & 255, (status >> 8) - 1) == (24, index)
