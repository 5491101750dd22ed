"""Small networks that decide what a frame needs, trained in seconds on frames of which some are harder than others."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.calibrate import calibrate, correct_bias
from quant.dynamic.skip import Decision, Skip, chosen
from quant.dynamic.slim import Slim, SlimConvBlock
from quant.layers import ConvBlock, plain
from quant.quantize import quantize_model

SIZE, CLASSES = (32, 64), 4


def frames(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures (N,3,32,64) on the grid of 1/128, a bright patch in one of four quarters; half of them dim, in noise."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=rng)
    hard = torch.rand((count, 1, 1, 1), generator=rng).round()
    x = torch.randn((count, 3, *SIZE), generator=rng) * (0.05 + 0.6 * hard)
    for i, label in enumerate(labels.tolist()):
        top, left = 16 * (label // 2) + 4, 32 * (label % 2) + 12
        x[i, :, top : top + 8, left : left + 8] += 0.6 - 0.5 * float(hard[i])
    return (x.clamp(-1, 127 / 128) * 128).round() / 128, labels


class Exits(nn.Module):
    """A stem, a block that may be skipped, an answer of its own, and the rest of the network for what is left."""

    outputs = ("y",)

    def __init__(self) -> None:
        super().__init__()
        self.input_quant: nn.Module = nn.Identity()
        self.stem = nn.Sequential(ConvBlock(3, 8, 3, 4, role="stem"), ConvBlock(8, 12, 3, 2))
        self.stem[1].share = "sides"
        self.skip = Skip(12)
        self.skip.pw.share = "sides"
        self.exit = Decision(12)
        self.early = ConvBlock(12, CLASSES, 3, 4, relu=False, role="head", share="answers")
        self.rest = nn.Sequential(ConvBlock(12, 24, 3, 2), ConvBlock(24, 24, 3))
        self.late = ConvBlock(24, CLASSES, 3, 2, relu=False, role="head", share="answers")

    def answers(self, x: Tensor) -> tuple[Tensor, ...]:
        """Of the first answer, the second and the one that is taken, and the number that decides."""
        x = self.skip(self.stem(self.input_quant(x)))
        number, early, late = self.exit(x), self.early(x), self.late(self.rest(x))
        return tuple(plain(v) for v in (early, late, chosen(number, early, late, self.training), number))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.answers(x)[2],)


class Widths(nn.Module):
    """One width of a slimmable network."""

    outputs = ("y",)

    def __init__(self, body: nn.Sequential, head: ConvBlock) -> None:
        super().__init__()
        self.input_quant: nn.Module = nn.Identity()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (plain(self.head(self.body(self.input_quant(x)))),)


def scores(maps: Tensor) -> Tensor:
    return plain(maps).mean((2, 3))


@cache
def exits() -> nn.Module:
    """Trained, quantized and calibrated: it leaves early where the first answer is likely to be right."""
    torch.manual_seed(0)
    net = Exits().train()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(80):
        x, labels = frames(32, step)
        early, late, taken, number = net.answers(x)
        right = (scores(early).argmax(1) == labels).float()
        loss = sum(F.cross_entropy(scores(v) * 2, labels) for v in (early, late, taken))
        loss = loss + F.binary_cross_entropy_with_logits(number.flatten(), right)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    return quantized(net)


def quantized(net: nn.Module) -> nn.Module:
    twin = quantize_model(net.eval(), "w8a8")
    batches = [frames(16, 1000 + k)[0] for k in range(3)]
    calibrate(twin, batches)
    correct_bias(twin, batches)
    return twin.eval()


WIDE = ((6, 12), (12, 24), (12, 24))


@cache
def widths() -> tuple[nn.Module, ...]:
    """The widths of one slimmable network, trained together; each quantized, the narrowest first."""
    torch.manual_seed(1)
    body = Slim(
        SlimConvBlock((3, 3), WIDE[0], 3, 4),
        SlimConvBlock(WIDE[0], WIDE[1], 3, 2),
        SlimConvBlock(WIDE[1], WIDE[2], 3),
    )
    head = SlimConvBlock(WIDE[2], (CLASSES, CLASSES), 3, 2, relu=False)
    net = nn.ModuleList([body.train(), head.train()])
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(60):
        x, labels = frames(32, step)
        loss = sum(F.cross_entropy(scores(head(body(x, k), k)) * 2, labels) for k in range(2))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    return tuple(quantized(Widths(body.eval().at(k), head.eval().at(k))) for k in range(2))
