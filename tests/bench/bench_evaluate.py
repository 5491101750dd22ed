"""The numpy evaluation of the integer graph, beside onnxruntime on the same graph as an ONNX file of integers.

Both compute the same integers (checked here before anything is timed), one image, one thread.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from codesign.ir import evaluate
from codesign.onnx_io import export_integer
from tests.bench.harness import Table, milliseconds, ratio, side_by_side
from tests.bench.models import codes, graphs, session


def tables() -> Iterator[Table]:
    table = Table(
        "evaluate(graph) beside onnxruntime on the integer-valued ONNX file, one image",
        ("model", "ours ms", "onnxruntime ms", "ratio"),
        note="medians; outputs are equal bit for bit; a ratio below 1 means ours is faster",
    )
    for name, graph, _ in graphs():
        image = codes(graph)
        other = session(export_integer(graph))
        feeds = {"image": image.transpose(0, 3, 1, 2).astype(np.float32)}
        ours = evaluate(graph, {"image": image.astype(np.int64)}, keep=graph.outputs)
        theirs = dict(zip(graph.outputs, other.run(list(graph.outputs), feeds), strict=True))
        for output in graph.outputs:
            np.testing.assert_array_equal(ours[output], theirs[output].transpose(0, 2, 3, 1))
        times = side_by_side(
            {
                "ours": lambda g=graph, i=image: evaluate(g, {"image": i}, keep=g.outputs),
                "theirs": lambda o=other, g=graph, f=feeds: o.run(list(g.outputs), f),
            }
        )
        mine, rival = times["ours"].median, times["theirs"].median
        table.rows.append((name, milliseconds(mine), milliseconds(rival), ratio(mine, rival)))
    yield table
