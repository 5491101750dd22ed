"""Table and picture of operators that all run on the engine, each beside the depthwise 3x3 in the same detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quant.ablation.costs import ARRAY, BOARD, LANES
from quant.ablation.results import Row, against, figure, line
from quant.ablation.variants import PLAIN

EXTRA = ("LUT", "FF", "DSP", "BRAM36")


def markdown(table: Sequence[Row], data: Sequence[str], seeds: int, network: str) -> str:
    """Accuracy of the integers, as the engine computes them, and what it costs more than the plain window."""
    head = ["operator", "parameters", "MMAC", "kcycles", "DRAM kB", *(f"+{unit}" for unit in EXTRA)]
    for d in data:
        head += [f"{d} AP50, float", "integers", f"against {_plain(table).variant.title}"]
    lines = [line(head), line(["---"] * len(head))]
    for row in table:
        cost = row.cost
        moved = (cost.read_bytes + cost.written_bytes) / 1e3
        cells = [row.variant.title, f"{cost.parameters:,}", f"{cost.macs / 1e6:.1f}"]
        cells += [f"{cost.cycles / 1e3:.0f}", f"{moved:,.0f}", *_extra(row, _plain(table))]
        for d in data:
            integers = f"{d}, integers"
            cells += [figure(row.accuracy.get(c, {}), seeds) for c in (d, integers)]
            cells.append(against(row, _plain(table), integers))
        lines.append(line(cells))
    trained = sum(len(r.accuracy.get(f"{d}, integers", {})) for r in table for d in data)
    asked = len(table) * len(data) * seeds
    part = "" if trained == asked else f" A part of the comparison: {trained} of {asked} networks."
    lines += ["", f"{network}; {seeds} seed{'s' * (seeds > 1)}, mean ± standard deviation.{part}"]
    lines.append(
        f"Cycles, bytes and the engine's parts are *estimated*, of a frame of {data[0]} on {BOARD}: {LANES} lanes, "
        f"array {ARRAY[0]}x{ARRAY[1]}, each time the smallest engine that runs the network and keeps on chip the "
        "kernels, offsets and masks that it generates."
    )
    return "\n".join(lines) + "\n"


def _plain(table: Sequence[Row]) -> Row:
    return next(r for r in table if r.variant.name == PLAIN)


def _extra(row: Row, plain: Row) -> list[str]:
    if row.cost.engine is None or plain.cost.engine is None:
        return [""] * len(EXTRA)
    if row is plain:
        return [f"{n:,}" for n in plain.cost.engine]
    return [f"{n - least:+,}" for n, least in zip(row.cost.engine, plain.cost.engine, strict=True)]


def picture(table: Sequence[Row], data: Sequence[str]) -> Any:
    """A matplotlib figure: AP50 of the integers against cycles of a frame, a dot an operator."""
    from matplotlib.figure import Figure

    shown = Figure(figsize=(5.2 * len(data) + 2.6, 5.2), layout="constrained")
    every = shown.subplots(1, len(data), squeeze=False)[0]
    for axes, d in zip(every, data, strict=True):
        for k, row in enumerate(table):
            values: Mapping[int, float] = row.accuracy.get(f"{d}, integers", {})
            if not values:
                continue
            colour = f"C{k % 10}"
            mark = "os^Dv"[k // 10 % 5]
            kcycles = [row.cost.cycles / 1e3] * len(values)
            axes.plot(
                kcycles, [100 * v for v in values.values()], mark, color=colour, label=row.variant.title
            )
        axes.set(xlabel="kcycles a frame, estimated", ylabel="AP50 of the integers", title=d)
        axes.grid(alpha=0.3)
    handles, labels = every[0].get_legend_handles_labels()
    if handles:
        shown.legend(handles, labels, loc="outside right upper", fontsize=8)
    return shown
