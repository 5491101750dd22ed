"""The list of steps the engine walks, as dataclasses and as the bytes it reads from memory.

Words are `lanes` bytes; addresses count words from the start of memory. hls_templates/layout.hpp describes the
same layout and checks every field of it. Numpy only: the driver on a board uses this module as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from codesign.errors import CodesignError
from codesign.ports import Bytes, Port

PROGRAM_MAGIC = 0x43534450
PROGRAM_VERSION = 1
STEP_MARK = 0x53544550
HEADER_INTS, STEP_INTS, SEGMENT_INTS = 16, 32, 4
TAP_WORDS, REQUANT_WORDS = 9, 6
MAX_STEPS, MAX_SIDE, MAX_UP, MAX_STRIDE = 4096, 8192, 3, 4
MAX_KERNEL = 5  # side of a gathered window; others have at most 3

WINDOWS = ("pass", "depthwise", "deformable", "max-pool", "gather")
POINTWISE = ("none", "int4", "int8")
STATUS = {  # of layout.hpp, in words
    0: "done",
    1: "there is no program at that address",
    2: "the program was written for another version of the engine",
    3: "the program was written for another number of lanes",
    4: "the program's regions or counts are not inside the memory",
    5: "a descriptor has no mark, or sets unused fields",
    6: "height, width or words a pixel are out of range",
    7: "the number of segments or their words a pixel are out of range",
    8: "a segment to read leaves the arena",
    9: "a segment to write leaves the arena or overlaps what is read",
    10: "kind, kernel, stride, origin or reach of the window are out of range",
    11: "rows are too long or too many for the row buffer",
    12: "the offsets leave the arena or overlap what is written",
    13: "mode or size of the pointwise array are out of range",
    14: "weights or requantization rows lie outside the program",
    15: "a clamp is not an 8-bit range",
}


def status_text(status: int) -> str:
    """What a status word of the engine says: `step 3: a segment to read leaves the arena`."""
    code, step = status & 255, (status >> 8) - 1
    return ("" if step < 0 else f"step {step}: ") + STATUS.get(code, f"unknown status {code}")


@dataclass(frozen=True)
class EngineConfig:
    """Constants of config.hpp: what one bitstream can hold. A model that needs more is refused."""

    lanes: int = 16
    max_offset: int = 7  # bound D of deformable windows
    ultra: int = 0  # 1: weights, filters and their table lie in UltraRAM
    ring_rows: int = 16  # at least 2 * max_offset + 2
    row_words: int = 512  # of one input row of a window
    window_groups: int = 64  # words a pixel of a depthwise window
    input_words: int = 64  # words a pixel into the pointwise array, gathered taps included
    output_words: int = 64  # words a pixel out of one step of it
    weight_tiles: int = 1024  # lanes x lanes weights each
    max_segments: int = 32  # of a step's input, and of its output
    pack_log2: int = 0  # log2 of the pixels in a word of a packed image
    acc_bits: int = 32
    pixels: int = 1  # that the pointwise array computes at once
    turns: int = 1  # in which it computes a word of outputs: divides lanes

    def constants(self) -> dict[str, int]:
        """By their names in C++: kLanes, kMaxOffset, ..."""
        return {constant_name(f.name): getattr(self, f.name) for f in fields(self)}


def constant_name(field: str) -> str:
    """A field of EngineConfig as config.hpp spells it: `max_offset` is kMaxOffset."""
    return "k" + "".join(part.capitalize() for part in field.split("_"))


@dataclass(frozen=True)
class Segment:
    """`count` words of each pixel from `address` on, pixels `stride` words apart, 2^up times upsampled."""

    address: int
    count: int
    stride: int
    up: int = 0
    signed: bool = False


@dataclass(frozen=True)
class Step:
    """One pass through load, window, pointwise array and store. Parameters are words: (n, lanes) bytes."""

    nodes: tuple[str, ...]  # the values it computes, for people; not encoded
    load: tuple[Segment, ...]
    store: tuple[Segment, ...]
    height: int
    width: int
    groups: int
    out_height: int
    out_width: int
    packed: bool = False
    window: str = "pass"
    kernel: int = 3
    stride: tuple[int, int] = (1, 1)
    origin: tuple[int, int] = (0, 0)
    reach: int = 1
    window_clamp: tuple[int, int] = (0, 0)
    offset: Segment | None = None
    offset_lane: int = 0
    pointwise: str = "none"
    pointwise_in: int = 0
    pointwise_out: int = 0
    pointwise_clamp: tuple[int, int] = (0, 0)
    window_parameters: Bytes | None = field(default=None, compare=False)
    pointwise_parameters: Bytes | None = field(default=None, compare=False)

    @property
    def parameter_words(self) -> int:
        return sum(len(p) for p in (self.window_parameters, self.pointwise_parameters) if p is not None)


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

    @property
    def memory_words(self) -> int:
        """Size of the memory: what the engine is told it may touch."""
        return max(self.arena[1], self.base + program_words(self.steps, self.lanes))

    def encode(self) -> Bytes:
        """The program as it lies at `base`: header, descriptors, segments, parameters."""
        lanes, words = self.lanes, program_words(self.steps, self.lanes)
        image = np.zeros((words, lanes), np.uint8)
        header = [PROGRAM_MAGIC, PROGRAM_VERSION, lanes, len(self.steps), words, *self.arena]
        _put(image, 0, header)
        at = int_words(HEADER_INTS, lanes)
        table = at + len(self.steps) * int_words(STEP_INTS, lanes)
        parameters = table + sum(_table_words(step, lanes) for step in self.steps)
        for step in self.steps:
            segments = [v for s in (*step.load, *step.store) for v in _segment_ints(s)]
            _put(image, table, segments)
            addresses = []
            for blob in (step.window_parameters, step.pointwise_parameters):
                addresses.append(0 if blob is None else self.base + parameters)
                if blob is not None:
                    image[parameters : parameters + len(blob)] = blob
                    parameters += len(blob)
            _put(image, at, _step_ints(step, self.base + table, *addresses))
            at += int_words(STEP_INTS, lanes)
            table += _table_words(step, lanes)
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
    _, _, lanes, count, words, begin, end = header[:7]
    if lanes < 1 or code.size != words * lanes:
        raise CodesignError(f"program: {code.size} bytes, expected {words * lanes}. Build it again.")
    image = code.reshape(words, lanes)
    first, size = int_words(HEADER_INTS, lanes), int_words(STEP_INTS, lanes)
    steps = tuple(_decode_step(image, base, first + i * size) for i in range(count))
    return lanes, (begin, end), steps


def int_words(count: int, lanes: int) -> int:
    """Words that `count` 32-bit integers take."""
    return -(-4 * count // lanes)


def tile_words(lanes: int) -> int:
    """Words of lanes x lanes weights of four bits."""
    return (lanes + 1) // 2


def program_words(steps: tuple[Step, ...], lanes: int) -> int:
    """Words of an encoded program."""
    fixed = int_words(HEADER_INTS, lanes) + len(steps) * int_words(STEP_INTS, lanes)
    return fixed + sum(_table_words(step, lanes) + step.parameter_words for step in steps)


def _table_words(step: Step, lanes: int) -> int:
    return int_words(SEGMENT_INTS * (len(step.load) + len(step.store)), lanes)


def _put(image: Bytes, at: int, values: list[int]) -> None:
    flat = image.reshape(-1)
    data = np.array(values, "<i4").view(np.uint8)
    flat[at * image.shape[1] : at * image.shape[1] + data.size] = data


def _segment_ints(s: Segment) -> tuple[int, int, int, int]:
    return s.address, s.count, s.stride, s.up | 4 * s.signed


def _step_ints(step: Step, table: int, window_parameters: int, pointwise_parameters: int) -> list[int]:
    offset = step.offset or Segment(0, 1, 1)
    return [
        *(STEP_MARK, len(step.load), len(step.store), table),
        *(step.height, step.width, step.groups, int(step.packed)),
        *(WINDOWS.index(step.window), step.kernel, *step.stride, *step.origin, step.reach),
        *(step.out_height, step.out_width, *step.window_clamp, window_parameters),
        *(offset.address, offset.stride, offset.up, step.offset_lane),
        *(POINTWISE.index(step.pointwise), step.pointwise_in, step.pointwise_out),
        *(*step.pointwise_clamp, pointwise_parameters, 0),
    ]


def _decode_step(image: Bytes, base: int, at: int) -> Step:
    lanes = image.shape[1]
    f = image.reshape(-1)[at * lanes : at * lanes + 4 * STEP_INTS].view("<i4").tolist()
    table = (f[3] - base) * lanes
    rows = (
        image.reshape(-1)[table : table + 4 * SEGMENT_INTS * (f[1] + f[2])]
        .view("<i4")
        .reshape(-1, SEGMENT_INTS)
    )
    segments = [Segment(int(a), int(n), int(s), int(g) & 3, bool(g & 4)) for a, n, s, g in rows]
    window, pointwise = WINDOWS[f[8]], POINTWISE[f[24]]
    filters = f[6] * (TAP_WORDS + REQUANT_WORDS) if window in ("depthwise", "deformable") else 0
    tiles = f[24] * f[25] * f[26] * tile_words(lanes) + f[26] * REQUANT_WORDS if f[24] else 0
    return Step(
        nodes=(), load=tuple(segments[: f[1]]), store=tuple(segments[f[1] :]),
        height=f[4], width=f[5], groups=f[6], packed=bool(f[7]), window=window, kernel=f[9],
        stride=(f[10], f[11]), origin=(f[12], f[13]), reach=f[14], out_height=f[15], out_width=f[16],
        window_clamp=(f[17], f[18]), offset=Segment(f[20], 1, f[21], f[22]) if window == "deformable" else None,
        offset_lane=f[23], pointwise=pointwise, pointwise_in=f[25], pointwise_out=f[26],
        pointwise_clamp=(f[27], f[28]),
        window_parameters=image[f[19] - base : f[19] - base + filters] if filters else None,
        pointwise_parameters=image[f[29] - base : f[29] - base + tiles] if tiles else None,
    )  # fmt: skip
