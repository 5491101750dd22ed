"""Quantizers of the integer contract, as Brevitas injectors. quant/preset.py chooses among them.

    value = code * scale,   code = clamp(round_half_even(x / scale), lo, hi),   zero point 0
    scale = 2^-e            activations per tensor, weights per output channel
    scale = m * 2^-e        weights with a mantissa of `mantissa` bits, m in 2^(mantissa-1) .. 2^mantissa - 1

Scales are trained as log2 (Trained Quantization Thresholds, arXiv 1903.08066) with the step-size gradient of
LSQ (arXiv 1902.08153); restriction to the grid is straight-through. Brevitas' own modules compute the same
values in about fifteen elementwise passes; `_FakeQuant` needs four and saves no intermediate, so that training
a quantized network takes about as long as training its float parent with batch norm.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from brevitas.inject import ExtendedInjector
from brevitas.inject.enum import FloatToIntImplType
from brevitas.proxy import ActQuantProxyFromInjector, WeightQuantProxyFromInjector
from brevitas.quant.scaled_int import Int32Bias
from torch import Tensor, nn

from quant.scales import START, integer_range, quantize_to, to_grid

INPUT_LOG2 = -7.0  # image codes are pixel - 128, one code is 2^-7
BIAS_BITS = 21  # of a bias in steps of its accumulator: leaves room for the sum, below float32's 24


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Sum of a * b over everything, in one pass where both are stored in the same order."""
    if a.is_contiguous() and b.is_contiguous():
        return torch.dot(a.view(-1), b.view(-1))
    if a.dim() == 4 and all(t.is_contiguous(memory_format=torch.channels_last) for t in (a, b)):
        return torch.dot(a.permute(0, 2, 3, 1).reshape(-1), b.permute(0, 2, 3, 1).reshape(-1))
    return (a * b).sum()


class _FakeQuant(torch.autograd.Function):
    """Quantized values; gradients: straight-through inside the range, LSQ's for log2 of the scale."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, log2_scale: Tensor, scale: Tensor, lo: int, hi: int) -> Tensor:
        y = quantize_to(x, scale, lo, hi)
        ctx.save_for_backward(x, y, scale)
        ctx.range, ctx.log2_shape = (lo, hi), log2_scale.shape
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, y, scale = ctx.saved_tensors
        lo, hi = ctx.range
        if scale.numel() == 1 and not x.is_cuda:  # one pass; on a GPU .item() would wait for the device
            s = scale.item()
            # An unsigned range follows a ReLU, whose gradient ends at zero and not half a step below it.
            dx = torch.ops.aten.hardtanh_backward(grad, x, (lo - 0.5 if lo else 0.0) * s, (hi + 0.5) * s)
        else:
            inside = (x > (lo - 0.5 if lo else 0.0) * scale) & (x < (hi + 0.5) * scale)
            dx = torch.where(inside, grad, torch.zeros((), dtype=grad.dtype, device=grad.device))
        dlog2 = None
        if ctx.needs_input_grad[1]:
            # d y / d log2(s) = ln2 * (y - x) inside, ln2 * y outside; scaled as in LSQ, section 2.2
            if scale.numel() == 1:
                total = _inner(grad, y) - _inner(dx, x)
            else:
                total = (grad * y).sub_(dx * x).flatten(1).sum(1)
            count = x.numel() / scale.numel()
            dlog2 = (total * (math.log(2.0) / math.sqrt(count * hi))).view(ctx.log2_shape)
        return dx, dlog2, None, None, None


class FakeQuant(nn.Module):
    """A quantizer as Brevitas' proxies call it: x -> (values, scale, zero point, bits).

    `log2_scale` is a parameter (a buffer if not `learned`): 0-dimensional, or [C] for C output channels.
    """

    log2_scale: Tensor
    fixed = False  # the contract says the scale: it is not calibrated either

    def __init__(
        self, log2_scale: Tensor, bits: int, signed: bool, narrow: bool, mantissa: int, learned: bool
    ) -> None:
        super().__init__()
        if learned:
            self.log2_scale = nn.Parameter(log2_scale)
        else:
            self.register_buffer("log2_scale", log2_scale)
        self.lo, self.hi = integer_range(bits, signed, narrow)
        self.bits, self.mantissa = bits, mantissa
        self.register_buffer("_zero", torch.tensor(0.0), persistent=False)
        self.register_buffer("_bits", torch.tensor(float(bits)), persistent=False)

    def scale(self) -> Tensor:
        """The scale on its grid: 0-dimensional, or [C,1,1,1]."""
        s = to_grid(self.log2_scale, self.mantissa)
        return s.view(-1, 1, 1, 1) if s.dim() else s

    def quantize(self, x: Tensor) -> Tensor:
        """Quantized values alone: what training calls."""
        result: Tensor = _FakeQuant.apply(x, self.log2_scale, self.scale(), self.lo, self.hi)  # type: ignore
        return result

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scale = self.scale()
        y: Tensor = _FakeQuant.apply(x, self.log2_scale, scale, self.lo, self.hi)  # type: ignore
        return y, scale, self._zero, self._bits

    def extra_repr(self) -> str:
        return f"codes {self.lo}..{self.hi}, mantissa={self.mantissa}"


class ActFakeQuant(FakeQuant):
    """Per tensor, power of two. `calibrate` sets the exponent; until then values up to 8 are represented."""

    def __init__(
        self,
        bit_width: int,
        signed: bool,
        narrow_range: bool,
        fixed_log2: float | None = None,
        learned: bool = True,
    ) -> None:
        hi = integer_range(bit_width, signed, narrow_range)[1]
        start = math.ceil(math.log2(8.0 / hi)) if fixed_log2 is None else fixed_log2
        super().__init__(
            torch.tensor(float(start)), bit_width, signed, narrow_range, 1, learned and fixed_log2 is None
        )
        self.fixed = fixed_log2 is not None


class WeightFakeQuant(FakeQuant):
    """Per output channel; scales start as `start` says, from the weights it is given.

    `shape` "tanh" (DoReFa, arXiv 1606.06160, section 2.3): tanh(w / p) takes the place of w, stretched so that every
    channel keeps the largest magnitude p it began with. DoReFa has no p: its weights lie near 1, whereas batch norms
    folded into them give some channels a magnitude of 10, where tanh is flat. And no batch norm is left here to take up
    what bending trained weights does: `unbake` gives the weights that are bent to the trained ones. `bake` ends it
    before a file is written.
    """

    peak: Tensor

    def __init__(
        self,
        bit_width: int,
        narrow_range: bool,
        mantissa: int,
        start: str,
        shape: str,
        learned: bool,
        tracked_parameter_list: list[Tensor],
    ) -> None:
        weight = tracked_parameter_list[0]
        empty = torch.zeros(weight.shape[0])
        super().__init__(empty, bit_width, True, narrow_range, mantissa, learned)
        self.start = start
        self.tanh = shape == "tanh"
        if self.tanh:
            self.register_buffer("peak", torch.zeros(weight.shape[0]))
        self.fit(weight)

    @torch.no_grad()
    def fit(self, weight: Tensor) -> None:
        """Take the scales that suit these weights."""
        self.log2_scale.copy_(START[self.start](weight, self.hi, self.mantissa))
        if self.tanh:
            self.peak.copy_(weight.flatten(1).abs().amax(1))

    def shaped(self, weight: Tensor) -> Tensor:
        """The weights that are quantized."""
        if not self.tanh:
            return weight
        bent = (weight / self._unit(weight)).tanh()
        ends = bent.detach().flatten(1).abs().amax(1).clamp_min(2.0**-20)
        return bent * (self.peak / ends).view(-1, *[1] * (weight.dim() - 1))

    def _unit(self, weight: Tensor) -> Tensor:
        return self.peak.clamp_min(2.0**-20).view(-1, *[1] * (weight.dim() - 1))

    def quantize(self, x: Tensor) -> Tensor:
        return super().quantize(self.shaped(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return super().forward(self.shaped(x))

    @torch.no_grad()
    def unbake(self, weight: Tensor) -> None:
        """Change `weight`, which the quantizer was fitted to, into what has it for its shape."""
        if self.tanh:
            unit = self._unit(weight)
            weight.copy_((weight / unit * math.tanh(1)).atanh() * unit)

    @torch.no_grad()
    def bake(self, weight: Tensor) -> None:
        """Give `weight` the shape for good."""
        weight.copy_(self.shaped(weight))
        self.tanh = False


class _KeepsScales:
    """Loading a state dict fills the quantizer that is there.

    Brevitas builds a new one instead, and an optimizer would go on training the scales of the old one.
    """

    def _load_from_state_dict(self, *args: Any) -> None:
        nn.Module._load_from_state_dict(self, *args)  # type: ignore[arg-type]


class WeightProxy(_KeepsScales, WeightQuantProxyFromInjector):
    pass


class ActProxy(_KeepsScales, ActQuantProxyFromInjector):
    pass


class _Rounding(ExtendedInjector):
    # What the ONNX export writes as the node's rounding mode; both quantizers round half to even.
    float_to_int_impl_type = FloatToIntImplType.ROUND


class _Activation(_Rounding):
    proxy_class = ActProxy
    tensor_quant = ActFakeQuant
    bit_width = 8
    narrow_range = False
    learned = True
    fixed_log2 = None


class UnsignedAct(_Activation):
    """u8 after a ReLU, per tensor, power of two."""

    signed = False


class SignedAct(_Activation):
    """s8, per tensor, power of two."""

    signed = True


class InputAct(_Activation):
    """The image: s8 at a fixed 2^-7, so that (pixel - 128) / 128 is exact."""

    signed = True
    fixed_log2 = INPUT_LOG2


class Weight(_Rounding):
    """Per output channel, narrow and symmetric; `weight_quantizer` sets the rest."""

    proxy_class = WeightProxy
    tensor_quant = WeightFakeQuant
    signed = True
    narrow_range = True
    bit_width = 8
    mantissa = 1
    start = "mse"
    shape = "plain"
    learned = True


def weight_quantizer(
    bits: int, mantissa: int = 1, start: str = "mse", shape: str = "plain", learned: bool = True
) -> type:
    """A weight injector: `bits` 2..8, `mantissa` 1 (power of two) or more; the others as in quant.preset."""
    injector: type = Weight.let(bit_width=bits, mantissa=mantissa, start=start, shape=shape, learned=learned)
    return injector


BIAS = Int32Bias  # 32 bits at the accumulator's scale s_x * s_w[c]
