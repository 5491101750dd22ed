"""What a model needs of an engine's constants, and whether an engine has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from codesign.drafts import Draft, accumulator_bits
from codesign.errors import PlanError
from codesign.ir import Graph
from codesign.layout import Layout, Run
from codesign.ops import Add, Conv, DeformDwConv, DwConv
from codesign.ports import Ints
from codesign.program import EngineConfig, constant_name


@dataclass(frozen=True)
class Limits:
    """What an engine made for a model may have on chip, where the model does not need more."""

    weight_bytes: int = 64 * 1024  # int4 weights of the array for one step
    row_words: int = 512  # of a slot of the window's ring: as many as a block RAM has at its widest


@dataclass(frozen=True)
class Work:
    """A draft with its place on chip: what is loaded, and the weights in physical order."""

    draft: Draft
    runs: tuple[Run, ...]
    order: Ints  # (words, lanes): input channels
    packed: bool
    rows: Ints  # (words into the pointwise array, lanes): rows of its weight matrix
    halves: bool  # int8 weights: two passes

    @property
    def passes(self) -> int:
        return 2 if self.halves else 1

    @property
    def row_words(self) -> int:
        """Words of an input row."""
        return self.draft.shape[1] * len(self.order)

    @property
    def divisible(self) -> bool:
        """A window that stores what it makes: its words can be computed in several steps, some in each."""
        return self.draft.dense is None and not self.draft.spread and not self.packed

    @property
    def ring_rows(self) -> int:
        """Input rows that must have a place at once."""
        window = self.draft.window
        return 0 if window is None else 2 * window.reach + 1 + window.stride[0]

    def capacity(self, ring_rows: int, row_words: int) -> int:
        """Words of a row in a ring of so many slots: a window of few rows takes several slots for each."""
        return row_words * next(n for n in (4, 2, 1) if n == 1 or self.ring_rows <= ring_rows // n)

    def most_words(self, ring_rows: int, row_words: int) -> int:
        """Words of a pixel that such a ring holds."""
        most = min(self.capacity(ring_rows, row_words) // self.draft.shape[1], row_words)
        return min(len(self.order), max(1, most))


def least_rows(work: list[Work]) -> int:
    """Slots of the ring that a model needs."""
    return max([4, *(w.ring_rows for w in work)])


def needs(
    graph: Graph, work: list[Work], layouts: Mapping[str, Layout], packing: int, ring_rows: int
) -> dict[str, tuple[int, str]]:
    """The least value of each constant, and the node that needs it; `row_words` for a ring of so many slots."""
    found: dict[str, tuple[int, str]] = {"pack_log2": (packing, ""), "acc_bits": (16, "")}

    def need(constant: str, value: int, where: str) -> None:
        if value > found.get(constant, (0, ""))[0]:
            found[constant] = (value, where)

    for constant in ("max_offset", "row_words", "window_groups", "input_words", "output_words", "weight_tiles",
                     "max_segments"):  # fmt: skip
        need(constant, 1, "")
    need("ring_rows", 4, "")
    for node in graph.nodes:
        if isinstance(node.op, Conv | DwConv | DeformDwConv | Add):
            need("acc_bits", accumulator_bits(graph, node.name), node.name)
    for w in work:
        where, window = w.draft.name, w.draft.window
        if window is not None:
            if window.kind == "deformable":
                need("max_offset", window.reach, where)
            need("ring_rows", w.ring_rows, where)
            row = layouts[w.runs[0].tensor].row_words if w.packed else w.row_words
            least = w.draft.shape[1] if w.divisible else row
            need("row_words", -(-least // w.capacity(ring_rows, 1)), where)
            if window.weight is not None:
                need("window_groups", 1 if w.divisible else len(w.order), where)
        if w.draft.spread:  # one pixel of each phase at a time, in rows of two segments
            need("input_words", len(w.order), where)
            need("max_segments", 2, where)
        need("input_words", len(w.rows), where)
        need("weight_tiles", len(w.rows) * w.passes, where)
        need("max_segments", max(len(w.runs), len(layouts[where].segments)), where)
    return found


def grown(
    needed: Mapping[str, tuple[int, str]],
    work: list[Work],
    layouts: Mapping[str, Layout],
    lanes: int,
    array: tuple[int, int],
    limits: Limits,
) -> EngineConfig:
    """A config that holds the model, with rows and weights of whole steps as far as the limits allow."""
    least = {name: value for name, (value, _) in needed.items()}
    config = EngineConfig(lanes=lanes, pixels=array[0], turns=array[1], **least)
    windows = [w for w in work if w.draft.window is not None and not w.packed]
    slots = config.ring_rows
    rows = max((-(-w.row_words // w.capacity(slots, 1)) for w in windows), default=1)
    rows = max(config.row_words, min(rows, limits.row_words))
    filtered = [w for w in windows if w.divisible and w.draft.window and w.draft.window.weight is not None]
    groups = max((w.most_words(slots, rows) for w in filtered), default=1)
    sizes = [
        (len(w.rows) * w.passes, len(layouts[w.draft.name].order)) for w in work if w.draft.dense is not None
    ]
    most = limits.weight_bytes * 2 // (lanes * lanes)
    tiles = max(config.weight_tiles, min(max((i * o for i, o in sizes), default=1), most))
    words = max((min(o, tiles // i) for i, o in sizes), default=1)
    return replace(
        config, row_words=rows, window_groups=max(config.window_groups, groups), weight_tiles=tiles, output_words=words
    )  # fmt: skip


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
