"""Where drafts are cut into steps, since not all output words fit on chip at once; and segments with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from math import ceil

from codesign.engine_config import EngineConfig
from codesign.fit import Work
from codesign.layout import Layout, Run, load_order
from codesign.mixing import loaded_parts


def word_ranges(w: Work, layouts: Mapping[str, Layout], config: EngineConfig) -> list[tuple[int, int]]:
    """Ranges of output words, each with rows and weights that fit on chip."""
    words = len(layouts[w.draft.stores].order)
    if w.draft.spread:  # ranges of the columns, of which a row may be too long
        words, most = w.draft.shape[1], (config.row_words + config.input_words) // len(w.order)
    elif w.draft.front is not None:
        return [(0, words)]
    elif w.draft.dense is not None:
        most = config.arrays * min(config.weight_tiles // (len(w.rows) * w.passes), config.output_words)
        if w.draft.pool:
            most = min(most, config.pool_groups, config.pool_words // w.line_width)
    elif w.draft.window is not None and w.divisible:
        most = w.most_words(config.ring_rows, config.row_words)
        if w.draft.window.tables is not None:
            most = min(most, config.window_groups)
        if not w.ringed:
            most = min(most, config.window_groups, config.global_words)
    elif w.draft.window is None and w.divisible:
        most = config.row_words + config.input_words
    else:
        return [(0, words)]
    count = ceil(words / most)
    bounds = [round(i * words / count) for i in range(count + 1)]
    return list(zip(bounds, bounds[1:], strict=False))


def cut_segments(
    work: list[Work],
    ranges: list[list[tuple[int, int]]],
    layouts: Mapping[str, Layout],
    lanes: int,
    fixed: Collection[str],
) -> tuple[dict[str, Layout], list[Work]]:
    """Layouts and work with segments that end where the steps of a draft do: what one writes, or reads of a window,
    is then one run. Layouts named in `fixed` stay as they are.

    Otherwise each pixel would be a request of its own, which takes as long as a long one begins.
    """
    cuts: dict[str, set[int]] = {name: set() for name in layouts}
    phases = {w.draft.view[0][0] for w in work if w.draft.spread}  # whose segments are rows of pixels
    for w, found in zip(work, ranges, strict=True):
        if w.draft.spread or w.draft.name in phases or w.draft.name in fixed:
            continue
        starts = {a for a, _ in found[1:]}
        cuts[w.draft.stores] |= starts
        at = 0
        for run in w.runs if w.draft.dense is None else ():
            first = layouts[run.tensor].segments[run.segment][0] + run.first
            cuts[run.tensor] |= {first + start - at for start in starts if at <= start < at + run.count}
            at += run.count
    new = {}
    for name, layout in layouts.items():
        segments = []
        for first, count in layout.segments:
            inside = [first, *sorted(c for c in cuts[name] if first < c < first + count), first + count]
            segments += [(a, b - a) for a, b in zip(inside, inside[1:], strict=False)]
        new[name] = replace(layout, segments=tuple(segments), buffers=[])
    return new, [replace(w, runs=_runs(w, new, lanes)) for w in work]


def _runs(w: Work, layouts: Mapping[str, Layout], lanes: int) -> tuple[Run, ...]:
    if not w.draft.view:
        return ()
    if w.draft.window is not None and w.draft.window.mixing is not None:
        return loaded_parts(w.draft, layouts, lanes)[0]
    return load_order(w.draft.view, layouts, lanes)[0]
