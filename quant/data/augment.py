"""Augmentation of photographs as CenterNet does it: random scale and shift, mirror, colour (arXiv 1904.07850)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image, ImageEnhance

from quant.data.types import Sample

FILL = (128, 128, 128)


def augment(sample: Sample, rng: np.random.Generator, upside_down: bool = False) -> Sample:
    """A varied copy: scale 0.6 to 1.4, shift, mirror, brightness, contrast and saturation within 40 %.

    `upside_down`: half of the copies are mirrored top to bottom too. Boxes are clipped to the picture; those of which
    less than a quarter is left go.
    """
    height, width = sample.image.shape[:2]
    image, boxes = Image.fromarray(sample.image), sample.boxes.copy()
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    if upside_down and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
    scale = rng.uniform(0.6, 1.4)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    # Shift within the free space when smaller, within the overhang when larger.
    x, y = (round(rng.uniform(min(0, d), max(0, d))) for d in (width - w, height - h))
    canvas = Image.new("RGB", (width, height), FILL)
    canvas.paste(image.resize((w, h), Image.Resampling.BILINEAR), (x, y))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        canvas = enhance(canvas).enhance(rng.uniform(0.6, 1.4))
    boxes = boxes * np.array([w / width, h / height] * 2) + np.array([x, y] * 2)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
    left = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    keep = left > 0.25 * area
    return replace(
        sample,
        image=np.asarray(canvas),
        boxes=boxes[keep],
        labels=sample.labels[keep],
        difficult=sample.difficult[keep],
    )
