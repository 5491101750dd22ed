"""The verify ladder: each rung is compared with the one before, and what differs first is named.

| # | rung | against | rule |
|---|---|---|---|
| 0 | torch float | data | accuracy, quoted from the model's card |
| 1 | torch fake-quant | 0 | accuracy, quoted from the model's card |
| 2 | model.onnx in onnxruntime | 1 | every quantized tensor holds codes; equality with torch is quoted |
| 3 | integer graph, node by node | 2 | exact: the contract of the model file leaves no cause for one LSB |
| 4 | integer-valued ONNX in onnxruntime | 3 | exact |
| 5 | the bundle's own C++, native and ap_int types; planned for other numbers of lanes too, where asked | 3 | exact |
| 6 | RTL | 5 | exact; quoted from `codesign synth`, which needs Vivado |
| 7 | board | 5 | exact; quoted from `codesign bench` on a board |
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from codesign import onnx_io, onnx_read
from codesign.bundle import MANIFEST, Bundle
from codesign.csim import Engine, Simulator
from codesign.digest import design_digest
from codesign.emit import emit
from codesign.errors import CodesignError, ToolMissing
from codesign.evidence import bench_of
from codesign.images import Pixels, letterbox, to_codes
from codesign.ir import Array, Graph, evaluate
from codesign.ops import DeformDwConv
from codesign.plan import plan
from codesign.program import Step
from codesign.rungs import Codes, OnnxSession, picture_input, simulator_of
from codesign.synth_files import read_json
from codesign.vivado import HLS_TOOLS

Status = Literal["ok", "fail", "quoted", "not run"]
Say = Callable[[str], object]
CARD = "codesign.card"
CONFIG = "config.hpp"


@dataclass(frozen=True)
class Rung:
    """One line of the ladder: `compared` integers, of which `different` differ."""

    number: int
    name: str
    against: int | None
    status: Status
    note: str = ""
    compared: int = 0
    different: int = 0


@dataclass(frozen=True)
class Difference:
    """Outcome of a comparison by name: `first` is the first that differs, in the graph's order."""

    compared: int
    different: int
    first: str = ""
    worst: int = 0

    def rung(self, number: int, name: str, against: int, fine: str) -> Rung:
        status: Status = "fail" if self.different else "ok"
        note = f"first differs in {self.first}, by up to {self.worst}" if self.different else fine
        return Rung(number, name, against, status, note, self.compared, self.different)


def failed(rungs: Sequence[Rung]) -> bool:
    return any(r.status == "fail" for r in rungs)


def compare(
    expected: Mapping[str, Array], got: Mapping[str, npt.NDArray[Any]], names: Iterable[str]
) -> Difference:
    """Counts differing integers of the named arrays, in that order."""
    compared = different = worst = 0
    first = ""
    for name in names:
        a, b = expected[name], np.asarray(got[name], np.int64)
        assert a.shape == b.shape, (name, a.shape, b.shape)
        wrong = int(np.count_nonzero(a != b))
        compared, different = compared + a.size, different + wrong
        if wrong and not first:
            first, worst = name, int(np.abs(a - b).max())
    return Difference(compared, different, first, worst)


def trial_codes(graph: Graph, pictures: Sequence[Pixels], where: str = "model") -> Codes:
    """What the rungs are compared on: the pictures, letterboxed, and one frame of noise over all codes."""
    height, width, _ = graph.inputs[picture_input(graph, where)].shape
    noise = np.random.default_rng(0).integers(-128, 128, (height, width, 3)).astype(np.int8)
    return np.stack([*(to_codes(letterbox(p, height, width)[0]) for p in pictures), noise])


def card_of(meta: Mapping[str, str]) -> dict[str, Any]:
    """A model's card from its metadata, {} where there is none or it is no JSON object: quoted, never relied on."""
    try:
        card = json.loads(meta.get(CARD, "{}"))
    except ValueError:
        return {}
    return card if isinstance(card, dict) else {}


def quoted(graph: Graph) -> list[Rung]:
    """Rungs 0 and 1 from the card in the model's metadata."""
    card = card_of(graph.meta)
    rungs = []
    data = card.get("held_out", card.get("data", "its data"))
    for number, key, name in ((0, "float", "torch float"), (1, "fake-quant", "torch fake-quant")):
        figures = card.get(key)
        against = 0 if number else None
        if not isinstance(figures, dict) or "ap50" not in figures:
            rungs.append(Rung(number, name, against, "not run", "the model's card has no figure"))
            continue
        note = f"AP50 {figures['ap50']:.3f} on {data}"
        if number and rungs[0].status == "quoted":
            note = f"AP50 {figures['ap50']:.3f}, {figures['ap50'] - card['float']['ap50']:+.3f}"
        rungs.append(Rung(number, name, against, "quoted", note))
    return rungs


def models(path: Path, graph: Graph, codes: Codes, say: Say) -> tuple[list[Rung], dict[str, Array]]:
    """Rungs 2 to 4, and every value of the graph on `codes`."""
    name = picture_input(graph, str(path))
    say("Evaluating the integer graph")
    values = evaluate(graph, {name: codes}, keep=graph.types())
    try:
        rungs = [*_file(path, graph, name, codes, values, say)]
        say("Running the integer-valued ONNX in onnxruntime")
        session = OnnxSession(onnx_io.export_integer(graph), "integer-valued ONNX")
        whole = session.run({name: codes}, graph.outputs)
    except ToolMissing as error:
        return [Rung(n, title, against, "not run", str(error)) for n, title, against in _ONNX], values
    got = {n: np.rint(a).astype(np.int64).transpose(0, 2, 3, 1) for n, a in whole.items()}
    return [*rungs, compare(values, got, graph.outputs).rung(*_ONNX[2], "every output equal")], values


def _file(
    path: Path, graph: Graph, name: str, codes: Codes, values: Mapping[str, Array], say: Say
) -> tuple[Rung, Rung]:
    """Rungs 2 and 3: every tensor of the file that the graph has a value for, in stock onnxruntime."""
    say("Running model.onnx in onnxruntime")
    points = onnx_io.quant_points(path, graph)
    order = [node.name for node in graph.nodes if node.name in points]
    tensors = list(dict.fromkeys(points[n].tensor for n in order))
    session = OnnxSession(onnx_io.onnx_with_taps(onnx_read.load(path)[1], tensors), str(path))
    floats = session.run({name: codes * np.float32(graph.scales[name])}, tensors)
    # The deformable node rounds its offsets itself, so in the file they are not codes yet.
    raw = {node.inputs[1] for node in graph.nodes if isinstance(node.op, DeformDwConv)}
    taps: dict[str, Array] = {}
    held = broken = 0
    for n in order:
        point, real = points[n], floats[points[n].tensor]
        taps[n] = point.codes(real)
        if n not in raw:
            held += real.size
            whole = taps[n].transpose(0, 3, 1, 2).reshape(real.shape).astype(np.float32)
            broken += int(np.count_nonzero(whole * np.float32(point.scale) != real))
    note = "values are no codes" if broken else _exported(graph)
    return (
        Rung(*_ONNX[0], "fail" if broken else "ok", note, held, broken),
        compare(values, taps, order).rung(*_ONNX[1], f"{len(order)} layers, each equal"),
    )


def _exported(graph: Graph) -> str:
    """What the card says of the comparison with torch at export."""
    report = card_of(graph.meta).get("export")
    if not isinstance(report, dict) or "compared" not in report:
        return "all values are codes; the card has no comparison with torch"
    return (
        f"all values are codes; at export {report['different']} of {report['compared']:,} differed from torch"
    )


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
    ends = [nodes[-1] for nodes in read_json(bundle.directory / MANIFEST).get("nodes", ())]
    fresh = plan(graph, config=bundle.config, base=bundle.program.base, apart=ends).program
    for i, (step, wanted) in enumerate(zip(bundle.program.steps, fresh.steps, strict=False)):
        wrong = [f.name for f in fields(step) if f.name != "nodes" and not _equal(step, wanted, f.name)]
        if wrong:
            return f"program.bin is first wrong in layer {wanted.nodes[-1]} (step {i}: {', '.join(wrong)})"
    return "neither the C++ nor the steps of program.bin are to blame: check the manifest's layout"


def _equal(a: Step, b: Step, field: str) -> bool:
    return bool(np.array_equal(getattr(a, field), getattr(b, field)))


def hardware(directory: Path | None = None) -> list[Rung]:
    """Rungs 6 and 7: what `codesign synth` and `codesign bench` found with this bundle, or how to have it run.

    Raises ReportError for a damaged record.
    """
    return [_rtl(directory), _board(directory)]


def _rtl(directory: Path | None) -> Rung:
    """Co-simulation of this very design: the digest of its sources was kept with the result."""
    name, against = "RTL, co-simulation", 5
    if directory is not None:
        steps = read_json(directory / "synthesis" / "state.json").get("steps", {})
        found = steps.get("cosim", {}) if isinstance(steps, dict) else {}
        if found.get("design") == design_digest(read_json(directory / MANIFEST)):
            return Rung(
                6, name, against, "quoted", f"passed with {found.get('tool')}, {found.get('finished')}"
            )
    tools = any(shutil.which(tool) for tool in HLS_TOOLS)
    said = "run codesign synth --stop-after cosim" if tools else "no Vivado"
    return Rung(6, name, against, "not run", said)


def _board(directory: Path | None) -> Rung:
    bench = None if directory is None else bench_of(directory)
    if bench is None or bench["source"] != "board":
        said = (
            "no board" if bench is None else "codesign bench has run on the software device, not on a board"
        )
        return Rung(7, "board", 5, "not run", said)
    exact = bench["bit_exact"]
    state: Status = "fail" if exact["differences"] else "quoted"
    note = f"{exact['vectors']} vectors on {bench.get('board')}, {exact['differences']} differences"
    return Rung(7, "board", 5, state, note)


def climb(
    bundle: Bundle, pictures: Sequence[Pixels], say: Say = lambda text: None, lanes: Sequence[int] = ()
) -> list[Rung]:
    """The whole ladder of a bundle, on pictures and a frame of noise. `say` hears what is being done.

    Rung 5 has a line more for each of `lanes`.

    Raises ToolMissing without a C++ compiler: a ladder without rung 5 proves nothing.
    """
    say("Reading model.onnx")
    graph = onnx_io.import_model(bundle.model)
    codes = trial_codes(graph, pictures, str(bundle.model))
    rungs, values = models(bundle.model, graph, codes, say)
    simulated = simulation(bundle, graph, codes, values, say)
    simulated += other_lanes(bundle, graph, codes, values, lanes, say)
    return [*quoted(graph), *rungs, *simulated, *hardware(bundle.directory)]


_ONNX = (
    (2, "model.onnx in onnxruntime", 1),
    (3, "integer graph in numpy", 2),
    (4, "integer-valued ONNX in onnxruntime", 3),
)
