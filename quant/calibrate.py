"""Activation ranges and biases of a quantized twin from a few batches, before it is trained further.

calibrate(twin, images)        exponents of all activation quantizers
correct_bias(twin, images)     per-channel means of all convolutions back to those of the float network
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from quant.dynamic.mixed_conv import QuantMixedConv2d
from quant.layers import plain
from quant.quant_layers import QuantIdentity, QuantReLU
from quant.quantize import accumulating, activation_quantizers, quantization_disabled, weight_layers
from quant.quantizers import BIAS_BITS, FakeQuant
from quant.scales import quantize_to

Method = Literal["mse", "percentile", "max"]
_SAMPLES = 1 << 14  # values kept per call of a quantizer


class _Seen:
    """Values that reached one quantizer: a strided sample of each call, and the largest magnitude of all."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.parts: list[Tensor] = []
        self.peak = 0.0

    def add(self, x: Tensor) -> None:
        flat = x.detach().reshape(-1)
        peak = flat.abs().max().item()
        if not math.isfinite(peak):  # at once, before it becomes an index of a deformable convolution
            raise ValueError(f"calibrate: NaN or infinite values reach {self.name}. Check the training.")
        self.peak = max(self.peak, peak)
        step = max(1, flat.numel() // _SAMPLES)
        # An odd step that is no power of two walks over all channels and rows.
        self.parts.append(flat[:: step | 1].float().cpu())


def _smallest_covering(limit: float, hi: int) -> float:
    """log2 of the smallest power of two scale whose largest code reaches `limit`."""
    return float(math.ceil(math.log2(max(limit, 2.0**-20) / hi)))


def _choose(seen: _Seen, quantizer: FakeQuant, method: Method, percentile: float) -> float:
    widest = _smallest_covering(seen.peak, quantizer.hi)
    if method == "max":
        return widest
    values = torch.cat(seen.parts)
    if method == "percentile":
        magnitude = values.abs() if quantizer.lo < 0 else values.clamp_min(0)
        rank = max(1, math.ceil(magnitude.numel() * percentile / 100.0))
        return _smallest_covering(magnitude.kthvalue(rank).values.item(), quantizer.hi)
    if quantizer.lo == 0:
        values = values.clamp_min(0)
    candidates = [widest - k for k in range(5)]
    errors = [
        (quantize_to(values, torch.tensor(2.0**e), quantizer.lo, quantizer.hi) - values)
        .square()
        .mean()
        .item()
        for e in candidates
    ]
    return candidates[errors.index(min(errors))]


def _output_quantizers(twin: nn.Module) -> set[nn.Module]:
    """Quantizers of the network's outputs: those that hand out plain tensors."""
    return {
        m for m in twin.modules() if isinstance(m, QuantReLU | QuantIdentity) and not m.return_quant_tensor
    }


def _quantizer(layer: QuantReLU | QuantIdentity) -> FakeQuant:
    quantizer = layer.act_quant.fused_activation_quant_proxy.tensor_quant
    assert isinstance(quantizer, FakeQuant)
    return quantizer


@torch.no_grad()
def calibrate(
    twin: nn.Module, batches: Iterable[Tensor], method: Method = "mse", percentile: float = 99.99
) -> dict[str, int]:
    """Set the exponent of every activation quantizer from images (N,3,H,W), values (pixel - 128) / 128.

    Weights are quantized meanwhile, activations are not. `mse` takes the exponent of least squared error,
    `percentile` the smallest whose range holds that share of the magnitudes, `max` the smallest that clips
    nothing. Outputs of the network use `max` in any case: their rare large values are the detections.
    Returns log2 of the scale of every quantizer. Raises ValueError if there is no batch or a value is not finite.
    """
    layers = {n: m for n, m in activation_quantizers(twin).items() if _is_free(m)}
    outputs = _output_quantizers(twin)
    seen = {n: _Seen(n) for n in layers}
    hooks = [
        m.register_forward_pre_hook(lambda _m, args, s=seen[n]: s.add(plain(args[0])))
        for n, m in layers.items()
    ]
    try:
        with quantization_disabled(twin, weights=False):
            example = _run(twin, batches)
    finally:
        for hook in hooks:
            hook.remove()
    if example is None:
        raise ValueError("calibrate: no batch of images, expected at least one")
    chosen = {}
    for name, layer in layers.items():
        quantizer = _quantizer(layer)
        log2 = _choose(seen[name], quantizer, "max" if layer in outputs else method, percentile)
        quantizer.log2_scale.fill_(log2)
        chosen[name] = int(log2)
    _fit_mixtures(twin, example)
    _make_room_for_biases(twin, example)
    return chosen


def _fit_mixtures(twin: nn.Module, images: Tensor) -> None:
    """Scales of mixed weights that suit the gates of some images."""
    hooks = [
        m.register_forward_pre_hook(lambda layer, args: layer.fit(plain(args[1])))
        for m in twin.modules()
        if isinstance(m, QuantMixedConv2d)
    ]
    try:
        if hooks:
            _run(twin, [images])
    finally:
        for hook in hooks:
            hook.remove()


def _make_room_for_biases(twin: nn.Module, images: Tensor) -> None:
    """Widen weight scales where a bias would need more than BIAS_BITS bits of its accumulator.

    That happens in channels whose batch norm has all but switched the weights off.
    """

    def widen(layer: nn.Module, args: Any) -> None:
        quantizer, x = accumulating(layer), args[0]
        if layer.bias is not None and hasattr(x, "scale"):
            steps = float((1 << BIAS_BITS) >> (quantizer.mantissa - 1))
            least = torch.log2((layer.bias.abs() / (x.scale * steps)).clamp_min(2.0**-30)).ceil()
            quantizer.log2_scale.copy_(quantizer.log2_scale.maximum(least))

    hooks = [m.register_forward_pre_hook(widen) for m in weight_layers(twin).values()]
    try:
        _run(twin, [images[:1]])
    finally:
        for hook in hooks:
            hook.remove()


def _is_free(layer: QuantReLU | QuantIdentity) -> bool:
    return not _quantizer(layer).fixed


def _run(twin: nn.Module, batches: Iterable[Tensor]) -> Tensor | None:
    """Forward passes in evaluation mode; returns the last batch."""
    training, last = twin.training, None
    twin.eval()
    try:
        for x in batches:
            twin(x)
            last = x
    finally:
        twin.train(training)
    return last


def _channel_mean(x: Tensor) -> Tensor:
    return x.double().mean((0, 2, 3))


@torch.no_grad()
def correct_bias(twin: nn.Module, batches: Iterable[Tensor]) -> dict[str, float]:
    """Bring the per-channel mean of every convolution with a bias back to its value in float.

    Each layer is measured behind already corrected ones (Nagel et al., arXiv 1906.04721, section 4.2).
    Returns the root mean square correction of every layer. Raises ValueError if there is no batch.
    """
    layers = {n: m for n, m in weight_layers(twin).items() if m.bias is not None}
    target: dict[str, Tensor] = {}
    total: dict[str, Tensor] = {n: torch.zeros_like(m.bias, dtype=torch.float64) for n, m in layers.items()}

    def remember(name: str) -> Callable[..., None]:
        def hook(_m: nn.Module, _args: Any, out: Tensor) -> None:
            target[name] = _channel_mean(out)

        return hook

    def shift(name: str) -> Callable[..., Tensor]:
        def hook(_m: nn.Module, _args: Any, out: Tensor) -> Tensor:
            delta = target[name] - _channel_mean(out)
            total[name] += delta
            return out + delta.view(1, -1, 1, 1).to(out.dtype)

        return hook

    count = 0
    for x in batches:
        for make, off in ((remember, True), (shift, False)):
            hooks = [m.register_forward_hook(make(n)) for n, m in layers.items()]
            try:
                if off:
                    with quantization_disabled(twin):
                        _run(twin, [x])
                else:
                    _run(twin, [x])
            finally:
                for hook in hooks:
                    hook.remove()
        count += 1
    if not count:
        raise ValueError("correct_bias: no batch of images, expected at least one")
    for name, layer in layers.items():
        layer.bias += (total[name] / count).to(layer.bias.dtype)
    return {n: (t / count).square().mean().sqrt().item() for n, t in total.items()}
