"""The program in memory: encoding, and an engine that refuses every illegal one without harm."""

import os
import re
from dataclasses import replace
from math import prod

import numpy as np
import pytest

from codesign.csim import ANY_STATUS, Frame, Simulator
from codesign.descriptor import STEP_INTS, STEP_MARK, int_words
from codesign.engine_config import EngineConfig
from codesign.errors import CodesignError
from codesign.ops.wide_requant import MOST_RIGHT
from codesign.plan import plan
from codesign.program import HEADER_INTS, PROGRAM_MAGIC, PROGRAM_VERSION, Program, decode
from codesign.status import STATUS, status_text
from codesign.step import MAX_SIDE, MAX_STEPS
from codesign.windows import ALWAYS, REQUANT_WORDS, WIDE_REQUANT_WORDS, WINDOWS
from hls_templates import HEADERS
from tests.engine.cases import CASES, deformable
from tests.engine.engines import LANES, engine, generic
from tests.models import random_codenet_graph, random_feeds

DESCRIPTOR = (HEADERS / "layout.hpp").read_text()
FIELDS = re.findall(r"^  (k\w+)", DESCRIPTOR.split("enum StepField {")[1].split("};")[0], re.MULTILINE)


def small_program(lanes: int = 4, near: bool = False) -> Program:
    """A deformable network, with offsets, fused steps and int8 weights; maps stay on chip if `near`."""
    graph = random_codenet_graph(seed=5, size=32, max_offset=3)
    config = generic(lanes)
    return plan(graph, config=config if near else replace(config, near_words=1, steer_words=1)).program


def test_python_and_cpp_agree_on_the_layout():
    def value(name: str) -> int:
        found = re.search(rf"\b{name} = (0x[0-9a-f]+|\d+)", DESCRIPTOR)
        assert found, name
        return int(found[1], 0)

    assert value("kProgramMagic") == PROGRAM_MAGIC
    assert value("kProgramVersion") == PROGRAM_VERSION
    assert value("kStepMark") == STEP_MARK
    assert (value("kHeaderFields"), value("kStepFields")) == (HEADER_INTS, STEP_INTS)
    rows = (HEADERS / "rows.hpp").read_text()
    assert f"kRequantWords = {REQUANT_WORDS};" in rows
    assert f"kWideRequantWords = {WIDE_REQUANT_WORDS};" in rows
    assert f"kMostWideShift = {MOST_RIGHT};" in rows
    assert (value("kMaxSteps"), value("kMaxSide")) == (MAX_STEPS, MAX_SIDE)
    statuses = re.findall(r"^  k(?:Done|Bad\w+) = (\d+)", DESCRIPTOR, re.MULTILINE)
    assert [int(s) for s in statuses] == list(STATUS)
    kinds = re.search(r"enum WindowKind \{(.*?)\}", DESCRIPTOR, re.DOTALL)
    numbers = [int(n) for n in re.findall(r"= (\d+)", kinds[1])]
    assert numbers == [i for i, name in enumerate(WINDOWS) if name]
    assert value("kAlways") == ALWAYS
    assert FIELDS[-1] == "kStepFields" and len(FIELDS) == STEP_INTS + 1  # the last is the count


@pytest.mark.parametrize("lanes", LANES)
def test_decode_gives_back_what_was_encoded(lanes):
    program = small_program(lanes)
    found, arena, steps = decode(program.encode(), program.base)
    assert (found, arena, len(steps)) == (lanes, program.arena, len(program.steps))
    for got, step in zip(steps, program.steps, strict=True):
        assert got == replace(step, nodes=())
        for a, b in ((got.window_parameters, step.window_parameters),
                     (got.pointwise_parameters, step.pointwise_parameters)):  # fmt: skip
            np.testing.assert_array_equal(*(np.zeros(0) if p is None else p for p in (a, b)))


def test_decode_refuses_other_files():
    code = small_program().encode()
    with pytest.raises(
        CodesignError, match=r"^program: 10 bytes, expected a header of 64\. Build it again\.$"
    ):
        decode(code[:10], 0)
    with pytest.raises(CodesignError, match=r"^program: \d+ bytes, expected \d+\. Build it again\.$"):
        decode(code[:-4], 0)
    other = code.copy()
    other[4] = 9
    with pytest.raises(
        CodesignError, match=r"version 9, expected 0x43534450 version 4\. Build it again with"
    ):
        decode(other, 0)


def run_changed(program: Program, at: int, value: int) -> int:
    """Status of the engine with one 32-bit integer of the program changed; memory must stay as it is."""
    memory = program.memory()
    start = program.base * program.lanes + 4 * at
    memory[start : start + 4] = np.array([value], "<i4").view(np.uint8)
    before = memory.copy()
    status = engine(generic(program.lanes)).start(memory, program.lanes, program.base)
    if status:
        np.testing.assert_array_equal(memory, before, err_msg="a refused program changed the memory")
    return status


def step_with(program: Program, condition) -> int:
    return next(i for i, step in enumerate(program.steps) if condition(step))


BAD_HEADERS = [("kHeaderMagic", 7, 1), ("kHeaderVersion", 1, 2), ("kHeaderLanes", 8, 3), ("kHeaderSteps", 5000, 4),
               ("kHeaderSteps", -1, 4), ("kHeaderProgramWords", 1 << 30, 4), ("kHeaderProgramWords", 3, 4),
               ("kHeaderArenaBegin", 0, 4), ("kHeaderArenaBegin", -4, 4), ("kHeaderArenaEnd", 1 << 30, 4),
               ("kHeaderWide", 1, 26), ("kHeaderReserved", 1, 4)]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "status"), BAD_HEADERS)
def test_illegal_header_is_refused(field, value, status):
    names = re.findall(r"k\w+", DESCRIPTOR.split("enum HeaderField {")[1].split("}")[0])
    assert run_changed(small_program(), names.index(field), value) == status


BAD_STEPS = [
    ("kStepMagic", 1, 5), ("kHeight", 0, 6), ("kWidth", 9000, 6), ("kGroups", 0, 6),
    ("kGroups", 1 << 20, 6), ("kPacked", 1, 6), ("kOutHeight", -1, 6), ("kLoadCount", 0, 7), ("kLoadCount", 97, 7),
    ("kStoreCount", 1000, 7), ("kSegments", -1, 7), ("kSegments", 1 << 28, 7), ("kHeight", 5, 8),
    ("kWindow", 6, 10), ("kWindow", -1, 10), ("kKernel", 4, 10), ("kKernel", 0, 10), ("kStrideY", 0, 10),
    ("kStrideX", 5, 10), ("kOriginY", 2, 10), ("kOriginX", -2, 10), ("kReach", 9, 10), ("kReach", -1, 10),
    ("kWindowParameters", 0x7fffffff, 14), ("kWindowParameters", -1, 14), ("kOffsetAddress", 3, 12),
    ("kOffsetStride", 0, 12), ("kOffsetLane", 4, 12), ("kOffsetStride", 1 << 29, 12), ("kPointwise", 3, 13),
    ("kPointwiseIn", 99, 13), ("kPointwiseOut", 0, 13), ("kPointwiseOut", 1 << 16, 13),
    ("kPointwiseParameters", 0x7ffffff0, 14), ("kPointwiseLow", -129, 15), ("kPointwiseHigh", 256, 15),
    ("kWindowLow", -1000, 15), ("kNear", 8, 19), ("kNear", -1, 19), ("kNear", 4, 12), ("kTable", -1, 24),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "status"), BAD_STEPS)
def test_illegal_descriptor_is_refused_before_anything_runs(field, value, status):
    """One field of a deformable step wrong: its status and its number, and not a byte changed."""
    program = small_program()
    index = step_with(program, lambda s: s.window == "deformable" and s.height > 2)
    at = (int_words(HEADER_INTS, 4) + index * int_words(STEP_INTS, 4)) + FIELDS.index(
        field
    )  # 4 lanes: words are ints
    found = run_changed(program, at, value)
    assert (found & 255, (found >> 8) - 1) == (status, index), status_text(found)


@pytest.mark.parametrize(("part", "value", "status"), [
    ("address", -1, 8), ("address", 0, 8), ("count", 0, 8), ("stride", 0, 8), ("stride", 1 << 30, 8),
])  # fmt: skip
@pytest.mark.parametrize("stored", [False, True])
def test_illegal_segment_is_refused(part, value, status, stored):
    program = small_program()
    index = step_with(program, lambda s: s.window == "deformable" and s.height > 2)
    step = program.steps[index]
    segments = step.store if stored else step.load
    changed = (replace(segments[0], **{part: value}), *segments[1:])
    steps = [*program.steps]
    steps[index] = replace(step, **{"store" if stored else "load": changed})
    memory = replace(program, steps=tuple(steps)).memory()
    before = memory.copy()
    found = engine(generic(4)).start(memory, 4, program.base)
    assert (found & 255, (found >> 8) - 1) == (9 if stored else status, index)
    np.testing.assert_array_equal(memory, before)


@pytest.mark.parametrize("stored", [False, True])
def test_a_map_that_leaves_its_memory_on_chip_is_refused(stored):
    config = generic(4)
    program = small_program(near=True)
    side = "store" if stored else "load"
    index = step_with(
        program, lambda s: any(x.near for x in getattr(s, side)) and all(x.up == 0 for x in s.load)
    )
    step = program.steps[index]
    at = next(i for i, s in enumerate(getattr(step, side)) if s.near)

    def status(lanes_config: EngineConfig, address: int) -> int:
        segments = [*getattr(step, side)]
        segments[at] = replace(segments[at], address=address)
        steps = [*program.steps]
        steps[index] = replace(step, **{side: tuple(segments)})
        memory = replace(program, steps=tuple(steps)).memory()
        return engine(lanes_config).start(memory, 4, program.base)

    pixels = prod(step.stored_shape) if stored else step.height * step.width
    last = config.near_words - ((pixels - 1) * getattr(step, side)[at].stride + getattr(step, side)[at].count)
    refused = (9 if stored else 8) + 256 * (index + 1)
    assert status(config, last) == 0 and status(config, last + 1) == status(config, -1) == refused
    without = replace(config, near_words=1)
    first = step_with(program, lambda s: any(x.near for x in (*s.load, *s.store)))
    assert status(without, 0) >> 8 == first + 1, "an engine without such memories refuses all of them"


def test_reading_what_is_written_is_refused():
    program = small_program()
    step = program.steps[0]
    where = replace(step.store[0], address=step.load[0].address)
    memory = replace(
        program, steps=(replace(step, store=(where, *step.store[1:])), *program.steps[1:])
    ).memory()
    assert engine(generic(4)).start(memory, 4, program.base) == 9 + 256


def test_a_program_outside_the_memory_is_refused():
    program = small_program()
    for at in (-1, program.memory_words - 1, program.memory_words, 1 << 30):
        assert engine(generic(4)).start(program.memory(), 4, at) == 4


PROGRAMS = int(os.environ.get("CODESIGN_FUZZ", "150"))  # for each number of lanes; `make fuzz` takes 25,000
AT_ONCE = 500


@pytest.mark.parametrize(
    ("lanes", "name"),
    [
        (1, "deformable"),
        (2, "views"),
        (4, "deformable"),
        (16, "deformable"),
        (4, "sampled"),
        (1, "sampled-masks"),
        (4, "average-of-a-map"),
        (4, "gates-of-branches"),
        (2, "picks"),
        (1, "mixed-weights"),
        (4, "mixed-weights-int8"),
        (4, "sampled-column"),
        (1, "sampled-border"),
        (4, "varied-stride-2"),
        (16, "varied"),
    ],
)
def test_arbitrary_programs_under_sanitizers(lanes, name):
    """Integers of header, descriptors and segments changed at random: the run ends, nothing outside the arena
    changes, and neither AddressSanitizer nor UBSan finds anything.
    """
    graph = deformable((9, 6, 5), 3) if name == "deformable" else CASES[name]()
    program = plan(graph, config=generic(lanes)).program
    rng, code, memory = np.random.default_rng(lanes), program.encode(), program.memory()
    lists = HEADER_INTS + STEP_INTS * len(program.steps)
    arena = slice(program.arena[0] * lanes, program.arena[1] * lanes)
    everywhere = np.full(code.size, 1, np.uint8)

    def frame() -> Frame:
        changed = code.copy()
        ints = changed[: changed.size // 4 * 4].view("<i4")
        for at in rng.integers(0, min(ints.size, lists + 40), rng.integers(1, 4)):
            near = int(ints[at]) + int(rng.integers(-3, 4))
            wild = [near, near, near, 2 * near, rng.integers(-9, 99), rng.integers(-(2**31), 2**31)]
            ints[at] = np.array(rng.choice(wild)).astype(np.int32)
        data = rng.integers(0, 256, arena.stop - arena.start).astype(np.uint8)
        return Frame([(0, changed), (arena.start, data)], [(0, changed, everywhere)], ANY_STATUS)

    for first in range(0, PROGRAMS, AT_ONCE):
        frames = [Frame([(0, memory)]), *(frame() for _ in range(min(AT_ONCE, PROGRAMS - first)))]
        engine(generic(lanes), "sanitize").bench(frames, memory.size, lanes, program.base)


def test_the_test_bench_finds_a_changed_byte():
    """main.cpp's exit status follows its comparison."""
    graph = deformable((9, 6, 5), 3)
    program, feeds = plan(graph, config=generic(4)).program, random_feeds(graph)
    simulator = Simulator(engine(generic(4)), program)
    simulator.run(feeds)
    memory = program.memory()
    for name, port in program.inputs.items():
        port.write(memory, 4, feeds[name][0])
    start, stop = (4 * a for a in program.arena)
    expected, mask = simulator.memory[start:stop].copy(), np.zeros(stop - start, np.uint8)
    piece = program.outputs["y.q"].pieces[0]
    at = piece.address * 4 - start + piece.positions[0]
    mask[at] = 1
    bench = engine(generic(4), "sanitize").bench
    bench([Frame([(0, memory)], [(start, expected, mask)])], memory.size, 4, program.base)
    expected[at] ^= 1
    with pytest.raises(
        CodesignError, match=r"exit status 1, expected 0\.\nframe 0, byte \d+: \d+, expected \d+"
    ):
        bench([Frame([(0, memory)], [(start, expected, mask)])], memory.size, 4, program.base)
    with pytest.raises(CodesignError, match=r"frame 0: status 1, expected 0"):
        bench([Frame([(0, np.zeros(64, np.uint8))])], memory.size, 4, program.base)
    with pytest.raises(
        CodesignError, match=r"exit status 2, expected 0\.\nthe vectors are not for this engine"
    ):
        bench([Frame()], memory.size, 8, program.base)
