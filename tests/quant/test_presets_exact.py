"""Every preset obeys the integer contract: torch, onnxruntime, the integer graph and the C++ agree on every code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codesign.csim import Simulator
from codesign.ir import evaluate
from codesign.onnx_io import import_model
from codesign.plan import plan
from quant.export import export_onnx, torch_outputs
from quant.preset import names, preset
from quant.quantize import weight_layers
from tests.engine.engines import engine, generic
from tests.kernels import needs_deform_conv
from tests.quant.twins import SMALL, calibrated, images


@needs_deform_conv
@pytest.mark.parametrize("name", names())
def test_torch_file_integers_and_cpp_agree(tmp_path, name):
    twin, x = calibrated(name), images(3, seed=11)
    report = export_onnx(twin, tmp_path / "model.onnx", SMALL.size, samples=x)
    assert report.compared and not report.different
    graph = import_model(tmp_path / "model.onnx")
    codes = (x.permute(0, 2, 3, 1) * 128).round().to(torch.int8).numpy()
    integers = evaluate(graph, {"image": codes})
    for output, wanted in zip(twin.outputs, torch_outputs(twin, x), strict=True):
        assert np.array_equal(integers[output] * graph.scales[output], wanted.transpose(0, 2, 3, 1)), output
    simulator = Simulator(engine(generic(8)), plan(graph, config=generic(8)).program)
    for output, array in simulator.run({"image": codes}).items():
        assert np.array_equal(array, integers[output]), output
        assert len(np.unique(array)) > 2, output  # lively: not everything saturated


@pytest.mark.parametrize("name", names())
def test_codes_stay_in_the_range_of_their_bits(name):
    plan_, twin = preset(name), calibrated(name)
    for layer in weight_layers(twin).values():
        quantizer = layer.weight_quant.tensor_quant
        codes = quantizer(layer.weight)[0] / quantizer.scale()
        most = 2 ** (quantizer.bits - 1) - 1
        assert torch.equal(codes, codes.round()) and 1 <= codes.abs().max() <= most
    assert {m.weight_quant.tensor_quant.bits for m in weight_layers(twin).values()} == set(
        plan_.bits.values()
    )
