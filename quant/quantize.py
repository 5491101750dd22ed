"""Turns a trained float network into its quantized twin: same module names, Brevitas layers inside.

    twin = quantize_model(model)        # folds batch norms, replaces convolutions and activations
    calibrate(twin, images)             # quant.calibrate
    correct_bias(twin, images)
    ... train `twin` like any module; export_onnx(twin, path, size)

In training mode the layers work on plain tensors (biases left in float: their grid is finer than the gradient's
noise); in evaluation mode scales travel with the values and every number obeys the integer contract.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from brevitas.nn.quant_layer import QuantWeightBiasInputOutputLayer
from brevitas.proxy.quant_proxy import QuantProxyFromInjector
from brevitas.proxy.runtime_quant import ActQuantProxyFromInjectorBase
from torch import nn

from quant.curves import RANGES, QuantCurve
from quant.deform import DeformConv2d
from quant.dynamic.block import DynamicBlock
from quant.dynamic.mixed_conv import QuantMixedConv2d
from quant.layers import ConvBlock, DeformBlock, OutputConv, fold_batch_norm
from quant.preset import Given, Preset, PresetError, preset
from quant.quant_layers import QuantConv2d, QuantDeformConv2d, QuantIdentity, QuantReLU
from quant.quantizers import (
    BIAS,
    FakeQuant,
    InputAct,
    SignedAct,
    UnsignedAct,
    weight_quantizer,
)


def fold(model: nn.Module) -> nn.Module:
    """A copy of a float network without batch norms, equal to it in evaluation mode up to float rounding."""
    folded = copy.deepcopy(model).eval()
    for block in folded.modules():
        if isinstance(block, ConvBlock) and isinstance(block.bn, nn.BatchNorm2d):
            fold_batch_norm(block.conv, block.bn)
            block.bn = nn.Identity()
        elif isinstance(block, DynamicBlock):
            block.fold()
    return folded


def _weights(plan: Preset, role: str, name: str, bits: int | None = None) -> type:
    bits = plan.weight_bits(role, name) if bits is None else bits
    return weight_quantizer(bits, plan.mantissa, plan.start, plan.shape, plan.learn_scales)


def _quantized_conv(conv: nn.Conv2d, weights: type) -> QuantConv2d:
    layer = QuantConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
        bias=conv.bias is not None,
        weight_quant=weights,
        bias_quant=BIAS if conv.bias is not None else None,
    )
    layer.weight.data.copy_(conv.weight.data)
    if conv.bias is not None:
        layer.bias.data.copy_(conv.bias.data)
    layer.weight_quant.tensor_quant.fit(layer.weight)
    return layer


def _quantized_act(act: nn.Module, plan: Preset) -> nn.Module:
    if isinstance(act, nn.ReLU):
        unsigned = UnsignedAct.let(bit_width=plan.act_bits, learned=plan.learn_scales)
        return QuantReLU(unsigned, return_quant_tensor=True)
    signed = SignedAct.let(bit_width=plan.act_bits, learned=plan.learn_scales)
    before = QuantIdentity(signed, return_quant_tensor=True)
    if type(act) not in RANGES:
        return before
    is_signed, log2 = RANGES[type(act)]
    kind = SignedAct if is_signed else UnsignedAct
    after = kind.let(fixed_log2=log2, learned=plan.learn_scales)
    return QuantCurve(before, act, QuantIdentity(after, return_quant_tensor=True))


class _Layers:
    """Quantized layers as a preset says."""

    def __init__(self, plan: Preset) -> None:
        self.plan = plan

    def conv(self, conv: nn.Conv2d, role: str, name: str) -> QuantConv2d:
        return _quantized_conv(conv, self.weights(role, name))

    def deform(self, conv: DeformConv2d, name: str) -> QuantDeformConv2d:
        return QuantDeformConv2d(conv, self.weights("deform", name))

    def bits(self, role: str, name: str) -> int:
        return self.plan.weight_bits(role, name)

    def weights(self, role: str, name: str, bits: int | None = None) -> type:
        return _weights(self.plan, role, name, bits)

    def act(self, act: nn.Module) -> nn.Module:
        return _quantized_act(act, self.plan)

    def fixed(self, log2: int, signed: bool = False) -> QuantIdentity:
        kind = SignedAct if signed else UnsignedAct
        return QuantIdentity(kind.let(bit_width=8, fixed_log2=float(log2)), return_quant_tensor=True)


def quantize_model(model: nn.Module, given: Given = "w4a8") -> nn.Module:
    """The quantized twin of a float network, on the same device; the float network is left as it is.

    Blocks with one `share` name get one activation quantizer. The heads' outputs are quantized too (s8, plain
    tensors). Raises PresetError for an unknown preset, or one that names layers which are not there.
    """
    plan = preset(given)
    twin = fold(model)
    device = next(model.parameters()).device
    shared: dict[str, nn.Module] = {}
    for name, block in list(twin.named_modules()):
        if isinstance(block, ConvBlock):
            block.conv = _quantized_conv(block.conv, _weights(plan, block.role, f"{name}.conv"))
            if block.share is None:
                block.act = _quantized_act(block.act, plan)
            else:
                block.act = shared.setdefault(block.share, _quantized_act(block.act, plan))
        elif isinstance(block, OutputConv):
            block.conv = _quantized_conv(block.conv, _weights(plan, block.role, f"{name}.conv"))
            outputs = SignedAct.let(learned=plan.learn_scales)
            block.act = QuantIdentity(outputs, return_quant_tensor=False)
        elif isinstance(block, DeformBlock):
            block.offset = _quantized_conv(block.offset, _weights(plan, "offset", f"{name}.offset"))
            block.dw = QuantDeformConv2d(block.dw, _weights(plan, "deform", f"{name}.dw"))
            block.dw_act = _quantized_act(block.dw_act, plan)
        elif isinstance(block, DynamicBlock):
            block.quantize(_Layers(plan), name)
    if not hasattr(twin, "input_quant"):
        raise TypeError(f"{type(model).__name__} has no `input_quant`, the place of the image's quantizer")
    twin.input_quant = QuantIdentity(InputAct, return_quant_tensor=True)
    if unknown := sorted(set(plan.layers) - set(weight_layers(twin))):
        raise PresetError(
            f"preset {plan.name!r}: layers {', '.join(unknown)} are not in the network, expected names such as "
            f"{next(iter(weight_layers(twin)))}. Correct the preset."
        )
    for layer in weight_layers(twin).values():
        layer.weight_quant.tensor_quant.unbake(layer.weight)  # type: ignore[union-attr, operator]
    return twin.to(device).train(model.training)


def bake(twin: nn.Module) -> None:
    """Replace weights that are trained in another shape by what they stand for, as a file holds them."""
    for layer in weight_layers(twin).values():
        layer.weight_quant.tensor_quant.bake(layer.weight)  # type: ignore[union-attr, operator]


def weight_layers(twin: nn.Module) -> dict[str, nn.Module]:
    """Every layer with quantized weights by its name, in the order of definition."""
    return {n: m for n, m in twin.named_modules() if isinstance(m, QuantWeightBiasInputOutputLayer)}


def activation_quantizers(twin: nn.Module) -> dict[str, QuantReLU | QuantIdentity]:
    """Every activation quantizer once (shared ones under their first name), the image's included."""
    return {n: m for n, m in twin.named_modules() if isinstance(m, QuantReLU | QuantIdentity)}


def scale_parameters(twin: nn.Module) -> list[nn.Parameter]:
    """The trainable log2 scales: give them no weight decay and their own learning rate."""
    return [
        m.log2_scale
        for m in twin.modules()
        if isinstance(m, FakeQuant) and isinstance(m.log2_scale, nn.Parameter)
    ]


def accumulating(layer: Any) -> FakeQuant:
    """The quantizer whose scale, times that of what is read, is the step of a layer's sums."""
    found: FakeQuant = layer.mixed if isinstance(layer, QuantMixedConv2d) else layer.weight_quant.tensor_quant
    return found


def freeze_scales(twin: nn.Module, frozen: bool = True) -> None:
    """Stop (or resume) training the scales; towards the end of training exponents should no longer flip."""
    for p in scale_parameters(twin):
        p.requires_grad_(not frozen)
        p.grad = None


@contextmanager
def quantization_disabled(
    twin: nn.Module, weights: bool = True, activations: bool = True
) -> Iterator[nn.Module]:
    """Run the twin in float (or with only weights, or only activations, in float). Biases stay in float too.

    Deformable offsets are rounded and clamped all the same: that belongs to the operator.
    """
    before: list[tuple[QuantProxyFromInjector, bool]] = []
    for m in twin.modules():
        if isinstance(m, QuantProxyFromInjector):
            is_act = isinstance(m, ActQuantProxyFromInjectorBase)
            is_weight = hasattr(m, "_cached_weight")
            before.append((m, m.disable_quant))
            m.disable_quant = m.disable_quant or (activations if is_act else weights if is_weight else True)
    outputs = [m for m in twin.modules() if isinstance(m, QuantReLU | QuantIdentity)]
    packed = [m.return_quant_tensor for m in outputs]
    if activations:
        for m in outputs:
            m.return_quant_tensor = False
    try:
        yield twin
    finally:
        for proxy, state in before:
            proxy.disable_quant = state
        for m, state in zip(outputs, packed, strict=True):
            m.return_quant_tensor = state
