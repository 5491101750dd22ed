"""From nodes to drafts of steps: which values are computed together, before anything has an address.

A convolution and its Requant are one draft; a window (depthwise, deformable, max-pool) whose only reader is a
1x1 convolution joins that convolution's draft, and its result never reaches memory. A convolution whose only reader is
such a draft with a depthwise 3x3 joins it too, a 3x3 max-pool that is the only reader of a convolution, and a table
that is the only reader of what has no max-pool.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from codesign.draft import Condition, Dense, Draft, Mixture, Tables, Window
from codesign.errors import PlanError
from codesign.ir import Graph, Node
from codesign.joins import at_once, chained, fused, pooled, tabled
from codesign.layout import Readers, View, views
from codesign.ops import (
    DEFORMABLE,
    Add,
    Conv,
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
    Table,
    VariedDwConv,
)
from codesign.ports import Ints
from codesign.step import MAX_KERNEL, MAX_PARTS, MAX_SIDE, MAX_STRIDE, MAX_SUMMED, MAX_UP
from codesign.windows import Mixing, Sampling

SUMS = (
    Conv,
    DwConv,
    VariedDwConv,
    Add,
    GlobalSum,
    Mix,
    MixedConv,
    Pick,
    *DEFORMABLE,
)  # what makes accumulators


def drafts(graph: Graph, fuse: bool = True, apart: Collection[str] = ()) -> tuple[Draft, ...]:
    """Drafts in the order in which they run; the tensors `apart` are stored although `fuse` would join them.

    Raises PlanError with every node the engine has no unit for.
    """
    maker = _Maker(graph)
    made: list[Draft] = []
    problems: list[str] = []
    for node in graph.nodes:
        try:
            if isinstance(node.op, Select):
                made += maker.sides(node, node.op)
            elif (draft := maker.draft(node)) is not None:
                made.append(draft)
        except PlanError as error:
            problems.append(str(error))
    if problems:
        raise PlanError("\n".join(problems))
    for join in (fused, chained, pooled, tabled) if fuse else ():
        made = join(made, readers(graph, made), apart)
    return tuple(at_once(made, readers(graph, made)) if fuse else made)


def readers(graph: Graph, made: list[Draft] | tuple[Draft, ...]) -> dict[str, list[Readers]]:
    """For each stored tensor and channel, who reads it: drafts by name, outputs as `output NAME`."""
    types, every = graph.types(), views(graph)
    found: dict[str, list[set[str]]] = {
        name: [set() for _ in range(types[name].shape[-1])]
        for name in (*graph.inputs, *(d.stores for d in made))
    }
    for draft in made:
        for tensor, channel, _ in draft.view:
            found[tensor][channel].add(draft.name)
        for tensor, channel, _ in (*draft.offset, *draft.gates):
            found[tensor][channel].add(f"offset of {draft.name}")
        if draft.taken is not None:
            tensor, channel, _ = draft.taken[0].gate
            found[tensor][channel].add(gate_reader(draft.taken[0]))
    for name in graph.outputs:
        for tensor, channel, _ in every[name]:
            found[tensor][channel].add(f"output {name}")
    return {name: [frozenset(r) for r in channels] for name, channels in found.items()}


def ones(draft: Draft) -> Dense:
    """The matrix product that moves every channel of a draft to where it belongs."""
    c = draft.out_shape[2]
    zero, one = np.zeros(c, np.int64), np.ones(c, np.int64)
    limits = (-128, 127) if draft.signed else (0, 255)
    return Dense(np.eye(c, dtype=np.int64)[None, None], Tables(zero, one, zero, limits))


def gate_reader(condition: Condition) -> str:
    """The name under which branches read the number that decides."""
    return f"branch at {condition.gate} >= {condition.threshold}"


def image_packing(graph: Graph, made: tuple[Draft, ...], lanes: int) -> int:
    """log2 of the pixels a word of the image holds: inputs of few channels that only dense windows read."""
    found = [
        (lanes // graph.inputs[name].shape[2]).bit_length() - 1
        for name in graph.inputs
        if lanes >= 2 * graph.inputs[name].shape[2] and only_gathered(graph, name, made)
    ]
    return min(found, default=0)


def only_gathered(graph: Graph, name: str, made: tuple[Draft, ...]) -> bool:
    """Whether nothing but dense windows reads an input."""
    whole = tuple((name, c, 0) for c in range(graph.inputs[name].shape[2]))
    takers = [d for d in made if any(s[0] == name for s in (*d.view, *d.offset, *d.gates))]
    every = views(graph)
    seen = {s[0] for out in graph.outputs for s in every[out]}
    gathers = all(
        d.view == whole and d.window is not None and d.window.kind == "gather" and d.window.reach == 1
        for d in takers
    )
    return bool(takers) and gathers and name not in seen


class _Maker:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.types, self.views = graph, graph.types(), views(graph)
        self.bounds = graph.bounds()
        self.by_name = {node.name: node for node in graph.nodes}

    def draft(self, node: Node) -> Draft | None:
        """The draft that stores this node's value; None for views and accumulators."""
        op = node.op
        if isinstance(op, SUMS):
            self._check_accumulator(node)
            return None
        if isinstance(op, DepthToSpace):
            return self._spread_draft(node)
        if isinstance(op, MaxPool):
            if op.kernel[0] != op.kernel[1] or max(op.kernel) > 3:
                raise PlanError(f"{node.name}: kernel {op.kernel}, expected a square of at most 3. Use 3x3.")
            window = Window("max-pool", op.kernel, op.stride, _origin(op.pads))
            return self._window_draft(node, node, window)
        if isinstance(op, Table):
            values = self._constant(node, node.inputs[1])
            return replace(self._make(node, node, window=None), table=values)
        if not isinstance(op, Requant):
            return None
        producer = self.by_name.get(node.inputs[0])
        tables = self._tables(node, op)
        if producer is None or not isinstance(producer.op, SUMS):
            # A change of scale alone is a depthwise convolution with one tap of 1.
            ones = np.ones((1, 1, self.types[node.name].shape[2]), np.int64)
            rescale = Window("depthwise", (3, 3), (1, 1), (1, 1), 1, ones, tables)
            return self._window_draft(node, node, rescale)
        if isinstance(producer.op, Add):
            return self._add_draft(producer, node, producer.op, tables)
        if isinstance(producer.op, GlobalSum):
            return self._sum_draft(producer, node, tables)
        if isinstance(producer.op, Mix | Pick):
            return self._mix_draft(producer, node, producer.op, tables)
        if isinstance(producer.op, MixedConv):
            return self._mixed_draft(producer, node, producer.op, tables)
        weight = self._constant(producer, producer.inputs[-1])
        if isinstance(producer.op, Conv):
            return self._dense_draft(producer, node, producer.op, weight, tables)
        if isinstance(producer.op, DwConv):
            depthwise = Window(
                "depthwise", (3, 3), producer.op.stride, _origin(producer.op.pads), 1, weight, tables
            )
            return self._window_draft(producer, node, depthwise)
        if isinstance(producer.op, VariedDwConv):
            varied = Window("varied", (3, 3), producer.op.stride, (0, 0), tables=tables, varied=weight)
            return self._window_draft(producer, node, varied)
        deform, source = producer.op, producer.inputs[1]
        if isinstance(deform, SampledDwConv):
            sampling = Sampling(
                deform.grid, deform.mask_low, deform.mask_high, deform.taps, deform.border, deform.still
            )
            side = 3 if deform.count > 1 else 1  # however its taps lie, they are stored one after the other
            weight = weight.reshape(side, side, -1)
            sampled = Window(
                "sampled", (3, 3), deform.stride, (0, 0), deform.reach, weight, tables, source, sampling
            )
            return self._window_draft(producer, node, sampled)
        square = Window(
            "deformable", (3, 3), deform.stride, (0, 0), deform.max_offset, weight, tables, source
        )
        return self._window_draft(producer, node, square)

    def sides(self, node: Node, op: Select) -> list[Draft]:
        """A draft for each side that moves it to where the result lies."""
        (gate,) = self._view(node, node.inputs[2])
        found = []
        for i, letter in enumerate("ab"):
            name = f"{node.name}.{letter}"
            while name in self.types:
                name += "_"
            made = self._make(node, node, window=None)
            found.append(
                replace(made, name=name, view=self._view(node, node.inputs[i]), into=node.name,
                        taken=(Condition(gate, op.threshold), i == 0))
            )  # fmt: skip
        return found

    def _window_draft(self, first: Node, last: Node, window: Window) -> Draft:
        if window.weight is not None and max(window.weight.shape[:2]) > 3:
            raise PlanError(f"{first.name}: kernel {window.weight.shape[:2]}, expected at most 3x3. Use 3x3.")
        weight = window.weight if window.varied is None else window.varied
        if weight is not None and (weight.min() < -128 or weight.max() > 127):
            raise PlanError(f"{first.name}: weights over 8 bits, expected i8. Quantize to 8 bits.")
        self._check_stride(first, window.stride)
        offset = () if window.offset is None else self._view(first, window.offset)
        return self._make(first, last, window=window, offset=offset)

    def _dense_draft(self, conv: Node, last: Node, op: Conv, weight: Ints, tables: Tables) -> Draft:
        if max(op.kernel) > MAX_KERNEL:
            raise PlanError(f"{conv.name}: kernel {op.kernel}, expected at most 5x5. Use several of those.")
        if weight.min() < -128 or weight.max() > 127:
            raise PlanError(f"{conv.name}: weights over 8 bits, expected i8. Quantize to 8 bits.")
        self._check_stride(conv, op.stride)
        window = None
        if op != Conv():
            side = max(op.kernel)
            reach = 2 if side > 3 else 1
            window = Window("gather", (side, side), op.stride, _origin(op.pads, reach), reach)
        made = self._make(conv, last, window=window, dense=Dense(weight, tables))
        elem = self.types[conv.inputs[0]].elem
        kept = tables.clamp[0] <= elem.min and elem.max <= tables.clamp[1]
        return replace(made, copies=op == Conv() and kept and _is_identity(weight, tables))

    def _sum_draft(self, first: Node, last: Node, tables: Tables) -> Draft:
        h, w, _ = self.types[first.inputs[0]].shape
        if h * w > MAX_SUMMED:
            raise PlanError(
                f"{first.name}: sums {h}x{w} pixels, expected at most {MAX_SUMMED}. Use a smaller map."
            )
        return self._make(first, last, Window("global", (3, 3), (1, 1), (0, 0), 0, None, tables))

    def _mix_draft(self, first: Node, last: Node, op: Mix | Pick, tables: Tables) -> Draft:
        if op.parts > MAX_PARTS:
            raise PlanError(
                f"{first.name}: mixes {op.parts} parts, expected at most {MAX_PARTS}. Use several."
            )
        mixing = Mixing("pick", threshold=op.threshold) if isinstance(op, Pick) else Mixing()
        window = Window(
            "mix", (3, 3), (1, 1), (0, 0), 0, None, tables, first.inputs[1], mixing=mixing, parts=op.parts
        )
        return self._make(first, last, window, offset=self._view(first, first.inputs[1]))

    def _mixed_draft(self, first: Node, last: Node, op: MixedConv, tables: Tables) -> Draft:
        bank, shift = (self._constant(first, name) for name in first.inputs[2:])
        made = self._dense_draft(first, last, op.conv, bank[0], tables)
        assert made.dense is not None
        dense = replace(made.dense, mixture=Mixture(bank, shift, op.most))
        return replace(made, dense=dense, gates=self._view(first, first.inputs[1]))

    def _add_draft(self, add: Node, last: Node, op: Add, tables: Tables) -> Draft:
        """A matrix product over the channels of both sides, with one power of two in each row."""
        c = self.types[add.name].shape[2]
        left, right = (np.eye(c, dtype=np.int64) << shift for shift in (op.left, op.right))
        dense = Dense(np.concatenate([left, right])[None, None], tables)
        made = self._make(add, last, window=None, dense=dense)
        h, w, _ = made.shape
        return replace(made, view=made.view + self._view(add, add.inputs[1]), shape=(h, w, 2 * c))

    def _spread_draft(self, node: Node) -> Draft:
        made = replace(self._make(node, node, window=None), spread=True)
        sources, channels = {s[0] for s in made.view}, {s[1] for s in made.view}
        name = min(sources)
        producer = self.by_name.get(self.by_name[name].inputs[0]) if name in self.by_name else None
        dense = producer is not None and isinstance(producer.op, Conv | Add)
        whole = len(channels) == self.types[name].shape[2] == len(made.view) and made.view[0][2] == 0
        taken = {n.name for n in self.graph.users[node.inputs[0]]} != {node.name}
        if len(sources) > 1 or not dense or not whole or taken or name in self.graph.outputs:
            raise PlanError(
                f"{node.name}: reads {node.inputs[0]}, expected a convolution's result that nothing else reads. "
                "Run codesign.passes before."
            )
        return made

    def _make(
        self, first: Node, last: Node, window: Window | None, dense: Dense | None = None, offset: View = ()
    ) -> Draft:
        shape, out = self.types[first.inputs[0]].shape, self.types[last.name]
        for side in (*shape[:2], *out.shape[:2]):
            if side > MAX_SIDE:
                raise PlanError(
                    f"{first.name}: a side of {side}, expected at most {MAX_SIDE}. Tile the image."
                )
        nodes = (last.name,) if first is last else (first.name, last.name)
        return Draft(
            last.name, nodes, self._view(first, first.inputs[0]), (shape[0], shape[1], shape[2]),
            (out.shape[0], out.shape[1], out.shape[2]), out.elem.signed, window, dense, offset,
        )  # fmt: skip

    def _view(self, node: Node, name: str) -> View:
        elem = self.types[name].elem
        if elem.bits > 8:
            raise PlanError(
                f"{node.name}: reads {name}, which is {elem}, expected 8 bits. Put a Requant before."
            )
        view = self.views[name]
        if max(up for _, _, up in view) > MAX_UP:
            raise PlanError(
                f"{node.name}: {name} is upsampled {MAX_UP + 1} times, expected {MAX_UP} at most."
            )
        return view

    def _constant(self, node: Node, name: str) -> Ints:
        if name not in self.graph.consts:
            raise PlanError(f"{node.name}: {name} is computed, expected a constant. Fold it before.")
        return self.graph.consts[name]

    def _tables(self, node: Node, op: Requant) -> Tables:
        bias, mult, shift, *ties = (self._constant(node, name) for name in node.inputs[1:])
        if op.out.bits > 8:
            raise PlanError(f"{node.name}: makes {op.out}, expected 8 bits at most. Quantize to 8 bits.")
        return Tables(bias, mult, shift, (op.lo, op.hi), *ties)

    def _check_accumulator(self, node: Node) -> None:
        users = self.graph.users[node.name]
        if node.name in self.graph.outputs or len(users) != 1 or not isinstance(users[0].op, Requant):
            raise PlanError(
                f"{node.name}: an accumulator, expected one Requant behind it and no other reader."
            )
        bits = accumulator_bits(self.graph, node.name)
        if bits > 32:
            raise PlanError(f"{node.name}: accumulates {bits} bits, expected at most 32. Use fewer inputs.")

    def _check_stride(self, node: Node, stride: tuple[int, int]) -> None:
        if max(stride) > MAX_STRIDE:
            raise PlanError(
                f"{node.name}: stride {stride}, expected at most {MAX_STRIDE}. Use smaller strides."
            )


def _is_identity(weight: Ints, tables: Tables) -> bool:
    """Whether a 1x1 convolution and its Requant give every code back."""
    (cin, cout), one = weight.shape[2:], tables.mult == 1
    same = cin == cout and np.array_equal(weight[0, 0], np.eye(cin, dtype=np.int64))
    return bool(same and one.all() and not tables.bias.any() and not tables.shift.any())


def accumulator_bits(graph: Graph, name: str) -> int:
    """Bits of a signed accumulator, with one to spare for the partial sums of split weights."""
    elem = graph.bounds()[name].elem
    return elem.bits + (not elem.signed) + 1


def _origin(pads: tuple[int, int, int, int], reach: int = 1) -> tuple[int, int]:
    return reach - pads[0], reach - pads[1]
