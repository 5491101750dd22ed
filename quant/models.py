"""CoDeNet (arXiv 2006.08357): ShuffleNetV2 backbone, deformable decoder, CenterNet heads.

Configurations a to e are the published ones; `codenet-tiny` has the same topology at a size for tests.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from quant.deform import Offsets, Sampling, near_identity_
from quant.dynamic import BLOCKS
from quant.dynamic.ways import EarlyExit, NestedStages, choosers
from quant.layers import (
    ConvBlock,
    DeformBlock,
    DenseBlock,
    FullDeformBlock,
    OutputConv,
    ShuffleUnit,
    WindowBlock,
    mapped,
)

STRIDE = 4  # image pixels per cell of the output grid, in every configuration


@dataclass(frozen=True)
class ModelConfig:
    """What a network is built from. `size` is (height, width) of the input, multiples of 32."""

    name: str
    size: tuple[int, int]
    stem: str  # "stride4": 3x3 stride 4; "pool": 3x3 stride 2, then max-pool 3x3 stride 2
    widths: tuple[int, int, int, int, int] = (24, 116, 232, 464, 1024)
    repeats: tuple[int, int, int] = (3, 7, 3)  # unit blocks after each stage's down block
    decoder: tuple[int, int, int] = (256, 128, 64)
    head: int = 64
    classes: int = 20
    # What looks at neighbours in the decoder: as here, full-deformable, depthwise, dense, nested (a depthwise one of
    # three widths, chosen for each frame), or of quant.dynamic.BLOCKS.
    spatial: str = "deformable"
    kernel: int = 3  # of `depthwise` and `dense`
    offsets: Offsets = "square"  # of the deformable ones, as the next two
    sampling: Sampling = "rounded"
    bound: int = 7
    fraction_bits: int = 2  # of bounded bilinear offsets, once they are quantized
    masks: bool = False  # of free or bounded ones: a factor for each tap
    exit: int = 0  # stages of the backbone before an early exit, which frames may take; 0: there is none
    size_unit: float = 16.0  # the size head predicts in this many cells; a power of two
    nms_iou: float | None = (
        0.5  # decode drops a box that overlaps a better one of its class by more; None: published
    )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelConfig:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})


_WIDE = (24, 244, 488, 976, 2153)
ZOO: dict[str, ModelConfig] = {
    c.name: c
    for c in (
        ModelConfig("codenet-a", (256, 256), "stride4"),
        ModelConfig("codenet-b", (256, 256), "pool"),
        ModelConfig("codenet-c", (512, 512), "stride4"),
        ModelConfig("codenet-d", (512, 512), "stride4", widths=_WIDE),
        ModelConfig("codenet-e", (512, 512), "pool", widths=_WIDE),
        ModelConfig(
            "codenet-tiny",
            (128, 128),
            "stride4",
            widths=(16, 48, 96, 192, 320),
            repeats=(2, 3, 2),
            decoder=(128, 64, 48),
            head=48,
        ),
    )
}


def model_config(name: str, classes: int = 20) -> ModelConfig:
    """Configuration of a zoo model with the number of classes of a data set. Raises KeyError."""
    return replace(ZOO[name], classes=classes)


class Stem(nn.Module):
    def __init__(self, cout: int, kind: str) -> None:
        super().__init__()
        if kind not in ("stride4", "pool"):
            raise ValueError(f"stem is {kind!r}, expected 'stride4' or 'pool'")
        self.conv = ConvBlock(3, cout, 3, 4 if kind == "stride4" else 2, role="stem")
        self.pool = nn.MaxPool2d(3, 2, 1) if kind == "pool" else None

    def forward(self, x: Any) -> Any:
        x = self.conv(x)
        return x if self.pool is None else mapped(x, self.pool)


def decoder_block(config: ModelConfig, cin: int, cout: int) -> nn.Module:
    """One stage of the decoder; the published one is deformable. Raises ValueError for an unknown operator."""
    if config.spatial == "depthwise":
        return WindowBlock(cin, cout, config.kernel)
    if config.spatial == "dense":
        return DenseBlock(cin, cout, config.kernel)
    if config.spatial in BLOCKS:
        return BLOCKS[config.spatial](config, cin, cout)
    if config.spatial not in ("deformable", "full-deformable"):
        known = ", ".join(("deformable", "full-deformable", "depthwise", "dense", *BLOCKS))
        raise ValueError(f"spatial is {config.spatial!r}, expected one of {known}")
    kind = DeformBlock if config.spatial == "deformable" else FullDeformBlock
    return kind(cin, cout, config.offsets, config.sampling, config.bound, config.fraction_bits, config.masks)


def _early_exit(config: ModelConfig, decoder: nn.Module) -> EarlyExit:
    """Behind `config.exit` stages of the backbone, to the map that the heads read."""
    last = list(decoder.children())[-1]
    if config.exit not in (1, 2) or not isinstance(getattr(last, "pw", None), ConvBlock):
        raise ValueError(
            f"exit is {config.exit} with a decoder of {config.spatial!r}, expected 1 or 2 with one whose stages end "
            "in a 1x1: deformable or depthwise"
        )
    last.pw.share = share = "decoder.out"  # type: ignore[union-attr, assignment]
    return EarlyExit(config.widths[config.exit], config.decoder[2], config.exit, share)


class CoDeNet(nn.Module):
    """Image (N,3,H,W), value (pixel - 128) / 128 -> heat-map logits, sizes and centre offsets at stride 4.

    Returns (hm (N,classes,H/4,W/4), wh (N,2,..) width and height in `size_unit` cells, reg (N,2,..) x and y in cells).
    """

    outputs = ("hm", "wh", "reg")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.input_quant: nn.Module = nn.Identity()
        w = config.widths
        self.stem = Stem(w[0], config.stem)
        stages = []
        for s, (cin, cout, count) in enumerate(zip(w[:3], w[1:4], config.repeats, strict=True)):
            share = f"stages.{s}.out"
            units = [ShuffleUnit(cin, cout, 2, share)]
            units += [ShuffleUnit(cout, cout, 1, share) for _ in range(count)]
            stages.append(nn.Sequential(*units))
        self.stages = nn.Sequential(*stages)
        self.neck = ConvBlock(w[3], w[4])
        ins = (w[4], *config.decoder[:2])
        self.decoder: nn.Module = (
            NestedStages(ins[0], config.decoder)
            if config.spatial == "nested"
            else nn.Sequential(
                *(decoder_block(config, i, o) for i, o in zip(ins, config.decoder, strict=True))
            )
        )
        self.exit = _early_exit(config, self.decoder) if config.exit else None
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(
                    ConvBlock(config.decoder[2], config.head),
                    ConvBlock(config.head, config.head, 3, groups=config.head, role="dw"),
                    OutputConv(config.head, n),
                )
                for name, n in (("hm", config.classes), ("wh", 2), ("reg", 2))
            }
        )
        self._initialize()

    def _initialize(self) -> None:
        for m in self.modules():
            if isinstance(m, nn.Conv2d) and m.bias is None:
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                if m.groups == m.in_channels:
                    near_identity_(m.weight)
        for name, bias in (("hm", -2.19), ("wh", 10.0 / self.config.size_unit), ("reg", 0.5)):
            last = self.heads[name][-1].conv  # type: ignore[index]
            nn.init.normal_(last.weight, std=0.01)
            nn.init.constant_(last.bias, bias)

    def forward(self, x: Tensor) -> tuple[Any, Any, Any]:
        y = self.stem(self.input_quant(x))
        if self.exit is None:
            y = self.decoder(self.neck(self.stages(y)))
        else:
            at = self.config.exit
            y = self.exit(self.stages[:at](y), lambda early: self.decoder(self.neck(self.stages[at:](early))))
        return self.heads["hm"](y), self.heads["wh"](y), self.heads["reg"](y)


def build(config: ModelConfig) -> CoDeNet:
    """A float network with fresh parameters drawn from torch's global generator."""
    return CoDeNet(config)


def parameter_count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def mac_count(config: ModelConfig) -> int:
    """Multiply-accumulates of all convolutions for one image, deformable taps included.

    Others say with `products` how many each of their values takes, and with `mixing` what an image takes besides.
    Layers within one that is computed `in_advance` are not counted. Of several ways it is the last, the dearest.
    """
    from quant.deform import DeformConv2d

    total = 0

    def count(module: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d | DeformConv2d):
            total += out.shape[-2] * out.shape[-1] * module.weight.numel()
        else:
            total += out.numel() * int(module.products)  # type: ignore[arg-type]
            total += int(getattr(module, "mixing", 0))

    model = build(config).eval()
    for chooser in choosers(model):
        chooser.forced = len(chooser.least)
    known = {inner for m in model.modules() if hasattr(m, "in_advance") for inner in m.modules()}
    counted = (
        m
        for m in model.modules()
        if m not in known and (isinstance(m, nn.Conv2d | DeformConv2d) or hasattr(m, "products"))
    )
    hooks = [m.register_forward_hook(count) for m in counted]
    with torch.no_grad():
        model(torch.zeros(1, 3, *config.size))
    for hook in hooks:
        hook.remove()
    return total
