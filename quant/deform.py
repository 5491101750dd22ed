"""Deformable convolutions as torch modules, with the limits that make them cheap in hardware.

    y_c(p) = sum_k  w_c[k] * x_c(s*p + p_k + o_k(p)),      p_k in {-1,0,1}^2, zero outside the map

`offsets` says where o_k comes from, `sampling` how a fractional position is read:

    free      two numbers per tap and pixel (DCNv1, arXiv 1703.06211)
    bounded   the same, clamped to [-bound, bound]
    square    one number d per pixel, o_k = (d - 1) * p_k: a 3x3 of varying dilation, d clamped to [0, bound]
    bilinear  four neighbours, gradients exact; once quantized, offsets are rounded to steps of 2^-fraction_bits
    rounded   nearest integer, ties to even; gradients straight-through, by central difference

`masks` multiplies each tap by a number of its own per pixel (DCNv2, arXiv 1811.11168), clamped to 0..MASK_MOST where
the paper takes a sigmoid; once quantized, in steps of 2^-MASK_BITS.

Bounded windows may be rows or columns of nine taps instead: p_k in {0}x{-4..4} or {-4..4}x{0}.

CoDeNet's operator (arXiv 2006.08357, section 3) is depthwise + square + rounded. Rounding and clamping are part
of the operator, in training as in hardware. Depthwise + bounded is the other one that hardware runs.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.clamps import clamp, round_clamp

Offsets = Literal["free", "bounded", "square"]
Sampling = Literal["bilinear", "rounded"]

TAPS = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1))
# Codes of a mask. With int4 weights, u8 inputs and two bits of fraction every sum stays below 2^24, as floats need.
MASK_BITS, MASK_CODES = 5, 63
MASK_MOST = MASK_CODES * 2.0**-MASK_BITS


def near_identity_(weight: Tensor) -> None:
    """Start depthwise filters (C,1,K,K) as the centre tap and a little noise, of the same power for every K.

    Fifty layers of random 3x3 filters under batch norm make a chaotic map. In trials of 400 steps on scenes,
    classifiers with random filters stayed at chance (0.10; 0.13 with supervision at every stage), one with this start
    and supervision reached 0.24. Learning rates differed, 0.001 and 0.003: what each change brought is not known.
    """
    nn.init.normal_(weight, std=0.1 * (3 / math.sqrt(weight.shape[2] * weight.shape[3])))
    with torch.no_grad():
        weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2] += 1


class _SquareDepthwise(torch.autograd.Function):
    """Depthwise square sampling at integer d, on channel-last rows: one gathered row is all channels of a tap.

    Taps are walked one after another, forward and backward, so that temporaries stay small.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, d: Tensor, w: Tensor, stride: int, bound: int) -> Tensor:
        n, c, h, wd = x.shape
        oh, ow = d.shape[-2:]
        margin = bound
        rows = F.pad(x.permute(0, 2, 3, 1), (0, 0, margin, margin, margin, margin)).contiguous().view(-1, c)
        wp, hp = wd + 2 * margin, h + 2 * margin
        ys = torch.arange(oh, device=x.device).view(1, -1, 1) * stride + margin
        xs = torch.arange(ow, device=x.device).view(1, 1, -1) * stride + margin
        base = (torch.arange(n, device=x.device).view(-1, 1, 1) * (hp * wp) + ys * wp + xs).flatten()
        di = d.to(torch.int64).flatten()
        w9 = w.view(c, 9).t().contiguous()
        y = torch.zeros(base.numel(), c, dtype=x.dtype, device=x.device)
        for k, (i, j) in enumerate(TAPS):
            y.addcmul_(rows.index_select(0, base + di * (i * wp + j)), w9[k])
        ctx.save_for_backward(rows, base, di, w9)
        ctx.geometry = (x.shape, margin, hp, wp, d.shape, bound)
        return y.view(n, oh, ow, c).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        rows, base, di, w9 = ctx.saved_tensors
        (n, c, h, wd), margin, hp, wp, d_shape, bound = ctx.geometry
        want_x, want_d, want_w = ctx.needs_input_grad[:3]
        g = grad.permute(0, 2, 3, 1).reshape(-1, c)
        gx = torch.zeros_like(rows) if want_x else None
        gd = torch.zeros_like(di, dtype=g.dtype) if want_d else None
        gw = torch.zeros_like(w9) if want_w else None
        above, below = (di + 1).clamp(max=bound), (di - 1).clamp(min=0)
        for k, (i, j) in enumerate(TAPS):
            step = i * wp + j
            index = base + di * step
            gt = g * w9[k]  # gradient of the gathered tap
            if gw is not None:
                gw[k] = rows.index_select(0, index).mul_(g).sum(0)
            if gx is not None:
                gx.index_add_(0, index, gt)
            if gd is not None and step:
                slope = rows.index_select(0, base + above * step).sub_(
                    rows.index_select(0, base + below * step)
                )
                gd.add_(slope.mul_(gt).sum(1), alpha=0.5)
        if gx is not None:
            gx = gx.view(n, hp, wp, c)[:, margin : margin + h, margin : margin + wd].permute(0, 3, 1, 2)
        return (
            gx,
            None if gd is None else gd.view(d_shape),
            None if gw is None else gw.t().reshape(c, 1, 3, 3),
            None,
            None,
        )


def square_depthwise(x: Tensor, d: Tensor, weight: Tensor, stride: int, bound: int) -> Tensor:
    """Depthwise 3x3 on a square window of half-side d(p).

    x (N,C,H,W); d (N,1,H',W') already integer in [0, bound]; weight (C,1,3,3) -> (N,C,H',W').
    Gradients: exact for x and weight; for d half the difference of the outputs at d + 1 and d - 1, kept in the bound.
    """
    result: Tensor = _SquareDepthwise.apply(x, d, weight, stride, bound)  # type: ignore[no-untyped-call]
    return result


def square_offsets(d: Tensor) -> Tensor:
    """Offsets of the ONNX DeformConv that equals the square window: (N,1,H,W) -> (N,18,H,W), row before column."""
    template = torch.tensor([v for tap in TAPS for v in tap], dtype=d.dtype, device=d.device).view(
        1, 18, 1, 1
    )
    return (d - 1) * template


def deform_conv(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: int = 1,
    padding: int | tuple[int, int] = 1,
    dilation: int = 1,
    groups: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """General deformable convolution with bilinear sampling, one offset group; equals ONNX DeformConv (opset 19).

    x (N,C,H,W); offset (N,2*kh*kw,H',W'), channel 2k is the row and 2k+1 the column; weight (O,C/groups,kh,kw); mask
    (N,kh*kw,H',W') multiplies the taps.
    """
    n, c, h, w = x.shape
    o, per_group, kh, kw = weight.shape
    oh, ow = offset.shape[-2:]
    off = offset.view(n, kh * kw, 2, oh, ow)
    pads = (padding, padding) if isinstance(padding, int) else padding
    ys = (torch.arange(oh, device=x.device) * stride - pads[0]).view(1, -1, 1)
    xs = (torch.arange(ow, device=x.device) * stride - pads[1]).view(1, 1, -1)
    first = (torch.arange(n, device=x.device) * (h * w)).view(-1, 1, 1)
    rows = x.permute(0, 2, 3, 1).reshape(
        -1, c
    )  # channel-last: one gathered row is all channels of a position
    depthwise = per_group == 1 and groups == o == c
    filters = weight.view(o, -1, kh * kw)
    taps: list[Tensor] = []
    y = rows.new_zeros(n * oh * ow, o)
    for k in range(kh * kw):
        py = off[:, k, 0] + (ys + k // kw * dilation)
        px = off[:, k, 1] + (xs + k % kw * dilation)
        top, left = py.detach().floor(), px.detach().floor()
        fy, fx = py - top, px - left
        tap: Tensor | None = None
        for cy, cx, share in (
            (top, left, (1 - fy) * (1 - fx)),
            (top, left + 1, (1 - fy) * fx),
            (top + 1, left, fy * (1 - fx)),
            (top + 1, left + 1, fy * fx),
        ):
            inside = (cy >= 0) & (cy < h) & (cx >= 0) & (cx < w)
            index = first + (cy.clamp(0, h - 1) * w + cx.clamp(0, w - 1)).long()
            part = rows.index_select(0, index.flatten()) * (share * inside).reshape(-1, 1)
            tap = part if tap is None else tap + part
        assert tap is not None
        if mask is not None:
            tap = tap * mask[:, k].reshape(-1, 1)
        if depthwise:
            y = y + tap * filters[:, 0, k]
        else:
            taps.append(tap.view(-1, groups, c // groups))
    if not depthwise:
        grouped = filters.view(groups, o // groups, per_group, kh * kw)
        y = torch.einsum("pgck,gock->pgo", torch.stack(taps, 3), grouped).reshape(-1, o)
    return y.view(n, oh, ow, o).permute(0, 3, 1, 2)


class DeformConv2d(nn.Module):
    """Deformable convolution with its offsets given as a second input: 3x3, or a row or column of nine taps.

    Attributes `offsets`, `sampling`, `bound`, `groups` and `stride` are the variants of CoDeNet's ablation
    (arXiv 2006.08357, table 2); they travel with the exported model. Weight (cout, cin/groups, kh, kw), no bias.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        groups: int = 1,
        stride: int = 1,
        offsets: Offsets = "square",
        sampling: Sampling = "rounded",
        bound: int = 7,
        fraction_bits: int = 2,
        masks: bool = False,
        kernel: tuple[int, int] = (3, 3),
    ) -> None:
        super().__init__()
        if offsets not in ("free", "bounded", "square") or sampling not in ("bilinear", "rounded"):
            raise ValueError(f"DeformConv2d: unknown variant {offsets}/{sampling}")
        if bound < 1:
            raise ValueError(f"DeformConv2d: bound is {bound}, expected at least 1 (an ordinary 3x3)")
        if masks and offsets == "square":
            raise ValueError("DeformConv2d: masks with square offsets, expected free or bounded ones")
        if kernel not in ((3, 3), (1, 9), (9, 1)) or (offsets == "square" and kernel != (3, 3)):
            raise ValueError(
                f"DeformConv2d: {offsets} offsets of a kernel {kernel}, expected 3x3, 1x9 or 9x1"
            )
        if not 0 <= fraction_bits <= 4:
            raise ValueError(f"DeformConv2d: fraction_bits is {fraction_bits}, expected 0 to 4")
        self.groups, self.stride, self.bound = groups, stride, bound
        self.offsets, self.sampling = offsets, sampling
        self.fraction_bits, self.masks = fraction_bits, masks
        self.grid = 0 if sampling == "rounded" else None  # bits of fraction in force; None: any number
        self.weight = nn.Parameter(torch.empty(cout, cin // groups, *kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if groups == cin == cout:
            near_identity_(self.weight)

    @property
    def offset_channels(self) -> int:
        return 1 if self.offsets == "square" else 27 if self.masks else 18

    @property
    def depthwise(self) -> bool:
        return self.weight.shape[1] == 1 and self.weight.shape[0] == self.groups

    @property
    def on_grid(self) -> bool:
        """Whether it is the bounded operator of the hardware, in whole steps."""
        return self.offsets == "bounded" and self.grid is not None and self.depthwise

    def limit(self, raw: Tensor) -> Tensor:
        """Offsets and masks that are used: raw predictions after this variant's clamp and rounding."""
        low, high = {
            "free": (-torch.inf, torch.inf),
            "bounded": (-float(self.bound), float(self.bound)),
            "square": (0.0, float(self.bound)),
        }[self.offsets]
        offsets = raw[:, :18] if self.masks else raw
        offsets = (
            clamp(offsets, low, high) if self.grid is None else round_clamp(offsets, low, high, self.grid)
        )
        if not self.masks:
            return offsets
        masks = raw[:, 18:]
        if self.grid is None:
            return torch.cat([offsets, clamp(masks, 0.0, MASK_MOST)], 1)
        return torch.cat([offsets, round_clamp(masks, 0.0, MASK_MOST, MASK_BITS)], 1)

    def forward(self, x: Tensor, raw: Tensor) -> Tensor:
        return self.sample(x, self.limit(raw), self.weight)

    def sample(self, x: Tensor, used: Tensor, weight: Tensor) -> Tensor:
        if self.offsets == "square" and self.sampling == "rounded" and self.depthwise:
            return square_depthwise(x, used, weight, self.stride, self.bound)
        if self.masks:
            used, mask = used[:, :18], used[:, 18:]
        else:
            mask = None
        offset = square_offsets(used) if self.offsets == "square" else used
        pads = (weight.shape[2] // 2, weight.shape[3] // 2)
        return deform_conv(x, offset, weight, self.stride, pads, groups=self.groups, mask=mask)

    def extra_repr(self) -> str:
        o, i, kh, kw = self.weight.shape
        return (
            f"{i * self.groups}, {o}, groups={self.groups}, stride={self.stride}, "
            f"{self.offsets}, {self.sampling}, bound={self.bound}"
            + (f", kernel={kh}x{kw}" if (kh, kw) != (3, 3) else "")
            + (f", fraction_bits={self.grid}" if self.on_grid else "")
            + (", masks" if self.masks else "")
        )
