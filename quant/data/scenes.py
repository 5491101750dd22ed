"""`scenes`: a deterministic detection set drawn on the fly, because the large ones cannot ship.

Twelve object classes (quant.data.shapes) are varied, rotated, sheared, bent, scaled and textured, then painted with
occlusion, among distractors of no class, on crops of the photographs that scikit-image and scikit-learn install.
Image i of (split, seed) is always the same. The splits share no photograph: decisions are taken on `val`, figures come
from `test`. A dozen photographs are soon learned by heart, so `train` varies them: see `_varied`.

It measures detection and geometry. It does not measure generalization to photographs of real objects.
"""

from __future__ import annotations

from colorsys import hsv_to_rgb
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from quant.data.shapes import CLASSES, SHAPES, Part, Rng, blob, densify
from quant.data.types import Sample

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_SKIMAGE = {
    "train": (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "cell.png",
        "coins.png",
        "grass.png",
        "gravel.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "moon.png",
        "retina.jpg",
    ),
    "val": ("coffee.png", "motorcycle_left.png"),
    "test": ("chelsea.png", "rocket.jpg"),
}
_SKLEARN = {"train": ("china.jpg",), "val": (), "test": ("flower.jpg",)}
_NOISE = np.rint(np.random.default_rng(0).normal(0, 4, 1 << 21)).astype(
    np.int16
)  # sensor noise, sliced at random
PHOTO_SIDE = 384  # shorter side that photographs are kept at
STREAMS = {"train": 0, "val": 1, "test": 2}


class MissingPhotographs(RuntimeError):
    """The packages whose photographs are the backgrounds are not installed."""


@lru_cache(maxsize=3)
def _textures(split: str) -> tuple[Image.Image, ...]:
    """The same photographs at a quarter of the side, as textures."""
    return tuple(p.reduce(4) for p in photographs(split))


@lru_cache(maxsize=3)
def photographs(split: str) -> tuple[Image.Image, ...]:
    """Background photographs of a split, RGB, shorter side PHOTO_SIDE pixels."""
    found = []
    for package, folder, names in (
        ("skimage", "data", _SKIMAGE[split]),
        ("sklearn", "datasets/images", _SKLEARN[split]),
    ):
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise MissingPhotographs(
                f"scenes: the photographs of {package} are not installed. Run: pip install scikit-image scikit-learn"
            )
        for name in names:
            image = Image.open(Path(spec.origin).parent / folder / name).convert("RGB")
            scale = PHOTO_SIDE / min(image.size)
            size = (round(image.width * scale), round(image.height * scale))
            found.append(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
    return tuple(found)


def _background(rng: Rng, photos: tuple[Image.Image, ...], side: int) -> Image.Image:
    photo = photos[rng.integers(len(photos))]
    crop = int(min(photo.size) * rng.uniform(0.35, 1.0))
    x, y = int(rng.integers(photo.width - crop + 1)), int(rng.integers(photo.height - crop + 1))
    out = photo.resize((side, side), Image.Resampling.BILINEAR, (x, y, x + crop, y + crop), reducing_gap=1.0)
    flip = rng.integers(8)
    return out.transpose(Image.Transpose(int(flip) - 1)) if flip else out


def _varied(rng: Rng, photos: tuple[Image.Image, ...], side: int) -> Image.Image:
    """A background no photograph shows: crops in other colours, blended or pasted together, or smooth colour noise."""
    out = _recoloured(rng, _background(rng, photos, side))
    kind = rng.random()
    if kind < 0.4:
        return out
    if kind < 0.6:
        cells = int(rng.integers(2, 17))
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        other = noise.resize((side, side), Image.Resampling.BICUBIC)
    else:
        other = _recoloured(rng, _background(rng, photos, side))
    if kind < 0.8:
        return Image.blend(out, other, rng.uniform(0.2, 0.8))
    corners = (rng.uniform(-0.2, 1.2, (int(rng.integers(3, 6)), 2)) * side).ravel().tolist()
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    out.paste(other, (0, 0), mask)
    return out


def _recoloured(rng: Rng, image: Image.Image) -> Image.Image:
    """Hue turned, saturation, contrast and gain of each channel changed; one in four keeps its colours."""
    if rng.random() < 0.25:
        return image
    axis, turn = np.full((3, 3), 1 / 3), rng.uniform(0, 2 * np.pi)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    hue = axis + (np.eye(3) - axis) * np.cos(turn) + cross * np.sin(turn)  # about the grey axis
    matrix = (axis + rng.uniform(0, 1.5) * (hue - axis)) * rng.uniform(0.6, 1.3, (3, 1))
    shift = 128 * (1 - matrix.sum(1)) + rng.uniform(-50, 50, 3)
    rows = np.concatenate([matrix, shift[:, None]], axis=1)
    return image.convert("RGB", tuple(rows.ravel().tolist()))


def _deform(parts: list[Part], rng: Rng) -> list[Part]:
    """Bend, shear, stretch and rotate: the geometry that a deformable convolution is for."""
    bend, phase, freq = rng.uniform(-0.18, 0.18), rng.uniform(0, 6.3), rng.uniform(0.5, 1.2)
    shear, stretch, angle = rng.uniform(-0.3, 0.3), np.exp(rng.uniform(-0.3, 0.3)), rng.uniform(-0.9, 0.9)
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c, -s], [s, c]]) @ np.array([[stretch, shear], [0, 1 / stretch]])
    flip = np.array([-1.0 if rng.random() < 0.5 else 1.0, 1.0])
    out = []
    for points, kind in parts:
        p = densify(points) * flip
        wave = np.sin(np.pi * freq * p[:, ::-1] + [phase, phase * 1.7])
        out.append(Part((p + bend * wave) @ matrix.T, kind))
    return out


def _colour(label: int, part: int, rng: Rng) -> tuple[int, int, int]:
    """Colour of a part (0 body, 1 accent). Classes have typical hues, as most real objects have, and exceptions.

    Bodies are 30 degrees of hue apart with a standard deviation of 18, so that neighbours overlap; one object in
    seven, and every distractor, has any colour.
    """
    if label >= 0 and rng.random() < 6 / 7:
        hue = 360 * label / len(CLASSES) + 110 * part + rng.normal(0, 18)
    else:
        hue = rng.uniform(0, 360)
    r, g, b = hsv_to_rgb((hue % 360) / 360, rng.uniform(0.4, 1.0), rng.uniform(0.4, 1.0))
    return round(r * 255), round(g * 255), round(b * 255)


def _paint(
    label: int, parts: list[Part], extent: float, rng: Rng, textures: tuple[Image.Image, ...]
) -> Image.Image:
    """RGBA patch just as large as the shape, longer side `extent` pixels. Label -1 has no colour of its own."""
    everything = np.concatenate([p.points for p in parts if p.kind != "hole"])
    low, span = everything.min(0), np.ptp(everything, axis=0)
    scale = extent / span.max()
    w, h = (np.maximum(np.ceil(span * scale), 4)).astype(int)
    big = (int(w) * 2, int(h) * 2)  # drawn at twice the size: anti-aliasing
    rim = int(big[0] * rng.uniform(0.02, 0.05)) if rng.random() < 0.6 else 0
    masks = {kind: Image.new("L", big) for kind in ("body", "accent")}
    draws = {kind: ImageDraw.Draw(mask) for kind, mask in masks.items()}
    for points, kind in parts:
        xy = ((points - low) * (2 * scale)).ravel().tolist()
        draws["body"].polygon(xy, fill=0 if kind == "hole" else 255)
        draws["accent"].polygon(xy, fill=255 if kind == "accent" else 0)
        if rim:
            draws["accent"].line(xy + xy[:2], fill=255, width=rim)
    small = (int(w), int(h))
    body, accent = (masks[k].resize(small, Image.Resampling.BOX) for k in ("body", "accent"))
    fill = Image.new("RGB", small, _colour(label, 0, rng))
    if rng.random() < 0.5:  # a photograph as texture: colour alone must not give the object away
        texture = _background(rng, textures, 48).resize(small, Image.Resampling.BILINEAR)
        fill = Image.blend(fill, texture, rng.uniform(0.15, 0.5))
    shade = Image.linear_gradient("L").rotate(90 * int(rng.integers(4))).resize(small)
    fill = Image.blend(fill, Image.merge("RGB", (shade,) * 3), rng.uniform(0.0, 0.3))
    fill.paste(_colour(label, 1, rng), (0, 0), accent)
    fill.putalpha(body)
    return fill


def _overlap(a: Floats, b: Floats) -> float:
    """Intersection over the smaller of two boxes."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return float(max(w, 0) * max(h, 0) / smaller)


class Scenes:
    """`count` images of `size` pixels square, drawn from (split, seed, index).

    Up to six objects an image, longer side 16 to 55 % of the image, up to 35 % of the smaller box covered.
    Boxes are those of the whole object, also where another one covers part of it. `reference` makes the image a
    window of a larger scene: objects as large, and as many on an area, as in a scene of that side.
    """

    classes: tuple[str, ...] = CLASSES

    def __init__(
        self,
        split: str = "train",
        count: int = 1000,
        size: int = 256,
        seed: int = 0,
        reference: int | None = None,
    ) -> None:
        if split not in STREAMS:
            raise ValueError(f"scenes: split is {split!r}, expected one of {', '.join(STREAMS)}")
        if count < 1 or size < 32:
            raise ValueError(f"scenes: count={count}, size={size}, expected count >= 1 and size >= 32")
        self.split, self.count, self.size, self.seed = split, count, size, seed
        self.photos, self.textures = photographs(split), _textures(split)
        self._behind = _varied if split == "train" else _background
        self.reference = reference or size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.draw(index)

    def draw(self, index: int) -> Sample:
        """The scene of an index, also beyond `count`: training redraws without end."""
        rng = np.random.default_rng([STREAMS[self.split], self.seed, index])
        canvas = self._behind(rng, self.photos, self.size)
        boxes: list[Floats] = []
        labels: list[int] = []
        share = (self.size / self.reference) ** 2
        for k in range(max(1, round((int(rng.integers(0, 3)) + int(rng.integers(1, 7))) * share))):
            label = -1 if k == 0 and rng.random() < 0.6 else int(rng.integers(len(CLASSES)))
            parts = blob(rng) if label < 0 else SHAPES[CLASSES[label]](rng)
            extent = self.reference * float(np.exp(rng.uniform(np.log(0.16), np.log(0.55))))
            extent = min(extent, 0.9 * self.size)
            patch = _paint(label, _deform(parts, rng), extent, rng, self.textures)
            place = self._place(patch, boxes, rng)
            if place is None or len(labels) == 6:
                continue
            canvas.paste(patch, place, patch)
            if label >= 0:
                boxes.append(np.array([*place, place[0] + patch.width, place[1] + patch.height], np.float32))
                labels.append(label)
        pixels = self._develop(canvas, rng)
        n = len(labels)
        return Sample(
            image=pixels,
            boxes=np.stack(boxes) if n else np.zeros((0, 4), np.float32),
            labels=np.array(labels, np.int64),
            difficult=np.zeros(n, bool),
            image_id=index,
            path=None,
        )

    def crop(self, index: int) -> tuple[Bytes, int]:
        """One object that fills 40 to 95 % of the image, and its label: for training a classifier."""
        rng = np.random.default_rng([STREAMS[self.split], self.seed, index, 1])
        canvas = self._behind(rng, self.photos, self.size)
        label = int(rng.integers(len(CLASSES)))
        extent = self.size * rng.uniform(0.4, 0.95)
        patch = _paint(label, _deform(SHAPES[CLASSES[label]](rng), rng), extent, rng, self.textures)
        at = tuple(
            int(rng.integers(max(1, free + 1)))
            for free in (self.size - patch.width, self.size - patch.height)
        )
        canvas.paste(patch, at, patch)
        return self._develop(canvas, rng), label

    def _place(self, patch: Image.Image, boxes: list[Floats], rng: Rng) -> tuple[int, int] | None:
        free_x, free_y = self.size - patch.width, self.size - patch.height
        if free_x < 0 or free_y < 0:
            return None
        for _ in range(8):
            x, y = int(rng.integers(free_x + 1)), int(rng.integers(free_y + 1))
            box = np.array([x, y, x + patch.width, y + patch.height], np.float32)
            if all(_overlap(box, other) <= 0.35 for other in boxes):
                return x, y
        return None

    def _develop(self, canvas: Image.Image, rng: Rng) -> Bytes:
        """Exposure, contrast and sensor noise."""
        low, high = rng.uniform(0, 30), rng.uniform(190, 255)
        table = np.clip(low + np.arange(256) * (high - low) / 255, 0, 255).astype(np.uint8).tolist()
        pixels = np.asarray(canvas.point(table * 3), np.int16)
        start = int(rng.integers(_NOISE.size // 2))
        noise = np.resize(_NOISE[start : start + pixels.size], pixels.shape)
        return np.clip(pixels + noise, 0, 255).astype(np.uint8)
