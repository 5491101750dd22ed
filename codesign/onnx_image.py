"""A quantizer for the image of a file that has none. Pixels of 8 bits are codes already, of a scale that the file's
training chose: what the file makes of them stays the same, and can be computed in integers.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from codesign.errors import ModelError
from codesign.onnx_bodies import DOMAINS, QONNX_DOMAIN

QUANT_VERSION = 1


# How a network reads pixels: 0..1, or 0..255 as they are. Others have no whole zero point.
SCALES = {"unit": 1 / 255, "pixels": 1.0}


def with_image_quantizer(model: onnx.ModelProto, pixels: str, where: str) -> onnx.ModelProto:
    """A copy with a Quant of 8 unsigned bits behind the image. `pixels`: a key of SCALES.

    Raises ModelError where there is no image without one.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    stored = {t.name for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in stored]
    readers = [n for n in graph.node if inputs and inputs[0].name in n.input]
    if len(inputs) != 1 or not readers or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        shown = ", ".join(i.name for i in inputs) or "none"
        raise ModelError(
            f"{where}: its inputs are {shown}, expected one image of floats for --pixels. Leave it out."
        )
    image = inputs[0].name
    if all(n.op_type in ("Quant", "BipolarQuant", "QuantizeLinear") for n in readers):
        raise ModelError(
            f"{where}: its image {image!r} is quantized already, expected one that is not for --pixels. Leave it out."
        )
    taken = stored | {name for n in graph.node for name in (n.name, *n.input, *n.output)}
    name = f"{image}.pixels"
    while any(f"{name}{end}" in taken for end in ("", *(f".{what}" for what in ("scale", "zero", "bits")))):
        name += "_"
    for node in readers:
        for i, tensor in enumerate(node.input):
            if tensor == image:
                node.input[i] = name
    values = {"scale": SCALES[pixels], "zero": 0.0, "bits": 8.0}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), f"{name}.{what}")
        for what, value in values.items()
    )
    domain = next((n.domain for n in graph.node if n.domain in DOMAINS), QONNX_DOMAIN)
    if domain not in {o.domain for o in made.opset_import}:
        made.opset_import.append(helper.make_opsetid(domain, QUANT_VERSION))
    quant = helper.make_node(
        "Quant", [image, *(f"{name}.{what}" for what in values)], [name], name, domain=domain, signed=0, narrow=0,
        rounding_mode="ROUND",
    )  # fmt: skip
    graph.node.insert(0, quant)
    return made
