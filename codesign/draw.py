"""Boxes drawn on a picture: one colour a class, a label with name and score above each box."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from codesign.decode import Detections
from codesign.images import Pixels

Colour = tuple[int, int, int]

# neighbours in the list differ in hue and lightness; strong on photographs, and apart for the colour blind
_PALETTE: tuple[Colour, ...] = (
    (255, 99, 71), (64, 156, 255), (255, 200, 40), (52, 199, 123), (191, 90, 242), (255, 149, 0),
    (90, 220, 235), (255, 105, 180), (160, 210, 70), (130, 130, 255), (222, 165, 110), (0, 168, 150),
)  # fmt: skip


def colour(label: int) -> Colour:
    """Colour of a class: a fixed palette first, golden-ratio hues after it."""
    if label < len(_PALETTE):
        return _PALETTE[label]
    red, green, blue = colorsys.hsv_to_rgb((label * 0.61803398875) % 1.0, 0.65, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw(
    image: Pixels,
    found: Detections,
    classes: tuple[str, ...],
    least_side: int = 640,
    with_scores: bool = True,
) -> Pixels:
    """The picture (H, W, 3) with its detections; small ones are enlarged so that labels can be read.

    Low scores are drawn first, so that the best label stays on top.
    """
    height, width = image.shape[:2]
    zoom = max(1.0, least_side / max(height, width))
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    canvas = Image.fromarray(image)
    if canvas.size != size:
        canvas = canvas.resize(size, Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(canvas, "RGBA")
    line = max(2, round(max(size) / 260))
    font = ImageFont.load_default(size=max(11, round(max(size) / 48)))
    for i in reversed(range(len(found))):
        x1, y1, x2, y2 = (float(v) * zoom for v in found.boxes[i])
        paint = colour(int(found.labels[i]))
        x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
        pen.rectangle((x1, y1, x2, y2), fill=(*paint, 28))
        pen.rounded_rectangle((x1, y1, x2, y2), radius=line * 1.5, outline=(*paint, 255), width=line)
    for i in reversed(range(len(found))):
        text = classes[int(found.labels[i])] + (f" {found.scores[i]:.2f}" if with_scores else "")
        _label(pen, found.boxes[i] * zoom, text, colour(int(found.labels[i])), font, size)
    return np.array(canvas, np.uint8)


def sheet(pictures: Sequence[Pixels], height: int = 480, gap: int = 8) -> Pixels:
    """Several pictures as one: rows of about a square, each picture scaled to one height."""
    columns = max(1, round(len(pictures) ** 0.5 + 0.25))
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    scaled = [[_to_height(p, height) for p in row] for row in rows]
    widths = [sum(p.shape[1] + gap for p in row) - gap for row in scaled]
    canvas = np.full((len(rows) * (height + gap) - gap, max(widths), 3), 255, np.uint8)
    for r, row in enumerate(scaled):
        x = 0
        for picture in row:
            canvas[r * (height + gap) :, x : x + picture.shape[1]][:height] = picture
            x += picture.shape[1] + gap
    return canvas


def _to_height(picture: Pixels, height: int) -> Pixels:
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def _label(
    pen: ImageDraw.ImageDraw,
    box: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    text: str,
    paint: Colour,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    pad = 3
    wide, high = right - left + 2 * pad, bottom - top + 2 * pad
    x = min(max(0.0, float(box[0])), max(0.0, size[0] - wide))
    y = float(box[1]) - high  # above the box, or inside it where there is no room
    y = min(max(0.0, y if y >= 0 else float(box[1])), max(0.0, size[1] - high))
    dark = 0.299 * paint[0] + 0.587 * paint[1] + 0.114 * paint[2] > 140
    pen.rounded_rectangle((x, y, x + wide, y + high), radius=3, fill=(*paint, 235))
    pen.text((x + pad - left, y + pad - top), text, font=font, fill=(20, 20, 20) if dark else (255, 255, 255))
