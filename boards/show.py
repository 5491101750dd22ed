"""Pictures with their boxes, for notebooks. Needs Pillow, which the PYNQ images bring."""

from __future__ import annotations

from typing import Any

from codesign.decode import Detections
from codesign.draw import draw
from codesign.images import Pixels


def show(image: Pixels, found: Detections, classes: tuple[str, ...]) -> Any:
    """The picture (H, W, 3) with boxes, class names and scores, as a PIL image: a notebook displays it."""
    from PIL import Image

    return Image.fromarray(draw(image, found, classes))
