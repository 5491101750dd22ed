"""Requantization: the host's form and the one that is synthesised, against the equation itself."""

import ctypes
from fractions import Fraction

import numpy as np
import pytest

from codesign import compiled
from codesign.emit import sources
from codesign.engine_config import EngineConfig

PROBE = """
#include "config.hpp"
#include "requant.hpp"

extern "C" void probe(const int *acc, const int *bias, const int *mult, const int *shift, int count, int low,
                      int high, int *out) {
  typedef codesign::Types<Config> T;
  for (int i = 0; i < count; i += T::kLanes) {
    T::Accs accs;
    T::RequantRow row;
    for (int lane = 0; lane < T::kLanes; ++lane) {
      accs[lane] = acc[i + lane];
      row.bias[lane] = bias[i + lane];
      row.scale[lane] = codesign::Scale<Config>::of(mult[i + lane], shift[i + lane]);
    }
    const T::Acts acts = codesign::requant<Config>(accs, row, low, high);
    for (int lane = 0; lane < T::kLanes; ++lane) out[i + lane] = int(acts[lane]);
  }
}
"""
LANES = 4
EACH = 64  # cases for each shift
SHIFTS = np.arange(-128, 128).repeat(EACH)


@pytest.fixture(scope="module", params=["native", "ap"])
def probe(request):
    """The compiled function; top.cpp is not needed."""
    texts = sources(EngineConfig(lanes=LANES)) | {"top.cpp": "// empty\n", "sim/csim.cpp": PROBE}
    return ctypes.CDLL(str(compiled.build(texts, request.param))).probe


def requant(probe, arrays: list[np.ndarray], low: int, high: int) -> np.ndarray:
    ints = [np.ascontiguousarray(a, np.int32) for a in arrays]
    out = np.zeros(SHIFTS.size, np.int32)
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*ints, out)]
    probe(*pointers[:4], SHIFTS.size, low, high, pointers[4])
    return out


def cases(seed: int) -> list[np.ndarray]:
    """acc, bias, mult: products of every size, on ties, beside them, and at the ends of 32 bits."""
    rng = np.random.default_rng(seed)
    mults = np.where(rng.random(SHIFTS.size) < 0.5, 1 << rng.integers(0, 8, SHIFTS.size),
                     rng.integers(0, 256, SHIFTS.size))  # fmt: skip
    sums = []
    for i, (shift, mult) in enumerate(zip(SHIFTS.tolist(), mults.tolist(), strict=True)):
        size = int(rng.integers(1, 33))
        anything = int(rng.integers(-(2**size), 2**size))
        tie = Fraction(2 * int(rng.integers(-300, 300)) + 1, 2) * Fraction(2) ** shift / max(mult, 1)
        ends = int(rng.choice([-(2**32), 2**32 - 2, 0, 1, -1]))
        near = int(tie) + int(rng.integers(-1, 2))
        sums.append((anything, int(tie), near, ends)[i % 4])
    total = np.clip(np.array([max(-(2**32), min(2**32 - 2, s)) for s in sums]), -(2**32), 2**32 - 2)
    acc = total // 2
    return [acc, total - acc, mults]


@pytest.mark.parametrize(("low", "high"), [(-128, 127), (0, 255), (-7, 7), (3, 3)])
def test_every_shift_is_exact(probe, low, high):
    acc, bias, mult = cases(seed=high)
    lists = (a.tolist() for a in (acc, bias, mult, SHIFTS))
    exact = [Fraction((a + b) * m) / Fraction(2) ** s for a, b, m, s in zip(*lists, strict=True)]
    wanted = [max(low, min(high, round(value))) for value in exact]  # round() is half to even
    np.testing.assert_array_equal(requant(probe, [acc, bias, mult, SHIFTS], low, high), wanted)
    ties = sum(value.denominator == 2 and low <= value <= high for value in exact)
    assert ties > 10 or low == high, "the cases test no ties"
