"""The verb for networks that share an engine: cascade."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from codesign.cli_common import Json, fail, figure, note, print_json, table, tracked, verb, working
from codesign.cli_eval import RungName

if TYPE_CHECKING:
    from codesign.bundle import Bundle
    from codesign.cascade_figures import Outcome, Seen

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the pictures, that the first network settles


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  codesign cascade small big --data scenes:count=200")(cascade)


@verb
def cascade(
    bundles: Annotated[list[Path], typer.Argument(help="Two or more bundles of one engine.")],
    data: Annotated[str, typer.Option(metavar="SPEC", help="A data spec, as of `codesign eval`.")],
    doubt: Annotated[
        list[float] | None,
        typer.Option(
            min=0,
            help="Threshold; may be repeated (else those by which the first settles 10, 20, ... 90 % of the pictures).",
            show_default=False,
        ),
    ] = None,
    rung: Annotated[
        RungName, typer.Option(help="integer or csim: the same maps, one in numpy, one by the C++.")
    ] = RungName.integer,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures.")] = None,
    as_json: Json = False,
) -> None:
    """What it costs and finds to ask the cheapest network first, and the next one where it is not sure.

    A picture is settled by the first network in no more doubt than the threshold: the sum of s * (1 - s) over its
    detections of score s from 0.1 on. The last one settles what is left. Latency is min, mean and max over the
    pictures: estimated, of the engine without the host. The bundles are of one engine (`codesign build --engine`), so
    that networks change from frame to frame without another bitstream; on a board, boards.cascade.Cascade does.
    """
    from codesign.board import bundle_board
    from codesign.bundle import load
    from codesign.cascade_figures import outcome
    from codesign.estimate import estimate
    from quant.data import load as load_data

    if rung not in (RungName.integer, RungName.csim):
        fail(f"codesign cascade: --rung is {rung.value}, expected integer or csim. Choose one of them.")
    found = [load(path) for path in bundles]
    _check(found)
    board = bundle_board(found[0].directory, found[0].board)
    costs = [estimate(b.program, b.config, board).seconds for b in found]
    order = sorted(range(len(found)), key=costs.__getitem__)
    found, seconds = [found[i] for i in order], [costs[i] for i in order]
    dataset = load_data(data)
    pictures = _seen(found, rung, dataset, data, limit)
    wanted = sorted(set(doubt or _thresholds(pictures)))
    results = [outcome(pictures, seconds, threshold, dataset.classes) for threshold in wanted]
    alone = [_alone(pictures, seconds, i, dataset.classes) for i in range(len(found))]
    names = [bundle.directory.name for bundle in found]
    if as_json:
        print_json(
            {
                "board": board.name,
                "data": data,
                "networks": [
                    {"bundle": str(b.directory), **a.to_json()} for b, a in zip(found, alone, strict=True)
                ],
                "kind": "estimated",
                "thresholds": [result.to_json() for result in results],
            }
        )
        return
    rows = [_row(f"{name} alone", a) for name, a in zip(names, alone, strict=True)]
    rows += [_row(f"{result.doubt:g}", result) for result in results]
    columns = ["doubt up to", *(f"by {escape(name)}" for name in names), "min ms", "mean ms", "max ms"]
    title = f"{' then '.join(names)} on {board.name}, {len(pictures)} pictures of {data}"
    table(escape(title), (*columns, "AP50", "COCO AP"), rows)
    note("Latency is estimated, of the engine alone. AP is of the answers that are taken.")


def _check(found: Sequence[Bundle]) -> None:
    """Refuse bundles that one bitstream does not run."""
    from codesign.errors import BundleError

    if len(found) < 2:
        fail("codesign cascade: one bundle, expected two or more. Name the dearer networks, too.")
    first = found[0]
    for bundle in found[1:]:
        if bundle.config != first.config or bundle.board != first.board:
            raise BundleError(
                f"{bundle.directory}: has another engine than {first.directory}, expected the same. "
                f"Build it with --engine {first.directory}."
            )


def _seen(found: Sequence[Bundle], rung: RungName, dataset: Any, data: str, limit: int | None) -> list[Seen]:
    """Every network on every picture."""
    from codesign import rungs
    from codesign.accuracy import class_table
    from codesign.cascade_figures import Seen
    from codesign.decode import Detections
    from codesign.errors import DataError
    from codesign.metrics import Objects
    from codesign.parallel import in_order

    with working("Preparing"):
        runners = [
            rungs.csim_runner(b) if rung is RungName.csim else rungs.integer_runner(b.model) for b in found
        ]
        tables = [class_table(r.detector.classes, dataset.classes, data) for r in runners]

    def look(sample: Any) -> Seen:
        answers = []
        for runner, labels_of in zip(runners, tables, strict=True):
            seen = runner.detect(sample.image)
            labels = labels_of[seen.labels]
            known = labels >= 0
            answers.append(Detections(seen.boxes[known], labels[known], seen.scores[known]))
        return Seen(Objects(sample.boxes, sample.labels, sample.difficult), tuple(answers))

    count = min(len(dataset), limit or len(dataset))
    samples = (dataset[i] for i in tracked(range(count), "Looking"))
    pictures = list(in_order(look, samples, runners[0].threads))
    if not pictures:
        raise DataError(f"{data}: is empty, expected at least one picture. Name another split or directory.")
    return pictures


def _thresholds(pictures: Sequence[Seen]) -> list[float]:
    """Doubts of the first network below which the SHARES of the pictures lie, to three decimals."""
    import math

    from codesign.cascade import doubt

    doubts = sorted(doubt(picture.found[0]) for picture in pictures)
    return [math.ceil(1000 * doubts[math.ceil(share * len(doubts)) - 1]) / 1000 for share in SHARES]


def _alone(pictures: Sequence[Seen], seconds: Sequence[float], i: int, classes: Sequence[str]) -> Outcome:
    """One network on everything."""
    from dataclasses import replace

    from codesign.cascade_figures import Seen, outcome

    found = outcome([Seen(p.truth, (p.found[i],)) for p in pictures], [seconds[i]], 0, classes)
    return replace(found, shares=tuple(float(k == i) for k in range(len(seconds))))


def _row(name: str, of: Outcome) -> tuple[str, ...]:
    times = (f"{1e3 * value:.2f}" for value in (of.least, of.mean, of.most))
    shares = (f"{share:.0%}" for share in of.shares)
    return (name, *shares, *times, figure(of.scores.ap50), figure(of.scores.coco_ap))
