"""Sizes at which a design of hls4ml stops being one, and what its streams take of a board. All of it *estimated*.

arrays      hls4ml splits arrays into registers up to `maximum_size` elements (project.tcl, 4096): weights of the
            latency strategy always, and every map in io_parallel
streams     in io_stream each map has a FIFO as deep as the map has pixels, whatever is needed; block RAM holds it
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from codesign.board import Board
from codesign.errors import Problem
from codesign.fabric import memory
from codesign.hls4ml.scales import ENGINE

MAXIMUM_SIZE = 4096
SHOWN = 3  # of the largest FIFOs


@dataclass(frozen=True)
class Stream:
    """A FIFO between two layers."""

    layer: str
    depth: int
    bits: int

    @property
    def bram36(self) -> float:
        return memory(self.layer, self.depth, self.bits).bram18 / 2


@dataclass(frozen=True)
class Cost:
    """What is known of a design before synthesis. Multipliers are those of the latency strategy, all at work at once:
    a tool makes them of LUTs or DSPs, and none of those whose weight is a power of two.
    """

    streams: tuple[Stream, ...]
    multipliers: dict[str, int]  # by layer: weights that are not zero; where the frame decides them, all
    turns: dict[str, int]  # by layer: cycles of a frame at best, a pixel a cycle or as its contract says

    @property
    def bram36(self) -> float:
        return sum(s.bram36 for s in self.streams)


def cost(design: Any) -> Cost:
    """Of an hls4ml ModelGraph that was converted."""
    streams, multipliers, turns = [], {}, {}
    for layer in design.get_layers():
        for variable in layer.get_variables():
            pragma = variable.pragma
            if isinstance(pragma, tuple) and pragma[0] == "stream":
                bits = int(variable.shape[-1]) * int(variable.type.precision.width)
                streams.append(Stream(layer.name, int(pragma[1]), bits))
        if (products := _products(layer)) is not None:
            multipliers[layer.name] = products
        turns[layer.name] = _turns(layer)
    if design.config.get_config_value("Backend") == "VivadoAccelerator":  # its streams carry a number a cycle
        ends = {"AXI, in": design.get_input_variables(), "AXI, out": design.get_output_variables()}
        turns |= {name: sum(prod(v.shape) for v in variables) for name, variables in ends.items()}
    return Cost(tuple(streams), multipliers, turns)


def _products(layer: Any) -> int | None:
    """Of a layer at once: None where it has no weights."""
    match layer.class_name:
        case "MixedConv2D":
            filters, turn = layer.get_attr("n_filt"), layer.get_attr("reuse_factor")
            return int(filters * (layer.get_attr("n_experts") + -(-layer.taps // turn)))
        case "ChannelMix2D":
            return -(-int(layer.get_attr("n_chan")) // int(layer.get_attr("reuse_factor")))
    return int(layer.get_weights("weight").nonzeros) if "weight" in layer.weights else None


def _turns(layer: Any) -> int:
    """A layer takes or gives a pixel a cycle; ours as their headers say."""
    if layer.class_name == "MixedConv2D":
        get = layer.get_attr
        rows = get("in_height") + get("pad_top") + get("pad_bottom")
        columns = get("in_width") + get("pad_left") + get("pad_right")
        return int(layer.taps + rows * columns * get("reuse_factor"))
    if layer.class_name == "SquareDeform2D":
        rows = layer.get_attr("in_height") + layer.get_attr("max_offset") + 1
        return 2 * int(rows * layer.get_attr("in_width"))
    pixels = [prod(v.shape[:-1]) for v in layer.get_variables()]
    source = layer.get_input_variable()
    return int(max([*pixels, *([] if source is None else [prod(source.shape[:-1])])]))


def refusals(design: Any, board: Board, found: Cost) -> list[Problem]:
    """Every layer that is too large, with the limit it meets."""
    problems = []
    parallel = design.config.get_config_value("IOType") == "io_parallel"
    for layer in design.get_layers():
        arrays = [("weights", prod(layer.get_weights("weight").shape))] if "weight" in layer.weights else []
        if layer.class_name == "MixedConv2D":
            arrays.append(("mixed weights", layer.taps * layer.get_attr("n_filt")))
        if parallel:
            arrays += [("map", prod(v.shape)) for v in layer.get_variables()]
        problems += [
            Problem(
                f"{layer.class_name} {layer.name!r}",
                f"has {what} of {size:,} elements, hls4ml's limit is {MAXIMUM_SIZE:,} (maximum_size of project.tcl)",
                ENGINE if what != "map" else "Take --io stream.",
            )
            for what, size in arrays
            if size > MAXIMUM_SIZE
        ]
    if found.bram36 > board.bram36:
        largest = sorted(found.streams, key=lambda s: -s.bram36)[:SHOWN]
        named = ", ".join(f"{s.layer} {s.depth:,} x {s.bits} bits, {s.bram36:g}" for s in largest)
        reason = (
            f"need {found.bram36:g} BRAM36 estimated, {board.name} has {board.bram36}; the largest: {named}"
        )
        problems.append(Problem("FIFOs, one a map and as deep as it has pixels", reason, ENGINE))
    return problems
