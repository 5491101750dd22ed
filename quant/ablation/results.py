"""Table and picture of the runs there are. Figures of fewer runs than were asked for say so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from quant.ablation.costs import ARRAY, BOARD, LANES, Cost
from quant.ablation.runs import Run, accuracy_of
from quant.ablation.variants import FREE, PLAIN, ROUNDED, VARIANTS, Variant

# Student's t, two-sided 95 %, of 1, 2, ... degrees of freedom; of more than nine the last, a little wide.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
Accuracy = Mapping[str, Mapping[int, float]]  # data set, or "data set, integers" -> seed -> AP50


@dataclass(frozen=True)
class Row:
    """A variant: AP50 of each seed, and what it costs."""

    variant: Variant
    accuracy: Accuracy
    cost: Cost


def rows(done: Iterable[Run], costs: Mapping[str, Cost], variants: Sequence[Variant] = VARIANTS) -> list[Row]:
    """One for each variant, in their order, from what has been measured so far."""
    found: dict[str, dict[str, dict[int, float]]] = {v.name: {} for v in variants}
    for run in done:
        for kind, ap50 in accuracy_of(run).items():
            column = run.data if kind == "float" else f"{run.data}, integers"
            found[run.variant.name].setdefault(column, {})[run.seed] = ap50
    return [Row(v, found[v.name], costs[v.name]) for v in variants]


def gains(table: Sequence[Row], column: str) -> list[tuple[float, float]]:
    """For each seed that all three have: AP50 that free deformable windows gain over plain ones, and the hardware's."""
    found = {r.variant.name: r.accuracy.get(column, {}) for r in table}
    seeds = sorted(set(found[PLAIN]) & set(found[FREE]) & set(found[ROUNDED]))
    return [(found[FREE][s] - found[PLAIN][s], found[ROUNDED][s] - found[PLAIN][s]) for s in seeds]


def figure(values: Mapping[int, float], seeds: int) -> str:
    """Mean in percent, deviation over seeds, and how many where some are missing."""
    if not values:
        return ""
    text = f"{100 * mean(values.values()):.1f}"
    if len(values) > 1:
        text += f" ± {100 * stdev(values.values()):.1f}"
    return text + (f" ({len(values)} of {seeds})" if len(values) < seeds else "")


def markdown(table: Sequence[Row], data: Sequence[str], seeds: int, network: str) -> str:
    """The table, and the answer, as far as there is one."""
    columns = [c for d in data for c in (d, f"{d}, integers") if any(r.accuracy.get(c) for r in table)]
    plain = next(r for r in table if r.variant.name == PLAIN)
    head = ["operator", "published VOC AP"]
    for c in columns:
        head += [f"{c} AP50", *([f"against {plain.variant.title}"] if c in data else [])]
    head += ["parameters", "MMAC", "kcycles", "DRAM kB", ""]
    lines = [line(head), line(["---"] * len(head))]
    for row in table:
        published = "" if row.variant.published is None else f"{row.variant.published:.1f}"
        cost = row.cost
        cells = [row.variant.title, published]
        for c in columns:
            cells += [
                figure(row.accuracy.get(c, {}), seeds),
                *([against(row, plain, c)] if c in data else []),
            ]
        moved = (cost.read_bytes + cost.written_bytes) / 1e3
        cells += [
            f"{cost.parameters:,}",
            f"{cost.macs / 1e6:.1f}",
            f"{cost.cycles / 1e3:.0f}",
            f"{moved:,.0f}",
        ]
        lines.append(line([*cells, cost.kind]))
    asked = sum(len(r.accuracy.get(d, {})) for r in table for d in data), len(table) * len(data) * seeds
    part = "" if asked[0] == asked[1] else f" A part of the ablation: {asked[0]} of {asked[1]} networks."
    lines += ["", f"{network}; {seeds} seed{'s' * (seeds > 1)}, mean ± standard deviation.{part}"]
    lines += [f"Costs of a frame of {data[0]} on {BOARD}: {LANES} lanes, array {ARRAY[0]}x{ARRAY[1]}.", ""]
    return "\n".join([*lines, *(answer(table, c) for c in data)]) + "\n"


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def answer(table: Sequence[Row], column: str) -> str:
    """How much of the deformable gain the hardware's operator keeps, by pairs; no share of a gain within noise."""
    found = gains(table, column)
    if not found:
        return f"- {column}: not all of depthwise 3x3, free and rounded have been trained."
    free, ours = ([100 * g[k] for g in found] for k in (0, 1))
    if len(found) == 1:
        return (
            f"- {column}: free deformable windows change AP50 by {change(free)}, the hardware's by {change(ours)}, "
            "with one seed: whether that is more than chance is not known."
        )
    behind = [a - b for a, b in zip(ours, free, strict=True)]
    low, high = interval(free)
    said = (
        f"- {column}, pairs of {len(found)} seeds: free deformable windows change AP50 by {change(free)} "
        f"({between(free)}), the hardware's by {change(ours)} ({between(ours)}), against free {change(behind)} "
        f"({between(behind)}): "
    )
    if low <= 0 <= high:
        return said + "no gain of free windows beyond chance, so no share of it."
    if high < 0:
        return said + "free windows lose."
    return said + f"{mean(ours) / mean(free):.0%} of the gain is kept, in the mean."


def interval(points: Sequence[float]) -> tuple[float, float]:
    """Where the mean of so many differences lies with 95 % confidence, were they normal: Student's t."""
    half = T95[min(len(points) - 1, len(T95)) - 1] * stdev(points) / len(points) ** 0.5
    return mean(points) - half, mean(points) + half


def between(points: Sequence[float]) -> str:
    low, high = interval(points)
    return f"95 %: {low:+.1f} to {high:+.1f}"


def against(row: Row, plain: Row, column: str) -> str:
    """Points of AP50 more than the plain window's, over the seeds that both have."""
    ours, theirs = row.accuracy.get(column, {}), plain.accuracy.get(column, {})
    both = sorted(set(ours) & set(theirs))
    if row is plain or not both:
        return ""
    return change([100 * (ours[s] - theirs[s]) for s in both])


def change(points: Sequence[float]) -> str:
    """Mean of points of AP50, and deviation over seeds."""
    return f"{mean(points):+.1f}" + (f" ± {stdev(points):.1f}" if len(points) > 1 else "")


def picture(table: Sequence[Row], data: Sequence[str]) -> Any:
    """A matplotlib figure: AP50 of each set, every seed a dot, published VOC AP, and cycles."""
    from matplotlib.figure import Figure

    columns = [*data, "published", "cycles"]
    shown = Figure(figsize=(2 + 2.6 * len(columns), 0.36 * len(table) + 1.2), layout="constrained")
    every = shown.subplots(1, len(columns), sharey=True)
    places = range(len(table))
    for axes, column in zip(every, columns, strict=True):
        if column == "published":
            known = [(r.variant.published, k) for k, r in enumerate(table) if r.variant.published is not None]
            axes.plot([v for v, _ in known], [k for _, k in known], "D", color="gray", markersize=5)
            axes.set(title="published: VOC AP, 512x512", xlim=(38, 43.5))
        elif column == "cycles":
            colours = ["tab:blue" if r.cost.kind == "estimated" else "lightsteelblue" for r in table]
            axes.barh(places, [r.cost.cycles / 1e3 for r in table], color=colours)
            axes.set(title="kcycles: estimated (dark), reckoned")
        else:
            values = [[100 * a for a in r.accuracy.get(column, {}).values()] for r in table]
            means = [(mean(v), k) for k, v in enumerate(values) if v]
            axes.plot([m for m, _ in means], [k for _, k in means], "D", color="tan", markersize=7)
            for place, found in zip(places, values, strict=True):
                axes.plot(found, [place] * len(found), "k.", markersize=4)
            every_value = [a for v in values for a in v] or [0.0]
            room = max(1.0, max(every_value) - min(every_value))
            axes.set(
                title=f"{column}: AP50, float",
                xlim=(max(0, min(every_value) - room / 2), max(every_value) + room / 8),
            )
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(labelsize=8)
        axes.title.set_fontsize(9)
    every[0].set_yticks(places, [r.variant.title for r in table])
    every[0].invert_yaxis()
    return shown
