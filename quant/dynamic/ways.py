"""Several ways from one map to another, of which each frame takes one by a single number that it decides.

    y = way 0 if number >= least[0], else way 1 if number >= least[1], ..., else the last     cheapest first

Early exits (BranchyNet, arXiv 1709.01686; the outports of ApproxNet, arXiv 1909.02068): the rest of the network is the
last way. Nested subnets (slimmable networks, 1812.08928; SortedNet, 2309.00255): the ways are widths of one set of
weights. In training the frames of a batch take the ways by turns, as if subnets were sampled.
Then `teach` regresses the number on how much worse the cheapest way is than the dearest: it is the rank of a frame,
its mean 0 and its deviation 1, so that thresholds are shares of frames, and moving them trades accuracy for time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.dynamic.block import DynamicBlock, Layers
from quant.dynamic.skip import Decision, chosen
from quant.dynamic.slim import SlimConvBlock
from quant.layers import ConvBlock, mapped, plain, upsample

if TYPE_CHECKING:
    from quant.objectives import Loss

LEAST: dict[int, tuple[float, ...]] = {2: (0.0,), 3: (0.5, -0.5)}  # by the count of ways; about equal shares
TAUGHT = 300  # steps of `teach`


class Chooser(DynamicBlock):
    """`forward(x, ways)`: x (N,cin,H,W). `forced` is the way that all frames take; None: each by its number."""

    def __init__(self, cin: int, count: int, stride: int = 2, kernel: int = 3) -> None:
        super().__init__()
        if count not in LEAST:
            raise ValueError(f"Chooser: {count} ways, expected {' or '.join(map(str, LEAST))}")
        self.decision = Decision(cin, 0.0, stride, kernel)
        self.least = LEAST[count]
        self.forced: int | None = None

    def forward(self, x: Any, ways: Sequence[Callable[[Any], Any]]) -> Any:
        if self.forced is not None:
            self.decision(x)  # as the engine does, whatever it says
            return ways[self.forced](x)
        made = [way(x) for way in ways]
        y = made[-1]
        if self.training:
            turn = torch.arange(len(plain(x)), device=plain(x).device) % len(ways)
            for i, a in enumerate(made[:-1]):
                y = torch.where((turn == i)[:, None, None, None], plain(a), plain(y))
            return y
        number = self.decision(x)
        for least, a in zip(reversed(self.least), reversed(made[:-1]), strict=True):
            y = chosen(number, a, y, least=least)
        return y

    def quantize(self, make: Layers, name: str) -> None:
        """Its layers find theirs by themselves."""


class EarlyExit(DynamicBlock):
    """An answer of its own, (N,cin,H,W) -> (N,cout,H*2^up,W*2^up), or what `rest` makes of the map."""

    def __init__(self, cin: int, cout: int, up: int, share: str) -> None:
        super().__init__()
        self.chooser = Chooser(cin, 2)
        self.dw = ConvBlock(cin, cin, 3, groups=cin, relu=False, role="dw")
        self.pw = ConvBlock(cin, cout, share=share)
        self.up = up

    def forward(self, x: Any, rest: Callable[[Any], Any]) -> Any:
        return self.chooser(x, (self.early, rest))

    def early(self, x: Any) -> Any:
        y = self.pw(self.dw(x))
        for _ in range(self.up):
            y = upsample(y)
        return y

    def quantize(self, make: Layers, name: str) -> None:
        """Its layers find theirs by themselves."""


def _first(x: Any, channels: int) -> Any:
    return mapped(x, lambda v: v[:, :channels])


class NestedStages(DynamicBlock):
    """Stages of depthwise 3x3, 1x1 + BN + ReLU, nearest x2 in several widths: the first channels of one set of weights.

    `shares`: of the channels that are used, the least first. All widths read the first channels of one map (N,cin,H,W)
    and make all `outs[-1]` channels of the last. Folded, each width has the weights that its batch norms make of them.
    """

    def __init__(self, cin: int, outs: Sequence[int], shares: Sequence[float] = (0.25, 0.5, 1.0)) -> None:
        super().__init__()
        self.chooser = Chooser(cin, len(shares), 1, 1)  # a 3x3 of so many channels is too long a sum
        widths = [tuple(round(c * share) for share in shares) for c in (cin, *outs[:-1])]
        widths.append((outs[-1],) * len(shares))
        self.firsts = widths[0]
        self.stages = nn.ModuleList(
            nn.ModuleList((SlimConvBlock(a, a, 3, relu=False, depthwise=True), SlimConvBlock(a, b)))
            for a, b in zip(widths, widths[1:], strict=False)
        )
        self.folded = nn.ModuleList()

    def forward(self, x: Any) -> Any:
        return upsample(self.chooser(x, [partial(self.way, k) for k in range(len(self.firsts))]))

    def way(self, width: int, x: Any) -> Any:
        """All but the last x2, which all ways share."""
        x = _first(x, self.firsts[width])
        for i, (dw, pw) in enumerate(self.folded[width] if len(self.folded) else self.stages):  # type: ignore
            x = x if i == 0 else upsample(x)
            x = pw(dw(x)) if len(self.folded) else pw(dw(x, width), width)
        return x

    def fold(self) -> None:
        self.folded = nn.ModuleList(
            nn.ModuleList(nn.ModuleList(block.at(k) for block in stage) for stage in self.stages)  # type: ignore
            for k in range(len(self.firsts))
        )
        self.stages = nn.ModuleList()

    def quantize(self, make: Layers, name: str) -> None:
        for stages in self.folded:
            stages[-1][-1].share = f"{name}.ways"  # type: ignore[index]


def choosers(model: nn.Module) -> list[Chooser]:
    return [m for m in model.modules() if isinstance(m, Chooser)]


@torch.no_grad()
def _losses(model: nn.Module, x: Tensor, target: Tensor, loss_of: Loss) -> Tensor:
    """Of each frame by itself (N,)."""
    outputs = model(x)
    return torch.stack(
        [loss_of([o[i : i + 1] for o in outputs], target[i : i + 1])[0] for i in range(len(x))]
    )


def teach(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], loss_of: Loss) -> None:
    """Let every chooser of a trained float network rank frames; nothing else changes.

    `batches` of images (N,3,H,W) and their targets, as `loss_of` takes what the network makes of them.
    """
    model.eval()
    every = list(batches)
    for chooser in choosers(model):
        maps: list[Tensor] = []
        hook = chooser.register_forward_pre_hook(lambda _, given: maps.append(plain(given[0]).detach()))  # noqa: B023
        worse = []
        for x, target in every:
            losses = []
            for way in (0, len(chooser.least)):
                chooser.forced = way
                losses.append(_losses(model, x, target, loss_of))
            maps.pop()
            worse.append(losses[0] - losses[1])
        chooser.forced = None
        hook.remove()
        _regress(chooser.decision, torch.cat(maps), -torch.cat(worse))


def _regress(decision: Decision, maps: Tensor, wanted: Tensor) -> None:
    """Learn the ranks of `wanted` (N,) from maps (N,C,H,W); then give the number mean 0 and deviation 1."""
    ranks = wanted.argsort().argsort().to(maps.dtype)
    goal = (ranks / max(1, len(ranks) - 1) - 0.5) * 12**0.5
    optimizer = torch.optim.Adam(decision.parameters(), 1e-2, weight_decay=1e-3)
    decision.train()
    for step in range(TAUGHT):
        some = torch.arange(step * 64, (step + 1) * 64) % len(maps)
        loss = F.mse_loss(decision(maps[some]).flatten(), goal[some])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    decision.eval()
    with torch.no_grad():
        number = decision(maps).flatten()
        scale = 1 / number.std().clamp(min=1e-3)
        last = decision.decide
        last.weight.mul_(scale)  # type: ignore[operator, union-attr]
        last.bias.sub_(number.mean()).mul_(scale)  # type: ignore[operator, union-attr]
