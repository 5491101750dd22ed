"""The ladder of a design of hls4ml: the rungs of codesign/ladder.py, with hls4ml's own C++ as rung 5."""

from __future__ import annotations

from collections.abc import Sequence

from codesign import onnx_io
from codesign.difference import Rung, Say, compare
from codesign.errors import CodesignError, ToolMissing
from codesign.hls4ml.project import Streaming
from codesign.hls4ml.simulate import build, run
from codesign.images import Pixels
from codesign.ir import Array, Graph
from codesign.ladder import models, quoted, trial_codes
from codesign.rungs import Codes, picture_input


def climb(design: Streaming, pictures: Sequence[Pixels], say: Say = lambda text: None) -> list[Rung]:
    """The whole ladder, on pictures and a frame of noise. Raises ToolMissing without a C++ compiler."""
    say("Reading model.onnx")
    graph = onnx_io.import_model(design.model)
    codes = trial_codes(graph, pictures, str(design.model))
    rungs, values = models(design.model, graph, codes, say)
    tool = "its Vivado HLS" if design.backend == "VivadoAccelerator" else "Vitis HLS"
    return [
        *quoted(graph),
        *rungs,
        _simulated(design, graph, codes, values, say),
        Rung(6, "RTL, co-simulation", 5, "not run", f"build_prj.tcl of hls4ml runs it, with {tool}"),
        Rung(7, "board", 5, "not run", "no board"),
    ]


def _simulated(design: Streaming, graph: Graph, codes: Codes, values: dict[str, Array], say: Say) -> Rung:
    title = f"C++ of hls4ml {design.version}, ap_fixed types"
    try:
        say("Compiling hls4ml's C++")
        build(design)
        say("Simulating hls4ml's C++")
        got = run(design, {picture_input(graph, str(design.model)): codes})
    except ToolMissing:
        raise
    except CodesignError as error:
        return Rung(5, title, 3, "fail", str(error))
    return compare(values, got, graph.outputs).rung(5, title, 3, f"every output equal, {design.io_type}")
