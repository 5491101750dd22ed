"""C simulation of the engine, beside onnxruntime on the same model: one image, one thread, CPU time.

onnxruntime runs the model file, or the integer-valued file where the weights are random. Outputs of simulation
and integer graph are compared before anything is timed.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np

from codesign.board import load_board
from codesign.csim import Engine, Simulator
from codesign.emit import sources
from codesign.explore import explore
from codesign.ir import Graph, evaluate
from codesign.onnx_io import export_integer
from codesign.plan import Plan, plan
from tests.bench.harness import Table, milliseconds, ratio, side_by_side
from tests.bench.models import codes, graphs, session

LANES = (8, 16)
BOARDS = (
    "ultra96",
    "zcu104",
)  # with the engine that `codesign build` takes: one array on the first, two on the other


def _engines(graph: Graph) -> Iterator[tuple[str, Callable[[], Plan]]]:
    """Engines by name: of so many lanes for the model alone, and those of boards."""
    for lanes in LANES:
        yield f"{lanes} lanes", lambda n=lanes: plan(graph, n)
    for board in BOARDS:
        yield board, lambda b=board: explore(graph, load_board(b)).plan


def tables() -> Iterator[Table]:
    frames = Table(
        "C simulation beside onnxruntime, one image",
        ("model", "engine", "native ms", "ap_int ms", "onnxruntime ms", "native ratio", "ap_int ratio"),
        note="medians of CPU time; outputs equal the integer graph's. onnxruntime computes in float with every trick "
        "of a CPU; the simulation is the C++ that hardware is made of, with the product of a step at once in `native`",
    )
    builds = Table(
        "Getting there, seconds",
        ("model", "engine", "plan and emit", "compile native", "compile ap_int"),
        note="with a board, the search too; compiled once, then found by content hash",
    )
    for name, graph, model in graphs():
        image = codes(graph)
        expected = evaluate(graph, {"image": image})
        other = session(model or export_integer(graph))
        divisor = 1.0 if model is None else 128.0
        feeds = {"image": (image.transpose(0, 3, 1, 2) / divisor).astype(np.float32)}
        for title, planned in _engines(graph):
            rivals = {"onnxruntime": lambda o=other, f=feeds: o.run(None, f)}
            with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, CODESIGN_CACHE=cache):
                start = time.perf_counter()
                made = planned()
                text = sources(made.config)
                row = [name, title, f"{time.perf_counter() - start:.2f}"]
                for kind in ("native", "ap"):
                    start = time.perf_counter()
                    simulator = Simulator(Engine(text, kind), made.program)
                    row.append(f"{time.perf_counter() - start:.1f}")
                    got = simulator.run(image)
                    for output, array in expected.items():
                        np.testing.assert_array_equal(got[output], array)
                    rivals[kind] = lambda s=simulator, i=image: s.run(i)
            times = side_by_side(rivals, clock=time.process_time)
            theirs = times["onnxruntime"].median
            ours = [times[kind].median for kind in ("native", "ap")]
            frames.rows.append(
                (name, title, *map(milliseconds, ours), milliseconds(theirs))
                + tuple(ratio(t, theirs) for t in ours)
            )
            builds.rows.append(tuple(row))
    yield frames
    yield builds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield Table("Memory of all this in one process", ("", "peak MiB"), [("this process", f"{peak:.0f}")])
