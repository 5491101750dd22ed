"""Cycles of the processes of a step, by the contracts of hls_templates/*.hpp: what each takes alone, and in a chain.

Names of processes as in the headers. Depths of the pipelines are small beside the rest; they are those that the headers
state. What is moved, and in how long, is transfers.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from codesign import stages_mix
from codesign.descriptor import SEGMENT_INTS, STEP_INTS, int_words
from codesign.dram import Dram
from codesign.engine_config import EngineConfig
from codesign.step import TABLE_BYTES, TABLE_WIDE, Step, tile_words
from codesign.transfers import (
    ARRAY,
    COLLECT,
    EMIT,
    ENTRY,
    FETCH,
    FETCHED,
    FINISH,
    LOADED,
    PASSES,
    POOL,
    PRODUCTS,
    READ,
    SLOTS,
    STRAIGHT,
    SUMMED,
    WINDOW,
    WINDOWED,
    arranged,
    loaded,
    offset_words,
    row_words,
    steering_pace,
    steering_words,
    store_words,
    stored,
    stored_last,
    window_turns,
    window_words,
)
from codesign.windows import TAP_WORDS, UNRINGED


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
    if step.window in UNRINGED:
        return stages_mix.turns(step, config.lanes)
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
    return 0 if step.window_parameters is None else len(step.window_parameters)


def parameter_cycles(step: Step, config: EngineConfig, memory: Dram) -> float:
    """Of weights and tables: for each array a run for its rows and one for its weights, one for each depthwise, and one
    for a table of codes.
    """
    middle = TAP_WORDS + config.requant_words if step.middle_stride else 0
    runs = [filter_words(step), middle * step.pointwise_out]
    for matrix in matrices(step):
        runs += [config.requant_words * matrix.out, matrix.tiles * tile_words(config.lanes)]
    runs.append(0 if step.table is None else len(step.table))
    return sum(read_cycles(words, memory) for words in runs) + table_cycles(step, config)


def table_cycles(step: Step, config: EngineConfig) -> int:
    """In which the table of a step arrives in its memories."""
    return 0 if step.table is None else ENTRY + TABLE_BYTES // min(config.lanes, TABLE_WIDE)


@dataclass
class Supply:
    """Words that come each `pace` cycles, and wait in the streams before the window as many as these hold."""

    pace: float
    waiting: float = 0.0

    def take(self, words: int) -> float:
        """Cycles in which the window takes so many, one a cycle if they are there."""
        cycles = max(float(words), (words - self.waiting) * self.pace)
        self.waiting += cycles / self.pace - words
        return cycles

    def spare(self, cycles: float) -> float:
        """The same cycles, in which the window takes none."""
        self.waiting = min(self.waiting + cycles / self.pace, FETCHED + LOADED)
        return cycles


@dataclass(frozen=True)
class Chain:
    """Cycles of a step's processes, each if the others never make it wait, and of all of them together."""

    stages: dict[str, int]
    cycles: int


def chain(step: Step, config: EngineConfig, memory: Dram, after: Sequence[Step] = ()) -> Chain:
    """The processes of a step, from the first request to the last response. `after`: the next step, if there is one."""
    load, store = loaded(step, config), stored(step, config)
    pixels = step.out_height * step.out_width
    into, arrays, chained = window_words(step, config), matrices(step), bool(step.middle_stride)
    own, beside = (
        (load.moved, steering_words(step), store.moved),
        sum(s.brought_words(config.lanes) for s in after),
    )
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
        end += stored_last(store, memory)
    written = end  # what store takes of it
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
    elif step.window in UNRINGED:
        middle = done = stages_mix.middle(step, config.lanes, memory, pace_in, pace_out)
    else:
        here = behind_it = 0.0  # when the window and the array are done with the rows so far
        supply = Supply(max(pace_in, 1.0))
        pace_turn = pace_out / window_turns(step)
        for arrives, leaves in window_rows(step, config):
            both = min(arrives, leaves)
            given = here + supply.take(both) + supply.spare(leaves - both)
            behind_it = max(max(behind_it, here) + leaves * pace_turn, given)
            here = max(given, behind_it - slack)  # no further ahead than streams and blocks have room
            here += supply.take(arrives - both) + WINDOW + ENTRY + PRODUCTS
        done = here
        middle = max(behind_it, here - end)  # what it does after its last word delays nobody
        middle = max(middle, load.words * pace_in)
    stages = {
        "compute": ceil(array),
        "load": ceil(max(load.port_cycles(memory), load.words)),
        "offsets": ceil(offset_words(step) * steering_pace(step, memory)),
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
    if tables := sum(table_cycles(s, config) for s in after):  # behind the last word that the tail passes on
        longest = max(longest, max(middle + end, lag) - written + tables)
    return Chain(stages, ceil(max(start + longest, READ + memory.latency + shared)))


def _until(first: Matrix, last: Matrix, stride: int, config: EngineConfig) -> int:
    """Blocks of the first array until the second, behind a depthwise, has its first block; two of them to fill."""
    row, column = divmod(min(config.pixels, last.height * last.width) - 1, last.width)
    pixels = min((row * stride + 1) * first.width + column * stride + 2, first.height * first.width)
    return 2 + ceil(pixels / config.pixels)
