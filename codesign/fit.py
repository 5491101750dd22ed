"""What a model needs of an engine's constants, and whether an engine has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from codesign.draft import Draft
from codesign.drafts import SUMS, accumulator_bits
from codesign.engine_config import LEAST_LINE, EngineConfig, constant_name
from codesign.errors import PlanError
from codesign.ir import Graph
from codesign.layout import Layout, Run
from codesign.ops import DEFORMABLE, DwConv, MixedConv, Requant
from codesign.ops.wide_requant import widened
from codesign.ports import Ints

MOST_SUMMED = 64  # words a pixel of a map whose sums are made in one step, unless a model needs more
LEAST_CONSTANT = 16  # bits of a wide row's, as types.hpp asks
MOST_SHIFT, MOST_LEFTS = 42, 10  # of Scale in exact/numbers.hpp: by more, every code is 0 or at its limit


@dataclass(frozen=True)
class Limits:
    """What an engine made for a model may have on chip, where the model does not need more."""

    weight_bytes: int = 64 * 1024  # int4 weights of all arrays for one step
    row_words: int = 512  # of a slot of the window's ring: as many as a block RAM has at its widest
    line_words: int = 512  # of a row between the arrays, or pooled behind them

    def tiles(self, lanes: int, arrays: int) -> int:
        """Of one array."""
        return 2 * self.weight_bytes // (lanes * lanes * arrays)


@dataclass(frozen=True)
class Work:
    """A draft with its place on chip: what is loaded, and the weights in physical order."""

    draft: Draft
    runs: tuple[Run, ...]
    order: Ints  # (words, lanes): input channels
    packed: bool
    rows: Ints  # (words into the pointwise array, lanes): rows of its weight matrix
    halves: bool  # int8 weights: two passes
    middle: Ints  # (words, lanes): channels of the depthwise between the arrays; no words if there is none
    second_rows: Ints  # as `rows`, of the second array behind it
    second_halves: bool
    leaves: (
        Ints  # (words, lanes): channels that leave the window: those that are loaded, or of one of its parts
    )
    columns: Ints  # of a step that computes weights: the channels that these give

    @property
    def passes(self) -> int:
        return 2 if self.halves else 1

    @property
    def second_passes(self) -> int:
        return 2 if self.second_halves else 1

    def matrices(self, out: int, arrays: int) -> tuple[tuple[int, int], ...]:
        """Tiles that a word of output takes, and words of output, of an array; `out` words leave the step."""
        if self.draft.dense is None:
            return ()
        if self.draft.front is None:
            return ((len(self.rows) * self.passes, -(-out // arrays)),)
        return (
            (len(self.rows) * self.passes, len(self.middle)),
            (len(self.second_rows) * self.second_passes, out),
        )

    @property
    def row_words(self) -> int:
        """Words of an input row."""
        return self.draft.shape[1] * len(self.order)

    @property
    def line_width(self) -> int:
        """Columns of what is pooled behind the arrays."""
        return self.draft.unpooled[1]

    @property
    def divisible(self) -> bool:
        """A window that stores what it makes: its words can be computed in several steps, some in each."""
        mixes = self.draft.window is not None and self.draft.window.kind == "mix"
        return self.draft.dense is None and not self.draft.spread and not self.packed and not mixes

    @property
    def ringed(self) -> bool:
        """Whether its window looks at rows of the ring."""
        return self.draft.window is not None and self.draft.window.kind not in ("global", "mix")

    @property
    def ring_rows(self) -> int:
        """Input rows that must have a place at once."""
        window = self.draft.window
        return 0 if window is None or not self.ringed else 2 * window.reach + 1 + window.stride[0]

    def capacity(self, ring_rows: int, row_words: int) -> int:
        """Words of a row in a ring of so many slots: a window of few rows takes several slots for each."""
        return row_words * next(n for n in (4, 2, 1) if n == 1 or self.ring_rows <= ring_rows // n)

    def most_words(self, ring_rows: int, row_words: int) -> int:
        """Words of a pixel that such a ring holds."""
        if not self.ringed:
            return len(self.order)
        most = min(self.capacity(ring_rows, row_words) // self.draft.shape[1], row_words)
        return min(len(self.order), max(1, most))


def _signed_bits(values: Ints) -> int:
    """Bits of a signed number that holds all of them."""
    return 1 + max(
        int(v).bit_length() if v >= 0 else int(-v - 1).bit_length() for v in (values.min(), values.max())
    )


def least_rows(work: list[Work]) -> int:
    """Slots of the ring that a model needs."""
    return max([4, *(w.ring_rows for w in work)])


def needs(
    graph: Graph,
    work: list[Work],
    layouts: Mapping[str, Layout],
    packing: int,
    ring_rows: int,
    lanes: int,
    wide: bool,
) -> dict[str, tuple[int, str]]:
    """The least value of each constant, and the node that needs it; `row_words` for a ring of so many slots.

    `wide`: with wide rows of requantization.
    """
    found: dict[str, tuple[int, str]] = {
        "pack_log2": (packing, ""), "acc_bits": (16, ""), "sum_bits": (16, ""), "mult_bits": (3 if wide else 1, ""),
        "most_shift": (1, ""), "lefts": (0, ""), "tap_bits": (2, ""), "wide": (LEAST_CONSTANT * wide, ""),
    }  # fmt: skip
    bounds = graph.bounds()

    def need(constant: str, value: int, where: str) -> None:
        if value > found.get(constant, (0, ""))[0]:
            found[constant] = (value, where)

    def need_wide(tables: Sequence[Ints], where: str) -> None:
        bias, mult, shift, *_ = tables if len(tables) == 4 else widened(*tables)
        need("wide", _signed_bits(bias), where)
        need("mult_bits", _signed_bits(mult), where)
        need("most_shift", int(shift.max()), where)

    for constant in ("max_offset", "row_words", "window_groups", "input_words", "output_words", "weight_tiles",
                     "max_segments", "middle_words", "middle_groups", "pool_words", "pool_groups"):  # fmt: skip
        need(constant, 1, "")
    need("ring_rows", 4, "")
    for node in graph.nodes:
        if isinstance(node.op, SUMS):
            need("acc_bits", accumulator_bits(graph, node.name), node.name)
        if isinstance(node.op, (DwConv, *DEFORMABLE)):
            need("tap_bits", _signed_bits(graph.consts[node.inputs[-1]]), node.name)
        if isinstance(node.op, MixedConv):
            gates, bank, shift = bounds[node.inputs[1]], *(graph.consts[n] for n in node.inputs[2:4])
            sums = node.op.sums(gates, bank)
            for constant in ("acc_bits", "sum_bits"):
                need(constant, _signed_bits(np.array([sums.low.min(), sums.high.max()])), node.name)
            need("most_shift", int(shift.max()), node.name)
            need("lefts", 1 - int(shift.min()), node.name)
            if wide:
                need_wide((np.zeros_like(shift), np.ones_like(shift), shift), node.name)
        if isinstance(node.op, Requant) and wide:
            need_wide([graph.consts[n] for n in node.inputs[1:]], node.name)
        elif isinstance(node.op, Requant):
            acc, (bias, mult, shift) = (
                bounds[node.inputs[0]].elem,
                (graph.consts[n] for n in node.inputs[1:4]),
            )
            need("sum_bits", _signed_bits(np.array([acc.min + bias.min(), acc.max + bias.max()])), node.name)
            need("mult_bits", int(mult.max()).bit_length(), node.name)
            need("most_shift", min(int(shift.max()), MOST_SHIFT), node.name)
            need("lefts", min(1 - int(shift.min()), MOST_LEFTS), node.name)
    for w in work:
        where, stored, window = w.draft.name, w.draft.stores, w.draft.window
        if window is not None and not w.ringed:
            need("input_words", len(w.order), where)  # any pixel has room where words change their order
            groups = 1 if w.divisible else len(w.order)
            if window.mixing is None:
                need("global_words", groups, where)
            else:
                made, rows = replace(window.mixing, out=len(w.leaves)), len(w.columns) or len(w.leaves)
                need("mixer", made.gate_words(len(w.order), lanes), where)
                need("mixer", 1 if made.makes_weights else len(w.order), where)
                groups = rows
            need("window_groups", groups, where)
        elif window is not None:
            if window.kind in ("deformable", "sampled"):
                need("max_offset", window.reach, where)
            if window.sampling is not None:
                need("sampler", 1 + window.sampling.grid, where)
                need("sampler_shapes", int(window.sampling.shaped), where)
            need("weight_stream", int(window.varied is not None), where)
            need("ring_rows", w.ring_rows, where)
            row = layouts[w.runs[0].tensor].row_words if w.packed else w.row_words
            least = w.draft.shape[1] if w.divisible else row
            need("row_words", -(-least // w.capacity(ring_rows, 1)), where)
            if window.tables is not None:
                need("window_groups", 1 if w.divisible else len(w.order), where)
        if w.draft.dense is None and window is None and not w.draft.spread:
            need("input_words", 1 if w.divisible else len(w.order), where)  # of a pixel that is only moved
        if w.draft.spread:  # one pixel of each phase at a time, in rows of two segments
            need("input_words", len(w.order), where)
            need("max_segments", 2, where)
        if w.draft.table is not None:
            need("tables", 1, where)
        need("input_words", len(w.rows), where)
        if w.draft.taken is not None:
            need("branches", 1, stored)
            need("lefts", 1, stored)  # of what is moved by a product with ones
            need("input_words", len(w.order), stored)
        need("max_segments", max(len(w.runs), len(layouts[stored].segments)), where)
        if w.draft.front is None:
            need("weight_tiles", len(w.rows) * w.passes, where)
        else:
            need("input_words", len(w.second_rows), where)
            need("middle_groups", len(w.middle), where)
            need("middle_words", max(LEAST_LINE, w.draft.front.shape[1] * len(w.middle)), where)
            for tiles, words in w.matrices(len(layouts[stored].order), 2):
                need("weight_tiles", tiles * words, where)
                need("output_words", words, where)
        if w.draft.pool:
            least = 1 if w.draft.front is None else len(layouts[stored].order)
            need("pool_words", max(LEAST_LINE, w.line_width * least), where)
            need("pool_groups", least, where)
    return found


def grown(
    needed: Mapping[str, tuple[int, str]],
    work: list[Work],
    layouts: Mapping[str, Layout],
    lanes: int,
    arrays: int,
    array: tuple[int, int],
    limits: Limits,
) -> EngineConfig:
    """A config that holds the model, with rows and weights of whole steps as far as the limits allow."""
    least = {name: value for name, (value, _) in needed.items()}
    config = EngineConfig(lanes=lanes, arrays=arrays, pixels=array[0], turns=array[1], **least)
    windows = [w for w in work if w.ringed and not w.packed]
    slots = config.ring_rows
    rows = max((-(-w.row_words // w.capacity(slots, 1)) for w in windows), default=1)
    rows = max(config.row_words, min(rows, limits.row_words))
    filtered = [w for w in windows if w.divisible and w.draft.window and w.draft.window.tables is not None]
    summed = [len(w.order) for w in work if w.draft.window and w.draft.window.kind == "global"]
    whole = min(max(summed, default=0), MOST_SUMMED)
    moved = [len(w.order) for w in work if w.draft.dense is None and w.draft.window is None]
    groups = max((w.most_words(slots, rows) for w in filtered), default=1)
    sizes = [size for w in work for size in w.matrices(len(layouts[w.draft.stores].order), arrays)]
    tiles = max(
        config.weight_tiles, min(max((i * o for i, o in sizes), default=1), limits.tiles(lanes, arrays))
    )
    words = max((min(o, tiles // i) for i, o in sizes), default=1)
    pools = [(w.line_width, len(layouts[w.draft.stores].order)) for w in work if w.draft.pool]
    pool_words = max((width * min(n, max(1, limits.line_words // width)) for width, n in pools), default=1)
    pool_groups = max((min(n, max(1, limits.line_words // width)) for width, n in pools), default=1)
    return replace(
        config, row_words=rows, window_groups=max(config.window_groups, groups, whole), weight_tiles=tiles,
        global_words=max(config.global_words, whole), input_words=max(config.input_words, *moved, 1),
        output_words=max(config.output_words, words), pool_words=max(config.pool_words, pool_words),
        pool_groups=max(config.pool_groups, pool_groups),
    )  # fmt: skip


def unchained(
    w: Work, out: int, lanes: int, arrays: int, config: EngineConfig | None, limits: Limits
) -> frozenset[str]:
    """Tensors that must be stored because what would follow them in the same step finds no room; `out` words leave."""
    found = set()
    line = limits.line_words if config is None else config.middle_words
    tiles = limits.tiles(lanes, arrays) if config is None else config.weight_tiles
    front = w.draft.front
    if front is not None:
        fits = arrays == 2 and max(LEAST_LINE, front.shape[1] * len(w.middle)) <= line
        fits = fits and all(i * o <= tiles for i, o in w.matrices(out, 2))
        if config is not None:
            words = [o for _, o in w.matrices(out, 2)]
            fits = fits and max(words) <= config.output_words and len(w.middle) <= config.middle_groups
            fits = fits and len(w.second_rows) <= config.input_words
        if not fits:
            found.add(front.name)
    if w.draft.pool:
        least = 1 if front is None else out
        line = limits.line_words if config is None else config.pool_words
        groups = least if config is None else config.pool_groups
        if max(LEAST_LINE, w.line_width * least) > line or least > groups:
            found.add(w.draft.pooled)
    return frozenset(found)


def holds(w: Work, config: EngineConfig) -> bool:
    """Whether an engine computes such a window without a ring as part of another step: all its words at once."""
    window, words = w.draft.window, len(w.order)
    assert window is not None
    room = config.global_words if window.mixing is None else config.mixer
    return words <= min(room, config.row_words + config.input_words) and len(w.leaves) <= config.window_groups


def check_fits(config: EngineConfig, needed: Mapping[str, tuple[int, str]]) -> None:
    faults = []
    for field in fields(config):
        value, where = needed.get(field.name, (0, ""))
        have = getattr(config, field.name)
        if value > have:
            faults.append(f"{where or 'model'}: needs {constant_name(field.name)} = {value}, the engine has {have}. "
                          f"Build an engine with {field.name} >= {value}.")  # fmt: skip
    if faults:
        raise PlanError("\n".join(faults))
