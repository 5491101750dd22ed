"""The smallest quantized network with an operator in it, and its way from torch to the C++."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from codesign.csim import Simulator
from codesign.ir import Array, Graph, evaluate
from codesign.onnx_io import export_integer, import_model
from codesign.plan import plan
from quant.calibrate import calibrate, correct_bias
from quant.dynamic import BLOCKS
from quant.export import onnx_outputs, to_onnx, torch_outputs
from quant.layers import ConvBlock, OutputConv
from quant.models import ModelConfig
from quant.quantize import quantize_model
from tests.engine.engines import engine, generic
from tests.onnx_models import nchw, nhwc, run_onnx
from tests.quant.twins import images

SIZE = (32, 64)


class Net(nn.Module):
    """Image -> 4x8 map -> the block -> 8x16 map."""

    outputs = ("y",)

    def __init__(self, name: str, width: int = 8) -> None:
        super().__init__()
        # The block takes the map that a decoder's last stage would take.
        config = ModelConfig("mini", SIZE, "stride4", decoder=(256, width, 64), bound=3)
        self.input_quant: nn.Module = nn.Identity()
        self.stem = nn.Sequential(ConvBlock(3, 6, 3, 4, role="stem"), ConvBlock(6, width, 3, 2))
        self.block = BLOCKS[name](config, width, 6)
        self.head = OutputConv(6, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.head(self.block(self.stem(self.input_quant(x)))),)


@cache
def twin(name: str, preset: str = "w4a8") -> nn.Module:
    """Calibrated, with predictions that vary and pass their bounds."""
    torch.manual_seed(1)
    net = Net(name).train()
    with torch.no_grad():
        for key, p in net.named_parameters():
            if any(part in key for part in ("predict", "step", "make", "excite", "decide", "head")):
                p.add_(torch.randn_like(p) * 1.5)
    for k in range(4):
        net(images(4, SIZE, 50 + k))
    quantized = quantize_model(net.eval(), preset)
    batches = [images(4, SIZE, k) for k in range(2)]
    calibrate(quantized, batches)
    correct_bias(quantized, batches)
    return quantized.eval()


def assert_the_same_bits_everywhere(quantized: nn.Module) -> tuple[Graph, dict[str, Array]]:
    """Torch, the file in onnxruntime, the integer graph, its integer-valued file, and the C++ with both kinds of types.

    Returns the graph and the values of all its tensors.
    """
    file, x = to_onnx(quantized, SIZE), images(2, SIZE, seed=6)
    (wanted,), (theirs,) = torch_outputs(quantized, x), onnx_outputs(file, x)
    np.testing.assert_array_equal(theirs, wanted)
    assert len(np.unique(wanted)) > 10
    graph, codes = import_model(file), (x * 128).long().permute(0, 2, 3, 1).numpy()
    values = evaluate(graph, {"image": codes}, keep=graph.types())
    np.testing.assert_array_equal(values["y"] * graph.scales["y"], wanted.transpose(0, 2, 3, 1))
    slow = evaluate(graph, {"image": codes[:1]}, reference=True)
    np.testing.assert_array_equal(slow["y"], values["y"][:1])
    whole = run_onnx(export_integer(graph), {"image": nchw(codes)})
    np.testing.assert_array_equal(nhwc(whole["y"]), values["y"])
    planned = plan(graph, config=generic(4))
    for kind, count in (("native", 2), ("ap", 1)):
        got = Simulator(engine(generic(4), kind), planned.program).run({"image": codes[:count]})
        np.testing.assert_array_equal(got["y"], values["y"][:count])
    return graph, values
