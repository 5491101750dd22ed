"""The exported file against torch, bit for bit, and its form."""

import copy
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from quant.export import ExportError, export_onnx, onnx_outputs, to_onnx, torch_outputs
from quant.models import model_config
from quant.onnx_graph import accumulator_bounds, module_path
from quant.quantize import quantize_model, weight_layers
from tests.kernels import needs_deform_conv
from tests.quant.twins import SMALL, calibrated, float_model, images

NOTE = json.dumps({"classes": ["ä", "b"]})


@pytest.fixture(scope="module")
def model():
    return to_onnx(calibrated(), SMALL.size, {"codesign.note": NOTE})


def equal(twin, file, x):
    pairs = zip(torch_outputs(twin, x), onnx_outputs(file, x), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@needs_deform_conv
@pytest.mark.parametrize(
    ("preset", "flavour"), [("w4a8", "qonnx"), ("w4a8-dw8-m3", "qonnx"), ("w4a8-dw8-m3", "qcdq")]
)
def test_onnxruntime_computes_the_same_bits(tmp_path, preset, flavour):
    path = tmp_path / "model.onnx"
    report = export_onnx(calibrated(preset), path, SMALL.size, {}, flavour, samples=images(3, seed=7))
    assert (report.different, report.compared) == (0, 3 * 16 * 8 * (3 + 2 + 2))
    assert equal(calibrated(preset), path, images(1, seed=8))
    assert not list(tmp_path.glob("*.new"))


@needs_deform_conv
def test_codenet_tiny_computes_the_same_bits(tmp_path):
    config = model_config("codenet-tiny", 10)
    report = export_onnx(
        calibrated("w4a8", config), tmp_path / "tiny.onnx", config.size, samples=images(2, config.size, 5)
    )
    assert report.compared == 2 * 14 * 32 * 32
    assert report.largest_accumulator < 2**24


@needs_deform_conv
@pytest.mark.parametrize("offsets", ["square", "free"])
def test_other_variants_export_as_plain_deform_conv(offsets):
    config = replace(SMALL, offsets=offsets, sampling="bilinear", bound=3)
    twin = calibrated("w4a8", config)
    file = to_onnx(twin, config.size)
    assert Counter(n.op_type for n in file.graph.node)["DeformConv"] == 3
    ours, theirs = torch_outputs(twin, images(1)), onnx_outputs(file, images(1))
    step = {k: float(np.diff(np.unique(a)).min()) for k, a in enumerate(ours)}
    # Interpolation rounds differently; a code may move by one.
    assert all(
        (np.abs(a - b) > step[k]).mean() < 0.01 for k, (a, b) in enumerate(zip(ours, theirs, strict=True))
    )


BOUNDED = {
    "nearest": ({"sampling": "rounded"}, "BoundedDeformConv"),
    "quarters": ({"sampling": "bilinear"}, "BoundedDeformConv"),
    "eighths": ({"sampling": "bilinear", "fraction_bits": 3, "bound": 3}, "BoundedDeformConv"),
    "masks": ({"sampling": "bilinear", "masks": True}, "ModulatedDeformConv"),
    "nearest, masks": ({"sampling": "rounded", "masks": True, "bound": 2}, "ModulatedDeformConv"),
}


def bounded(name):
    options, kind = BOUNDED[name]
    config = replace(SMALL, offsets="bounded", **options)
    twin = copy.deepcopy(calibrated("w4a8", config))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():  # offsets to both sides and beyond their bounds, masks from 0 up
        for block in twin.decoder:
            block.offset.bias.copy_(torch.randn(block.offset.bias.shape, generator=generator) * 3)
            block.offset.bias[0], block.offset.bias[1] = -20, 20
    return twin, config, kind


@needs_deform_conv
@pytest.mark.parametrize("name", BOUNDED)
def test_bounded_windows_are_the_same_bits_from_torch_to_the_cpp(name):
    """torch, the file in onnxruntime, the integer graph, its integer-valued file, and the C++."""
    from codesign.csim import Simulator
    from codesign.ir import evaluate
    from codesign.onnx_io import export_integer, import_model
    from codesign.ops import SampledDwConv
    from codesign.plan import plan
    from tests.engine.engines import engine, generic
    from tests.onnx_models import nchw, nhwc, run_onnx

    twin, config, kind = bounded(name)
    file, x = to_onnx(twin, config.size), images(2, seed=6)
    assert Counter(n.op_type for n in file.graph.node)[kind] == 3
    assert equal(twin, file, x)
    graph, codes = import_model(file), (x * 128).long().permute(0, 2, 3, 1).numpy()
    values = evaluate(graph, {"image": codes}, keep=graph.types())
    for name_, expected in zip(twin.outputs, torch_outputs(twin, x), strict=True):
        assert np.array_equal(values[name_] * graph.scales[name_], expected.transpose(0, 2, 3, 1)), name_
    steps = [n for n in graph.nodes if isinstance(n.op, SampledDwConv)]
    first = values[steps[0].inputs[1]]
    assert np.abs(first[..., :18]).max() >= steps[0].op.limit and first.min() < 0
    whole = run_onnx(export_integer(graph), {"image": nchw(codes)})
    got = Simulator(engine(generic(4)), plan(graph, config=generic(4)).program).run({"image": codes})
    for name_ in graph.outputs:
        np.testing.assert_array_equal(got[name_], values[name_])
        np.testing.assert_array_equal(nhwc(whole[name_]), values[name_])


@needs_deform_conv
def test_bounded_windows_in_standard_operators():
    """QCDQ: offsets behind a quantizer of their steps. Masks would need one of other steps."""
    from codesign.ir import evaluate
    from codesign.onnx_io import import_model

    twin, config, _ = bounded("quarters")
    x = images(2, seed=7)
    codes = (x * 128).long().permute(0, 2, 3, 1).numpy()
    files = [to_onnx(twin, config.size, flavour=flavour) for flavour in ("qonnx", "qcdq")]
    assert equal(twin, files[1], x)
    a, b = (evaluate(import_model(f), {"image": codes}) for f in files)
    assert all(np.array_equal(a[name], b[name]) for name in twin.outputs)
    with pytest.raises(
        ExportError,
        match=r"^export: decoder\.0\.dw, .* have masks beside offsets, expected offsets alone in qcdq",
    ):
        to_onnx(bounded("masks")[0], config.size, flavour="qcdq")


def test_exporting_again_gives_the_same_file_and_changes_neither_twin_nor_its_mode(model):
    twin = copy.deepcopy(calibrated()).train()
    state = {k: v.clone() for k, v in twin.state_dict().items()}
    again = to_onnx(twin, SMALL.size, {"codesign.note": NOTE})
    assert again.SerializeToString() == model.SerializeToString()
    assert twin.training
    assert all(torch.equal(v, state[k]) for k, v in twin.state_dict().items())
    sum(y.sum() for y in twin(images(1))).backward()


def test_standard_domain_comes_first(model):
    assert [(o.domain, o.version) for o in model.opset_import] == [
        ("", 20),
        ("qonnx.custom_op.general", 2),
        ("codesign", 1),
    ]


def test_metadata(model):
    meta = {p.key: p.value for p in model.metadata_props}
    assert meta == {"codesign.format": "1", "codesign.note": NOTE}


def test_interface(model):
    def shapes(values):
        return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}

    assert shapes(model.graph.input) == {"image": [1, 3, 64, 32]}
    assert shapes(model.graph.output) == {"hm": [1, 3, 16, 8], "wh": [1, 2, 16, 8], "reg": [1, 2, 16, 8]}


def test_nodes_are_named_after_modules(model):
    names = [n.name for n in model.graph.node]
    assert len(set(names)) == len(names)
    layers = set(weight_layers(calibrated()))
    assert layers == {n.name for n in model.graph.node if n.op_type.endswith("Conv")}
    assert {"stem.conv.act.relu", "stem.conv.act.quant", "decoder.0.dw.weight.quant"} <= set(names)


def test_scopes_of_the_tracer_become_module_paths():
    scope = "/stages/stages.0/stages.0.1/branch2/branch2.0/conv/Conv"
    assert module_path(scope) == "stages.0.1.branch2.0.conv"
    assert module_path("/stem/conv/act/act_quant/export_handler/Quant") == "stem.conv.act"
    modules = ["heads.hm.2.conv", "heads.wh.2.conv"]
    assert module_path("/hm/hm.2/conv/weight_quant/Quant", modules) == "heads.hm.2.conv.weight"


def test_quant_nodes_obey_the_contract(model):
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    quants = [n for n in model.graph.node if n.op_type == "Quant"]
    inputs = {n.input[0] for n in quants}
    for n in quants:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in n.attribute}
        assert attributes["rounding_mode"] == b"ROUND"
        assert values[n.input[2]] == 0
        fraction, _ = np.frexp(values[n.input[1]])
        assert np.all(fraction == 0.5)
    assert {k for k in values if k.endswith((".weight", ".bias"))} <= inputs
    scales = {
        tuple(values[n.input[1]].shape) for n in quants if n.name.endswith(("act.quant", "input_quant.quant"))
    }
    assert scales == {()}


def test_concatenated_values_have_one_scale(model):
    producer = {n.output[0]: n for n in model.graph.node}
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}

    def scale(name):
        node = producer[name]
        while node.op_type != "Quant":
            node = producer[node.input[0]]
        return float(values[node.input[1]])

    for node in model.graph.node:
        if node.op_type == "Concat":
            assert len({scale(i) for i in node.input}) == 1


def test_parameters_in_the_file_are_settled(model):
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for n in model.graph.node:
        if n.op_type == "Quant" and n.input[0] in values:
            codes = values[n.input[0]].astype(np.float64) / values[n.input[1]]
            assert np.array_equal(codes, np.rint(codes)), n.name


def test_nothing_constant_is_left_to_compute(model):
    kinds = Counter(n.op_type for n in model.graph.node)
    assert set(kinds) == {
        "Quant", "Conv", "SquareDeformConv", "Relu", "Concat", "Reshape", "Transpose", "Slice", "Resize",
    }  # fmt: skip


@needs_deform_conv
def test_bound_travels_with_the_node():
    config = replace(SMALL, bound=3)
    file = to_onnx(calibrated("w4a8", config), config.size)
    nodes = [n for n in file.graph.node if n.op_type == "SquareDeformConv"]
    assert [a.i for n in nodes for a in n.attribute if a.name == "max_offset"] == [3, 3, 3]
    assert equal(calibrated("w4a8", config), file, images(1))


def test_qcdq_needs_no_domain_but_the_standard_one():
    file = to_onnx(calibrated(), SMALL.size, flavour="qcdq")
    assert [(o.domain, o.version) for o in file.opset_import] == [("", 20)]
    assert not file.functions
    stored = {t.name: t.data_type for t in file.graph.initializer}
    assert stored["stem.conv.conv.weight"] == onnx.TensorProto.INT8
    assert stored["stem.conv.conv.bias"] == onnx.TensorProto.INT32


@needs_deform_conv
def test_pooling_stem_exports():
    config = replace(SMALL, stem="pool")
    twin = calibrated("w4a8", config)
    file = to_onnx(twin, config.size)
    assert Counter(n.op_type for n in file.graph.node)["MaxPool"] == 1
    assert equal(twin, file, images(1))


@needs_deform_conv
def test_one_changed_parameter_is_noticed(model, tmp_path, monkeypatch):
    """The comparison before writing is no formality: a file with one other bias is refused and not written."""

    def damaged(*_args):
        file = onnx.ModelProto.FromString(model.SerializeToString())
        for t in file.graph.initializer:
            if t.name == "heads.hm.2.conv.bias":
                values = numpy_helper.to_array(t).copy()
                values[0] += 0.25
                t.CopyFrom(numpy_helper.from_array(values, t.name))
        return file

    monkeypatch.setattr("quant.export.to_onnx", damaged)
    with pytest.raises(
        ExportError, match=r"values of 'hm' differ between torch and onnxruntime, expected none"
    ):
        export_onnx(calibrated(), tmp_path / "m.onnx", SMALL.size, samples=images(1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [(60, 32), (64, 0), (64,)])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(ExportError, match=r"expected \(height, width\), multiples of 32"):
        to_onnx(calibrated(), size)


def test_unknown_flavour_is_refused():
    with pytest.raises(ExportError, match="flavour is 'tflite', expected 'qonnx' or 'qcdq'"):
        to_onnx(calibrated(), SMALL.size, flavour="tflite")


def test_nan_weights_are_refused_by_name():
    twin = copy.deepcopy(calibrated())
    twin.neck.conv.weight.data[0, 0] = float("nan")
    with pytest.raises(ExportError, match=r"neck\.conv\.weight hold NaN or infinity"):
        to_onnx(twin, SMALL.size)


def test_sums_beyond_float_are_refused():
    twin = quantize_model(float_model())
    twin.neck.conv.bias.data.fill_(1e6)
    with pytest.raises(ExportError, match=r"sums of neck\.conv can exceed 2\^24"):
        to_onnx(twin, SMALL.size)


def test_an_unwritable_place_is_an_error(model, tmp_path, monkeypatch):
    monkeypatch.setattr("quant.export.to_onnx", lambda *_: model)
    with pytest.raises(ExportError, match="expected a writable file"):
        export_onnx(calibrated(), tmp_path / "nowhere" / "m.onnx", SMALL.size)


def test_accumulator_bounds_hold(model):
    bounds = accumulator_bounds(model)
    assert set(bounds) == set(weight_layers(calibrated()))
    assert max(bounds.values()) < 2**24


def test_batch_of_two_in_torch_is_two_single_images():
    twin, x = calibrated(), images(2, seed=4)
    with torch.no_grad():
        both = [y.numpy() for y in twin.eval()(x)]
    assert all(np.array_equal(a, b) for a, b in zip(both, torch_outputs(twin, x), strict=True))


def test_integer_graph_computes_the_same_bits(model):
    from codesign.ir import evaluate
    from codesign.onnx_io import import_model

    graph, x = import_model(model), images(2, seed=6)
    codes = (x * 128).long().permute(0, 2, 3, 1).numpy()
    got = evaluate(graph, {"image": codes})
    for name, expected in zip(calibrated().outputs, torch_outputs(calibrated(), x), strict=True):
        assert np.array_equal(got[name] * graph.scales[name], expected.transpose(0, 2, 3, 1)), name
