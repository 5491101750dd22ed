"""The published networks: counts of CoDeNet (arXiv 2006.08357), topology, shapes."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from quant.deform import DeformConv2d
from quant.layers import concat, shuffle, split
from quant.models import ZOO, build, mac_count, model_config, parameter_count

PARAMETERS = {"codenet-a": 1_588_031, "codenet-c": 1_588_031, "codenet-d": 6_082_427}


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameter_count_is_the_published_one(name, count):
    assert parameter_count(build(ZOO[name])) == count


def test_parameter_count_with_coco_heads():
    assert parameter_count(build(model_config("codenet-a", 80))) == 1_591_931


@pytest.mark.parametrize(("name", "giga"), [("codenet-a", 0.280), ("codenet-b", 0.288), ("codenet-c", 1.119)])
def test_mac_count_is_the_published_one(name, giga):
    assert round(mac_count(ZOO[name]) / 1e9, 3) == giga


@pytest.mark.slow
@pytest.mark.parametrize(("name", "giga"), [("codenet-d", 3.507), ("codenet-e", 3.539)])
def test_mac_count_of_the_wide_networks(name, giga):
    assert round(mac_count(ZOO[name]) / 1e9, 3) == giga


@pytest.mark.parametrize("name", ["codenet-a", "codenet-b"])
def test_seventy_four_convolutions(name):
    model = build(ZOO[name])
    assert sum(isinstance(m, nn.Conv2d | DeformConv2d) for m in model.modules()) == 74


def test_tiny_is_tiny():
    assert 200_000 <= parameter_count(build(ZOO["codenet-tiny"])) <= 400_000


def test_output_shapes_on_a_map_that_is_not_square():
    model = build(model_config("codenet-tiny", 12)).eval()
    with torch.no_grad():
        hm, wh, reg = model(torch.zeros(2, 3, 64, 96))
    assert (hm.shape, wh.shape, reg.shape) == ((2, 12, 16, 24), (2, 2, 16, 24), (2, 2, 16, 24))


def test_shuffle_is_the_transpose_of_groups():
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert shuffle(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert torch.equal(concat(*split(x)), x)


def test_a_fresh_network_samples_plain_3x3_windows():
    model = build(ZOO["codenet-tiny"]).eval()
    for block in model.decoder:
        raw = block.offset(torch.randn(1, block.offset.in_channels, 3, 3))
        assert torch.equal(block.dw.limit(raw), torch.ones(1, 1, 3, 3))


OPERATORS = {
    "dense": {"spatial": "dense"},
    "depthwise": {"spatial": "depthwise", "kernel": 7},
    "deformable": {"offsets": "bounded", "sampling": "bilinear"},
    "full-deformable": {"spatial": "full-deformable", "offsets": "free", "sampling": "bilinear"},
}


@pytest.mark.parametrize("name", OPERATORS)
def test_only_the_operator_of_the_decoder_changes(name):
    base = replace(ZOO["codenet-tiny"], classes=3)
    config = replace(base, **OPERATORS[name])
    torch.manual_seed(0)
    model, plain = build(config).train(), build(base)
    shapes = {k: v.shape for k, v in plain.state_dict().items()}
    for key, value in model.state_dict().items():
        assert key.startswith("decoder.") or shapes[key] == value.shape, key
    taps = {"dense": 9, "depthwise": 49, "deformable": 9, "full-deformable": 9}[name]
    ins = list(zip((320, 128, 64), (128, 64, 48), strict=True))
    offsets = {"deformable": 18, "full-deformable": 18}.get(name, 0)
    dense = name in ("dense", "full-deformable")
    weights = [taps * i * o if dense else taps * i + i * o for i, o in ins]
    decoder = sum(p.numel() for p in model.decoder.parameters())
    assert decoder == sum(weights) + offsets * (320 + 128 + 64 + 3) + 2 * (128 + 64 + 48)
    hm, wh, reg = model(torch.randn(2, 3, 64, 96))
    assert (hm.shape, wh.shape, reg.shape) == ((2, 3, 16, 24), (2, 2, 16, 24), (2, 2, 16, 24))
    (hm.sum() + wh.square().sum()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.decoder.parameters())


def test_an_unknown_operator_is_refused():
    with pytest.raises(ValueError, match="spatial is 'sparse', expected one of deformable, full-deformable"):
        build(replace(ZOO["codenet-tiny"], spatial="sparse"))
