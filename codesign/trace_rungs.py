"""A side of a comparison from MODEL@RUNG: what runs it, and all that can be seen of it.

tracer = open_side("codenet-a@integer")
values = tracer.run({"image": real})          {value: float32 (N, H, W, C)}
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codesign import onnx_io, onnx_read
from codesign.bundle import MANIFEST, Bundle, load
from codesign.csim import Engine, Simulator
from codesign.emit import sources
from codesign.errors import CodesignError, ModelError
from codesign.ir import Graph, evaluate
from codesign.ops import DEFORMABLE
from codesign.plan import plan
from codesign.rungs import OnnxSession, simulator_of
from codesign.shipped import find_model
from codesign.trace import Grid, Reading, Real, Tracer, Values, layers_of, nhwc
from codesign.trace_float import float_side

RUNGS = ("onnx", "integer", "onnx-integer", "csim", "csim-ap")
QUANTIZERS = ("Quant", "IntQuant", "QuantizeLinear")
FLOAT_OPSETS = range(7, 24)  # a float file is only run


def parse_side(text: str) -> tuple[str, str | None]:
    """MODEL[@RUNG] as (model, rung). Raises ModelError for a rung that does not exist."""
    model, at, rung = text.rpartition("@")
    if not at or Path(text).exists():
        return text, None
    if rung not in RUNGS:
        raise ModelError(
            f"{text}: rung {rung!r} is not known, expected one of {', '.join(RUNGS)}. Correct it."
        )
    return model, rung


def open_sides(a: str, b: str) -> tuple[Tracer, Tracer]:
    """Both sides; a float file reads the same picture as a quantized one beside it, in its size."""
    first = [open_side(text) if _is_quantized(text) else None for text in (a, b)]
    like = first[0] or first[1]
    one, two = (side or open_side(text, like) for side, text in zip(first, (a, b), strict=True))
    return one, two


def _is_quantized(text: str) -> bool:
    _, model = onnx_read.load(find_model(parse_side(text)[0]), FLOAT_OPSETS)
    return any(node.op_type in QUANTIZERS for node in model.graph.node)


def open_side(text: str, like: Tracer | None = None) -> Tracer:
    """MODEL[@RUNG]: a bundle runs as csim, a quantized file as integer, a float file as onnx, unless told otherwise.

    `like` is the quantized side whose pictures a float file shall read.
    """
    what, rung = parse_side(text)
    path = find_model(what)
    where, model = onnx_read.load(path, FLOAT_OPSETS)
    where = str(what)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not any(node.op_type in QUANTIZERS for node in model.graph.node):
        if rung not in (None, "onnx"):
            raise ModelError(
                f"{where}: has no quantizer, expected some on rung {rung}. Quantize it, or compare it as {where}@onnx."
            )
        return float_side(where, model, digest, like)
    graph = onnx_io.import_model(path)
    points = onnx_io.quant_points(path, graph)
    grids = {
        name: Grid(p.scale, p.lo, p.hi, graph.types()[name].elem) for name, p in points.items()
    } | {
        name: Grid(graph.scales[name], t.elem.min, t.elem.max, t.elem) for name, t in graph.inputs.items()
    }  # fmt: skip
    is_bundle = (Path(what) / MANIFEST).is_file()
    rung = rung or ("csim" if is_bundle else "integer")
    bundle = load(Path(what)) if is_bundle and rung.startswith("csim") else None
    run = _runs(rung, graph, grids, path, where, bundle)
    shapes = {name: t.shape for name, t in graph.inputs.items()}
    reading = Reading.from_meta(graph.meta)
    return Tracer(where, rung, digest, layers_of(graph, grids), shapes, run, graph, grids, reading)


def _runs(
    rung: str, graph: Graph, grids: Mapping[str, Grid], path: Path, where: str, bundle: Bundle | None
) -> Callable[[Mapping[str, Real]], Values]:
    made = [node.name for node in graph.nodes if node.name in grids]

    def codes(feeds: Mapping[str, Real]) -> dict[str, npt.NDArray[np.int64]]:
        return {name: grids[name].codes(feeds[name]) for name in graph.inputs}

    def integer(feeds: Mapping[str, Real]) -> Values:
        values = evaluate(graph, codes(feeds), keep=made)
        return {name: grids[name].real(values[name]) for name in made}

    if rung == "integer":
        return integer
    if rung == "onnx":
        return _model_file(graph, grids, path, where, made)
    if rung == "onnx-integer":
        taps = onnx_io.onnx_with_taps(onnx_io.export_integer(graph), made)
        session = OnnxSession(taps, f"{where}, integer-valued")

        def whole(feeds: Mapping[str, Real]) -> Values:
            got = session.run(codes(feeds), made)
            return {name: grids[name].real(nhwc(got[name])) for name in made}

        return whole
    return _simulation(graph, grids, bundle, "ap" if rung == "csim-ap" else "native", codes)


def _model_file(
    graph: Graph, grids: Mapping[str, Grid], path: Path, where: str, made: Sequence[str]
) -> Callable[[Mapping[str, Real]], Values]:
    """The file itself in onnxruntime. The deformable node rounds its offsets by itself: they are rounded here."""
    points = onnx_io.quant_points(path, graph)
    tensors = {name: points[name].tensor for name in made}
    session = OnnxSession(onnx_io.onnx_with_taps(onnx_read.load(path)[1], tensors.values()), where)
    offsets = {node.inputs[1] for node in graph.nodes if isinstance(node.op, DEFORMABLE)}
    wanted = list(dict.fromkeys(tensors.values()))

    def run(feeds: Mapping[str, Real]) -> Values:
        got = session.run(feeds, wanted)
        values = {name: nhwc(got[tensors[name]]) for name in made}
        return {
            name: grids[name].real(grids[name].codes(real)) if name in offsets else real.astype(np.float32)
            for name, real in values.items()
        }

    return run


def _simulation(
    graph: Graph, grids: Mapping[str, Grid], bundle: Bundle | None, kind: str,
    codes: Callable[[Mapping[str, Real]], dict[str, npt.NDArray[np.int64]]],
) -> Callable[[Mapping[str, Real]], Values]:  # fmt: skip
    """The C++ with every stored map kept, planned with as little fused as the engine can do.

    A bundle's outputs come from its own program. Maps that are only addresses in the hardware are not seen.
    """
    if bundle is None:
        planned = plan(graph, keep=True, fuse=False)
        engine, kept, own = Engine(sources(planned.config), kind), planned.program, None
    else:
        engine, own = Engine(bundle.hls, kind), None
        config, base = bundle.config, bundle.program.base
        try:
            kept = plan(graph, config=config, base=base, keep=True, fuse=False).program
        except CodesignError:  # the engine was made for fused windows only
            kept = plan(graph, config=config, base=base, keep=True).program
        own = simulator_of(bundle, engine)
    simulator = Simulator(engine, kept)
    seen = [name for name in kept.tensors if name in grids and name not in graph.inputs]

    def run(feeds: Mapping[str, Real]) -> Values:
        fed = codes(feeds)
        got = simulator.run(fed, keep=seen)
        if own is not None:
            got |= own.run(fed)
        return {name: grids[name].real(array) for name, array in got.items() if name in grids}

    return run
