"""Data specs: one short text that names a data set on a command line.

scenes:split=test,count=500,size=256,seed=0      made pictures (every part may be left out)
voc:DIR:SPLIT                                    a Pascal VOC directory; SPLIT `all` takes every annotation
coco:images=DIR,annotations=FILE                 COCO json

$NAME in a spec stands for that variable of the environment, so that a recipe need not know where data lies.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from codesign.errors import DataError
from quant.data.coco import Coco
from quant.data.types import Dataset
from quant.data.voc import Voc

FORMS = "scenes:split=test,count=500,size=256,seed=0 or voc:DIR:SPLIT or coco:images=DIR,annotations=FILE"
_SCENES = {"split": "test", "count": "500", "size": "256", "seed": "0"}
_LEAST = {"count": 1, "size": 32, "seed": 0}


def load(spec: str) -> Dataset:
    """The data set that `spec` names. Raises DataError if the text or the data is not as it should be."""
    kind, colon, rest = _expanded(spec).partition(":")
    makers: dict[str, Callable[[str, str], Dataset]] = {"scenes": _scenes, "voc": _voc, "coco": _coco}
    if kind not in makers or (kind != "scenes" and not colon):
        raise DataError(f"data {spec!r}: not a data spec, expected {FORMS}.")
    return makers[kind](spec, rest)


def reseeded(spec: str, by: int) -> str:
    """The same data with other images where they are made: the seed of scenes raised. Photographs stay as they are."""
    kind, _, rest = spec.partition(":")
    if kind != "scenes":
        return spec
    values = _pairs(spec, rest, tuple(_SCENES))
    values["seed"] = str(int(values.get("seed", _SCENES["seed"])) + by)
    return f"{kind}:{','.join(f'{name}={value}' for name, value in values.items())}"


def _expanded(spec: str) -> str:
    """The spec with $NAME and ${NAME} replaced."""
    text = os.path.expandvars(spec)
    if unset := re.search(r"\$(\w+|\{\w+\})", text):
        name = unset[1].strip("{}")
        raise DataError(
            f"data {spec!r}: {name} is not set, expected the folder of the data in it. Set it: {name}=DIR."
        )
    return text


def _scenes(spec: str, rest: str) -> Dataset:
    values = {**_SCENES, **_pairs(spec, rest, tuple(_SCENES))}
    problems = [f"split is {values['split']!r}, expected train, val or test"] * (
        values["split"] not in ("train", "val", "test")
    )
    numbers = {}
    for name, least in _LEAST.items():
        text = values[name]
        if not text.isascii() or not text.isdigit() or int(text) < least:
            problems.append(f"{name} is {text!r}, expected a whole number of at least {least}")
        else:
            numbers[name] = int(text)
    if problems:
        raise DataError(f"data {spec!r}: {'; '.join(problems)}. Correct the spec.")
    from quant.data.scenes import MissingPhotographs, Scenes

    try:
        return Scenes(split=values["split"], **numbers)
    except MissingPhotographs as error:
        raise DataError(f"data {spec!r}: {error}") from None


def _voc(spec: str, rest: str) -> Dataset:
    folder, colon, split = rest.rpartition(":")
    if not colon or not folder or not split:
        raise DataError(
            f"data {spec!r}: expected voc:DIR:SPLIT, for example voc:data/VOC2007:test. Add what is missing."
        )
    return Voc(folder, split)


def _coco(spec: str, rest: str) -> Dataset:
    pairs = _pairs(spec, rest, ("images", "annotations"))
    missing = [f"{k}=" for k in ("images", "annotations") if not pairs.get(k)]
    if missing:
        raise DataError(
            f"data {spec!r}: has no {' and no '.join(missing)}, expected coco:images=DIR,annotations=FILE. Add it."
        )
    return Coco(pairs["images"], pairs["annotations"])


def _pairs(spec: str, rest: str, known: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        name, equals, value = part.partition("=")
        if not equals or name not in known:
            raise DataError(
                f"data {spec!r}: {part!r} is not understood, expected NAME=VALUE with NAME one of "
                f"{', '.join(known)}. Correct the spec."
            )
        pairs[name] = value
    return pairs
