"""Presets: what ships, what a table may say, and every wrong key at once."""

import pytest
import torch

from quant.preset import ROLES, PresetError, names, preset, variant
from quant.quantize import activation_quantizers, quantize_model, weight_layers
from quant.quantizers import FakeQuant
from tests.quant.twins import SMALL, float_model


@pytest.mark.parametrize("name", names())
def test_shipped_presets_are_whole_and_read_back(name):
    plan = preset(name)
    assert plan.name == name and plan.about and set(plan.bits) == set(ROLES)
    assert {plan.bits[r] for r in ("stem", "offset", "head")} == {8}
    assert preset(plan.to_dict()) == plan


def test_the_default_is_what_the_shipped_models_were_made_with():
    plan = preset("w4a8")
    assert dict(plan.bits) == {"stem": 8, "pw": 4, "dw": 4, "deform": 4, "offset": 8, "head": 8}
    assert (plan.act_bits, plan.mantissa, plan.start, plan.calibration, plan.steps) == (
        8,
        1,
        "mse",
        "mse",
        ("bias",),
    )
    assert (plan.shape, plan.learn_scales, plan.distill, dict(plan.layers)) == ("plain", True, 0.0, {})


def test_a_file_extends_another_and_layers_win_over_roles(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'extends = "w4a8-dw8"\nact_bits = 6\n[layers]\n"decoder.1.pw.conv" = 3\n"decoder.1.dw" = 5\n'
    )
    plan = preset(str(path))
    assert (plan.name, plan.bits["dw"], plan.act_bits) == ("mine", 8, 6)
    twin = quantize_model(float_model(SMALL), plan)
    bits = {n: m.weight_quant.tensor_quant.bits for n, m in weight_layers(twin).items()}
    assert (bits["decoder.0.pw.conv"], bits["decoder.1.pw.conv"]) == (4, 3)
    assert (bits["decoder.0.dw"], bits["decoder.1.dw"]) == (8, 5)
    acts = activation_quantizers(twin)
    widths = {n: m.act_quant.fused_activation_quant_proxy.tensor_quant.bits for n, m in acts.items()}
    eight = {n for n, b in widths.items() if b == 8}
    assert eight == {"input_quant", *(f"heads.{h}.2.act" for h in ("hm", "wh", "reg"))}
    assert set(widths.values()) == {6, 8}


def test_scales_that_stand_still_are_no_parameters():
    twin = quantize_model(float_model(), variant("w4a8", "still", learn_scales=False))
    quantizers = [m for m in twin.modules() if isinstance(m, FakeQuant)]
    assert quantizers and not any(isinstance(m.log2_scale, torch.nn.Parameter) for m in quantizers)


def test_all_problems_are_named_at_once():
    table = {
        "extends": "w4a8",
        "bits": {"pw": 1, "stems": 8},
        "layers": {"neck.conv": 9},
        "act_bits": 16,
        "mantissa": True,
        "start": "best",
        "percentile": 101,
        "steps": ["bias", "gptq"],
        "distil": 1,
    }
    with pytest.raises(PresetError) as error:
        preset(table)
    assert str(error.value) == (
        "preset 'in the recipe': distil is unknown; bits.stems is unknown, expected stem, pw, dw, deform, offset, "
        "head; bits.pw is 1, expected a whole number from 2 to 8; "
        "layers.neck.conv is 9, expected a whole number from 2 to 8; "
        "act_bits is 16, expected a whole number from 2 to 8; mantissa is True, expected a whole number from 1 to 3; "
        "start is 'best', expected one of mse, max, lsq; percentile is 101, expected a number from 50 to 100; "
        "steps is ['bias', 'gptq'], expected equalize, one of gptq, gpfq, round, bias, in this order. "
        "Correct the preset."
    )


def test_missing_bits_unknown_names_and_bad_files(tmp_path):
    with pytest.raises(PresetError, match="bits.stem is missing; bits.pw is missing"):
        preset({})
    with pytest.raises(PresetError, match=r"^w3a3: no such preset, expected one of w2a8, w4a4, w4a8, "):
        preset("w3a3")
    with pytest.raises(PresetError, match="x.toml: No such file or directory, expected a preset"):
        preset(str(tmp_path / "x.toml"))
    (tmp_path / "x.toml").write_text("bits = ")
    with pytest.raises(PresetError, match="x.toml: not TOML"):
        preset(str(tmp_path / "x.toml"))


def test_layers_that_are_not_there_are_refused():
    with pytest.raises(PresetError) as error:
        quantize_model(float_model(), variant("w4a8", "mixed", layers={"neck.conv": 8, "nose.conv": 8}))
    assert str(error.value) == (
        "preset 'mixed': layers nose.conv are not in the network, expected names such as stem.conv.conv. "
        "Correct the preset."
    )
