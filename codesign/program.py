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
PROGRAM_VERSION = 4
STEP_MARK = 0x53544550
HEADER_INTS, STEP_INTS, SEGMENT_INTS = 16, 48, 4
TAP_WORDS, REQUANT_WORDS = 9, 6
TABLE_BYTES, TABLE_WIDE = 256, 4  # of a table, and of those that arrive in a cycle
MAX_STEPS, MAX_SIDE, MAX_UP, MAX_STRIDE = 4096, 8192, 3, 4
MAX_PARTS, MAX_SUMMED = 64, 1 << 22  # that gates multiply; pixels of a map that is summed
MAX_KERNEL = 5  # side of a gathered window; others have at most 3
LEAST_LINE = 2  # words of a row buffer of middle.hpp or tail.hpp, where there is one
LEAST_NEAR = 2  # words of a memory for maps, where there is one
ALWAYS = 256  # a branch's threshold that no byte reaches
LEAST_CHUNK = 512  # words of the buffers of load and store, at least

WINDOWS = (
    "pass", "depthwise", "deformable", "max-pool", "gather", "sampled", "varied", "global", "mix", "branch",
)  # fmt: skip
MIXES = ("maps", "pick", "int4", "int8")  # of gates: the latter two make weights
FILTERS, STEERED = (
    ("depthwise", "deformable", "sampled", "varied"),
    ("deformable", "sampled", "mix"),
)  # with weights; with offsets
UNRINGED = ("global", "mix")  # windows that look at no neighbours
TAPS = ("3x3", "1x9", "9x1", "1x1")  # of a sampled window
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
    16: "stride or size of what lies between the arrays are out of range",
    17: "stride or size of the max-pool behind the arrays are out of range",
    18: "a chunk is larger than the buffers of load and store",
    19: "which memory on chip is read is neither 0 nor 1",
    20: "grid, masks, taps or border of a sampled window are out of range",
    22: "the sum of a map is no pixel, or its words or the map are too many",
    23: "kind, parts, gates or sides of what gates multiply are out of range",
    24: "the table lies outside the program, or the engine has none",
    25: "a branch looks outside the arena, leads back, or sets unused fields",
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
    sum_bits: int = 33  # of an accumulator and its bias
    mult_bits: int = 8  # of a requantization's factor, and how far it shifts
    most_shift: int = 42
    lefts: int = 10  # shifts by 0, -1, ... that there are
    tap_bits: int = 8  # of a depthwise weight
    arrays: int = 1  # pointwise arrays: with two, steps can be chains
    pixels: int = 1  # that each of them computes at once
    turns: int = 1  # in which it computes a word of outputs: divides lanes
    fabric: int = 0  # of them, pixels whose multipliers are made of LUTs
    middle_words: int = 1  # of a row between the arrays
    middle_groups: int = 1  # words a pixel between the arrays
    pool_words: int = 1  # of a row that is pooled behind the arrays; 1: nothing is
    pool_groups: int = 1  # words a pixel of it
    sampler: int = 0  # 1 + bits of fraction of offsets of sampled windows; 0: there are none
    tables: int = 0  # 1: what is stored can be looked up in a table of 256 entries
    global_words: int = 0  # words a pixel of a map that is summed; 0: none is
    mixer: int = 0  # words a pixel that gates multiply, and words of gates; 0: there are none
    near_words: int = 1  # of each of the two memories for maps that stay on chip; 1: none does
    branches: int = 0  # 1: steps can be skipped; 0: every step runs in every frame
    sampler_shapes: int = 0  # 1: sampled windows of other taps, and limited to the map; 0: 3x3 alone
    weight_stream: int = 0  # 1: windows with weights of their own at every pixel; 0: there are none

    @property
    def chunk_words(self) -> int:
        """Words of a chunk of load or store: ChunkSize of layout.hpp."""
        return max(LEAST_CHUNK, self.row_words + self.input_words, self.arrays * self.output_words)

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
    near: bool = False  # in a memory on chip, at a word of it


@dataclass(frozen=True)
class Sampling:
    """Of a sampled window: bits of fraction of an offset, and limits of masks; equal: there are none.

    With `border`, what lies outside the map is its nearest pixel; what is `still` has masks and no offsets.
    """

    grid: int = 0
    mask_low: int = 0
    mask_high: int = 0
    taps: str = "3x3"
    border: bool = False
    still: bool = False

    @property
    def masked(self) -> bool:
        return self.mask_low != self.mask_high

    @property
    def count(self) -> int:
        """Of taps: cycles in which a word leaves the window."""
        return 1 if self.taps == "1x1" else TAP_WORDS

    @property
    def shaped(self) -> bool:
        """Whether it is more than 3x3 with zeros around the map."""
        return self.taps != "3x3" or self.border or self.still

    @property
    def flags(self) -> int:
        return int(self.masked) | 2 * self.border | 4 * TAPS.index(self.taps) | 16 * self.still

    def words(self, lanes: int) -> int:
        """Of the offsets and masks of a pixel."""
        return -(-self.count * (2 * (not self.still) + self.masked) // lanes)


@dataclass(frozen=True)
class Branch:
    """Leads to step `target` if the number at the step's `offset` is below `threshold`, else to the next step."""

    threshold: int
    target: int

    @property
    def always(self) -> bool:
        """Whether no number reaches the threshold: such a branch need not look."""
        return self.threshold >= ALWAYS


@dataclass(frozen=True)
class Mixing:
    """Of a window that mixes: what is made, in how many words a pixel; for picks the least gate of a mean."""

    kind: str = "maps"
    out: int = 1
    threshold: int = 0

    @property
    def makes_weights(self) -> bool:
        return self.kind in MIXES[2:]

    def gate_words(self, groups: int, lanes: int) -> int:
        """Of a step that loads so many words a pixel."""
        if self.makes_weights:
            return -(-groups // lanes)
        return self.out if self.kind == "pick" else groups


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
    sampling: Sampling | None = None
    mixing: Mixing | None = None
    pointwise: str = "none"
    pointwise_in: int = 0
    pointwise_out: int = 0
    pointwise_clamp: tuple[int, int] = (0, 0)
    second: str = "none"  # the second array: further words of the same result, or what follows the middle
    second_out: int = 0
    second_clamp: tuple[int, int] = (0, 0)
    middle_stride: int = 0  # of a 3x3 depthwise between the arrays; 0: there is none
    middle_clamp: tuple[int, int] = (0, 0)
    pool_stride: int = 0  # of a 3x3 max-pool of what leaves; 0: there is none
    load_pixels: int = 1  # of a chunk
    store_pixels: int = 1
    near: int = 0  # of the two memories on chip, the one that is read; the other is written
    branch: Branch | None = (
        None  # of a step that computes nothing: `offset` and `offset_lane` say where it looks
    )
    weights: tuple[int, int] | None = (
        None  # where the arrays' tiles lie in the arena that a step before makes
    )
    window_parameters: Bytes | None = field(default=None, compare=False)
    pointwise_parameters: Bytes | None = field(default=None, compare=False)
    second_parameters: Bytes | None = field(default=None, compare=False)
    middle_parameters: Bytes | None = field(default=None, compare=False)
    table: Bytes | None = field(default=None, compare=False)  # that every code is looked up in
    varied: Bytes | None = field(default=None, compare=False)  # weights of every pixel: nine words a group
    bank: Bytes | None = field(default=None, compare=False)  # what a step that makes weights mixes
    rows: Bytes | None = field(
        default=None, compare=False
    )  # of requantization of both arrays, beside `weights`

    @property
    def parameters(self) -> tuple[Bytes | None, ...]:
        """What is brought before the step runs, in the order in which it is encoded."""
        return (
            self.window_parameters,
            self.pointwise_parameters,
            self.second_parameters,
            self.middle_parameters,
            self.table,
            self.rows,
        )

    @property
    def parameter_words(self) -> int:
        return sum(len(p) for p in self.parameters if p is not None)

    def tiles(self, lanes: int) -> tuple[int, int]:
        """Words of the tiles of each array."""
        sizes = (
            POINTWISE.index(self.pointwise) * self.pointwise_in * self.pointwise_out,
            POINTWISE.index(self.second) * self.second_in * self.second_out,
        )
        return sizes[0] * tile_words(lanes), sizes[1] * tile_words(lanes)

    def brought_words(self, lanes: int) -> int:
        """Weights and tables that are read before the step runs."""
        return self.parameter_words + (sum(self.tiles(lanes)) if self.weights else 0)

    @property
    def waits(self) -> bool:
        """Whether what the step before it writes decides what it is: it is prepared behind that one."""
        return self.weights is not None or (self.branch is not None and not self.branch.always)

    @property
    def second_in(self) -> int:
        """Words a pixel into the second array."""
        return self.pointwise_out if self.middle_stride else self.pointwise_in

    @property
    def middle_shape(self) -> tuple[int, int]:
        """Height and width of what the second array gets, and of what leaves the arrays."""
        return shrunk(self.out_height, self.middle_stride), shrunk(self.out_width, self.middle_stride)

    @property
    def stored_shape(self) -> tuple[int, int]:
        """Height and width of the result."""
        height, width = self.middle_shape
        return shrunk(height, self.pool_stride), shrunk(width, self.pool_stride)


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
            addresses = []
            for blob in (*step.parameters, step.varied, step.bank):
                addresses.append(0 if blob is None else self.base + parameters)
                if blob is not None:
                    image[parameters : parameters + len(blob)] = blob
                    parameters += len(blob)
            if step.bank is not None:
                segments[0] = addresses[7]  # what it loads is in the program
            _put(image, table, segments)
            _put(image, at, _step_ints(step, self.base + table, *addresses[:7]))
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


def shrunk(side: int, stride: int) -> int:
    """A side behind a 3x3 window of that stride, one zero around the map; 0: behind none."""
    return -(-side // stride) if stride else side


def int_words(count: int, lanes: int) -> int:
    """Words that `count` 32-bit integers take."""
    return -(-4 * count // lanes)


def tile_words(lanes: int) -> int:
    """Words of lanes x lanes weights of four bits."""
    return (lanes + 1) // 2


def program_words(steps: tuple[Step, ...], lanes: int) -> int:
    """Words of an encoded program."""
    fixed = int_words(HEADER_INTS, lanes) + len(steps) * int_words(STEP_INTS, lanes)
    return fixed + sum(
        _table_words(step, lanes) + step.parameter_words + streamed_words(step) for step in steps
    )


def streamed_words(step: Step) -> int:
    """Words of the program that a step reads while it runs."""
    return varied_words(step) + (0 if step.bank is None else len(step.bank))


def varied_words(step: Step) -> int:
    """Words of the weights that a varied window reads while it runs."""
    return 0 if step.varied is None else len(step.varied)


def window_tables(step: Step) -> int:
    """Groups of requantization rows of a window."""
    if step.mixing is not None:
        return step.height if step.mixing.makes_weights else step.mixing.out
    return step.groups if step.window == "global" or step.window in FILTERS else 0


def _table_words(step: Step, lanes: int) -> int:
    return int_words(SEGMENT_INTS * (len(step.load) + len(step.store)), lanes)


def _put(image: Bytes, at: int, values: list[int]) -> None:
    flat = image.reshape(-1)
    data = np.array(values, "<i4").view(np.uint8)
    flat[at * image.shape[1] : at * image.shape[1] + data.size] = data


def _segment_ints(s: Segment) -> tuple[int, int, int, int]:
    return s.address, s.count, s.stride, s.up | 4 * s.signed | 8 * s.near


def _step_ints(
    step: Step, table: int, window_parameters: int, pointwise_parameters: int, second_parameters: int,
    middle_parameters: int, values: int, rows: int, varied: int,
) -> list[int]:  # fmt: skip
    if step.branch is not None:
        return _branch_ints(step, step.branch)
    offset, sampling, mixing = step.offset or Segment(0, 1, 1), step.sampling, step.mixing
    if step.window == "varied":
        offset = Segment(varied, TAP_WORDS * step.groups, TAP_WORDS * step.groups)
    last = [0, 0, 0, rows]  # fields of the window
    if sampling is not None:
        last = [sampling.grid, sampling.flags, sampling.mask_low, sampling.mask_high]
    elif mixing is not None:
        last = [MIXES.index(mixing.kind), mixing.out, mixing.threshold, rows]
    if step.weights is not None:
        pointwise_parameters, second_parameters = step.weights
    return [
        *(STEP_MARK, len(step.load), len(step.store), table),
        *(step.height, step.width, step.groups, int(step.packed)),
        *(WINDOWS.index(step.window), step.kernel, *step.stride, *step.origin, step.reach),
        *(step.out_height, step.out_width, *step.window_clamp, window_parameters),
        *(offset.address, offset.stride, offset.up, step.offset_lane),
        *(POINTWISE.index(step.pointwise), step.pointwise_in, step.pointwise_out),
        *(*step.pointwise_clamp, pointwise_parameters),
        *(POINTWISE.index(step.second), step.second_out, *step.second_clamp, second_parameters),
        *(step.middle_stride, *step.middle_clamp, middle_parameters, step.pool_stride),
        *(step.load_pixels, step.store_pixels, step.near, values),
        *last,
    ]


def _branch_ints(step: Step, branch: Branch) -> list[int]:
    """All fields but those that a branch has are 0."""
    found = [0] * STEP_INTS
    found[0], found[8] = STEP_MARK, WINDOWS.index("branch")
    where = step.offset or Segment(0, 1, 1)
    found[20], found[23] = where.address, step.offset_lane
    found[44:47] = branch.threshold, branch.target, int(where.signed)
    return found


def branch_step(gate: Segment | None, lane: int, branch: Branch, nodes: tuple[str, ...] = ()) -> Step:
    """A step that computes nothing and says which step follows, by byte `lane` of the word where `gate` is.

    One that always leads elsewhere looks at nothing.
    """
    return Step(
        nodes=nodes, load=(), store=(), height=0, width=0, groups=0, out_height=0, out_width=0, window="branch",
        offset=gate, offset_lane=lane, branch=branch,
    )  # fmt: skip


def _decode_step(image: Bytes, base: int, at: int) -> Step:
    lanes = image.shape[1]
    f = image.reshape(-1)[at * lanes : at * lanes + 4 * STEP_INTS].view("<i4").tolist()
    if WINDOWS[f[8]] == "branch":
        branch = Branch(f[44], f[45])
        return branch_step(None if branch.always else Segment(f[20], 1, 1, 0, bool(f[46])), f[23], branch)
    table = (f[3] - base) * lanes
    rows = (
        image.reshape(-1)[table : table + 4 * SEGMENT_INTS * (f[1] + f[2])]
        .view("<i4")
        .reshape(-1, SEGMENT_INTS)
    )
    segments = [Segment(int(a), int(n), int(s), int(g) & 3, bool(g & 4), bool(g & 8)) for a, n, s, g in rows]
    window, pointwise = WINDOWS[f[8]], POINTWISE[f[24]]
    filters = f[6] * (TAP_WORDS * (window != "varied") + REQUANT_WORDS) if window in FILTERS else 0
    sampling = (
        Sampling(f[44], f[46], f[47], TAPS[f[45] >> 2 & 3], bool(f[45] & 2), bool(f[45] & 16))
        if window == "sampled"
        else None
    )
    varied = f[15] * f[16] * f[6] * TAP_WORDS if window == "varied" else 0
    mixing = Mixing(MIXES[f[44]], f[45], f[46]) if window == "mix" else None
    numbers = 1 if sampling is None else sampling.words(lanes)
    if window == "global":
        filters = f[6] * REQUANT_WORDS
    if mixing is not None:
        filters = (f[4] if mixing.makes_weights else mixing.out) * REQUANT_WORDS
        numbers = mixing.gate_words(f[6], lanes)
    bank = (
        (segments[0].address, f[4] * f[5] * f[6])
        if mixing is not None and mixing.makes_weights
        else (base, 0)
    )
    computed = sampling is None and f[47] != 0
    second_in = f[26] if f[35] else f[25]
    tiles = f[24] * f[25] * f[26] * tile_words(lanes) + f[26] * REQUANT_WORDS if f[24] else 0
    second = f[30] * second_in * f[31] * tile_words(lanes) + f[31] * REQUANT_WORDS if f[30] else 0
    if computed:
        tiles = second = 0
    middle = f[26] * (TAP_WORDS + REQUANT_WORDS) if f[35] else 0

    def words(at: int, count: int) -> Bytes | None:
        return image[at - base : at - base + count] if count else None

    return Step(
        nodes=(), load=tuple(segments[: f[1]]), store=tuple(segments[f[1] :]),
        height=f[4], width=f[5], groups=f[6], packed=bool(f[7]), window=window, kernel=f[9],
        stride=(f[10], f[11]), origin=(f[12], f[13]), reach=f[14], out_height=f[15], out_width=f[16],
        window_clamp=(f[17], f[18]), offset=Segment(f[20], numbers, f[21], f[22]) if window in STEERED else None,
        offset_lane=f[23], sampling=sampling, mixing=mixing, weights=(f[29], f[34]) if computed else None,
        bank=words(*bank), rows=words(f[47], (f[26] + f[31] * bool(f[30])) * REQUANT_WORDS) if computed else None,
        pointwise=pointwise, pointwise_in=f[25], pointwise_out=f[26],
        pointwise_clamp=(f[27], f[28]),
        second=POINTWISE[f[30]], second_out=f[31], second_clamp=(f[32], f[33]), middle_stride=f[35],
        middle_clamp=(f[36], f[37]), pool_stride=f[39], load_pixels=f[40], store_pixels=f[41], near=f[42],
        window_parameters=words(f[19], filters), pointwise_parameters=words(f[29], tiles),
        second_parameters=words(f[34], second), middle_parameters=words(f[38], middle),
        table=words(f[43], TABLE_BYTES // lanes if f[43] else 0),
        varied=words(f[20], varied),
    )  # fmt: skip
