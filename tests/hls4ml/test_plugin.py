"""Layers of codesign in hls4ml: what is written for its parser, what is refused, and exact results from its C++."""

from importlib.metadata import PackageNotFoundError

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

import codesign.hls4ml
from codesign.errors import ModelRefused, ToolMissing, TypeMismatch
from codesign.hls4ml import qonnx, registry
from codesign.hls4ml.design import convert
from codesign.ir import IntType, evaluate
from codesign.ops import Add, Concat, MaxPool, Shuffle
from tests.hls4ml.nets import every_layer, mixing_net, plain_sum, small_net
from tests.models import I8, U8, Builder, random_feeds
from tests.onnx_models import to_onnx


def predicted(graph, design, feeds):
    """hls4ml's results as integers, by output."""
    images = [np.ascontiguousarray(feeds[n] * graph.scales[n], np.float32) for n in graph.inputs]
    found = design.predict(images[0] if len(images) == 1 else images)
    found = found if isinstance(found, list) else [found]
    batch, types = len(images[0]), graph.types()
    return {
        name: array.reshape(batch, *types[name].shape) / graph.scales[name]
        for name, array in zip(qonnx.output_order(graph), found, strict=True)
    }


@pytest.mark.slow  # hls4ml compiles with -O3 and ap_types
@pytest.mark.parametrize(
    ("graph", "backend", "io_type"),
    [
        (every_layer(), "Vitis", "io_stream"),
        (every_layer(), "Vivado", "io_parallel"),
        (small_net(), "VivadoAccelerator", "io_stream"),
        (mixing_net(), "Vitis", "io_stream"),
        (mixing_net(), "Vivado", "io_parallel"),
    ],
    ids=["stream", "parallel", "accelerator", "mixing-stream", "mixing-parallel"],
)
def test_compile_and_predict_give_our_integers(tmp_path, graph, backend, io_type):
    design = convert(graph, "net", tmp_path, backend=backend, io_type=io_type)
    design.compile()
    feeds = random_feeds(graph, batch=3)
    expected, got = evaluate(graph, feeds), predicted(graph, design, feeds)
    for name in graph.outputs:
        assert len(np.unique(expected[name])) > 12  # lively, not saturated
        np.testing.assert_array_equal(got[name], expected[name])


def test_a_file_is_converted_with_types_that_keep_every_integer(tmp_path):
    graph = small_net()
    path = tmp_path / "model.onnx"
    onnx.save(to_onnx(graph, "qonnx"), path)
    design = codesign.hls4ml.convert(path, tmp_path / "project", backend="Vitis", io_type="io_stream")
    layers = {layer.class_name: layer for layer in design.get_layers()}
    assert list(layers) == ["Input", "ZeroPadding2D", "Conv2D", "Clone", "PointwiseConv2D", "SquareDeform2D"]
    deform = layers["SquareDeform2D"]
    types = {name: str(type_.precision) for name, type_ in deform.types.items()}
    assert types["result_t"] == "fixed<8,8,RND_CONV,SAT,0>"
    assert "TRN,WRAP" in types["accum_t"]  # wide enough to do neither
    assert "AP_RND_CONV, AP_SAT> offset_t" in deform.get_attr("config_cpp")
    assert not (tmp_path / "project").exists()  # nothing is written before compile or write
    design.write()
    written = tmp_path / "project" / "firmware"
    assert (written / "nnet_utils" / "nnet_square_deform.h").read_text() == (
        registry.HEADERS / "nnet_square_deform.h"
    ).read_text()
    assert "nnet::square_deform_2d_cl<" in (written / "myproject.cpp").read_text()


def test_gates_and_what_they_open_have_types_that_keep_every_integer(tmp_path):
    design = convert(mixing_net(), "net", tmp_path, backend="Vitis", io_type="io_stream")
    layers = {layer.name: layer for layer in design.get_layers()}
    mixed, gates = layers["MixedConv2D_mixed_q_sums"], layers["CodeTable_squash"]
    assert mixed.class_name == "MixedConv2D" and mixed.get_weights("bank").shape == [3, 3, 4, 3, 6]
    written = mixed.get_attr("config_cpp")
    assert "typedef ap_fixed<4, 4, AP_RND_CONV, AP_SAT_SYM> mixed_t;" in written
    assert "ap_fixed<8, 8, AP_RND_CONV, AP_SAT> code_t;" in gates.get_attr("config_cpp")
    assert str(mixed.get_output_variable().type.precision) == "ufixed<8,8,RND_CONV,SAT,0>"


def test_maps_wait_for_their_gates_in_streams_that_hold_them(tmp_path):
    """A layer reads its gates before its map: the stream of the map is as deep as the map has pixels."""
    design = convert(mixing_net(), "net", tmp_path, backend="Vitis", io_type="io_stream")
    opened = [layer for layer in design.get_layers() if layer.class_name in ("MixedConv2D", "ChannelMix2D")]
    assert len(opened) == 3
    for layer in opened:
        variable = layer.get_input_variable(layer.inputs[0])
        kind, depth = variable.pragma
        assert kind == "stream" and depth == np.prod(variable.shape[:-1]) > 1


def test_a_configuration_of_ones_own(tmp_path):
    config = {"Model": {"Precision": "fixed<32,16>", "ReuseFactor": 4, "Strategy": "Latency"}}
    design = convert(small_net(), "net", tmp_path, backend="Vitis", io_type="io_stream", hls_config=config)
    assert str(design.get_input_variables()[0].type.precision) == "fixed<8,1,RND_CONV,SAT,0>"
    deform = next(layer for layer in design.get_layers() if layer.class_name == "SquareDeform2D")
    assert "turn = 4;" in deform.get_attr("config_cpp")


def test_a_backend_without_the_layer_is_refused(tmp_path):
    with pytest.raises(TypeMismatch) as caught:
        convert(small_net(), "net", tmp_path, backend="Quartus")
    assert str(caught.value) == (
        "backend 'Quartus': has no deformable layer, expected one of Vivado, Vitis, VivadoAccelerator."
    )


def test_registering_again_changes_nothing():
    codesign.hls4ml.register()
    from hls4ml.model.flow import get_flow

    before = list(get_flow("convert").optimizers)
    codesign.hls4ml.register()
    assert get_flow("convert").optimizers == before
    for name in ("infer_square_deform_types", "infer_parameter_types", "merge_exact_quantizer"):
        assert before.count(name) == 1
        assert before.index(name) < before.index("infer_precision_types")


def test_every_written_quantizer_has_one_scale_and_keeps_its_parameter():
    model = qonnx.write(every_layer(), "net")
    values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    checked = 0
    for node in model.graph.node:
        if node.op_type != "Quant":
            continue
        scale, zero, bits = (float(values[name].item()) for name in node.input[1:])
        assert zero == 0 and np.frexp(scale)[0] == 0.5
        if node.input[0] in values:
            codes = values[node.input[0]].astype(np.float64) / scale
            assert np.array_equal(codes, np.rint(codes)) and abs(codes).max() < 2 ** (bits - 1)
            checked += 1
    assert checked == 2 * 10  # convolutions


def refused(build, io_type="io_parallel"):
    b = Builder(1)
    build(b, b.input("image", (8, 8, 3)))
    with pytest.raises(ModelRefused) as caught:
        qonnx.write(b.graph((b.nodes[-1].name,)), "net.onnx", io_type)
    return str(caught.value)


def test_a_layer_without_an_exact_form_is_named():
    def build(b, x):
        x = b.conv("a", x, 4)
        x = b.add("pool", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), x)
        x = b.add("mixed", Shuffle(2), x)
        y = b.conv("six", x, 4, out=U8, hi=96)
        x = b.add("all", Concat(), x, y, x)
        b.conv("out", x, 2, out=I8)

    assert refused(build) == (
        "net.onnx: 4 parts cannot be compiled.\n"
        "  MaxPool 'pool': pads its windows, and hls4ml's padding of unsigned maps is wrong. Pool without padding.\n"
        "  Shuffle 'mixed': is no layer that hls4ml has. Build it for the engine: leave out --flow hls4ml.\n"
        "  Requant 'six.q': clamps to 0..96, which no fixed-point type saturates to. Build it for the engine: leave "
        "out --flow hls4ml.\n"
        "  Concat 'all': joins 3 maps, hls4ml's limit is 2. Join two at a time."
    )


def test_a_sum_with_a_bias_is_named():
    def build(b, x):
        x = b.conv("a", x, 4)
        b.add("sum", Add(), x, b.conv("b", x, 4))
        b.requant("sum", out=I8)

    assert (
        "Requant 'sum.q': quantizes a sum of maps with a bias or by channel, hls4ml's adds have neither."
        in (refused(build))
    )


def test_a_map_with_too_many_readers_is_named():
    def build(b, x):
        x = b.conv("a", x, 2)
        for k in range(8):
            b.conv(f"b{k}", x, 1, out=I8)

    assert "  Requant 'a.q': is read 8 times, hls4ml's limit is 7 in io_stream. Take --io parallel." in (
        refused(build, "io_stream")
    )


def test_pools_that_overlap_are_named_in_streams_alone():
    b = Builder(1)
    b.add("p", MaxPool((3, 3), (2, 2), (0, 0, 0, 0)), b.conv("a", b.input("image", (9, 9, 3)), 2))
    b.conv("out", "p", 2, out=I8, result="hm")
    graph = b.graph(("hm",))
    assert qonnx.write(graph, "net").graph.node
    with pytest.raises(ModelRefused) as caught:
        qonnx.write(graph, "net", "io_stream")
    assert str(caught.value).endswith(
        "MaxPool 'p': has 3x3 windows every 2x2, hls4ml's must not overlap in io_stream. Take --io parallel, or pool "
        "without overlap."
    )


def test_channels_too_far_apart_for_one_grid_are_named():
    def build(b, x):
        b.conv("a", x, 4, out=I8)
        b.consts["a.shift"] = np.array([0, 1, 2, 38])
        b.consts["a.bias"] = np.array([4096, 0, 0, 0])
        b.consts["a.mult"] = np.array([4, 1, 1, 1])

    assert "Requant 'a.q': needs parameters of 54 bits for one grid of its channels, the limit is 52." in (
        refused(build)
    )


def test_scales_that_contradict_each_other_are_named():
    """The sum says that its sides' steps differ by two, and their concatenation that they are equal."""

    def build(b, x):
        x, y = b.conv("a", x, 4), b.conv("b", x, 4)
        z = plain_sum(b, "sum", x, y)
        b.conv("out", b.add("all", Concat(), b.add("both", Concat(), x, y), z), 2, out=I8)

    assert "  Concat 'both': ties the scale of both to another than it has." in refused(build)


@pytest.mark.parametrize("net", [small_net, mixing_net])
def test_a_file_that_is_channels_first_is_not_parsed(net):
    codesign.hls4ml.register()
    from hls4ml.converters import parse_onnx_model

    model = qonnx.write(net(), "net")
    for node in model.graph.node:
        if node.domain == "codesign.channels_last":
            node.domain = "codesign"
    with pytest.raises(TypeMismatch, match="is channels first, expected channels last. Write the file"):
        parse_onnx_model(model)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, 'hls4ml: is not installed, expected 1.3. Install it: pip install "hls4ml>=1.3,<1.4"'),
        ("1.2.0", 'hls4ml: is version 1.2.0, expected 1.3. Install it: pip install "hls4ml>=1.3,<1.4"'),
    ],
)
def test_without_the_right_hls4ml(monkeypatch, found, text):
    def version(name):
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(registry, "version", version)
    with pytest.raises(ToolMissing) as caught:
        codesign.hls4ml.register()
    assert str(caught.value) == text


NAMES = st.lists(st.text(st.sampled_from("aA.0/_-"), min_size=1, max_size=5), unique=True, max_size=8)


@given(NAMES)
def test_identifiers_are_c_and_differ(names):
    found = qonnx.identifiers(names)
    assert list(found) == names
    assert all(name.isidentifier() and name.isascii() for name in found.values())
    assert len({name.lower() for name in found.values()}) == len(names)


TYPES = st.tuples(st.integers(1, 12), st.integers(-6, 12), st.booleans())


@given(TYPES, TYPES, TYPES, st.integers(0, 99))
def test_the_inferred_sum_holds_every_sum(x, weight, bias, seed):
    codesign.hls4ml.register()
    from hls4ml.model.types import FixedPrecisionType

    from codesign.hls4ml.layers import sum_type

    kinds = [FixedPrecisionType(width, integer, signed) for width, integer, signed in (x, weight, bias)]
    found = sum_type(*kinds)
    codes = [IntType(k.width, k.signed) for k in kinds]
    rng = np.random.default_rng(seed)
    ends = [(c.min, c.max) for c in codes]
    for pick in (*np.ndindex(2, 2, 2), None):
        a, w, b = (
            [rng.integers(lo, hi, 9, endpoint=True) for lo, hi in ends]
            if pick is None
            else [np.full(9, e[i]) for e, i in zip(ends, pick, strict=True)]
        )
        steps = [2.0 ** (k.integer - k.width) for k in kinds]
        total = float((a * steps[0] * (w * steps[1])).sum() + b[0] * steps[2])
        code = total * 2.0 ** (found.width - found.integer)
        held = IntType(found.width, found.signed)
        assert code == int(code) and held.min <= code <= held.max
