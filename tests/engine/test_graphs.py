"""Whole networks on the engine: lanes, fusion, tiles, types and compilers never change a bit."""

import ctypes
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign import cycles
from codesign.board import load_board
from codesign.csim import Simulator
from codesign.dram import dram
from codesign.emit import sources
from codesign.ir import Graph, IntType, evaluate
from codesign.ops import Concat, MaxPool, Shuffle, Slice, Upsample
from codesign.plan import Plan, plan
from tests.engine.engines import ARRAY, LANES, assert_equal, engine, generic, simulate
from tests.models import CONFIG_A, I8, U8, Builder, random_codenet_graph, random_feeds

WIDE = {"widths": (24, 36, 40, 48, 70), "repeats": (2, 3, 1), "decoder": (33, 20, 16), "head": 17}
PASSES = {"none": 0, "int4": 1, "int8": 2}  # of the array, by the bits of weights
NETWORKS = {
    "stride4": lambda: random_codenet_graph(seed=1, size=64),
    "maxpool": lambda: random_codenet_graph(seed=2, size=64, stem="maxpool", max_offset=3),
    "wide": lambda: random_codenet_graph(seed=3, size=(32, 96), max_offset=8, **WIDE),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    graph = NETWORKS[request.param]()
    feeds = random_feeds(graph, batch=2)
    return graph, feeds, evaluate(graph, feeds)


@pytest.mark.parametrize("lanes", LANES)
def test_network_on_every_number_of_lanes(network, lanes):
    graph, feeds, wanted = network
    assert_equal(simulate(graph, feeds, lanes), wanted)


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_exact_types_equal_native_types(network, lanes):
    graph, feeds, wanted = network
    first = {name: array[:1] for name, array in feeds.items()}
    assert_equal(simulate(graph, first, lanes, "ap"), {name: array[:1] for name, array in wanted.items()})


@pytest.mark.parametrize("kind", ["native", "ap"])
def test_another_compiler(network, kind):
    if shutil.which("clang++") is None:
        pytest.skip("clang++ is not installed")
    graph, feeds, wanted = network
    assert_equal(simulate(graph, feeds, 4, kind, "clang++"), wanted)


def test_under_sanitizers(network):
    graph, feeds, wanted = network
    assert_equal(simulate(graph, feeds, 4, "sanitize"), wanted)


@pytest.mark.parametrize(("lanes", "kind"), [(2, "native"), (16, "ap")])
def test_engine_built_for_the_model_alone(lanes, kind):
    """The constants that the planner computes are enough."""
    graph = NETWORKS["wide"]()
    feeds = random_feeds(graph, batch=2)
    planned = plan(graph, lanes)
    got = Simulator(engine(planned.config, kind), planned.program).run(feeds)
    assert_equal(got, evaluate(graph, feeds))


@pytest.mark.parametrize("fuse", [True, False])
def test_every_stored_tensor_is_the_graph_s(network, fuse):
    """What lies in memory after each step, node by node; unfused, that is every value."""
    graph, feeds, _ = network
    planned = plan(graph, config=generic(8), fuse=fuse, keep=True)
    names = list(planned.program.tensors)
    got = Simulator(engine(planned.config), planned.program).run(feeds, keep=names)
    wanted = evaluate(graph, feeds, keep=names)
    assert_equal(got, {name: wanted[name] for name in got})
    if not fuse:
        assert {n.name for n in graph.nodes if type(n.op).__name__ == "Requant"} <= set(names)


@pytest.mark.parametrize("tiles", [1, 2, 7, 30])
def test_weight_tiles_never_change_a_bit(network, tiles):
    """The same engine, its weights brought in ever smaller parts."""
    graph, feeds, wanted = network
    config = generic(16)
    steps = plan(graph, config=config).program.steps
    least = max(max(PASSES[s.pointwise] * s.pointwise_in, PASSES[s.second] * s.second_in) for s in steps)
    small = replace(config, weight_tiles=least + tiles - 1)
    planned = plan(graph, config=small)
    assert_equal(Simulator(engine(config), planned.program).run(feeds), wanted)


@pytest.mark.parametrize(
    ("lanes", "pixels", "turns"),
    [(16, 1, 1), (16, 3, 16), (16, 8, 2), (8, 7, 1), (4, 1, 4), (2, 16, 1), (1, 4, 1)],
)
def test_the_shape_of_the_array_never_changes_a_bit(network, lanes, pixels, turns):
    graph, feeds, wanted = network
    config = replace(generic(lanes), pixels=pixels, turns=turns)
    assert_equal(simulate(graph, feeds, lanes, config=config), wanted)


@pytest.mark.parametrize(("lanes", "words"), [(16, 1), (4, 70), (2, 1)])
def test_short_rows_of_the_ring_never_change_a_bit(network, lanes, words):
    """Windows that no longer fit with all their channels are computed some channels at a time."""
    graph, feeds, wanted = network
    long = plan(graph, config=generic(lanes)).program
    gathered = [s for s in long.steps if s.window == "gather"]  # these cannot be divided
    rows = [-(-s.width >> generic(lanes).pack_log2) if s.packed else s.width * s.groups for s in gathered]
    words = max(words, *rows, *(s.width for s in long.steps if s.window not in ("pass", "gather")))
    config = replace(generic(lanes), row_words=words, window_groups=1)
    planned = plan(graph, config=config)
    windows = [s for s in planned.program.steps if s.window not in ("pass", "gather")]
    whole = [s for s in long.steps if s.window in ("depthwise", "deformable")]
    assert (len(planned.program.steps) > len(long.steps)) == any(s.groups > 1 for s in whole)
    assert max(s.width * s.groups for s in windows) <= words
    assert {s.groups for s in windows if s.window != "max-pool"} == {1}
    assert_equal(Simulator(engine(config), planned.program).run(feeds), wanted)


def test_program_at_another_address(network):
    graph, feeds, wanted = network
    planned = plan(graph, config=generic(8), base=1000)
    assert planned.program.base == 1000 and planned.program.arena[0] > 1000
    assert_equal(Simulator(engine(planned.config), planned.program).run(feeds), wanted)


def random_graph(seed: int, size: int) -> Graph:
    """Any operators in any order, on maps small enough for hypothesis."""
    rng = np.random.default_rng(seed)
    b = Builder(seed)
    shape = tuple(int(v) for v in (*rng.integers(1, 9, 2), rng.integers(1, 24)))
    b.input("x0", shape, I8 if rng.random() < 0.5 else U8)
    live = ["x0"]

    def pick(signed: bool | None = None) -> str:
        fitting = [n for n in live if signed in (None, b.types[n].elem.signed)]
        return str(rng.choice(fitting[-4:]))

    for i in range(size):
        name, x = f"n{i}", pick()
        h, w, c = b.types[x].shape
        out = I8 if rng.random() < 0.3 else U8
        bits = I8 if rng.random() < 0.3 else IntType(4)
        stride = int(rng.integers(1, 3))
        match int(rng.integers(0, 14)):
            case 12:
                made = b.table(name, x, out)
            case 13:
                made = b.table(name, b.dwconv(f"{name}.dw", x, stride, bits=bits, out=out), out)
            case 10:
                made = b.conv(f"{name}.pw", x, int(rng.integers(1, 24)), bits=bits, out=out)
                made = b.conv(name, b.dwconv(f"{name}.dw", made, stride, out=I8), int(rng.integers(1, 24)))
            case 11:
                made = b.conv(f"{name}.pw", x, int(rng.integers(1, 24)), bits=bits, out=out)
                made = b.add(name, MaxPool((3, 3), (stride, stride), (1, 1, 1, 1)), made)
            case 0 | 1:
                made = b.conv(name, x, int(rng.integers(1, 24)), bits=bits, out=out)
            case 2:
                made = b.conv(
                    name, x, int(rng.integers(1, 9)), 3, int(rng.integers(1, 5)), bits=bits, out=out
                )
            case 3:
                made = b.dwconv(name, x, stride, bits=bits, out=out)
            case 4:
                made = b.deform(name, x, int(rng.integers(1, 9)), stride, out=out)
            case 5:
                made = b.add(name, MaxPool((3, 3), (stride, stride), (1, 1, 1, 1)), x)
            case 6 if max(h, w) <= 4:  # three times in a row at most, as the engine can
                made = b.add(name, Upsample(2), x)
            case 7:
                groups = next(g for g in (3, 2, 1) if c % g == 0)
                made = b.add(name, Shuffle(groups), x)
            case 8:
                start = int(rng.integers(0, c))
                made = b.add(name, Slice(start, int(rng.integers(start + 1, c + 1))), x)
            case _:
                same = [n for n in live if b.types[n].shape[:2] == (h, w)
                        and b.types[n].elem.signed == b.types[x].elem.signed]  # fmt: skip
                made = b.add(name, Concat(), x, str(rng.choice(same)))
        if b.types[made].shape[2] <= 64:
            live.append(made)
    return b.graph(tuple(dict.fromkeys(live[-3:])))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 2**32),
    st.integers(1, 9),
    st.sampled_from(LANES),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_random_graphs(seed, size, lanes, fuse, exact, narrow):
    graph = random_graph(seed, size)
    kind = "ap" if exact and lanes in (1, 4, 16) else "native"
    if len(set(graph.outputs)) < len(graph.outputs):
        return
    feeds = random_feeds(graph, batch=2)
    wanted = evaluate(graph, feeds, reference=True)
    config = generic(lanes)
    planned = plan(graph, config=replace(config, window_groups=2) if narrow else config, fuse=fuse)
    # The program of a smaller engine runs on any larger one.
    assert_equal(Simulator(engine(config, kind), planned.program).run(feeds), wanted)


SHAPES = [(16, 3, 16), (16, 8, 2), (8, 7, 1), (4, 1, 4), (2, 16, 1), (1, 4, 1)]
SHAPES += [(n, *ARRAY[n]) for n in LANES]  # lanes, pixels, turns
KINDS = [(shape, "loops") for shape in SHAPES] + [(shape, "native") for shape in SHAPES[1:3] + SHAPES[-5:]]


def random_plan(graph: Graph, lanes: int, data: st.DataObject) -> Plan:
    """With less room than the generic engine has: rows, filters, weights, outputs; and with any windows stored."""
    config = generic(lanes)
    whole = plan(graph, config=config, fuse=False).program.steps
    gathered = [s for s in whole if s.window == "gather"]  # these rows cannot be divided
    rows = [-(-s.width >> config.pack_log2) if s.packed else s.width * s.groups for s in gathered]
    least = max([1, *rows, *(s.width for s in whole if s.window not in ("pass", "gather"))])
    windows = sorted({s.nodes[-1] for s in whole if s.window not in ("pass", "gather")})
    config = replace(
        config,
        row_words=least + data.draw(st.integers(0, 40)),
        window_groups=data.draw(st.integers(1, 8)),
        output_words=data.draw(st.integers(1, 8)),
    )
    config = replace(config, near_words=data.draw(st.integers(1, config.near_words)))
    fuse, apart = data.draw(st.booleans()), data.draw(st.sets(st.sampled_from(windows or [""])))
    steps = plan(graph, config=config, fuse=fuse, apart=apart).program.steps
    tiles = max((PASSES[s.pointwise] * s.pointwise_in for s in steps), default=1)
    config = replace(config, weight_tiles=max(1, tiles) + data.draw(st.integers(0, 12)))
    return plan(graph, config=config, fuse=fuse, apart=apart, base=data.draw(st.integers(0, 50)))


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.integers(1, 9), st.sampled_from(KINDS), st.data())
def test_random_plans_of_random_graphs(seed, size, shape_and_kind, data):
    """Lanes, array, memories on chip, fusion: whatever a search may choose, the bits are the graph's."""
    graph = random_graph(seed, size)
    (lanes, pixels, turns), kind = shape_and_kind
    if len(set(graph.outputs)) < len(graph.outputs):
        return
    feeds = random_feeds(graph)
    made = random_plan(graph, lanes, data)
    config = replace(generic(lanes), pixels=pixels, turns=turns)
    got = Simulator(engine(config, kind), made.program).run(feeds)
    assert_equal(got, evaluate(graph, feeds, reference=True))


DEPTHS = cycles.depths("\n".join(text for name, text in sources(generic(8)).items() if name.endswith(".hpp")))


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 2**32),
    st.integers(1, 9),
    st.fixed_dictionaries({name: st.integers(2, 64) for name in DEPTHS}),
    st.sampled_from(["ultra96", "pynq-z2"]),
    st.data(),
)
def test_depths_of_streams_change_no_bit_and_hang_nothing(seed, size, depths, board, data):
    """Played cycle by cycle with streams as deep as drawn, behind the memory of a board."""
    graph = random_graph(seed, size)
    if len(set(graph.outputs)) < len(graph.outputs):
        return
    feeds = random_feeds(graph)
    made = random_plan(graph, 8, data)
    texts = sources(generic(8))
    counted = engine(generic(8), "cycles")
    facts = cycles.facts(texts, dram(load_board(board), 8))
    for name, depth in depths.items():
        assert f"stream {name} {DEPTHS[name]}\n" in facts
        facts = facts.replace(f"stream {name} {DEPTHS[name]}\n", f"stream {name} {depth}\n")
    library = ctypes.CDLL(str(counted.path))
    library.codesign_cycles_start.argtypes = (ctypes.c_char_p,)
    library.codesign_cycles_report.restype = ctypes.c_char_p
    assert library.codesign_cycles_start(facts.encode()) == 0
    got = Simulator(counted, made.program).run(feeds, workers=1)
    found = [
        s
        for region in json.loads(f"[{library.codesign_cycles_report().decode()}]")
        for s in region["streams"]
    ]
    assert {(s["name"], s["depth"]) for s in found if s["name"] in depths} <= set(depths.items())
    assert len(found) >= len(depths) or not made.program.steps  # views alone run nothing
    assert_equal(got, evaluate(graph, feeds, reference=True))


@pytest.mark.slow
def test_config_a_at_full_size():
    """0.28 GMAC a frame, on the engine that the planner computes for it."""
    graph = random_codenet_graph(seed=1, size=256, **CONFIG_A)
    feeds = random_feeds(graph)
    planned = plan(graph)
    wanted = evaluate(graph, feeds)
    assert_equal(Simulator(engine(planned.config), planned.program).run(feeds), wanted)
    assert_equal(Simulator(engine(planned.config, "ap"), planned.program).run(feeds), wanted)
