"""Factors that are none of the accelerator's, matrix products and means: the very codes of the file, or refused."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from codesign.errors import ModelRefused
from codesign.ir import evaluate
from codesign.onnx_bodies import runnable
from codesign.onnx_io import import_model, quant_points
from codesign.onnx_requant import search
from codesign.ops import Requant, WideRequant
from codesign.ops.requant import round_half_even
from codesign.rungs import OnnxSession
from codesign.stairs import Stairs
from tests.engine.engines import assert_equal, simulate
from tests.models import random_feeds
from tests.onnx_models import nchw, run_onnx
from tests.test_onnx_spread import File

FRACTIONS = st.fractions(min_value=Fraction(-2), max_value=Fraction(2), max_denominator=5000)


@settings(max_examples=300)
@given(FRACTIONS, FRACTIONS, st.sampled_from([(0, 3), (0, 15), (-8, 7), (-128, 127)]), st.integers(1, 900))
def test_what_is_found_is_equal_for_every_sum(ratio, term, limits, reach):
    lo, hi = limits
    found = search(Stairs(ratio, term, lo, hi), -reach, reach // 2, 18)
    if found is None:
        return
    times, bias, mult, shift = found
    sums = np.arange(-reach, reach // 2 + 1)
    wanted = np.clip([round(ratio * int(a) + term) for a in sums], lo, hi)
    got = round_half_even((sums * times + bias) * mult, np.int64(shift)).clip(lo, hi)
    np.testing.assert_array_equal(got, wanted)
    assert 0 < mult < 256 and 0 <= shift <= 40 and abs(times) <= 18


@pytest.mark.parametrize(
    ("ratio", "limits", "reach", "times"),
    [
        (Fraction(5, 64), (-128, 127), 10**4, 1),  # one of the accelerator's own
        (Fraction(1, 9), (0, 255), 9 * 255, 127),  # a mean of nine
        (Fraction(1, 25), (0, 255), 25 * 255, 127),
        (Fraction(1, 1000), (0, 3), 3000, 18),  # two bits
        (Fraction(-1, 301), (0, 3), 900, 7),
        (Fraction(0), (0, 15), 900, 1),
    ],
)
def test_what_must_be_found(ratio, limits, reach, times):
    assert search(
        Stairs(ratio, Fraction(1, 3) if limits[1] < 100 else Fraction(0), *limits), -reach, reach, times
    )


@pytest.mark.parametrize("ratio", [Fraction(1, 6), Fraction(10001, 130000)])
def test_what_cannot_be_found(ratio):
    """Of a mean of six, halves go to the even code: no factor beside 1/6 does so. The other is too fine for 8 bits."""
    assert search(Stairs(ratio, Fraction(0), -128, 127), -1600, 1600, 1) is None


def agrees(model, lanes, seed):
    """onnxruntime on the file, the graph in numpy, and the C++ give the same codes."""
    graph, rng = import_model(model), np.random.default_rng(seed)
    feeds = {n: rng.integers(t.elem.min, t.elem.max + 1, (1, *t.shape)) for n, t in graph.inputs.items()}
    wanted, points = evaluate(graph, feeds), quant_points(model, graph)
    floats = run_onnx(model, {n: nchw(x, graph.scales[n]) for n, x in feeds.items()})
    assert_equal({n: points[n].codes(y) for n, y in floats.items()}, wanted)
    assert_equal(simulate(graph, feeds, lanes), wanted)
    return graph


@settings(max_examples=25)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 9)),
    st.integers(1, 12),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 4, 16]),
    st.integers(0, 99),
)
def test_rows_and_matrix_products(shape, count, transposed, reshaped, lanes, seed):
    (h, w, c), rng = shape, np.random.default_rng(seed)
    f, size = File(shape), h * w * c
    x = f.quant("x0", "x")
    if reshaped:
        f.tensors["dims"] = numpy_helper.from_array(np.array([0, -1]), "dims")
        x = f.add("Reshape", [x, "dims"], "row")
    else:
        x = f.add("Flatten", [x], "row")
    scale = 2.0 ** -rng.integers(3, 7, count).astype(float)
    codes, scale = rng.integers(-7, 8, (size, count)), scale[None]
    weight = f.weight("w", codes.T if transposed else codes, scale=scale.T if transposed else scale)
    bias = f.const("b", rng.integers(-9, 9, count) * 2.0**-10)
    y = f.add("Gemm", [x, weight, bias], "product", transB=int(transposed), alpha=0.5)
    y = f.quant(f.add("Relu", [y], "relu"), "hidden", 0.25, signed=0)
    f.quant(f.add("MatMul", [y, f.weight("v", rng.integers(-7, 8, (count, 3)))], "last"), "y", 0.5)
    agrees(f.model("y"), lanes, seed)


@settings(max_examples=25)
@given(
    st.tuples(st.integers(2, 7), st.integers(2, 7), st.integers(1, 20)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 4, 16]),
    st.integers(0, 99),
)
def test_means_of_windows(shape, kernel, stride, padded, signed, lanes, seed):
    """A mean is as fine as its numbers; of an even count of them, halves may be beyond the accelerator."""
    f = File(shape)
    kh, kw = kernel
    pads = [kh // 2, kw // 2, kh // 2, kw // 2] if padded else [0] * 4
    x = f.quant("x0", "x", signed=int(signed))
    window = {"kernel_shape": kernel, "strides": [stride] * 2, "pads": pads, "count_include_pad": 1}
    f.quant(f.add("AveragePool", [x], "mean", **window), "y", 2.0**-4, signed=int(signed))
    if any(k > n + 2 * p for k, n, p in zip(kernel, shape, pads, strict=False)):
        with pytest.raises(ModelRefused, match="does not fit the map"):
            import_model(f.model("y"))
    elif not padded and (kh * kw % 2 and kh * kw <= 15 or kh * kw & (kh * kw - 1) == 0):
        agrees(f.model("y"), lanes, seed)
    else:  # beside a half, float32 decides as it adds
        try:
            graph = import_model(f.model("y"))
        except ModelRefused as error:
            assert "AveragePool 'mean': has pads" in str(error)
            return
        feeds = random_feeds(graph, seed)
        got, op = evaluate(graph, feeds), next(n.op for n in graph.nodes if isinstance(n.op, Requant))
        padding = ((0, 0), *zip(pads[:2], pads[2:], strict=True), (0, 0))
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(feeds["x0"], padding), kernel, (1, 2))
        sums = windows[:, ::stride, ::stride].sum(axis=(-2, -1))
        step = Fraction(graph.scales["x0"]) / Fraction(graph.scales["y"]) / (kh * kw)
        wanted = [min(max(round(int(s) * step), op.lo), op.hi) for s in sums.ravel()]
        assert got["y"].ravel().tolist() == wanted
        assert_equal(simulate(graph, feeds, lanes), got)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "ReduceMean"])
@pytest.mark.parametrize(("size", "lanes"), [((5, 5), 16), ((4, 4), 4), ((3, 5), 16), ((1, 1), 4)])
def test_means_of_whole_maps(op, size, lanes):
    rng, f = np.random.default_rng(0), File((*size, 10))
    x = f.add(
        "Relu",
        [f.add("Conv", [f.quant("x0", "x"), f.weight("w", rng.integers(-7, 8, (10, 10, 1, 1)))], "conv")],
        "relu",
    )
    x = f.quant(x, "hidden", 0.25, signed=0)
    attrs = {"keepdims": 0} if op == "ReduceMean" else {}
    if op == "ReduceMean":
        f.tensors["axes"] = numpy_helper.from_array(np.array([2, 3]), "axes")
    x = f.quant(f.add(op, [x, "axes"] if attrs else [x], "mean", **attrs), "means", 0.125, signed=0)
    x = x if attrs else f.add("Flatten", [x], "row")
    f.quant(f.add("MatMul", [x, f.weight("v", rng.integers(-7, 8, (10, 3)))], "last"), "y", 0.5)
    assert agrees(f.model("y"), lanes, 0).types()["y"].shape == (1, 1, 3)


def normed(seed, act_bits, weight_bits, order):
    """Convolution, batch normalization, ReLU and quantizer, all of free scales, as other tools write them."""
    rng, f = np.random.default_rng(seed), File((6, 5, 3))
    top = 2 ** (weight_bits - 1) - 1
    codes, scale = (
        rng.integers(-top, top + 1, (6, 3, 3, 3)),
        rng.uniform(0.01, 0.1, (6, 1, 1, 1)).astype(np.float32),
    )
    x = f.quant("x0", "x", 0.0173, bits=4)
    x = f.add("Conv", [x, f.weight("w", codes, weight_bits, scale), f.const("b", rng.normal(0, 0.1, 6))], "conv",
              pads=[1] * 4)  # fmt: skip
    tables = [rng.normal(1, 0.5, 6), rng.normal(0, 0.3, 6), rng.normal(0, 0.2, 6), rng.uniform(0.1, 0.5, 6)]
    names = [f.const(f"n{i}", t) for i, t in enumerate(tables)]
    if order == "norm":
        x = f.add("BatchNormalization", [x, *names], "norm", epsilon=1e-3)
    else:
        shape = (6, 1, 1)
        factor, shift = (f.const(f"m{i}", tables[i].reshape(shape)) for i in (0, 1))
        x = f.add("Sub", [f.add("Mul", [x, factor], "mul"), shift], "sub")
        x = f.add("Div", [x, f.const("two", 2.5)], "div")
    f.quant(f.add("Relu", [x], "relu"), "y", 0.0817, act_bits, signed=0)
    return f.model("y")


@settings(max_examples=20)
@given(
    st.integers(0, 999), st.sampled_from([(2, 2), (2, 3), (3, 2), (4, 2)]), st.sampled_from(["norm", "mul"])
)
def test_free_scales_and_norms_of_few_bits(seed, bits, order):
    """Codes are those of the file's own numbers in float64. onnxruntime adds float32: beside a tie, where the two are
    within 1e-4 of a half, its rounding may be the other way."""
    model = normed(seed, *bits, order)
    try:
        graph = import_model(model)
    except ModelRefused as error:
        assert "which no whole bias" in str(error)
        return
    rng = np.random.default_rng(seed)
    feeds = {"x0": rng.integers(-8, 8, (1, 6, 5, 3))}
    got = evaluate(graph, feeds)
    assert_equal(simulate(graph, feeds, 4), got)
    x = nchw(feeds["x0"], np.float32(0.0173))
    tapped = run_onnx(model, {"x0": x})["y"] / np.float32(0.0817)
    real = exact_relu(model, x.astype(np.float64)) / np.float64(np.float32(0.0817))
    codes = np.rint(real).clip(0, 2 ** bits[0] - 1)
    np.testing.assert_array_equal(got["y"].transpose(0, 3, 1, 2), codes)
    apart = np.abs(real - np.floor(real) - 0.5) > 1e-4
    np.testing.assert_array_equal(np.rint(tapped)[apart], codes[apart])


def exact_relu(model, x):
    """What stands before the last quantizer, in float64."""
    t = {i.name: numpy_helper.to_array(i).astype(np.float64) for i in model.graph.initializer}
    weight = np.rint(t["w"] / t["w.q.scale"]) * t["w.q.scale"]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    y = np.einsum("nchwij,ocij->nohw", windows, weight) + t["b"].reshape(-1, 1, 1)
    column = {k: v.reshape(-1, 1, 1) for k, v in t.items() if v.size == 6}
    if "n2" in t and any(n.op_type == "BatchNormalization" for n in model.graph.node):
        y = (y - column["n2"]) / np.sqrt(column["n3"] + np.float64(np.float32(1e-3))) * column["n0"] + column[
            "n1"
        ]
    else:
        y = (y * column["m0"] - column["m1"]) / 2.5
    return np.maximum(y, 0)


def test_few_bits_are_mostly_found():
    """How often 8-bit factors are enough: of 20 networks of random scales, each with six channels. Else wide ones."""
    found = dict.fromkeys(((2, 2), (4, 4), (8, 8)), 0)
    for bits in found:
        for seed in range(20):
            graph = import_model(normed(seed, *bits, "norm"))
            found[bits] += not any(isinstance(node.op, WideRequant) for node in graph.nodes)
    assert found[2, 2] >= 18 and found[8, 8] == 0, found


def test_a_bias_between_two_steps_is_the_same_for_every_sum():
    f, rng = File((4, 4, 3)), np.random.default_rng(0)
    conv = f.add("Conv", [f.quant("x0", "x"), f.weight("w", rng.integers(-7, 8, (5, 3, 1, 1))),
                          f.const("b", rng.normal(0, 1, 5))], "conv")  # fmt: skip
    f.quant(conv, "y", 2.0**-3)
    agrees(f.model("y"), 4, 0)


def test_a_scale_by_input_channel_is_no_scale_by_output_channel():
    f, rng = File((4, 4, 3)), np.random.default_rng(0)
    scale = np.array([0.5, 0.25, 0.125]).reshape(1, 3, 1, 1)
    f.quant(
        f.add(
            "Conv",
            [f.quant("x0", "x"), f.weight("w", rng.integers(-7, 8, (3, 3, 1, 1)), scale=scale)],
            "conv",
        ),
        "y",
    )
    with pytest.raises(ModelRefused) as caught:
        import_model(f.model("y"))
    assert str(caught.value) == (
        "network: 1 part cannot be compiled.\n  Conv 'conv': its weight's scale is neither one number nor one per "
        "output channel. Quantize weights with one scale, or one per output channel."
    )


def flat(f):
    return f.add("Flatten", [f.quant("x0", "x")], "a")


def multiplied(f, size):
    return f.quant(f.add("MatMul", [flat(f), f.weight("w", np.ones((size, 2)))], "m"), "y")


def of_float(f):
    mean = f.add("AveragePool", [f.quant("x0", "x")], "p", kernel_shape=[4, 4], strides=[4, 4])
    f.quant(
        f.add("Gemm", [f.add("Flatten", [f.quant(mean, "q")], "a"), f.const("w", np.ones((12, 2)))], "m"), "y"
    )


def given_out(f):
    conv = f.add("Conv", [f.quant("x0", "x"), f.weight("w", np.ones((2, 3, 1, 1)))], "c")
    f.add("Flatten", [f.quant(conv, "q")], "y")


REFUSED = {
    "output 'y': is a flattened map. Give the map itself out.": given_out,
    "Concat 'y': reads a flattened map. Only a matrix product may read it.": (
        lambda f: f.add("Concat", [flat(f), "a"], "y", axis=1)
    ),
    "MatMul 'm': multiplies a map of 8x8 pixels, expected at most 5x5. Average or stride the map down before.": (
        lambda f: multiplied(f, 192)
    ),
    "MatMul 'm': multiplies rows of 192 by [191, 2]. The file contradicts itself: export it again.": (
        lambda f: multiplied(f, 191)
    ),
    "Gemm 'm': its weight is not quantized. Put a Quant of at most 8 bits behind the weight.": of_float,
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_is_refused(said):
    f = File((8, 8, 3))
    REFUSED[said](f)
    with pytest.raises(ModelRefused) as caught:
        import_model(f.model("y"))
    assert [str(p) for p in caught.value.problems] == [said]


def test_files_without_bodies_run_in_stock_runtimes():
    """Other tools write no body for Quant, name another domain, and leave attributes out that have their default."""
    f, rng = File((3, 4, 3)), np.random.default_rng(0)
    conv = f.add("Conv", [f.quant("x0", "x"), f.weight("w", rng.integers(-7, 8, (2, 3, 1, 1)))], "conv")
    f.quant(conv, "y", 2.0**-3)
    model = f.model("y")
    x = rng.normal(0, 3, (1, 3, 3, 4)).astype(np.float32)
    wanted = run_onnx(model, {"x0": x})["y"]
    del model.functions[:]
    del model.opset_import[1:]
    model.ir_version = 7
    for node in model.graph.node:
        if node.domain:
            node.domain = "onnx.brevitas"
            kept = [a for a in node.attribute if a.name == "signed" and a.i == 0]
            del node.attribute[:]
            node.attribute.extend(kept)
    before = model.SerializeToString()
    np.testing.assert_array_equal(run_onnx(runnable(model), {"x0": x})["y"], wanted)
    assert model.SerializeToString() == before
    assert runnable(f.model("y")).functions[0].name == "Quant"
    assert len(runnable(f.model("y")).functions) == 1


def test_the_runtime_leaves_biases_as_they_are():
    """Beside quantizers onnxruntime would round a float bias to the accumulator's step, which the file does not say."""
    rng = np.random.default_rng(0)
    consts = {"sx": np.float32(2**-7), "sw": np.float32(0.125), "sy": np.float32(2**-4), "zero": np.int8(0)}
    consts |= {
        "w": rng.integers(-7, 8, (16, 4)).astype(np.int8),
        "b": rng.normal(0, 1e-3, 4).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "sx", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zero"], ["v"]),
        helper.make_node("Gemm", ["d", "v", "b"], ["sums"]),
        helper.make_node("QuantizeLinear", ["sums", "sy", "zero"], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "sy", "zero"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 16]), ("y", [1, 4]))
    ]
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in consts.items()]
    graph = helper.make_graph(nodes, "rows", ends[:1], ends[1:], tensors)
    session = OnnxSession(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "rows"
    )
    for codes in rng.integers(-128, 128, (40, 16)):
        sums = codes @ consts["w"].astype(np.int64) * 2.0**-10 + consts["b"].astype(np.float64)
        got = session._session.run(["y"], {"x": (codes * np.float32(2**-7))[None].astype(np.float32)})[0][0]
        np.testing.assert_array_equal(got * 16, np.rint(sums * 16).clip(-128, 127))
