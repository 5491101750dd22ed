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

    figure = Figure(figsize=(11, 4), layout="constrained")
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
        range(len(costs)), [_short(layer.name) for layer in found.layers], rotation=90, fontsize=5
    )
    left.set(title=f"what {fewest} bits cost each layer alone", ylabel="distance of the outputs from float")
    left.margins(x=0.01)
    used = sorted(set(bits.values()))
    left.legend(handles=[Patch(color=COLOURS[b], label=f"gets {b} bits") for b in used], fontsize=7)

    sizes = [p.bytes / 1000 for p in found.path]
    right.plot(sizes, [p.cost for p in found.path], "-", color="0.6", linewidth=1, label="sum of costs")
    right.set_yscale("symlog", linthresh=max(least, max(p.cost for p in found.path) / 1000))
    right.set(title="the path", xlabel="kB of weights", ylabel="sum of costs")
    other = right.twinx()
    places = sorted(found.measured)
    other.plot(
        [sizes[k] for k in places],
        [found.measured[k] for k in places],
        "k.",
        label="AP50, validation, not trained",
    )
    other.axhline(found.float_ap50, color="k", linewidth=0.8, linestyle=":", label="float parent")
    other.plot(
        sizes[found.chosen],
        found.measured[found.chosen],
        "o",
        mfc="none",
        mec="#a50026",
        ms=10,
        label="chosen",
    )
    other.set_ylim(0, None)
    lines = [*right.get_lines(), *other.get_lines()]
    other.legend(lines, [str(line.get_label()) for line in lines], fontsize=7, loc="center right")
    return figure


def _short(name: str) -> str:
    return name.removesuffix(".conv").replace("branch", "b").replace("stages.", "s").replace("decoder.", "d")
