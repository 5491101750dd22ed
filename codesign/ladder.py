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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from codesign import onnx_io, onnx_read
from codesign.bundle import MANIFEST, Bundle
from codesign.difference import Rung, Say, Status, compare
from codesign.digest import design_digest
from codesign.errors import ToolMissing
from codesign.evidence import bench_of
from codesign.images import Pixels, letterbox, to_codes
from codesign.ir import Array, Graph, evaluate
from codesign.ladder_csim import other_lanes, simulation
from codesign.ops import DEFORMABLE, WideRequant
from codesign.rungs import Codes, OnnxSession, picture_input
from codesign.synth_files import read_json
from codesign.vivado import HLS_TOOLS

CARD = "codesign.card"
# Powers of two and factors of 8 bits leave float32 exact; of others it decides some ties by its own rounding.
FREE_SCALES = "with free scales onnxruntime rounds in float32, the integers do not"


def trial_codes(graph: Graph, pictures: Sequence[Pixels], where: str = "model") -> Codes:
    """What the rungs are compared on: the pictures, letterboxed, and one frame of noise over all codes."""
    type_ = graph.inputs[picture_input(graph, where)]
    height, width, _ = type_.shape
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    frames = [*(letterbox(p, height, width)[0] for p in pictures), noise]
    return np.stack([to_codes(frame, type_.elem.signed) for frame in frames])


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
    raw = {node.inputs[1] for node in graph.nodes if isinstance(node.op, DEFORMABLE)}
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
    integers = compare(values, taps, order).rung(*_ONNX[1], f"{len(order)} layers, each equal")
    if integers.different and any(isinstance(node.op, WideRequant) for node in graph.nodes):
        integers = replace(integers, note=f"{integers.note}; {FREE_SCALES}")
    return Rung(*_ONNX[0], "fail" if broken else "ok", note, held, broken), integers


def _exported(graph: Graph) -> str:
    """What the card says of the comparison with torch at export."""
    report = card_of(graph.meta).get("export")
    if not isinstance(report, dict) or "compared" not in report:
        return "all values are codes; the card has no comparison with torch"
    return (
        f"all values are codes; at export {report['different']} of {report['compared']:,} differed from torch"
    )


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
