"""Writes a quantized twin as model.onnx and proves that stock onnxruntime computes the very same numbers.

The canonical file is QONNX: float parameters that are exact multiples of their scales, Quant nodes, our node for
the deformable convolution, and bodies for both, so that the file runs as it is. `flavour="qcdq"` writes the same
network in QuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
from brevitas.export.onnx.qonnx.handler import (
    BrevitasActQuantProxyHandler,
    BrevitasBiasQuantProxyHandler,
    BrevitasWeightQuantProxyHandler,
)
from brevitas.export.onnx.qonnx.manager import QONNXManager
from onnx import helper
from torch import Tensor, nn

from codesign.errors import CodesignError
from quant.layers import plain
from quant.onnx_graph import (
    accumulator_bounds,
    fold_constants,
    name_after_modules,
    settle_parameters,
    to_qcdq,
)
from quant.onnx_ops import OPSET, OWN_DOMAIN, OWN_VERSION, QONNX_DOMAIN, QONNX_VERSION, functions
from quant.quantize import bake
from quant.quantizers import ActProxy, WeightProxy

FORMAT = "1"  # of model.onnx: what the compiler's importer checks under the key codesign.format
QCDQ = ("BoundedDeformConv", "SquareDeformConv")  # nodes of ours that qcdq has a form for
EXACT = 1 << 24  # float32 holds every integer up to here


class ExportError(CodesignError):
    """A network cannot be exported, or its file does not compute what the network computes."""


@dataclass(frozen=True)
class ExportReport:
    """What was written and how it was checked. `compared` output values, `different` of them not bit-equal."""

    path: Path
    flavour: str
    nodes: int
    parameters: int
    largest_accumulator: int
    compared: int
    different: int


class _WeightHandler(BrevitasWeightQuantProxyHandler):
    handled_layer = WeightProxy


class _ActHandler(BrevitasActQuantProxyHandler):
    handled_layer = ActProxy


class _Manager(QONNXManager):
    handlers = [_WeightHandler, _ActHandler, BrevitasBiasQuantProxyHandler]


def to_onnx(
    twin: nn.Module,
    size: tuple[int, int],
    meta: Mapping[str, str] | None = None,
    flavour: Literal["qonnx", "qcdq"] = "qonnx",
) -> onnx.ModelProto:
    """The twin as an ONNX model for one image of (height, width). The twin is not changed.

    Input "image" (1,3,H,W), value (pixel - 128) / 128; outputs under the names in `twin.outputs`.
    Raises ExportError for an unknown flavour, a size that is no multiple of 32, parameters that are not finite,
    or accumulators that float32 cannot hold.
    """
    _check_arguments(twin, size, flavour)
    traced = copy.deepcopy(twin).cpu().float().eval()  # a failed export would leave it in export mode
    bake(traced)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = _Manager.export(
            traced.to(memory_format=torch.contiguous_format),
            args=torch.zeros(1, 3, *size),
            opset_version=OPSET,
            dynamo=False,
            do_constant_folding=False,
            keep_initializers_as_inputs=False,
            input_names=["image"],
            output_names=list(twin.outputs),
        )
    fold_constants(raw)
    name_after_modules(raw, [n for n, _ in twin.named_modules(remove_duplicate=False)])
    settle_parameters(raw)
    too_large = {n: b for n, b in accumulator_bounds(raw).items() if b >= EXACT}
    if too_large:
        raise ExportError(
            f"export: sums of {', '.join(too_large)} can exceed 2^24, expected less, so that float32 is exact. "
            "Use fewer input channels or fewer weight bits there."
        )
    if flavour == "qcdq":
        if masked := [n.name for n in raw.graph.node if n.op_type == "ModulatedDeformConv"]:
            raise ExportError(
                f"export: {', '.join(masked)} have masks beside offsets, expected offsets alone in qcdq. Export qonnx."
            )
        own = [n.name for n in raw.graph.node if n.domain == OWN_DOMAIN and n.op_type not in QCDQ]
        if own:
            raise ExportError(
                f"export: {', '.join(own)} have no form in qcdq, expected deformable layers alone. Export qonnx."
            )
        to_qcdq(raw)
    return _finished(raw, {"codesign.format": FORMAT, **(meta or {})})


def _check_arguments(twin: nn.Module, size: tuple[int, int], flavour: str) -> None:
    if flavour not in ("qonnx", "qcdq"):
        raise ExportError(f"export: flavour is {flavour!r}, expected 'qonnx' or 'qcdq'. Choose one of them.")
    if len(size) != 2 or any(not isinstance(v, int) or v < 32 or v % 32 for v in size):
        raise ExportError(f"export: size is {size}, expected (height, width), multiples of 32. Round it up.")
    bad = [n for n, p in twin.named_parameters() if not torch.isfinite(p).all()]
    if bad:
        raise ExportError(
            f"export: {', '.join(bad)} hold NaN or infinity, expected finite numbers. "
            "Go back to a checkpoint before the training diverged."
        )


def _finished(raw: onnx.ModelProto, meta: Mapping[str, str]) -> onnx.ModelProto:
    """Functions, operator sets (the standard one first: some readers take entry 0), shapes and metadata."""
    used = {(n.domain, n.op_type) for n in raw.graph.node}
    attached = [f for f in functions() if (f.domain, f.name) in used]
    versions = {QONNX_DOMAIN: QONNX_VERSION, OWN_DOMAIN: OWN_VERSION}
    domains = dict.fromkeys(f.domain for f in attached)
    raw.graph.name = "main"
    model = helper.make_model(
        raw.graph,
        producer_name="codesign.quant",
        opset_imports=[helper.make_opsetid("", OPSET)]
        + [helper.make_opsetid(d, versions[d]) for d in domains],
        functions=attached,
        ir_version=10,
    )
    helper.set_model_props(model, dict(meta))
    onnx.checker.check_model(model)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def onnx_outputs(model: onnx.ModelProto | str | Path, images: Tensor) -> list[np.ndarray]:
    """Outputs of stock onnxruntime, one image at a time and one thread, stacked: [(N,...), ...].

    Raises ExportError if onnxruntime cannot run the model (versions before 1.25 have no DeformConv).
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    try:
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        runs = [session.run(None, {"image": x[None].numpy()}) for x in images.cpu().float().contiguous()]
    except Exception as error:
        raise ExportError(
            f"onnxruntime {ort.__version__} cannot run the exported file ({str(error).splitlines()[0]}), "
            "expected 1.25 or newer. Install it, or export without samples."
        ) from None
    return [np.concatenate(maps) for maps in zip(*runs, strict=True)]


@torch.no_grad()
def torch_outputs(twin: nn.Module, images: Tensor) -> list[np.ndarray]:
    """Outputs of the twin in evaluation mode, one image at a time as in the file."""
    training = twin.training
    twin.eval()
    try:
        runs = [[plain(y).cpu().numpy() for y in twin(x[None])] for x in images]
    finally:
        twin.train(training)
    return [np.concatenate(maps) for maps in zip(*runs, strict=True)]


def export_onnx(
    twin: nn.Module,
    path: str | Path,
    size: tuple[int, int],
    meta: Mapping[str, str] | None = None,
    flavour: Literal["qonnx", "qcdq"] = "qonnx",
    samples: Tensor | None = None,
) -> ExportReport:
    """Write the twin to `path` (beside, then renamed), after comparing it with torch on `samples`.

    `samples` (N,3,H,W), value (pixel - 128) / 128. Raises ExportError, and writes nothing, if a single output
    value differs by a single bit; see `to_onnx` for what else is refused.
    """
    path = Path(path)
    model = to_onnx(twin, size, meta, flavour)
    compared = 0
    if samples is not None:
        wrong: list[str] = []
        expected, got = torch_outputs(twin, samples), onnx_outputs(model, samples)
        for name, a, b in zip(twin.outputs, expected, got, strict=True):
            compared += a.size
            if count := int((a != b).sum()):
                wrong.append(f"{count} of {a.size} values of '{name}'")
        if wrong:
            raise ExportError(
                f"export: {', '.join(wrong)} differ between torch and onnxruntime, expected none. "
                "Nothing was written; this file would not be a faithful copy of the network."
            )
    beside = path.with_name(path.name + ".new")
    try:
        beside.write_bytes(model.SerializeToString())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ExportError(
            f"{path}: {error.strerror}, expected a writable file. Name another place."
        ) from None
    return ExportReport(
        path,
        flavour,
        len(model.graph.node),
        sum(int(np.prod(t.dims)) for t in model.graph.initializer),
        max(accumulator_bounds(model).values()) if flavour == "qonnx" else 0,
        compared,
        0,
    )
