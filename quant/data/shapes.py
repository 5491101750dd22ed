"""Outlines of the twelve object classes of `scenes`, with random variation inside each class.

A shape is a list of parts in the unit frame (x right, y down, about [-1, 1]): closed polygons (K, 2), painted in
order. `body` and `accent` parts take the object's two colours, a `hole` shows what is behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Rng = np.random.Generator


class Part(NamedTuple):
    points: Points
    kind: str  # body | accent | hole


def _ellipse(
    cx: float, cy: float, rx: float, ry: float, a0: float = 0.0, a1: float = 2 * np.pi, n: int = 40
) -> Points:
    t = np.linspace(a0, a1, n, endpoint=abs(a1 - a0) < 2 * np.pi - 1e-9)
    return np.stack([cx + rx * np.cos(t), cy + ry * np.sin(t)], 1)


def _box(x0: float, y0: float, x1: float, y1: float) -> Points:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


def _mirror(right: Points) -> Points:
    """Close the right half of an outline (top to bottom) with its mirror image."""
    return np.concatenate([right, right[::-1] * [-1, 1]])


def _arrow(r: Rng) -> list[Part]:
    head, shaft, wing = r.uniform(-0.35, 0.1), r.uniform(0.16, 0.3), r.uniform(0.6, 0.85)
    return [Part(_mirror(np.array([[0, -1], [wing, head], [shaft, head], [shaft, 1.0]])), "body")]


def _bolt(r: Rng) -> list[Part]:
    k, w = r.uniform(-0.1, 0.15), r.uniform(0.35, 0.5)
    p = [[w, -1], [-w - 0.15, 0.1 + k], [-0.05, 0.1 + k], [-w, 1], [w + 0.15, -0.15 + k], [0.08, -0.15 + k]]
    return [Part(np.array(p), "body")]


def _bottle(r: Rng) -> list[Part]:
    neck, body, shoulder = r.uniform(0.12, 0.2), r.uniform(0.34, 0.5), r.uniform(-0.3, 0.05)
    right = np.array([[neck, -0.85], [neck, shoulder - 0.2], [body, shoulder + 0.15], [body, 1.0]])
    label = _box(-body, shoulder + 0.35, body, shoulder + 0.35 + r.uniform(0.2, 0.4))
    cap = _box(-neck - 0.05, -1, neck + 0.05, -0.8)
    return [Part(_mirror(right), "body"), Part(label, "accent"), Part(cap, "accent")]


def _crescent(r: Rng) -> list[Part]:
    bite = r.uniform(0.62, 0.85)
    a = np.arccos(
        np.clip((bite**2 - 1 - 0.5**2) / (-2 * 0.5), -1, 1)
    )  # where the circles meet, centre at 0.5
    outer = _ellipse(0, 0, 1, 1, a, 2 * np.pi - a)
    b = np.arctan2(np.sin(a), np.cos(a) - 0.5)
    inner = _ellipse(0.5, 0, bite, bite, 2 * np.pi - b, b)
    return [Part(np.concatenate([outer, inner]), "body")]


def _cross(r: Rng) -> list[Part]:
    a = r.uniform(0.2, 0.38)
    p = [
        [-a, -1],
        [a, -1],
        [a, -a],
        [1, -a],
        [1, a],
        [a, a],
        [a, 1],
        [-a, 1],
        [-a, a],
        [-1, a],
        [-1, -a],
        [-a, -a],
    ]
    return [Part(np.array(p), "body")]


def _fish(r: Rng) -> list[Part]:
    fat, tail = r.uniform(0.38, 0.55), r.uniform(0.35, 0.55)
    fan = np.array([[0.35, 0], [1, -tail], [0.8, 0], [1, tail]])
    fin = np.array([[-0.3, -fat * 0.8], [0.05, -fat - 0.3], [0.25, -fat * 0.6]])
    return [
        Part(fan, "accent"),
        Part(fin, "accent"),
        Part(_ellipse(-0.3, 0, 0.75, fat), "body"),
        Part(_ellipse(-0.7, -0.12, 0.09, 0.09, n=12), "accent"),
    ]


def _gear(r: Rng) -> list[Part]:
    teeth, depth = int(r.integers(7, 12)), r.uniform(0.68, 0.8)
    t = np.arange(teeth * 4) * (2 * np.pi / (teeth * 4))
    radius = np.where(np.arange(teeth * 4) % 4 < 2, 1.0, depth)
    outline = np.stack([radius * np.cos(t), radius * np.sin(t)], 1)
    hub = r.uniform(0.22, 0.36)
    return [Part(outline, "body"), Part(_ellipse(0, 0, hub, hub, n=24), "hole")]


def _heart(r: Rng) -> list[Part]:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    y = 13 * np.cos(t) - r.uniform(4, 6) * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [Part(np.stack([np.sin(t) ** 3, -y / 16.5], 1), "body")]


def _key(r: Rng) -> list[Part]:
    bow, shaft, hole = r.uniform(0.36, 0.48), r.uniform(0.08, 0.13), r.uniform(0.14, 0.24)
    parts = [Part(_ellipse(-1 + bow, 0, bow, bow), "body"), Part(_box(-0.4, -shaft, 1, shaft), "body")]
    for x in (0.55, 0.85)[: int(r.integers(1, 3))] if r.random() < 0.3 else (0.5, 0.85):
        parts.append(Part(_box(x - 0.09, 0, x + 0.09, shaft + r.uniform(0.2, 0.4)), "body"))
    return [*parts, Part(_ellipse(-1 + bow, 0, hole, hole, n=20), "hole")]


def _leaf(r: Rng) -> list[Part]:
    w = r.uniform(0.38, 0.6)
    t = np.linspace(0, np.pi, 20)
    right = np.stack([w * np.sin(t) * (1 - 0.25 * np.cos(t)), -0.95 * np.cos(t) * 0.9 - 0.1], 1)
    stem, vein = _box(-0.05, 0.6, 0.05, 1.0), _box(-0.035, -0.7, 0.035, 0.75)
    ribs = [
        Part(np.array([[0, y], [s * w * 0.7, y - 0.28], [s * w * 0.66, y - 0.2], [0, y + 0.08]]), "accent")
        for y in (-0.2, 0.15, 0.45)
        for s in (-1, 1)
    ]
    return [Part(stem, "accent"), Part(_mirror(right), "body"), Part(vein, "accent"), *ribs]


def _mug(r: Rng) -> list[Part]:
    w, h, taper = r.uniform(0.5, 0.65), r.uniform(0.65, 0.9), r.uniform(0.0, 0.12)
    body = np.array([[-0.95, -h], [-0.95 + 2 * w, -h], [-0.95 + 2 * w - taper, h], [-0.95 + taper, h]])
    x, grip = -0.95 + 2 * w - 0.05, r.uniform(0.14, 0.2)
    reach, tall = 0.95 - x, h * 0.62
    outer, inner = (_ellipse(x, 0, reach - g, tall - g, -np.pi / 2, np.pi / 2, n=16) for g in (0.0, grip))
    band = _box(-0.95 + taper, -h + 0.25, -0.95 + 2 * w - taper, -h + 0.45)
    return [Part(np.concatenate([outer, inner[::-1]]), "body"), Part(body, "body"), Part(band, "accent")]


def _star(r: Rng) -> list[Part]:
    n, inner = int(r.integers(4, 7)), r.uniform(0.36, 0.5)
    t = np.arange(2 * n) * np.pi / n - np.pi / 2
    radius = np.where(np.arange(2 * n) % 2 == 0, 1.0, inner)
    return [Part(np.stack([radius * np.cos(t), radius * np.sin(t)], 1), "body")]


def blob(r: Rng) -> list[Part]:
    """A distractor of no class: a smooth random blob, an ellipse or a plain quadrilateral."""
    kind = r.integers(3)
    if kind == 0:
        t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        radius = 0.75 + sum(r.uniform(-0.12, 0.12) * np.cos(k * t + r.uniform(0, 6.3)) for k in (1, 2, 3))
        outline = np.stack([radius * np.cos(t), radius * np.sin(t)], 1)
    elif kind == 1:
        outline = _ellipse(0, 0, 1, r.uniform(0.4, 1))
    else:
        outline = _box(-1, -0.8, 1, 0.8) * r.uniform(0.6, 1.0, (4, 2))
    parts = [Part(outline, "body")]
    if r.random() < 0.4:
        parts.append(Part(outline * r.uniform(0.3, 0.6), "accent" if r.random() < 0.5 else "hole"))
    return parts


SHAPES: dict[str, Callable[[Rng], list[Part]]] = {
    "arrow": _arrow,
    "bolt": _bolt,
    "bottle": _bottle,
    "crescent": _crescent,
    "cross": _cross,
    "fish": _fish,
    "gear": _gear,
    "heart": _heart,
    "key": _key,
    "leaf": _leaf,
    "mug": _mug,
    "star": _star,
}
CLASSES = tuple(SHAPES)


def densify(points: Points, step: float = 0.12) -> Points:
    """Insert points so that no edge is longer than `step`: straight edges can then be bent."""
    edges = np.roll(points, -1, 0) - points
    counts = np.maximum(1, np.ceil(np.hypot(edges[:, 0], edges[:, 1]) / step)).astype(int)
    start = np.repeat(np.cumsum(counts) - counts, counts)
    share = (np.arange(counts.sum()) - start) / np.repeat(counts, counts)
    dense: Points = np.repeat(points, counts, 0) + np.repeat(edges, counts, 0) * share[:, None]
    return dense
