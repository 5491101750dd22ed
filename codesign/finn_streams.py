"""Who reads which channels, as streams: what concat, slice, shuffle and upsampling become where data flows past.

A map that an operator computes is one stream of channels. Where readers want different channels of it, it is split
into *parts*, runs of channels that the same readers want; a reader joins the parts it wants, in whatever order they
come, and has its weights or thresholds put in that order. So a shuffle costs nothing, and a map's channels may travel
in an order of their own, which this module keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from codesign.ir import Graph
from codesign.layout import Source, View, views
from codesign.ops import Concat, Shuffle, Slice, Upsample

VIEWS = (Concat, Shuffle, Slice, Upsample)

Cut = Callable[[str, Sequence[int]], list[str]]  # tensor and the widths of its parts -> their names
Join = Callable[[Sequence[str]], str]
Grow = Callable[[str], str]  # tensor -> the same twice as high and wide


class Streams:
    """Keeps the channels' order in every stream; `cut`, `join` and `grow` write the nodes."""

    def __init__(self, graph: Graph, cut: Cut, join: Join, grow: Grow) -> None:
        self.graph, self.cut, self.join, self.grow = graph, cut, join, grow
        self.order: dict[str, list[int]] = {}  # of a stored map: the channel at each place of its stream
        self._parts: dict[str, list[tuple[int, ...]]] = {}  # channels of each part
        self._tensors: dict[
            tuple[str, int], list[str]
        ] = {}  # (map, times upsampled) -> a tensor for each part
        self._readers: dict[str, list[set[tuple[object, int]]]] = {
            name: [set() for _ in range(type_.shape[-1])]
            for name, type_ in graph.types().items()
            if name not in graph.consts
        }
        for who, view in self._requests():
            for name, channel, up in view:
                self._readers[name][channel].add((who, up))

    def _requests(self) -> Iterable[tuple[object, View]]:
        found = views(self.graph)
        for node in self.graph.nodes:
            if not isinstance(node.op, VIEWS):
                for i, name in enumerate(node.inputs):
                    if name in found:
                        yield (node.name, i), found[name]
        for name in self.graph.outputs:
            yield name, found[name]

    def unread(self) -> dict[str, int]:
        """Maps of which some channels have no reader, with their number: a stream cannot be left to stand."""
        stored = {n.name for n in self.graph.nodes if not isinstance(n.op, VIEWS)} | set(self.graph.inputs)
        counts = {name: sum(not who for who in self._readers[name]) for name in stored}
        return {name: count for name, count in counts.items() if count}

    def readers(self, name: str) -> int:
        """How many operators and outputs read a map."""
        return len({who for readers in self._readers[name] for who, _ in readers})

    def add(self, name: str, order: Sequence[int]) -> None:
        """A stored map, whose tensor has the same name, with the channel at each place."""
        self.order[name] = list(order)
        parts: list[list[int]] = []
        for i, channel in enumerate(order):
            if i and self._readers[name][channel] == self._readers[name][order[i - 1]]:
                parts[-1].append(channel)
            else:
                parts.append([channel])
        self._parts[name] = [tuple(part) for part in parts]

    def read(self, view: View) -> tuple[str, list[int]]:
        """A tensor with the channels of a view, and for each place in it the channel's index in the view."""
        wanted, names, channels = set(view), list[str](), list[Source]()
        for name, up in dict.fromkeys((name, up) for name, _, up in view):
            for i, part in enumerate(self._parts[name]):
                if (name, part[0], up) in wanted:
                    names.append(self._part(name, up)[i])
                    channels += [(name, channel, up) for channel in part]
        tensor = names[0] if len(names) == 1 else self.join(names)
        if len(view) > len(channels):  # some channel is wanted twice
            return self._sorted(tensor, channels, view), list(range(len(view)))
        index = {source: i for i, source in enumerate(view)}
        return tensor, [index[source] for source in channels]

    def read_sorted(self, view: View) -> str:
        """A tensor with exactly the channels of a view, in its order."""
        tensor, places = self.read(view)
        return self._sorted(tensor, [view[i] for i in places], view)

    def _part(self, name: str, up: int) -> list[str]:
        if (name, up) not in self._tensors:
            parts = self._parts[name]
            if up:
                made = [self.grow(tensor) for tensor in self._part(name, up - 1)]
            else:
                made = [name] if len(parts) == 1 else self.cut(name, [len(part) for part in parts])
            self._tensors[name, up] = made
        return self._tensors[name, up]

    def _sorted(self, tensor: str, channels: Sequence[Source], view: View) -> str:
        """Cut where neighbours do not stay neighbours, and join anew."""
        place = {source: i for i, source in enumerate(channels)}
        wanted = [place[source] for source in view]
        if wanted == list(range(len(channels))):
            return tensor
        starts = {0} | {a for a, b in zip(wanted, [-2, *wanted], strict=False) if a != b + 1}
        starts |= {a + 1 for a, b in zip(wanted, [*wanted[1:], -2], strict=True) if b != a + 1}
        edges = sorted(starts | {len(channels)})
        pieces = self.cut(tensor, [b - a for a, b in zip(edges, edges[1:], strict=False)])
        return self.join([pieces[edges.index(a)] for a in wanted if a in starts])
