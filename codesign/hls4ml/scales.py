"""Real values of 1 LSB of every map, as powers of two, so that real arithmetic is the integer arithmetic.

The integer graph says scales at its ends alone. Inside, a convolution's weights can carry any change of scale; views
(pool, upsampling, concat) keep it; and an addition asks for what its shifts say:

    S = (A << left) + (B << right)      exponent of S = that of A - left = that of B - right
    Y = RHE(S, n)                       exponent of Y = that of S + n

Offsets of a deformable convolution are whole numbers of pixels: exponent 0.
"""

from __future__ import annotations

from math import frexp

from codesign.errors import Problem
from codesign.ir import Graph, Node
from codesign.ops import Add, Concat, DeformDwConv, MaxPool, Requant, Upsample, WideRequant

ENGINE = "Build it for the engine: leave out --flow hls4ml."


def exponents(graph: Graph) -> tuple[dict[str, int], list[Problem]]:
    """log2 of the real value of 1 LSB of every map, and what contradicts. Maps that nothing ties have 0."""
    ties = _Ties()
    problems = []
    made = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        for name, other, distance in _tied(graph, made, node):
            if not ties.tie(name, other, distance):
                reason = f"ties the scale of {name} to another than it has"
                problems.append(Problem(f"{type(node.op).__name__} {node.name!r}", reason, ENGINE))
    for name in (*graph.inputs, *graph.outputs):
        mantissa, exponent = frexp(graph.scales.get(name, 1.0))
        if mantissa != 0.5 or not ties.tie(name, "", exponent - 1):
            reason = "has a scale that its layers cannot have"
            problems.append(Problem(f"value {name!r}", reason, "Export the model again."))
    return {name: ties.to_ground(name) for name in graph.types() if name not in graph.consts}, problems


def plain_shift(graph: Graph, node: Node) -> int | None:
    """The shift of a Requant that does nothing else, None if it has a bias, mantissas or a shift for each channel."""
    if isinstance(node.op, WideRequant):
        return None
    bias, mult, shift = (graph.consts[name] for name in node.inputs[1:])
    plain = not bias.any() and (mult == 1).all() and (shift == shift[0]).all()
    return int(shift[0]) if plain else None


def _tied(graph: Graph, made: dict[str, Node], node: Node) -> list[tuple[str, str, int]]:
    """(name, other, exponent of the name - exponent of the other) of what a node asks for."""
    match node.op:
        case DeformDwConv():
            return [(node.inputs[1], "", 0)]
        case MaxPool() | Upsample() | Concat():
            return [(node.name, name, 0) for name in node.inputs]
        case Add(left, right):
            return [(node.name, node.inputs[0], -left), (node.name, node.inputs[1], -right)]
        case Requant():
            source = made.get(node.inputs[0])
            shift = plain_shift(graph, node)
            if source is not None and isinstance(source.op, Add) and shift is not None:
                return [(node.name, source.name, shift)]
    return []


class _Ties:
    """Names with fixed distances between them; "" is the ground, whose exponent is 0."""

    def __init__(self) -> None:
        self.parent: dict[
            str, tuple[str, int]
        ] = {}  # name -> (another, exponent of name - exponent of another)

    def root(self, name: str) -> tuple[str, int]:
        distance = 0
        while name in self.parent:
            name, step = self.parent[name]
            distance += step
        return name, distance

    def tie(self, a: str, b: str, distance: int) -> bool:
        """Let exponent(a) - exponent(b) be `distance`; False if it is something else already."""
        (root_a, from_a), (root_b, from_b) = self.root(a), self.root(b)
        if root_a == root_b:
            return from_a - from_b == distance
        step = distance + from_b - from_a
        if root_a == "":
            self.parent[root_b] = (root_a, -step)
        else:
            self.parent[root_a] = (root_b, step)
        return True

    def to_ground(self, name: str) -> int:
        return self.root(name)[1]
