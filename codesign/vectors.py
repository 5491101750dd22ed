"""Test vectors for the vendor's simulators: what our own C simulation computed, as frames of hls_templates/main.cpp.

C simulation runs whole frames, RTL co-simulation single steps (vectors_steps.py).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from codesign.bundle import Bundle
from codesign.csim import Engine, Frame, write_vectors
from codesign.errors import CodesignError
from codesign.images import Pixels, letterbox, to_codes
from codesign.near import spilled
from codesign.ports import Bytes, Port
from codesign.program import Program
from codesign.rungs import simulator_of
from codesign.synth_files import file_digest, is_file_of, read_json, write_json
from codesign.vectors_steps import COSIM_BASE, COSIM_WORDS, cosim_steps, run, step_frames


def refresh(
    bundle: Bundle, digest: str, pictures: Sequence[Pixels], csim: Path, cosim: Path
) -> dict[str, str]:
    """Write both files unless they are of this design (`digest`), program and pictures. Returns digests by file name.

    vectors.json beside them says what they are of.
    """
    key = hashlib.sha256(digest.encode() + bundle.program.encode().tobytes())
    for picture in pictures:
        key.update(repr(picture.shape).encode() + picture.tobytes())
    record = csim.with_name("vectors.json")
    known = read_json(record)
    if known.get("key") != key.hexdigest() or not all(
        is_file_of(path, known.get(path.name, "")) for path in (csim, cosim)
    ):
        beside = [path.with_name(f".{path.name}.new") for path in (csim, cosim)]
        facts = write(bundle, Engine(bundle.hls), pictures, beside[0], beside[1])
        for new, path in zip(beside, (csim, cosim), strict=True):
            os.replace(new, path)
        known = {"key": key.hexdigest(), **{path.name: file_digest(path) for path in (csim, cosim)}, **facts}
        write_json(record, known)
    return {path.name: str(known[path.name]) for path in (csim, cosim)}


def write(
    bundle: Bundle, engine: Engine, pictures: Sequence[Pixels], csim: Path, cosim: Path
) -> dict[str, int]:
    """Both files, from the bundle's design and program. Returns frames in each, and kinds of step left out.

    Inputs that take no picture get noise, which is the same every time. Raises EngineFailed, or CodesignError if no
    step fits into co-simulation.
    """
    memory = simulator_of(bundle, engine).memory
    program, lanes = bundle.program, bundle.program.lanes
    feeds = [_codes(program, picture, seed) for seed, picture in enumerate([*pictures, None])]
    frames = list(_frames(program, engine, memory, feeds))
    write_vectors(csim, frames, memory.size, lanes, program.base)
    steps, left_out = cosim_steps(program, bundle.config)
    if not steps:
        raise CodesignError(
            f"{bundle.directory}: every step needs more than {COSIM_WORDS} words of memory, which is what "
            "co-simulation has. Use --no-cosim."
        )
    far = spilled(program, bundle.config)
    memory = np.concatenate([memory, np.zeros(far.memory_words * lanes - memory.size, np.uint8)])
    small = step_frames(program, far, bundle.config, engine, memory, feeds[0], steps)
    write_vectors(cosim, small, COSIM_WORDS * lanes, lanes, COSIM_BASE)
    return {"frames": len(frames), "steps": len(small), "left_out": left_out}


def _codes(program: Program, picture: Pixels | None, seed: int) -> dict[str, np.ndarray]:
    """Codes for every input; noise from `seed` where there is no picture or the input takes none."""
    random = np.random.default_rng(seed)
    feeds = {}
    for name, port in program.inputs.items():
        low, high = (-128, 127) if port.signed else (0, 255)
        if picture is not None and port.shape[2] == 3:
            feeds[name] = to_codes(letterbox(picture, port.shape[0], port.shape[1])[0], port.signed)
        else:
            feeds[name] = random.integers(low, high + 1, port.shape).astype(np.int16)
    return feeds


def _frames(
    program: Program, engine: Engine, fresh: Bytes, feeds: Sequence[dict[str, np.ndarray]]
) -> Iterator[Frame]:
    """One frame for each feed: inputs, and the outputs of our own simulation."""
    lanes = program.lanes
    start = program.base * lanes
    code = fresh[start : start + program.encode().size].copy()
    memory = fresh.copy()
    for i, feed in enumerate(feeds):
        patches = [(start, code)] if i == 0 else []
        for name, port in program.inputs.items():
            port.write(memory, lanes, feed[name])
            patches += [(at, memory[at : at + size].copy()) for at, size in _ranges(port, lanes)]
        run(engine, memory, lanes, program.base)
        checks = []
        for port in program.outputs.values():
            mask = _mask(port, memory.size, lanes)
            checks += [
                (at, memory[at : at + size].copy(), mask[at : at + size]) for at, size in _ranges(port, lanes)
            ]
        yield Frame(patches, checks)


def _ranges(port: Port, lanes: int) -> list[tuple[int, int]]:
    """First byte and size of each piece."""
    return [(p.address * lanes, (port.shape[0] >> p.up) * p.row) for p in port.pieces]


def _mask(port: Port, size: int, lanes: int) -> Bytes:
    """1 for every byte of memory that carries a channel of the port."""
    mask = np.zeros(size, np.uint8)
    for piece in port.pieces:
        height, width = port.shape[0] >> piece.up, port.shape[1] >> piece.up
        at = piece.address * lanes
        rows = mask[at : at + height * piece.row].reshape(height, piece.row)
        pixels = rows[:, : width * piece.record].reshape(height, width, piece.record)
        pixels[..., list(piece.positions)] = 1
    return mask
