import numpy as np
import pytest

from codesign import passes
from codesign.ir import evaluate
from codesign.ops import Concat, Conv, Requant, SampledDwConv, Shuffle, Slice, Upsample
from tests.models import I4, I8, Builder, random_codenet_graph, random_feeds


def run(build):
    """Build a graph on an input of 6 channels, run the pipeline, and check that no output changed."""
    b = Builder()
    graph = b.graph(build(b, b.input("x", (3, 4, 6))))
    after = passes.run(graph)
    feeds = random_feeds(graph)
    before_values, after_values = evaluate(graph, feeds), evaluate(after, feeds)
    assert after.outputs == graph.outputs and dict(after.scales) == dict(graph.scales)
    for name in graph.outputs:
        np.testing.assert_array_equal(after_values[name], before_values[name])
    return after


def listing(graph):
    return [
        f"{n.name} = {n.op}({', '.join(s for s in n.inputs if s not in graph.consts)})" for n in graph.nodes
    ]


def test_dead_code_and_its_constants_go():
    def build(b, x):
        b.conv("unused", x, 5)
        return [b.conv("used", x, 4)]

    after = run(build)
    assert {type(n.op) for n in after.nodes} == {Conv, Requant}
    assert [n.name for n in after.nodes] == ["used", "used.q"]
    assert all(name.startswith("used.") for name in (*after.consts, *after.const_types))


@pytest.mark.parametrize("op", [Slice(0, 6), Concat(), Shuffle(1), Shuffle(6)])
def test_views_that_change_nothing_go(op):
    after = run(lambda b, x: [b.add("up", Upsample(), b.add("view", op, x))])
    assert listing(after) == ["up = Upsample(factor=2)(x)"]


def test_an_output_keeps_its_name_though_it_changes_nothing():
    after = run(lambda b, x: [b.add("view", Slice(0, 6), x)])
    assert listing(after) == ["view = Slice(start=0, stop=6)(x)"]


def test_a_slice_of_a_slice_reads_the_source():
    after = run(lambda b, x: [b.add("b", Slice(1, 3), b.add("a", Slice(2, 6), x))])
    assert listing(after) == ["b = Slice(start=3, stop=5)(x)"]


def test_a_slice_of_one_part_of_a_concat_reads_that_part():
    def build(b, x):
        y = b.conv("pw", x, 4, out=b.types[x].elem)
        both = b.add("cat", Concat(), x, y)
        return [
            b.add("second", Slice(6, 10), both),
            b.add("part", Slice(7, 9), both),
            b.add("mix", Slice(5, 7), both),
        ]

    after = run(build)
    assert listing(after)[2:] == [
        "cat = Concat()(x, pw.q)",
        "second = Slice(start=0, stop=4)(pw.q)",
        "part = Slice(start=1, stop=3)(pw.q)",
        "mix = Slice(start=5, stop=7)(cat)",
    ]


def test_equal_nodes_are_computed_once():
    def build(b, x):
        y = [b.add(f"up{i}", Upsample(), b.add(f"half{i}", Slice(0, 3), x)) for i in range(2)]
        return [b.add("out", Concat(), *y)]

    assert listing(run(build)) == [
        "half0 = Slice(start=0, stop=3)(x)",
        "up0 = Upsample(factor=2)(half0)",
        "out = Concat()(up0, up0)",
    ]


@pytest.mark.parametrize("seed", range(3))
def test_networks_are_left_as_they_are(seed):
    graph = random_codenet_graph(seed)
    assert str(passes.run(graph)) == str(graph)
    assert [p.__name__ for p in passes.PIPELINE] == [
        "requantize_early",
        "split_depthwise",
        "forward_views",
        "share_equal_nodes",
        "own_phases",
        "still_windows",
        "own_gates",
        "drop_dead",
    ]


@pytest.mark.parametrize("moves", [False, True])
def test_windows_whose_offsets_are_zero_read_their_masks_alone(moves):
    op, b = SampledDwConv(2, 1, -20, 100), Builder(5)
    x = b.input("x", (5, 6, 4))
    b.conv("s", x, 27, out=I8)
    b.consts["s.weight"][..., : 18 - moves] = 0
    b.consts["s.bias"][: 18 - moves] = 0
    b.add("y", op, x, "s.q", b.weight("y", (3, 3, 4), I4))
    graph = b.graph((b.requant("y"),))
    found = passes.run(graph)
    feeds = random_feeds(graph, batch=2)
    assert_same(evaluate(found, feeds), evaluate(graph, feeds, reference=True))
    (window,) = (n for n in found.nodes if isinstance(n.op, SampledDwConv))
    still = SampledDwConv(0, 1, -20, 100, still=True)
    assert window.op == (op if moves else still)
    assert found.types()[window.inputs[1]].shape == (5, 6, 27 if moves else 9)


def assert_same(got, wanted):
    assert set(got) == set(wanted)
    for name, values in wanted.items():
        assert np.ptp(values) > 0
        np.testing.assert_array_equal(got[name], values)
