"""The layer's C++ alone, with hls4ml's own headers around it: both forms against the operator's definition."""

import importlib.util
import subprocess
from pathlib import Path

import numpy as np
import pytest

from codesign.hls4ml.registry import HEADERS
from codesign.ops import DeformDwConv
from codesign.ops.requant import round_half_even

HERE = Path(__file__).parent
CASES = ((7, 9, 3, 1, 3, 3), (7, 6, 2, 2, 5, 3), (1, 1, 1, 1, 7, 2), (4, 1, 2, 2, 8, 2), (3, 12, 1, 1, 1, 2))


def cases():
    """(bound, stride, x, raw offsets in 1/16, weight, bias) of every call in header.cpp."""
    rng = np.random.default_rng(7)
    for h, w, c, stride, bound, count in CASES:
        weight, bias = rng.integers(-8, 8, (3, 3, c)), rng.integers(-2048, 2048, c)
        x = rng.integers(-128, 128, (count, h, w, c))
        raw = rng.integers(-128, 128, (count, (h - 1) // stride + 1, (w - 1) // stride + 1, 1))
        raw[0] = rng.integers(-2, 16, raw[0].shape) * 8  # on ties and on whole numbers
        yield bound, stride, x, raw, weight, bias


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    spec = importlib.util.find_spec("hls4ml")
    assert spec is not None and spec.origin is not None
    templates = Path(spec.origin).parent / "templates" / "vivado"
    path = tmp_path_factory.mktemp("header") / "header"
    warnings = [
        "-std=c++11",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unknown-pragmas",
        "-Wno-unused-label",
    ]
    warnings += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]  # constructors of ap_types
    includes = ["-isystem", str(templates / "ap_types"), "-isystem", str(templates / "nnet_utils")]
    command = ["g++", *warnings, *includes, "-I", str(HEADERS), str(HERE / "header.cpp"), "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


def test_both_forms_equal_the_definition(program):
    numbers, expected = [], []
    for bound, stride, x, raw, weight, bias in cases():
        numbers += [weight.ravel(), bias]
        for frame, offsets in zip(x, raw, strict=True):
            numbers += [frame.ravel(), offsets.ravel()]
            d = round_half_even(offsets, np.full_like(offsets, 4)).clip(0, bound)
            sums = DeformDwConv(bound, (stride, stride)).run(frame[None], d[None], weight) + bias
            expected += [*map(str, sums.ravel())] * 2 + ["empty"]
    said = subprocess.run(
        [program],
        input="\n".join(map(str, np.concatenate(numbers))),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split("\n")[:-1] == expected
