"""The verb that compares operators by training them. It loads torch when it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from codesign.cli_common import Json, needs_torch, out, print_json, verb
from codesign.cli_watch import Watch


def register(app: typer.Typer) -> None:
    app.command(epilog="Example:  codesign ablate -o runs/ablation --data scenes --seeds 3")(ablate)


@verb
def ablate(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the ablation; an interrupted one goes on.")
    ],
    data: Annotated[
        str, typer.Option(help="scenes, bccd, or both with a comma between; bccd wants CODESIGN_BCCD.")
    ] = "scenes",
    only: Annotated[
        str | None, typer.Option(help="Train only these operators now: names with commas between.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often each network is trained.")] = 1,
    start: Annotated[
        Path | None,
        typer.Option(help="Begin with this run's network, but for the decoder (else it is pretrained)."),
    ] = None,
    integers: Annotated[bool, typer.Option(help="Quantize what the engine runs, too.")] = True,
    study: Annotated[
        Literal["published", "dynamic"],
        typer.Option(help="The published ablation, or all dynamic operators beside a plain depthwise 3x3."),
    ] = "published",
    as_json: Json = False,
) -> None:
    """Compare operators of the decoder, in accuracy and in what they cost.

    Several of these, each with other operators in --only, may work in one folder.
    """
    needs_torch("ablate")
    from quant.ablation.command import RESULTS
    from quant.ablation.command import ablate as ablated
    from quant.ablation.studies import STUDIES

    sets, names = data.split(","), only.split(",") if only else ()
    with Watch("Ablation") as watch:
        text = ablated(output, sets, names, seeds, start, integers, watch.report, watch.say, STUDIES[study])
    if as_json:
        print_json(json.loads((output / RESULTS).read_text(encoding="utf-8")))
    else:
        out.print(text, markup=False, highlight=False, soft_wrap=True)
