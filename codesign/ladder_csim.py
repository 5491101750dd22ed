"""Rung 5 of the verify ladder: the bundle's own C++, and which layer is the first to be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import numpy as np

from codesign.bundle import MANIFEST, Bundle
from codesign.csim import Engine, Simulator
from codesign.difference import Rung, Say, compare
from codesign.emit import emit
from codesign.errors import CodesignError, ToolMissing
from codesign.ir import Array, Graph
from codesign.plan import plan
from codesign.rungs import Codes, simulator_of
from codesign.step import Step
from codesign.synth_files import read_json

CONFIG = "config.hpp"


def simulation(
    bundle: Bundle, graph: Graph, codes: Codes, values: Mapping[str, Array], say: Say
) -> list[Rung]:
    """Rung 5 twice: the bundle's own sources and program, with native types and with ap_int types."""
    rungs = []
    for kind, title in (("native", "C++, native types"), ("ap", "C++, ap_int types")):
        say(f"Compiling the {title}")
        try:
            engine = Engine(bundle.hls, kind)
            say(f"Simulating the {title}")
            got = simulator_of(bundle, engine).run(codes)
        except ToolMissing:
            raise
        except CodesignError as error:
            rungs.append(Rung(5, title, 3, "fail", str(error)))
            continue
        difference = compare(values, got, graph.outputs)
        rung = difference.rung(5, title, 3, f"every output equal, {bundle.program.lanes} lanes")
        if difference.different:
            say("Looking for the first layer that differs")
            rung = replace(rung, note=f"{rung.note}; {locate(bundle, graph, engine, codes, values)}")
        rungs.append(rung)
    return rungs


def other_lanes(
    bundle: Bundle, graph: Graph, codes: Codes, values: Mapping[str, Array], lanes: Sequence[int], say: Say
) -> list[Rung]:
    """Rung 5 for each of `lanes`: the model planned anew, on the bundle's C++ with that engine's constants.

    What a graph computes must not depend on the number of lanes.
    """
    sources = {
        path.relative_to(bundle.hls).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(bundle.hls.rglob("*"))
        if path.is_file()
    }
    rungs = []
    for count in lanes:
        title = f"C++, native types, {count} lane{'s' * (count > 1)}"
        say(f"Compiling the {title}")
        try:
            made = plan(graph, count)
            engine = Engine(sources | {CONFIG: emit(made.config)[CONFIG]})
            say(f"Simulating the {title}")
            got = Simulator(engine, made.program).run(codes)
        except ToolMissing:
            raise
        except CodesignError as error:
            rungs.append(Rung(5, title, 3, "fail", str(error)))
            continue
        fine = f"every output equal, {len(made.program.steps)} steps"
        rungs.append(compare(values, got, graph.outputs).rung(5, title, 3, fine))
    return rungs


def locate(bundle: Bundle, graph: Graph, engine: Engine, codes: Codes, values: Mapping[str, Array]) -> str:
    """Which layer is the first to be wrong, and whether the C++ or the program is to blame.

    A program made afresh from the model runs on the bundle's C++ with all tensors kept, first with every window
    in a step of its own: a tensor that differs is the C++'s fault. If none does, the bundle's program is
    not what the model compiles to.
    """
    for fuse in (False, True):
        try:
            kept = plan(graph, config=bundle.config, base=bundle.program.base, keep=True, fuse=fuse).program
            got = Simulator(engine, kept).run(codes, keep=kept.tensors)
        except CodesignError as error:
            if fuse:
                return f"a program made afresh does not run on its C++: {error}"
            continue
        made = [node.name for node in graph.nodes if node.name in kept.tensors]
        inner = compare(values, got, made)
        if inner.different:
            return f"the C++ is first wrong in layer {inner.first}"
    # Of the same steps: what each of them ends with is stored.
    ends = [nodes[-1] for nodes in read_json(bundle.directory / MANIFEST).get("nodes", ()) if nodes]
    fresh = plan(graph, config=bundle.config, base=bundle.program.base, apart=ends).program
    for i, (step, wanted) in enumerate(zip(bundle.program.steps, fresh.steps, strict=False)):
        wrong = [f.name for f in fields(step) if f.name != "nodes" and not _equal(step, wanted, f.name)]
        if wrong:
            layer = wanted.nodes[-1] if wanted.nodes else "a branch"
            return f"program.bin is first wrong in layer {layer} (step {i}: {', '.join(wrong)})"
    return "neither the C++ nor the steps of program.bin are to blame: check the manifest's layout"


def _equal(a: Step, b: Step, field: str) -> bool:
    return bool(np.array_equal(getattr(a, field), getattr(b, field)))
