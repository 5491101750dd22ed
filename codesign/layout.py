"""Where channels lie in memory, so that concat, slice, shuffle and upsample move no data.

A *view* says of each channel of a value which stored tensor it comes from. A stored tensor is divided into
segments by who reads what; each segment is planar, [H][W][words]. A consumer loads a list of segments in any
order, and its weights are permuted accordingly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from codesign.ir import Graph
from codesign.ops import Concat, Shuffle, Slice, Upsample
from codesign.ports import Ints

BLOCK_BYTES = 64  # eight transfers of a memory of 64 bits: none of the boards has a wider one
Source = tuple[str, int, int]  # stored tensor, its channel, log2 of the upsampling
View = tuple[Source, ...]
Readers = frozenset[str]


@dataclass
class Buffer:
    """Words [H*W*words] of memory with a life: steps [first, last]. `address` is set by `allocate`."""

    size: int
    first: int
    last: int
    address: int = -1


@dataclass
class Layout:
    """A stored tensor: `order` (words, lanes) gives channels, `segments` the words stored together."""

    shape: tuple[int, int, int]
    signed: bool
    order: Ints
    segments: tuple[tuple[int, int], ...]  # first word, count
    pack: int = 1  # pixels in a word: only for images, of one segment
    buffers: list[Buffer] = field(default_factory=list)

    @property
    def row_words(self) -> int:
        """Words of a row of a packed image."""
        return -(-self.shape[1] // self.pack)

    def place(self) -> Ints:
        """(C, 2): word and lane of each channel."""
        place = np.zeros((self.shape[2], 2), np.int64)
        words, lanes = np.nonzero(self.order >= 0)
        place[self.order[words, lanes]] = np.stack([words, lanes], axis=1)
        return place


@dataclass(frozen=True)
class Run:
    """Consecutive words of one segment of one tensor, as a consumer loads them."""

    tensor: str
    segment: int
    first: int  # word within the segment
    count: int
    up: int


def views(graph: Graph) -> Mapping[str, View]:
    """The view of every feature map. Values that an operator computes are stored under their own name."""
    known: Mapping[str, View] = graph.views
    return known


def views_of(graph: Graph) -> dict[str, View]:
    """What `views` says, made anew."""
    types = graph.types()
    found: dict[str, View] = {}

    def stored(name: str) -> View:
        return tuple((name, c, 0) for c in range(types[name].shape[-1]))

    for name in graph.inputs:
        found[name] = stored(name)
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Concat):
            found[node.name] = tuple(s for name in node.inputs for s in found[name])
        elif isinstance(op, Slice):
            found[node.name] = found[node.inputs[0]][op.start : op.stop]
        elif isinstance(op, Shuffle):
            x = found[node.inputs[0]]
            found[node.name] = tuple(x[c] for c in op.order(len(x)))
        elif isinstance(op, Upsample):
            found[node.name] = tuple((name, c, up + 1) for name, c, up in found[node.inputs[0]])
        else:
            found[node.name] = stored(node.name)
    return found


def free_order(readers: Sequence[Readers], lanes: int) -> tuple[Ints, tuple[tuple[int, int], ...]]:
    """Order and segments of a tensor whose channels may be placed at will.

    Channels with the same readers fill words of their own; what is left over shares words, first fit,
    largest first: a reader loads one word for its remainder either way.
    """
    classes: dict[Readers, list[int]] = {}
    for channel, who in enumerate(readers):
        classes.setdefault(who, []).append(channel)
    words: list[list[int]] = []
    rest: list[list[int]] = []
    for channels in classes.values():
        full = len(channels) // lanes * lanes
        words += [channels[i : i + lanes] for i in range(0, full, lanes)]
        if len(channels) > full:
            rest.append(channels[full:])
    shared: list[list[int]] = []
    for part in sorted(rest, key=len, reverse=True):
        bin_ = next((b for b in shared if len(b) + len(part) <= lanes), None)
        if bin_ is None:
            shared.append(list(part))
        else:
            bin_ += part
    keyed = [(_word_readers(w, readers), w) for w in (*words, *shared)]
    seen = list(dict.fromkeys(who for who, _ in keyed))
    ordered = [w for who in seen for k, w in keyed if k == who]
    order = np.full((len(ordered), lanes), -1, np.int64)
    for row, channels in zip(order, ordered, strict=True):
        row[: len(channels)] = channels
    return order, runs_of_words(order, readers)


def runs_of_words(order: Ints, readers: Sequence[Readers]) -> tuple[tuple[int, int], ...]:
    """Segments of a tensor whose order is given: runs of words that the same steps read."""
    keys = [_word_readers([c for c in row if c >= 0], readers) for row in order.tolist()]
    starts = [i for i in range(len(keys)) if i == 0 or keys[i] != keys[i - 1]]
    return tuple((a, b - a) for a, b in zip(starts, [*starts[1:], len(keys)], strict=True))


def _word_readers(channels: Iterable[int], readers: Sequence[Readers]) -> Readers:
    return frozenset().union(*(readers[c] for c in channels))


def phase_order(view: View, order: Ints) -> tuple[Ints, tuple[tuple[int, int], ...]]:
    """Order and segments of the four phases that are to become pixels whose channels lie in `order`.

    A segment for the upper pixels and one for the lower: rows of them are rows of the larger map as they are.
    """
    phases = np.array([channel for _, channel, _ in view], np.int64).reshape(4, -1)
    rows = [np.where(order >= 0, phase[order], -1) for phase in phases]
    return np.concatenate(rows), ((0, 2 * len(order)), (2 * len(order), 2 * len(order)))


def phases_as_loaded(view: View, order: Ints) -> Ints | None:
    """Order of the pixels that four phases become if nothing but whole words is moved; None if they lie differently.

    `order`: channels of the phases as they are loaded, all words of one after the other.
    """
    phases = np.array([channel for _, channel, _ in view], np.int64).reshape(4, -1)
    if len(order) % 4:
        return None
    found = []
    for phase, words in zip(phases, np.split(order, 4), strict=True):
        table = np.full(phases.size + 1, -1, np.int64)  # the last entry stands for "no channel"
        table[phase] = np.arange(len(phase))
        found.append(table[words])
    whole = np.array_equal(np.sort(found[0][found[0] >= 0]), np.arange(phases.shape[1]))
    return found[0] if whole and all(np.array_equal(found[0], other) for other in found) else None


def load_order(view: View, layouts: Mapping[str, Layout], lanes: int) -> tuple[tuple[Run, ...], Ints]:
    """The runs that bring a view on chip, and its channel in each lane of the words they load.

    A tensor that appears twice (concatenated with itself) is loaded twice.
    """
    groups: dict[tuple[str, int, int], dict[int, int]] = {}  # (tensor, up, copy) -> channel there -> here
    copies: dict[Source, int] = {}
    for here, source in enumerate(view):
        copy = copies[source] = copies.get(source, -1) + 1
        groups.setdefault((source[0], source[2], copy), {})[source[1]] = here
    runs: list[Run] = []
    rows: list[Ints] = []
    for (tensor, up, _), wanted in groups.items():
        layout = layouts[tensor]
        table = np.full(layout.shape[2] + 1, -1, np.int64)  # the last entry stands for "no channel"
        table[list(wanted)] = list(wanted.values())
        here_in: Ints = table[layout.order]
        needed = np.any(here_in >= 0, axis=1)
        for s, (first, count) in enumerate(layout.segments):
            flags = np.flatnonzero(np.diff(np.concatenate([[False], needed[first : first + count], [False]])))
            for a, b in flags.reshape(-1, 2).tolist():
                runs.append(Run(tensor, s, a, b - a, up))
                rows.append(here_in[first + a : first + b])
    return tuple(runs), np.concatenate(rows)


def aligned(address: int, lanes: int) -> int:
    """The next word address where a block begins, the least that a memory moves: a burst from there moves no more."""
    words = max(1, BLOCK_BYTES // lanes)
    return -(-address // words) * words


def allocate(buffers: Sequence[Buffer], lanes: int = BLOCK_BYTES) -> int:
    """Give each buffer an aligned address such that no two that live at the same step overlap; returns the total.

    Largest first, each at the lowest address where it fits.
    """
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda b: (-b.size, b.first)):
        others = [o for o in placed if o.first <= buffer.last and buffer.first <= o.last]
        address = 0
        for other in sorted(others, key=lambda o: o.address):
            if address + buffer.size <= other.address:
                break
            address = max(address, aligned(other.address + other.size, lanes))
        buffer.address = address
        placed.append(buffer)
    return max((b.address + b.size for b in buffers), default=0)
