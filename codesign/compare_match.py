"""Which layer, and which input, of one network is which of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codesign.errors import ModelError
from codesign.trace import Layer, Tracer


@dataclass(frozen=True)
class Matching:
    """Pairs of layers in B's order, how they were found, and what was left over on each side."""

    pairs: tuple[tuple[Layer, Layer], ...]
    by_name: int
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def in_order(self) -> int:
        return len(self.pairs) - self.by_name


def match(a: Tracer, b: Tracer) -> Matching:
    """By name where names and shapes agree; the others in order, where kind and shape agree, as many as can be.

    Raises ModelError if no layer has a partner.
    """
    partners: dict[int, int] = {}
    named = {layer.name: i for i, layer in reversed(list(enumerate(a.layers)))}
    for j, layer in enumerate(b.layers):
        i = named.pop(layer.name, None)
        if i is not None and a.layers[i].shape == layer.shape:
            partners[j] = i
    by_name = len(partners)
    rest_a = [i for i in range(len(a.layers)) if i not in set(partners.values())]
    rest_b = [j for j in range(len(b.layers)) if j not in partners]
    keys_a, keys_b = (
        [(t.layers[i].kind, t.layers[i].shape) for i in r] for t, r in ((a, rest_a), (b, rest_b))
    )
    partners |= {rest_b[j]: rest_a[i] for i, j in _common(keys_a, keys_b)}
    if not partners:
        raise ModelError(
            f"{a.title} and {b.title}: have no layer in common, neither by name nor by kind and shape. "
            "Compare models of one network."
        )
    taken = set(partners.values())
    return Matching(
        tuple((a.layers[i], b.layers[j]) for j, i in sorted(partners.items())),
        by_name,
        tuple(layer.name for i, layer in enumerate(a.layers) if i not in taken),
        tuple(layer.name for j, layer in enumerate(b.layers) if j not in partners),
    )


def _common(a: Sequence[object], b: Sequence[object]) -> list[tuple[int, int]]:
    """Index pairs of a longest common subsequence; the earliest partner where there is a choice."""
    length = np.zeros((len(a) + 1, len(b) + 1), np.int64)
    for i in reversed(range(len(a))):
        for j in reversed(range(len(b))):
            same = length[i + 1, j + 1] + 1 if a[i] == b[j] else 0
            length[i, j] = max(same, length[i + 1, j], length[i, j + 1])
    pairs, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        if a[i] == b[j] and length[i, j] == length[i + 1, j + 1] + 1:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif length[i + 1, j] >= length[i, j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def match_inputs(a: Tracer, b: Tracer) -> dict[str, str]:
    """B's name of each of A's inputs: the same, or the only one."""
    names = (
        {x: x for x in a.inputs}
        if a.inputs.keys() == b.inputs.keys()
        else dict(zip(a.inputs, b.inputs, strict=False))
    )
    if len(a.inputs) != len(b.inputs) or any(a.inputs[x] != b.inputs[y] for x, y in names.items()):
        shown = [", ".join(f"{n} {list(s)}" for n, s in side.inputs.items()) for side in (a, b)]
        raise ModelError(
            f"{a.title} and {b.title}: their inputs are {shown[0]} and {shown[1]} (height, width, channels), "
            "expected the same. Compare models of one network."
        )
    return names
