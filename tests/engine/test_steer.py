"""What steers windows and stays on chip: that it is never in DRAM, where it finds no place, and that no bit changes."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest

from codesign.board import load_board
from codesign.csim import Engine, Simulator
from codesign.descriptor import STEP_INTS, int_words
from codesign.emit import sources
from codesign.ir import Graph, evaluate
from codesign.near import generated, spilled
from codesign.ops import Concat, SampledDwConv
from codesign.plan import Plan, plan
from codesign.program import HEADER_INTS, Program, decode
from codesign.room import with_maps
from codesign.step import Segment, Step
from codesign.vectors_steps import cosim_steps, step_frames
from tests.engine.engines import assert_equal, engine, generic
from tests.engine.test_program import FIELDS
from tests.models import I8, Builder, random_codenet_graph, random_feeds, random_mixing_graph

KERNELS = SampledDwConv(0, 0, -128, 127, still=True)


def involution(groups: int = 3, size: tuple[int, int] = (10, 12)) -> Graph:
    """Kernels of each pixel and group, made by a convolution and used by the step behind it."""
    b = Builder(8)
    x = b.conv("reduce", b.input("image", (*size, 6)), 8, kernel=3, out=I8)
    parts = [b.sampled(f"group{i}", x, KERNELS, out=I8) for i in range(groups)]
    return b.graph((b.conv("y", b.add("all", Concat(), *parts), 9),))


def with_steering(made: Plan, words: int) -> Plan:
    return made.on(replace(made.config, steer_words=words))


def steered(program: Program) -> list[Step]:
    return [s for s in program.steps if s.offset is not None and s.branch is None]


def kept(program: Program) -> int:
    """Steps whose windows are steered from on chip."""
    return sum(s.offset is not None and s.offset.near for s in steered(program))


def words_of(segment: Segment, pixels: int) -> np.ndarray:
    return (segment.address + np.arange(pixels)[:, None] * segment.stride + np.arange(segment.count)).reshape(
        -1
    )


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_generated_kernels_are_never_in_memory(lanes):
    """No step stores them outside, and no word of the arena that no step stores to is changed by the engine."""
    graph = involution()
    made = plan(graph, lanes)
    made = with_steering(made, made.most_steering)
    program, feeds = made.program, random_feeds(graph)
    assert kept(program) == len(steered(program)) == 3 and kept(made.far) == 0
    kernels = {s.offset.address for s in steered(made.far)}
    assert sum(x.address in kernels for s in made.far.steps for x in s.store) >= 3
    outside = [(x, s) for s in program.steps for x in s.store if not x.steers]
    assert all("samples" not in " ".join(s.nodes) for _, s in outside)
    assert all("samples" in " ".join(s.nodes) for s in program.steps if any(x.steers for x in s.store))

    simulator = Simulator(engine(made.config), program)
    touched = np.zeros(program.memory_words, bool)
    for segment, step in outside:
        if not segment.near:
            touched[words_of(segment, prod(step.stored_shape))] = True
    memory = program.memory()
    begin, end = (n * lanes for n in program.arena)
    memory[begin:end] = np.random.default_rng(1).integers(0, 256, end - begin)
    for name, port in program.inputs.items():
        port.write(memory, lanes, feeds[name][0])
    before = memory.copy()
    assert engine(made.config).start(memory, lanes, program.base) == 0
    changed = (memory != before).reshape(-1, lanes).any(1)
    assert changed.any() and not changed[~touched].any()
    assert_equal(simulator.run(feeds), evaluate(graph, feeds))


NETWORKS = {
    "involution": involution,
    "square": lambda: random_codenet_graph(seed=3, size=32, max_offset=3),
    "bounded": lambda: random_codenet_graph(seed=2, size=32, sampler=SampledDwConv(3, 2, 0, 63)),
    "gates": lambda: random_mixing_graph(1),
}


@pytest.mark.parametrize(("lanes", "kind"), [(2, "native"), (8, "ap")])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_size_changes_a_bit(name, lanes, kind):
    graph = NETWORKS[name]()
    feeds, config = random_feeds(graph), generic(lanes)
    wanted, counts = evaluate(graph, feeds), []
    made = plan(graph, config=config)
    for words in (1, 20, config.steer_words):
        part = with_steering(made, words).program
        counts.append(kept(part))
        assert decode(part.encode(), part.base)[2][-1].steer == part.steps[-1].steer
        assert_equal(Simulator(engine(config, kind), part).run(feeds), wanted)
        far = spilled(part, config)
        assert kept(far) == 0 and not any(x.steers for s in far.steps for x in s.store)
        assert_equal(Simulator(engine(config, kind), far).run(feeds), wanted)
    assert counts[0] == 0 and counts == sorted(counts) and counts[-1] > 0


def test_a_step_reads_one_memory_and_writes_the_other():
    """Kernels of a group are made by a window that kernels steer."""
    b = Builder(2)
    x = b.conv("stem", b.input("image", (9, 8, 4)), 8, out=I8)
    for i in range(3):
        x = b.sampled(f"s{i}", x, KERNELS, out=I8)
    graph = b.graph((x,))
    made = plan(graph, config=generic(8))
    both = [s for s in made.program.steps if s.offset and s.offset.near and any(x.steers for x in s.store)]
    for step in made.program.steps:
        assert step.steer in (0, 1)
    feeds = random_feeds(graph)
    assert kept(made.program) == 3 and len({s.steer for s in steered(made.program)}) >= 1 + bool(both)
    assert_equal(Simulator(engine(made.config), made.program).run(feeds), evaluate(graph, feeds))


def test_what_others_read_as_well_is_in_memory():
    """Kernels that are an output, too, or the input of a convolution; others are not disturbed."""
    b = Builder(4)
    x = b.conv("stem", b.input("image", (9, 8, 4)), 8, out=I8)
    shown = b.sampled("shown", x, KERNELS, out=I8)
    read = b.sampled("read", x, KERNELS, out=I8)
    hidden = b.sampled("hidden", x, KERNELS, out=I8)
    y = b.conv("y", b.add("all", Concat(), shown, read, hidden, "read.samples.q"), 8)
    graph = b.graph((y, "shown.samples.q"))
    made, feeds = plan(graph, config=generic(4)), random_feeds(graph)
    assert (kept(made.program), len(steered(made.program))) == (1, 3)
    assert_equal(Simulator(engine(made.config), made.program).run(feeds), evaluate(graph, feeds))
    assert kept(plan(graph, config=generic(4), keep=True).program) == 0, "what is compared is in memory"


def test_an_engine_without_such_memories_refuses():
    """And so does one for words beyond its memories, for what is no offset, and for loads of what steers."""
    made = plan(involution(), config=generic(4))
    program, config = made.program, made.config
    reader = next(i for i, s in enumerate(program.steps) if s.offset and s.offset.near)
    writer = next(i for i, s in enumerate(program.steps) if any(x.steers for x in s.store))
    code, descriptors = program.memory(), int_words(HEADER_INTS, 4)

    def status(changed: Program, lanes_config=config) -> tuple[int, int]:
        found = engine(lanes_config).start(changed.memory(), 4, program.base)
        return found & 255, (found >> 8) - 1

    def at(index: int, step: Step) -> Program:
        return replace(program, steps=(*program.steps[:index], step, *program.steps[index + 1 :]))

    assert status(program) == (0, -1)
    assert status(program, replace(config, steer_words=1)) == (19, min(reader, writer))
    stored, offset = program.steps[writer].store[0], program.steps[reader].offset
    most = config.steer_words - prod(program.steps[writer].stored_shape) * stored.stride
    for address, wanted in ((most, (0, -1)), (most + 1, (9, writer)), (-1, (9, writer))):
        step = replace(program.steps[writer], store=(replace(stored, address=address),))
        assert status(at(writer, step)) == wanted
    for address, wanted in ((most, (0, -1)), (most + 1, (12, reader)), (-1, (12, reader))):
        step = replace(program.steps[reader], offset=replace(offset, address=address))
        assert status(at(reader, step)) == wanted
    double = replace(program.steps[writer], store=(replace(stored, near=True),))
    assert status(at(writer, double)) == (9, writer)
    loaded = replace(program.steps[reader].load[0], steers=True)
    assert status(at(reader, replace(program.steps[reader], load=(loaded,)))) == (8, reader)
    place = 4 * (descriptors + int_words(STEP_INTS, 4) * writer + FIELDS.index("kNear"))
    code[place] |= 4  # of a step that has no offsets
    assert engine(config).start(code, 4, program.base) == 19 + 256 * (writer + 1)


@pytest.mark.parametrize(("file", "old", "new"), [
    ("load.hpp", "out.write(steer[address + i]);", "out.write(steer[address]);"),
    ("store.hpp", "steer[address + i] = packed<C>(in.read());", "steer[address] = packed<C>(in.read());"),
    ("engine.hpp", "C::kSteerWords > 1 && step.steer != 0", "false"),
])  # fmt: skip
def test_faults_are_seen(file, old, new):
    """Of the loops that read and write these memories, and of what exchanges them."""
    graph = involution()
    made = plan(graph, config=generic(4))
    assert {s.steer for s in made.program.steps} == {0, 1}
    design = sources(made.config)
    assert design[file].count(old) == 1
    faulty = Engine(design | {file: design[file].replace(old, new)})
    feeds = random_feeds(graph)
    got, wanted = Simulator(faulty, made.program).run(feeds), evaluate(graph, feeds)
    assert any((got[name] != wanted[name]).any() for name in wanted)


def test_single_steps_are_co_simulated_with_what_steers_them():
    """A step that finds kernels on chip runs alone, behind one that brings them: through both loops."""
    graph = involution(2, (12, 8))
    made = plan(graph, config=replace(generic(4), near_words=1))
    program, config, feeds = made.program, made.config, random_feeds(graph)
    steps, left_out = cosim_steps(program, config)
    assert left_out == 0 and any(program.steps[i].offset and program.steps[i].offset.near for i in steps)
    far = spilled(program, config)
    memory = np.zeros(max(program.memory_words, far.memory_words) * 4, np.uint8)
    memory[: program.memory().size] = program.memory()
    feed = {name: codes[0] for name, codes in feeds.items()}
    frames = step_frames(program, far, config, engine(config), memory, feed, steps)
    assert len(frames) == len(steps) and all(frame.checks[0][2].any() for frame in frames)


def test_it_is_said_whether_they_stay():
    made = plan(involution(), config=generic(4))
    assert generated(made.program) == (3, 3) and generated(made.far) == (0, 3)
    assert generated(plan(random_mixing_graph(1), 4).program) == (0, 0)


def test_room_is_made_for_them_first():
    board, made = load_board("ultra96"), plan(involution(4, (32, 32)), 16)
    config = with_maps(made.config, made.most_near, board, made.most_steering)
    assert config.steer_words == 1024 == made.most_steering and config.near_words >= 512
    assert kept(made.on(config).program) == 4
    small = replace(board, bram36=board.bram36 // 10)
    less = with_maps(made.config, made.most_near, small, made.most_steering)
    assert less.steer_words < 1024 and kept(made.on(less).program) == 0, "they pass through memory"
    square = plan(random_codenet_graph(seed=3, size=64, max_offset=3), 16)
    assert square.most_steering == 0 == plan(random_mixing_graph(1), 16).most_steering
