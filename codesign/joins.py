"""Drafts that become one step: a window and the 1x1 convolution that reads it, chains, and max-pools behind them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from codesign.draft import Draft, Front, Window
from codesign.layout import Readers


def fused(made: list[Draft], read: Mapping[str, list[Readers]], apart: Collection[str]) -> list[Draft]:
    by_name = {d.name: d for d in made}
    gone = set()
    for draft in made:
        everyone = frozenset().union(*read.get(draft.name, []))
        if (
            draft.dense is not None
            or draft.spread
            or draft.table is not None
            or len(everyone) != 1
            or draft.name in apart
        ):
            continue
        reader = by_name.get(next(iter(everyone)))
        if reader is None or reader.dense is None or reader.window is not None:
            continue
        own = [c for tensor, c, up in reader.view if tensor == draft.name and up == 0]
        if len(own) != len(reader.view) or len(set(own)) != len(own):
            continue
        joined = np.full(draft.out_shape[2], -1)
        joined[own] = np.arange(len(own))
        gone.add(draft.name)
        by_name[reader.name] = replace(
            reader, nodes=draft.nodes + reader.nodes, view=draft.view, shape=draft.shape,
            window=draft.window, offset=draft.offset, joined=tuple(joined.tolist()), absorbed=draft.name,
        )  # fmt: skip
    return [by_name[d.name] for d in made if d.name not in gone]


def chained(made: list[Draft], read: Mapping[str, list[Readers]], apart: Collection[str]) -> list[Draft]:
    by_name = {d.name: d for d in made}
    gone = set()
    for draft in made:
        window = draft.window
        if (
            draft.dense is None
            or window is None
            or not draft.absorbed
            or draft.gates
            or not _is_centred(window, "depthwise")
        ):
            continue
        assert window.weight is not None
        source = by_name.get(draft.view[0][0])
        if source is None or source.dense is None or source.front is not None or source.name in apart:
            continue
        if source.gates:  # a step of its own computes its weights
            continue
        channels = [c for tensor, c, up in draft.view if tensor == source.name and up == 0]
        alone = frozenset().union(*read[source.name]) == {draft.name}
        height, width = (-(-side // window.stride[0]) for side in source.out_shape[:2])
        if not alone or len(set(channels)) != len(draft.view) or draft.out_shape[:2] != (height, width):
            continue
        front = Front(source.name, source.dense, source.joined, source.out_shape[:2], tuple(channels), window)
        gone.add(source.name)
        by_name[draft.name] = replace(
            draft, nodes=source.nodes + draft.nodes, view=source.view, shape=source.shape, window=source.window,
            offset=source.offset, absorbed=source.absorbed, front=front,
        )  # fmt: skip
    return [by_name[d.name] for d in made if d.name not in gone]


def pooled(made: list[Draft], read: Mapping[str, list[Readers]], apart: Collection[str]) -> list[Draft]:
    by_name = {d.name: d for d in made}
    gone = set()
    for draft in made:
        window = draft.window
        if draft.dense is not None or window is None or not _is_centred(window, "max-pool"):
            continue
        source = by_name.get(draft.view[0][0])
        if source is None or source.dense is None or source.pool or source.name in apart:
            continue
        whole = draft.view == tuple((source.name, c, 0) for c in range(source.out_shape[2]))
        alone = frozenset().union(*read[source.name]) == {draft.name}
        height, width = (-(-side // window.stride[0]) for side in source.out_shape[:2])
        if not whole or not alone or draft.out_shape[:2] != (height, width):
            continue
        gone.add(source.name)
        by_name[draft.name] = replace(
            source, name=draft.name, nodes=source.nodes + draft.nodes, out_shape=draft.out_shape,
            pool=window.stride[0], pooled=source.name, unpooled=source.out_shape[:2],
        )  # fmt: skip
    return [by_name[d.name] for d in made if d.name not in gone]


def tabled(made: list[Draft], read: Mapping[str, list[Readers]], apart: Collection[str]) -> list[Draft]:
    """Looked up in a table where it is made, if nothing else reads what it is before."""
    by_name = {d.name: d for d in made}
    gone = set()
    for draft in made:
        if draft.table is None:
            continue
        source = by_name.get(draft.view[0][0])
        if source is None or source.pool or source.spread or source.table is not None or source.name in apart:
            continue
        whole = draft.view == tuple((source.name, c, 0) for c in range(source.out_shape[2]))
        if not whole or frozenset().union(*read[source.name]) != {draft.name}:
            continue
        gone.add(source.name)
        by_name[draft.name] = replace(
            source, name=draft.name, nodes=source.nodes + draft.nodes, signed=draft.signed, table=draft.table
        )
    return [by_name[d.name] for d in made if d.name not in gone]


def at_once(made: list[Draft], read: Mapping[str, list[Readers]]) -> list[Draft]:
    """A convolution whose only reader is one side of a Select stores it where the Select's result lies."""
    by_name = {d.name: d for d in made}
    gone = set()
    for draft in made:
        source = by_name.get(draft.view[0][0])
        if not draft.into or source is None or source.dense is None or source.into or source.spread:
            continue
        whole = draft.view == tuple((source.name, c, 0) for c in range(source.out_shape[2]))
        if whole and frozenset().union(*read[source.name]) == {draft.name}:
            by_name[source.name] = replace(source, into=draft.into, taken=draft.taken)
            gone.add(draft.name)
    return [by_name[d.name] for d in made if d.name not in gone]


def _is_centred(window: Window, kind: str) -> bool:
    """Whether it is what lines.hpp computes: 3x3 around every or every second pixel, one zero around the map."""
    kernel = window.kernel if window.weight is None else window.weight.shape[:2]
    return (
        window.kind == kind and tuple(kernel) == (3, 3) and window.stride in ((1, 1), (2, 2))
        and window.origin == (0, 0)
    )  # fmt: skip
