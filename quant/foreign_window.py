"""Windows that the accelerator has not, as those that it has: means, and strided kernels beyond 5x5."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quant.float_net import Layer
from quant.foreign_site import Site, Unsupported, Value
from quant.foreign_views import pads_of, pair

LARGEST = 5  # side of a dense kernel, and twice its largest pad
STRIDES = range(2, 5)


def average_pool(site: Site) -> Value:
    """The mean of a window: a depthwise convolution of equal weights."""
    x, kernel = site.tensor(), [int(v) for v in site.attrs["kernel_shape"]]
    strides = pair(site, "strides")
    pads = pads_of(site, x, (kernel[0], kernel[1]), strides)
    if int(site.attrs.get("ceil_mode", 0)) or pair(site, "dilations") != [1, 1]:
        raise Unsupported("has ceil_mode 1 or dilations", "Use neither.")
    if any(pads) and not int(site.attrs.get("count_include_pad", 0)):
        raise Unsupported("averages fewer numbers at the edge", "Use count_include_pad=True, or no pads.")
    side = 3 if max(kernel) <= 3 else LARGEST
    before = [_before(side, kernel[i], pads[i], pads[i + 2]) for i in (0, 1)]
    if max(kernel) > LARGEST or None in before:
        raise Unsupported(
            f"averages {kernel[0]}x{kernel[1]} pixels with pads {pads}, expected all of the map or at most 5x5",
            "Use a strided convolution.",
        )
    top, left = (b or 0 for b in before)
    table = np.zeros((x.shape[0], 1, side, side), np.float32)
    table[:, :, top : top + kernel[0], left : left + kernel[1]] = 1 / (kernel[0] * kernel[1])
    grown = [
        pads[0] + top,
        pads[1] + left,
        pads[2] + side - kernel[0] - top,
        pads[3] + side - kernel[1] - left,
    ]
    attrs = {"group": x.shape[0], "kernel_shape": [side] * 2, "strides": strides, "pads": grown}
    out = [(x.shape[1 + i] + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i in (0, 1)]
    layer = Layer("Conv", site.name, [x.name], [site.node.output[0]], attrs, table)
    return site.reader.add(layer, (x.shape[0], *out))[0]


def _before(side: int, kernel: int, before: int, behind: int) -> int | None:
    """How many empty taps come before a smaller window, so that the pads stay within half of the larger."""
    fits = (i for i in range(side - kernel + 1) if max(before + i, behind + side - kernel - i) <= side // 2)
    return next(fits, None)


def narrower(
    layers: list[Layer], sizes: Mapping[str, tuple[int, int]], names: Callable[[str], str]
) -> list[Layer]:
    """Dense kernels beyond 5x5 as kernels of at most 5x5 on maps whose pixels were put side by side as channels.

    Stems such as 7x7 with stride 2, and matrix products with a map. `sizes` are height and width of what layers read.
    Nothing is computed otherwise; what has no such form stays, and is refused by the compiler.
    """
    made: list[Layer] = []
    for layer in layers:
        large = layer.op == "Conv" and layer.group == 1 and layer.weight is not None
        if large and layer.weight is not None and max(layer.weight.shape[2:]) > LARGEST:
            size = sizes[layer.inputs[0]]
            parts = _stem(layer, size, names) or _whole(layer, size, names) or [layer]
            made += parts
        else:
            made.append(layer)
    return made


def _stem(layer: Layer, size: tuple[int, int], names: Callable[[str], str]) -> list[Layer] | None:
    """A stride of s: one step's s x s pixels become channels, each by a weight of 1."""
    assert layer.weight is not None
    (s, sx), pads = layer.attrs["strides"], layer.attrs["pads"]
    cout, cin, *kernel = layer.weight.shape
    if s != sx or s not in STRIDES:
        return None
    tops, sides, bottoms, missing, skipped = [], [], [], [], []
    for i in (0, 1):
        start = -pads[i] // s  # of the first window, in steps
        skipped.append(-pads[i] - s * start)  # pixels of that step that are not in the window
        sides.append(-(-(skipped[i] + kernel[i]) // s))
        steps, out = -(-size[i] // s), (size[i] + pads[i] + pads[i + 2] - kernel[i]) // s + 1
        missing.append(steps * s - size[i])
        tops.append(-start)
        bottoms.append(out + sides[i] - 1 - steps + start)
    half = [side // 2 for side in sides]
    if max(sides) > LARGEST or max(missing) > s // 2 or min(*tops, *bottoms) < 0:
        return None
    if any(max(tops[i], bottoms[i]) > half[i] for i in (0, 1)):
        return None
    one_hot = np.eye(s * s * cin, dtype=np.float32).reshape(s * s * cin, s, s, cin).transpose(0, 3, 1, 2)
    wide = np.zeros((cout, cin, sides[0] * s, sides[1] * s), np.float32)
    wide[:, :, skipped[0] : skipped[0] + kernel[0], skipped[1] : skipped[1] + kernel[1]] = layer.weight
    by_step = wide.reshape(cout, cin, sides[0], s, sides[1], s).transpose(0, 3, 5, 1, 2, 4)
    attrs = {"group": 1, "kernel_shape": [s, s], "strides": [s, s], "pads": [0, 0, *missing]}
    apart = names(f"{layer.name}.apart")
    held = Layer(
        "Conv", apart, layer.inputs, [f"{apart}.out"], attrs, np.ascontiguousarray(one_hot), copies=True
    )
    return [held, _on(layer, held, by_step.reshape(cout, s * s * cin, *sides), [*tops, *bottoms])]


def _whole(layer: Layer, size: tuple[int, int], names: Callable[[str], str]) -> list[Layer] | None:
    """A window that is the map: every s-th pixel of it, s * s times, each by a depthwise convolution of one weight."""
    assert layer.weight is not None
    cout, cin, *kernel = layer.weight.shape
    s = -(-max(kernel) // LARGEST)
    if kernel != list(size) or any(layer.attrs["pads"]) or s not in STRIDES:
        return None
    steps, side = [-(-n // s) for n in size], 3 if s == 2 else LARGEST
    before = [_centre(side, s, n, count) for n, count in zip(size, steps, strict=True)]
    if None in before:
        return None
    top, left = (b or 0 for b in before)
    pads = [
        top,
        left,
        *((count - 1) * s + side - n - b for n, count, b in zip(size, steps, (top, left), strict=True)),
    ]
    attrs = {"group": cin, "kernel_shape": [side] * 2, "strides": [s, s], "pads": pads}
    made, parts = list[Layer](), []
    wide = np.zeros((cout, cin, steps[0] * s, steps[1] * s), np.float32)
    wide[:, :, : size[0], : size[1]] = layer.weight
    for i in range(s):
        for j in range(s):
            tap = np.zeros((cin, 1, side, side), np.float32)
            tap[:, :, top + i, left + j] = 1
            name = names(f"{layer.name}.apart{i}{j}")
            made.append(Layer("Conv", name, layer.inputs, [f"{name}.out"], attrs, tap, copies=True))
            parts.append(wide[:, :, i::s, j::s])
    name = names(f"{layer.name}.joined")
    joined = Layer("Concat", name, [la.outputs[0] for la in made], [f"{name}.out"], {"axis": 1})
    return [*made, joined, _on(layer, joined, np.concatenate(parts, axis=1), [0] * 4)]


def _centre(side: int, stride: int, size: int, count: int) -> int | None:
    """Pads before the map, with which `count` windows fit and a pixel of each phase is within the kernel."""
    half = side // 2
    fits = (
        b
        for b in range(half + 1)
        if b + stride <= side and 0 <= (count - 1) * stride + side - size - b <= half
    )
    return next(fits, None)


def _on(layer: Layer, held: Layer, weight: NDArray[np.float32], pads: list[int]) -> Layer:
    attrs = {"group": 1, "kernel_shape": list(weight.shape[2:]), "strides": [1, 1], "pads": pads}
    return replace(
        layer, inputs=[held.outputs[0]], weight=np.ascontiguousarray(weight, np.float32), attrs=attrs
    )
