"""Import of nodes whose factors the network computes: what becomes of them, and every refusal with its message."""

from fractions import Fraction

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from codesign.errors import ModelRefused
from codesign.ir import IntType, evaluate
from codesign.onnx_io import import_model
from codesign.ops import GlobalSum, Mix, MixedConv, Pick, WideRequant
from codesign.ops.requant import round_half_even
from tests.onnx_models import OWN, QONNX, edited

RNG = np.random.default_rng(0)
KERNELS = RNG.integers(
    -127, 128, (3, 8, 1, 1)
)  # three results of two kernels beside each other, of four channels each
STEPS = np.array([2.0**-6, 2.0**-5, 2.0**-6])  # of the kernels
MIXED = STEPS * 2.0**4  # of what is mixed of them
BIAS = np.array([5, -3, 100])


def network(op, inputs, outputs, size=8, **attrs):
    """image -> x: four channels u8 in steps of 2^-4; their means r, u8 in steps of 2^-5; the node; its quantizer."""
    values = {
        "w": RNG.integers(-7, 8, (4, 3, 1, 1)) * 2.0**-3, "kernels": KERNELS * STEPS[:, None, None, None],
        "kernels.scale": STEPS[:, None, None, None], "mixed": MIXED[:, None, None, None],
        "bias": BIAS * MIXED * 2.0**-4, "zero": 0, "four": 4, "eight": 8,
    }  # fmt: skip
    tensors = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in values.items()]
    tensors += [numpy_helper.from_array(np.array([v], np.int64), f"i{v}") for v in (0, 1, 2)]

    def quant(x, y, step, bits="eight", signed=0, narrow=0):
        if f"{y}.step" not in values:
            tensors.append(numpy_helper.from_array(np.float32(step), f"{y}.step"))
            step = f"{y}.step"
        names = {"signed": signed, "narrow": narrow, "rounding_mode": "ROUND"}
        return helper.make_node("Quant", [x, step, "zero", bits], [y], y, domain=QONNX, **names)

    nodes = [
        quant("image", "codes", 2.0**-7, signed=1),
        quant("w", "w.q", 2.0**-3, "four", 1),
        helper.make_node("Conv", ["codes", "w.q"], ["sums"], "stem"),
        helper.make_node("Relu", ["sums"], ["positive"], "relu"),
        quant("positive", "x", 2.0**-4),
        helper.make_node("GlobalAveragePool", ["x"], ["mean"], "mean"),
        quant("mean", "r", 2.0**-5),
        helper.make_node("Slice", ["r", "i0", "i2", "i1", "i1"], ["half"], "half"),
        helper.make_node(
            "Quant", ["kernels", "kernels.scale", "zero", "eight"], ["kernels.q"], "kernels.q", domain=QONNX,
            signed=1, narrow=1, rounding_mode="ROUND",
        ),
        helper.make_node(op, inputs, ["result"], "node", domain="" if op in ("Mul", "DFT") else OWN, **attrs),
        quant("result", "y", 2.0**-4, signed=1),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, outputs, size, size])],
        tensors,
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(QONNX, 2), helper.make_opsetid(OWN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


GATED = network("Mul", ["r", "x"], 4)
CHANNELS = network("ChannelMix", ["x", "r"], 2, parts=2)
PICK = network("PickOrMix", ["x", "half"], 2, parts=2, threshold=0.3)
CONV = network(
    "MixedConv", ["x", "kernels.q", "half", "mixed", "bias"], 3, kernel_shape=[1, 1], strides=[1, 1], pads=[0] * 4,
    experts=2, bits=5,
)  # fmt: skip


def computed(model):
    """The node, and the values around it, on random images."""
    graph = import_model(model)
    size = graph.inputs["image"].shape[0]
    codes = RNG.integers(-128, 128, (2, size, size, 3))
    codes[1] //= 4
    values = evaluate(graph, {"image": codes}, keep=graph.types())
    (node,) = [n for n in graph.nodes if isinstance(n.op, (Mix, MixedConv, Pick))]
    y = (values["y"] * graph.scales["y"]).astype(np.float64)
    x, r = values[node.inputs[0]] * 2.0**-4, values[node.inputs[1]] * 2.0**-5
    assert len(np.unique(r)) > 2
    return graph, node, x, r, y


def rounded(real):
    return np.rint(real * 2.0**4).clip(-128, 127) * 2.0**-4


@pytest.mark.parametrize("model", [GATED, network("Mul", ["x", "r"], 4)], ids=["gates first", "map first"])
def test_a_map_times_its_gates(model):
    graph, node, x, r, y = computed(model)
    assert node.op == Mix(1) and [n.op for n in graph.nodes if isinstance(n.op, GlobalSum)] == [
        GlobalSum((8, 8))
    ]
    np.testing.assert_array_equal(y, rounded(x * r))


def test_maps_times_their_gates():
    _, node, x, r, y = computed(CHANNELS)
    assert node.op == Mix(2)
    np.testing.assert_array_equal(y, rounded(x[..., :2] * r[..., :2] + x[..., 2:] * r[..., 2:]))


@pytest.mark.parametrize(("threshold", "code"), [(0.3, 10), (0.3125, 10), (0.0, 0), (-1.0, 0), (9.0, 256)])
def test_sets_of_channels(threshold, code):
    _, node, x, r, y = computed(network("PickOrMix", ["x", "half"], 2, parts=2, threshold=threshold))
    assert node.op == Pick(2, code)
    sets = x.reshape(*x.shape[:3], 2, 2)
    np.testing.assert_array_equal(y, rounded(np.where(r < threshold, sets.max(3), sets.mean(3)) * r))


def test_mixed_kernels():
    graph, node, x, r, y = computed(CONV)
    assert node.op == MixedConv(bits=5)
    bank, shift = (graph.consts[name] for name in node.inputs[2:])
    assert bank.shape == (2, 1, 1, 4, 3) and shift.tolist() == [9, 9, 9]
    for n in range(2):
        sums = np.einsum("k,okc->oc", r[n, 0, 0] * 32, KERNELS.reshape(3, 2, 4)).astype(np.int64)
        weights = round_half_even(sums, np.array(9)).clip(-15, 15) * MIXED[:, None]
        np.testing.assert_array_equal(y[n], rounded(x[n] @ weights.T + BIAS * MIXED * 2.0**-4))


@pytest.mark.parametrize("size", [6, 7, 12])
def test_means_of_any_area_are_exact(size):
    """No multiplier of 8 bits divides by 36, 49 or 144 closely enough; a wide one does, halves to even."""
    graph = import_model(network("Mul", ["x", "r"], 4, size=size))
    (mean,) = (n for n in graph.nodes if isinstance(n.op, WideRequant))
    sums = np.arange(255 * size * size + 1)[:, None]
    tables = [graph.consts[s][:1] for s in mean.inputs[1:]]
    wanted = [min(255, round(Fraction(2 * int(a), size * size))) for a in sums[:, 0]]
    assert mean.op.run(sums, *tables)[:, 0].tolist() == wanted


def node_of(model, name):
    return next(n for n in model.graph.node if n.name == name)


def attrs(name="node", **values):
    def edit(model):
        node = node_of(model, name)
        kept = [a for a in node.attribute if a.name not in values]
        del node.attribute[:]
        node.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in values.items())])

    return edit


def rewire(i, tensor):
    def edit(model):
        node_of(model, "node").input[i] = tensor

    return edit


def value(name, array):
    def edit(model):
        (tensor,) = [t for t in model.graph.initializer if t.name == name]
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(array, np.float32), name))

    return edit


TWICE = "The file contradicts itself: export it again."
REFUSALS = [
    (CHANNELS, attrs("r", signed=1), "has gates of i8, expected at most u8. Quantize gates without sign, to 8 bits: "
     "those of a sigmoid in steps of 2^-8."),
    (GATED, attrs("r", signed=1), "has gates of i8, expected at most u8. Quantize gates without sign, to 8 bits: "
     "those of a sigmoid in steps of 2^-8."),
    (CHANNELS, rewire(1, "mean"), "its input comes from GlobalAveragePool 'mean' without a quantizer between. Add an "
     "activation quantizer after GlobalAveragePool 'mean'."),
    (CHANNELS, rewire(1, "half"), "has gates of [2,1,1], expected [4,1,1]. Give it one gate for each, of the whole "
     "map."),
    (CHANNELS, attrs(parts=3), f"has 4 channels in 3 parts. {TWICE}"),
    (PICK, attrs(parts=3), "has sets of 3 channels, expected 2, 4, 8, 16. Use such sets."),
    (PICK, attrs(parts=8), f"has 4 channels in sets of 8. {TWICE}"),
    (PICK, rewire(1, "r"), "has gates of [4,1,1], expected [2,1,1]. Give it one gate for each, of the whole map."),
    (CONV, attrs(experts=9), "mixes 9 kernels, expected at most 8. Use fewer kernels."),
    (CONV, attrs(experts=4), f"has 4 kernels of 8 channels for 4. {TWICE}"),
    (CONV, rewire(2, "r"), "has gates of [4,1,1], expected [2,1,1]. Give it one gate for each, of the whole map."),
    (CONV, attrs(bits=9), "has mixed weights of 9 bits, expected 2 to 8. Round them to 4 or 8 bits."),
    (CONV, attrs(strides=[2, 1]), "has strides 2,1, expected 1, 2, 3 or 4 on both axes. Use such a stride."),
    (CONV, value("mixed", np.reshape(MIXED * [1, 3, 1], (3, 1, 1, 1))), "rounds sums of kernels to 1536 of their steps "
     "(channel 1), expected a power of two from 1 to 2^24. Use scales that are powers of two."),
    (CONV, value("mixed", np.reshape(MIXED * 2.0**-10, (3, 1, 1, 1))), "rounds sums of kernels to 0.5 of their steps "
     "(channel 0), expected a power of two from 1 to 2^24. Use scales that are powers of two."),
    (CONV, value("mixed", MIXED), "its step of mixed weights is no constant of one number per output channel. "
     + TWICE),
    (CONV, rewire(1, "kernels"), "its weight is not quantized. Put a Quant of at most 8 bits behind the weight."),
    (CONV, rewire(4, "x"), "its bias is computed while the network runs. Use a constant bias."),
    (network("DFT", ["x"], 4), lambda model: None, "transforms a whole map to frequencies, which are no integers. "
     "Leave the band-pass modulation of FDConv out; its kernels of disjoint frequencies are a MixedConv."),
    (network("Mul", ["x", "x"], 4), rewire(1, "codes"), "is element-wise arithmetic on feature maps. Leave it out, or "
     "fold it into a convolution."),
]  # fmt: skip


@pytest.mark.parametrize(("model", "edit", "message"), REFUSALS, ids=range(len(REFUSALS)))
def test_each_refusal(model, edit, message):
    changed = edited(model, edit)
    with pytest.raises(ModelRefused) as caught:
        import_model(changed)
    (only,) = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert only == f"{node_of(changed, 'node').op_type} 'node': {message}"


def test_kernels_have_sides_of_at_most_five():
    def edit(model):
        value("kernels", np.ones((3, 8, 7, 7)))(model)
        attrs(kernel_shape=[7, 7], pads=[3] * 4)(model)

    with pytest.raises(ModelRefused, match="has a 7x7 kernel, expected at most 5x5. Use such a kernel."):
        import_model(edited(CONV, edit))


def test_all_at_once():
    def edit(model):
        attrs(experts=2, bits=1, strides=[5, 5])(model)
        attrs("r", signed=1)(model)

    with pytest.raises(ModelRefused) as caught:
        import_model(edited(CONV, edit))
    assert len(caught.value.problems) == 3


def test_types_of_what_is_made():
    """The bank is of bytes, gates have no sign."""
    graph, node, *_ = computed(CONV)
    types = graph.types()
    assert types[node.inputs[2]].elem == IntType(8) and not types[node.inputs[1]].elem.signed
