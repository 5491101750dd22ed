"""Files that are no model, or only part of one: one clear error each."""

import os
import re

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from codesign import onnx_read
from codesign.errors import CodesignError, ModelError
from codesign.onnx_io import import_model
from tests.onnx_models import edited
from tests.test_onnx_refusals import MODELS, constant, value

MODEL = MODELS["qonnx"]
DATA = MODEL.SerializeToString()


def refused(path, message):
    with pytest.raises(ModelError, match=f"^{re.escape(message.format(path=path))}$"):
        import_model(path)


def written(tmp_path, data):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    return path


def test_a_good_file_by_any_kind_of_path(tmp_path):
    path = written(tmp_path, DATA)
    assert str(import_model(path)) == str(import_model(str(path))) == str(import_model(MODEL))


def test_missing(tmp_path):
    refused(tmp_path / "no.onnx", "{path}: no such file, expected an ONNX model. Check the path.")


def test_directory(tmp_path):
    refused(tmp_path, "{path}: is not a file, expected an ONNX model. Check the path.")


def test_empty(tmp_path):
    refused(written(tmp_path, b""), "{path}: is empty, expected an ONNX model. Export the model again.")


def test_huge(tmp_path):
    path = written(tmp_path, b"")
    os.truncate(path, onnx_read.MAX_BYTES + (1 << 20))  # sparse: takes no space
    refused(
        path,
        "{path}: has 513 MiB, expected at most 512 MiB. "
        "Check that this is the model and not a data set or a checkpoint.",
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable(tmp_path):
    path = written(tmp_path, DATA)
    path.chmod(0)
    refused(path, "{path}: cannot be read (Permission denied). Check its permissions.")


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n" + bytes(range(256)), b"PK\x03\x04" + b"torch" * 50, b"# not a model\n" * 9]
)
def test_other_formats(tmp_path, data):
    with pytest.raises(ModelError, match=r"model\.onnx: is not an ONNX model"):
        import_model(written(tmp_path, data))


def test_cut_short(tmp_path):
    refused(
        written(tmp_path, DATA[: len(DATA) // 2]),
        "{path}: is damaged or cut short, expected a whole ONNX model. Export the model again.",
    )


@settings(max_examples=60)
@given(st.integers(0, len(DATA) - 1))
def test_cut_anywhere_is_one_clear_error_or_still_the_model(tmp_path_factory, length):
    path = written(tmp_path_factory.mktemp("cut"), DATA[:length])
    with pytest.raises(CodesignError, match=re.escape(str(path))):
        import_model(path)


@settings(max_examples=150)
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_damaged_byte_never_crashes(tmp_path_factory, position, flip):
    damaged = bytearray(DATA)
    damaged[position] ^= flip
    path = written(tmp_path_factory.mktemp("damaged"), bytes(damaged))
    try:
        import_model(path)
    except CodesignError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("version", [1, 6, 24])
def test_opset(version):
    model = edited(MODEL, lambda m: setattr(m.opset_import[0], "version", version))
    message = f"network: uses ONNX opset {version}, expected 7 to 23. Export with opset_version=20."
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        import_model(model)


def test_no_opset():
    model = edited(MODEL, lambda m: m.opset_import.pop(0))
    message = "network: names no ONNX opset, expected 7 to 23. Export the model again."
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        import_model(model)


def test_other_format_version():
    model = edited(MODEL, lambda m: helper.set_model_props(m, {"codesign.format": "9"}))
    message = "network: has format 9, expected 1. Export it with this version of codesign."
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        import_model(model)


def test_no_outputs():
    message = "network: its graph has no outputs, expected at least one. Export the model again."
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        import_model(edited(MODEL, lambda m: m.graph.output.pop()))


def test_nan_and_infinite_weights_are_all_named():
    def edit(model):
        for name, bad in (("pw.weight", np.nan), ("stem.bias", np.inf)):
            array = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name)).copy()
            array.reshape(-1)[1] = bad
            value(name, array)(model)

    message = (
        "network: 2 tensors hold NaN or infinite values: pw.weight, stem.bias. "
        "Train again with a smaller step, or load an earlier checkpoint."
    )
    with pytest.raises(ModelError) as caught:
        import_model(edited(MODEL, edit))
    assert sorted(str(caught.value).split()) == sorted(message.split())


def test_tensor_of_another_size_than_its_shape():
    def edit(model):
        next(t for t in model.graph.initializer if t.name == "pw.weight").dims[0] = 5

    message = "network: tensor 'pw.weight' does not hold what its shape says. Export the model again."
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        import_model(edited(MODEL, edit))


def test_missing_external_weights(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(
        edited(MODEL, constant("large", np.ones(5000, np.float32))),
        path,
        save_as_external_data=True,
        location="w.bin",
    )
    import_model(path)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelError) as caught:
        import_model(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: keeps weights in other files, which cannot be read (")
    assert text.endswith("Put them beside the model, or export with save_as_external_data=False.")
