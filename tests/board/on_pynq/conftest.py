"""Fixtures of the tests that run in the environment of pynq: the bundle under test, and the device it runs on.

tests/test_board.py starts them, with the bundle's place and what C simulation found in environment variables.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def packed() -> Path:
    """A packed bundle of the small model."""
    return Path(os.environ["CODESIGN_TEST_PACKED"])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A synthesised bundle that a test may spoil."""
    return Path(shutil.copytree(os.environ["CODESIGN_TEST_BUNDLE"], tmp_path / "mini"))


@pytest.fixture
def doubting(tmp_path: Path) -> Path:
    """A bundle of the same engine, whose network is less sure of what it finds."""
    return Path(shutil.copytree(os.environ["CODESIGN_TEST_DOUBTING"], tmp_path / "doubting"))


@pytest.fixture(scope="session")
def expected() -> dict[str, Any]:
    """Pictures, and what the host detects on them by C simulation: lists of boxes, labels, scores; `doubted` is what
    the less sure network finds.
    """
    folder = Path(os.environ["CODESIGN_TEST_EXPECTED"])
    with np.load(folder / "pictures.npz") as arrays:
        pictures = [arrays[f"p{i}"] for i in range(len(arrays.files))]
    names = {"found": "found.json", "doubted": "doubted.json"}
    texts = {key: (folder / name) for key, name in names.items() if (folder / name).is_file()}
    return {"pictures": pictures, **{key: json.loads(path.read_text()) for key, path in texts.items()}}


@pytest.fixture
def device() -> Iterator[Any]:
    """A fresh board. Whatever a test does, memory is given back and no rule of the hardware is broken."""
    import pynq
    import soft_device
    from pynq.interrupt import _InterruptController

    _InterruptController._uio_devices.clear()
    _InterruptController._controllers.clear()
    board = soft_device.SoftDevice()
    pynq.Device.active_device = board
    pynq.Clocks.device = None
    if hasattr(pynq.Clocks, "_real_instance"):
        del pynq.Clocks._real_instance
    yield board
    assert board.crimes == []
    assert board.live == {}, "memory was not given back"


def same(found: Any, wanted: dict[str, Any]) -> bool:
    """Whether detections are those of the host, to the last bit."""
    return (
        np.array_equal(found.boxes, np.asarray(wanted["boxes"], np.float32).reshape(-1, 4))
        and np.array_equal(found.labels, np.asarray(wanted["labels"], np.int64))
        and np.array_equal(found.scores, np.asarray(wanted["scores"], np.float32))
    )
