"""What an operator is: one frozen dataclass that says all the compiler must know of its meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Protocol

import numpy as np

from codesign.errors import TypeMismatch
from codesign.ir import Array, Bounds, TensorType


class Op(Protocol):
    """The members are read-only callables so that each operator can name its own inputs.

    infer(*TensorType) -> TensorType     type of the result; raises TypeMismatch
    run(*Array) -> Array                 int64 reference on (N, H, W, C): simple and obviously right
    bounds(*Bounds | Array) -> Bounds    range of the result; constants come as their arrays
    macs(*TensorType) -> int             multiply-accumulates of one image
    """

    @property
    def infer(self) -> Callable[..., TensorType]: ...
    @property
    def run(self) -> Callable[..., Array]: ...
    @property
    def bounds(self) -> Callable[..., Bounds]: ...
    @property
    def macs(self) -> Callable[..., int]: ...


def window(
    shape: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int]
) -> tuple[int, int]:
    """Height and width of the result of a sliding window; pads are (top, left, bottom, right)."""
    if len(shape) != 3:
        raise TypeMismatch(f"input has shape {list(shape)}, expected [H,W,C]")
    h = (shape[0] + pads[0] + pads[2] - kernel[0]) // stride[0] + 1
    w = (shape[1] + pads[1] + pads[3] - kernel[1]) // stride[1] + 1
    if shape[0] + pads[0] + pads[2] < kernel[0] or shape[1] + pads[1] + pads[3] < kernel[1]:
        raise TypeMismatch(f"a {kernel[0]}x{kernel[1]} window does not fit the map {shape[0]}x{shape[1]}")
    return h, w


def check_window(kernel: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int]) -> None:
    """Refuse windows that no operator is defined on."""
    if min(kernel) < 1 or min(stride) < 1 or min(pads) < 0:
        raise TypeMismatch(f"kernel {kernel}, stride {stride}, pads {pads}: expected positive numbers")
    if max(pads[0], pads[2]) >= kernel[0] or max(pads[1], pads[3]) >= kernel[1]:
        raise TypeMismatch(f"pads {pads} reach outside the kernel {kernel}, expected smaller pads")


def taps(
    x: Array, kernel: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int], fill: float
) -> list[Array]:
    """The map each of the kh*kw taps reads, row-major: a list of (N, H', W', C)."""
    (kh, kw), (sy, sx), (top, left, bottom, right) = kernel, stride, pads
    oh, ow = window(x.shape[1:], kernel, stride, pads)
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    return [
        padded[:, i : i + (oh - 1) * sy + 1 : sy, j : j + (ow - 1) * sx + 1 : sx]
        for i in range(kh)
        for j in range(kw)
    ]


def product_bounds(x: Bounds, weight: Array, axes: tuple[int, ...]) -> Bounds:
    """Range of a sum of products over `axes` of `weight`, whose axis -2 or -1 is x's channels.

    Each sample may be the padding's zero, so each product's range holds 0; hence every partial sum, in any
    order, lies in the range too.
    """
    low, high = np.minimum(x.low, 0), np.maximum(x.high, 0)
    if weight.ndim == 4:
        low, high = low[:, None], high[:, None]
    a, b = weight * low, weight * high
    return Bounds(np.minimum(a, b).sum(axes), np.maximum(a, b).sum(axes))


def corner_products(x: TensorType, weight: TensorType, count: int) -> tuple[int, int]:
    """Range of a sum of `count` products, from the two types alone (0 included)."""
    corners = [a * b for a in (x.elem.min, x.elem.max) for b in (weight.elem.min, weight.elem.max)]
    return count * min(0, *corners), count * max(0, *corners)


def show(op: Any) -> str:
    """`Conv(kernel=3x3, stride=2x2, pads=1,1,1,1)`: compact, and stable between Python versions."""

    def text(value: Any) -> str:
        if isinstance(value, tuple):
            return ("x" if len(value) == 2 else ",").join(map(str, value))
        return str(value)

    return f"{type(op).__name__}({', '.join(f'{f.name}={text(getattr(op, f.name))}' for f in fields(op))})"
