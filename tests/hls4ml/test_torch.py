"""A quantized torch network through hls4ml's PyTorch parser."""

import contextlib
import io

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch: not installed, expected the extra [quant]")
pytest.importorskip("brevitas", reason="brevitas: not installed, expected the extra [quant]")

from torch import nn  # noqa: E402

import codesign.hls4ml  # noqa: E402
from codesign.errors import TypeMismatch  # noqa: E402
from codesign.hls4ml.parsers import exact_type  # noqa: E402
from quant.calibrate import calibrate  # noqa: E402
from quant.dynamic.dcnv4 import DCNv4Block  # noqa: E402
from quant.hls4ml import for_hls4ml  # noqa: E402
from quant.layers import ConvBlock, DeformBlock, OutputConv  # noqa: E402
from quant.quantize import quantize_model  # noqa: E402

SHAPE = (3, 6, 10)


class Net(nn.Module):
    """Strided 3x3, depthwise, deformable block, head: everything that has a handler."""

    def __init__(self, offsets="square"):
        super().__init__()
        self.input_quant = nn.Identity()
        self.stem = ConvBlock(3, 4, 3, 2)
        self.dw = ConvBlock(4, 4, 3, groups=4, relu=False, role="dw")
        self.deform = DeformBlock(4, 4, offsets, "rounded", 3)
        self.head = OutputConv(4, 3)

    def forward(self, x):
        return self.head(self.deform(self.dw(self.stem(self.input_quant(x)))))


def twin_of(net, shape=SHAPE):
    torch.manual_seed(1)
    nn.init.normal_(net.deform.offset.weight, 0, 0.6)
    for block in (net.stem, net.dw, net.deform.pw):
        nn.init.normal_(block.bn.running_mean, 0, 0.3)  # folded into biases
    images = torch.randint(-128, 128, (3, *shape)).float() / 128
    twin = quantize_model(net.eval())
    calibrate(twin, [images])
    return twin.eval(), images


def design_of(plain, io_type, folder, shape=SHAPE):
    codesign.hls4ml.register()
    import hls4ml

    with contextlib.redirect_stdout(io.StringIO()):
        config = hls4ml.utils.config_from_pytorch_model(
            plain, shape, "name", "Vitis", channels_last_conversion="internal", transpose_outputs=False
        )
        return hls4ml.converters.convert_from_pytorch_model(
            plain, hls_config=config, backend="Vitis", io_type=io_type, output_dir=str(folder)
        )


def test_the_plain_copy_computes_the_same_and_leaves_the_twin_alone():
    twin, images = twin_of(Net())
    with torch.no_grad():
        before = twin(images)
        plain = for_hls4ml(twin, images[:1])
        assert torch.equal(plain(images), before)
        assert torch.equal(twin(images), before)
    assert len(before.unique()) > 20
    assert all(layer.bias.any() for layer in (plain.stem.conv, plain.dw.conv, plain.deform.pw.conv))


def test_every_quantizer_becomes_a_type(tmp_path):
    twin, images = twin_of(Net())
    design = design_of(for_hls4ml(twin, images), "io_stream", tmp_path)
    results = {layer.name: str(layer.get_output_variable().type.precision) for layer in design.get_layers()}
    assert results["input_quant"] == "fixed<8,1,RND_CONV,SAT,0>"
    assert results["stem_conv"].startswith("ufixed<8,")
    for name in ("dw_conv", "deform_dw", "head_conv"):
        assert results[name].startswith("fixed<8,") and results[name].endswith("RND_CONV,SAT,0>")
    assert "TRN" in results["deform_offset"]  # raw: the deformable layer rounds


@pytest.mark.slow  # hls4ml compiles with -O3 and ap_types
def test_compile_and_predict_equal_the_twin(tmp_path):
    twin, images = twin_of(Net())
    design = design_of(for_hls4ml(twin, images), "io_parallel", tmp_path)
    design.compile()
    with torch.no_grad():
        expected = twin(images).numpy().transpose(0, 2, 3, 1)
    got = design.predict(np.ascontiguousarray(images.numpy().transpose(0, 2, 3, 1)))
    np.testing.assert_array_equal(got.reshape(expected.shape), expected)


def test_other_offsets_are_refused():
    twin, images = twin_of(Net("bounded"))
    with pytest.raises(ValueError, match="bounded, rounded offsets, expected square, rounded ones"):
        for_hls4ml(twin, images)


def test_dynamic_blocks_are_refused():
    net = Net()
    net.deform = DCNv4Block(4, 4, 3, 2)
    images, twin = torch.zeros(1, *SHAPE), quantize_model(net.eval())
    calibrate(twin, [images])
    with pytest.raises(
        ValueError, match=r"^DCNv4Block: hls4ml has no such layer\. Build it with an engine\.$"
    ):
        for_hls4ml(twin.eval(), images)


def test_grouped_convolutions_are_refused(tmp_path):
    twin, images = twin_of(Net())
    plain = for_hls4ml(twin, images)
    plain.dw.conv.groups = 2
    with pytest.raises(
        TypeMismatch, match="dw_conv: has 2 groups for 4 channels and 4 filters, expected one group"
    ):
        design_of(plain, "io_stream", tmp_path)


@pytest.mark.parametrize(
    ("values", "width", "integer"),
    [([0.0], 1, 1), ([0.5, -0.25], 3, 1), ([-3.0, 2.0], 3, 3), ([96.0, -128.0], 3, 8), ([2.0**-9], 2, -7)],
)
def test_exact_type_is_the_narrowest_that_holds_the_numbers(values, width, integer):
    found = exact_type(np.array(values, np.float32)).hls_type
    assert (found.width, found.integer, found.signed) == (width, integer, True)
