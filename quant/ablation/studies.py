"""What is compared in one table: the published ablation, and dynamic operators."""

from __future__ import annotations

from dataclasses import dataclass

from quant.ablation.dynamic import DYNAMIC
from quant.ablation.variants import VARIANTS, Variant


@dataclass(frozen=True)
class Study:
    """`name`: of its table and picture. `engine_only`: every variant has to run on the engine; nothing is reckoned."""

    name: str
    variants: tuple[Variant, ...]
    engine_only: bool

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.variants)


PUBLISHED = Study("ablation", VARIANTS, False)
STUDIES = {"published": PUBLISHED, "dynamic": Study("dynamic", DYNAMIC, True)}


def variant(name: str) -> Variant:
    """Of any study. Raises KeyError for an unknown name."""
    return {v.name: v for study in STUDIES.values() for v in study.variants}[name]
