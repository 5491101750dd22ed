"""Recipes: what ships parses, what is wrong is said at once."""

from dataclasses import replace

import pytest

from quant.publish import _preset_option
from quant.recipe import RECIPES, RecipeError, load_recipe, parse_recipe

GOOD = {
    "model": "codenet-tiny",
    "data": "scenes:split=train",
    "held_out": "scenes:split=test",
    "float": {"lr": 1e-3, "phases": [{"size": 64, "images": 64}]},
    "qat": {"lr": 1e-4, "phases": [{"size": 64, "images": 64, "batch": 8, "window": 96}]},
}


@pytest.mark.parametrize("name", sorted(p.stem for p in RECIPES.glob("*.toml")))
def test_shipped_recipes_parse_and_round_trip(name):
    recipe = load_recipe(name)
    again = parse_recipe({k.removesuffix("_stage"): v for k, v in recipe.to_dict().items()}, name)
    assert again == recipe and recipe.float_stage.steps > 0


def test_images_may_be_wider_than_high():
    def phases(width):
        return {**GOOD, "float": {"lr": 1e-3, "phases": [{"size": 64, "images": 64, "width": width}]}}

    assert [parse_recipe(phases(w), "x").float_stage.phases[0].shape for w in (96, 0)] == [(64, 96), (64, 64)]
    with pytest.raises(RecipeError, match=r"float\.phases\[0\]\.width is 70, expected a multiple of 32"):
        parse_recipe(phases(70), "x")


def test_pretraining_may_be_left_out():
    assert parse_recipe(GOOD, "x").pretrain_stage.phases == ()


def test_all_problems_are_named_at_once():
    bad = {
        **GOOD,
        "model_name": 1,
        "float": {"lr": -1, "phases": [{"size": 65, "images": 64}], "speed": 2},
        "qat": {"lr": 1, "phases": [{"size": 64, "images": 0}], "box_loss": "l2", "offset_rate": "slow"},
    }
    del bad["data"]
    with pytest.raises(RecipeError) as error:
        parse_recipe(bad, "my.toml")
    assert str(error.value) == (
        "my.toml: float.speed is unknown; float.phases[0].size is 65, expected a multiple of 32; "
        "float.phases is empty; float.lr is -1, expected a positive number; qat.phases[0] is "
        "{'size': 64, 'images': 0}, expected whole numbers size, images, batch, window, width; qat.phases is empty; "
        "qat.offset_rate is 'slow', expected a number of at least 0; qat.box_loss is 'l2', "
        "expected giou, giou-even, l1; model_name is unknown; data is missing. Correct the recipe."
    )


def test_unknown_recipe_and_unreadable_file(tmp_path):
    with pytest.raises(
        RecipeError,
        match=r"^codenet-z: no such recipe, expected one of bccd-a, bccd-a-192, codenet-a, codenet-tiny,",
    ):
        load_recipe("codenet-z")
    path = tmp_path / "r.toml"
    with pytest.raises(RecipeError, match="r.toml: No such file or directory, expected a recipe"):
        load_recipe(str(path))
    path.write_text("model = ")
    with pytest.raises(RecipeError, match="r.toml: not TOML"):
        load_recipe(str(path))


def test_a_card_names_the_preset_that_is_not_the_recipe_s():
    tiny = load_recipe("codenet-tiny")
    assert _preset_option(tiny) == ""
    assert _preset_option(replace(tiny, preset="w8a8")) == " -p w8a8 -o RUN"
    assert (
        _preset_option(replace(tiny, preset={"extends": "w4a8", "percentile": 99.0})) == " -p PRESET -o RUN"
    )
    mine = replace(tiny, name="mine")
    assert _preset_option(mine) == f" -p {tiny.preset} -o RUN"
    assert _preset_option(replace(mine, preset="w4a8")) == ""
