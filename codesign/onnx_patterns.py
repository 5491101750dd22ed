"""The one table of what an ONNX node may be. To support another: a function from Site, and a line in PATTERNS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from codesign.onnx_conv import add, conv, deform_conv, offset_arithmetic, square_deform_conv
from codesign.onnx_conv import pads_of as conv_pads
from codesign.onnx_quant import clip, dequantize_linear, quant, quantize_linear, relu, round_
from codesign.onnx_site import INCONSISTENT, Pattern, Site
from codesign.onnx_values import Acc, Act, Codes, Const, Grouped, Raw, Refused, Value
from codesign.ops import Concat, MaxPool, Shuffle, Slice, Upsample

DOMAIN = "codesign"
QONNX_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")


def same(site: Site) -> Value:
    value = site.input(0)
    assert value is not None
    return value


def maxpool(site: Site) -> Value:
    act = site.act()
    kernel = site.wholes("kernel_shape", (), 2)
    sy, sx = site.wholes("strides", (1, 1))
    if kernel != (3, 3):
        raise Refused(f"has the kernel {list(kernel)}, expected 3x3", "Use a 3x3 max-pool.")
    if sy != sx or sy not in (1, 2):
        site.note(f"has strides {sy},{sx}, expected 1 or 2 on both axes", "Use such a stride.")
    if site.whole("ceil_mode", 0):
        site.note("has ceil_mode 1, expected 0", "Use ceil_mode=False.")
    if (dilations := site.wholes("dilations", (1, 1))) != (1, 1):
        site.note(f"has dilations {list(dilations)}, expected 1", "Use a max-pool without dilation.")
    pads = conv_pads(site, (3, 3))
    site.check()
    return site.view(MaxPool((3, 3), (sy, sx), pads), act)


def resize(site: Site) -> Value:
    act = site.act()
    mode = site.text("mode", "nearest")
    if mode != "nearest":
        raise Refused(f"has mode {mode}, expected nearest", "Upsample with mode nearest.")
    scales, sizes = site.const(2), site.ints(3)
    h, w, c = act.shape
    if scales is not None and scales.size == 4:
        wanted = [float(s) for s in scales.reshape(-1)]
    elif sizes is not None and len(sizes) == 4:
        wanted = [1.0, sizes[1] / c, sizes[2] / h, sizes[3] / w]
    else:
        wanted = []
    if wanted != [1.0, 1.0, 2.0, 2.0]:
        shown = ",".join(f"{s:g}" for s in wanted)
        raise Refused(f"scales N,C,H,W by {shown or 'unknown factors'}, expected 1,1,2,2", "Upsample by 2.")
    where, rounding = site.text("coordinate_transformation_mode", "half_pixel"), site.text(
        "nearest_mode", "round_prefer_floor"
    )  # fmt: skip
    out = np.arange(4)
    source = {
        "asymmetric": out / 2,
        "half_pixel": (out + 0.5) / 2 - 0.5,
        "pytorch_half_pixel": (out + 0.5) / 2 - 0.5,
    }
    rounded: dict[str, Callable[[Any], Any]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda v: np.ceil(v - 0.5),
        "round_prefer_ceil": lambda v: np.floor(v + 0.5),
    }
    reads = rounded[rounding](source[where]) if where in source and rounding in rounded else None
    if reads is None or not np.array_equal(np.maximum(reads, 0), out // 2):
        raise Refused(
            f"samples with {where} and {rounding}, which does not repeat each pixel",
            "Use coordinate_transformation_mode asymmetric with nearest_mode floor.",
        )
    return site.view(Upsample(2), act)


def concat(site: Site) -> Value:
    acts = [site.act(i) for i in range(len(site.inputs))]
    if site.whole("axis", 1) not in (1, -3):
        raise Refused(f"joins axis {site.whole('axis', 1)}, expected 1 (channels)", "Join channels.")
    if len({a.scale for a in acts}) > 1:
        shown = ", ".join(f"2^{int(np.log2(a.scale))}" for a in acts)
        raise Refused(
            f"joins maps of scales {shown}, expected equal scales", "Share one quantizer among its inputs."
        )
    sources = [site.importer.value(act) for act in acts]
    elems = [site.importer.types[s].elem for s in sources]
    if len({e.signed for e in elems}) > 1:
        shown = ", ".join(map(str, elems))
        raise Refused(
            f"joins {shown}, expected all signed or all unsigned", "Share one quantizer among its inputs."
        )
    name, type_ = site.emit(Concat(), *sources)
    h, w, c = type_.shape
    return Act(name, (h, w, c), acts[0].scale, type_.elem, min(a.lo for a in acts), max(a.hi for a in acts))


def split(site: Site) -> tuple[Value, ...]:
    act = site.act()
    if site.whole("axis", 0) not in (1, -3):
        raise Refused(f"splits axis {site.whole('axis', 0)}, expected 1 (channels)", "Split channels.")
    channels, parts = act.shape[2], len(site.node.output)
    sizes = site.ints(1)
    if sizes is None:
        size = -(-channels // parts)
        sizes = [min(size, channels - i * size) for i in range(parts)]
    if sum(sizes) != channels or min(sizes) < 1 or len(sizes) != parts:
        raise Refused(f"splits {channels} channels into {sizes}", INCONSISTENT)
    starts = np.cumsum([0, *sizes])
    source = site.importer.value(act)
    return tuple(
        site.view(Slice(int(a), int(b)), act) if b - a < channels else act
        for a, b, act in zip(starts, starts[1:], [_held(act, source)] * parts, strict=False)
    )


def _held(act: Act, source: str) -> Act:
    return Act(source, act.shape, act.scale, act.elem, act.lo, act.hi)


def slice_(site: Site) -> Value:
    act = site.act()
    starts, stops = site.ints(1), site.ints(2)
    if starts is None or stops is None:
        raise Refused("has no starts or ends", INCONSISTENT)
    axes = site.ints(3) or list(range(len(starts)))
    steps = site.ints(4) or [1] * len(starts)
    sizes = {1: act.shape[2], 2: act.shape[0], 3: act.shape[1]}
    bounds = (0, act.shape[2])
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        size = sizes.get(axis % 4, 1)
        a, b, _ = slice(start, stop).indices(size)
        if step != 1:
            raise Refused(f"has step {step}, expected 1", "Take neighbouring channels.")
        if axis % 4 == 1:
            bounds = (a, b)
        elif axis % 4 == 0 or (a, b) != (0, size):
            raise Refused(f"cuts axis {axis}, expected 1 (channels)", "Slice channels only.")
    return act if bounds == (0, act.shape[2]) else site.view(Slice(*bounds), act)


def reshape(site: Site) -> Value:
    value = site.input(0)
    if isinstance(value, Codes):
        return _reshaped(site, value)
    act = value.of if isinstance(value, Grouped) else site.act()
    h, w, c = act.shape
    before: tuple[int, ...] = (c, h, w)
    if isinstance(value, Grouped):
        tail = (value.groups, c // value.groups)
        before = (*(tail[::-1] if value.swapped else tail), h, w)
    wanted = _resolved(site, before, site.ints(1) or [])
    if wanted == (c, h, w):
        if isinstance(value, Grouped) and value.swapped:
            return site.view(Shuffle(value.groups), act)
        return act
    grouped = len(wanted) in (3, 4) and wanted[0] * wanted[1] == c and wanted[2:] in ((h, w), (h * w,))
    if grouped and not isinstance(value, Grouped):
        return Grouped(act, wanted[0], False, site.where)
    raise Refused(
        f"changes {list(before)} per image into {list(wanted)}, which is no channel shuffle",
        "Shuffle as Reshape, Transpose of axes 1 and 2, Reshape; nothing else may be reshaped.",
    )


def _reshaped(site: Site, value: Codes) -> Codes:
    """A quantized parameter in another shape, such as a bias as [1,C,1,1]."""
    dims = site.ints(1) or []
    scale = np.broadcast_to(value.scale, value.codes.shape)
    try:
        return replace(value, codes=value.codes.reshape(dims), scale=scale.reshape(dims))
    except ValueError:
        raise Refused(f"changes {list(value.codes.shape)} into {dims}", INCONSISTENT) from None


def _resolved(site: Site, before: tuple[int, ...], dims: list[int]) -> tuple[int, ...]:
    """The per-image shape that Reshape's `dims` (with its 0 and -1) mean."""
    batch, total = site.importer.batch, prod(before)
    keep_zero = bool(site.whole("allowzero", 0))
    if len(dims) < 2 or (dims[0] not in (-1, batch) and (dims[0] != 0 or keep_zero)):
        raise Refused(f"moves elements between images (to {dims})", "Keep the batch as the first axis.")
    rest = [before[i] if d == 0 and i < len(before) and not keep_zero else d for i, d in enumerate(dims[1:])]
    if rest.count(-1) == 1 and dims[0] != -1:
        others = -prod(rest)
        rest = [total // others if d == -1 and others else d for d in rest]
    if prod(rest) != total or min(rest) < 1:
        raise Refused(f"changes {list(before)} per image into {dims}", INCONSISTENT)
    return tuple(rest)


def transpose(site: Site) -> Value:
    value, perm = site.input(0), list(site.wholes("perm", (), count=-1))
    if isinstance(value, Grouped):
        if perm in ([0, 2, 1, 3, 4], [0, 2, 1, 3]):
            return Grouped(value.of, value.groups, not value.swapped, site.where)
    else:
        act = site.act()
        if perm == [0, 1, 2, 3]:
            return act
    raise Refused(f"permutes axes by {perm}, which is no channel shuffle", "Keep the layout N,C,H,W.")


def shape(site: Site) -> Value:
    value = site.input(0)
    if not isinstance(value, (Act, Acc, Raw)):
        raise Refused("takes the shape of something that is no feature map", INCONSISTENT)
    h, w, c = value.shape
    dims = np.array([site.importer.batch or -1, c, h, w])  # -1 is what Reshape wants for an open batch
    return Const(dims[site.whole("start", 0) : site.whole("end", 4)])


def refuse(reason: str, remedy: str) -> Callable[[Site], Value]:
    def pattern(site: Site) -> Value:
        raise Refused(reason, remedy)

    return pattern


AVERAGE = refuse(
    "averages, and a division by the area is not exact here", "Use a strided convolution or max-pool."
)
DECODER = refuse(
    "belongs to decoding, which runs on integers after the network", "Export the raw head outputs."
)
ACTIVATION = refuse("is an activation function without an exact integer form", "Use ReLU.")
LINEAR = refuse("is a matrix product", "Use a 1x1 convolution.")
QOPERATOR = refuse(
    "is an integer operator of its own format", "Export as QONNX, or as QuantizeLinear pairs (QCDQ)."
)

PATTERNS: dict[tuple[str, str], Pattern] = {
    **{(domain, name): quant for domain in QONNX_DOMAINS for name in ("Quant", "IntQuant")},
    **{
        (domain, name): refuse("is no integer quantizer with half-even rounding", "Use Quant with ROUND.")
        for domain in QONNX_DOMAINS
        for name in ("BipolarQuant", "FloatQuant", "Trunc", "MultiThreshold")
    },
    (DOMAIN, "SquareDeformConv"): square_deform_conv,
    ("", "Add"): add,
    ("", "Clip"): clip,
    ("", "Concat"): concat,
    ("", "Conv"): conv,
    ("", "DeformConv"): deform_conv,
    ("", "DequantizeLinear"): dequantize_linear,
    ("", "Dropout"): same,
    ("", "Identity"): same,
    ("", "MaxPool"): maxpool,
    ("", "Mul"): offset_arithmetic,
    ("", "QuantizeLinear"): quantize_linear,
    ("", "Relu"): relu,
    ("", "Reshape"): reshape,
    ("", "Resize"): resize,
    ("", "Round"): round_,
    ("", "Shape"): shape,
    ("", "Slice"): slice_,
    ("", "Split"): split,
    ("", "Sub"): offset_arithmetic,
    ("", "Transpose"): transpose,
    # Known, and known to have no place here: each with what to do instead.
    ("", "AveragePool"): AVERAGE,
    ("", "BatchNormalization"): refuse("is a batch normalization", "Fold it into the convolution before it."),
    ("", "ConvTranspose"): refuse("is a transposed convolution", "Upsample by nearest x2, then convolve."),
    ("", "GlobalAveragePool"): AVERAGE,
    ("", "ReduceMean"): AVERAGE,
    ("", "Gemm"): LINEAR,
    ("", "MatMul"): LINEAR,
    ("", "HardSwish"): ACTIVATION,
    ("", "LeakyRelu"): ACTIVATION,
    ("", "PRelu"): ACTIVATION,
    ("", "Softmax"): DECODER,
    ("", "Sigmoid"): DECODER,
    ("", "TopK"): DECODER,
    ("", "ConvInteger"): QOPERATOR,
    ("", "QLinearConv"): QOPERATOR,
}
