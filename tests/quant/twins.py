"""Small networks that behave like trained ones: batch norms with statistics, offsets that vary, smooth images."""

from dataclasses import replace
from functools import cache

import torch
from torch import nn

from quant.calibrate import calibrate, correct_bias
from quant.layers import DeformBlock
from quant.models import CoDeNet, ModelConfig, build, model_config
from quant.quantize import quantize_model

torch.set_num_threads(1)

SMALL = replace(
    model_config("codenet-tiny", 3),
    size=(64, 32),
    widths=(8, 16, 24, 32, 48),
    repeats=(1, 1, 1),
    decoder=(24, 16, 16),
    head=16,
)


def images(count: int, size: tuple[int, int] = SMALL.size, seed: int = 0) -> torch.Tensor:
    """Smooth pictures on the input's grid, (pixel - 128) / 128."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 9, 9, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=size, mode="bicubic")
    return (smooth * 50).round().clamp(-128, 127) / 128


def float_model(config: ModelConfig = SMALL, seed: int = 0) -> CoDeNet:
    torch.manual_seed(seed)
    model = build(config)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.weight.uniform_(0.5, 1.5)
                m.bias.normal_(0, 0.2)
            if isinstance(m, DeformBlock):
                m.offset.weight.normal_(0, 0.2)
                m.offset.bias.fill_(2.0)
        for head in model.heads.values():
            head[-1].conv.weight.normal_(0, 0.2)
        model.train()
        for k in range(20):
            model(images(4, config.size, 100 + k))
    return model.eval()


@cache
def _calibrated(preset: str, config: ModelConfig) -> nn.Module:
    twin = quantize_model(float_model(config), preset)
    batches = [images(4, config.size, k) for k in range(2)]
    calibrate(twin, batches)
    correct_bias(twin, batches)
    return twin.eval()


def calibrated(preset: str = "w4a8", config: ModelConfig = SMALL) -> nn.Module:
    """A calibrated twin. It is shared between tests: copy it before changing it."""
    return _calibrated(preset, config)
