"""Cycles of the processes of a step, by the contracts of hls_templates/*.hpp: what each takes alone, and in a chain.

Names of processes as in the headers. `fetch`, `arrange` and `collect`, `emit` are the two halves of load and store.
Depths of the pipelines are small beside the rest; they are those that the headers state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, prod

from codesign.dram import Dram
from codesign.program import (
    FILTERS,
    REQUANT_WORDS,
    SAMPLE_TURNS,
    SEGMENT_INTS,
    STEP_INTS,
    TAP_WORDS,
    EngineConfig,
    Segment,
    Step,
    int_words,
    tile_words,
)

ENTRY = 2  # cycles to enter and leave a pipelined loop
SLOTS = 4  # kSlots of layout.hpp
PASSES = {"none": 0, "int4": 1, "int8": 2}  # of the pointwise array
FETCHED, LOADED, WINDOWED, SUMMED = 32, 2, 32, 2  # depths of the streams behind fetch, load, window and array
PRODUCTS = 6  # cycles between loops
READ, FETCH, STRAIGHT, ARRANGE, WINDOW, ARRAY, FINISH, COLLECT, EMIT = 4, 3, 2, 8, 18, 24, 12, 4, 3  # depths
POOL = 8


def row_words(step: Step, config: EngineConfig) -> int:
    """Words of one input row."""
    return ceil(step.width / (1 << config.pack_log2)) if step.packed else step.width * step.groups


def window_words(step: Step, config: EngineConfig) -> int:
    """Words in which a pixel leaves the window."""
    if step.window != "gather":
        return step.groups
    taps = step.kernel**2
    return ceil(taps / (1 << config.pack_log2)) if step.packed else taps * step.groups


def window_turns(step: Step) -> int:
    """Cycles in which a word leaves the window."""
    return SAMPLE_TURNS if step.window == "sampled" else 1


def store_words(step: Step, config: EngineConfig) -> int:
    """Words in which a pixel leaves the step."""
    first = step.pointwise_out if PASSES[step.pointwise] else window_words(step, config)
    return (0 if step.middle_stride else first) + (step.second_out if PASSES[step.second] else 0)


def window_rows(step: Step, config: EngineConfig) -> Iterator[tuple[int, int]]:
    """Words that arrive and turns of words that leave while window.hpp is at a row; the first only fills the ring."""
    into = row_words(step, config)
    out = step.out_width * window_words(step, config) * window_turns(step)
    fetched = 0
    for y in range(-1, step.out_height):
        needed = min(step.origin[0] + y * step.stride[0] + step.stride[0] + step.reach + 1, step.height)
        target = step.height if y + 1 == step.out_height else max(needed, fetched)
        yield (target - fetched) * into, 0 if y < 0 else out
        fetched = target


def window_cycles(step: Step, config: EngineConfig) -> int:
    """Of window.hpp if it never waits: in every row the words that arrive or turns of those that leave, the longer."""
    if step.window == "pass":
        return step.height * step.width * step.groups
    return sum(max(into, out) for into, out in window_rows(step, config))


@dataclass(frozen=True)
class Matrix:
    """What one array does in a step."""

    into: int  # words a pixel
    out: int
    passes: int
    height: int
    width: int

    @property
    def tiles(self) -> int:
        return self.passes * self.into * self.out

    def block(self, config: EngineConfig) -> int:
        """Cycles of pointwise.hpp for a block of pixels: the words that arrive or the products, whichever are more."""
        return max(config.pixels * self.into, self.tiles * config.turns)

    def stalled(self, config: EngineConfig) -> int:
        """Cycles of a block that the array waits as its sums are taken a pixel a cycle: SUMMED words and one later."""
        products = self.tiles * config.turns
        return max(0, (self.out - SUMMED - 1) * config.pixels + products // self.out - products)

    def blocks(self, config: EngineConfig) -> int:
        return ceil(self.height * self.width / config.pixels)

    def emptied(self, block: float, config: EngineConfig) -> float:
        """From what arrives last to the last sums: a block not full takes as long, and so does the one behind it."""
        return (self.blocks(config) - self.height * self.width / config.pixels + 1) * block + ARRAY


def matrices(step: Step) -> tuple[Matrix, ...]:
    """Of the first array, and of the second: none if the step multiplies nothing."""
    first, second = PASSES[step.pointwise], PASSES[step.second]
    found = (
        [Matrix(step.pointwise_in, step.pointwise_out, first, step.out_height, step.out_width)]
        if first
        else []
    )
    if second:
        found.append(Matrix(step.second_in, step.second_out, second, *step.middle_shape))
    return tuple(found)


def line_cycles(height: int, width: int, words: int) -> int:
    """Turns of lines.hpp for a map."""
    return (height + 1) * (width + 1) * max(words, SLOTS)


@dataclass(frozen=True)
class Part:
    """What a step moves of one segment in one chunk: words in so many requests of DRAM, or in runs of a near memory."""

    words: int
    runs: int
    near: bool

    def wait(self, memory: Dram) -> float:
        """From the request to its first word, or to the response."""
        return (0 if self.near else memory.latency) + ENTRY + FETCH

    def pace(self, memory: Dram) -> float:
        """Cycles of a word."""
        return 1.0 if self.near else memory.word_cycles

    def cycles(self, memory: Dram) -> float:
        return self.runs * self.wait(memory) + self.words * self.pace(memory)


@dataclass(frozen=True)
class Transfer:
    """What a step moves between memories and the stages: one process that moves and one that orders words."""

    words: int  # on the step's side
    chunks: tuple[tuple[Part, ...], ...]
    uses: tuple[int, ...]  # words of each chunk on the step's side
    segments: int
    straight: bool

    @property
    def moved(self) -> int:
        """Words from or to DRAM."""
        return sum(part.words for chunk in self.chunks for part in chunk if not part.near)

    def port_cycles(self, memory: Dram, chunk: int | None = None) -> float:
        """Of the process that moves: each request waits for its first word or for its response."""
        chosen = self.chunks if chunk is None else self.chunks[chunk : chunk + 1]
        return sum(
            sum(part.cycles(memory) for part in parts)
            + min(sum(part.runs for part in parts), self.segments) * PRODUCTS
            for parts in chosen
        )

    def wait(self, memory: Dram, chunk: int) -> int:
        """Latency of the memory that a chunk's first or last words are in."""
        return 0 if self.chunks[chunk][chunk].near else memory.latency


def loaded(step: Step, config: EngineConfig) -> Transfer:
    """What load.hpp does for a step."""
    plain = all(s.up == 0 for s in step.load)
    columns = row_words(step, config) if step.packed else step.width
    rows, columns = (1, step.height * columns) if plain else (step.height, columns)
    straight = plain and len(step.load) == 1
    pixels = columns if straight else min(step.load_pixels, columns)
    repeats = 1 << (min(s.up for s in step.load) if pixels == columns else 0)
    chunks, uses = [], []
    for first in range(0, columns, pixels):
        here = min(pixels, columns - first)
        chunks.append(tuple(_part(s, first, here) for s in step.load))
        uses.append(here * step.groups * repeats)
    times = rows // repeats
    words = rows * columns * step.groups
    return Transfer(words, tuple(chunks) * times, tuple(uses) * times, len(step.load), straight)


def stored(step: Step, config: EngineConfig) -> Transfer:
    """What store.hpp does for a step."""
    all_pixels, words = prod(step.stored_shape), store_words(step, config)
    straight = len(step.store) == 1
    pixels = all_pixels if straight else min(step.store_pixels, all_pixels)
    chunks, uses = [], []
    for first in range(0, all_pixels, pixels):
        here = min(pixels, all_pixels - first)
        chunks.append(tuple(_part(s, first, here) for s in step.store))
        uses.append(here * words)
    return Transfer(all_pixels * words, tuple(chunks), tuple(uses), len(step.store), straight)


def offset_words(step: Step) -> int:
    """Words that hold offsets. Rows that upsampling repeats are fetched again."""
    if step.offset is None:
        return 0
    return step.out_height * (step.out_width >> step.offset.up) * step.offset.count


def _part(segment: Segment, first: int, pixels: int) -> Part:
    """Of pixels [first, first + pixels) of a row."""
    count = ((first + pixels - 1) >> segment.up) - (first >> segment.up) + 1
    return Part(count * segment.count, 1 if segment.stride == segment.count else count, segment.near)


def read_cycles(words: int, memory: Dram) -> float:
    """Of a loop that reads a run of the program, and nothing else."""
    return ENTRY + memory.latency + words * max(memory.word_cycles, 1.0) + READ if words else 0.0


def described_cycles(step: Step, memory: Dram) -> float:
    """Of a step's descriptor and its table of segments."""
    entries = SEGMENT_INTS * (len(step.load) + len(step.store))
    return read_cycles(int_words(STEP_INTS, memory.word_bytes), memory) + read_cycles(
        int_words(entries, memory.word_bytes), memory
    )


def filter_words(step: Step) -> int:
    """Taps and requantization rows of a step's window."""
    return (TAP_WORDS + REQUANT_WORDS) * step.groups if step.window in FILTERS else 0


def parameter_cycles(step: Step, config: EngineConfig, memory: Dram) -> float:
    """Of weights and tables: for each array a run for its table and one for its weights, and one for each depthwise."""
    middle = TAP_WORDS + REQUANT_WORDS if step.middle_stride else 0
    runs = [filter_words(step), middle * step.pointwise_out]
    for matrix in matrices(step):
        runs += [REQUANT_WORDS * matrix.out, matrix.tiles * tile_words(config.lanes)]
    return sum(read_cycles(words, memory) for words in runs)


def arranged(load: Transfer, memory: Dram, pace: float) -> tuple[float, float]:
    """When the first word leaves load.hpp, and when a reader that takes one in `pace` cycles has the last.

    The words of a chunk leave in the loop that takes those of the next: as long as a request of these has no word, none
    leaves. What has left before waits in the streams up to the reader, and no more of it than they hold.
    """
    room = (WINDOWED + LOADED) * pace
    pushed = taken = read = float(PRODUCTS)  # last words: of fetch, of arrange, of the reader
    first = 0.0
    for arriving, leaving in zip((*load.chunks, ()), (0, *load.uses), strict=True):
        taken += PRODUCTS + 2 * load.segments + ENTRY + ARRANGE
        left = leaving
        for part in arriving:
            wait = part.wait(memory)
            here = pushed + PRODUCTS + wait  # its first word
            length = part.cycles(memory) - wait
            begin, given = max(taken, here), min(part.words, left)
            first = first or (begin if given else 0.0)
            behind = max(read, begin) + given * pace
            taken = max(begin + length, behind - room if given else 0.0)
            pushed = max(here + length, taken - FETCHED)
            read, left = max(read, behind, taken) if given else read, left - given
        if left:
            first = first or taken
            read = max(read, taken) + left * max(pace, 1.0)
            taken = max(taken + left, read - room)
    return first, read


def _stored_last(store: Transfer, memory: Dram) -> float:
    """What a store that orders chunks does after its last word: words of a chunk leave as those of the next arrive."""
    last = len(store.chunks) - 1
    rest = store.port_cycles(memory, last) + PRODUCTS + ENTRY + COLLECT
    if last > 0:
        share = max(0.0, 1 - store.uses[last] / store.uses[last - 1])
        rest += share * store.port_cycles(memory, last - 1) + PRODUCTS + ENTRY + COLLECT
    return rest


@dataclass(frozen=True)
class Chain:
    """Cycles of a step's processes, each if the others never make it wait, and of all of them together."""

    stages: dict[str, int]
    cycles: int


def chain(step: Step, config: EngineConfig, memory: Dram, after: Sequence[Step] = ()) -> Chain:
    """The processes of a step, from the first request to the last response. `after`: the next step, if there is one."""
    load, store = loaded(step, config), stored(step, config)
    pixels = step.out_height * step.out_width
    offsets = offset_words(step)
    into, arrays, chained = window_words(step, config), matrices(step), bool(step.middle_stride)
    own, beside = (load.moved, offsets, store.moved), sum(s.parameter_words for s in after)
    shared = memory.cycles(*own, beside)
    whole = step.window == "pass"

    # What comes behind the window: blocks of pixels, and a while from their last word to the last response.
    emit = store.port_cycles(memory)
    collect = (
        float(store.words) if store.straight else sum(u + PRODUCTS + ENTRY + COLLECT for u in store.uses)
    )
    overlapped = emit - (
        store.wait(memory, -1) if store.straight else store.port_cycles(memory, len(store.chunks) - 1)
    )
    left = store.words
    end = float(store.wait(memory, -1) + ENTRY + EMIT + FETCH)
    if not store.straight:
        end += _stored_last(store, memory)
    if step.pool_stride:
        left = line_cycles(*step.middle_shape, store_words(step, config))
        end += (step.middle_shape[1] + 1) * max(store_words(step, config), SLOTS) + POOL
    behind = max(overlapped, float(left)) / pixels
    lag = 0.0
    if arrays:
        last = arrays[-1]
        share = last.height * last.width / pixels  # pixels of the last array for each of the window
        alone = max(float(m.block(config) + m.stalled(config)) for m in arrays)
        block = max(
            float(last.block(config) + last.stalled(config)), config.pixels * max(behind / share, last.out)
        )
        array = max(float(m.blocks(config) + 1) * m.block(config) for m in arrays) + ARRAY
        emptied = last.emptied(block, config)
        flushed = emptied + config.pixels * last.out + FINISH
        if chained:
            first = arrays[0]
            alone = float(first.block(config))
            mine = max(alone, config.pixels * max(first.out, SLOTS))
            row = max((first.width + 1) * max(first.out, SLOTS), last.width * block / config.pixels)
            lag = (
                _until(first, last, step.middle_stride, config) * mine
                + last.blocks(config) * block
                + flushed
                + end
            )
            end += mine + config.pixels * first.out + ARRAY + FINISH + row + flushed
            pace = max(mine, block * share)
        else:
            end += flushed
            pace = max(block, alone)
        pace_out = pace / (config.pixels * into)
        slack = WINDOWED * pace_out + pace - alone  # what a slow store holds up, the array has room for
    else:
        array, emptied = float(pixels * into), 0.0
        pace_out = max(1.0, behind / into)
        slack = WINDOWED * pace_out

    # What comes before the window: words at a pace, and the first of them after a while.
    if load.straight:
        start = float(ENTRY + FETCH + PRODUCTS + load.wait(memory, 0) + STRAIGHT)
        between = max(
            load.port_cycles(memory) - load.wait(memory, 0), load.words * pace_out if whole else 0.0
        )
    else:
        start, ended = arranged(load, memory, pace_out if whole else 1.0)
        between = ended - start
    pace_in = between / load.words

    # The window takes and gives words in one loop, so that either side can hold up the other.
    if whole:
        middle = done = between
    else:
        here = behind_it = 0.0  # when the window and the array are done with the rows so far
        pace_turn = pace_out / window_turns(step)
        for arrives, leaves in window_rows(step, config):
            both = min(arrives, leaves)
            given = here + both * max(pace_in, 1.0) + leaves - both
            behind_it = max(max(behind_it, here) + leaves * pace_turn, given)
            here = max(given, behind_it - slack)  # no further ahead than streams and blocks have room
            here += (arrives - both) * max(pace_in, 1.0) + WINDOW + ENTRY + PRODUCTS
        done = here
        middle = max(behind_it, here - end)  # what it does after its last word delays nobody
        middle = max(middle, load.words * pace_in)
    stages = {
        "compute": ceil(array),
        "load": ceil(max(load.port_cycles(memory), load.words)),
        "offsets": ceil(offsets * memory.word_cycles),
        "window": window_cycles(step, config),
        "store": ceil(max(emit, collect)),
        "DRAM": shared,
    }
    # What the next step needs comes beside the products, then after them: first the arrays', then the window's.
    turns = [(m.blocks(config) + 1) * m.block(config) for m in arrays] or [pixels * into]
    tiles = [m.tiles * tile_words(config.lanes) for s in after for m in matrices(s)]
    rest = max((max(0, n - t) for n, t in zip(tiles, turns, strict=False)), default=0)
    filters = sum(filter_words(s) for s in after)
    taken = max(done, middle + emptied + rest if rest else 0.0) + filters
    longest = max(middle + end, memory.cycles(*own) + end, lag, middle + emptied + rest, taken)
    return Chain(stages, ceil(max(start + longest, READ + memory.latency + shared)))


def _until(first: Matrix, last: Matrix, stride: int, config: EngineConfig) -> int:
    """Blocks of the first array until the second, behind a depthwise, has its first block; two of them to fill."""
    row, column = divmod(min(config.pixels, last.height * last.width) - 1, last.width)
    pixels = min((row * stride + 1) * first.width + column * stride + 2, first.height * first.width)
    return 2 + ceil(pixels / config.pixels)
