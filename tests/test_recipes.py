"""Every checkpoint's recipe, at a small scale, and the checkpoints that ship."""

import pytest
import torch

from vaelab import features, models, recipes, storage
from vaelab.data import ads

NAMES = list(recipes.RECIPES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_at_small_scale_beats_an_untrained_model_and_can_be_loaded(name, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "held_out_ads", lambda n=500: ads.render(ads.sample_factors(40, seed=200)))
    torch.manual_seed(0)
    recipe = recipes.RECIPES[name]
    held_out = recipe.held_out()[:40]
    untrained = recipes.held_out_scores(models.build(**recipe.model).eval(), held_out)
    path, scores = recipes.make(name, tmp_path, share=0.02)
    assert scores["elbo"] > untrained["elbo"]
    assert scores["mean_squared_error"] < untrained["mean_squared_error"]
    loaded = models.load(path)
    again = recipes.held_out_scores(loaded, recipe.held_out())
    assert again["mean_squared_error"] == pytest.approx(scores["mean_squared_error"], rel=1e-2)
    assert not path.with_name(f".{name}.state").exists()


def test_the_reader_recipe_at_small_scale_learns_to_tell_products(tmp_path):
    path, scores = recipes.make_reader(tmp_path, share=0.04)
    assert scores["product"] > 0.3  # six products: chance is 1/6
    assert "made_by" in storage.read(path)[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_checkpoint_gives_the_figures_it_was_stored_with(name):
    path = recipes.CHECKPOINTS / f"{name}.safetensors"
    stored = storage.read(path)[1]["held_out"]
    model = models.load(path)
    measured = recipes.held_out_scores(model, recipes.RECIPES[name].held_out())
    assert measured["mean_squared_error"] == pytest.approx(stored["mean_squared_error"], rel=0.01)
    assert measured["kl"] == pytest.approx(stored["kl"], rel=0.02, abs=0.02)


def test_the_shipped_reader_reads_fresh_ads_as_well_as_it_says():
    stored = features.reader_scores()
    fresh = ads.sample_factors(250, 999, "client")
    measured = features.held_out_scores(features.reader(), ads.render(fresh), features.targets(fresh))
    assert measured["product"] > 0.95
    for name, value in stored.items():
        assert measured[name] == pytest.approx(value, abs=0.08), name


def test_checkpoints_keep_to_their_budget():
    sizes = [file.stat().st_size for file in recipes.CHECKPOINTS.glob("*.safetensors")]
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
