"""`codesign compare`: equal rungs say so, a damaged layer is named first, and every figure is what it is called."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from PIL import Image

from codesign import cli, compare_pictures
from codesign.compare import Comparison, channel_factors, compare
from codesign.compare_figures import decibels
from codesign.compare_match import _common, match
from codesign.csim import Simulator
from codesign.errors import CodesignError, ModelError, ToolMissing
from codesign.images import letterbox, read_image, to_codes
from codesign.ir import evaluate
from codesign.onnx_io import import_model
from codesign.ops import Requant
from codesign.shipped import find_model, samples
from codesign.trace import Reading
from codesign.trace_rungs import open_side, open_sides, parse_side
from tests.kernels import needs_deform_conv
from tests.mini import MINI, bundle_of_mini
from tests.models import Builder
from tests.onnx_models import QUANT_BODY, edited, to_onnx
from tests.twins import with_tensor, without_quantizers

Damage = Callable[[onnx.ModelProto, str], onnx.ModelProto]
TINY = find_model("codenet-tiny")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["compare", *map(str, arguments)])
    return int(ended.value.code or 0)


def picture(size: int) -> dict[str, np.ndarray]:
    codes = to_codes(letterbox(read_image(samples()[0]), size, size)[0])
    return {"image": (codes[None] / 128).astype(np.float32)}


def saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def shift_off_by_one(model: onnx.ModelProto, layer: str) -> onnx.ModelProto:
    """The same codes, of twice the value."""
    for part in (".weight", ".weight.scale", ".bias", ".bias.scale"):
        model = with_tensor(model, layer + part, lambda array: array * 2)
    return model


def weights_clipped(model: onnx.ModelProto, layer: str) -> onnx.ModelProto:
    """To a third of the largest, as by a scale that was calibrated badly."""
    return with_tensor(model, f"{layer}.weight", lambda w: w.clip(-np.abs(w).max() / 3, np.abs(w).max() / 3))


def weights_in_another_order(model: onnx.ModelProto, layer: str) -> onnx.ModelProto:
    return with_tensor(
        model, f"{layer}.weight", lambda w: w[..., ::-1, ::-1] if w.shape[-1] > 1 else w[:, ::-1]
    )


@pytest.fixture(scope="module")
def float_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(without_quantizers(onnx.load(TINY)), tmp_path_factory.mktemp("float") / "float.onnx")


DAMAGES = pytest.mark.parametrize(
    ("layer", "damage"),
    [
        ("stages.1.1.branch2.2.conv", shift_off_by_one),
        ("stages.0.1.branch2.1.conv", weights_clipped),
        ("decoder.1.dw", weights_in_another_order),
        ("heads.wh.1.conv", shift_off_by_one),
        ("neck.conv", weights_in_another_order),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)


@DAMAGES
def test_a_damaged_layer_is_named_first_and_no_other_is_blamed(
    layer: str, damage: Damage, tmp_path: Path
) -> None:
    bad = saved(damage(onnx.load(TINY), layer), tmp_path / "bad.onnx")
    found = compare(open_side(str(TINY)), open_side(str(bad)), [picture(128)])
    assert not found.must_agree
    worst, *others = found.ranked
    assert (worst.b.name, worst.different > 0, worst.alone < 15) == (layer, True, True)
    assert all(math.isinf(f.alone) for f in others)
    before = found.layers[: worst.index]
    assert not any(f.different for f in before)
    assert any(f.different for f in found.layers[worst.index + 1 :])


@needs_deform_conv
@DAMAGES
def test_against_the_float_parent_too(layer: str, damage: Damage, float_tiny: Path, tmp_path: Path) -> None:
    """Here every layer loses something, and those behind the damaged one as much as it does."""
    bad = saved(damage(onnx.load(TINY), layer), tmp_path / "bad.onnx")
    found = compare(open_side(str(float_tiny)), open_side(f"{bad}@onnx"), [picture(128)])
    first, second = found.ranked[:2]
    assert first.b.name == layer
    assert first.alone < second.alone - 3
    assert all(f.alone_known for f in found.layers)


@needs_deform_conv
def test_rungs_of_one_model_agree_in_every_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = bundle_of_mini(tmp_path / "bundle")
    sums = []
    for a, b in (("onnx", "integer"), ("integer", "onnx-integer"), ("onnx-integer", "csim")):
        assert run(f"{bundle}@{a}", f"{bundle}@{b}", "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["different"], said["must_agree"], said["pictures"]) == (0, True, 2)
        assert (said["only_a"], said["only_b"], said["matched"]["in_order"]) == ([], [], 0)
        assert all(la["sqnr_db"] is None and la["alone_db"] is None for la in said["layers"])
        assert said["values"] == sum(la["values"] for la in said["layers"]) > 10_000
        sums.append((len(said["layers"]), len(said["unseen"])))
    assert sums[0] == sums[1] == (sum(sums[2]), 0)  # a simulation holds no tensor for what is only addresses
    assert sums[2][1] > 0
    assert run(bundle, f"{MINI}@integer") == 0
    assert "0 of " in capsys.readouterr().out


def test_a_rung_that_differs_ends_with_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate = Simulator.run

    def wrong(*args: Any, **kwargs: Any) -> dict[str, np.ndarray]:
        values = simulate(*args, **kwargs)
        values["wh"][0, 0, 0, 0] ^= 1
        return values

    bundle = bundle_of_mini(tmp_path / "bundle")
    monkeypatch.setattr(Simulator, "run", wrong)
    assert run(f"{MINI}@integer", bundle) == 1
    ended = capsys.readouterr()
    assert "2 of " in ended.out and "Most is lost in wh.2.conv." in ended.out  # in each of two pictures
    assert "differs: first in wh.2.conv, in 2 of 1,536 values; no rung may differ" in ended.err


def test_the_cpp_of_a_damaged_model_is_traced_to_the_layer(tmp_path: Path) -> None:
    from codesign.cli_compile import build_bundle

    layer = "stages.1.1.branch2.2.conv"
    bad = saved(shift_off_by_one(onnx.load(MINI), layer), tmp_path / "bad.onnx")
    build_bundle(str(bad), tmp_path / "bundle", "ultra96")
    feed = {"image": np.random.default_rng(1).integers(-128, 128, (1, 64, 96, 3)).astype(np.float32) / 128}
    found = compare(open_side(str(MINI)), open_side(str(tmp_path / "bundle")), [feed])
    assert found.b.rung == "csim"
    worst, *others = found.ranked
    assert worst.b.name == layer
    assert all(math.isinf(f.alone) for f in others)


def test_figures_are_what_they_are_called(tmp_path: Path) -> None:
    """Recomputed here from the two graphs alone."""
    layer = "stages.1.1.branch2.2.conv"
    bad = saved(shift_off_by_one(onnx.load(MINI), layer), tmp_path / "bad.onnx")
    random = np.random.default_rng(4)
    codes = [random.integers(-128, 128, (1, 64, 96, 3)) for _ in range(2)]
    feeds = [{"image": (c / 128).astype(np.float32)} for c in codes]
    found = compare(open_side(str(MINI)), open_side(str(bad)), feeds)
    graphs = import_model(MINI), import_model(bad)
    a, b = (evaluate(g, {"image": np.concatenate(codes)}, keep=g.types(), reference=True) for g in graphs)
    steps = {name: grid.scale for name, grid in found.a.grids.items()}
    assert found.pictures == 2
    for f in found.layers:
        x, y = (values[f.b.value] for values in (a, b))
        assert f.values == x.size
        assert f.different == np.count_nonzero(x != y)
        assert f.worst / steps[f.b.value] == np.abs(x - y).max()
        if f.different:
            wanted = 10 * math.log10(np.sum(x**2) / np.sum((x - y) ** 2))
            assert f.sqnr == pytest.approx(wanted, abs=1e-6)  # float sums in another order
        assert f.range_b is not None
        assert (f.range_b.low, f.range_b.high) == (y.min(), y.max())
        assert f.counts_a.sum() == f.counts_b.sum() == x.size
        requant = f.b.body[-1]
        if isinstance(requant.op, Requant):
            bias, mult, shift = (graphs[1].consts[s] for s in requant.inputs[1:])
            real = (b[requant.inputs[0]] + bias) * mult * 2.0**-shift
            assert f.range_b.clipped is not None
            assert f.range_b.clipped.below == np.count_nonzero(np.rint(real) < requant.op.lo)
            assert f.range_b.clipped.above == np.count_nonzero(np.rint(real) > requant.op.hi)
        else:
            assert f.range_b.clipped is None
    assert [f.b.name for f in found.ranked][0] == layer
    noisiest = found.ranked[0].worst_channel
    own = np.sum((a[f"{layer}.q"] - b[f"{layer}.q"]) ** 2, axis=(0, 1, 2))  # its inputs are equal
    assert noisiest == (own.argmax(), pytest.approx(own.max() / own.sum()))


def test_decibels() -> None:
    assert decibels(100.0, 1.0) == pytest.approx(20)
    assert decibels(1.0, 0.0) == math.inf
    assert decibels(0.0, 0.0) == math.inf
    assert decibels(0.0, 1.0) < -1000


@needs_deform_conv
def test_layers_without_common_names_are_matched_in_order(float_tiny: Path, tmp_path: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        names = {t.name: f"p{i}" for i, t in enumerate(model.graph.initializer)}
        for tensor in model.graph.initializer:
            tensor.name = names[tensor.name]
        for i, node in enumerate(model.graph.node):
            node.name = f"n{i}"
            for k, name in enumerate(node.input):
                node.input[k] = names.get(name, name)

    renamed = saved(edited(onnx.load(float_tiny), rename), tmp_path / "renamed.onnx")
    bad = saved(shift_off_by_one(onnx.load(TINY), "neck.conv"), tmp_path / "bad.onnx")
    sides = [open_side(str(p)) for p in (float_tiny, renamed)]
    b = open_side(str(bad))
    by_name, in_order = (match(a, b) for a in sides)
    assert (by_name.in_order, in_order.by_name) == (0, 0)
    assert in_order.in_order == by_name.by_name
    pairs = [{(x.value, y.name) for x, y in m.pairs if y.computes} for m in (by_name, in_order)]
    assert pairs[0] == pairs[1]
    assert compare(sides[1], b, [picture(128)]).ranked[0].b.name == "neck.conv"


@given(st.lists(st.integers(0, 3), max_size=7), st.lists(st.integers(0, 3), max_size=7))
def test_the_common_sequence_is_common_and_no_other_is_longer(a: list[int], b: list[int]) -> None:
    pairs = _common(a, b)
    assert all(a[i] == b[j] for i, j in pairs)
    assert pairs == sorted(pairs) and len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    subsets = [[v for k, v in enumerate(a) if mask >> k & 1] for mask in range(1 << len(a))]

    def within(part: list[int]) -> bool:
        rest = iter(b)
        return all(v in rest for v in part)

    assert len(pairs) == max(len(s) for s in subsets if within(s))


def reading_pixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float network behind another reading of pixels: blue first, mean 0.5, red by 0.25, green by 0.5; any size."""

    def change(copy: onnx.ModelProto) -> None:
        values = {
            "order": np.array([2, 1, 0]),
            "std": np.array([0.25, 0.5, 1], np.float32).reshape(1, 3, 1, 1),
            "mean": np.float32(0.5),
            "full": np.float32(255),
            "half": np.float32(128),
        }
        copy.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in values.items())
        (image,) = (info for info in copy.graph.input)
        image.name = "blob"
        for dim in image.type.tensor_type.shape.dim[2:]:
            dim.dim_param = "any"
        chain = (
            ("Gather", "order"),
            ("Mul", "std"),
            ("Add", "mean"),
            ("Mul", "full"),
            ("Sub", "half"),
            ("Div", "half"),
        )
        before, last = [], "blob"
        for i, (op, constant) in enumerate(chain):
            made = "image" if i + 1 == len(chain) else f"read.{i}"
            attributes = {"axis": 1} if op == "Gather" else {}
            before.append(onnx.helper.make_node(op, [last, constant], [made], f"read.{i}", **attributes))
            last = made
        nodes = [*before, *copy.graph.node]
        del copy.graph.node[:], copy.graph.value_info[:]
        copy.graph.node.extend(nodes)

    return edited(model, change)


@needs_deform_conv
def test_a_float_file_that_reads_pixels_otherwise_is_given_the_same_picture(
    float_tiny: Path, tmp_path: Path
) -> None:
    def state(model: onnx.ModelProto) -> None:
        entry = model.metadata_props.add()
        entry.key = "codesign.pixels"
        entry.value = json.dumps({"mean": [0.5], "std": [0.25, 0.5, 1], "bgr": True, "size": [128, 128]})

    foreign = saved(reading_pixels(onnx.load(float_tiny)), tmp_path / "foreign.onnx")
    stated = edited(onnx.load(TINY), state)
    quantized = saved(stated, tmp_path / "q.onnx")
    sides = open_sides(str(foreign), str(quantized))
    assert (sides[0].inputs, sides[1].inputs) == ({"blob": (128, 128, 3)}, {"image": (128, 128, 3)})
    found = compare(*sides, [{"blob": picture(128)["image"]}])
    plain = compare(*open_sides(str(float_tiny), str(TINY)), [picture(128)])
    assert len(found.layers) == len(plain.layers)
    assert [f.b.name for f in found.ranked[:5]] == [f.b.name for f in plain.ranked[:5]]
    for one, other in zip(found.layers, plain.layers, strict=True):
        assert one.sqnr == pytest.approx(
            other.sqnr, abs=0.05
        )  # float32 reads the picture 1e-7 apart: few codes differ


def test_how_a_network_reads_pixels() -> None:
    image = np.array([-128, 0, 127], np.float32).reshape(1, 1, 1, 3) / 128
    reading = Reading.from_meta(
        {"codesign.pixels": '{"mean": [0, 0.5, 1], "std": [1, 0.5, 0.25], "bgr": true}'}
    )
    assert reading is not None
    wanted = [(255 / 255 - 1) / 0.25, (128 / 255 - 0.5) / 0.5, 0.0]  # blue, green, red
    assert reading.apply(image, 3).reshape(-1).tolist() == pytest.approx(wanted, abs=1e-6)  # float32
    assert reading.apply(image, 1).reshape(-1).tolist() == pytest.approx(
        [(0 + 128 + 255) / 255 / 3], abs=1e-6
    )
    assert Reading.from_meta({}) is None
    with pytest.raises(ModelError) as error:
        Reading.from_meta({"codesign.pixels": "{}"})
    assert str(error.value) == (
        "metadata 'codesign.pixels' is not understood (KeyError: 'mean'), expected mean, std and bgr. "
        "Quantize the model again."
    )


def equalized(model: onnx.ModelProto, block: str) -> onnx.ModelProto:
    """The same float network with other factors between a block's first two convolutions, which have a ReLU between."""
    (bias,) = (t for t in model.graph.initializer if t.name == f"{block}.0.conv.bias")
    by_channel = 2.0 ** np.random.default_rng(2).integers(-3, 4, bias.dims[0])
    model = with_tensor(model, f"{block}.0.conv.weight", lambda w: w * by_channel[:, None, None, None])
    model = with_tensor(model, f"{block}.0.conv.bias", lambda b: b * by_channel)
    return with_tensor(model, f"{block}.1.conv.weight", lambda w: w / by_channel[:, None, None, None])


@needs_deform_conv
def test_an_equalized_file_is_noticed(
    float_tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = (
        "layers differ mostly by a factor per channel, as equalization leaves them: if B was equalized, add "
    )
    model = onnx.load(float_tiny)
    for stage, count in ((0, 3), (1, 4)):
        for unit in range(count):
            model = equalized(model, f"stages.{stage}.{unit}.branch2")
    scaled = saved(model, tmp_path / "scaled.onnx")
    assert run(scaled, TINY) == 0
    assert f"7 {said}--equalized." in capsys.readouterr().err
    assert run(scaled, TINY, "--equalized") == 0
    assert said not in capsys.readouterr().err
    bad = saved(shift_off_by_one(onnx.load(TINY), "stem.conv.conv"), tmp_path / "bad.onnx")
    assert run(float_tiny, bad) == 0
    assert said not in capsys.readouterr().err


@needs_deform_conv
def test_channels_that_equalization_scaled_are_scaled_alike_first(float_tiny: Path, tmp_path: Path) -> None:
    first, second = "stages.0.0.branch2.0.conv", "stages.0.0.branch2.1.conv"
    model = equalized(onnx.load(float_tiny), "stages.0.0.branch2")
    sides = open_sides(str(saved(model, tmp_path / "scaled.onnx")), str(TINY))
    feeds = [picture(128)]
    plain = compare(*sides, feeds)
    assert plain.ranked[0].b.name in (first, second)
    assert plain.ranked[0].alone < 5
    parent = open_sides(str(float_tiny), str(TINY))
    found, wanted = (compare(*pair, feeds, channel_factors(*pair, feeds)) for pair in (sides, parent))
    for one, other in zip(found.layers, wanted.layers, strict=True):  # powers of two: the very same floats
        assert (one.sqnr, one.alone) == (pytest.approx(other.sqnr), pytest.approx(other.alone))


def small(seed: int) -> onnx.ModelProto:
    b = Builder(seed)
    x = b.conv("one", b.input("features", (6, 8, 16)), 12)
    b.dwconv("two", x, result="y")
    return to_onnx(b.graph(("y",), {"y": 2.0**-4}))


@pytest.mark.parametrize("rung", ["onnx", "onnx-integer", "csim"])
def test_sums_of_maps_and_maps_that_grow_are_layers_too(rung: str, tmp_path: Path) -> None:
    from tests.onnx_nodes import cases, wrap

    names = ("test_add", "test_concat_3d_axis_0", "test_sum_two_inputs", "test_depthtospace_example")
    for name in names[: 2 if rung == "csim" else 4]:  # each is another engine to compile
        wrapped = wrap(cases()[name])
        path = saved(wrapped.model, tmp_path / f"{name}.onnx")
        model = onnx.load(path)
        model.functions.append(onnx.parser.parse_function(QUANT_BODY))
        saved(model, path)
        sides = open_sides(str(path), f"{path}@{rung}")
        feed = {k: sides[0].grids[k].real(codes) for k, codes in wrapped.codes.items()}
        found = compare(*sides, [feed])
        assert found.must_agree and not found.different, name
        assert found.values > 0


def test_a_network_of_features_is_compared_on_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = saved(small(1), tmp_path / "small.onnx")
    assert run(model, f"{model}@csim", "--json") == 0
    ended = capsys.readouterr()
    said = json.loads(ended.out)
    assert [la["name"] for la in said["layers"]] == ["one", "two"]
    assert (said["different"], said["values"]) == (0, 2 * 2 * 6 * 8 * 12)
    assert ended.err.startswith("The input is no picture: compared on noise.")


def test_pictures_and_their_figures_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = saved(weights_clipped(onnx.load(MINI), "neck.conv"), tmp_path / "bad.onnx")
    spec = "scenes:count=3,size=64"
    assert run(MINI, bad, "--data", spec, "--limit", "2", "-o", tmp_path / "out") == 0
    assert "Most is lost in neck.conv." in capsys.readouterr().out
    said = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert said["pictures"] == 2
    assert [la["name"] for la in said["layers"] if la["rank"] == 1] == ["neck.conv"]
    for name in ("overview.png", "worst.png"):
        image = np.asarray(Image.open(tmp_path / "out" / name).convert("RGB"))
        assert min(image.shape[:2]) > 200
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20  # something is drawn


def comparison() -> Comparison:
    feed = {"image": np.zeros((1, 64, 96, 3), np.float32)}
    return compare(open_side(str(MINI)), open_side(str(MINI)), [feed])


def test_pictures_of_no_difference_can_be_drawn() -> None:
    found = comparison()
    for png in (compare_pictures.overview(found), compare_pictures.worst_layers(found)):
        assert Image.open(io.BytesIO(png)).format == "PNG"


def test_without_matplotlib_only_the_pictures_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    found = comparison()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ToolMissing) as error:
        compare_pictures.overview(found)
    assert str(error.value) == (
        "matplotlib: not installed, expected for the pictures of -o. Install the extra: "
        "pip install 'codesign-fpga[quant]', or leave out -o."
    )


def test_sides_are_written_with_an_at_sign(tmp_path: Path) -> None:
    odd = tmp_path / "a@integer"
    odd.write_text("")
    assert parse_side("m.onnx@csim") == ("m.onnx", "csim")
    assert parse_side("m.onnx") == ("m.onnx", None)
    assert parse_side(str(odd)) == (str(odd), None)
    with pytest.raises(ModelError) as error:
        parse_side("m.onnx@float")
    assert str(error.value) == (
        "m.onnx@float: rung 'float' is not known, expected one of onnx, integer, onnx-integer, csim, csim-ap. "
        "Correct it."
    )


def test_what_cannot_be_compared_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*arguments: object) -> str:
        assert run(*arguments) == 2
        return capsys.readouterr().err.partition("error: ")[2].strip().replace(str(tmp_path), "D")

    plain = saved(without_quantizers(onnx.load(MINI)), tmp_path / "float.onnx")
    assert error(f"{plain}@integer", MINI) == (
        "D/float.onnx: has no quantizer, expected some on rung integer. Quantize it, or compare it as "
        "D/float.onnx@onnx."
    )
    features = saved(small(1), tmp_path / "small.onnx")
    assert error(features, MINI).replace(str(MINI), "mini.onnx") == (
        "D/small.onnx@integer and mini.onnx@integer: their inputs are features [6, 8, 16] and image [64, 96, 3] "
        "(height, width, channels), expected the same. Compare models of one network."
    )
    assert error(features, features, "--images", samples()[0]) == (
        "D/small.onnx@integer: its inputs are features [6, 8, 16], expected one picture. Leave out --images and --data."
    )
    b = Builder(3)
    b.conv("other", b.input("features", (6, 8, 16)), 5, result="z")
    other = saved(to_onnx(b.graph(("z",), {"z": 2.0**-4})), tmp_path / "other.onnx")
    assert error(features, other) == (
        "D/small.onnx@integer and D/other.onnx@integer: have no layer in common, neither by name nor by kind and "
        "shape. Compare models of one network."
    )
    with pytest.raises(CodesignError) as caught:
        compare(open_side(str(MINI)), open_side(str(MINI)), [])
    assert str(caught.value).endswith(": no picture to compare on. Give one with --images.")
