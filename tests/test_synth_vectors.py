"""Vectors for the vendor's simulators: read again as main.cpp reads them, and run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codesign import vectors, vectors_steps
from codesign.bundle import Bundle, load
from codesign.csim import Engine
from codesign.digest import design_digest
from codesign.emit import sources
from codesign.errors import CodesignError
from codesign.images import read_image
from codesign.near import spilled
from codesign.plan import plan
from codesign.shipped import samples
from codesign.step import POINTWISE
from codesign.vectors_steps import cosim_steps, step_frames
from codesign.windows import WINDOWS
from tests.mini import bundle_of_mini
from tests.models import random_feeds, random_mixing_graph
from tests.wide import with_wide

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="g++ is not installed: vectors come from C++"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load(bundle_of_mini(tmp_path_factory.mktemp("vectors") / "bundle", "pynq-z2"))


def parse(
    path: Path,
) -> tuple[list[int], list[tuple[list[tuple[int, bytes]], list[tuple[int, bytes, bytes]]]]]:
    """Header and frames."""
    data = path.read_bytes()
    at = 0

    def integer() -> int:
        nonlocal at
        at += 4
        return int.from_bytes(data[at - 4 : at], "little", signed=True)

    def take(count: int) -> bytes:
        nonlocal at
        at += count
        return data[at - count : at]

    header = [integer() for _ in range(5)]
    frames = []
    for _ in range(header[4]):
        assert integer() == 0, "status"
        patches = [(integer(), take(integer())) for _ in range(integer())]
        checks = []
        for _ in range(integer()):
            address, count = integer(), integer()
            checks.append((address, take(count), take(count)))
        frames.append((patches, checks))
    assert at == len(data)
    return header, frames


def test_frames_have_inputs_and_what_our_simulation_gave(bundle: Bundle, tmp_path: Path) -> None:
    engine = Engine(bundle.hls)
    pictures = [read_image(path) for path in samples()[:2]]
    facts = vectors.write(bundle, engine, pictures, tmp_path / "a.bin", tmp_path / "b.bin")
    header, frames = parse(tmp_path / "a.bin")
    program, lanes = bundle.program, bundle.program.lanes
    assert header == [0x56435453, lanes, program.memory_words, program.base, 3]
    assert facts["frames"] == 3, "noise is added"
    memory = np.zeros(program.memory_words * lanes, np.uint8)
    values = sum(np.prod(port.shape) for port in program.outputs.values())
    for patches, checks in frames:
        for address, data in patches:
            memory[address : address + len(data)] = np.frombuffer(data, np.uint8)
        assert engine.start(memory, lanes, program.base) == 0
        assert sum(sum(mask) for _, _, mask in checks) == values, "every output value once, and nothing else"
        for address, data, mask in checks:
            found = memory[address : address + len(data)]
            here = np.frombuffer(mask, np.uint8) != 0
            assert np.array_equal(found[here], np.frombuffer(data, np.uint8)[here])


def test_a_step_of_every_kind_fits_into_co_simulation(bundle: Bundle, tmp_path: Path) -> None:
    steps, left_out = vectors_steps.cosim_steps(bundle.program, bundle.config)
    assert left_out == 0
    chosen = [bundle.program.steps[i] for i in steps]
    assert {s.window for s in chosen} == {s.window for s in bundle.program.steps} <= set(WINDOWS)
    assert {s.pointwise for s in chosen} == {s.pointwise for s in bundle.program.steps} <= set(POINTWISE)
    facts = vectors.write(bundle, Engine(bundle.hls), [], tmp_path / "a.bin", tmp_path / "b.bin")
    header, frames = parse(tmp_path / "b.bin")
    assert header[2:] == [vectors_steps.COSIM_WORDS, 0, len(steps)] and facts["steps"] == len(steps)
    for _, checks in frames:
        assert sum(sum(mask) for _, _, mask in checks) > 0


def test_a_start_of_a_frame_sees_no_write_of_another_port(bundle: Bundle, tmp_path: Path) -> None:
    """What a step stores is nothing that it loads: a port may work on a copy."""
    vectors.write(bundle, Engine(bundle.hls), [], tmp_path / "a.bin", tmp_path / "b.bin")
    header, frames = parse(tmp_path / "b.bin")
    lanes, words = header[1], header[2]
    for patches, checks in frames:
        read = np.zeros(words * lanes, np.uint8)
        for address, data in patches:
            read[address : address + len(data)] = np.frombuffer(data, np.uint8)
        before = read.copy()
        written = read.copy()
        assert Engine(bundle.hls).start(written, lanes, 0) == 0
        changed = np.flatnonzero(written != before)
        for address, _, mask in checks:
            stored = address + np.flatnonzero(np.frombuffer(mask, np.uint8))
            changed = np.setdiff1d(changed, stored)
        assert changed.size == 0, "nothing is written beside what is compared"


def test_steps_are_cropped_to_rows_that_keep_their_relations(bundle: Bundle) -> None:
    config = replace(bundle.config, ring_rows=4)
    cropped = 0
    for step in bundle.program.steps:
        made = vectors_steps._cropped(step, config)
        stride = 1 if step.window == "pass" else step.stride[0]
        assert step.height - step.out_height * stride == made.height - made.out_height * stride
        assert all(made.height % (1 << s.up) == 0 for s in made.load)
        assert made.out_height <= step.out_height and vectors_steps._unchanged(made) <= made.out_height
        cropped += made != step
    assert cropped > 0


def test_a_cropped_step_computes_the_rows_of_the_whole_one(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer compares them itself: a step moved to a wrong place is found."""
    move = vectors_steps._moved

    def wrong(program, config, step, far):  # type: ignore[no-untyped-def]
        made = move(program, config, step, far)
        first = made.steps[0]
        load = (replace(first.load[0], address=made.steps[0].load[0].address + 1), *first.load[1:])
        return replace(
            made,
            arena=(made.arena[0], made.arena[1] + 64),
            steps=(replace(first, load=load), *made.steps[1:]),
        )

    monkeypatch.setattr(vectors_steps, "_moved", wrong)
    with pytest.raises((AssertionError, CodesignError)):
        vectors.write(bundle, Engine(bundle.hls), [], tmp_path / "a.bin", tmp_path / "b.bin")


def test_a_step_that_needs_too_much_memory_is_left_out(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (vectors, vectors_steps):
        monkeypatch.setattr(module, "COSIM_WORDS", 400)
    steps, left_out = vectors_steps.cosim_steps(bundle.program, bundle.config)
    assert left_out > 0 and len(steps) < len(bundle.program.steps)
    for module in (vectors, vectors_steps):
        monkeypatch.setattr(module, "COSIM_WORDS", 4)
    with pytest.raises(CodesignError, match="every step needs more than 4 words of memory.*Use --no-cosim"):
        vectors.write(bundle, Engine(bundle.hls), [], tmp_path / "a.bin", tmp_path / "b.bin")


def test_they_are_written_once(bundle: Bundle, tmp_path: Path) -> None:
    import json

    digest = design_digest(json.loads((bundle.directory / "manifest.json").read_text()))
    paths = tmp_path / "vectors.bin", tmp_path / "cosim.bin"
    first = vectors.refresh(bundle, digest, [], *paths)
    times = [p.stat().st_mtime_ns for p in paths]
    assert vectors.refresh(bundle, digest, [], *paths) == first
    assert [p.stat().st_mtime_ns for p in paths] == times
    paths[1].write_bytes(b"damaged")
    assert vectors.refresh(bundle, digest, [], *paths) == first, "made again, and the same"
    other = replace(bundle, program=replace(bundle.program, steps=bundle.program.steps[:-1]))
    assert vectors.refresh(other, digest, [], *paths) != first
    assert not list(tmp_path.glob(".*"))


def test_the_memory_of_co_simulation_is_the_depth_of_the_ports(bundle: Bundle) -> None:
    top = (bundle.hls / "top.cpp").read_text()
    assert top.count(f"depth={vectors_steps.COSIM_WORDS}\n") == top.count("m_axi ") == 4


@pytest.mark.parametrize("rows", ["narrow", "wide"])
def test_steps_with_gates_and_computed_weights_run_alone(rows: str) -> None:
    """Each kind in a memory of its own, with the bank that it mixes or the tiles that a step before has made.

    `step_frames` compares what such a step computes with what it did in its program.
    """
    graph = random_mixing_graph(2) if rows == "narrow" else with_wide(random_mixing_graph(2))
    planned = plan(graph, 4)
    program, config = planned.program, planned.config
    assert config.is_wide == (rows == "wide")
    steps, left_out = cosim_steps(program, config)
    chosen = [program.steps[i] for i in steps]
    assert left_out == 0 and {s.mixing.kind for s in chosen if s.mixing} == {"maps", "pick", "int4", "int8"}
    assert sum(s.weights is not None for s in chosen) == 2 and any(s.window == "global" for s in chosen)
    far = spilled(program, config)
    memory = np.zeros(max(program.memory_words, far.memory_words) * 4, np.uint8)
    memory[: program.memory().size] = program.memory()
    feed = {name: codes[0] for name, codes in random_feeds(graph).items()}
    frames = step_frames(program, far, config, Engine(sources(config)), memory, feed, steps)
    assert len(frames) == len(steps) and all(frame.checks[0][2].any() for frame in frames)
