"""What gates multiply, in the planner: words that must meet lane by lane, and weights that a step computes.

Gates are words beside the words that they multiply, so the tensors that hold them are stored in the order of those;
parts that are added lane by lane are each stored in words of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from codesign import pack
from codesign.draft import Draft, Tables, Window
from codesign.engine_config import EngineConfig
from codesign.errors import PlanError
from codesign.fit import Work
from codesign.ir import Graph
from codesign.layout import Layout, Run, View, load_order
from codesign.ports import Bytes, Ints
from codesign.step import Segment, Step, tile_words
from codesign.windows import Mixing


def weights_name(name: str) -> str:
    """Of the tensor of weights that a convolution multiplies with."""
    return f"{name}.weights"


def part_orders(graph: Graph, made: Iterable[Draft], lanes: int) -> dict[str, Ints]:
    """Orders (words, lanes) of tensors that several parts are taken from: each part in words of its own."""
    blocks: dict[str, list[list[int]]] = {}
    size = {name: type_.shape[2] for name, type_ in graph.inputs.items()}
    for draft in made:
        size[draft.stores] = draft.out_shape[2]
        if draft.window is None or draft.window.mixing is None or draft.window.parts == 1:
            continue
        for part in _parts(draft.view, draft.window.parts):
            (tensor, *others), channels = {s[0] for s in part}, [s[1] for s in part]
            known = blocks.setdefault(tensor, [])
            if not others and channels not in known and not set(channels) & {c for b in known for c in b}:
                known.append(channels)
    orders = {}
    for tensor, known in blocks.items():
        if tensor in size and known:
            taken = {c for block in known for c in block}
            rest = [c for c in range(size[tensor]) if c not in taken]
            orders[tensor] = np.concatenate([_words(block, lanes) for block in (*known, rest)])
    return orders


def gate_orders(work: Iterable[Work], lanes: int) -> dict[str, Ints]:
    """Orders of the tensors that hold gates, for the words that these multiply."""
    orders: dict[str, Ints] = {}
    work = list(work)
    makers = {w.draft.stores: w.draft for w in work}
    for w in work:
        view = w.draft.offset if w.draft.window is not None and w.draft.window.mixing is not None else ()
        if not view or len({s[0] for s in view}) > 1 or view[0][0] in orders:
            continue
        channels = np.array([s[1] for s in view] + [-1])
        rest = sorted(set(range(int(channels.max()) + 1)) - set(channels.tolist()))
        tensor, order = view[0][0], np.concatenate([channels[gates_of(w, lanes)], _words(rest, lanes)])
        while tensor not in orders:
            orders[tensor] = order
            maker = makers.get(tensor)
            if maker is not None and maker.table is not None and maker.dense is None and maker.window is None:
                tensor = maker.view[0][0]  # looked up in a step of its own, word by word
    return orders


def gates_of(w: Work, lanes: int) -> Ints:
    """(words, lanes): the gate that each lane takes."""
    window = w.draft.window
    assert window is not None and window.mixing is not None
    if window.mixing.makes_weights:
        return _words(range(len(w.draft.offset)), lanes)
    return w.leaves if window.mixing.kind == "pick" else w.order


def loaded_parts(
    draft: Draft, layouts: Mapping[str, Layout], lanes: int
) -> tuple[tuple[Run, ...], Ints, Ints]:
    """The runs that bring all parts, their channels, and those of one part. Raises PlanError unless lanes meet."""
    assert draft.window is not None
    parts = draft.window.parts
    runs, orders = zip(*(load_order(part, layouts, lanes) for part in _parts(draft.view, parts)), strict=True)
    if any(not np.array_equal(order, orders[0]) for order in orders):
        raise PlanError(
            f"{draft.name}: its {parts} parts lie in words of other channels, so that they cannot be added lane by "
            "lane. Let a 1x1 convolution make each of them."
        )
    count = len(draft.view) // parts
    every = np.concatenate([np.where(o >= 0, o + k * count, -1) for k, o in enumerate(orders)])
    return _merged(run for found in runs for run in found), every, orders[0]


def _merged(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Runs with those made one that lie one behind the other: a request for all their words of a pixel."""
    made: list[Run] = []
    for run in runs:
        last = made[-1] if made else None
        if last is not None and run == replace(last, first=last.first + last.count, count=run.count):
            made[-1] = replace(last, count=last.count + run.count)
        else:
            made.append(run)
    return tuple(made)


def gates_segment(w: Work, layouts: Mapping[str, Layout], lanes: int) -> Segment:
    """Where the gates lie: one run of words, in the order of what they multiply."""
    runs, order = load_order(w.draft.offset, layouts, lanes)
    wanted = gates_of(w, lanes)
    (run, *others) = runs
    if others or run.up or not np.array_equal(order, wanted):
        raise PlanError(
            f"{w.draft.name}: its gates lie in {len(runs)} places or in another order than what they multiply. "
            "Let a 1x1 convolution make them, and nothing else take some of them as gates."
        )
    layout = layouts[run.tensor]
    return Segment(layout.buffers[run.segment].address + run.first, len(wanted), len(wanted))


def weights_work(w: Work, columns: Ints, lanes: int) -> tuple[Work, Layout]:
    """The step before a convolution that computes its weights, `columns` (words, lanes) its channels; their layout."""
    draft, dense = w.draft, w.draft.dense
    assert dense is not None and dense.mixture is not None
    mixture, count = dense.mixture, len(dense.mixture.bank)
    kind = Mixing("int8" if w.halves else "int4")
    zeros, ones = np.zeros_like(mixture.shift), np.ones_like(mixture.shift)
    tables = Tables(zeros, ones, mixture.shift, (-mixture.most, mixture.most))
    window = Window("mix", (3, 3), (1, 1), (0, 0), 0, None, tables, mixing=kind, parts=count, mixture=mixture)
    words = len(w.rows) * tile_words(lanes) * w.passes
    shape = (len(columns), words, lanes)
    mixes = Draft(
        weights_name(draft.name), (weights_name(draft.name),), (), (len(columns), len(w.rows) * lanes, count), shape,
        False, window, offset=draft.gates,
    )  # fmt: skip
    order = np.full((count, lanes), -1, np.int64)
    one = np.arange(lanes)[None]
    made = Work(mixes, (), order, False, w.rows, w.halves, order[:0], order[:0], False, one, columns)
    return made, Layout(shape, False, one, ((0, 1),))


def weights_step(w: Work, layouts: Mapping[str, Layout], config: EngineConfig) -> Step:
    draft, lanes, count = w.draft, config.lanes, len(w.order)
    window = draft.window
    assert window is not None and window.tables is not None and window.mixture is not None
    t, (buffer,), (height, width, _) = window.tables, layouts[draft.name].buffers, draft.shape
    return Step(
        nodes=draft.nodes, load=(Segment(0, count, count, 0, True),), store=(Segment(buffer.address, 1, 1),),
        height=height, width=width, groups=count, out_height=height, out_width=draft.out_shape[1],
        load_pixels=max(1, config.chunk_words // count), store_pixels=config.chunk_words, window="mix",
        window_clamp=t.clamp, window_parameters=pack.requant_rows(t, w.columns, config.is_wide),
        mixing=window.mixing, offset=gates_segment(w, layouts, lanes),
        bank=_bank(window.mixture.bank, w.rows, w.columns),
    )  # fmt: skip


def _bank(bank: Ints, rows: Ints, columns: Ints) -> Bytes:
    """(words, lanes) in the order [output word][input lane][expert][output lane]; 0 where a lane has no channel."""
    flat = bank.reshape(len(bank), -1, bank.shape[4])
    padded = np.zeros((len(bank), flat.shape[1] + 1, flat.shape[2] + 1), np.int8)
    padded[:, :-1, :-1] = flat
    placed = padded[:, rows.reshape(-1)][:, :, columns]  # (experts, input lanes, output words, output lanes)
    words: Bytes = placed.transpose(2, 1, 0, 3).reshape(-1, columns.shape[1]).view(np.uint8)
    return words


def _parts(view: View, parts: int) -> list[View]:
    count = len(view) // parts
    return [view[k * count : (k + 1) * count] for k in range(parts)]


def _words(channels: Iterable[int], lanes: int) -> Ints:
    """(words, lanes): channels in their order, -1 where there are none left."""
    flat = np.array([*channels], np.int64)
    return np.append(flat, np.full(-len(flat) % lanes, -1)).reshape(-1, lanes)
