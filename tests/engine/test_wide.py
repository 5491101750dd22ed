"""Engines with wide rows of requantization: every unit that requantizes, on host integers and exact ones."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from codesign import compiled, passes
from codesign.csim import EngineFailed, Simulator
from codesign.emit import sources
from codesign.engine_config import EngineConfig
from codesign.errors import PlanError
from codesign.ir import IntType
from codesign.onnx_io import export_integer
from codesign.ops import WideRequant
from codesign.plan import plan
from codesign.program import decode
from tests.engine.engines import WIDE, assert_exact, engine, generic, wide
from tests.models import random_codenet_graph, random_feeds, random_mixing_graph, random_residual_graph
from tests.wide import beside_ties, with_wide

PROBE = """
#include "config.hpp"
#include "requant.hpp"

extern "C" void probe(const int *acc, const long long *bias, const int *mult, const int *shift, const int *ties,
                      int count, int low, int high, int *out) {
  typedef codesign::Types<Config> T;
  for (int i = 0; i < count; i += T::kLanes) {
    T::Accs accs;
    T::RequantRow row;
    for (int lane = 0; lane < T::kLanes; ++lane) {
      accs[lane] = acc[i + lane];
      row.bias[lane] = bias[i + lane];
      row.mult[lane] = mult[i + lane];
      row.shift[lane] = shift[i + lane];
      row.ties[lane] = ties[i + lane];
    }
    const T::Acts acts = codesign::requant<Config>(accs, row, low, high);
    for (int lane = 0; lane < T::kLanes; ++lane) out[i + lane] = int(acts[lane]);
  }
}
"""
EACH = 64  # cases for each shift


@pytest.mark.parametrize("kind", ["native", "ap"])
def test_rows_are_the_equation(kind):
    config = EngineConfig(lanes=4, **WIDE)
    texts = sources(config) | {"top.cpp": "// empty\n", "sim/csim.cpp": PROBE}
    probe = ctypes.CDLL(str(compiled.build(texts, kind))).probe
    rng = np.random.default_rng(1)
    shift = np.arange(1, 61).repeat(EACH)
    mult = rng.integers(-(2**31), 2**31, shift.size) >> rng.integers(0, 31, shift.size)
    acc = rng.integers(-(2**31), 2**31, shift.size) >> rng.integers(0, 31, shift.size)
    ties = rng.integers(0, 60, shift.size) % shift
    bias = rng.integers(-(2**47), 2**47, shift.size) >> rng.integers(0, 47, shift.size)
    goal = (2 * rng.integers(-200, 200, shift.size) + 1).astype(object) << (
        shift - 1
    )  # half steps, and beside them
    close = [int(g) - int(a) * int(m) + int(d)
             for g, a, m, d in zip(goal, acc, mult, rng.integers(-1, 2, shift.size), strict=True)]  # fmt: skip
    bias = np.array([c if -(2**47) <= c < 2**47 and i % 2 else b
                     for i, (c, b) in enumerate(zip(close, bias.tolist(), strict=True))])  # fmt: skip
    out = np.zeros(shift.size, np.int32)
    arrays = [acc.astype(np.int32), bias.astype(np.int64), *(t.astype(np.int32) for t in (mult, shift, ties))]
    probe(
        *(ctypes.c_void_p(a.ctypes.data) for a in arrays),
        shift.size,
        -128,
        127,
        ctypes.c_void_p(out.ctypes.data),
    )
    wanted = WideRequant(IntType(8), -128, 127).run(acc, bias, mult, shift, ties)
    np.testing.assert_array_equal(out, wanted)
    inner = (wanted > -128) & (wanted < 127) & (wanted != 0)
    assert inner.sum() > 300


@pytest.mark.parametrize(
    ("graph", "lanes", "every"),
    [
        (random_codenet_graph(seed=3, size=32, max_offset=3), 4, 1),
        (random_codenet_graph(seed=4, size=32, max_offset=3), 4, 2),
        (passes.run(random_residual_graph(seed=2)), 4, 1),
        (random_mixing_graph(seed=2), 4, 1),
    ],
)
def test_networks_are_exact(graph, lanes, every):
    graph = with_wide(graph, every)
    assert_exact(graph, random_feeds(graph), lanes, config=wide(lanes))


@pytest.mark.parametrize("kind", ["ap", "sanitize"])
def test_exact_types_and_an_engine_of_its_own(kind):
    graph = with_wide(random_codenet_graph(seed=5, size=16, max_offset=2))
    made = plan(graph, 8)
    assert made.config.is_wide and made.config.lefts == 0
    assert_exact(graph, random_feeds(graph), 8, config=made.config, kind=kind)


@pytest.mark.parametrize("kind", ["native", "ap"])
def test_what_lies_beside_a_half_goes_to_the_even_code(kind):
    graph = beside_ties(random_codenet_graph(seed=5, size=16, max_offset=2))
    assert_exact(graph, random_feeds(graph), 4, config=wide(4), kind=kind)


def test_a_network_with_narrow_factors_runs_on_a_wide_engine():
    graph = passes.run(random_residual_graph(seed=1))
    assert_exact(graph, random_feeds(graph), 4, config=wide(4))
    assert not plan(graph, 4).config.is_wide


def test_programs_say_which_rows_they_have():
    graph = with_wide(passes.run(random_residual_graph(seed=1)))
    made = plan(graph, config=wide(4))
    assert made.program.encode()[28] == 1
    _, _, steps = decode(made.program.encode(), made.program.base)
    for step, found in zip(made.program.steps, steps, strict=True):
        for ours, theirs in zip(step.parameters, found.parameters, strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(EngineFailed, match="rows of requantization are of another kind"):
        Simulator(engine(generic(4)), made.program).run(random_feeds(graph))
    with pytest.raises(PlanError, match=r"needs kWide = \d+, the engine has 0"):
        plan(graph, config=generic(4))


def test_integer_onnx_is_exact():
    import onnxruntime

    from codesign.ir import evaluate

    graph = with_wide(random_residual_graph(seed=6))
    feeds = random_feeds(graph)
    session = onnxruntime.InferenceSession(export_integer(graph).SerializeToString())
    floats = {name: np.float32(array.transpose(0, 3, 1, 2)) for name, array in feeds.items()}
    for name, got in zip(graph.outputs, session.run(list(graph.outputs), floats), strict=True):
        np.testing.assert_array_equal(got.transpose(0, 2, 3, 1), evaluate(graph, feeds, reference=True)[name])
