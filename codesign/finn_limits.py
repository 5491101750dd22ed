"""What of an integer graph FINN has no hardware for, node by node.

Read in the sources of FINN 1.0.0-alpha (`convert_to_hw_layers`) and of qonnx 1.0.0 (`Im2Col`, `MaxPoolNHWC`), which are
the conditions of its conversions; FINN itself was not run.
"""

from __future__ import annotations

from typing import Any

from codesign.errors import Problem
from codesign.finn_streams import VIEWS, Streams
from codesign.ir import Graph, Node
from codesign.layout import views
from codesign.ops import (
    Add,
    Conv,
    DeformDwConv,
    DepthToSpace,
    DwConv,
    MaxPool,
    Requant,
    SampledDwConv,
    Upsample,
    WideRequant,
)

MAX_BITS = 8  # of a result: FINN's default `max_multithreshold_bit_width`
FOR_ENGINE = "Build it for our engine, or train a network without it."
EXACT = 1 << 24  # FINN's Python holds sums and thresholds in float32


def refusals(graph: Graph) -> list[Problem]:
    """What of a graph FINN cannot take: each node's name, the reason and a remedy."""
    found = [
        Problem(f"{type(node.op).__name__} {node.name!r}", *problem)
        for node in graph.nodes
        if (problem := _refusal(graph, node)) is not None
    ]
    streams, types = Streams(graph, _nothing, _nothing, _nothing), graph.types()
    if len(graph.inputs) > 1:
        found.append(Problem(f"inputs {', '.join(graph.inputs)}", "FINN duplicates the stream of one input alone",
                             "Export one input."))  # fmt: skip
    for name, count in streams.unread().items():
        what = f"{count} of {types[name].shape[-1]} channels are read by nobody, and their stream would stall"
        found.append(Problem(f"map {name!r}", what, "Remove them from the network."))
    for name in graph.outputs:
        sources = {source for source, _, _ in views(graph)[name]}
        if any(streams.readers(source) > 1 for source in sources):
            what = "is also read inside the network or twice an output, of which FINN makes one stream"
            found.append(Problem(f"output {name!r}", what, "Give it a convolution of its own."))
    return found


def _refusal(graph: Graph, node: Node) -> tuple[str, str] | None:
    op, types = node.op, graph.types()
    shape = types[node.inputs[0]].shape
    square = shape[0] == shape[1]
    match op:
        case Conv() | DwConv():
            bounds = graph.bounds()[node.name]
            if (most := int(max(-bounds.low.min(), bounds.high.max()))) >= EXACT:
                return f"sums reach {most}, beyond the 2^24 of FINN's float32", "Use fewer input channels."
            kernel = graph.consts[node.inputs[1]].shape[:2]
            if 1 in shape[:2] and kernel != (1, 1):
                what = f"a {kernel[0]}x{kernel[1]} window on a map of {shape[0]}x{shape[1]}"
                return f"{what}, which FINN takes for one dimension", "Use a larger input size."
            if kernel == (1, 1) and op.stride != (1, 1) and (not square or op.stride[0] != op.stride[1]):
                what = f"a 1x1 convolution with stride {op.stride[0]}x{op.stride[1]} on a {shape[0]}x{shape[1]} map"
                return f"{what}, where FINN's DownSampler is square", "Use a square input size."
        case Requant():
            if op.out.bits > MAX_BITS:
                what = f"{op.out.bits} bits are {(1 << op.out.bits) - 1} thresholds a channel"
                return what, f"Quantize to at most {MAX_BITS} bits."
            if isinstance(op, WideRequant) and graph.consts[node.inputs[2]].min() < 0:
                return "some of its channels fall as their sums rise", "Fold the signs into the weights."
        case MaxPool():
            if op.kernel[0] < op.stride[0] or op.kernel[1] < op.stride[1]:
                return (
                    "its stride skips samples, which FINN's pool does not",
                    "Use a kernel as large as the stride.",
                )
            if op.pads[:2] != op.pads[2:]:
                return f"pads unevenly ({op.pads})", "Pad both sides alike."
            if any(op.pads) and types[node.name].elem.signed:
                return "pads a signed map, where FINN pads with 0", "Put the max-pool behind a ReLU."
        case Upsample():
            if not square:
                what = f"the map is {shape[0]}x{shape[1]}, and FINN's upsampling is square"
                return what, "Use a square input size."
        case Add():
            pass
        case DeformDwConv() | SampledDwConv():
            return "samples where the data says, and FINN's windows are fixed", FOR_ENGINE
        case DepthToSpace():
            return "makes pixels of channels, for which FINN has no hardware", FOR_ENGINE
        case _ if not isinstance(op, VIEWS):
            return "FINN has no hardware for it", FOR_ENGINE
    return None


def _nothing(*_: Any) -> Any:
    raise AssertionError("only readers are asked for")
