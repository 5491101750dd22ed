"""The picture of a search: what each layer costs at few bits and what it got, and the path through the sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quant.search import Found

COLOURS = {2: "#a50026", 3: "#f46d43", 4: "#fdae61", 5: "#fee090", 6: "#abd9e9", 7: "#74add1", 8: "#313695"}


def picture(found: Found) -> Any:
    """A matplotlib figure."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    bits = found.path[found.chosen].bits
    fewest = min(found.layers[0].cost)
    costs = [layer.cost[fewest] for layer in found.layers]
    least = min((c for c in costs if c > 0), default=1e-6) / 2
    left.bar(
        range(len(costs)),
        [max(c, least) for c in costs],
        color=[COLOURS[bits[layer.name]] for layer in found.layers],
    )
    left.set_yscale("log")
    left.set_xticks(
        range(len(costs)), [_short(layer.name) for layer in found.layers], rotation=90, fontsize=6
    )
    left.set(title=f"what {fewest} bits cost each layer alone", ylabel="distance of the outputs from float")
    left.margins(x=0.01)
    used = sorted(set(bits.values()))
    left.legend(handles=[Patch(color=COLOURS[b], label=f"gets {b} bits") for b in used], fontsize=7)

    places = sorted(found.measured)
    right.plot([p.cost for p in found.path], "-", color="0.6", linewidth=1, label="sum of costs")
    right.set_yscale("symlog", linthresh=max(least, max(p.cost for p in found.path) / 1000))
    right.set(title="the path", xlabel="steps up from the fewest bits", ylabel="sum of costs")
    other = right.twinx()
    measured = [found.measured[k] for k in places]
    other.plot(places, measured, "k.", label="AP50, validation, not trained")
    other.axhline(found.float_ap50, color="k", linewidth=0.8, linestyle=":", label="float parent")
    other.plot(
        found.chosen, found.measured[found.chosen], "o", mfc="none", mec="#a50026", ms=10, label="chosen"
    )
    for place in {0, found.chosen, len(found.path) - 1}:
        text = f"{found.path[place].bytes / 1000:.1f} kB"
        at = (place, found.measured[place])
        other.annotate(text, at, xytext=(0, -14), textcoords="offset points", fontsize=7, ha="center")
    other.set_ylabel("AP50")
    values = [*measured, found.float_ap50]
    other.set_ylim(min(values) - 0.1 * max(values), max(values) + 0.05 * max(values))
    lines = [*right.get_lines(), *other.get_lines()]
    other.legend(lines, [str(line.get_label()) for line in lines], fontsize=7, loc="center right")
    return figure


def _short(name: str) -> str:
    return name.removesuffix(".conv").replace("branch", "b").replace("stages.", "s").replace("decoder.", "d")
