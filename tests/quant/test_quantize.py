"""The quantized twin: equal to its parent when quantization is off, trainable everywhere, one scale per stage."""

import copy

import pytest
import torch
from torch import nn

from quant.calibrate import calibrate, correct_bias
from quant.layers import ConvBlock, plain
from quant.models import build, model_config
from quant.quant_layers import QuantConv2d, QuantDeformConv2d
from quant.quantize import (
    activation_quantizers,
    fold,
    freeze_scales,
    quantization_disabled,
    quantize_model,
    scale_parameters,
    weight_layers,
)
from quant.quantizers import FakeQuant
from quant.scales import to_grid
from tests.quant.twins import calibrated, float_model, images


@torch.no_grad()
def outputs(model, x):
    return [plain(y) for y in model(x)]


def noise(twin, model, x):
    """Mean square error over mean square signal, all outputs together."""
    pairs = list(zip(outputs(twin, x), outputs(model, x), strict=True))
    return sum((a - b).square().sum() for a, b in pairs) / sum(b.square().sum() for _, b in pairs)


def test_folding_changes_nothing_but_rounding():
    # Offsets that sit on a rounding border could flip; at a constant 2 they don't.
    model = float_model()
    for block in model.decoder:
        nn.init.zeros_(block.offset.weight)
    folded = fold(model)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    for a, b in zip(outputs(model, images(2)), outputs(folded, images(2)), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)  # float32 sums in another order


def test_twin_without_quantization_is_the_folded_network_exactly():
    model = float_model()
    twin = quantize_model(model)
    with quantization_disabled(twin):
        off = outputs(twin, images(2))
    assert all(torch.equal(a, b) for a, b in zip(off, outputs(fold(model), images(2)), strict=True))


def test_disabling_ends_with_its_block():
    twin = calibrated()
    before = outputs(twin, images(1))
    with pytest.raises(RuntimeError, match="stop"), quantization_disabled(twin):
        raise RuntimeError("stop")
    assert all(torch.equal(a, b) for a, b in zip(before, outputs(twin, images(1)), strict=True))


def test_parent_is_left_alone_and_module_names_stay():
    model = float_model()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    twin = quantize_model(model)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    names = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    assert names == {n for n, m in twin.named_modules() if isinstance(m, QuantConv2d)}
    assert {k for k in state if k.endswith("conv.weight")} <= set(twin.state_dict())


def test_every_convolution_is_quantized_at_the_bits_of_its_role():
    layers = weight_layers(quantize_model(build(model_config("codenet-a")), "w4a8"))
    assert len(layers) == 74
    bits = {n: m.weight_quant.tensor_quant.bits for n, m in layers.items()}
    eight = {n for n, b in bits.items() if b == 8}
    assert eight == {
        "stem.conv.conv",
        *(f"decoder.{k}.offset" for k in range(3)),
        *(f"heads.{h}.2.conv" for h in ("hm", "wh", "reg")),
    }
    assert set(bits.values()) == {4, 8}


def test_one_activation_quantizer_per_stage():
    twin = quantize_model(float_model())
    by_share: dict[str, set[int]] = {}
    for m in twin.modules():
        if isinstance(m, ConvBlock) and m.share:
            by_share.setdefault(m.share, set()).add(id(m.act))
    assert set(by_share) == {f"stages.{k}.out" for k in range(3)}
    assert all(len(ids) == 1 for ids in by_share.values())


def test_every_parameter_gets_a_gradient_offsets_and_last_convolutions_included():
    twin = copy.deepcopy(calibrated()).train()
    torch.manual_seed(0)
    sum((y * torch.randn_like(y)).sum() for y in twin(images(4))).backward()
    missing = [n for n, p in twin.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []
    assert any("offset" in n for n, _ in twin.named_parameters())


def test_training_and_evaluation_compute_the_same_once_biases_are_on_their_grid():
    def store(layer, quantized):
        layer.bias.data.copy_(quantized.value)

    twin = copy.deepcopy(calibrated()).eval()
    for layer in weight_layers(twin).values():
        if layer.bias is not None:
            layer.bias_quant.register_forward_hook(lambda _m, _args, out, layer=layer: store(layer, out))
    evaluated = outputs(twin, images(2))
    trained = [y.detach() for y in twin.train()(images(2))]
    assert all(torch.equal(a, b) for a, b in zip(evaluated, trained, strict=True))


def test_training_lowers_the_loss_and_moves_scales():
    model = float_model()
    for block in model.decoder:
        nn.init.zeros_(block.offset.weight)
    twin = quantize_model(model)
    calibrate(twin, [images(4)])
    x, target = images(4), outputs(model, images(4))
    optimizer = torch.optim.Adam(twin.parameters(), 2e-3)
    start = [p.detach().clone() for p in scale_parameters(twin)]
    losses = []
    twin.train()
    for _ in range(12):
        loss = sum((a - b).square().mean() for a, b in zip(twin(x), target, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(not torch.equal(a, b) for a, b in zip(start, scale_parameters(twin), strict=True))


def test_frozen_scales_get_no_gradient():
    twin = copy.deepcopy(calibrated()).train()
    freeze_scales(twin)
    sum(y.sum() for y in twin(images(1))).backward()
    assert all(p.grad is None for p in scale_parameters(twin))
    freeze_scales(twin, frozen=False)
    assert all(p.requires_grad for p in scale_parameters(twin))


def test_loading_a_checkpoint_keeps_the_parameters_an_optimizer_holds():
    twin = quantize_model(float_model(seed=1))
    before = [id(p) for p in twin.parameters()]
    twin.load_state_dict({k: v.clone() for k, v in calibrated().state_dict().items()})
    assert before == [id(p) for p in twin.parameters()]
    expected = outputs(calibrated(), images(2))
    assert all(torch.equal(a, b) for a, b in zip(outputs(twin.eval(), images(2)), expected, strict=True))


def test_deepcopy_is_independent():
    twin = calibrated()
    before = outputs(twin, images(1))
    other = copy.deepcopy(twin)
    for p in other.parameters():
        p.data.zero_()
    assert all(torch.equal(a, b) for a, b in zip(outputs(twin, images(1)), before, strict=True))


@pytest.mark.parametrize("method", ["mse", "percentile", "max"])
def test_calibration_keeps_the_network(method):
    model = float_model()
    for block in model.decoder:
        nn.init.zeros_(block.offset.weight)
    twin = quantize_model(model, "w8a8")
    chosen = calibrate(twin, [images(4, seed=1), images(4, seed=2)], method)
    assert set(chosen) == set(activation_quantizers(twin)) - {"input_quant"}
    assert noise(twin, model, images(4, seed=3)) < 0.02


def test_max_clips_nothing():
    twin = quantize_model(float_model())
    calibrate(twin, [images(4)], "max")
    clipped = []

    def look(m, args, out):
        x, q = plain(args[0]), m.act_quant.fused_activation_quant_proxy.tensor_quant
        clipped.append(bool((x > q.hi * q.scale() * (1 + 1e-6)).any()))

    hooks = [m.register_forward_hook(look) for m in activation_quantizers(twin).values()]
    with quantization_disabled(twin, weights=False):
        outputs(twin, images(4))
    for h in hooks:
        h.remove()
    # The quantizers are disabled here, so the very values of the calibration arrive.
    assert clipped and not any(clipped)


def test_all_scales_are_on_their_grid():
    for preset, mantissas in (("w4a8", {1}), ("w4a8-m3", {1, 4, 5, 6, 7})):
        for m in calibrated(preset).modules():
            if isinstance(m, FakeQuant):
                fraction, _ = torch.frexp(m.scale())
                odd = {int(v) for v in (fraction * 8).flatten().tolist()}
                assert odd <= ({4} if mantissas == {1} else mantissas)
                assert torch.equal(m.scale().flatten(), to_grid(m.log2_scale, m.mantissa).flatten())


def channel_means(twin, x):
    means = {}
    hooks = [
        m.register_forward_hook(lambda _m, _args, out, n=n: means.__setitem__(n, plain(out).mean((0, 2, 3))))
        for n, m in weight_layers(twin).items()
        if isinstance(m, QuantConv2d)
    ]
    outputs(twin, x)
    for hook in hooks:
        hook.remove()
    return means


def test_bias_correction_restores_the_means():
    twin, x = quantize_model(float_model()), images(8)
    calibrate(twin, [x])
    twin.eval()
    with quantization_disabled(twin):
        target = channel_means(twin, x)

    def error():
        means = channel_means(twin, x)
        return sum((means[n] - target[n]).square().sum().item() for n in target)

    before = error()
    moved = correct_bias(twin, [x])
    assert set(moved) == set(target)
    # Not zero: biases are rounded to their grid, which now and then turns a tie in a later layer.
    assert error() < 0.01 * before


def test_biases_fit_their_accumulators_where_a_channel_is_switched_off():
    model = float_model()
    bn = model.stem.conv.bn
    with torch.no_grad():
        bn.weight[0], bn.bias[0] = 1e-9, 3.0
    twin = quantize_model(model)
    calibrate(twin, [images(2)])
    layer = twin.stem.conv.conv
    steps = layer.bias[0].abs() / (2.0**-7 * layer.weight_quant.tensor_quant.scale()[0])
    assert steps.item() <= 2**21


def test_no_images_is_an_error():
    twin = quantize_model(float_model())
    with pytest.raises(ValueError, match="no batch of images"):
        calibrate(twin, [])
    with pytest.raises(ValueError, match="no batch of images"):
        correct_bias(twin, [])


def test_values_that_are_not_finite_are_named():
    model = float_model()
    model.neck.conv.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"NaN or infinite values reach neck\.act"):
        calibrate(quantize_model(model), [images(1)])


def test_layers_print_and_deformable_twin_keeps_its_variant():
    layer = quantize_model(float_model()).decoder[0].dw
    assert isinstance(layer, QuantDeformConv2d)
    assert (layer.offsets, layer.sampling, layer.bound) == ("square", "rounded", 7)
