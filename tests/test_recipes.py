"""Every checkpoint's recipe, at a small scale, and the checkpoints that ship."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from vaelab import features, models, recipes, storage
from vaelab.data import ads, journeys

NAMES = list(recipes.RECIPES)


@cache
def held_out(name):
    return recipes.RECIPES[name].held_out()


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_at_small_scale_beats_an_untrained_model_and_can_be_loaded(name, tmp_path, monkeypatch):
    recipe, few = recipes.RECIPES[name], held_out(name)[:40]
    monkeypatch.setitem(recipes.RECIPES, name, replace(recipe, held_out=lambda: few))
    torch.manual_seed(0)
    untrained = recipes.held_out_scores(models.build(**recipe.model).eval(), few)
    path, scores = recipes.make(name, tmp_path, share=0.005 if recipe.model["shape"][1] > 64 else 0.02)
    assert scores["elbo"] > untrained["elbo"]
    assert scores["mean_squared_error"] < untrained["mean_squared_error"]
    again = recipes.held_out_scores(models.load(path), few)
    assert again["mean_squared_error"] == pytest.approx(scores["mean_squared_error"], rel=1e-2)
    assert not path.with_name(f".{name}.state").exists()


@pytest.mark.parametrize("name", recipes.READERS)
def test_a_reader_s_recipe_at_small_scale_learns_to_tell_products(name, tmp_path):
    path, scores = recipes.READERS[name](tmp_path, share=0.04)
    assert scores["product"] > 0.3  # six products: chance is 1/6
    assert "made_by" in storage.read(path)[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_checkpoint_gives_the_figures_it_was_stored_with(name):
    path = recipes.CHECKPOINTS / f"{name}.safetensors"
    stored = storage.read(path)[1]["held_out"]
    model = models.load(path)
    measured = recipes.held_out_scores(model, held_out(name))
    assert measured["mean_squared_error"] == pytest.approx(stored["mean_squared_error"], rel=0.01)
    assert measured["kl"] == pytest.approx(stored["kl"], rel=0.02, abs=0.02)


def fresh_pictures(name):
    """250 pictures that no reader has seen, and what they show."""
    if name == "reader":
        fresh = ads.sample_factors(250, 999, "client")
        return ads.render(fresh), features.targets(fresh)
    fresh = journeys.sample(250, 999)
    return journeys.render(fresh, 64), features.journey_targets(fresh)


@pytest.mark.parametrize("name", recipes.READERS)
def test_a_shipped_reader_reads_fresh_pictures_as_well_as_it_says(name):
    stored = features.reader_scores(name)
    measured = features.held_out_scores(features.reader(name), *fresh_pictures(name))
    assert measured["product"] > 0.95
    for factor, value in stored.items():
        assert measured[factor] == pytest.approx(value, abs=0.08), factor


def test_checkpoints_keep_to_their_budget():
    sizes = [file.stat().st_size for file in recipes.CHECKPOINTS.rglob("*.safetensors")]
    assert max(sizes) <= 2_000_000
    assert sum(sizes) <= 20_000_000


def test_the_reader_describes_pictures_of_any_size_and_blur_moves_it_less_than_another_product():
    factors = ads.sample_factors(30, 7, product="can", headline="none", badge=False, face=False)
    cans, larger = ads.render(factors), ads.render(factors, 128)
    jars = ads.render(factors.replace(product="jar"))
    blurred = torch.nn.functional.avg_pool2d(larger, 2)
    same = (features.describe(larger) - features.describe(cans)).norm(dim=1)
    blur = (features.describe(blurred) - features.describe(cans)).norm(dim=1)
    other = (features.describe(jars) - features.describe(cans)).norm(dim=1)
    assert same.mean() < 0.5 * other.mean()
    assert blur.mean() < 0.5 * other.mean()
