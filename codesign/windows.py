"""What a step says of its window: which it is, how it samples or mixes, and where a branch leads.

The names stand in the order of the codes in hls_templates/layout.hpp.
"""

from __future__ import annotations

from dataclasses import dataclass, field

WINDOWS = (
    "pass", "depthwise", "deformable", "max-pool", "gather", "sampled", "varied", "global", "mix", "branch",
)  # fmt: skip
FILTERS = ("depthwise", "deformable", "sampled", "varied")  # windows with weights
STEERED = ("deformable", "sampled", "mix")  # with offsets or gates
UNRINGED = ("global", "mix")  # that look at no neighbours
TAPS = ("3x3", "1x9", "9x1", "1x1")  # of a sampled window
MIXES = ("maps", "pick", "int4", "int8")  # of gates: the latter two make weights
TAP_WORDS, REQUANT_WORDS = 9, 6  # of the weights and tables of a group of channels
WIDE_REQUANT_WORDS = 12  # of a table with wide rows: rows.hpp
ALWAYS = 256  # a branch's threshold that no byte reaches


def requant_words(wide: bool) -> int:
    """Words of the requantization of a word of channels."""
    return WIDE_REQUANT_WORDS if wide else REQUANT_WORDS


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
class Branch:
    """Leads to step `target` if the number at the step's `offset` is below `threshold`, else to the next step."""

    threshold: int
    target: int
    number: str = field(default="", compare=False)  # its name, for people; not encoded

    @property
    def always(self) -> bool:
        """Whether no number reaches the threshold: such a branch need not look."""
        return self.threshold >= ALWAYS
