"""Engines that the tests share: one config for each number of lanes, so that few are compiled."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from codesign.csim import Engine, Simulator
from codesign.emit import sources
from codesign.engine_config import EngineConfig
from codesign.ir import Graph, evaluate
from codesign.ops import WideRequant
from codesign.plan import plan

LANES = (1, 2, 4, 8, 16)
WIDE = {"wide": 48, "mult_bits": 32, "most_shift": 60}
PACK = {1: 0, 2: 0, 4: 0, 8: 1, 16: 2}


ARRAYS = {1: 2, 2: 1, 4: 2, 8: 1, 16: 2}
ARRAY = {1: (1, 1), 2: (3, 2), 4: (2, 1), 8: (4, 4), 16: (5, 2)}  # pixels and turns: no two engines alike


def generic(lanes: int) -> EngineConfig:
    """Constants that hold every small graph of the tests; offsets to 8 at stride 2, more than 1024 inputs."""
    return EngineConfig(
        lanes=lanes, max_offset=8, ring_rows=19, row_words=4096 // lanes, window_groups=1100 // lanes + 4,
        input_words=1280 // lanes + 64, output_words=64, weight_tiles=16384 // lanes**2 + 2600 // lanes,
        max_segments=96, pack_log2=PACK[lanes], acc_bits=32,
        pixels=ARRAY[lanes][0], turns=ARRAY[lanes][1], arrays=ARRAYS[lanes], fabric=lanes // 4,
        middle_words=1024 // lanes, middle_groups=64,
        pool_words=1024 // lanes, pool_groups=64, sampler=5, tables=1, near_words=4096 // lanes, branches=1,
        sampler_shapes=1, weight_stream=1, global_words=1100 // lanes + 4, mixer=1100 // lanes + 4,
        steer_words=2048 // lanes,
    )  # fmt: skip


def wide(lanes: int) -> EngineConfig:
    """The same with wide rows of requantization."""
    return replace(generic(lanes), **WIDE)


@lru_cache(maxsize=64)
def engine(config: EngineConfig, kind: str = "native", cxx: str | None = None) -> Engine:
    return Engine(sources(config), kind, cxx)


def simulate(
    graph: Graph, feeds: dict[str, np.ndarray], lanes: int, kind: str = "native", cxx: str | None = None,
    config: EngineConfig | None = None, **options: Any,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Outputs of the graph as the C++ computes them."""
    has_wide = any(isinstance(node.op, WideRequant) for node in graph.nodes)
    planned = plan(graph, config=config or (wide if has_wide else generic)(lanes), **options)
    return Simulator(engine(planned.config, kind, cxx), planned.program).run(feeds)


def assert_equal(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert set(got) == set(wanted)
    for name in wanted:
        np.testing.assert_array_equal(got[name], wanted[name], err_msg=name)


def assert_exact(graph: Graph, feeds: dict[str, np.ndarray], lanes: int, **options: Any) -> None:
    """The C++ computes exactly what the graph means."""
    wanted = evaluate(graph, feeds, reference=True)
    for name, array in wanted.items():
        assert array.size < 8 or np.ptp(array) > 0, f"{name} is constant: the case tests nothing"
    assert_equal(simulate(graph, feeds, lanes, **options), wanted)
