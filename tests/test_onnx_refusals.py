"""Everything the importer refuses, once each, with its whole message; all at once when there are several."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from codesign.errors import ModelError, ModelRefused
from codesign.ir import IntType
from codesign.onnx_io import import_model
from codesign.ops import Concat, MaxPool, Shuffle, Slice, Upsample
from tests.models import Builder
from tests.onnx_models import QONNX, edited, to_onnx


def network():
    """Every operator once: image, stem, pool, left/right, pw, cat, shuffle, up, dw, deform, hm."""
    b = Builder(seed=5)
    x = b.conv("stem", b.input("image", (16, 16, 3)), 8, kernel=3, bits=IntType(8))
    x = b.add("pool", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), x)
    left, right = b.add("left", Slice(0, 4), x), b.add("right", Slice(4, 8), x)
    x = b.add("cat", Concat(), left, b.conv("pw", right, 4))
    x = b.add("up", Upsample(2), b.add("shuffle", Shuffle(2), x))
    x = b.deform("deform", b.dwconv("dw", x))
    b.conv("head", x, 2, bits=IntType(8), result="hm", out=IntType(8))
    return b.graph(["hm"], {"hm": 2.0**-4})


GRAPH = network()
MODELS = {flavour: to_onnx(GRAPH, flavour) for flavour in ("qonnx", "plain", "qcdq")}


def node(model, name):
    return next(n for n in model.graph.node if n.name == name)


def attrs(name, **values):
    """Change attributes of a node."""

    def edit(model):
        n = node(model, name)
        kept = [a for a in n.attribute if a.name not in values]
        del n.attribute[:]
        n.attribute.extend(kept)
        n.attribute.extend(helper.make_attribute(k, v) for k, v in values.items())

    return edit


def value(name, array, dtype=np.float32):
    """Replace an initializer."""

    def edit(model):
        kept = [t for t in model.graph.initializer if t.name != name]
        assert len(kept) == len(model.graph.initializer) - 1, name
        del model.graph.initializer[:]
        model.graph.initializer.extend([*kept, numpy_helper.from_array(np.asarray(array, dtype), name)])

    return edit


def operator(name, op, domain="", **values):
    """Turn a node into another operator."""

    def edit(model):
        n = node(model, name)
        n.op_type, n.domain = op, domain
        del n.attribute[:]
        n.attribute.extend(helper.make_attribute(k, v) for k, v in values.items())

    return edit


def rewire(name, i, tensor):
    """Let a node read another tensor."""

    def edit(model):
        node(model, name).input[i] = tensor

    return edit


def averaged(op, **values):
    """Turn the pooling into an operator that makes sums, with a quantizer behind it."""

    def edit(model):
        operator("pool", op, **values)(model)
        inputs = ["pool", "stem.q.scale", "stem.q.zero", "stem.q.bits"]
        quant = helper.make_node("Quant", inputs, ["pool.q"], "pool.q", domain=QONNX, signed=0)
        model.graph.node.insert([n.name for n in model.graph.node].index("pool") + 1, quant)
        for name in ("left", "right"):
            rewire(name, 0, "pool.q")(model)

    return edit


def before(name, op, i=0, extra=(), **values):
    """Put an operator named `new` before input i of a node."""

    def edit(model):
        position = [n.name for n in model.graph.node].index(name)
        n = model.graph.node[position]
        new = helper.make_node(op, [n.input[i], *extra], ["new"], "new", **values)
        n.input[i] = "new"
        model.graph.node.insert(position, new)

    return edit


def constant(name, array):
    """Add an initializer."""

    def edit(model):
        model.graph.initializer.append(numpy_helper.from_array(array, name))

    return edit


def shape(*dims):
    def edit(model):
        dim = model.graph.input[0].type.tensor_type.shape.dim
        del dim[:]
        for d in dims:
            dim.add(**({"dim_value": d} if isinstance(d, int) else {"dim_param": d}))

    return edit


def both(*edits):
    def edit(model):
        for e in edits:
            e(model)

    return edit


STEM_SCALE = numpy_helper.to_array(
    next(t for t in MODELS["qonnx"].graph.initializer if t.name == "stem.weight.scale")
).astype(np.float64)
WEIGHT = {
    name: numpy_helper.to_array(
        next(t for t in MODELS["qonnx"].graph.initializer if t.name == f"{name}.weight")
    )
    for name in ("stem", "pw", "dw", "deform")
}

# What is wrong: how to make it so. The messages are in golden/test_onnx_refusals.
REFUSALS = {
    # operators
    "unknown": operator("up", "Hardmax"),
    "unknown domain": operator("up", "Magic", "lab"),
    "average pooling": averaged("AveragePool", kernel_shape=[3, 3], ceil_mode=1),
    "edge of an average": averaged("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "average of pairs": averaged("AveragePool", kernel_shape=[3]),
    "average strides": averaged("AveragePool", kernel_shape=[3, 3], strides=[1, 2]),
    "large average": averaged("AveragePool", kernel_shape=[7, 7], strides=[2, 2]),
    "average of channels": averaged("ReduceMean", axes=[1]),
    "batch norm": operator("pool", "BatchNormalization"),
    "norm in training": before("stem.q", "BatchNormalization", training_mode=1),
    "matmul": averaged("MatMul"),
    "flattened": before("up", "Flatten"),
    "quotient": before("stem.q", "Div", extra=("image.q",)),
    "leaky": operator("stem.relu", "LeakyRelu"),
    "softmax": operator("pool", "Softmax"),
    "sum of branches": operator("cat", "Add"),
    "product": operator("cat", "Mul"),
    "binary": operator("stem.q", "BipolarQuant", QONNX),
    # quantizers
    "rounding": attrs("stem.q", rounding_mode="HALF_UP"),
    "zero point": value("stem.q.zero", 3),
    "bits": value("stem.q.bits", 2.5),
    "wide": value("stem.q.bits", 9),
    "scale": value("stem.q.scale", 0.06),
    "scales": value("stem.q.scale", np.ones((1, 8, 1, 1))),
    "negative scale": value("stem.q.scale", -0.5),
    "weight zero point": value("pw.weight.zero", -2),
    "vast factor": value("dw.q.scale", 1e-12),
    "zero weight scale": value("stem.weight.scale", 0 * STEM_SCALE),
    "scale shape": value("stem.weight.scale", np.ones(5)),
    "unsigned weight": attrs("pw.weight.q", signed=0),
    "float weight": rewire("pw", 1, "pw.weight"),
    "requantized": before(
        "left", "Quant", extra=("image.q.scale", "stem.q.zero", "stem.q.bits"), domain=QONNX, signed=0
    ),
    "two input quantizers": both(
        before("left", "Quant", extra=("stem.q.scale", "stem.q.zero", "stem.q.bits"), domain=QONNX, signed=0),
        rewire("new", 0, "image"),
    ),
    "relu of the input": before("image.q", "Relu"),
    "clip of a view": both(
        constant("low", np.float32(1)),
        constant("high", np.float32(2)),
        before("left", "Clip", extra=("low", "high")),
    ),
    "clip between codes": both(
        constant("low", np.float32(0.01)),
        constant("high", np.float32(2)),
        before("pool", "Clip", extra=("low", "high")),
    ),
    "input not quantized": rewire("stem", 0, "image"),
    "missing quantizer": rewire("pool", 0, "stem.relu"),
    "convolution after convolution": rewire("head", 0, "deform"),
    "output not quantized": lambda m: m.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("head.acc", TensorProto.FLOAT, [1, 2, 16, 16])
    ),
    "output twice": lambda m: m.graph.output.append(m.graph.output[0]),
    # convolutions
    "dilation": attrs("stem", dilations=[2, 2]),
    "groups": both(attrs("pw", group=2), value("pw.weight", WEIGHT["pw"][:, :2])),
    "kernel": both(
        value("pw.weight", np.tile(WEIGHT["pw"], (1, 1, 7, 7))),
        attrs("pw", kernel_shape=[7, 7], pads=[3, 3, 3, 3]),
    ),
    "kernel_shape": attrs("pw", kernel_shape=[3, 3]),
    "strides": attrs("stem", strides=[5, 5]),
    "depthwise stride": attrs("dw", strides=[5, 5]),
    "uneven strides": attrs("stem", strides=[1, 2]),
    "pads": attrs("stem", pads=[2, 1, 1, 1]),
    "auto_pad": attrs("stem", auto_pad="SAME"),
    "channels": value("pw.weight", np.tile(WEIGHT["pw"], (1, 2, 1, 1))),
    # deformable
    "bound": attrs("deform", max_offset=9),
    "deform pads": attrs("deform", pads=[0, 0, 0, 0]),
    "deform groups": attrs("deform", group=1),
    # views
    "pool kernel": attrs("pool", kernel_shape=[4, 4], pads=[0, 0, 0, 0]),
    "pool stride": attrs("pool", strides=[5, 5]),
    "pool ceil": attrs("pool", ceil_mode=1, strides=[4, 4]),
    "pool dilation": attrs("pool", dilations=[2, 2]),
    "bilinear": attrs("up", mode="linear"),
    "factor": value("upsample", [1, 1, 2, 3]),
    "sampling": attrs("up", nearest_mode="ceil"),
    "concat scales": value("pw.q.scale", 0.25),
    "concat signs": attrs("pw.q", signed=1),
    "concat axis": attrs("cat", axis=2),
    "slice step": both(
        constant("int2", np.array([2])), before("left", "Slice", extra=("int0", "int4", "int1", "int2"))
    ),
    "slice axis": both(
        constant("int2", np.array([2])), before("left", "Slice", extra=("int0", "int4", "int2", "int1"))
    ),
    "transpose": attrs("shuffle.b", perm=[0, 1, 2, 4, 3]),
    "reshape": value("shuffle.split", [0, 2, 2, 16, 8], np.int64),
    "half a shuffle": rewire("up", 0, "shuffle.b"),
    "batch moved": value("shuffle.split", [2, 4, 8, 8], np.int64),
    "computed shape": rewire("shuffle.a", 1, "image.q"),
    "vast constant": both(
        constant("vast", np.array([2**40, 2**20])),
        lambda m: m.graph.node.insert(0, helper.make_node("ConstantOfShape", ["vast"], ["zeros"], "zeros")),
        rewire("pw", 1, "zeros"),
    ),
    # inputs
    "dynamic size": shape(1, 3, "H", "W"),
    "axes": shape(3, 16, 16),
    "bytes": lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.UINT8),
    "undefined": rewire("up", 0, "nowhere"),
}
PLAIN = {
    "free offsets": rewire("deform", 2, "stem.q"),
    "other template": value("template", np.ones((1, 18, 1, 1))),
    "no minus one": value("one", 0),
    "template shape": value("template", np.ones((1, 2, 9, 1))),
    "offset bits": value("deform.offset.q.bits", 4),
    "offset sign": attrs("deform.offset.q", signed=1),
    "offset groups": attrs("deform", offset_group=2),
    "mask": lambda m: node(m, "deform").input.extend(["", "deform.offset.q"]),
    "offset scale": value("deform.offset.q.scale", 0.5),
}
QCDQ = {
    "weight zero point": value("pw.weight.zero", [1, 0, 0, 0], np.int8),
    "activation zero point": value("dw.q.zero", 128, np.uint8),
    "no scale again": rewire("deform.offset", 0, "dw.q.codes"),
    "two scales": both(constant("other", np.float32(0.5)), rewire("dw.q", 1, "other")),
    "clip": value("deform.offset.q.lo", 9, np.uint8),
}
CASES = {"qonnx": REFUSALS, "plain": PLAIN, "qcdq": QCDQ}


def message(flavour, edit):
    with pytest.raises(ModelRefused) as caught:
        import_model(edited(MODELS[flavour], edit))
    return str(caught.value)


@pytest.mark.parametrize("flavour", CASES)
def test_each_refusal_says_where_why_and_what_to_do(flavour, golden):
    sections = []
    for name, edit in CASES[flavour].items():
        first, *lines = message(flavour, edit).splitlines()
        assert first == "network: 1 part cannot be compiled." and len(lines) == 1, (name, lines)
        assert re.fullmatch(r"  \w+ '[\w.]+': .+\. [A-Z].+\.", lines[0]), lines[0]
        sections.append(f"{name}\n{lines[0]}\n")
    golden("\n".join(sections))


def test_every_problem_is_reported_at_once_and_what_depends_on_it_is_silent():
    edits = both(
        averaged("AveragePool", kernel_shape=[3, 3], ceil_mode=1),
        attrs("stem", dilations=[2, 2], strides=[5, 5], group=3),
        value("deform.weight.zero", 1),
    )
    message = """network: 6 parts cannot be compiled.
  Conv 'stem': has 3 groups with 3 input and 8 output channels, expected 1 group or depthwise. Use a dense or a \
depthwise convolution.
  Conv 'stem': has dilations [2, 2], expected 1. Use a square deformable convolution, or no dilation.
  Conv 'stem': has strides 5,5, expected 1, 2, 3 or 4 on both axes. Use such a stride.
  AveragePool 'pool': has ceil_mode 1, expected 0. Use ceil_mode=False.
  Softmax 'extra': belongs to decoding, which runs on integers after the network. Export the raw head outputs.
  Quant 'deform.weight.q': has zero point 1, expected 0. Quantize symmetrically, with zero point 0."""

    def edit(model):
        edits(model)
        pool = helper.make_node("Softmax", ["image.q"], ["extra"], "extra")
        model.graph.node.insert([n.name for n in model.graph.node].index("cat"), pool)
        node(model, "cat").input.append("extra")

    with pytest.raises(ModelRefused) as caught:
        import_model(edited(MODELS["qonnx"], edit))
    assert str(caught.value) == message


def problems(model):
    try:
        import_model(model)
    except ModelRefused as error:
        return [str(problem) for problem in error.problems]
    return []


def test_nodes_behind_a_refused_one_are_judged_too():
    def edit(model):
        chain = [helper.make_node("Resize", ["up" if i == 0 else f"up{i}", "", "upsample"], [f"up{i + 1}"],
                                  f"up{i + 1}", mode="linear") for i in range(3)]  # fmt: skip
        chain.append(helper.make_node("Softmax", ["up3"], ["soft"], "soft"))
        at = [n.name for n in model.graph.node].index("dw")
        model.graph.node.insert(at, chain[3])
        for n in chain[2::-1]:
            model.graph.node.insert(at, n)
        rewire("dw", 0, "soft")(model)
        attrs("dw", dilations=[2, 2])(model)
        attrs("head", strides=[5, 5])(model)

    found = problems(edited(MODELS["qonnx"], edit))
    assert [text.partition(":")[0] for text in found] == [
        "Resize 'up1'", "Resize 'up2'", "Resize 'up3'", "Softmax 'soft'", "Conv 'dw'", "Conv 'head'",
    ]  # fmt: skip
    linear = "has mode linear, expected nearest. Upsample with mode nearest."
    assert [text.partition(": ")[2] for text in found[:3]] == [linear] * 3


# Of a map whose shape is not known: how much of an axis is cut, what a reshape means, how many channels there are, how
# large sums become.
# Behind a softmax nothing says any more that there are codes, or of which scale.
SIZES = {
    "slice axis",
    "reshape",
    "channels",
    "matmul",
    "pool ceil",
    "flattened",
    "vast factor",
}
HIDDEN = {
    "dilation": SIZES,
    "dynamic size": SIZES,
    "leaky": SIZES | {"missing quantizer"},
    "softmax": {"slice axis", "reshape", "channels", "scale", "vast factor", "concat scales", "concat signs",
                "flattened", "requantized", "clip of a view", "half a shuffle"},
}  # fmt: skip


@pytest.mark.parametrize("first", HIDDEN)
def test_a_refusal_hides_no_other_and_adds_none(first):
    alone = {name: problems(edited(MODELS["qonnx"], edit)) for name, edit in REFUSALS.items()}
    (mine,) = alone[first]
    for name, (other,) in alone.items():
        if mine.split(":")[0].split()[-1] == other.split(":")[0].split()[-1]:
            continue  # two edits of one node are not two problems
        if name == "undefined":
            continue  # then no output depends on the other node
        found = set(problems(edited(MODELS["qonnx"], both(REFUSALS[first], REFUSALS[name]))))
        if (first, name) == ("softmax", "requantized"):  # its scale reaches the concat instead
            assert len(found) == 2 and "joins maps of scales 2^-7, 2^-4" in max(found - {mine})
        else:
            assert found == ({mine} if name in HIDDEN[first] else {mine, other}), name


def test_a_pair_of_linear_nodes_around_a_refused_quantizer_adds_nothing():
    """Its DequantizeLinear shares the zero point, and the convolution behind has sums of unknown scale."""
    (only,) = problems(edited(MODELS["qcdq"], QCDQ["activation zero point"]))
    assert only.startswith("QuantizeLinear 'dw.q.codes'")


def test_parameters_of_a_refused_weight_are_judged():
    edit = both(value("stem.weight.zero", 1), attrs("stem", dilations=[2, 2], group=3))
    assert [text.partition(":")[0] for text in problems(edited(MODELS["qonnx"], edit))] == [
        "Quant 'stem.weight.q'", "Conv 'stem'", "Conv 'stem'",
    ]  # fmt: skip


def test_two_quantizers_of_one_convolution():
    def edit(model):
        names = [n.name for n in model.graph.node]
        n = helper.make_node(
            "Quant", ["stem.relu", "image.q.scale", "stem.q.zero", "stem.q.bits"], ["new"], "new", domain=QONNX,
            signed=0, narrow=0, rounding_mode="ROUND",
        )  # fmt: skip
        model.graph.node.insert(names.index("left"), n)
        node(model, "left").input[0] = "new"

    with pytest.raises(ModelRefused) as caught:
        import_model(edited(MODELS["qonnx"], edit))
    assert (
        "Slice 'left': Conv 'stem' is quantized in two ways. Use one quantizer for all readers of a convolution."
        in (str(caught.value))
    )


def test_accumulators_beyond_32_bits_are_refused():
    def edit(model):
        codes = GRAPH.consts["pw.bias"].astype(np.float64) * 0 + (2**31 - 1)
        scale = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "pw.bias.scale"))
        value("pw.bias", codes * scale)(model)

    with pytest.raises(ModelError, match=r"^network: pw\.q: accumulator and bias need 33 bits, expected at most 32\. "
                       r"Use fewer input channels or narrower weights\.$"):  # fmt: skip
        import_model(edited(MODELS["qonnx"], edit))


def test_outputs_that_depend_on_nothing_are_refused():
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 20]>
        g (float[1,3,4,4] x) => (float[1] y) {y = Constant<value_floats=[1.0]>()}"""
    )
    with pytest.raises(ModelRefused, match="output 'y': is not quantized"):
        import_model(model)
