"""Small networks with gates and mixed weights: from torch through hls4ml's PyTorch parser, and from their files."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch: not installed, expected the extra [quant]")
pytest.importorskip("brevitas", reason="brevitas: not installed, expected the extra [quant]")

from torch import nn  # noqa: E402

from codesign import onnx_io  # noqa: E402
from codesign.board import load_board  # noqa: E402
from codesign.difference import failed  # noqa: E402
from codesign.errors import TypeMismatch  # noqa: E402
from codesign.hls4ml import project  # noqa: E402
from codesign.hls4ml.report import report  # noqa: E402
from codesign.hls4ml.verify import climb  # noqa: E402
from quant.calibrate import calibrate  # noqa: E402
from quant.dynamic.channel_gate import SelectiveKernelBlock, SqueezeExciteBlock  # noqa: E402
from quant.dynamic.condconv import CondConvBlock  # noqa: E402
from quant.dynamic.fdconv import FDConvBlock  # noqa: E402
from quant.export import export_onnx  # noqa: E402
from quant.hls4ml import for_hls4ml  # noqa: E402
from quant.layers import ConvBlock, OutputConv  # noqa: E402
from quant.quantize import quantize_model  # noqa: E402
from tests.hls4ml.test_torch import design_of  # noqa: E402

SHAPE, FILE = (3, 8, 16), (3, 32, 32)


class Net(nn.Module):
    """A mixed convolution with its gates, then gates a channel; means are of 4x8 and 8x16 pixels."""

    def __init__(self, mixed):
        super().__init__()
        self.input_quant = nn.Identity()
        self.stem = ConvBlock(3, 4, 3, 2)
        self.mixed = mixed
        self.gated = SqueezeExciteBlock(6, 4)
        self.head = OutputConv(4, 1)

    def forward(self, x):
        return self.head(self.gated(self.mixed(self.stem(self.input_quant(x)))))


class ForFile(nn.Module):
    """The same with outputs as the export wants them."""

    outputs = ("y",)

    def __init__(self, twin):
        super().__init__()
        self.twin = twin

    def forward(self, x):
        return (self.twin(x),)


def dense():
    return CondConvBlock(4, 6, 3, 3)


def shares():
    return CondConvBlock(4, 6, 1, 3, "softmax", 2)


def images_of(count, shape=SHAPE):
    return torch.randint(-128, 128, (count, *shape)).float() / 128


def trained(block):
    """A twin of a network that has learned a little to find pixels brighter than the frame's mean, and images."""
    torch.manual_seed(1)
    net = Net(block())
    optimizer, losses = torch.optim.Adam(net.parameters(), 0.02), []
    for _ in range(40):
        images = images_of(8) * 0.5 + torch.randn(8, 1, 1, 1) * 0.2
        means = images.mean(1, keepdim=True)
        target = (means > means.mean((2, 3), keepdim=True)).float()
        predicted = nn.functional.avg_pool2d(net(images), 4)
        loss = nn.functional.mse_loss(predicted, nn.functional.avg_pool2d(target, 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    images = images_of(3)
    twin = quantize_model(net.eval())
    calibrate(twin, [images])
    return twin.eval(), images


@pytest.mark.parametrize(
    "block", [dense, shares, lambda: FDConvBlock(4, 6)], ids=["dense", "shares", "fdconv"]
)
@torch.no_grad()
def test_the_plain_copy_computes_the_same(block):
    torch.manual_seed(1)
    net = Net(block())
    for gate in (net.mixed.gate, net.gated.gate):
        nn.init.normal_(gate.excite.weight, 0, 1.5)
    nn.init.normal_(net.head.conv.weight, 0, 4.0)
    images, twin = images_of(3), quantize_model(net.eval())
    calibrate(twin, [images])
    expected = twin.eval()(images)
    plain = for_hls4ml(twin, images[:1])
    assert len(expected.unique()) > 8
    assert torch.equal(plain(images), expected)
    pooled = plain.mixed.gate(plain.stem(plain.input_quant(images)))
    assert len(pooled.unique(dim=0)) == 3  # gates of each image


@pytest.mark.slow  # hls4ml compiles with -O3 and ap_types
def test_compile_and_predict_equal_the_twin(tmp_path):
    twin, images = trained(dense)
    design = design_of(for_hls4ml(twin, images), "io_parallel", tmp_path, SHAPE)
    names = [layer.class_name for layer in design.get_layers()]
    assert {"GlobalSum2D", "CodeTable", "MixedConv2D", "ChannelMix2D"} <= set(names)
    design.compile()
    with torch.no_grad():
        expected = twin(images).numpy().transpose(0, 2, 3, 1)
    assert len(np.unique(expected)) > 8
    got = design.predict(np.ascontiguousarray(images.numpy().transpose(0, 2, 3, 1)))
    np.testing.assert_array_equal(got.reshape(expected.shape), expected)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The directory of a trained network whose gates are a softmax."""
    folder = tmp_path_factory.mktemp("mixing")
    twin, _ = trained(shares)
    export_onnx(ForFile(twin), folder / "net.onnx", FILE[1:], samples=images_of(2, FILE))
    graph = onnx_io.import_model(folder / "net.onnx")
    project.build(
        graph, folder / "net.onnx", folder / "design", load_board("pynq-z2"), "io_stream", lambda text: None
    )
    return folder / "design"


def test_the_flow_writes_a_board_project_and_reports(shared):
    design = project.load(shared)
    assert design.backend == "VivadoAccelerator"
    written = {path.name for path in (design.hls / "firmware" / "nnet_utils").iterdir()}
    assert {"nnet_gates.h", "nnet_mixed_conv.h"} <= written
    cycles = report(design).cycles
    mixed = next(name for name in cycles if name.startswith("MixedConv2D"))
    assert cycles[mixed]["estimated"] == 4 + 16 * 16  # four channels to mix, then a pixel a cycle
    assert json.loads((shared / "manifest.json").read_text())["estimated"]["multipliers"][mixed] == 6 * (
        3 + 4
    )


@pytest.mark.slow  # compiles ap_types
def test_the_flow_verifies_every_rung(shared):
    rungs = climb(project.load(shared), [])
    assert not failed(rungs)
    simulated = next(rung for rung in rungs if rung.number == 5)
    assert (simulated.status, simulated.different, simulated.compared) == ("ok", 0, 64 * 64)


def test_branches_are_refused_in_torch():
    images, twin = images_of(1), quantize_model(Net(SelectiveKernelBlock(4, 6)).eval())
    calibrate(twin, [images])
    with pytest.raises(
        ValueError, match=r"^SelectiveKernelBlock: hls4ml has no such layer\. Build it with an engine\.$"
    ):
        for_hls4ml(twin.eval(), images)


def test_means_without_an_exact_factor_are_refused_in_torch(tmp_path):
    shape = (3, 6, 16)
    images, twin = images_of(1, shape), quantize_model(Net(dense()).eval())
    calibrate(twin, [images])
    with pytest.raises(TypeMismatch, match="is the mean of 3x8 pixels, expected a power of two of them"):
        design_of(for_hls4ml(twin.eval(), images), "io_stream", tmp_path, shape)
