"""A recipe: everything a training run depends on, as one TOML file. The same recipe gives the same run."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from codesign.errors import CodesignError
from quant.losses import BoxLoss
from quant.preset import PresetError, preset

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).parent / "recipes"


class RecipeError(CodesignError):
    """A recipe is missing or not understood."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training at one image size. `images` counts the images seen, not a data set's length.

    `size` is the height and `width` the width, 0: square. `window`: the images are windows of scenes of this side
    (0: whole scenes); other data sets ignore it. Scenes and single objects are always square.
    """

    size: int
    images: int
    batch: int = 16
    window: int = 0
    width: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of an image."""
        return self.size, self.width or self.size


@dataclass(frozen=True)
class Stage:
    """Float training or quantization-aware training: phases under one one-cycle learning rate."""

    phases: tuple[Phase, ...]
    lr: float
    warmup: float = 0.1  # share of the steps in which the rate rises
    weight_decay: float = 1e-3
    box_loss: str = "giou"
    offset_rate: float = 0.05  # of deformable windows' offsets, in shares of lr: see quant.train

    @property
    def steps(self) -> int:
        return sum(p.images // p.batch for p in self.phases)


@dataclass(frozen=True)
class Recipe:
    """`data` and `held_out` are data specs (see quant.data.specs); image sizes come from the phases.

    `pretrain_stage` trains the backbone to classify single objects, as the published networks start from a
    classifier. Without phases it is left out. With `start`, the folder of another run, a network begins with that
    run's float parameters, but for those that depend on the classes if they differ; or `start` is a safetensors file
    of some parameters.
    """

    model: str
    data: str
    held_out: str
    pretrain_stage: Stage
    float_stage: Stage
    qat_stage: Stage
    validation: str = (
        ""  # data spec: AP50 on it is measured along the way, for the curve; nothing is chosen by it
    )
    preset: str | dict[str, Any] = "w4a8"  # a name, a file, or the keys of one (see quant.preset)
    calibration: int = 256  # images
    seed: int = 0
    name: str = ""  # where it is not the model's
    start: str = ""
    upside_down: bool = False  # photographs have no up and down: mirror them that way too
    options: dict[str, Any] = field(default_factory=dict)  # changes to the model's configuration

    @property
    def title(self) -> str:
        return self.name or self.model

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def load_recipe(name_or_path: str) -> Recipe:
    """A shipped recipe by name or a file. Raises RecipeError with every key that is wrong."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_path}.toml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
            raise RecipeError(f"{name_or_path}: no such recipe, expected one of {known}, or a .toml file.")
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}, expected a recipe. Check the name.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not TOML ({error}), expected a recipe. Correct the file.") from None
    return parse_recipe(data, str(path))


def parse_recipe(data: dict[str, Any], where: str) -> Recipe:
    """Checks keys and values; `where` names the file in errors."""
    problems: list[str] = []

    def stage(key: str, optional: bool = False) -> Stage:
        table = dict(data.pop(key, {"lr": 1.0} if optional else {}))
        unknown = set(table) - {f.name for f in fields(Stage)}
        problems.extend(f"{key}.{k} is unknown" for k in sorted(unknown))
        phases = []
        for k, entry in enumerate(table.get("phases", [])):
            names = {f.name for f in fields(Phase)}
            good = set(entry) <= names and {"size", "images"} <= set(entry)
            if not good or any(
                not isinstance(v, int) or v < (n not in ("window", "width")) for n, v in entry.items()
            ):
                problems.append(
                    f"{key}.phases[{k}] is {entry}, expected whole numbers size, images, batch, window, width"
                )
            elif odd := [n for n in ("size", "width") if entry.get(n, 0) % 32]:
                problems.append(f"{key}.phases[{k}].{odd[0]} is {entry[odd[0]]}, expected a multiple of 32")
            else:
                phases.append(Phase(**entry))
        if not phases and not optional:
            problems.append(f"{key}.phases is empty")
        if not isinstance(table.get("lr"), int | float) or table["lr"] <= 0:
            problems.append(f"{key}.lr is {table.get('lr')!r}, expected a positive number")
            table["lr"] = 1.0
        rate = table.get("offset_rate", 1)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or rate < 0:
            problems.append(f"{key}.offset_rate is {rate!r}, expected a number of at least 0")
        if table.get("box_loss", "giou") not in get_args(BoxLoss):
            problems.append(
                f"{key}.box_loss is {table['box_loss']!r}, expected {', '.join(get_args(BoxLoss))}"
            )
        known = {k: v for k, v in table.items() if k not in unknown and k != "phases"}
        return Stage(phases=tuple(phases), **known)

    data = dict(data)
    stages = {
        "pretrain_stage": stage("pretrain", optional=True),
        "float_stage": stage("float"),
        "qat_stage": stage("qat"),
    }
    names = {f.name for f in fields(Recipe)} - set(stages)
    problems.extend(f"{k} is unknown" for k in sorted(set(data) - names))
    problems.extend(f"{k} is missing" for k in ("model", "data", "held_out") if k not in data)
    try:
        preset(data.get("preset", Recipe.preset))
    except PresetError as error:
        problems.append(f"preset: {str(error).rstrip('.')}")
    if problems:
        raise RecipeError(f"{where}: {'; '.join(problems)}. Correct the recipe.")
    return Recipe(**data, **stages)
