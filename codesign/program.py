"""The list of steps the engine walks, and the bytes it reads from memory.

Words are `lanes` bytes; addresses count words from the start of memory. hls_templates/layout.hpp describes the
same layout and checks every field of it. Numpy only: the driver on a board uses this module as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from codesign.descriptor import STEP_INTS, decode_step, int_words, segment_ints, segment_words, step_ints
from codesign.errors import CodesignError
from codesign.ports import Bytes, Port
from codesign.step import Step, streamed_words

PROGRAM_MAGIC = 0x43534450
PROGRAM_VERSION = 4
HEADER_INTS = 16


@dataclass(frozen=True)
class Program:
    """Everything one frame needs: steps, and where inputs and outputs lie. `encode` gives the memory image."""

    lanes: int
    base: int  # word address of the header
    arena: tuple[int, int]  # words [begin, end) where tensors lie
    steps: tuple[Step, ...]
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    tensors: Mapping[str, Port] = field(default_factory=dict)  # those kept for comparison
    wide: bool = False  # whether rows of requantization are wide

    @property
    def memory_words(self) -> int:
        """Size of the memory: what the engine is told it may touch."""
        return max(self.arena[1], self.base + program_words(self.steps, self.lanes))

    def encode(self) -> Bytes:
        """The program as it lies at `base`: header, descriptors, segments, parameters."""
        lanes, words = self.lanes, program_words(self.steps, self.lanes)
        image = np.zeros((words, lanes), np.uint8)
        header = [PROGRAM_MAGIC, PROGRAM_VERSION, lanes, len(self.steps), words, *self.arena, int(self.wide)]
        _put(image, 0, header)
        at = int_words(HEADER_INTS, lanes)
        table = at + len(self.steps) * int_words(STEP_INTS, lanes)
        parameters = table + sum(segment_words(step, lanes) for step in self.steps)
        for step in self.steps:
            segments = [v for s in (*step.load, *step.store) for v in segment_ints(s)]
            addresses = []
            for blob in (*step.parameters, step.varied, step.bank):
                addresses.append(0 if blob is None else self.base + parameters)
                if blob is not None:
                    image[parameters : parameters + len(blob)] = blob
                    parameters += len(blob)
            if step.bank is not None:
                segments[0] = addresses[7]  # what it loads is in the program
            _put(image, table, segments)
            _put(image, at, step_ints(step, self.base + table, *addresses[:7]))
            at += int_words(STEP_INTS, lanes)
            table += segment_words(step, lanes)
        return image.reshape(-1)

    def memory(self) -> Bytes:
        """A fresh memory with the program in it."""
        image = np.zeros(self.memory_words * self.lanes, np.uint8)
        code = self.encode()
        image[self.base * self.lanes : self.base * self.lanes + code.size] = code
        return image


def decode(code: Bytes, base: int) -> tuple[int, tuple[int, int], tuple[Step, ...]]:
    """Lanes, arena and steps of an encoded program. Raises CodesignError where it is not one."""
    if code.size < 4 * HEADER_INTS:
        raise CodesignError(
            f"program: {code.size} bytes, expected a header of {4 * HEADER_INTS}. Build it again."
        )
    header = code[: 4 * HEADER_INTS].view("<i4").tolist()
    if header[0] != PROGRAM_MAGIC or header[1] != PROGRAM_VERSION:
        raise CodesignError(
            f"program: magic {header[0]:#x} version {header[1]}, expected {PROGRAM_MAGIC:#x} version "
            f"{PROGRAM_VERSION}. Build it again with this version of codesign."
        )
    _, _, lanes, count, words, begin, end, wide = header[:8]
    if lanes < 1 or code.size != words * lanes:
        raise CodesignError(f"program: {code.size} bytes, expected {words * lanes}. Build it again.")
    image = code.reshape(words, lanes)
    first, size = int_words(HEADER_INTS, lanes), int_words(STEP_INTS, lanes)
    steps = tuple(decode_step(image, base, first + i * size, bool(wide)) for i in range(count))
    return lanes, (begin, end), steps


def program_words(steps: tuple[Step, ...], lanes: int) -> int:
    """Words of an encoded program."""
    fixed = int_words(HEADER_INTS, lanes) + len(steps) * int_words(STEP_INTS, lanes)
    return fixed + sum(
        segment_words(step, lanes) + step.parameter_words + streamed_words(step) for step in steps
    )


def _put(image: Bytes, at: int, values: list[int]) -> None:
    flat = image.reshape(-1)
    data = np.array(values, "<i4").view(np.uint8)
    flat[at * image.shape[1] : at * image.shape[1] + data.size] = data
