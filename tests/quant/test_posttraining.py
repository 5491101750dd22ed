"""Post-training steps: what each promises, on networks small enough to know the answer."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from quant.calibrate import calibrate
from quant.crosslayer import chains, equalize
from quant.layers import ConvBlock, plain
from quant.posttraining import post_training
from quant.preset import variant
from quant.quantize import fold, quantize_model, weight_layers
from quant.reconstruct import learned_codes, reconstruct
from tests.quant.twins import SMALL, float_model, images


@torch.no_grad()
def outputs(model, x):
    return [plain(y) for y in model(x)]


def still(model):
    """Offsets at a constant 2: none sits on a border of rounding."""
    for block in model.decoder:
        nn.init.zeros_(block.offset.weight)
    return model


def test_equalization_keeps_the_function_and_evens_the_channels():
    folded = fold(still(float_model()))
    with torch.no_grad():  # channels of very different size, as batch norms leave them
        for module in folded.modules():
            if isinstance(module, nn.Sequential) and all(isinstance(b, ConvBlock) for b in module):
                first, second = module[0].conv, module[1].conv
                factor = torch.logspace(-1.5, 1.5, first.out_channels)
                first.weight *= factor.view(-1, 1, 1, 1)
                first.bias *= factor
                shape = (-1, 1, 1, 1) if second.groups > 1 else (1, -1, 1, 1)
                second.weight /= factor.view(shape)
    even = copy.deepcopy(folded)
    assert equalize(even) == sum(len(c) - 1 for c in chains(folded)) == 3 * (1 + 2 + 2) + 3 + 3 * 2
    for a, b in zip(outputs(folded, images(2)), outputs(even, images(2)), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)  # float32 sums of other magnitudes

    def uneven(net):
        peaks = net.stages[1][0].branch2[0].conv.weight.flatten(1).abs().amax(1)
        return (peaks.max() / peaks.min()).item()

    assert uneven(even) < 0.2 * uneven(folded)


def problem(seed, rows=6, columns=12, samples=400, groups=1):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(groups, columns, columns, generator=generator)
    x = mix @ torch.randn(groups, columns, samples, generator=generator)
    seen = x + 0.05 * torch.randn(x.shape, generator=generator)
    w = torch.randn(groups, rows, columns, generator=generator) * 3
    return w, x, seen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("groups", [1, 3])
def test_learned_rounding_never_loses_to_nearest_and_usually_wins(seed, groups):
    w, x, seen = problem(seed, groups=groups)
    scale = torch.ones(groups, w.shape[1], 1)
    codes = learned_codes(w, seen @ seen.transpose(1, 2), seen @ x.transpose(1, 2), scale, 7)
    nearest = w.round().clamp(-7, 7)

    def error(v):
        return (w @ x - v @ seen).square().sum(2)

    assert torch.equal(codes, codes.round()) and codes.abs().max() <= 7
    assert (codes - w.clamp(-7, 7)).abs().max() <= 1
    assert (error(codes) <= error(nearest) * (1 + 1e-4)).all()  # float32 sums
    assert error(codes).sum() < 0.8 * error(nearest).sum()


@pytest.mark.parametrize("method", ["gptq", "gpfq", "round"])
def test_reconstruction_lowers_the_error_on_its_images_and_leaves_scales_alone(method):
    torch.manual_seed(0)
    model, x = still(float_model()), [images(8, seed=s) for s in range(2)]
    twin = quantize_model(model, "w4a8")
    calibrate(twin, x)
    target = outputs(model, x[0])
    before = [(a - b).square().mean() for a, b in zip(outputs(twin, x[0]), target, strict=True)]
    scales = {n: m.weight_quant.tensor_quant.scale().clone() for n, m in weight_layers(twin).items()}
    deform = {n: p.clone() for n, p in twin.named_parameters() if n.endswith(".dw.weight")}
    done = reconstruct(twin, x, method)
    assert done == len(scales) - 3  # the deformable ones keep nearest rounding
    after = [(a - b).square().mean() for a, b in zip(outputs(twin, x[0]), target, strict=True)]
    assert sum(after) < 0.8 * sum(before)
    assert all(
        torch.equal(m.weight_quant.tensor_quant.scale(), scales[n]) for n, m in weight_layers(twin).items()
    )
    assert all(torch.equal(dict(twin.named_parameters())[n], p) for n, p in deform.items())
    assert not [n for n, _ in twin.named_buffers() if "weight_orig" in n] and "forward" not in vars(twin)
    assert set(twin.state_dict()) == set(quantize_model(model, "w4a8").state_dict())


def test_steps_are_taken_in_order_and_said():
    said: list[str] = []
    plan = variant("w4a8", "all", steps=("equalize", "gptq", "bias"))
    twin = post_training(float_model(SMALL), plan, [images(4), images(4, seed=1)], said.append)
    assert [s.split()[0] for s in said] == ["equalized", "calibrating", "gptq:", "correcting"]
    assert said[1] == "calibrating on 8 images"
    assert all(torch.isfinite(y).all() for y in outputs(twin.eval(), images(1)))
