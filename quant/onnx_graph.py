"""Passes over an exported ONNX graph, in the order `quant.export` calls them. All change the model in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from quant.deform import TAPS
from quant.onnx_ops import OWN_DOMAIN

Values = dict[str, NDArray]


def attribute(node: NodeProto, name: str, default: object = None) -> object:
    for a in node.attribute:
        if a.name == name:
            return helper.get_attribute_value(a)
    return default


def initializers(model: onnx.ModelProto) -> Values:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def replace_nodes(model: onnx.ModelProto, nodes: list[NodeProto]) -> None:
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def set_initializers(model: onnx.ModelProto, values: Values) -> None:
    """Keep those that a node reads, in the order of first use."""
    used = dict.fromkeys(name for n in model.graph.node for name in n.input if name in values)
    del model.graph.initializer[:]
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(values[k]), k) for k in used)


def fold_constants(model: onnx.ModelProto) -> None:
    """Compute every standard node whose inputs are all known, in one walk. Quant nodes stay: they carry types."""
    values = initializers(model)
    alias: dict[str, str] = {}
    kept: list[NodeProto] = []
    outputs = {o.name for o in model.graph.output}
    for node in model.graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = alias.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            alias[node.output[0]] = node.input[0]
        elif node.op_type == "Constant" or (
            node.domain == "" and node.input and all(not i or i in values for i in node.input)
        ):
            feeds = {i: values[i] for i in node.input if i}
            results = ReferenceEvaluator(node).run(None, feeds)  # type: ignore[arg-type]
            values.update(zip(node.output, map(np.asarray, results), strict=True))
        else:
            kept.append(node)
    replace_nodes(model, kept)
    set_initializers(model, values)


_PROXIES = {"weight_quant": "weight", "bias_quant": "bias", "act_quant": "", "export_handler": ""}
_PROXIES |= {"activation_impl": ""}


def module_path(scope: str, modules: Collection[str] = ()) -> str:
    """Module name of a traced node: /stages/stages.0/stages.0.1/dw/conv/Conv -> stages.0.1.dw.conv.

    Containers that are never called leave no trace of themselves; `modules` (all names) completes such a path.
    """
    parts: list[str] = []
    for part in scope.strip("/").split("/")[:-1]:
        part = _PROXIES.get(part, part)
        if parts and part.startswith(parts[-1] + "."):
            parts[-1] = part
        elif part:
            parts.append(part)
    path = ".".join(parts)
    for k in range(len(parts), 0, -1):  # proxies' parts (weight, bias) are no modules: try shorter paths too
        ends = [m for m in modules if m == ".".join(parts[:k]) or m.endswith("." + ".".join(parts[:k]))]
        if len(ends) == 1:
            return ".".join([ends[0], *parts[k:]])
    return path


def _node_names(model: onnx.ModelProto, modules: Collection[str]) -> Iterator[tuple[NodeProto, str]]:
    count: Counter[str] = Counter()
    for node in model.graph.node:
        path = module_path(node.name, modules)
        name = path if "Conv" in node.op_type else ".".join(filter(None, (path, node.op_type.lower())))
        count[name] += 1
        yield node, name if count[name] == 1 else f"{name}_{count[name] - 1}"


def name_after_modules(model: onnx.ModelProto, modules: Collection[str]) -> None:
    """Nodes take the names of their modules, tensors those of the nodes they come from or go to.

    A convolution is called as its module (`stages.0.1.branch2.0.conv`); others append the operator
    (`stem.conv.act.relu`, `stem.conv.conv.weight.quant`). The exporter shares equal parameters between layers;
    here each layer gets its own again, so that a name says what it belongs to.
    """
    values = initializers(model)
    fixed = {v.name for v in (*model.graph.input, *model.graph.output)}
    renamed: dict[str, str] = {}
    own: Values = {}
    for node, name in _node_names(model, modules):
        node.name = name
        for k, old in enumerate(node.input):
            if old not in values:
                node.input[k] = renamed.get(old, old)
                continue
            value = values[old]
            if node.op_type == "Quant":
                base = name.removesuffix(".quant")
                new = (base, f"{base}.scale", "zero", f"bits.{int(value.flat[0])}")[k]
            else:
                new = f"{name}.input_{k}"
            own[new] = value
            node.input[k] = new
        for k, old in enumerate(node.output):
            if old not in fixed:
                renamed[old] = name if k == 0 else f"{name}.output_{k}"
                node.output[k] = renamed[old]
    set_initializers(model, own)
    del model.graph.value_info[:]


def quant_range(node: NodeProto, bits: int) -> tuple[int, int]:
    signed, narrow = int(attribute(node, "signed", 1)), int(attribute(node, "narrow", 0))  # type: ignore
    if signed:
        return -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - narrow


def quant_codes(node: NodeProto, values: Values) -> NDArray:
    """Integer codes (float64) of a Quant node on an initializer."""
    x, scale, bits = values[node.input[0]], values[node.input[1]], values[node.input[3]]
    lo, hi = quant_range(node, int(bits.flat[0]))
    return np.clip(np.rint(x / scale).astype(np.float64), lo, hi)


def settle_parameters(model: onnx.ModelProto) -> None:
    """Replace parameters by the values their Quant nodes make of them: nothing is left to round when read."""
    values = initializers(model)
    for node in model.graph.node:
        if node.op_type == "Quant" and node.input[0] in values:
            scale = values[node.input[1]]
            values[node.input[0]] = (quant_codes(node, values) * scale).astype(np.float32)
    set_initializers(model, values)


def accumulator_bounds(model: onnx.ModelProto) -> dict[str, int]:
    """For every convolution a bound of |sum of code products + bias| times the scale's mantissa.

    Float32 computes a convolution of integers exactly, in any order of summation, while this is below 2^24.
    """
    values = initializers(model)
    producer = {o: n for n in model.graph.node for o in n.output}
    bounds: dict[str, int] = {}

    def quantizer(name: str) -> NodeProto:
        """What made the codes behind a tensor, through operators that only move values."""
        node = producer[name]
        while node.op_type != "Quant":
            node = producer[node.input[0]]
        return node

    def largest(quant: NodeProto) -> int:
        """Magnitude of its codes."""
        return max(map(abs, quant_range(quant, int(values[quant.input[3]].flat[0]))))

    for node in model.graph.node:
        if not node.op_type.endswith("Conv"):
            continue
        weight, read = producer[node.input[1]], quantizer(node.input[0])
        codes = np.abs(quant_codes(weight, values))
        if node.op_type == "MixedConv":
            gates = quantizer(node.input[2])
            mixed, step = _mixed(node, codes, values, weight, gates, largest(gates))
            total = mixed * largest(read) + np.abs(values[node.input[4]] / (step * values[read.input[1]]))
            bounds[node.name] = int(total.max())
            continue
        if node.op_type == "VariedConv":  # (C,9,H,W): the pixel with the largest weights
            codes = codes.sum(1).max((1, 2))
        else:
            codes = codes.reshape(codes.shape[0], -1).sum(1)
        total = codes * largest(read) * _finer(node)
        if node.op_type == "Conv" and len(node.input) > 2:
            total = total + np.abs(quant_codes(producer[node.input[2]], values))
        mantissa, _ = np.frexp(values[weight.input[1]].reshape(-1).astype(np.float64))
        while np.any(mantissa != np.rint(mantissa)):
            mantissa = np.where(mantissa == np.rint(mantissa), mantissa, mantissa * 2)
        bounds[node.name] = int((total * mantissa).max())
    return bounds


def _mixed(
    node: NodeProto, bank: NDArray, values: Values, weight: NodeProto, gates: NodeProto, most_gate: int
) -> tuple[NDArray, NDArray]:
    """For each output channel of a mixed convolution a bound of the sum of |mixed codes|, and their step.

    `bank`: magnitudes of the codes of its kernels.
    """
    experts, bits = (int(attribute(node, name)) for name in ("experts", "bits"))  # type: ignore[call-overload]
    step = values[node.input[3]].astype(np.float64).reshape(-1)
    finer = values[weight.input[1]].reshape(-1) * values[gates.input[1]] / step
    sums = bank.reshape(len(bank), experts, -1).sum(1) * most_gate
    return np.minimum(np.rint(sums * finer[:, None]), 2 ** (bits - 1) - 1).sum(1), step


def _finer(node: NodeProto) -> int:
    """How many times larger codes are behind a bounded deformable node: four neighbours in steps, and a mask."""
    bits = int(attribute(node, "fraction_bits", 0))  # type: ignore[call-overload]
    low, high = (int(attribute(node, f"mask_{end}", 0)) for end in ("low", "high"))  # type: ignore[call-overload]
    largest: int = max(abs(low), abs(high)) or 1
    return largest << 2 * bits


def to_qcdq(model: onnx.ModelProto) -> None:
    """Rewrite QONNX as QuantizeLinear / Clip / DequantizeLinear with integer parameters, standard operators only.

    Offsets of a square deformable convolution become QuantizeLinear at scale 1 and a Clip to 0..max_offset, bounded
    ones QuantizeLinear in their steps and a Clip to both sides.
    """
    values = initializers(model)
    nodes: list[NodeProto] = []

    def constant(name: str, value: NDArray) -> str:
        values[name] = value
        return name

    def quantize(x: str, name: str, scale: NDArray, lo: int, hi: int, out: str) -> None:
        kind, dtype = ("i8", np.int8) if lo < 0 else ("u8", np.uint8)
        s = constant(f"{name}.scale", np.asarray(scale, np.float32).reshape(()))
        zero = constant(f"zero.{kind}", np.zeros((), dtype))
        code = f"{name}.code"
        nodes.append(helper.make_node("QuantizeLinear", [x, s, zero], [code], name=f"{name}.quantize"))
        if (lo, hi) != (np.iinfo(dtype).min, np.iinfo(dtype).max):
            ends = [constant(f"code.{kind}.{v}", np.asarray(v, dtype)) for v in (lo, hi)]
            nodes.append(helper.make_node("Clip", [code, *ends], [f"{code}.clipped"], name=f"{name}.clip"))
            code = f"{code}.clipped"
        nodes.append(helper.make_node("DequantizeLinear", [code, s, zero], [out], name=f"{name}.dequantize"))

    for node in model.graph.node:
        if node.op_type == "Quant" and node.input[0] in values:
            bits, scale = int(values[node.input[3]].flat[0]), values[node.input[1]]
            dtype = np.int8 if bits <= 8 else np.int32
            param = constant(node.input[0], quant_codes(node, values).astype(dtype))
            s = constant(node.input[1], scale.reshape(-1) if scale.size > 1 else scale.reshape(()))
            zero = constant(f"{node.name}.zero", np.zeros(values[s].shape, dtype))
            nodes.append(
                helper.make_node(
                    "DequantizeLinear", [param, s, zero], [node.output[0]], name=node.name, axis=0
                )
            )
        elif node.op_type == "Quant":
            lo, hi = quant_range(node, int(values[node.input[3]].flat[0]))
            quantize(node.input[0], node.name, values[node.input[1]], lo, hi, node.output[0])
        elif node.op_type == "BoundedDeformConv":
            x, w, p = node.input
            bound, bits = (int(attribute(node, k)) for k in ("max_offset", "fraction_bits"))  # type: ignore[call-overload]
            most, base = bound << bits, node.name
            quantize(p, f"{base}.offset", np.asarray(2.0**-bits), -most, most, f"{base}.used")
            keep = [a for a in node.attribute if a.name not in ("max_offset", "fraction_bits")]
            deform = helper.make_node("DeformConv", [x, w, f"{base}.used"], node.output, name=base)
            deform.attribute.extend(keep)
            nodes.append(deform)
        elif node.domain == OWN_DOMAIN:
            x, w, d = node.input
            bound = int(attribute(node, "max_offset"))  # type: ignore[call-overload]
            base = node.name
            quantize(d, f"{base}.offset", np.ones(()), 0, bound, f"{base}.used")
            one = constant("one", np.ones((), np.float32))
            template = np.array(TAPS, np.float32).reshape(1, 18, 1, 1)
            taps = constant("template", template)
            nodes.append(helper.make_node("Sub", [f"{base}.used", one], [f"{base}.away"], name=f"{base}.sub"))
            nodes.append(
                helper.make_node("Mul", [f"{base}.away", taps], [f"{base}.offsets"], name=f"{base}.mul")
            )
            keep = [a for a in node.attribute if a.name != "max_offset"]
            deform = helper.make_node("DeformConv", [x, w, f"{base}.offsets"], node.output, name=base)
            deform.attribute.extend(keep)
            nodes.append(deform)
        else:
            nodes.append(node)
    replace_nodes(model, nodes)
    set_initializers(model, values)
