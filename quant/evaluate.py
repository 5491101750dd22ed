"""The torch rungs of the ladder as runners: float network or quantized twin, codes in, head maps out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from codesign.decode import META, Detector
from codesign.rungs import Runner
from quant.models import STRIDE, ModelConfig


def detector_meta(config: ModelConfig, classes: Sequence[str]) -> dict[str, str]:
    """The metadata of a model file that says how its outputs become boxes."""
    heads = {"heatmap": "hm", "size": "wh", "offset": "reg"}
    meta = {
        "classes": list(classes),
        "stride": STRIDE,
        "size_unit": config.size_unit,
        "heads": heads,
        "nms_iou": config.nms_iou,
    }
    return {META: json.dumps(meta)}


def torch_runner(
    model: nn.Module, config: ModelConfig, classes: Sequence[str], rung: str = "torch"
) -> Runner:
    """Runs `model` (in evaluation mode) on input codes. Its maps are floats, so every output's scale is 1."""
    detector = Detector.from_meta(detector_meta(config, classes), {"hm": 1.0, "wh": 1.0, "reg": 1.0})
    device = next(model.parameters()).device

    @torch.no_grad()
    def run(codes: npt.NDArray[np.int8]) -> dict[str, npt.NDArray[Any]]:
        x = torch.from_numpy(np.ascontiguousarray(codes)).to(device).permute(0, 3, 1, 2).float() / 128
        outputs = model(x.contiguous(memory_format=torch.channels_last))
        plain = (o.value if hasattr(o, "set") else o for o in outputs)
        return {
            n: o.permute(0, 2, 3, 1).cpu().numpy() for n, o in zip(("hm", "wh", "reg"), plain, strict=True)
        }

    height, width = config.size
    return Runner(rung, height, width, detector, run)
