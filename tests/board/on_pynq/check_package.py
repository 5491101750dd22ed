"""The environment is what a board has at least: pynq and numpy 1, and none of what the compiler needs."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest


def check_what_is_here_and_what_is_not() -> None:
    assert np.__version__.startswith("1.")
    for name in ("onnx", "onnxruntime", "torch", "PIL", "typer", "rich", "scipy", "faster_coco_eval"):
        assert find_spec(name) is None, name


@pytest.mark.parametrize(
    "name", ["detector", "bench", "overlay", "memory", "driver", "faults", "__main__", "overlays"]
)
def check_every_module_is_imported_without_more(name: str) -> None:
    __import__(f"boards.{name}")
    ours = {module for module in sys.modules if module.split(".")[0] == "codesign"}
    allowed = {
        "bundle",
        "decode",
        "descriptor",
        "digest",
        "engine_config",
        "errors",
        "images",
        "metrics",
        "ports",
        "program",
        "resize",
        "status",
        "step",
        "switch",
        "transport",
        "windows",
    }
    assert ours <= {"codesign"} | {f"codesign.{name}" for name in allowed}
