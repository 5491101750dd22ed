"""The verb that measures accuracy: eval."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from codesign.cli_common import (
    Json,
    figure,
    needs_torch,
    note,
    print_json,
    table,
    tracked,
    verb,
    working,
    write_beside,
)

if TYPE_CHECKING:
    from codesign.metrics import Scores, SizeScore
    from codesign.rungs import Runner

CARD_RUNGS = ("float", "fake-quant")  # what a model file quotes and cannot run


class RungName(str, Enum):
    float = "float"
    fake_quant = "fake-quant"
    onnx = "onnx"
    integer = "integer"
    csim = "csim"


@dataclass(frozen=True)
class Column:
    """What one rung was found to be, or what the model's card says of it (`scores` is None then)."""

    rung: str
    figures: dict[str, Any]
    scores: Scores | None = None
    found: tuple[dict[str, Any], ...] = ()
    data: str = ""  # of the card's figures

    def to_json(self) -> dict[str, Any]:
        if self.scores is None:
            return {"rung": self.rung, "from": "card", "data": self.data, **self.figures}
        return {"rung": self.rung, "from": "run", **asdict(self.scores)}


def register(app: typer.Typer) -> None:
    app.command("eval", epilog="Example:  codesign eval codenet-a --data scenes:count=200 --rung integer")(
        evaluate
    )


@verb
def evaluate(
    what: Annotated[
        str, typer.Argument(help="A bundle, a model.onnx, a shipped model, or a training folder.")
    ],
    data: Annotated[str, typer.Option(metavar="SPEC", help="A data spec, see above.")],
    rung: Annotated[
        list[RungName] | None,
        typer.Option(
            help="Which implementation to run; may be repeated (else every one that can be).",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write detections (of the last rung) as COCO results."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Accuracy on a data set, the rungs of the ladder side by side: AP50, COCO AP, by class and by size.

    \b
    Data specs (parts of scenes: may be left out):
      scenes:split=test,count=500,size=256,seed=0
      voc:DIR:SPLIT
      coco:images=DIR,annotations=FILE

    A model file runs as onnx (the file in onnxruntime) and integer, a bundle as csim too, a training folder as float
    and fake-quant (torch). What a model file cannot run is quoted from its card. Classes are matched by name.
    """
    from quant.data import load

    wanted = [r.value for r in dict.fromkeys(rung or _possible(what))]
    if set(wanted) & set(CARD_RUNGS):
        needs_torch(f"eval --rung {next(r for r in wanted if r in CARD_RUNGS)}")
    dataset = load(data)
    columns = _card(what)
    for name in wanted:
        columns = [c for c in columns if c.rung != name]
        try:
            columns.append(_run(what, name, dataset, data, limit))
        except _missing() as error:
            if rung or name != RungName.onnx.value:
                raise
            note(f"onnx: not run. {error}")
    if output is not None:
        write_beside(output, (json.dumps(columns[-1].found, indent=1) + "\n").encode())
    if as_json:
        print_json(_json(what, data, columns))
        return
    _tables(what, data, columns)


def _missing() -> type[Exception]:
    from codesign.errors import ToolMissing

    return ToolMissing


def _possible(what: str) -> list[RungName]:
    """The rungs that this kind of thing can run on."""
    path = Path(what)
    if (path / "recipe.json").is_file():
        return [RungName.float, *([RungName.fake_quant] if (path / "qat.safetensors").is_file() else [])]
    runs = [RungName.onnx, RungName.integer]
    return [*runs, RungName.csim] if path.is_dir() else runs


def _card(what: str) -> list[Column]:
    """Columns quoted from the card of a model file; none for a training folder."""
    from codesign.ladder import card_of
    from codesign.onnx_read import load
    from codesign.shipped import find_model

    if (Path(what) / "recipe.json").is_file():
        return []
    card = card_of({entry.key: entry.value for entry in load(find_model(what))[1].metadata_props})
    said, data = (
        {name: card.get(name) for name in CARD_RUNGS},
        str(card.get("held_out", card.get("data", "its data"))),
    )
    return [
        Column(name, {k: float(v) for k, v in kept.items() if isinstance(v, (int, float))}, data=data)
        for name, kept in said.items()
        if isinstance(kept, dict)
    ]


def _run(what: str, rung: str, dataset: Any, data: str, limit: int | None) -> Column:
    from codesign.accuracy import evaluate_detector

    with working(f"Preparing {rung}"):
        runner = _runner(what, rung)
    count = min(len(dataset), limit or len(dataset))
    samples = (dataset[i] for i in tracked(range(count), f"Evaluating on {rung}"))
    ids = getattr(dataset, "category_ids", None)
    result = evaluate_detector(
        runner.detect, runner.detector.classes, samples, dataset.classes, ids, data, runner.threads
    )
    if result.lacking:
        note(f"The model does not know {', '.join(result.lacking)}: counted as never found.")
    figures = {key: getattr(result.scores, key) for key in ("ap50", "ap50_voc07", "coco_ap")}
    return Column(rung, figures, result.scores, tuple(result.results))


def _runner(what: str, rung: str) -> Runner:
    from codesign import rungs
    from codesign.shipped import find_model

    if rung in CARD_RUNGS:
        return _torch_runner(Path(what), rung)
    if rung == RungName.csim.value:
        from codesign.bundle import load

        return rungs.csim_runner(load(Path(what)))
    path = find_model(what)
    return rungs.onnx_runner(path) if rung == RungName.onnx.value else rungs.integer_runner(path)


def _torch_runner(run: Path, rung: str) -> Runner:
    """The float or the quantized network of a run's folder."""
    from quant.evaluate import torch_runner
    from quant.pipeline import configuration, float_model, opened, quantized_model

    recipe = opened(run)
    quantized = rung == RungName.fake_quant.value
    model, data = quantized_model(recipe, run) if quantized else float_model(recipe, run)
    runner: Runner = torch_runner(model, configuration(recipe, len(data.classes)), data.classes, rung)
    return runner


def _json(what: str, data: str, columns: Sequence[Column]) -> dict[str, Any]:
    from codesign.metrics import FEW, SIZES

    return {
        "model": what, "data": data, "few_objects": FEW, "sizes": SIZES, "rungs": [c.to_json() for c in columns],
    }  # fmt: skip


def _tables(what: str, data: str, columns: Sequence[Column]) -> None:
    """All rungs side by side; then every class, in columns shared by rungs that found the very same boxes."""
    from codesign.metrics import FEW, SIZES

    run = [(c, c.scores) for c in columns if c.scores is not None]
    _, first = run[0]
    heads = [c.rung if c.scores else f"{c.rung} (card)" for c in columns]
    rows: list[tuple[str, ...]] = [
        (title, "", *(figure(c.figures.get(key)) for c in columns))
        for title, key in (("AP50", "ap50"), ("AP50 VOC07", "ap50_voc07"), ("COCO AP", "coco_ap"))
    ]
    for i, size in enumerate(first.sizes):
        cells = (figure(None if c.scores is None else c.scores.sizes[i].coco_ap) for c in columns)
        rows.append((f"COCO AP {size.size}", _count(size.objects, FEW), *cells))
    table(f"{escape(what)} on {escape(data)}, {first.images} pictures", ("", "objects", *heads), rows)
    for scores, names in _groups(run):
        order = sorted(
            scores.per_class, key=lambda c: (math.isnan(c.ap50), -c.ap50 if c.objects else 0, c.name)
        )
        table(
            f"By class, {' = '.join(names)}",
            ("class", "objects", "AP50", "AP50 VOC07", "COCO AP", *(f"{s} (objects)" for s in SIZES)),
            [
                (
                    escape(c.name),
                    _count(c.objects, FEW),
                    figure(c.ap50),
                    figure(c.ap50_voc07),
                    figure(c.coco_ap),
                )
                + tuple(_cell(s, FEW) for s in c.sizes)
                for c in order
                if c.objects
            ],
        )
    low, high = (round(math.sqrt(SIZES["medium"][i])) for i in (0, 1))
    quoted = sorted({c.data for c in columns if c.scores is None})
    note(
        f"COCO AP: IoU 0.50:0.95. Sizes are COCO's: small up to {low}x{low} pixels of the picture, large from "
        f"{high}x{high}. * marks fewer than {FEW} objects: one more found is a step of over {1 / FEW:g} in recall."
        + (f" (card): quoted from the model's card, on {', '.join(quoted)}." if quoted else "")
    )


def _groups(run: Sequence[tuple[Column, Scores]]) -> list[tuple[Scores, list[str]]]:
    """Scores, and the rungs that found the very same boxes, in order."""
    groups: list[tuple[Column, Scores, list[str]]] = []
    for column, scores in run:
        same = next((names for other, _, names in groups if other.found == column.found), None)
        if same is None:
            groups.append((column, scores, [column.rung]))
        else:
            same.append(column.rung)
    return [(scores, names) for _, scores, names in groups]


def _count(objects: int, few: int) -> str:
    return f"{objects}{'*' if 0 < objects < few else ''}"


def _cell(size: SizeScore, few: int) -> str:
    return f"{figure(size.coco_ap)} ({_count(size.objects, few)})" if size.objects else "-"
