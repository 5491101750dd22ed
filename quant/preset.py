"""A preset: how a network is quantized, as one TOML file in quant/presets.

about         one line
extends       another preset, whose keys hold where this one says nothing
bits          of weights by role: {default = 4, stem = 8, ...}, roles as in ROLES, 2 to 8
layers        bits of single layers by their module's name; they win over roles
act_bits      of activations between layers, 2 to 8; the image and the outputs stay at 8
mantissa      bits of the weight scales' mantissa: 1 is a power of two, 3 the multipliers 4 to 7
start         weight scales before training: mse (least squared error), max (clips nothing), lsq (2 mean|w| / sqrt(hi))
calibration   of activations: mse, percentile (the number under `percentile`), max
steps         after calibration, in this order: equalize, one of gptq, gpfq and round, bias
shape         of weights while training: plain, or tanh (DoReFa, arXiv 1606.06160)
learn_scales  train the scales too, with the gradient of LSQ (arXiv 1902.08153)
distill       weight of the float parent's outputs in the loss of training with quantization
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from codesign.errors import CodesignError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "presets"
ROLES = ("stem", "pw", "dw", "deform", "offset", "head")
CALIBRATIONS, STARTS, SHAPES = ("mse", "percentile", "max"), ("mse", "max", "lsq"), ("plain", "tanh")
RECONSTRUCTIONS = ("gptq", "gpfq", "round")  # choose codes by their effect on the layer's output
STEPS = ("equalize", *RECONSTRUCTIONS, "bias")


class PresetError(CodesignError):
    """A preset is missing or not understood."""


@dataclass(frozen=True)
class Preset:
    """See the module's text for the fields. Immutable; equal presets quantize equally."""

    name: str
    bits: Mapping[str, int]
    layers: Mapping[str, int] = field(default_factory=dict)
    act_bits: int = 8
    mantissa: int = 1
    start: str = "mse"
    calibration: str = "mse"
    percentile: float = 99.99
    steps: tuple[str, ...] = ("bias",)
    shape: str = "plain"
    learn_scales: bool = True
    distill: float = 0.0
    about: str = ""

    def weight_bits(self, role: str, layer: str) -> int:
        return self.layers.get(layer, self.bits[role])

    def to_dict(self) -> dict[str, Any]:
        """What `preset` reads back: the whole, without `extends`."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**plain, "bits": dict(self.bits), "layers": dict(self.layers), "steps": list(self.steps)}


Given: TypeAlias = "str | Mapping[str, Any] | Preset"


def names() -> list[str]:
    """The presets that ship."""
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


def preset(given: Given) -> Preset:
    """A preset by the name of one that ships, by the path of a .toml file, or from a table of the same keys.

    Raises PresetError with every key that is wrong.
    """
    if isinstance(given, Preset):
        return given
    if not isinstance(given, str):
        table = dict(given)
        return _parsed(table, f"preset {table.get('name', 'in the recipe')!r}", str(table.pop("name", "own")))
    path = Path(given)
    if path.suffix != ".toml":
        path = FOLDER / f"{given}.toml"
        if given not in names():
            raise PresetError(
                f"{given}: no such preset, expected one of {', '.join(names())}, or a .toml file."
            )
    try:
        return _parsed(tomllib.loads(path.read_text()), str(path), path.stem)
    except OSError as error:
        raise PresetError(f"{path}: {error.strerror}, expected a preset. Check the name.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PresetError(f"{path}: not TOML ({error}), expected a preset. Correct the file.") from None


def preset_name(given: Given) -> str:
    """The name alone, as a model's card has it."""
    return given if isinstance(given, str) else preset(given).name


def variant(given: Given, name: str, **changes: Any) -> Preset:
    """A preset with some fields changed."""
    return replace(preset(given), name=name, **changes)


def _parsed(table: dict[str, Any], where: str, name: str) -> Preset:
    table.pop("name", None)
    parent = table.pop("extends", None)
    base: dict[str, Any] = preset(str(parent)).to_dict() if parent is not None else {"bits": {}}
    base.pop("name", None)
    if parent is not None:
        base["about"] = ""
    problems: list[str] = []
    known = {f.name for f in fields(Preset)} - {"name"}
    problems.extend(f"{k} is unknown" for k in sorted(set(table) - known))
    bits = table.pop("bits", {})
    if not isinstance(bits, Mapping):
        bits = {"default": bits}
    bits = {**(dict.fromkeys(ROLES, bits["default"]) if "default" in bits else base["bits"]), **bits}
    bits.pop("default", None)
    values = {**base, **{k: v for k, v in table.items() if k in known}, "bits": bits}
    problems += _problems(values, set(bits) - set(ROLES), [r for r in ROLES if r not in bits])
    if problems:
        raise PresetError(f"{where}: {'; '.join(problems)}. Correct the preset.")
    frozen = {k: MappingProxyType(dict(values[k])) for k in ("bits", "layers") if k in values}
    steps = {"steps": tuple(values["steps"])} if "steps" in values else {}
    return Preset(**{**values, **frozen, **steps, "name": name})


def _problems(values: Mapping[str, Any], unknown: set[str], missing: list[str]) -> list[str]:
    found = [f"bits.{role} is unknown, expected {', '.join(ROLES)}" for role in sorted(unknown)]
    found += [f"bits.{role} is missing" for role in missing]

    def whole(key: str, value: Any, low: int, high: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            found.append(f"{key} is {value!r}, expected a whole number from {low} to {high}")

    for role in sorted(set(values["bits"]) & set(ROLES)):
        whole(f"bits.{role}", values["bits"][role], 2, 8)
    layers = values.get("layers", {})
    if not isinstance(layers, Mapping):
        found.append(f"layers is {layers!r}, expected a table of bits by layer")
        layers = {}
    for layer, bits in layers.items():
        whole(f"layers.{layer}", bits, 2, 8)
    whole("act_bits", values.get("act_bits", 8), 2, 8)
    whole("mantissa", values.get("mantissa", 1), 1, 3)
    for key, choices in (("start", STARTS), ("calibration", CALIBRATIONS), ("shape", SHAPES)):
        if values.get(key, choices[0]) not in choices:
            found.append(f"{key} is {values[key]!r}, expected one of {', '.join(choices)}")
    for key, low, high in (("percentile", 50, 100), ("distill", 0, 100)):
        value = values.get(key, low)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            found.append(f"{key} is {value!r}, expected a number from {low} to {high}")
    if not isinstance(values.get("learn_scales", True), bool):
        found.append(f"learn_scales is {values['learn_scales']!r}, expected true or false")
    steps = list(values.get("steps", []))
    if (
        any(s not in STEPS for s in steps)
        or len(set(steps) & set(RECONSTRUCTIONS)) > 1
        or steps != sorted(set(steps), key=[*STEPS].index)
    ):
        found.append(
            f"steps is {steps}, expected equalize, one of {', '.join(RECONSTRUCTIONS)}, bias, in this order"
        )
    return found
