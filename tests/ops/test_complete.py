"""An operator counts when it is whole: protocol, tests, fast kernel, standard ONNX form."""

from dataclasses import is_dataclass
from pathlib import Path

import numpy as np
import pytest

from codesign import fast, ops
from codesign.ir import evaluate
from codesign.onnx_io import export_integer
from tests.models import (
    Builder,
    random_codenet_graph,
    random_feeds,
    random_mixing_graph,
    random_residual_graph,
    random_skipping_graph,
)
from tests.wide import with_wide


def varied_graph():
    b = Builder()
    return b.graph((b.varied("y", b.input("x", (3, 4, 5))),))


def table_graph():
    b = Builder()
    return b.graph((b.table("y", b.input("x", (3, 4, 5))),))


GRAPH = random_codenet_graph(stem="maxpool")
GRAPHS = (
    GRAPH, random_residual_graph(), random_codenet_graph(sampler=ops.SampledDwConv(3, 2, 0, 63)), random_mixing_graph(),
    with_wide(random_residual_graph()), varied_graph(), table_graph(), random_skipping_graph(),
)  # fmt: skip
VIEWS = {"Concat", "MaxPool", "Shuffle", "Slice", "Upsample"}


@pytest.mark.parametrize("op", ops.OPS, ids=lambda op: op.__name__)
def test_operator_is_whole(op):
    assert is_dataclass(op)
    assert all(callable(getattr(op, name)) for name in ("infer", "run", "bounds", "macs"))
    stem = Path(__file__).parent / f"test_{Path(op.__module__.replace('.', '/')).name}.py"
    assert stem.exists() or op.__name__ in VIEWS
    assert ops.__all__.count(op.__name__) == 1
    assert any(isinstance(node.op, op) for graph in GRAPHS for node in graph.nodes)


@pytest.mark.parametrize("graph", GRAPHS)
def test_every_operator_has_a_fast_kernel_and_a_form_in_onnx(graph):
    assert set(fast.kernels(graph)) == {node.name for node in graph.nodes}
    export_integer(graph)


def test_operators_are_values():
    assert ops.Conv((3, 3)) == ops.Conv((3, 3)) != ops.Conv((1, 1))
    assert repr(ops.Conv((3, 3), (2, 2), (1, 1, 0, 0))) == "Conv(kernel=3x3, stride=2x2, pads=1,1,0,0)"


def test_an_operator_reads_and_never_writes_its_inputs():
    feeds = random_feeds(GRAPH)
    before = feeds["image"].copy()
    feeds["image"].setflags(write=False)
    evaluate(GRAPH, feeds)
    np.testing.assert_array_equal(feeds["image"], before)
