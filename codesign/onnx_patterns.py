"""The one table of what an ONNX node may be. To support another: a function from Site, and a line in PATTERNS."""

from __future__ import annotations

from collections.abc import Callable

from codesign.onnx_conv import conv
from codesign.onnx_deform import deform_conv, offset_arithmetic, square_deform_conv
from codesign.onnx_quant import clip, dequantize_linear, quant, quantize_linear, relu, round_
from codesign.onnx_site import Pattern, Site
from codesign.onnx_spread import add, conv_transpose, depth_to_space
from codesign.onnx_values import Refused, Value
from codesign.onnx_views import concat, maxpool, reshape, resize, shape, slice_, split, transpose

DOMAIN = "codesign"
QONNX_DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")


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
    ("", "ConvTranspose"): conv_transpose,
    ("", "DeformConv"): deform_conv,
    ("", "DepthToSpace"): depth_to_space,
    ("", "DequantizeLinear"): dequantize_linear,
    ("", "Dropout"): dropout,
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
    ("", "Sum"): add,
    ("", "Sub"): offset_arithmetic,
    ("", "Transpose"): transpose,
    # Known, and known to have no place here: each with what to do instead.
    ("", "AveragePool"): AVERAGE,
    ("", "BatchNormalization"): refuse("is a batch normalization", "Fold it into the convolution before it."),
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
