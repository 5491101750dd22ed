"""From one score a class to names: networks that say what a picture shows. Numpy only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.errors import CodesignError

META = "codesign.classifier"  # the key of the model's metadata: {"output": name, "labels": [...]}


@dataclass(frozen=True)
class Classifier:
    """Which output has the scores, 1 LSB of it, and the names of its channels."""

    output: str
    scale: float
    labels: tuple[str, ...]

    @classmethod
    def from_meta(
        cls, meta: Mapping[str, str], scales: Mapping[str, float], where: str = "model"
    ) -> Classifier:
        """Raises CodesignError where the model does not say it."""
        try:
            content = json.loads(meta[META])
            output = str(content["output"])
            return cls(output, scales[output], tuple(str(label) for label in content["labels"]))
        except (KeyError, ValueError, TypeError):
            raise CodesignError(
                f"{where}: has no metadata {META!r} that names an output and its labels, expected a classifier. "
                "Give --labels to `codesign quantize`."
            ) from None

    def best(self, maps: Mapping[str, npt.NDArray[Any]], top: int) -> list[tuple[str, float]]:
        """The `top` labels with their probabilities, best first; equal scores in the order of the labels."""
        codes = maps[self.output].reshape(-1).astype(np.int64)
        order = np.argsort(-codes, kind="stable")[:top]
        power = np.exp((codes - codes.max()) * self.scale)
        return [(self.labels[i], float(power[i] / power.sum())) for i in order]
