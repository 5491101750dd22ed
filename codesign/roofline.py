"""The roofline of an estimate as a picture: what the array and the memory allow, and where each step lies."""

from __future__ import annotations

import io

from codesign.board import Board
from codesign.dram import USABLE
from codesign.errors import ToolMissing
from codesign.estimate import KIND, Estimate, roof

COLOURS = {
    "compute": "tab:blue",
    "window": "tab:purple",
    "DRAM": "tab:red",
    "load": "tab:orange",
    "store": "tab:brown",
    "offsets": "tab:pink",
    "parameters": "tab:gray",
}


def picture(found: Estimate, board: Board) -> bytes:
    """A PNG: MACs a byte of DRAM against GMAC a second. Raises ToolMissing without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ToolMissing(
            "matplotlib: not installed, expected for --picture. Install the extra: "
            "pip install 'codesign-fpga[quant]', or leave out --picture."
        ) from None
    figure = Figure(figsize=(8, 5), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points = [
        (s.macs / (s.read_bytes + s.written_bytes), s.macs * found.clock_hz / s.cycles / 1e9, s)
        for s in found.steps
        if s.macs
    ]
    total = found.macs / (found.read_bytes + found.written_bytes)
    xs = [total, *(x for x, _, _ in points)]
    low, high = min(xs) / 2, max(xs) * 2
    ridge = roof(board, found.array, float("inf")) / (USABLE * board.dram_bytes_per_s)
    line = sorted({low, high, min(max(ridge, low), high)})
    axes.plot(line, [roof(board, found.array, x) / 1e9 for x in line], color="black", label="roof")
    for bound, colour in COLOURS.items():
        chosen = [(x, y) for x, y, s in points if s.bound == bound]
        if chosen:
            x, y = zip(*chosen, strict=True)
            axes.scatter(x, y, s=18, color=colour, label=f"limited by {bound}")
    frame = found.macs / found.seconds / 1e9
    axes.scatter([total], [frame], marker="*", s=160, color="tab:green", label="whole frame", zorder=3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("MACs a byte of DRAM traffic")
    axes.set_ylabel("GMAC a second")
    axes.set_title(
        f"{KIND}: {found.board}, {found.lanes} lanes, {found.clock_hz / 1e6:.0f} MHz, {1 / found.seconds:.1f} frames/s"
    )
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(fontsize="small")
    figure.tight_layout()
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()
