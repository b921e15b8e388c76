"""The sweep of prices: what is stored is what the module says, and it can be made again."""

import json

import pytest
import torch

from vaelab import rate_distortion as rd


@pytest.fixture(scope="module")
def stored():
    return json.loads(rd.RESULTS.read_text(encoding="utf-8"))


def test_every_price_and_start_is_stored_with_the_module_s_settings(stored):
    assert [(p["beta"], p["seed"]) for p in stored["points"]] == [(b, s) for b in rd.BETAS for s in rd.SEEDS]
    assert [stored[name] for name in ("sigma", "latent", "steps")] == [rd.SIGMA, rd.LATENT, rd.STEPS]


def test_a_higher_price_buys_a_cheaper_address_and_a_worse_picture(stored):
    for seed in rd.SEEDS:
        rates, errors = zip(*[(p["rate"], p["distortion"]) for p in stored["points"] if p["seed"] == seed], strict=True)
        assert list(rates) == sorted(rates, reverse=True) and list(errors) == sorted(errors)


def test_a_run_is_a_function_of_its_seed_and_sees_its_settings():
    once, again, other, dear = (
        rd.measure(rd.train(beta, seed, steps=30)) for beta, seed in ((1.0, 0), (1.0, 0), (1.0, 1), (30.0, 0))
    )
    assert once == again != other
    assert dear["rate"] < 0.5 * once["rate"]
    assert rd.train(steps=1, sigma=0.3).likelihood.sigma == pytest.approx(0.3)


def test_stored_pictures_are_grey_levels_of_round_trips():
    vae = rd.train(steps=2)
    found = rd.pictures(vae, count=3)
    with torch.no_grad():
        trips = vae.reconstruct(rd.digits.load(test=True)[0][:3]).clamp(0, 1)
    assert found["reconstruction"] == (16 * trips).round().int().flatten(1).tolist()
    assert torch.tensor(found["sample"]).shape == (3, 64)
