"""Upsampling as late as possible: less is computed and stored, and every value is the graph's."""

import numpy as np
import pytest

from codesign.csim import Simulator
from codesign.ir import evaluate
from codesign.ops import Upsample
from codesign.plan import plan
from codesign.step import MAX_UP
from tests.engine.engines import assert_equal, engine, generic, simulate
from tests.models import Builder, random_codenet_graph, random_feeds


def pixels(builder):
    """A 1x1 convolution of what is upsampled, one of that upsampled again, and a 3x3 that has to stay behind."""
    x = builder.input("x", (3, 4, 6))
    once = builder.conv("once", builder.add("up", Upsample(), x), 5)
    twice = builder.conv("twice", builder.add("again", Upsample(), once), 4)
    wide = builder.conv("wide", builder.add("other", Upsample(), x), 4, 3)
    return builder.graph((twice, wide, builder.dwconv("dw", once)))


def test_values_become_smaller_and_outputs_keep_their_size():
    graph = pixels(Builder())
    late = graph.late
    types = late.graph.types()
    assert types["once.q"].shape == (3, 4, 5) and types["twice.q"].shape == (3, 4, 4)
    assert types["wide.q"].shape == (6, 8, 4), "a window sees neighbours"
    for name in graph.types():
        if name not in graph.consts and name not in ("once", "twice"):
            assert types[late.full.get(name, name)] == graph.types()[name]
    made = plan(graph, 4)
    outputs = {name: port.shape for name, port in made.program.outputs.items()}
    assert outputs == {name: graph.types()[name].shape for name in graph.outputs}


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_every_stored_value_is_the_graph_s(lanes):
    graph = pixels(Builder(7))
    feeds = random_feeds(graph, batch=2)
    assert_equal(simulate(graph, feeds, lanes), evaluate(graph, feeds))
    made = plan(graph, config=generic(lanes), keep=True)
    simulator = Simulator(engine(made.config), made.program)
    simulator.run({name: array[:1] for name, array in feeds.items()})
    values = evaluate(graph, feeds, keep=made.program.tensors)
    assert {"once.q", "twice.q"} <= set(made.program.tensors)
    for name, port in made.program.tensors.items():
        np.testing.assert_array_equal(port.read(simulator.memory, lanes), values[name][0], err_msg=name)


def test_heads_are_computed_on_the_smaller_map():
    graph = random_codenet_graph(seed=1, size=64)
    steps = plan(graph, 8).program.steps
    head = next(s for s in steps if "head.hm.pw.q" in s.nodes)
    full = graph.types()["head.hm.pw.q"].shape
    assert (2 * head.out_height, 2 * head.out_width) == full[:2]


def test_where_the_engine_could_not_repeat_so_often_nothing_moves():
    b = Builder()
    x = b.input("x", (2, 2, 3))
    for i in range(MAX_UP + 1):
        x = b.conv(f"c{i}", b.add(f"up{i}", Upsample(), x), 2)
    graph = b.graph((b.dwconv("dw", x),))
    assert graph.late.graph is graph and not graph.late.full
    feeds = random_feeds(graph)
    assert_equal(simulate(graph, feeds, 4), evaluate(graph, feeds))


def test_names_that_are_taken_are_left_alone():
    b = Builder(3)
    once = b.conv("once", b.add("up", Upsample(), b.input("x", (3, 4, 6))), 5)
    taken = b.add("once.q.upsampled", Upsample(), once)
    graph = b.graph((once, b.dwconv("dw", taken)))
    feeds = random_feeds(graph)
    assert plan(graph, 4).program.outputs["once.q"].shape == (6, 8, 5)
    assert_equal(simulate(graph, feeds, 4), evaluate(graph, feeds))
