"""The one table of what an ONNX node may be. To support another: a function from Site, and a line in PATTERNS."""

from __future__ import annotations

from collections.abc import Callable

from codesign.onnx_affine import arithmetic, batch_norm
from codesign.onnx_bodies import DOMAINS as QONNX_DOMAINS
from codesign.onnx_bodies import QUANTIZERS
from codesign.onnx_conv import conv
from codesign.onnx_deform import square_deform_conv
from codesign.onnx_mean import average_pool, global_average, reduce_mean
from codesign.onnx_mix import channel_mix, mixed_conv, pick_or_mix
from codesign.onnx_quant import clip, dequantize_linear, quant, quantize_linear, relu, round_
from codesign.onnx_rows import flatten, gemm, matmul, unsqueeze
from codesign.onnx_sample import border_deform_conv, bounded_deform_conv, deform_conv, modulated_deform_conv
from codesign.onnx_select import DECISIONS
from codesign.onnx_shapes import reshape, shape, transpose
from codesign.onnx_site import Pattern, Site
from codesign.onnx_spread import add, conv_transpose, depth_to_space
from codesign.onnx_table import ACTIVATIONS, arithmetic_only, either, lookup
from codesign.onnx_values import Refused, Value
from codesign.onnx_varied import varied_conv
from codesign.onnx_views import concat, maxpool, resize, slice_, split

DOMAIN = "codesign"


def same(site: Site) -> Value:
    value = site.input(0)
    assert value is not None
    return value


def dropout(site: Site) -> Value:
    training = site.const(2)
    if training is not None and training.any():
        raise Refused(
            "is in training mode and drops values at random", "Export the network in evaluation mode."
        )
    return same(site)


def refuse(reason: str, remedy: str) -> Callable[[Site], Value]:
    def pattern(site: Site) -> Value:
        raise Refused(reason, remedy)

    return pattern


DECODER = refuse(
    "belongs to decoding, which runs on integers after the network", "Export the raw head outputs."
)
QOPERATOR = refuse(
    "is an integer operator of its own format", "Export as QONNX, or as QuantizeLinear pairs (QCDQ)."
)

PATTERNS: dict[tuple[str, str], Pattern] = {
    **{(domain, name): quant for domain in QONNX_DOMAINS for name in QUANTIZERS},
    **{
        (domain, name): refuse("is no integer quantizer with half-even rounding", "Use Quant with ROUND.")
        for domain in QONNX_DOMAINS
        for name in ("BipolarQuant", "FloatQuant", "Trunc", "MultiThreshold")
    },
    (DOMAIN, "BorderDeformConv"): border_deform_conv,
    (DOMAIN, "BoundedDeformConv"): bounded_deform_conv,
    (DOMAIN, "ChannelMix"): channel_mix,
    (DOMAIN, "MixedConv"): mixed_conv,
    (DOMAIN, "ModulatedDeformConv"): modulated_deform_conv,
    (DOMAIN, "PickOrMix"): pick_or_mix,
    (DOMAIN, "SquareDeformConv"): square_deform_conv,
    (DOMAIN, "VariedConv"): varied_conv,
    **ACTIVATIONS,
    **DECISIONS,
    (DOMAIN, "Lookup"): lookup,
    ("", "Add"): either(add),
    ("", "AveragePool"): average_pool,
    ("", "BatchNormalization"): batch_norm,
    ("", "Clip"): clip,
    ("", "Concat"): concat,
    ("", "Conv"): conv,
    ("", "ConvTranspose"): conv_transpose,
    ("", "DeformConv"): deform_conv,
    ("", "DepthToSpace"): depth_to_space,
    ("", "DequantizeLinear"): dequantize_linear,
    ("", "Div"): either(arithmetic),
    ("", "Dropout"): dropout,
    ("", "Flatten"): flatten,
    ("", "Gemm"): gemm,
    ("", "GlobalAveragePool"): global_average,
    ("", "Identity"): same,
    ("", "MatMul"): matmul,
    ("", "MaxPool"): maxpool,
    ("", "Max"): arithmetic_only,
    ("", "Min"): arithmetic_only,
    ("", "Mul"): either(arithmetic),
    ("", "Pow"): arithmetic_only,
    ("", "QuantizeLinear"): quantize_linear,
    ("", "ReduceMean"): reduce_mean,
    ("", "Relu"): relu,
    ("", "Reshape"): reshape,
    ("", "Resize"): resize,
    ("", "Round"): round_,
    ("", "Shape"): shape,
    ("", "Slice"): slice_,
    ("", "Split"): split,
    ("", "Squeeze"): flatten,
    ("", "Sub"): either(arithmetic),
    ("", "Sum"): either(add),
    ("", "Transpose"): transpose,
    ("", "Unsqueeze"): unsqueeze,
    ("", "Upsample"): resize,
    # Known, and known to have no place here: each with what to do instead.
    ("", "Softmax"): DECODER,
    ("", "TopK"): DECODER,
    ("", "DFT"): refuse(
        "transforms a whole map to frequencies, which are no integers",
        "Leave the band-pass modulation of FDConv out; its kernels of disjoint frequencies are a MixedConv.",
    ),
    ("", "ConvInteger"): QOPERATOR,
    ("", "QLinearConv"): QOPERATOR,
}
