"""What docs/hls4ml.md shows in Python runs as it stands."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="torch: not installed, expected the extra [quant]")
pytest.importorskip("brevitas", reason="brevitas: not installed, expected the extra [quant]")

from tests.hls4ml.nets import small_net  # noqa: E402
from tests.hls4ml.test_torch import Net, twin_of  # noqa: E402
from tests.onnx_models import to_onnx  # noqa: E402

PAGE = Path(__file__).resolve().parents[2] / "docs" / "hls4ml.md"


@pytest.mark.slow  # hls4ml compiles with -O3 and ap_types
def test_the_python_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(to_onnx(small_net(64, 64), "qonnx"), "model.onnx")
    names = {"twin": twin_of(Net(), (3, 64, 64))[0]}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(blocks) == 4
    torch.manual_seed(1)
    for block, layer in zip(blocks, ("SquareDeform2D", None, "SquareDeform2D", "MixedConv2D"), strict=True):
        exec(block, names)
        if layer is None:
            assert names["model"].graph.output[0].name == "hm"
        else:
            assert layer in {made.class_name for made in names["design"].get_layers()}
    assert len(np.unique(names["wanted"])) > 8
