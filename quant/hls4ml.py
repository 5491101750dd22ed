"""A quantized network as hls4ml's PyTorch parser takes it: each layer one module that carries its very numbers.

    codesign.hls4ml.register()
    plain = for_hls4ml(twin, torch.zeros(1, 3, 64, 64))        # twin: quant.quantize, calibrated or trained
    config = hls4ml.utils.config_from_pytorch_model(plain, (3, 64, 64), granularity="name", backend="Vitis",
                                                    channels_last_conversion="internal", transpose_outputs=False)
    design = hls4ml.converters.convert_from_pytorch_model(plain, hls_config=config, backend="Vitis", ...)

hls4ml reads a network by tracing its `forward`, looks modules up by the name of their class, and traces into all but
its own kind. The blocks of quant.layers with a convolution in them are replaced; what is between them is traced as it
is written. codesign/hls4ml/parsers.py has the handlers of the three classes here.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from hls4ml.utils.torch import HLS4MLModule
from torch import Tensor, nn

from quant.deform import square_depthwise
from quant.dynamic.block import DynamicBlock
from quant.layers import ConvBlock, DeformBlock, OutputConv
from quant.quantize import QuantConv2d, QuantDeformConv2d, QuantIdentity, QuantReLU, plain
from quant.scales import quantize_to

# No class name may contain "Conv": hls4ml would take it for one of torch's.


class FixedWindow(HLS4MLModule):
    """A convolution with fixed parameters; the result is the sum."""

    def __init__(self, layer: QuantConv2d, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.stride, self.padding, self.groups = layer.stride, layer.padding, layer.groups
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(weight.shape[0]) if bias is None else bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, 1, self.groups)


class FixedSquareDeform(HLS4MLModule):
    """The square deformable convolution of a map and its raw offsets, which it rounds and clamps."""

    def __init__(self, layer: QuantDeformConv2d, weight: Tensor) -> None:
        super().__init__()
        if (layer.offsets, layer.sampling, layer.depthwise) != ("square", "rounded", True):
            raise ValueError(
                f"FixedSquareDeform: {layer.offsets}, {layer.sampling} offsets, expected square, rounded ones of a "
                "depthwise layer. Train that variant."
            )
        self.stride, self.bound = layer.stride, layer.bound
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: Tensor, raw: Tensor) -> Tensor:
        used = raw.round().clamp(0, self.bound)
        return square_depthwise(x, used, self.weight, self.stride, self.bound)


class FixedQuantizer(HLS4MLModule):
    """Codes lo..hi of one power-of-two step, rounded half to even."""

    def __init__(self, layer: QuantIdentity | QuantReLU) -> None:
        super().__init__()
        quantizer = layer.act_quant.fused_activation_quant_proxy.tensor_quant
        self.lo, self.hi = int(quantizer.lo), int(quantizer.hi)
        self.scale = float(quantizer.scale())

    def forward(self, x: Tensor) -> Tensor:
        return quantize_to(x, torch.tensor(self.scale), self.lo, self.hi)


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


@torch.no_grad()
def for_hls4ml(twin: nn.Module, image: Tensor) -> nn.Module:
    """A copy of a quantized network whose layers are the classes above, in evaluation mode. `twin` stays as it is.

    image: any input (N, 3, H, W); a bias's grid depends on its input's scale, which travels with the values.
    Raises ValueError for a deformable convolution that is not the square, rounded, depthwise one, and dynamic blocks.
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
    layers = [m for m in twin.modules() if isinstance(m, QuantConv2d | QuantDeformConv2d)]

    def listen(layer: Any) -> None:
        compute = layer.inner_forward_impl

        def heard(x: Any, weight: Any, bias: Any) -> Any:
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
