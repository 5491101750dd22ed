"""The product of a whole step at once, which data sets are simulated with, beside the loop that becomes hardware.

Both are pointwise() on the same streams: `native` computes a step at once, `loops` and `ap` turn by turn.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import compiled
from codesign.emit import sources
from codesign.engine_config import EngineConfig

WORDS = 5  # of a pixel, at most
SHAPES = [(1, 2, 1), (2, 9, 2), (4, 5, 2), (8, 6, 1), (16, 3, 1), (64, 1, 4)]  # lanes, pixels, turns
PROBE = """
#include <algorithm>
#include "config.hpp"
#include "descriptor.hpp"
#include "pointwise.hpp"

using namespace codesign;
typedef Types<Config> T;

// tiles: [out][in][mode][lanes][lanes]; acts: [pixels][in][lanes]; sums: [blocks][out][kPixels][lanes].
extern "C" const char *probe(int mode, int in, int out, int pixels, const int *tiles, const int *acts, int *sums) {
  static T::Tile weights[2 * Config::kWeightTiles];
  hls::Misuse::clear();
  {
    Step step = Step(), next = Step();
    step.out_height = step.window_words = 1;
    step.out_width = pixels;
    step.first.mode = mode;
    step.first.in = in;
    step.first.out = out;
    T::Stream words;
    T::SumStream summed;
    hls::stream<T::Word> next_tiles;
    for (int n = 0; n < mode * in * out; ++n) {
      for (int i = 0; i < T::kLanes; ++i) {
        for (int o = 0; o < T::kLanes; ++o) {
          weights[Config::kWeightTiles + n].data[i][o] = tiles[(n * T::kLanes + i) * T::kLanes + o];
        }
      }
    }
    for (int n = 0; n < pixels * in; ++n) {
      T::Acts word;
      for (int i = 0; i < T::kLanes; ++i) word[i] = acts[n * T::kLanes + i];
      words.write(word);
    }
    pointwise<Config, 0>(step, next, 1, words, next_tiles, weights, summed);
    for (int n = 0; n < (pixels + Config::kPixels - 1) / Config::kPixels * out; ++n) {
      const T::Sums sum = summed.read();
      for (int p = 0; p < Config::kPixels; ++p) {
        for (int o = 0; o < T::kLanes; ++o) *sums++ = int(sum.data[p][o]);
      }
    }
  }
  return hls::Misuse::message();
}
"""

Product = Callable[[int, int, int, int, np.ndarray, np.ndarray], np.ndarray]


@lru_cache(maxsize=64)
def library(config: EngineConfig, kind: str) -> Path:
    return compiled.build(sources(config) | {"top.cpp": "// empty\n", "sim/csim.cpp": PROBE}, kind)


def config_of(shape: tuple[int, int, int]) -> EngineConfig:
    lanes, pixels, turns = shape
    return EngineConfig(
        lanes=lanes, pixels=pixels, turns=turns, fabric=pixels // 2, pack_log2=0, acc_bits=26,
        input_words=WORDS, output_words=WORDS, weight_tiles=2 * WORDS * WORDS,
    )  # fmt: skip


def sums(
    shape: tuple[int, int, int], path: Path, mode: int, tiles: np.ndarray, acts: np.ndarray
) -> np.ndarray:
    """(blocks, out, kPixels, lanes) of tiles (out, in, mode, lanes, lanes) and activations (pixels, in, lanes)."""
    lanes, together, _ = shape
    out = np.full((-(-len(acts) // together), len(tiles), together, lanes), 1 << 30, np.int32)
    call = ctypes.CDLL(str(path)).probe
    call.restype = ctypes.c_char_p
    given = [np.ascontiguousarray(a, np.int32) for a in (tiles, acts)]
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*given, out)]
    misuse = call(mode, acts.shape[1], len(tiles), len(acts), *pointers)
    assert misuse is None, misuse
    return out


def operands(
    lanes: int, mode: int, words: tuple[int, int], pixels: int, seed: int, ends: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Any values that the array may be given, or only the largest."""
    rng, (ins, outs) = np.random.default_rng(seed), words
    size = (outs, ins, mode, lanes, lanes)
    tiles = rng.choice([-8, 7], size) if ends else rng.integers(-8, 8, size)
    if mode == 2:
        tiles[:, :, 1] = (
            rng.choice([0, 15], size[:2] + size[3:]) if ends else rng.integers(0, 16, size[:2] + size[3:])
        )
    size = (pixels, ins, lanes)
    return tiles, rng.choice([-256, 255], size) if ends else rng.integers(-256, 256, size)


def expected(shape: tuple[int, int, int], mode: int, tiles: np.ndarray, acts: np.ndarray) -> np.ndarray:
    _, together, _ = shape
    weights = tiles[:, :, 0] if mode == 1 else 16 * tiles[:, :, 0] + tiles[:, :, 1]
    rest = -len(acts) % together
    acts = np.concatenate([acts, np.zeros((rest, *acts.shape[1:]), acts.dtype)])
    products = np.einsum("pil,qilo->pqo", acts, weights)  # exact: integers
    return products.reshape(-1, together, *products.shape[1:]).transpose(0, 2, 1, 3)


steps = given(
    st.sampled_from([1, 2]),
    st.tuples(st.integers(1, WORDS), st.integers(1, WORDS)),
    st.integers(1, 40),
    st.integers(0, 2**32),
    st.booleans(),
)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_schedule_gives_the_same_sums(shape: tuple[int, int, int]) -> None:
    config = config_of(shape)
    paths = [library(config, kind) for kind in ("native", "loops", "ap")]

    @settings(max_examples=25, deadline=None)
    @steps
    def check(mode: int, words: tuple[int, int], pixels: int, seed: int, ends: bool) -> None:
        tiles, acts = operands(shape[0], mode, words, pixels, seed, ends)
        wanted = expected(shape, mode, tiles, acts)
        for path in paths:
            np.testing.assert_array_equal(sums(shape, path, mode, tiles, acts), wanted, err_msg=path.name)

    check()


FLAGS = {"x86-64": "sse2", "x86-64-v3": "avx2", "x86-64-v4": "avx512bw", "native": ""}


@pytest.mark.parametrize("march", FLAGS)
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_on_every_host(march: str, compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers of 16, 32 and 64 bytes, with instructions for pairs of products and without."""
    info = Path("/proc/cpuinfo")
    if march != "native" and platform.machine() != "x86_64":
        pytest.skip("not an x86-64 processor")
    if FLAGS[march] not in (info.read_text() if info.exists() else ""):
        pytest.skip(f"the processor has no {FLAGS[march]}")
    flags = tuple(f"-march={march}" if f == "-march=native" else f for f in compiled.KINDS["native"])
    monkeypatch.setitem(compiled.KINDS, "native", flags)  # type: ignore[arg-type]
    shape = (16, 3, 1)
    texts = sources(config_of(shape)) | {"top.cpp": "// empty\n", "sim/csim.cpp": PROBE}
    path = compiled.build(texts, "native", compiler)
    for mode in (1, 2):
        for ends in (False, True):
            tiles, acts = operands(shape[0], mode, (WORDS, 3), 29, mode, ends)
            np.testing.assert_array_equal(
                sums(shape, path, mode, tiles, acts), expected(shape, mode, tiles, acts)
            )
