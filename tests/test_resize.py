"""Scaling: numpy gives the bits that Pillow gives, and both the order of axes that is ours."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from codesign import resize as module
from codesign.images import letterbox
from codesign.resize import resize

sides = st.integers(1, 220)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@settings(max_examples=150, deadline=None)
@given(sides, sides, sides, sides, st.booleans())
def test_numpy_scales_as_pillow_does(h: int, w: int, height: int, width: int, harsh: bool) -> None:
    image = noise(h, w)
    if harsh:
        image = (image > 127).astype(np.uint8) * 255
    one = Image.fromarray(image).resize((width, h), Image.Resampling.BILINEAR)
    both = np.asarray(one.resize((width, height), Image.Resampling.BILINEAR))
    assert np.array_equal(module._along(module._along(image, 1, width), 0, height), both)
    assert np.array_equal(resize(image, height, width), both)


def test_bits_are_the_same_with_every_release_of_pillow_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduced in height far more than in width: where Pillow 13 alone would begin with the rows."""
    wanted = "1958d6f5d5749e83"
    for pillow in (True, False):
        monkeypatch.setattr(module, "has_pillow", lambda pillow=pillow: pillow)
        scaled = letterbox(noise(283, 282), 51, 240)[0]
        assert hashlib.sha256(scaled.tobytes()).hexdigest()[:16] == wanted


def test_nothing_is_scaled_that_fits() -> None:
    image = noise(5, 7)
    assert resize(image, 5, 7) is image


def test_the_board_imports_no_pillow(tmp_path: Path) -> None:
    """In a Python that has none, pictures are letterboxed and files refused with what to install."""
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "import numpy as np\n"
        "from codesign import resize, images\n"
        "resize.has_pillow = lambda: False\n"
        "print(images.letterbox(np.zeros((9, 9, 3), np.uint8), 4, 6)[0].shape)\n"
        "try:\n    images.read_image('x.png')\nexcept Exception as e:\n    print(e)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "(4, 6, 3)",
        "Pillow: not installed, and pictures are read with it. Install it: pip install pillow",
    ]
