"""The multipliers of the pointwise array: two weights in one product, exact for every value they can take."""

import ctypes

import numpy as np
import pytest

from codesign import compiled
from codesign.emit import sources
from codesign.engine_config import EngineConfig

LANES, PIXELS, FABRIC = 64, 2, 1  # one pixel in DSPs, one in LUTs
PROBE = """
#include "config.hpp"
#include "types.hpp"

typedef codesign::DotProducts<Config::kPixels, Config::kLanes, Config::kLanes / Config::kTurns,
                              Config::kFabric>
    Array;

// tiles: count of [lanes][lanes]; acts: of [pixels][lanes]; out: of [pixels][outputs], for outputs from `first` on.
extern "C" void probe(const int *tiles, const int *acts, int count, int first, int *out) {
  typedef codesign::Types<Config> T;
  const int kOutputs = Config::kLanes / Config::kTurns;
  static T::Tile tile;
  static T::Factors block[Config::kPixels];
  for (int n = 0; n < count; ++n) {
    for (int i = 0; i < T::kLanes; ++i) {
      for (int o = 0; o < T::kLanes; ++o) tile.data[i][o] = tiles[(n * T::kLanes + i) * T::kLanes + o];
      for (int p = 0; p < Config::kPixels; ++p) block[p][i] = acts[(n * Config::kPixels + p) * T::kLanes + i];
    }
    Array::Weights weights;
    Array::Result result;
    Array::choose(tile.data, first, weights);
    Array::multiply(block, weights, result);
    for (int p = 0; p < Config::kPixels; ++p) {
      for (int o = 0; o < kOutputs; ++o) out[(n * Config::kPixels + p) * kOutputs + o] = int(result.data[p][o]);
    }
  }
}
"""


@pytest.fixture(scope="module", params=["native", "ap"])
def array(request):
    """products(tiles, acts, first) of a compiled array of 64 inputs: the longest sums there are."""
    config = EngineConfig(lanes=LANES, pixels=PIXELS, turns=LANES // 2, fabric=FABRIC)
    texts = sources(config) | {"top.cpp": "// empty\n", "sim/csim.cpp": PROBE}
    probe = ctypes.CDLL(str(compiled.build(texts, request.param))).probe

    def products(tiles: np.ndarray, acts: np.ndarray, first: int) -> np.ndarray:
        ins = [np.ascontiguousarray(a, np.int32) for a in (tiles, acts)]
        out = np.zeros((len(tiles), PIXELS, 2), np.int32)
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*ins, out)]
        probe(pointers[0], pointers[1], len(tiles), first, pointers[2])
        return out

    return products


def test_every_pair_of_weights_with_every_activation(array):
    """Weights are int4 or a half of an int8, -8..15; activations have nine bits: 576 pairs x 512 values."""
    weights, acts = np.arange(-8, 16), np.arange(-256, 256)
    first = 6
    # A tile is the product of one input lane: pairs by tile, activations by pixel and tile.
    for high in weights:
        low, act = (a.ravel() for a in np.meshgrid(weights, acts.reshape(-1, PIXELS)[:, 0], indexing="ij"))
        tiles = np.zeros((low.size, LANES, LANES), np.int32)
        tiles[:, 3, first], tiles[:, 3, first + 1] = low, high
        given = np.zeros((low.size, PIXELS, LANES), np.int32)
        given[:, 0, 3], given[:, 1, 3] = act, act + 1
        got = array(tiles, given, first)
        for p in range(PIXELS):
            np.testing.assert_array_equal(got[:, p, 0], low * (act + p))
            np.testing.assert_array_equal(got[:, p, 1], high * (act + p))


def test_the_longest_sums(array):
    """64 products of the largest factors, of either sign in either half."""
    rng = np.random.default_rng(0)
    ends_w, ends_a = np.array([-8, 15, -1, 0]), np.array([-256, 255, -1, 1])
    tiles = np.concatenate([
        np.full((16, LANES, LANES), 0), rng.choice(ends_w, (60, LANES, LANES)),
        rng.integers(-8, 16, (60, LANES, LANES)),
    ])  # fmt: skip
    acts = np.concatenate([
        np.full((16, PIXELS, LANES), 0), rng.choice(ends_a, (60, PIXELS, LANES)),
        rng.integers(-256, 256, (60, PIXELS, LANES)),
    ])  # fmt: skip
    for k in range(16):  # every product alike: sums of 64 times the ends
        tiles[k, :, 0::2], tiles[k, :, 1::2] = ends_w[k % 4], ends_w[k // 4]
        acts[k, 0], acts[k, 1] = ends_a[k % 2], ends_a[(k + 1) % 2]
    got = array(tiles, acts, 0)
    np.testing.assert_array_equal(got, np.einsum("npi,nio->npo", acts, tiles[:, :, :2]))
    assert got.max() >= 64 * 255 * 15 and got.min() <= -64 * 256 * 15
