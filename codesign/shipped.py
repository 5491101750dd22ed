"""What comes with the package: trained models with their cards, and sample pictures."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from codesign.errors import ModelError

ZOO = Path(__file__).resolve().parent / "zoo"


@dataclass(frozen=True)
class Shipped:
    """A model file and its card: what it was trained on, how, and how accurate it is."""

    name: str
    path: Path
    card: dict[str, Any]

    def ap50(self, network: str) -> float | None:
        """AP50 on held-out data of `float`, `fake-quant` or `integer`, if the card has it."""
        figures = self.card.get(network)
        return float(figures["ap50"]) if isinstance(figures, dict) and "ap50" in figures else None

    def input_size(self) -> str:
        """Width x height of the network's input."""
        dims = onnx.load(self.path, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
        return f"{dims[3].dim_value}x{dims[2].dim_value}"


def models() -> tuple[Shipped, ...]:
    """All models that come with the package, by name."""
    return tuple(Shipped(p.stem, p, _card(p.with_suffix(".json"))) for p in sorted(ZOO.glob("*.onnx")))


def samples() -> tuple[Path, ...]:
    """Pictures to try a detector on."""
    return tuple(sorted(p for p in (ZOO / "samples").glob("*") if p.suffix in (".png", ".jpg")))


def find_model(what: str | Path) -> Path:
    """Path of a model file from its path, or from the name of a shipped one. Raises ModelError.

    A bundle directory gives the model in it.
    """
    path = Path(what)
    if path.is_dir() and (path / "manifest.json").is_file():
        return path / "model.onnx"
    if path.is_file():
        return path
    names = [m.name for m in models()]
    if str(what) in names:
        return ZOO / f"{what}.onnx"
    near = difflib.get_close_matches(str(what), names, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    kind = "is a directory without manifest.json" if path.is_dir() else "no such file"
    raise ModelError(
        f"{what}: {kind}, expected a model.onnx, a bundle or a shipped model ({', '.join(names) or 'none here'}).{hint}"
        " Check the path."
    )


def _card(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict), path
    return content
