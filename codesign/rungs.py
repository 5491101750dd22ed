"""One detector, run in several ways that must agree: picture in, head maps out.

Every way takes input codes (N, H, W, 3), int8 or, where the network reads unsigned pixels, uint8, and returns
{output: (N, H, W, C) integers}; the torch ones, which live in quant/, return floats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from codesign.bundle import CODE, Bundle
from codesign.csim import Engine, Simulator
from codesign.decode import META, Detections, Detector, NotADetector, decode
from codesign.errors import ModelError, ToolMissing
from codesign.images import Pixels, letterbox, to_codes
from codesign.ir import Graph, evaluate
from codesign.parallel import cores

Codes = npt.NDArray[np.int8 | np.uint8]
Maps = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Runner:
    """A network of `height` x `width` input that runs on one rung of the ladder."""

    rung: str
    height: int
    width: int
    heads: Detector | NotADetector
    run: Callable[[Codes], Maps]
    signed: bool = True  # codes are pixels less 128
    threads: int = 1  # that may use it at the same time, each for a picture of its own

    @property
    def detector(self) -> Detector:
        """Raises NotADetector for a network that makes no boxes."""
        if isinstance(self.heads, NotADetector):
            raise self.heads
        return self.heads

    def detect(self, image: Pixels) -> Detections:
        """Boxes of one picture of any size, in its own pixels."""
        boxed, placement = letterbox(image, self.height, self.width)
        return decode(self._maps(boxed), self.detector, placement)

    def maps(self, image: Pixels) -> dict[str, npt.NDArray[Any]]:
        """Head maps (H, W, C) of one picture of any size."""
        return self._maps(letterbox(image, self.height, self.width)[0])

    def _maps(self, boxed: Pixels) -> dict[str, npt.NDArray[Any]]:
        return {name: array[0] for name, array in self.run(to_codes(boxed, self.signed)[None]).items()}


def of_graph(rung: str, graph: Graph, run: Callable[[Codes], Maps], where: str) -> Runner:
    """A runner of a graph's network. Raises ModelError if its input is no picture."""
    name = picture_input(graph, where)
    (height, width, _), elem = graph.inputs[name].shape, graph.inputs[name].elem
    scales = {output: graph.scales[output] for output in graph.outputs}
    return Runner(rung, height, width, heads(graph.meta, scales, where), run, elem.signed, cores())


def heads(meta: Mapping[str, str], scales: Mapping[str, float], where: str) -> Detector | NotADetector:
    """How outputs become boxes, or why they do not. Raises NotADetector for a description that is wrong."""
    try:
        return Detector.from_meta(meta, scales, where)
    except NotADetector as error:
        if META in meta:
            raise
        return error


def picture_input(graph: Graph, where: str) -> str:
    """Name of the one input, which takes pictures: `to_codes` says how, by its sign. Raises ModelError."""
    shown = ", ".join(f"{name} {type_}" for name, type_ in graph.inputs.items())
    ((name, type_), *others) = graph.inputs.items()
    if others or type_.shape[2] != 3 or type_.elem.bits != 8:
        raise ModelError(
            f"{where}: its inputs are {shown}, expected one picture i8[H,W,3] or u8[H,W,3]. Feed it from Python."
        )
    return name


def integer_runner(path: str | PathLike[str]) -> Runner:
    """The integer graph in numpy."""
    from codesign.onnx_io import import_model

    graph = import_model(path)
    name = picture_input(graph, str(path))
    return of_graph("integer", graph, lambda codes: evaluate(graph, {name: codes}), str(path))


def onnx_runner(path: str | PathLike[str]) -> Runner:
    """The model file itself in stock onnxruntime; its float outputs are given as the integers they stand for."""
    from codesign.onnx_bodies import runnable
    from codesign.onnx_io import import_model, quant_points
    from codesign.onnx_read import load

    where, model = load(path)
    graph = import_model(path)
    points = quant_points(path, graph)
    name = picture_input(graph, where)
    session = OnnxSession(runnable(model), where)

    def run(codes: Codes) -> Maps:
        floats = session.run({name: codes * np.float32(graph.scales[name])}, graph.outputs)
        return {output: points[output].codes(array) for output, array in floats.items()}

    return of_graph("onnx", graph, run, where)


def csim_runner(bundle: Bundle, kind: str = "native") -> Runner:
    """The bundle's own C++ and program. Raises as csim.Engine does."""
    where = str(bundle.directory)
    (name, port), *others = bundle.program.inputs.items()
    if others or port.shape[2] != 3:
        raise ModelError(
            f"{where}: its inputs are {', '.join(bundle.program.inputs)}, expected one picture of 3 channels. "
            "Feed it from Python."
        )
    scales = {output: bundle.scales[output] for output in bundle.program.outputs}
    simulator = simulator_of(bundle, Engine(bundle.hls, kind))
    return Runner(
        "csim",
        *port.shape[:2],
        heads(bundle.meta, scales, where),
        lambda codes: simulator.run({name: codes}),
        port.signed,
        cores(),
    )


def simulator_of(bundle: Bundle, engine: Engine) -> Simulator:
    """The bundle's program in an engine's memory, byte for byte as program.bin has it, as a board loads it."""
    simulator = Simulator(engine, bundle.program)
    code = np.fromfile(bundle.directory / CODE, np.uint8)
    start = bundle.program.base * bundle.program.lanes
    simulator.memory[start : start + code.size] = code
    return simulator


class OnnxSession:
    """A model in onnxruntime, one image at a time and on one thread. Raises ToolMissing if it cannot run it."""

    def __init__(self, model: onnx.ModelProto, where: str) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise ToolMissing(
                f"{where}: onnxruntime is not installed. Install it: pip install onnxruntime"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry(
            "session.disable_quant_qdq", "1"
        )  # it would round biases of its own accord
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises several kinds, all its own
            reason = str(error).splitlines()[0]
            raise ToolMissing(
                f"{where}: onnxruntime {onnxruntime.__version__} cannot run it ({reason}). Install 1.25 or newer, the "
                "first with a DeformConv kernel (needs Python 3.11)."
            ) from None

    def run(self, feeds: Maps, outputs: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """`feeds` (N, H, W, C) of float32, results (N, C, H, W) as the file has them."""
        batches = {
            k: np.ascontiguousarray(np.asarray(v, np.float32).transpose(0, 3, 1, 2)) for k, v in feeds.items()
        }
        count = len(next(iter(batches.values())))
        runs = [
            self._session.run(list(outputs), {k: v[i : i + 1] for k, v in batches.items()})
            for i in range(count)
        ]
        return {name: np.concatenate([r[k] for r in runs]) for k, name in enumerate(outputs)}
