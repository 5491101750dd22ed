"""The estimate beside what is published: CoDeNet's engine and ours, on the same networks.

Nothing here is timed. Times of CoDeNet's engine are computed by codesign/published.py with constants that are the
same for every row, and stand beside those its authors measured. Ours are estimated from the program of each network,
and simulated cycle by cycle.
"""

from __future__ import annotations

from collections.abc import Iterator

from codesign import published
from codesign.board import load_board
from codesign.cycles import simulate
from codesign.emit import sources
from codesign.estimate import array_macs, estimate
from codesign.explore import explore
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
# frames/s that 75 % of an ultra96's memory bandwidth allow if every layer reads and writes its maps: bytes of CoDeNet's
# layers, 40.4 MB at 512 x 512 and a quarter at 256 x 256, and the weights.
ROOF = {"b": "294", "c": "78", "d": "50"}


def tables() -> Iterator[Table]:
    yield _networks()
    yield _operators()
    yield _calls()
    yield from _ours()


def _networks() -> Table:
    table = Table(
        "CoDeNet's engine: convolutions of a frame, estimated beside measured by its authors",
        ("network", "calls", "estimated ms", "measured ms", "off by"),
        note=f"{published.ENTRY} cycles a loop entered, {published.CALL_S * 1e6:.0f} us a call, 250 MHz, for every row "
        "of these three tables",
    )
    for config in published.CONFIGS:
        made = list(published.calls(config.size, config.widths))
        _row(table, (config.name, str(len(made))), published.milliseconds(made), config.measured_ms)
    return table


def _operators() -> Table:
    table = Table(
        "CoDeNet's operators, 64x64x256 to 256 channels",
        ("operator, offsets", "estimated ms", "measured ms", "off by"),
        note="measured with the last-level cache off",
    )
    for o in published.OPERATORS:
        _row(table, (o.name,), published.operator_milliseconds(o), o.measured_ms)
    for dense, name in ((True, "full"), (False, "depthwise")):
        ours, theirs = (published.ratio(dense, measured) for measured in (False, True))
        table.rows.append(
            (
                f"{name}, free / square",
                f"{ours:.2f} x",
                f"{theirs:.2f} x",
                f"{ours / theirs - 1:+.1%}",
            )
        )
    return table


def _calls() -> Table:
    table = Table(
        "CoDeNet's single calls, a 1x1 and a depthwise convolution each",
        ("side, channels in, out, stride", "slowest", "estimated ms", "measured ms", "off by"),
        note="times printed by the published notebook",
    )
    for call, measured in published.NOTEBOOK:
        found = published.processes(call)
        name = f"{call.side}, {call.inputs}, {call.outputs}, {call.stride}"
        _row(table, (name, max(found, key=lambda n: found[n])), published.milliseconds([call]), measured)
    return table


def _row(table: Table, names: tuple[str, ...], ours: float, measured: float) -> None:
    table.rows.append((*names, f"{ours:.2f}", f"{measured:.2f}", f"{ours / measured - 1:+.1%}"))


def _ours() -> Iterator[Table]:
    speed = Table(
        "Our engine, frames/s simulated (estimated), image to raw heads",
        ("network", *BOARDS, "CoDeNet, measured on ultra96", "roof of ultra96, every layer through DRAM"),
        note="random weights; on each board the engine that codesign build takes, at the board's default "
        "clock. CoDeNet's figures are its authors' (arXiv 2006.08357); the roof is that of its own memory traffic",
    )
    engines = Table(
        "The engines, and what limits them",
        (
            "network",
            "board",
            "lanes",
            "array",
            "DSP",
            "BRAM36",
            "LUT counted",
            "MAC efficiency",
            "limited by",
        ),
        note="array: pixels x turns. Limits: shares of the simulated cycles by the process at work most of a step",
    )
    for name, shape in CONFIGS.items():
        graph = random_codenet_graph(0, **shape)
        cells = []
        for board_name in BOARDS:
            board = load_board(board_name)
            found = explore(graph, board)
            made, taken = found.plan, found.choices[0]
            cost = estimate(made.program, made.config, board)
            counted = simulate(sources(made.config), made.program, board)
            cells.append(f"{1 / counted.seconds:.1f} ({taken.frames_per_s:.1f})")
            bounds: dict[str, int] = {}
            for step in counted.steps:
                bounds[step.bound] = bounds.get(step.bound, 0) + step.cycles
            most = sorted(bounds.items(), key=lambda item: -item[1])[:3]
            efficiency = sum(s.array_macs for s in cost.steps) / (counted.cycles * array_macs(made.config))
            engines.rows.append((
                name, board_name, str(made.config.lanes), f"{made.config.pixels}x{made.config.turns}",
                f"{taken.dsps} of {board.dsps}", f"{taken.bram36} of {board.bram36}",
                f"{taken.luts:,} of {board.luts:,}",
                f"{efficiency:.0%}", ", ".join(f"{bound} {n / counted.cycles:.0%}" for bound, n in most),
            ))  # fmt: skip
        speed.rows.append((name, *cells, f"{PUBLISHED[name]:.1f}", ROOF.get(name, "-")))
    yield speed
    yield engines
