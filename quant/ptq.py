"""Post-training quantization of a float network from elsewhere, layer by layer, without torch.

    quantized = quantize_net(net, images, bits=8)
    write_model(quantized, "model.onnx", meta)          # quant.ptq_write

Each layer is quantized on what the layers before it, quantized already, make of the calibration images: its weights
are rounded (4 bits: in turn, see ptq_scales), and its bias takes up the mean of what is left of the error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.float_net import FloatNet, Layer, Running
from quant.ptq_scales import (
    activation_exponent,
    exact_bias,
    limits,
    rounded,
    rounded_in_turn,
    sample,
    snr,
    weight_scales,
)

INPUT_EXPONENT = 7  # of the image, (pixel - 128) / 128
MOST_RATIO = 6  # log2 of the ratio of scales that two maps to be added may have
ACT_BITS = 8
COLUMNS = 4096  # windows of an image that decide how weights are rounded


@dataclass(frozen=True)
class ActType:
    """A quantized tensor: code * 2^-exponent, codes in the range of `signed` 8 bits."""

    exponent: int
    signed: bool

    @property
    def step(self) -> float:
        return 2.0**-self.exponent

    def quantized(self, x: NDArray[Any]) -> NDArray[np.float32]:
        lo, hi = limits(ACT_BITS, self.signed)
        return (np.clip(np.rint(x / self.step), lo, hi) * self.step).astype(np.float32)

    @property
    def largest(self) -> int:
        return max(map(abs, limits(ACT_BITS, self.signed)))


@dataclass(frozen=True)
class Parameters:
    """Codes of a layer's weight (in its shape) and bias [Cout], and the weight's scale [Cout]."""

    codes: NDArray[np.int64]
    scale: NDArray[np.float64]
    bias: NDArray[np.int64]
    bits: int


@dataclass
class Quantized:
    """A network with the types of its tensors, parameters of its layers, and how well it agrees with the float one."""

    net: FloatNet
    types: dict[str, ActType]
    parameters: dict[str, Parameters] = field(default_factory=dict)
    snr: dict[str, float] = field(default_factory=dict)  # dB, by tensor: computed layers and outputs


def quantize_net(
    net: FloatNet,
    images: NDArray[np.float32],
    bits: int = 8,
    say: Callable[[str], object] = lambda text: None,
) -> Quantized:
    """`images` [N, 3, H, W] of (pixel - 128) / 128. `bits` of dense weights; first and last layers, and depthwise
    ones, which cost the accelerator nothing more, keep 8."""
    say("Running the float network")
    types = activation_types(net, images)
    net = replace(net, layers=[_limited(layer, types) for layer in net.layers])
    found = Quantized(net, types)
    run, exact, got = Running(), {net.input: images}, {net.input: types[net.input].quantized(images)}
    last = {name: i for i, layer in enumerate(net.layers) for name in layer.inputs}
    for i, layer in enumerate(net.layers):
        say(f"Quantizing layer {i + 1} of {len(net.layers)}")
        sources, wanted = [got[x] for x in layer.inputs], run(layer, [exact[x] for x in layer.inputs])
        if layer.weight is not None:
            wide = layer_bits(net, layer, bits)
            target = run(layer, [exact[x] for x in layer.inputs], clip=False)[0]
            found.parameters[layer.name] = _parameters(run, layer, types, sources[0], target, wide)
            layer = replace(layer, **_real(layer, found.parameters[layer.name], types))
        made = run(layer, sources)
        for name, value, aim in zip(layer.outputs, made, wanted, strict=True):
            got[name] = types[name].quantized(value) if layer.computes else value
            exact[name] = aim
            if layer.computes or name in net.outputs:
                found.snr[name] = snr(aim, got[name])
        for name in set(layer.inputs):
            if last[name] == i:
                del exact[name], got[name]
    return found


def activation_types(net: FloatNet, images: NDArray[np.float32]) -> dict[str, ActType]:
    """Types of all tensors; what is only moved or joined shares one."""
    rng, run = np.random.default_rng(0), Running()
    values: dict[str, NDArray[np.float32]] = {net.input: images}
    leader: dict[str, str] = {net.input: net.input}

    def group(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    samples: dict[str, NDArray[Any]] = {}
    last = {name: i for i, layer in enumerate(net.layers) for name in layer.inputs}
    for i, layer in enumerate(net.layers):
        results = run(layer, [values[x] for x in layer.inputs])
        for name, value in zip(layer.outputs, results, strict=True):
            values[name], leader[name] = value, name
            if layer.computes:
                samples[name] = sample(value, rng)
        if not layer.computes or layer.copies:
            for name in (*layer.inputs, *layer.outputs):
                leader[group(name)] = group(layer.inputs[0])
        for name in set(layer.inputs):
            if last[name] == i:
                del values[name]
    members: dict[str, list[str]] = {}
    for name in leader:
        members.setdefault(group(name), []).append(name)
    types: dict[str, ActType] = {}
    for names in members.values():
        found = [samples[n] for n in names if n in samples]
        signed = any(float(x.min()) < 0 for x in found) or net.input in names
        exponent = activation_exponent(found, ACT_BITS, signed) if found else INPUT_EXPONENT
        types.update(
            dict.fromkeys(names, ActType(INPUT_EXPONENT if net.input in names else exponent, signed))
        )
    _settle_sums(net, types, members, group)
    return types


def _settle_sums(
    net: FloatNet, types: dict[str, ActType], members: dict[str, list[str]], group: Callable[[str], str]
) -> None:
    """Coarsen the finer side of a sum where the two are too far apart to be added by shifts."""
    for layer in net.layers:
        if layer.op == "Add":
            coarse = min(types[x].exponent for x in layer.inputs)
            for x in layer.inputs:
                if types[x].exponent > coarse + MOST_RATIO:
                    narrowed = replace(types[x], exponent=coarse + MOST_RATIO)
                    types.update(dict.fromkeys(members[group(x)], narrowed))


def _limited(layer: Layer, types: dict[str, ActType]) -> Layer:
    """Limits on whole codes; those that the type has anyway are left out."""
    if not layer.computes:
        return layer
    kind = types[layer.outputs[0]]
    lo, hi = (v * kind.step for v in limits(ACT_BITS, kind.signed))
    low, high = (np.rint(v / kind.step) * kind.step if np.isfinite(v) else v for v in (layer.low, layer.high))
    return replace(layer, low=low if low > lo or low == 0 else -np.inf, high=high if high < hi else np.inf)


def layer_bits(net: FloatNet, layer: Layer, bits: int) -> int:
    first = {net.input, *(la.outputs[0] for la in net.layers if la.copies and net.input in la.inputs)}
    ends = not first.isdisjoint(layer.inputs) or any(name in net.outputs for name in layer.outputs)
    return 8 if ends or layer.depthwise else bits


def _rows(layer: Layer, table: NDArray[Any]) -> NDArray[Any]:
    """A weight as [Cout, K]."""
    if layer.op == "Conv" or layer.group > 1:
        return table.reshape(layer.channels, -1)
    return table.transpose(1, 0, 2, 3).reshape(layer.channels, -1)


def _unrows(layer: Layer, rows: NDArray[Any]) -> NDArray[Any]:
    assert layer.weight is not None
    shape = layer.weight.shape
    if layer.op == "Conv" or layer.group > 1:
        return rows.reshape(shape)
    return rows.reshape(shape[1], shape[0], *shape[2:]).transpose(1, 0, 2, 3)


def _real(layer: Layer, p: Parameters, types: dict[str, ActType]) -> dict[str, NDArray[np.float32]]:
    """Weight and bias as the floats that the codes mean."""
    step = p.scale * types[layer.inputs[0]].step
    weight = (p.codes * layer.by_output(p.scale)).astype(np.float32)
    return {"weight": weight, "bias": (p.bias * step).astype(np.float32)}


def _parameters(
    run: Running, layer: Layer, types: dict[str, ActType], x: NDArray[Any], target: NDArray[Any], bits: int
) -> Parameters:
    assert layer.weight is not None
    rows = _rows(layer, layer.weight).astype(np.float64)
    kind = types[layer.inputs[0]]
    bias = np.zeros(layer.channels) if layer.bias is None else layer.bias.astype(np.float64)
    scale = weight_scales(rows, bits, kind.largest, bias / kind.step)
    if bits < 8 and layer.op == "Conv" and layer.group == 1:
        codes = rounded_in_turn(rows, scale, bits, _gram(layer, x))
    else:
        codes = rounded(rows, scale, bits)
    step = scale * kind.step
    weight = _unrows(layer, codes * scale[:, None]).astype(np.float32)
    trial = replace(layer, weight=weight, bias=bias.astype(np.float32))
    bias = bias + _systematic(target - run(trial, [x], clip=False)[0])
    return Parameters(_unrows(layer, codes), scale, exact_bias(bias, step, codes, kind.largest), bits)


def _systematic(error: NDArray[Any]) -> NDArray[Any]:
    """Mean by channel [C] of an error [N, C, H, W], less of it the less the images agree: few of them prove little."""
    by_image = error.mean(axis=(2, 3), dtype=np.float64)
    mean = by_image.mean(axis=0)
    doubt = by_image.var(axis=0) / max(len(by_image) - 1, 1)
    return mean * np.maximum(0.0, 1 - doubt / np.maximum(mean**2, 1e-30))


def _gram(layer: Layer, x: NDArray[Any]) -> NDArray[Any]:
    """Mean products [K, K] of what a dense convolution's weights meet, in the order of a row of the weight."""
    (kh, kw), (sy, sx) = layer.attrs["kernel_shape"], layer.attrs["strides"]
    top, left, bottom, right = layer.attrs["pads"]
    rng, count = np.random.default_rng(0), 0
    gram = np.zeros((x.shape[1] * kh * kw,) * 2)
    for image in x:
        padded = np.pad(image, ((0, 0), (top, bottom), (left, right)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (kh, kw), axis=(1, 2))[:, ::sy, ::sx]
        columns = windows.transpose(1, 2, 0, 3, 4).reshape(-1, gram.shape[0])
        if len(columns) > COLUMNS:
            columns = columns[rng.choice(len(columns), COLUMNS, replace=False)]
        gram += columns.T.astype(np.float64) @ columns
        count += len(columns)
    return gram / count
