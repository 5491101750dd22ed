"""Writes mini.onnx: a CoDeNet of 8,552 parameters with random weights, exported like a trained one.

Tests of the command line and the ladder run on it without torch. Rewrite it with: python -m tests.data.make_mini
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from quant.calibrate import calibrate
from quant.evaluate import detector_meta
from quant.export import export_onnx
from quant.models import ModelConfig, build
from quant.quantize import quantize_model

HERE = Path(__file__).resolve().parent
CLASSES = ("disc", "ring", "bar")
CARD = {
    "float": {"ap50": 0.5, "ap50_voc07": 0.49, "coco_ap": 0.25},
    "fake-quant": {"ap50": 0.48, "ap50_voc07": 0.47, "coco_ap": 0.24},
    "held_out": "scenes:count=3",
}
CONFIG = ModelConfig(
    "mini",
    (64, 96),
    "stride4",
    widths=(8, 12, 20, 28, 36),
    repeats=(1, 1, 1),
    decoder=(24, 16, 12),
    head=12,
    classes=len(CLASSES),
)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    noise = [torch.randint(-128, 128, (4, 3, *CONFIG.size)).float() / 128 for _ in range(6)]
    model = build(CONFIG).train()
    for x in noise:  # batch normalization needs statistics
        model(x)
    with torch.no_grad():
        for name, module in model.eval().named_modules():
            if name.endswith(".offset"):  # offsets over the whole range 0..7
                module.bias.fill_(3.0)
                module.weight.normal_(0, 6.0)
            elif name.startswith("heads") and name.endswith("2.conv"):
                module.weight.normal_(0, 2.0)
    twin = quantize_model(model, "w4a8").eval()
    calibrate(twin, noise)
    meta = detector_meta(CONFIG, CLASSES) | {"codesign.card": json.dumps(CARD)}
    export_onnx(twin, HERE / "mini.onnx", CONFIG.size, meta, samples=torch.cat(noise))


if __name__ == "__main__":
    main()
