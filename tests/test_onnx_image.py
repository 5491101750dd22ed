"""Files whose image has no quantizer: it is given one, and the rest is imported as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from codesign import cli
from codesign.bundle import load
from codesign.errors import ModelError, ModelRefused
from codesign.ir import evaluate
from codesign.onnx_image import with_image_quantizer
from codesign.onnx_io import import_model
from codesign.rungs import integer_runner, onnx_runner
from tests.models import random_codenet_graph
from tests.onnx_models import to_onnx


@pytest.fixture
def bare() -> onnx.ModelProto:
    """A quantized network without the quantizer of its image, whose name another value has."""
    model = to_onnx(random_codenet_graph(seed=5, size=16, max_offset=2))
    (quant,) = (node for node in model.graph.node if node.name == "image.q")
    for node in model.graph.node:
        node.input[:] = ["image" if name == quant.output[0] else name for name in node.input]
    model.graph.node.remove(quant)
    model.graph.node[0].name = "image.pixels"
    return model


def test_pixels_become_codes(bare: onnx.ModelProto, tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="reads the graph input 'image' unquantized"):
        import_model(bare)
    before = bare.SerializeToString()
    for pixels, scale in (("unit", 1 / 255), ("pixels", 1.0)):
        made = with_image_quantizer(bare, pixels, "net")
        graph = import_model(made)
        assert str(graph.inputs["image"]).startswith("u8") and graph.scales["image"] == np.float32(scale)
        onnx.save(made, tmp_path / "net.onnx")
        picture = np.random.default_rng(1).integers(0, 256, (16, 16, 3)).astype(np.uint8)
        wanted = evaluate(graph, {"image": picture[None].astype(np.int64)})
        maps = integer_runner(tmp_path / "net.onnx").maps(picture)
        assert all(np.array_equal(maps[name], wanted[name][0]) for name in graph.outputs)
        if pixels == "pixels":  # by 1/255, float32 decides ties by its own rounding
            found = onnx_runner(tmp_path / "net.onnx").maps(picture)
            assert all(np.array_equal(found[name], wanted[name][0]) for name in graph.outputs)
    assert bare.SerializeToString() == before


def test_what_has_one_or_is_no_image(bare: onnx.ModelProto) -> None:
    quantized = with_image_quantizer(bare, "unit", "net")
    with pytest.raises(
        ModelError, match=r"^net: its image 'image' is quantized already, expected .* Leave it out\.$"
    ):
        with_image_quantizer(quantized, "unit", "net")
    bare.graph.input.append(helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, [1]))
    with pytest.raises(ModelError, match=r"^net: its inputs are image, other, expected one image of floats"):
        with_image_quantizer(bare, "unit", "net")


def test_build_and_inspect_take_pixels(
    bare: onnx.ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, bundle = tmp_path / "net.onnx", tmp_path / "bundle"
    onnx.save(bare, file)

    def run(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(a) for a in arguments])
        return int(ended.value.code or 0), capsys.readouterr().err

    code, said = run("build", file, "-o", bundle)
    assert code == 2 and "say how it reads them: `codesign build --pixels`." in said and not bundle.exists()
    assert run("inspect", file, "--pixels", "unit")[0] == 0
    assert run("build", file, "-o", bundle, "--pixels", "pixels", "--lanes", 4, "--array", "1x1")[0] == 0
    assert not load(bundle).program.inputs["image"].signed
    bare.graph.node.append(helper.make_node("Hardmax", [bare.graph.output[0].name], ["hard"], "hard"))
    bare.graph.output[0].name = "hard"
    onnx.save(bare, file)
    code, said = run("build", file, "-o", bundle, "--pixels", "unit")
    assert code == 2 and said.startswith(f"error: {file}: 1 part cannot be compiled.\n  Hardmax 'hard'")
