"""The parts of latent diffusion that ship, and their recipes at a small scale."""

import json
import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from vaelab import diffusion, features, recipes_kl, stage1, storage
from vaelab.autoencoder_kl import CONFIG, WEIGHTS, AutoencoderKL
from vaelab.data import ads

held_out = cache(recipes_kl.held_out_ads)


def record(name):
    """What was stored with a shipped stage."""
    from safetensors import safe_open

    with safe_open(recipes_kl.CHECKPOINTS / name / WEIGHTS, framework="pt") as file:
        return json.loads(file.metadata()["vaelab"])


@pytest.mark.parametrize("name", recipes_kl.STAGES)
def test_a_recipe_at_small_scale_learns_and_diffusers_reads_what_it_wrote(name, tmp_path, monkeypatch):
    import diffusers

    recipe = recipes_kl.STAGES[name]
    few = held_out(size=recipe.size)[:4]
    monkeypatch.setattr(recipes_kl, "held_out_ads", lambda size: few)
    untrained = recipes_kl.held_out_scores(recipe.build().eval(), few)
    path, scores = recipes_kl.make(name, tmp_path, share=0.03 if name == "kl-case-32px" else 0.005)  # of 770 ads only
    assert scores["psnr"] > untrained["psnr"] + 0.5
    theirs, x = diffusers.AutoencoderKL.from_pretrained(path), few[:1]
    ours = AutoencoderKL.from_pretrained(path)
    torch.testing.assert_close(theirs.encode(2 * x - 1).latent_dist.mean, ours.code(x), atol=1e-5, rtol=1e-5)
    assert not (tmp_path / f".{name}.state").exists()


@pytest.mark.parametrize("name", recipes_kl.STAGES)
def test_a_shipped_stage_gives_the_figures_it_was_stored_with(name):
    stored = record(name)
    vae = AutoencoderKL.from_pretrained(recipes_kl.CHECKPOINTS / name)
    measured = recipes_kl.held_out_scores(vae, held_out(size=recipes_kl.STAGES[name].size)[:40])
    assert measured["psnr"] == pytest.approx(stored["held_out"]["psnr"], abs=0.5)  # 40 of the 100 pictures
    assert measured["kl"] == pytest.approx(stored["held_out"]["kl"], rel=0.05)
    assert stored["made_by"].endswith(name)


@pytest.mark.parametrize("name", recipes_kl.STAGES)
def test_the_normaliser_of_a_shipped_stage_is_that_of_its_latents(name):
    vae = AutoencoderKL.from_pretrained(recipes_kl.CHECKPOINTS / name)
    with torch.no_grad():
        posterior = vae.encode(held_out(size=recipes_kl.STAGES[name].size)[:40])
    z = vae.normalise(posterior.sample(torch.Generator().manual_seed(0)))
    assert float(z.std()) == pytest.approx(1, abs=0.15)  # whole ads are a little flatter than cut-outs
    assert abs(float(z.mean())) < 0.2


def test_cut_outs_are_pieces_of_ads_and_of_no_photograph_that_is_tested_on():
    pieces = recipes_kl.cut_outs(share=0.004)
    assert pieces.shape == (5 * 12, 3, 64, 64) and pieces.dtype == torch.uint8
    assert not {"astronaut", "page", "text", "brick", "grass", "gravel"} & set(recipes_kl.PHOTOS)
    first = (255 * ads.render(ads.sample_factors(12, 100), 128)).round().byte()[0]
    windows = first.unfold(1, 64, 1).unfold(2, 64, 1)  # (3, 65, 65, 64, 64)
    assert (windows == pieces[0][:, None, None]).all(-1).all(-1).all(0).any()


def test_the_perceptual_distance_shares_no_weights_with_a_ruler():
    ours = dict(recipes_kl.perceptual_distance().named_parameters())
    assert ours
    for name in ("reader", "journey-reader"):
        ruler = {tuple(p.shape): p for p in features.reader(name).parameters() if p.ndim > 1}
        for parameter in ours.values():
            other = ruler.get(tuple(parameter.shape))
            if other is not None:
                assert (parameter - other).abs().mean() > 0.1 * other.abs().mean()


def test_tuning_starts_from_the_plain_stage_and_moves_it():
    pieces, start = recipes_kl.cut_outs(share=0.004), AutoencoderKL.from_pretrained(recipes_kl.CHECKPOINTS / "kl-f8-c4")
    tuned = {loss: recipes_kl.train(recipes_kl.tuned(loss), pieces, 3) for loss in ("l2", "sharp")}
    x = held_out()[:2]
    for vae in tuned.values():
        with torch.no_grad():
            assert 0 < float((vae.reconstruct(x) - start.reconstruct(x)).abs().mean()) < 0.1
    assert not torch.equal(tuned["l2"].code(x), tuned["sharp"].code(x))


def test_each_tuning_leaves_out_what_its_name_says():
    whole = recipes_kl.tuned("sharp")
    without = {
        "perceptual": ("objective", "adversarial_weight", 0.0), "adversarial": ("objective", "perceptual_weight", 0.0),
        "no kl": ("objective", "kl_weight", 0.0), "fixed sigma": ("sigma", 1.0),
        "fixed weight, small": ("adaptive", False),
    }  # fmt: skip
    for loss, (*path, value) in without.items():
        part = recipes_kl.tuned(loss)
        changed = replace(whole.objective, **{path[1]: value}) if len(path) == 2 else value
        assert part == replace(whole, **{path[0]: changed}) != whole, loss
    late, at_once = (recipes_kl.tuned(f"from nothing, {when}") for when in ("late", "at once"))
    assert at_once == replace(late, objective=replace(late.objective, adversarial_start=0)) != late
    assert late.start == "" and late.objective.adversarial_start == late.steps // 2


@pytest.mark.parametrize(("loss", "sigma", "adaptive"), [("fixed sigma", 1.0, True), ("fixed weight, small", None, False)])
def test_a_tuning_trains_with_the_stage_that_it_describes(monkeypatch, loss, sigma, adaptive):
    seen = []
    monkeypatch.setattr(recipes_kl, "fit", lambda stage, *_, **settings: seen.append((stage, settings)))
    recipes_kl.train(recipes_kl.tuned(loss), recipes_kl.cut_outs(share=0.004), 3)
    ((stage, settings),) = seen
    assert (stage.adaptive, settings["objective"]) == (adaptive, recipes_kl.tuned(loss).objective)
    assert stage.log_variance.requires_grad == (sigma is None)
    if sigma:
        assert float(stage.log_variance.detach()) == pytest.approx(2 * math.log(sigma))


def test_latent_diffusion_of_ads_at_small_scale_and_as_shipped(tmp_path):
    path, scores = recipes_kl.make_diffusion(folder=tmp_path, share=0.003)
    shipped = diffusion.load(recipes_kl.CHECKPOINTS / "ldm-ads.safetensors")
    assert diffusion.load(path).config == shipped.config
    vae = AutoencoderKL.from_pretrained(recipes_kl.CHECKPOINTS / "kl-f4-c4-64px")
    held = recipes_kl.diffusion_rows(vae, ads.sample_factors(100, seed=200))
    stored = storage.read(recipes_kl.CHECKPOINTS / "ldm-ads.safetensors")[1]["held_out"]["error"]
    assert stored < 0.7 * scores["error"]
    with torch.no_grad():
        measured = -float(shipped(held, generator=torch.Generator().manual_seed(0)).reconstruction.mean())
    assert measured == pytest.approx(stored, rel=0.2)


def test_the_files_of_a_stage_keep_to_the_budget():
    for name in recipes_kl.STAGES:
        assert (recipes_kl.CHECKPOINTS / name / CONFIG).exists()
        assert (recipes_kl.CHECKPOINTS / name / WEIGHTS).stat().st_size < 1_000_000
    assert isinstance(recipes_kl.perceptual_distance(), stage1.PerceptualDistance)


def test_resting_blocks_let_everything_through():
    vae = recipes_kl.resting(recipes_kl.STAGES["kl-f8-c4"].build())
    x = torch.randn(1, 32, 5, 5, generator=torch.Generator().manual_seed(0))
    blocks = [vae.encoder.mid_block.resnets[0], vae.decoder.mid_block.resnets[1]]
    assert all(torch.equal(block(x), x) for block in blocks)
    assert not torch.equal(recipes_kl.STAGES["kl-f8-c4"].build().encoder.mid_block.resnets[0](x), x)
