"""Integer graphs for tests: a small builder, and random networks with CoDeNet's topology.

graph = random_codenet_graph(seed=1, size=64)          small, for every test
graph = random_codenet_graph(size=256, **CONFIG_A)     0.28 GMAC, for timing
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from codesign.ir import Graph, IntType, Node, TensorType
from codesign.ops import (
    Add,
    Concat,
    Conv,
    DeformDwConv,
    DepthToSpace,
    DwConv,
    GlobalSum,
    MaxPool,
    Mix,
    MixedConv,
    Pick,
    Requant,
    SampledDwConv,
    Select,
    Shuffle,
    Slice,
    Table,
    Upsample,
    VariedDwConv,
)
from codesign.ops.op import Op
from codesign.ops.table import ENTRIES

U8, I8, I4 = IntType(8, False), IntType(8), IntType(4)
CONFIG_A: dict[str, Any] = {
    "widths": (24, 116, 232, 464, 1024),
    "repeats": (3, 7, 3),
    "decoder": (256, 128, 64),
    "head": 64,
    "classes": 20,
}


class Builder:
    """Collects nodes and constants; every convolution brings its Requant, with shifts that keep codes lively."""

    def __init__(self, seed: int = 0, mantissas: Sequence[int] = (1, 4, 5, 6, 7)) -> None:
        self.rng = np.random.default_rng(seed)
        self.mantissas = mantissas
        self.inputs: dict[str, TensorType] = {}
        self.nodes: list[Node] = []
        self.consts: dict[str, np.ndarray] = {}
        self.const_types: dict[str, IntType] = {}
        self.types: dict[str, TensorType] = {}
        self.values: dict[str, np.ndarray] = {}  # a sample of every value, to place the codes

    def input(self, name: str, shape: tuple[int, int, int], elem: IntType = I8) -> str:
        self.inputs[name] = self.types[name] = TensorType(shape, elem)
        self.values[name] = self.rng.integers(elem.min, elem.max, (1, *shape), endpoint=True)
        return name

    def const(self, name: str, values: np.ndarray, elem: IntType) -> str:
        self.consts[name], self.const_types[name] = np.asarray(values, np.int64), elem
        self.types[name] = TensorType(self.consts[name].shape, elem)
        self.values[name] = self.consts[name]
        return name

    def add(self, name: str, op: Op, *inputs: str) -> str:
        self.nodes.append(Node(name, op, inputs))
        self.types[name] = op.infer(*(self.types[s] for s in inputs))
        self.values[name] = op.run(*(self.values[s] for s in inputs))
        return name

    def weight(self, name: str, shape: tuple[int, ...], elem: IntType) -> str:
        values = self.rng.integers(-elem.max, elem.max, shape, endpoint=True)
        return self.const(f"{name}.weight", values, elem)

    def requant(
        self,
        acc: str,
        result: str | None = None,
        out: IntType = U8,
        lo: int | None = None,
        hi: int | None = None,
        spread: float = 0.35,
    ) -> str:
        """Bias and shift from a sample of the accumulators, such that codes spread over about `spread` of the
        range with some clipping at both ends.
        """
        lo, hi = out.min if lo is None else lo, out.max if hi is None else hi
        c, sample = self.types[acc].shape[2], self.values[acc].astype(float)
        deviation = sample.std(axis=(0, 1, 2)).clip(1)
        deviation = np.sqrt(deviation * deviation.mean())  # one-pixel maps have none of their own
        mult = self.rng.choice(self.mantissas, c)
        shift = np.rint(np.log2(deviation * mult / (spread * (hi - lo)))).astype(int)
        centre = (lo + hi) / 2 + self.rng.normal(0, 0.15, c) * (hi - lo)
        bias = np.rint(centre * 2.0**shift / mult - sample.mean(axis=(0, 1, 2)))
        self.const(f"{acc}.bias", bias, IntType(32))
        self.const(f"{acc}.mult", mult, IntType(8, False))
        self.const(f"{acc}.shift", shift, I8)
        tables = (f"{acc}.bias", f"{acc}.mult", f"{acc}.shift")
        return self.add(result or f"{acc}.q", Requant(out, lo, hi), acc, *tables)

    def conv(
        self, name: str, x: str, cout: int, kernel: int = 1, stride: int = 1, bits: IntType = I4, **requant: Any
    ) -> str:  # fmt: skip
        cin, pad = self.types[x].shape[2], kernel // 2
        weight = self.weight(name, (kernel, kernel, cin, cout), bits)
        self.add(name, Conv((kernel, kernel), (stride, stride), (pad,) * 4), x, weight)
        return self.requant(name, **requant)

    def gate(self, name: str, x: str) -> str:
        """A number (1, 1, 1), i8, of the whole of a map."""
        while max(self.types[x].shape[:2]) > 5:
            x = self.conv(f"{name}.{max(self.types[x].shape[:2])}", x, 6, kernel=3, stride=2)
        kernel = self.types[x].shape[:2]
        weight = self.weight(name, (*self.types[x].shape, 1), I4)
        self.add(name, Conv(kernel), x, weight)
        # The sample is one number: how far others lie from it is of the weights and of the map.
        far = np.linalg.norm(self.values[weight]) * self.values[x].std() * 0.3
        return self.requant(name, out=I8, spread=0.35 / far)

    def dwconv(self, name: str, x: str, stride: int = 1, bits: IntType = I4, **requant: Any) -> str:
        weight = self.weight(name, (3, 3, self.types[x].shape[2]), bits)
        self.add(name, DwConv((stride, stride), (1, 1, 1, 1)), x, weight)
        return self.requant(name, **requant)

    def deform(
        self, name: str, x: str, max_offset: int = 7, stride: int = 1, bits: IntType = I4, **requant: Any
    ) -> str:  # fmt: skip
        """Offset convolution, its Requant to 0..max_offset, and the square deformable convolution."""
        d = self.conv(f"{name}.offset", x, 1, stride=stride, bits=I8, out=IntType.holding(0, max_offset), lo=0,
                      hi=max_offset, spread=0.35)  # fmt: skip
        weight = self.weight(name, (3, 3, self.types[x].shape[2]), bits)
        self.add(name, DeformDwConv(max_offset, (stride, stride)), x, d, weight)
        return self.requant(name, **requant)

    def sampled(
        self, name: str, x: str, op: SampledDwConv, bits: IntType = I4, **requant: Any
    ) -> str:  # fmt: skip
        """A convolution for offsets and masks, its Requant, and the sampled depthwise convolution."""
        lo, hi = min(-op.limit, op.mask_low), max(op.limit, op.mask_high)
        samples = self.conv(
            f"{name}.samples", x, op.channels, stride=op.stride[0], bits=I8, out=I8, lo=lo, hi=hi
        )
        weight = self.weight(name, (*op.kernel, self.types[x].shape[2]), bits)
        self.add(name, op, x, samples, weight)
        return self.requant(name, **requant)

    def gates(self, name: str, x: str, count: int, **requant: Any) -> str:
        """Gates of a map: its whole-map sum, then a 1x1 convolution, both requantized."""
        h, w, _ = self.types[x].shape
        mean = self.requant(self.add(f"{name}.sum", GlobalSum((h, w)), x))
        return self.conv(name, mean, count, **requant)

    def mixed_conv(
        self, name: str, x: str, gates: str, cout: int, op: MixedConv, bits: IntType = I8, **requant: Any
    ) -> str:  # fmt: skip
        """A bank of weights for as many gates, shifts that keep mixed weights lively, and the convolution."""
        experts, cin = self.types[gates].shape[2], self.types[x].shape[2]
        bank = self.weight(name, (experts, *op.kernel, cin, cout), bits)
        sums = np.einsum("k,kijco->ijco", self.values[gates].reshape(-1), self.consts[bank])
        spread = np.abs(sums).max(axis=(0, 1, 2)).clip(1) / (1.2 * op.most)
        shift = self.const(f"{name}.mixshift", np.rint(np.log2(spread)).clip(0), I8)
        self.add(name, op, x, gates, bank, shift)
        return self.requant(name, **requant)

    def varied(self, name: str, x: str, stride: int = 1, bits: IntType = I8, **requant: Any) -> str:
        """A depthwise convolution with weights of its own at every pixel."""
        h, w, c = self.types[x].shape
        weight = self.weight(name, (-(-h // stride), -(-w // stride), 9, c), bits)
        self.add(name, VariedDwConv((stride, stride)), x, weight)
        return self.requant(name, **requant)

    def table(self, name: str, x: str, out: IntType = U8) -> str:
        """Any function of the codes of x."""
        values = self.rng.integers(out.min, out.max, ENTRIES, endpoint=True)
        return self.add(name, Table(out), x, self.const(f"{name}.values", values, out))

    def graph(self, outputs: Sequence[str], scales: dict[str, float] | None = None) -> Graph:
        scales = scales or {}
        every = {name: scales.get(name, 2.0**-7) for name in (*self.inputs, *outputs)}
        return Graph(self.inputs, tuple(self.nodes), tuple(outputs), self.consts, self.const_types, every)


def down_block(b: Builder, name: str, x: str, cout: int, stride: int = 2) -> str:
    left = b.dwconv(f"{name}.left.dw", x, stride, out=I8)
    left = b.conv(f"{name}.left.pw", left, cout // 2)
    right = b.conv(f"{name}.right.pw1", x, cout // 2)
    right = b.dwconv(f"{name}.right.dw", right, stride, out=I8)
    right = b.conv(f"{name}.right.pw2", right, cout // 2)
    return b.add(f"{name}.shuffle", Shuffle(2), b.add(f"{name}.cat", Concat(), left, right))


def unit_block(b: Builder, name: str, x: str) -> str:
    c = b.types[x].shape[2]
    left = b.add(f"{name}.left", Slice(0, c // 2), x)
    right = b.conv(f"{name}.pw1", b.add(f"{name}.right", Slice(c // 2, c), x), c // 2)
    right = b.dwconv(f"{name}.dw", right, out=I8)
    right = b.conv(f"{name}.pw2", right, c // 2)
    return b.add(f"{name}.shuffle", Shuffle(2), b.add(f"{name}.cat", Concat(), left, right))


def random_codenet_graph(
    seed: int = 0,
    size: int | tuple[int, int] = 64,
    widths: Sequence[int] = (6, 10, 12, 16, 20),
    repeats: Sequence[int] = (1, 1, 1),
    decoder: Sequence[int] = (12, 10, 8),
    head: int = 8,
    classes: int = 3,
    max_offset: int = 7,
    stem: str = "stride4",
    mantissas: Sequence[int] = (1, 4, 5, 6, 7),
    sampler: SampledDwConv | None = None,
) -> Graph:
    """CoDeNet with random weights: stem ("stride4" or "maxpool"), three ShuffleNetV2 stages, neck, deformable
    decoder (square, or of `sampler`), heads hm / wh / reg. `size` (a side, or height and width) is a multiple of 4.
    """
    height, width = (size, size) if isinstance(size, int) else size
    b = Builder(seed, mantissas)
    x = b.input("image", (height, width, 3))
    if stem == "stride4":
        x = b.conv("stem", x, widths[0], kernel=3, stride=4, bits=I8)
    else:
        x = b.conv("stem", x, widths[0], kernel=3, stride=2, bits=I8)
        x = b.add("stem.pool", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), x)
    for s, (cout, count) in enumerate(zip(widths[1:4], repeats, strict=True)):
        x = down_block(b, f"stage{s + 1}.0", x, cout)
        for u in range(count):
            x = unit_block(b, f"stage{s + 1}.{u + 1}", x)
    x = b.conv("neck", x, widths[4])
    for s, cout in enumerate(decoder):
        if sampler is None:
            x = b.deform(f"decoder{s}.dw", x, max_offset, out=I8)
        else:
            x = b.sampled(f"decoder{s}.dw", x, sampler, out=I8)
        x = b.conv(f"decoder{s}.pw", x, cout)
        x = b.add(f"decoder{s}.up", Upsample(2), x)
    for name, cout in ("hm", classes), ("wh", 2), ("reg", 2):
        y = b.conv(f"head.{name}.pw", x, head)
        y = b.dwconv(f"head.{name}.dw", y)
        b.conv(f"head.{name}.out", y, cout, bits=I8, result=name, out=I8)
    return b.graph(("hm", "wh", "reg"), {"hm": 2.0**-4, "wh": 2.0**-6, "reg": 2.0**-7})


def random_residual_graph(seed: int = 0, size: int = 32, width: int = 10, bits: IntType = I4) -> Graph:
    """A network of another kind, with random weights: inverted residual blocks, then a transposed convolution
    whose result is added to a map of the same size (a feature pyramid), and one head.
    """
    b = Builder(seed)
    x = b.conv("stem", b.input("image", (size, size, 3)), width, kernel=3, stride=2, bits=I8)
    early = x
    for i, stride in enumerate((2, 1, 1)):
        y = b.dwconv(f"block{i}.dw", b.conv(f"block{i}.expand", x, 3 * width, bits=bits), stride)
        y = b.conv(f"block{i}.project", y, width, bits=bits, out=I8)
        if stride == 1:
            b.add(f"block{i}.sum", Add(i % 2, 1 - i % 2), x, y)
            y = b.requant(f"block{i}.sum", out=I8)
        x = y
    b.add("up.phases", Conv(), x, b.weight("up", (1, 1, width, 4 * width), bits))
    b.add("up", DepthToSpace(), "up.phases")
    b.add("pyramid", Add(), b.requant("up"), early)
    b.conv("head", b.requant("pyramid"), 2, kernel=3, bits=I8, result="hm", out=I8)
    return b.graph(("hm",), {"hm": 2.0**-4})


def random_mixing_graph(
    seed: int = 0, size: tuple[int, int] = (12, 10), width: int = 10, bits: IntType = I8
) -> Graph:
    """Gates computed from the image, in every use: of channels, of branches, of sets, of experts' weights."""
    b = Builder(seed)
    x = b.conv("stem", b.input("image", (*size, 3)), width, kernel=3, bits=I8)
    b.add("gated", Mix(), x, b.gates("gate", x, width))
    x = b.requant("gated", out=I8)
    left, right = b.conv("left", x, width, kernel=3), b.dwconv("right", x)
    both = b.add("both", Concat(), left, right)
    b.add("chosen", Mix(2), both, b.gates("choice", both, 2 * width))
    x = b.requant("chosen")
    b.add("picked", Pick(2, 100), b.conv("wide", x, 2 * width, out=I8), b.gates("pick", x, width))
    x = b.requant("picked")
    gates = b.gates("experts", x, 3)
    x = b.mixed_conv("mixed", x, gates, width, MixedConv((3, 3), pads=(1, 1, 1, 1)), bits)
    b.mixed_conv("head", x, gates, 2, MixedConv(bits=8), bits, result="hm", out=I8)
    return b.graph(("hm",), {"hm": 2.0**-4})


def random_skipping_graph(seed: int = 0, size: tuple[int, int] = (16, 12), width: int = 10) -> Graph:
    """Two blocks that may be skipped, the second by a number that the host gives, and an exit before the last."""
    b = Builder(seed)
    x = b.conv("stem", b.input("image", (*size, 3)), width, kernel=3, bits=I8)
    given = b.input("given", (1, 1, 1))
    for k, gate in enumerate((b.gate("gate", x), given)):
        y = b.conv(f"block{k}.b", b.dwconv(f"block{k}.dw", b.conv(f"block{k}.a", x, width + 6)), width)
        x = b.add(f"block{k}", Select(0), y, x, gate)
    early = b.conv("early", x, 5, kernel=3, stride=2, out=I8)
    rest = b.conv("rest.b", b.conv("rest.a", x, 2 * width, kernel=3, stride=2), 5, kernel=3, out=I8)
    b.add("hm", Select(-20), early, rest, b.gate("exit", x))
    return b.graph(("hm",), {"hm": 2.0**-4})


def random_feeds(graph: Graph, seed: int = 1, batch: int = 1) -> dict[str, np.ndarray]:
    """Uniform codes over each input's whole range, int64 (N, H, W, C)."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(t.elem.min, t.elem.max, (batch, *t.shape), endpoint=True)
        for name, t in graph.inputs.items()
    }


def macs(graph: Graph) -> int:
    types = graph.types()
    return sum(node.op.macs(*(types[s] for s in node.inputs)) for node in graph.nodes)


def parameters(graph: Graph) -> int:
    return sum(prod(a.shape) for name, a in graph.consts.items() if name.endswith((".weight", ".bias")))
