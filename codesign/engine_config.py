"""The constants of an engine: what one bitstream can hold.

Numpy only: the driver on a board uses this module as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from codesign.windows import requant_words

LEAST_LINE = 2  # words of a row buffer of middle.hpp or tail.hpp, where there is one
LEAST_NEAR = 2  # words of a memory for maps, where there is one
LEAST_CHUNK = 512  # words of the buffers of load and store, at least


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
    steer_words: int = 1  # of each of the two memories for what steers windows; 1: there are none
    wide: int = 0  # bits of the constant in wide rows of requantization; 0: rows are narrow

    @property
    def chunk_words(self) -> int:
        """Words of a chunk of load or store: ChunkSize of layout.hpp."""
        return max(LEAST_CHUNK, self.row_words + self.input_words, self.arrays * self.output_words)

    @property
    def is_wide(self) -> bool:
        """Whether rows of requantization are wide."""
        return self.wide > 0

    @property
    def requant_words(self) -> int:
        """Words of the requantization of a word of channels."""
        return requant_words(self.is_wide)

    def constants(self) -> dict[str, int]:
        """By their names in C++: kLanes, kMaxOffset, ..."""
        return {constant_name(f.name): getattr(self, f.name) for f in fields(self)}


def constant_name(field: str) -> str:
    """A field of EngineConfig as config.hpp spells it: `max_offset` is kMaxOffset."""
    return "k" + "".join(part.capitalize() for part in field.split("_"))
