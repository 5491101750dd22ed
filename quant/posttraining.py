"""Post-training quantization: from a float network to a calibrated twin, as a preset's `steps` say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from quant.calibrate import calibrate, correct_bias
from quant.crosslayer import equalize
from quant.preset import RECONSTRUCTIONS, Given, preset
from quant.quantize import fold, quantize_model
from quant.reconstruct import reconstruct

Say = Callable[[str], None]


def post_training(
    model: nn.Module, given: Given, batches: Sequence[Tensor], say: Say | None = None
) -> nn.Module:
    """The quantized twin of a float network, calibrated on images (N,3,H,W), value (pixel - 128) / 128.

    The float network is left as it is. Raises as `quantize_model` and `calibrate` do.
    """
    plan, say = preset(given), say or (lambda _: None)
    if "equalize" in plan.steps:
        model = fold(model)
        say(f"equalized {equalize(model)} pairs of layers")
    twin = quantize_model(model, plan)
    say(f"calibrating on {sum(len(x) for x in batches)} images")
    calibrate(twin, batches, plan.calibration, plan.percentile)  # type: ignore[arg-type]
    for step in plan.steps:
        if step in RECONSTRUCTIONS:
            say(f"{step}: choosing codes layer by layer")
            reconstruct(twin, batches, step)
        elif step == "bias":
            say("correcting biases")
            correct_bias(twin, batches)
    return twin
