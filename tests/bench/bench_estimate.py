"""The estimate beside what is published: CoDeNet's engine and ours, on the same networks.

Nothing here is timed. Times of CoDeNet's engine are computed by codesign/published.py with constants that are the
same for every row, and stand beside those its authors measured. Ours are estimated from the program of each network.
"""

from __future__ import annotations

from collections.abc import Iterator

from codesign import published
from codesign.board import load_board
from codesign.estimate import estimate
from codesign.plan import plan
from codesign.resources import fits, resources
from tests.bench.harness import Table
from tests.models import CONFIG_A, random_codenet_graph

BOARDS = ("ultra96", "pynq-z2", "zcu104", "kv260")
WIDE = {**CONFIG_A, "widths": published.WIDTHS_2X}
CONFIGS = {
    "a": {"size": 256, **CONFIG_A},
    "b": {"size": 256, **CONFIG_A, "stem": "maxpool"},
    "c": {"size": 512, **CONFIG_A},
    "d": {"size": 512, **WIDE},
    "e": {"size": 512, **WIDE, "stem": "maxpool"},
}
PUBLISHED = {
    "a": 32.2,
    "b": 26.9,
    "c": 9.3,
    "d": 5.2,
    "e": 4.6,
}  # frames/s measured on ultra96, arXiv 2006.08357


def tables() -> Iterator[Table]:
    yield _check()
    yield _ours()


def _check() -> Table:
    table = Table(
        "CoDeNet's engine: estimated beside measured by its authors",
        ("what", "estimated ms", "measured ms", "off by", "refill of innermost loops only", "none"),
        note=f"{published.ENTRY} cycles a loop entered, {published.CALL_S * 1e6:.0f} us a call, 250 MHz, for every "
        "row. The model knows neither DRAM nor the filling of row buffers, and misses the depthwise operator by far",
    )
    for config in published.CONFIGS:
        layers = list(published.convolutions(config.size, config.widths))
        _row(table, f"{config.name}, {len(layers)} convolutions", layers, config.measured_ms)
    for name, layer, measured in published.OPERATORS:
        _row(table, f"{name}, 64x64x256, bounded and square", [layer], measured)
    return table


def _row(table: Table, name: str, layers: list[published.Convolution], measured: float) -> None:
    ours = published.milliseconds(layers)
    flat = published.milliseconds(layers, entry=0)
    inner = published.milliseconds(layers, inner_only=True)
    others = (f"{inner:.2f} ({inner / measured - 1:+.1%})", f"{flat:.2f}")
    table.rows.append((name, f"{ours:.2f}", f"{measured:.2f}", f"{ours / measured - 1:+.1%}", *others))


def _ours() -> Table:
    table = Table(
        "Our engine, frames/s estimated from the program, image to raw heads",
        ("network", *BOARDS, "efficiency", "limited by", "CoDeNet, measured"),
        note="random weights; each board at its default lanes and clock. An asterisk: over the board's budget by "
        "our count. Efficiency and limits are those of ultra96",
    )
    for name, shape in CONFIGS.items():
        graph = random_codenet_graph(0, **shape)
        cells, efficiency, limits = [], "", ""
        for board_name in BOARDS:
            board = load_board(board_name)
            made = plan(graph, board.lanes)
            cost = estimate(made.program, made.config, board)
            mark = "" if fits(resources(made.config), board) else "*"
            cells.append(f"{1 / cost.seconds:.1f}{mark}")
            if board_name == "ultra96":
                efficiency = f"{cost.efficiency:.0%}"
                limits = ", ".join(f"{bound} {n / cost.cycles:.0%}" for bound, n in cost.by_bound().items())
        table.rows.append((name, *cells, efficiency, limits, f"{PUBLISHED[name]:.1f}"))
    return table
