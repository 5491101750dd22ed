"""What a step moves between memories and its stages, and how long that takes: load.hpp and store.hpp.

`fetch`, `arrange` and `collect`, `emit` are the two halves of load and store. Depths of the pipelines are those that
the headers state.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from codesign.dram import Dram
from codesign.engine_config import EngineConfig
from codesign.step import Segment, Step, varied_words
from codesign.windows import TAP_WORDS

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
    if step.mixing is not None:
        return step.mixing.out
    if step.window != "gather":
        return step.groups
    taps = step.kernel**2
    return ceil(taps / (1 << config.pack_log2)) if step.packed else taps * step.groups


def window_turns(step: Step) -> int:
    """Cycles in which a word leaves the window."""
    if step.sampling is not None:
        return step.sampling.count
    return TAP_WORDS if step.window == "varied" else 1


def store_words(step: Step, config: EngineConfig) -> int:
    """Words in which a pixel leaves the step."""
    first = step.pointwise_out if PASSES[step.pointwise] else window_words(step, config)
    return (0 if step.middle_stride else first) + (step.second_out if PASSES[step.second] else 0)


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
    """Words that hold offsets, gates, or weights of every pixel. Rows that upsampling repeats are fetched again."""
    if step.offset is None:
        return varied_words(step)
    if step.mixing is not None:
        return step.offset.count
    return step.out_height * (step.out_width >> step.offset.up) * step.offset.count


def steering_words(step: Step) -> int:
    """Those of them that come from DRAM."""
    return 0 if step.offset is not None and step.offset.near else offset_words(step)


def steering_pace(step: Step, memory: Dram) -> float:
    """Cycles of such a word."""
    return 1.0 if step.offset is not None and step.offset.near else memory.word_cycles


def _part(segment: Segment, first: int, pixels: int) -> Part:
    """Of pixels [first, first + pixels) of a row."""
    count = ((first + pixels - 1) >> segment.up) - (first >> segment.up) + 1
    runs = 1 if segment.stride == segment.count else count
    return Part(count * segment.count, runs, segment.near or segment.steers)


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


def stored_last(store: Transfer, memory: Dram) -> float:
    """What a store that orders chunks does after its last word: words of a chunk leave as those of the next arrive."""
    last = len(store.chunks) - 1
    rest = store.port_cycles(memory, last) + PRODUCTS + ENTRY + COLLECT
    if last > 0:
        share = max(0.0, 1 - store.uses[last] / store.uses[last - 1])
        rest += share * store.port_cycles(memory, last - 1) + PRODUCTS + ENTRY + COLLECT
    return rest
