"""Elementwise functions between two quantizers of a file: which tables they become, and what is refused of them."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from codesign.errors import ModelRefused
from codesign.ir import Graph, IntType, evaluate
from codesign.layers import layers, places
from codesign.onnx_io import export_integer, import_model, onnx_with_taps, quant_points
from codesign.onnx_table import quantized_codes
from codesign.ops import Table
from codesign.plan import plan
from tests.models import I8, Builder, random_feeds
from tests.onnx_models import QONNX, nchw, nhwc, run_node, run_onnx, to_onnx
from tests.test_onnx_import import same_function, text

CODES = np.arange(-128, 128).reshape(1, 16, 16, 1)
STEPS = [2.0**-e for e in range(-1, 9)]  # before a function
FINER = [2.0**-e for e in range(10)]  # behind it
EXACT: dict[str, dict[str, float]] = {
    "Abs": {}, "Elu": {}, "Exp": {}, "HardSigmoid": {"alpha": 1 / 6}, "HardSwish": {}, "LeakyRelu": {}, "Neg": {},
    "Sigmoid": {}, "Softplus": {}, "Softsign": {}, "Tanh": {},
}  # fmt: skip


def of_codes(
    nodes: list[onnx.NodeProto], step: float = 2.0**-4, finer: float = 2.0**-7, signed: int = 1, bits: int = 8,
    behind: bool = True, shape: tuple[int, int, int] = (1, 16, 16), **consts: object,
) -> onnx.ModelProto:  # fmt: skip
    """image -> Quant `q` of such a step -> the nodes, which make `y.raw` -> Quant `y`."""
    held = {"step": step, "finer": finer, "zero": 0, "eight": 8, "bits": bits}
    values = {k: np.asarray(v, np.float32) for k, v in held.items()} | consts
    attributes = {"domain": QONNX, "narrow": 0, "rounding_mode": "ROUND"}
    before = helper.make_node("Quant", ["image", "step", "zero", "eight"], ["q"], "q", signed=1, **attributes)
    after = helper.make_node(
        "Quant", ["y.raw", "finer", "zero", "bits"], ["y"], "y", signed=signed, **attributes
    )
    graph = helper.make_graph(
        [before, *nodes, *([after] if behind else [])], "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("y" if behind else "y.raw", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(QONNX, 2)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def one(op: str, **attributes: float) -> list[onnx.NodeProto]:
    return [helper.make_node(op, ["q"], ["y.raw"], "f", **attributes)]


def tables(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes if isinstance(node.op, Table)]


@pytest.mark.parametrize("op", EXACT)
def test_with_steps_of_powers_of_two_the_codes_are_those_of_onnxruntime(op):
    """Every code, every step: the runtime's float32 lies on the same side of every tie."""
    for step in STEPS:
        real = nchw(CODES, step)
        float_ = run_node(op, [real], **EXACT[op])
        for finer in FINER:
            graph = import_model(of_codes(one(op, **EXACT[op]), step, finer))
            got = evaluate(graph, {"image": CODES})["y"]
            np.testing.assert_array_equal(got, nhwc(quantized_codes(float_, finer, -128, 127)), (step, finer))


SWISH = [
    helper.make_node("Sigmoid", ["q"], ["s"], "gate"),
    helper.make_node("Mul", ["q", "s"], ["y.raw"], "swish"),
]
HARD_SWISH = [
    helper.make_node("Add", ["q", "three"], ["a"], "a"),
    helper.make_node("Clip", ["a", "nought", "six"], ["c"], "c"),
    helper.make_node("Mul", ["c", "q"], ["m"], "m"),
    helper.make_node("Div", ["m", "six"], ["y.raw"], "swish"),
]
NUMBERS = {"three": np.float32(3), "six": np.float32(6), "nought": np.float32(0), "half": np.float32(0.5)}
CHAINS = {
    "swish": SWISH,
    "hard swish": HARD_SWISH,
    "one minus": [
        helper.make_node("Sigmoid", ["q"], ["s"], "s"),
        helper.make_node("Sub", ["three", "s"], ["y.raw"], "f"),
    ],
    "square": [helper.make_node("Mul", ["q", "q"], ["y.raw"], "f")],
    "power": [helper.make_node("Pow", ["q", "three"], ["y.raw"], "f")],
    "limits": [
        helper.make_node("Max", ["q", "half"], ["a"], "a"),
        helper.make_node("Min", ["three", "a"], ["y.raw"], "f"),
    ],
    "relu": [
        helper.make_node("Relu", ["q"], ["a"], "a"),
        helper.make_node("Sum", ["a", "q"], ["y.raw"], "f"),
    ],
    "slope": [helper.make_node("PRelu", ["q", "half"], ["y.raw"], "f")],
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("step", [2.0**-3, 2.0**-5])
def test_a_chain_is_one_table(name, step):
    for finer, signed in ((2.0**-4, 1), (2.0**-6, 0)):
        model = of_codes(CHAINS[name], step, finer, signed, **NUMBERS)
        graph = import_model(model)
        assert len(graph.nodes) == len(tables(graph)) == 1
        (point,) = (p for n, p in quant_points(model, graph).items() if n == "y")
        got = run_onnx(onnx_with_taps(model, ["y"]), {"image": nchw(CODES, step)})["y"]
        np.testing.assert_array_equal(evaluate(graph, {"image": CODES})["y"], point.codes(got))
        whole = run_onnx(export_integer(graph), {"image": nchw(CODES)})["y"]
        np.testing.assert_array_equal(nhwc(whole), evaluate(graph, {"image": CODES}, reference=True)["y"])


def test_two_quantizers_of_one_function_are_two_tables_and_of_none_no_table():
    attributes = {"domain": QONNX, "narrow": 0, "rounding_mode": "ROUND"}
    second = helper.make_node("Quant", ["y.raw", "half", "zero", "eight"], ["z"], "z", signed=0, **attributes)
    model = of_codes([*one("Sigmoid"), second], **NUMBERS)
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    assert len(tables(import_model(model))) == 2
    twice = [helper.make_node("Neg", ["q"], ["n"], "n"), helper.make_node("Neg", ["n"], ["y.raw"], "m")]
    model = of_codes(twice, 2.0**-5, 2.0**-5)
    with pytest.raises(ModelRefused, match="repeats an input or another output"):  # it is the image itself
        import_model(model)


@pytest.mark.parametrize("flavour", ["qonnx", "qcdq"])
def test_importing_gives_the_graph_back(flavour):
    b = Builder(2)
    x = b.table("first", b.conv("a", b.input("image", (5, 6, 3)), 7, out=I8), I8)
    y = b.table("second", x)
    graph = b.graph((b.conv("last", y, 4, result="out", out=I8), b.table("third", x, IntType(4, False))),
                    {"out": 2.0**-4, "third": 2.0**-3})  # fmt: skip
    model = to_onnx(graph, flavour)
    back = import_model(model)
    assert text(back) == text(graph) or flavour == "qcdq"
    assert same_function(graph, back)
    if flavour == "qonnx":
        feeds = random_feeds(graph, batch=1)
        got = run_onnx(model, {"image": nchw(feeds["image"], 2.0**-7)})
        for name, codes in evaluate(graph, feeds).items():
            np.testing.assert_array_equal(nhwc(got[name], graph.scales[name]), codes)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["Sigmoid", "Tanh", "Relu", "Neg", "Abs", "Elu", "Softsign"]), min_size=1, max_size=4),
    st.sampled_from(STEPS), st.sampled_from(FINER), st.booleans(),
)  # fmt: skip
def test_any_chain_lies_where_its_float_lies(ops, step, finer, signed):
    """Against onnxruntime: an exception is one code, and its value lies beside a tie."""
    names = ["q", *(f"t{i}" for i in range(len(ops) - 1)), "y.raw"]
    nodes = [helper.make_node(op, [names[i]], [names[i + 1]], f"n{i}") for i, op in enumerate(ops)]
    model = of_codes(nodes, step, finer, int(signed))
    try:
        graph = import_model(model)
    except ModelRefused as error:
        assert "repeats an input" in str(error) and set(ops) <= {"Relu", "Neg", "Abs"}
        return
    got = evaluate(graph, {"image": CODES})["y"]
    real = run_onnx(onnx_with_taps(model, ["y.raw"]), {"image": nchw(CODES, step)})["y.raw"]
    lo, hi = (-128, 127) if signed else (0, 255)
    exact = real.astype(np.float64).transpose(0, 2, 3, 1) / finer
    wanted = np.rint(exact).clip(lo, hi)
    tie = np.abs(exact - np.floor(exact) - 0.5) < 2.0**-20 * np.maximum(np.abs(exact), 1) * 4
    assert np.all((got == wanted) | (tie & (np.abs(got - wanted) == 1)))


def refused(model: onnx.ModelProto) -> list[str]:
    with pytest.raises(ModelRefused) as error:
        import_model(model)
    return str(error.value).splitlines()[1:]


def test_each_refusal_says_why():
    pool = helper.make_node("MaxPool", ["q"], ["p"], "p", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    assert refused(of_codes(one("Log"))) == [
        "  Quant 'y': quantizes what Log 'f' makes of -8, which is no number. Clip before it."
    ]
    assert refused(of_codes(one("Sigmoid"), bits=9)) == [
        "  Quant 'y': makes i9 codes, expected at most 8 bits. Quantize activations to 8 bits."
    ]
    assert refused(of_codes(one("Sigmoid"), behind=False)) == [
        "  output 'y.raw': is not quantized. Put a Quant of 8 signed bits before it."
    ]
    slopes = [helper.make_node("PRelu", ["q", "slopes"], ["y.raw"], "f")]
    assert refused(of_codes(slopes, shape=(2, 16, 16), slopes=np.full((2, 1, 1), 0.5, np.float32))) == [
        "  PRelu 'f': has a slope a channel, expected one for all. Use one slope, or LeakyRelu."
    ]
    for op in ("Max", "Pow"):
        nodes = [pool, helper.make_node(op, ["q", "p"], ["y.raw"], "f")]
        assert refused(of_codes(nodes)) == [
            f"  {op} 'f': computes with maps that are not functions of one map. Multiply or add functions of one and "
            "the same quantized map."
        ]
    nodes = [pool, *SWISH[:1], helper.make_node("Mul", ["p", "s"], ["y.raw"], "f")]
    assert refused(of_codes(nodes)) == [
        "  Mul 'f': is element-wise arithmetic on feature maps. Leave it out, or fold it into a convolution."
    ]
    nodes = [helper.make_node("Sigmoid", ["image"], ["y.raw"], "f")]
    assert refused(of_codes(nodes)) == [
        "  Sigmoid 'f': reads the graph input 'image' unquantized. Put a Quant of 8 signed bits and scale 2^-7 behind "
        "'image', or, where it takes 8-bit pixels, say how it reads them: `codesign build --pixels`."
    ]
    nodes = [*one("Sigmoid"), helper.make_node("MaxPool", ["y.raw"], ["m"], "pool", kernel_shape=[2, 2])]
    model = of_codes(nodes)
    model.graph.node[-1].input[0] = "m"
    assert refused(model) == [
        "  MaxPool 'pool': its input comes from Sigmoid 'f' without a quantizer between. Add an activation quantizer "
        "after Sigmoid 'f'."
    ]


@pytest.mark.parametrize(
    ("step", "count", "message"),
    [
        (2.0**-3, 256, "reads codes in steps of 0.0625, expected 0.125. Give it the step of its input."),
        (2.0**-4, 255, "has no step or not 256 values. Give it both."),
    ],
)
def test_a_lookup_names_its_step_and_256_values(step, count, message):
    node = helper.make_node("Lookup", ["q", "mine", "values"], ["y.raw"], "f", domain="codesign")
    model = of_codes([node], mine=np.float32(step), values=np.zeros(count, np.float32))
    assert refused(model) == [f"  Lookup 'f': {message}"]


def test_a_lookup_may_be_any_function():
    values = np.random.default_rng(0).integers(-128, 128, 256) * np.float32(2.0**-7)
    node = helper.make_node("Lookup", ["q", "mine", "values"], ["y.raw"], "f", domain="codesign")
    graph = import_model(of_codes([node], mine=np.float32(2.0**-4), values=values))
    np.testing.assert_array_equal(evaluate(graph, {"image": CODES})["y"], (values * 2**7)[CODES & 255])


def test_inspect_names_a_table_and_the_step_it_is_part_of():
    b = Builder(2)
    graph = b.graph((b.conv("last", b.table("t", b.conv("a", b.input("image", (5, 6, 3)), 7, out=I8)), 4),))
    assert [(layer.name, layer.op) for layer in layers(graph)] == [
        ("a", "Conv 1x1"), ("t", "Table"), ("last", "Conv 1x1"),
    ]  # fmt: skip
    steps = places(plan(graph, 4).program)
    assert steps["a"] == steps["t"] == "step 0" and steps["last"] == "step 1"
