"""From a path to a ModelProto that is whole: present, parsed, of a known opset, with finite weights."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper

from codesign.errors import ModelError

MAX_BYTES = 512 << 20  # CoDeNet 2x is 25 MB in float32; beyond this it is another kind of file
FORMAT = "1"  # of the canonical file, under the key codesign.format
OPSETS = range(7, 24)
FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
)
AGAIN = "Export the model again."


def load(
    source: str | PathLike[str] | onnx.ModelProto, opsets: range = OPSETS
) -> tuple[str, onnx.ModelProto]:
    """What to call the model in messages, and its proto. Raises ModelError; a given proto is not changed."""
    if isinstance(source, onnx.ModelProto):
        where, model = source.graph.name or "model", source
    else:
        where, model = str(source), _parse(Path(source))
    _check_format(where, model)
    _check_opset(where, model, opsets)
    _check_text(where, model)
    if not model.graph.output:
        raise ModelError(f"{where}: its graph has no outputs, expected at least one. {AGAIN}")
    _check_finite(where, model)
    return where, model


def _parse(path: Path) -> onnx.ModelProto:
    if not path.exists():
        raise ModelError(f"{path}: no such file, expected an ONNX model. Check the path.")
    if not path.is_file():
        raise ModelError(f"{path}: is not a file, expected an ONNX model. Check the path.")
    size = path.stat().st_size
    if size == 0:
        raise ModelError(f"{path}: is empty, expected an ONNX model. {AGAIN}")
    if size > MAX_BYTES:
        raise ModelError(
            f"{path}: has {size >> 20} MiB, expected at most {MAX_BYTES >> 20} MiB. "
            "Check that this is the model and not a data set or a checkpoint."
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        if data[0] == 0x08:  # the tag of ir_version, which every exporter writes first
            raise ModelError(
                f"{path}: is damaged or cut short, expected a whole ONNX model. {AGAIN}"
            ) from None
        raise ModelError(f"{path}: is not an ONNX model. Give the .onnx file of the export.") from None
    if not model.HasField("graph") or not model.ir_version:
        raise ModelError(f"{path}: is not an ONNX model, or only its first part. {AGAIN}")
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # onnx raises several kinds, of its own and of the system
        first_line = str(error).splitlines()[0]
        raise ModelError(
            f"{path}: keeps weights in other files, which cannot be read ({first_line}). "
            "Put them beside the model, or export with save_as_external_data=False."
        ) from None
    return model


def _check_format(where: str, model: onnx.ModelProto) -> None:
    """Files of `quant.export` name their format; others name none and are judged node by node."""
    stated = {entry.value for entry in model.metadata_props if entry.key == "codesign.format"}
    if stated - {FORMAT}:
        raise ModelError(
            f"{where}: has format {sorted(stated)[0]}, expected {FORMAT}. Export it with this version of codesign."
        )


def _check_opset(where: str, model: onnx.ModelProto, opsets: range) -> None:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    low, high = opsets[0], opsets[-1]
    if not versions:
        raise ModelError(f"{where}: names no ONNX opset, expected {low} to {high}. {AGAIN}")
    if versions[0] not in opsets:
        raise ModelError(
            f"{where}: uses ONNX opset {versions[0]}, expected {low} to {high}. Export with opset_version=20."
        )


def _check_text(where: str, model: onnx.ModelProto) -> None:
    """protobuf hands out bytes where a name is no UTF-8."""
    for node in model.graph.node:
        names = [
            node.name,
            node.op_type,
            node.domain,
            *node.input,
            *node.output,
            *(a.name for a in node.attribute),
        ]
        if not all(isinstance(name, str) for name in names) or not node.output:
            raise ModelError(f"{where}: names of nodes or tensors are damaged. {AGAIN}")


def _check_finite(where: str, model: onnx.ModelProto) -> None:
    tensors = [(t.name, t) for t in model.graph.initializer]
    for node in model.graph.node:
        if node.op_type == "Constant":
            tensors += [(node.output[0], a.t) for a in node.attribute if a.name == "value"]
    bad = []
    for name, tensor in tensors:
        try:
            array = numpy_helper.to_array(tensor)
        except Exception:  # the data, its type and its shape disagree; onnx raises several kinds
            raise ModelError(f"{where}: tensor {name!r} does not hold what its shape says. {AGAIN}") from None
        if tensor.data_type in FLOATS and not np.isfinite(array.astype(np.float64)).all():
            bad.append(name)
    if bad:
        what = "1 tensor holds" if len(bad) == 1 else f"{len(bad)} tensors hold"
        raise ModelError(
            f"{where}: {what} NaN or infinite values: {', '.join(bad)}. "
            "Train again with a smaller step, or load an earlier checkpoint."
        )
