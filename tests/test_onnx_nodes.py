"""The onnx package's own node tests: each runs exactly, in numpy and in the C++, or is refused with a reason."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from codesign.errors import CodesignError, ModelRefused
from codesign.ir import evaluate
from codesign.onnx_io import import_model
from codesign.onnx_patterns import PATTERNS, refuse
from tests.engine.engines import simulate
from tests.onnx_models import QONNX, nchw, run_node
from tests.onnx_nodes import Case, cases, collected, wrap

PAGE = Path(__file__).resolve().parent.parent / "docs" / "onnx-operators.md"
LANES = 8


@cache
def outcome(name: str) -> str:
    """`exact`, with how the data were, or the reason of the refusal. Fails on a wrong answer or a crash."""
    case = cases()[name]
    wrapped = wrap(case)
    try:
        graph = import_model(wrapped.model)
    except CodesignError as error:
        return refusal(case, error)
    got = evaluate(graph, dict(wrapped.codes), reference=True)
    for name, codes in got.items():
        np.testing.assert_array_equal(codes * graph.scales[name], wrapped.expected[name], err_msg=name)
    assert set(got) == set(wrapped.expected)
    simulated = simulate(graph, dict(wrapped.codes), LANES)
    for name, codes in got.items():
        np.testing.assert_array_equal(simulated[name], codes, err_msg=name)
    return "exact, on rounded data" if wrapped.rounded else "exact"


def refusal(case: Case, error: CodesignError) -> str:
    """Why, of the node; where that is not what is wrong, of its input, output or file. Checks the whole text."""
    if not isinstance(error, ModelRefused):  # of the file as a whole
        found = re.fullmatch(r"\w+: (.+, expected .+)\. [A-Z].+\.", str(error))
        assert found, str(error)
        return found[1]
    count = "1 part cannot" if len(error.problems) == 1 else f"{len(error.problems)} parts cannot"
    assert re.match(rf"\w+: {count} be compiled\.\n  ", str(error)), str(error)
    for problem in error.problems:
        assert str(problem) in str(error)
        assert re.fullmatch(r"\w+ '[^']+'", problem.where), problem
        assert re.fullmatch(r"\S.*[^.]", problem.reason), problem
        assert re.fullmatch(r"[A-Z].+\.", problem.remedy), problem
    names = {case.name, case.node.name, case.node.output[0]}
    nodes = {f"{case.node.op_type} {name!r}" for name in names}
    of_node = [p.reason for p in error.problems if p.where in nodes]
    others = [f"{p.where.split()[0]} {p.reason}" for p in error.problems if p.where not in nodes]
    return (of_node or others)[0]


@pytest.mark.parametrize("name", cases())
def test_a_node_is_exact_or_refused(name: str) -> None:
    assert outcome(name)


def test_nothing_else_of_the_package_is_taken_for_something_that_runs() -> None:
    """As they are, none of the cases is quantized: each is refused, and none ends otherwise."""
    assert len(collected()) > 1500
    for case in collected():
        with pytest.raises(CodesignError):
            import_model(case.model)


def is_claimed(op: str) -> bool:
    return PATTERNS["", op].__qualname__ != refuse("", "").__qualname__


def table() -> str:
    """Tests of each operator by what became of them; of operators that never run only how many."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, case in cases().items():
        found.setdefault(case.node.op_type, {}).setdefault(outcome(name), []).append(
            name.removeprefix("test_")
        )
    rows = []
    for op, groups in sorted(found.items(), key=lambda item: (not is_claimed(item[0]), item[0])):
        for said, names in sorted(
            groups.items(), key=lambda item: (not item[0].startswith("exact"), item[0])
        ):
            result = said if said.startswith("exact") else f"refused: {said}"
            listed = ", ".join(names) if is_claimed(op) else f"{len(names)} tests"
            rows.append(f"| `{op}` | {result} | {listed} |")
    exact = sum(outcome(name).startswith("exact") for name in cases())
    head = (
        f"onnx {onnx.__version__}: {len(cases())} tests of {len(found)} operators, {exact} exact, "
        f"{len(cases()) - exact} refused, none wrong."
    )
    return "\n".join([head, "", "| operator | result | tests |", "|---|---|---|", *rows, ""])


def test_the_page_says_what_became_of_the_tests(request: pytest.FixtureRequest) -> None:
    """`--update-golden` writes the table into the page."""
    text = PAGE.read_text(encoding="utf-8")
    update = request.config.getoption("--update-golden")
    if not update and f"\nonnx {onnx.__version__}: " not in text:
        pytest.skip(f"the page was written with another onnx than {onnx.__version__}, which has other tests")
    wanted = text[: text.index("<!-- nodes -->")] + f"<!-- nodes -->\n\n{table()}"
    if update:
        PAGE.write_text(wanted, encoding="utf-8")
        text = wanted
    assert text == wanted, "run `make golden` and read the diff"


def test_the_page_has_every_operator_that_runs_and_no_other() -> None:
    text = PAGE.read_text(encoding="utf-8")
    first = text[: text.index("## ")]
    named = re.findall(r"`([\w.:]+)`", "".join(re.findall(r"^\| (`.*?) \|", first, re.MULTILINE)))
    assert sorted(n for n in named if "::" not in n and n != "IntQuant") == sorted(
        op for domain, op in PATTERNS if not domain and is_claimed(op)
    )


# --- what these tests found out ----------------------------------------------------------------------------------


def network(
    nodes: list[onnx.NodeProto], outputs: list[str], size: tuple[int, int] = (4, 4), **consts: object
) -> onnx.ModelProto:
    """image [1,2,H,W] -> Quant `q` of step 1/16 -> 1x1 convolution `same` that changes nothing -> the nodes."""
    eye = np.eye(2, dtype=np.float32)[:, :, None, None]
    values = {
        "step": np.float32(1 / 16),
        "one": np.float32(1),
        "zero": np.float32(0),
        "bits": np.float32(8),
        "eye": eye,
    }
    attributes = {"domain": QONNX, "signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
    before = [
        helper.make_node("Quant", ["image", "step", "zero", "bits"], ["q"], "q", **attributes),
        helper.make_node("Quant", ["eye", "one", "zero", "bits"], ["w"], "w", **attributes),
        helper.make_node("Conv", ["q", "w"], ["same"], "same"),
    ]
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in {**values, **consts}.items()]
    infos = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 2, *size])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph([*before, *nodes], "net", infos, ends, initializers)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid(QONNX, 2)]
    )


def refused(model: onnx.ModelProto) -> str:
    with pytest.raises(ModelRefused) as error:
        import_model(model)
    return str(error.value)


def test_dropout_in_training_is_refused() -> None:
    node = helper.make_node("Dropout", ["q", "half", "yes"], ["y"], "drop")
    assert refused(network([node], ["y"], half=np.float32(0.5), yes=np.array(True))) == (
        "net: 1 part cannot be compiled.\n"
        "  Dropout 'drop': is in training mode and drops values at random. Export the network in evaluation mode."
    )


def test_a_second_output_that_is_read_is_named() -> None:
    node = helper.make_node("MaxPool", ["q"], ["y", "where"], "pool", kernel_shape=[2, 2])
    assert refused(network([node], ["y", "where"])) == (
        "net: 1 part cannot be compiled.\n"
        "  MaxPool 'pool': has 'where' as another output, expected that only the first is used. Leave what reads it "
        "out of the network."
    )
    assert list(import_model(network([node], ["y"])).outputs) == ["y"]


def test_round_and_clip_are_a_quantizer() -> None:
    nodes = [
        helper.make_node("Round", ["same"], ["r"], "round"),
        helper.make_node("Clip", ["r", "low", "high"], ["y"], "clip"),
    ]
    graph = import_model(network(nodes, ["y"], low=np.float32(-2), high=np.float32(5)))
    codes = np.arange(-128, 128).reshape(8, 4, 4, 2)
    got = evaluate(graph, {"image": codes}, reference=True)["y"]
    np.testing.assert_array_equal(got * graph.scales["y"], np.rint(codes / 16).clip(-2, 5))


def test_resize_reads_its_axes() -> None:
    def model(scales: list[float], **attributes: object) -> onnx.ModelProto:
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        node = helper.make_node("Resize", ["q", "", "scales"], ["y"], "up", **how, **attributes)
        return network([node], ["y"], scales=np.array(scales, np.float32))

    graph = import_model(model([2, 2], axes=[3, -2]))
    codes = np.random.default_rng(0).integers(-128, 128, (1, 4, 4, 2))
    wanted = codes.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(evaluate(graph, {"image": codes})["y"], wanted)
    assert refused(model([3, 2], axes=[3, 2])) == (
        "net: 1 part cannot be compiled.\n  Resize 'up': scales N,C,H,W by 1,1,2,3, expected 1,1,2,2. Upsample by 2."
    )


@given(
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    op=st.sampled_from([("MaxPool", 2), ("MaxPool", 3), ("Conv", 1), ("Conv", 3)]),
    stride=st.integers(1, 4),
    upper=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_automatic_pads_are_those_of_onnxruntime(
    size: tuple[int, int], op: tuple[str, int], stride: int, upper: bool, seed: int
) -> None:
    assume(stride <= op[1])  # onnxruntime refuses the others
    random = np.random.default_rng(seed)
    (kind, side), codes = op, random.integers(-128, 128, (1, *size, 2))
    window = {"auto_pad": "SAME_UPPER" if upper else "SAME_LOWER", "strides": [stride, stride]}
    inputs = [nchw(codes, 1 / 16)]
    if kind == "MaxPool":
        nodes = [helper.make_node("MaxPool", ["q"], ["y"], "pool", kernel_shape=[side, side], **window)]
        graph = import_model(network(nodes, ["y"], size))
    else:
        weight = random.integers(-7, 8, (3, 2, side, side)).astype(np.float32)
        inputs.append(weight)
        attributes = {"domain": QONNX, "signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
        nodes = [
            helper.make_node("Quant", ["weight", "one", "zero", "bits"], ["v"], "v", **attributes),
            helper.make_node("Conv", ["q", "v"], ["sums"], "conv", **window),
            helper.make_node("Quant", ["sums", "coarse", "zero", "bits"], ["y"], "y", **attributes),
        ]
        graph = import_model(network(nodes, ["y"], size, weight=weight, coarse=np.float32(16)))
    if kind == "MaxPool":
        window["kernel_shape"] = [side, side]
    wanted = run_node(kind, inputs, **window)
    if kind == "Conv":
        wanted = np.rint(wanted / 16).clip(-128, 127) * 16
    got = evaluate(graph, {"image": codes}, reference=True)["y"] * graph.scales["y"]
    np.testing.assert_array_equal(got, wanted.transpose(0, 2, 3, 1))
