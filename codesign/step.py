"""One step that the engine walks: what it loads, computes and stores, and how many words that takes.

Words are `lanes` bytes; addresses count words from the start of memory. Numpy only: a board uses this module as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from codesign.ports import Bytes
from codesign.windows import FILTERS, Branch, Mixing, Sampling

POINTWISE = ("none", "int4", "int8")  # of an array, by the passes that its weights take
TABLE_BYTES, TABLE_WIDE = 256, 4  # of a table, and of those that arrive in a cycle
MAX_STEPS, MAX_SIDE, MAX_UP, MAX_STRIDE = 4096, 8192, 3, 4
MAX_PARTS, MAX_SUMMED = 64, 1 << 22  # that gates multiply; pixels of a map that is summed
MAX_KERNEL = 5  # side of a gathered window; others have at most 3


@dataclass(frozen=True)
class Segment:
    """`count` words of each pixel from `address` on, pixels `stride` words apart, 2^up times upsampled."""

    address: int
    count: int
    stride: int
    up: int = 0
    signed: bool = False
    near: bool = False  # in a memory on chip, at a word of it
    steers: bool = False  # in one for what steers windows; is only stored there


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
    steer: int = 0  # the same, of the two for what steers windows
    branch: Branch | None = None  # of a step that computes nothing; it looks at `offset` and `offset_lane`
    weights: tuple[int, int] | None = None  # where the arrays' tiles lie that a step before makes
    window_parameters: Bytes | None = field(default=None, compare=False)
    pointwise_parameters: Bytes | None = field(default=None, compare=False)
    second_parameters: Bytes | None = field(default=None, compare=False)
    middle_parameters: Bytes | None = field(default=None, compare=False)
    table: Bytes | None = field(default=None, compare=False)  # that every code is looked up in
    varied: Bytes | None = field(default=None, compare=False)  # weights of every pixel: nine words a group
    bank: Bytes | None = field(default=None, compare=False)  # what a step that makes weights mixes
    rows: Bytes | None = field(
        default=None, compare=False
    )  # of both arrays' requantization, beside `weights`

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


def branch_step(gate: Segment | None, lane: int, branch: Branch, nodes: tuple[str, ...] = ()) -> Step:
    """A step that computes nothing and says which step follows, by byte `lane` of the word where `gate` is.

    One that always leads elsewhere looks at nothing.
    """
    return Step(
        nodes=nodes, load=(), store=(), height=0, width=0, groups=0, out_height=0, out_width=0, window="branch",
        offset=gate, offset_lane=lane, branch=branch,
    )  # fmt: skip


def shrunk(side: int, stride: int) -> int:
    """A side behind a 3x3 window of that stride, one zero around the map; 0: behind none."""
    return -(-side // stride) if stride else side


def tile_words(lanes: int) -> int:
    """Words of lanes x lanes weights of four bits."""
    return (lanes + 1) // 2


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
