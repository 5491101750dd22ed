"""A comparison as two pictures: all layers in order, and histograms of the worst."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign.compare import Comparison
from codesign.compare_figures import Figures, Range
from codesign.errors import ToolMissing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORST = 9  # layers on the sheet
NAMED = 8  # layers named in the overview
COLOUR_A, COLOUR_B = "tab:blue", "tab:orange"


def overview(found: Comparison) -> bytes:
    """A PNG: SQNR, SQNR alone, and what is clipped, of every layer in order."""
    layers = found.layers
    figure = _figure(max(9.0, min(0.11 * len(layers) + 5, 26)), 7.5)
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.2, 1.2))
    sqnr, alone = _finite([f.sqnr for f in layers]), _finite([f.alone for f in layers])
    known = [v for v in (*sqnr, *alone) if math.isfinite(v)] or [60.0]
    low, high = min(known), max(known)
    room = max(high - low, 10) / 10
    exact = [f.index for f in layers if math.isinf(f.sqnr)]
    top.plot(sqnr, color="black", lw=1.2, label="SQNR so far")
    top.plot(alone, ".", color="tab:red", label="SQNR of the layer alone")
    top.plot(exact, [high + room] * len(exact), "^", ms=4, color="tab:green", label="no difference")
    named = [f for f in found.ranked[:NAMED] if f.born > 0 and math.isfinite(alone[f.index])]
    for rank, f in enumerate(named, start=1):
        top.annotate(
            str(rank), (f.index, alone[f.index]), xytext=(4, -3), textcoords="offset points", fontsize=8
        )
    lines = [
        f"{rank}. {f.b.name}\n    {decibel_text(f.alone)} alone" for rank, f in enumerate(named, start=1)
    ]
    top.text(1.01, 1.0, "\n".join(["Most is lost in", *lines]) if named else "No difference",
             transform=top.transAxes, va="top", fontsize=8)  # fmt: skip
    top.set_ylim(low - room, high + 3.5 * room)
    top.set_ylabel("dB")
    top.grid(True, alpha=0.25)
    top.legend(fontsize="small", loc="upper right", ncols=3)
    top.set_title(f"A {found.a.title}, B {found.b.title}, {found.pictures} pictures", fontsize=10)
    if not any(math.isfinite(v) for v in (*sqnr, *alone)):
        top.set_yticks([])
    x = range(len(layers))
    relu = [f.range_b is not None and f.range_b.grid.lo == 0 for f in layers]
    below, above = ([_share(f, f.range_b, end) for f in layers] for end in ("below", "above"))
    middle.bar(x, above, width=0.9, color="tab:red", label="cut off above")
    lost = [0.0 if zero else v for v, zero in zip(below, relu, strict=True)]
    middle.bar(x, lost, bottom=above, width=0.9, color="tab:orange", label="cut off below")
    middle.set_ylim(0, max(max(map(sum, zip(above, lost, strict=True))) * 1.4, 0.5))
    middle.set_ylabel("B saturates, %")
    zeros = [v if zero else 0.0 for v, zero in zip(below, relu, strict=True)]
    bottom.bar(x, zeros, width=0.9, color="tab:cyan", label="cut off by the ReLU")
    used = [math.nan if f.range_b is None else 100 * f.range_b.used for f in layers]
    bottom.plot(used, "_", color="black", label="codes used")
    bottom.set_ylim(0, 145)
    bottom.set_yticks([0, 50, 100])
    bottom.set_ylabel("B, %")
    bottom.set_xlabel("layer, in B's order")
    for axes in (middle, bottom):
        axes.grid(True, alpha=0.25)
        axes.legend(fontsize="small", loc="upper right", ncols=3)
    return _png(figure)


def worst_layers(found: Comparison, most: int = WORST) -> bytes:
    """A PNG: what both sides make of the worst layers, as histograms over codes."""
    chosen = [f for f in found.ranked if f.born > 0][:most] or found.ranked[:3]
    columns = min(3, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    figure = _figure(4.6 * columns, 2.9 * rows + 0.5)
    grid = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).reshape(-1)
    for rank, (axes, f) in enumerate(zip(grid, chosen, strict=False), start=1):
        _histogram(axes, f, rank)
    for axes in grid[len(chosen) :]:
        axes.set_axis_off()
    grid[0].legend(fontsize=7)
    figure.suptitle(f"Worst first: A {found.a.title}, B {found.b.title}", fontsize=10)
    return _png(figure)


def _histogram(axes: Axes, f: Figures, rank: int) -> None:
    step = f.lsb or 1.0
    edges = f.edges / step
    axes.stairs(f.counts_a, edges, fill=True, color=COLOUR_A, alpha=0.45, label="A")
    axes.stairs(f.counts_b, edges, color=COLOUR_B, lw=1.0, label="B")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, None)
    used = np.flatnonzero(f.counts_a + f.counts_b)
    margin = max((edges[used[-1] + 1] - edges[used[0]]) * 0.05, 1.0 if f.lsb else 0.0)
    axes.set_xlim(edges[used[0]] - margin, edges[used[-1] + 1] + margin)
    if f.range_b is not None:
        for limit in (f.range_b.grid.lo - 0.5, f.range_b.grid.hi + 0.5):
            axes.axvline(limit, color="tab:red", lw=0.8, ls="--")
    axes.set_title(
        f"{rank}. {f.b.name}\nalone {decibel_text(f.alone)}, so far {decibel_text(f.sqnr)}", fontsize=8
    )
    axes.set_xlabel("code of B" if f.range_b else ("code of A" if f.range_a else "value"), fontsize=7)
    axes.tick_params(labelsize=7)


def decibel_text(value: float) -> str:
    return "exact" if value == math.inf else f"{value:.1f} dB"


def _finite(values: Sequence[float]) -> list[float]:
    return [v if math.isfinite(v) else math.nan for v in values]


def _share(f: Figures, of: Range | None, end: str) -> float:
    return 0.0 if of is None or of.clipped is None else 100 * getattr(of.clipped, end) / f.values


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ToolMissing(
            "matplotlib: not installed, expected for the pictures of -o. Install the extra: "
            "pip install 'codesign-fpga[quant]', or leave out -o."
        ) from None
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Any) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()
