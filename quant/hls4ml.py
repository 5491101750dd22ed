"""A quantized network as hls4ml's PyTorch parser takes it: each layer one module that carries its very numbers.

    codesign.hls4ml.register()
    plain = for_hls4ml(twin, torch.zeros(1, 3, 64, 64))        # twin: quant.quantize, calibrated or trained
    config = hls4ml.utils.config_from_pytorch_model(plain, (3, 64, 64), granularity="name", backend="Vitis",
                                                    channels_last_conversion="internal", transpose_outputs=False)
    design = hls4ml.converters.convert_from_pytorch_model(plain, hls_config=config, backend="Vitis", ...)

hls4ml reads a network by tracing its `forward`. Blocks with a convolution in them, gates and what they open are
replaced by such of quant.hls4ml_modules; what is between them is traced as it is written.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.dynamic.block import DynamicBlock
from quant.dynamic.channel_gate import ChannelMix, SqueezeExciteBlock
from quant.dynamic.condconv import CondConvBlock
from quant.dynamic.gates import Gate
from quant.dynamic.mixed_conv import MixedBlock, QuantMixedConv2d
from quant.dynamic.softmax import LN2, Pairs, Product, Softmax
from quant.hls4ml_modules import (
    FixedGates,
    FixedMean,
    FixedMixture,
    FixedQuantizer,
    FixedSquareDeform,
    FixedTable,
    FixedWindow,
)
from quant.layers import ConvBlock, DeformBlock, OutputConv, plain
from quant.quant_layers import QuantConv2d, QuantDeformConv2d, QuantIdentity, QuantReLU


class _Block(nn.Module):
    def __init__(self, conv: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.conv, self.act = conv, act

    def forward(self, x: Tensor) -> Any:
        return self.act(self.conv(x))


class _DeformBlock(nn.Module):
    def __init__(self, offset: nn.Module, dw: nn.Module, dw_act: nn.Module, pw: nn.Module) -> None:
        super().__init__()
        self.offset, self.dw, self.dw_act, self.pw = offset, dw, dw_act, pw
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Any:
        return self.up(self.pw(self.dw_act(self.dw(x, self.offset(x)))))


class _MixedBlock(_Block):
    def forward(self, x: Tensor, r: Any = None) -> Any:
        return self.act(self.conv(x, r))


class _CondConvBlock(nn.Module):
    def __init__(self, gate: nn.Module, dw: nn.Module, mix: nn.Module) -> None:
        super().__init__()
        self.gate, self.dw, self.mix = gate, dw, mix
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Any:
        u = x if isinstance(self.dw, nn.Identity) else self.dw(x)
        return self.up(self.mix(u, self.gate(x)))


class _SqueezeExciteBlock(nn.Module):
    def __init__(
        self, dw: nn.Module, gate: nn.Module, mix: nn.Module, mix_act: nn.Module, pw: nn.Module
    ) -> None:
        super().__init__()
        self.dw, self.gate, self.mix, self.mix_act, self.pw = dw, gate, mix, mix_act, pw
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Any:
        u = self.dw(x)
        return self.up(self.pw(self.mix_act(self.mix(u, self.gate(u)))))


class _Level(nn.Module):
    """One level of a softmax in whole numbers, as quant.dynamic.softmax.Pairs."""

    def __init__(self, pairs: Pairs) -> None:
        super().__init__()
        self.apart, self.joined = _product(pairs.apart), _product(pairs.joined)
        self.apart_act, self.act = FixedQuantizer(pairs.apart_act), FixedQuantizer(pairs.act)
        bend = FixedQuantizer(pairs.bend_act)
        self.bend = FixedTable(self.apart_act, lambda d: F.softplus(d) - d * 0.5 - LN2, bend)

    def forward(self, z: Tensor) -> Any:
        return self.act(self.joined(torch.cat([z, self.bend(self.apart_act(self.apart(z)))], dim=1)))


class _Softmax(nn.Module):
    def __init__(self, source: Softmax) -> None:
        super().__init__()
        self.before, self.act = FixedQuantizer(source.before), FixedQuantizer(source.act)
        self.levels = nn.ModuleList(_Level(pairs) for pairs in source.levels)
        self.last, base = _product(source.last), source.moved + source.top
        opened = (lambda t: torch.exp(t - base)) if source.levels else torch.sigmoid
        self.table = FixedTable(self.act, opened, FixedQuantizer(source.after))

    def forward(self, logits: Tensor) -> Any:
        z = m = self.before(logits)
        for level in self.levels:
            m = level(m)
        return self.table(self.act(self.last(torch.cat([z, m], dim=1) if len(self.levels) else z)))


def _product(source: Product) -> FixedWindow:
    weight, bias = source.weight * source.factor, source.shift.flatten()
    return FixedWindow(nn.Conv2d(1, 1, 1), weight, bias)


def _gate(gate: Gate, build: Callable[[nn.Module], nn.Module]) -> nn.Sequential:
    """The layers of a gate, one after the other."""
    steps: list[nn.Module] = [FixedMean(), build(gate.mean_act)]
    if gate.squeeze is not None and gate.squeeze_act is not None:
        steps += [build(gate.squeeze), build(gate.squeeze_act)]
    steps.append(build(gate.excite))
    if gate.kind == "softmax":
        return nn.Sequential(*steps, build(gate.gate_act))
    logits = FixedQuantizer(gate.logit_act)  # type: ignore[arg-type]
    after = FixedQuantizer(gate.gate_act)  # type: ignore[arg-type]
    return nn.Sequential(*steps, logits, FixedTable(logits, torch.sigmoid, after))


@torch.no_grad()
def for_hls4ml(twin: nn.Module, image: Tensor) -> nn.Module:
    """A copy of a quantized network whose layers are the classes above, in evaluation mode. `twin` stays as it is.

    image: any input (N, 3, H, W); a bias's grid depends on its input's scale, which travels with the values.
    Raises ValueError for a deformable convolution that is not the square, rounded, depthwise one, and for dynamic
    blocks other than squeeze and excitation, CondConv, ParameterNet and FDConv.
    """
    found = _parameters(twin, image)
    made: dict[int, nn.Module] = {}

    def build(module: nn.Module) -> nn.Module:
        if id(module) not in made:
            made[id(module)] = _built(module)
        return made[id(module)]

    def _built(module: nn.Module) -> nn.Module:
        if isinstance(module, QuantConv2d):
            return FixedWindow(module, *found[id(module)])
        if isinstance(module, QuantDeformConv2d):
            return FixedSquareDeform(module, found[id(module)][0])
        if isinstance(module, QuantIdentity | QuantReLU):
            return FixedQuantizer(module)
        if isinstance(module, QuantMixedConv2d):
            return FixedMixture(module, *found[id(module)])
        if isinstance(module, ChannelMix):
            return FixedGates(module)
        if type(module) is Gate:
            return _gate(module, build)
        if isinstance(module, Softmax):
            return _Softmax(module)
        if isinstance(module, MixedBlock):
            return _MixedBlock(build(module.conv), build(module.act))
        if isinstance(module, CondConvBlock):
            return _CondConvBlock(build(module.gate), build(module.dw), build(module.mix))
        if isinstance(module, SqueezeExciteBlock):
            parts = (module.dw, module.gate, module.mix, module.mix_act, module.pw)
            return _SqueezeExciteBlock(*(build(part) for part in parts))
        if isinstance(module, DynamicBlock):
            raise ValueError(f"{type(module).__name__}: hls4ml has no such layer. Build it with an engine.")
        if isinstance(module, ConvBlock | OutputConv):
            return _Block(build(module.conv), build(module.act))
        if isinstance(module, DeformBlock):
            return _DeformBlock(*(build(m) for m in (module.offset, module.dw, module.dw_act, module.pw)))
        other = copy.copy(module)
        other._modules = {name: m and build(m) for name, m in module._modules.items()}
        return other

    return build(twin).eval()


def _parameters(twin: nn.Module, image: Tensor) -> dict[int, tuple[Tensor, Tensor | None]]:
    """Quantized weight and bias of each layer, as one run in evaluation mode uses them."""
    found: dict[int, tuple[Tensor, Tensor | None]] = {}
    layers = [m for m in twin.modules() if isinstance(m, QuantConv2d | QuantDeformConv2d | QuantMixedConv2d)]

    def listen(layer: Any) -> None:
        compute = layer.inner_forward_impl

        def heard(x: Any, weight: Any, bias: Any) -> Any:
            bias = layer.rounded_bias(x) if isinstance(layer, QuantMixedConv2d) else bias
            found[id(layer)] = plain(weight).clone(), None if bias is None else plain(bias).clone()
            return compute(x, weight, bias)

        layer.inner_forward_impl = heard

    training = twin.training
    try:
        for layer in layers:
            listen(layer)
        twin.eval()(image)
    finally:
        for layer in layers:
            vars(layer).pop("inner_forward_impl", None)
        twin.train(training)
    return found
