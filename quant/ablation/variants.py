"""The spatial operators of CoDeNet's decoder that are compared.

Published accuracy: VOC AP of float networks, ShuffleNetV2 1x at 512 x 512 (arXiv 2006.08357, table 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from quant.models import ModelConfig


@dataclass(frozen=True)
class Variant:
    """`options` change a ModelConfig. `published`: VOC AP in percent, None where none was published."""

    name: str
    title: str
    options: Mapping[str, Any]
    published: float | None = None

    def of(self, config: ModelConfig) -> ModelConfig:
        return replace(config, **self.options)


def _window(kernel: int, published: float) -> Variant:
    return Variant(
        f"dw{kernel}x{kernel}",
        f"depthwise {kernel}x{kernel}",
        {"spatial": "depthwise", "kernel": kernel},
        published,
    )


def _deform(name: str, offsets: str, sampling: str, published: float | None) -> Variant:
    return Variant(
        f"deform-{name}",
        f"depthwise deformable, {name}",
        {"offsets": offsets, "sampling": sampling},
        published,
    )


VARIANTS = (
    Variant("dense3x3", "dense 3x3", {"spatial": "dense", "kernel": 3}, 39.2),
    _window(3, 39.1),
    _window(5, 40.6),
    _window(7, 41.9),
    _window(9, 42.3),
    _deform("free", "free", "bilinear", 42.9),
    _deform("bounded", "bounded", "bilinear", 41.0),
    Variant(
        "deform-modulated",
        "depthwise deformable, bounded with masks",
        {"offsets": "bounded", "sampling": "bilinear", "masks": True},
    ),
    _deform("square", "square", "bilinear", 41.1),
    _deform("rounded", "square", "rounded", None),
    Variant(
        "full-deform",
        "full deformable",
        {"spatial": "full-deformable", "offsets": "free", "sampling": "bilinear"},
    ),
)
DENSE, PLAIN, FREE, ROUNDED = "dense3x3", "dw3x3", "deform-free", "deform-rounded"
