"""Codes, overlaps, paths and the diagnosis, against values known otherwise."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.spatial
import torch
from sklearn.datasets import load_digits
from torch.testing import assert_close

from vaelab import latent, models
from vaelab.distributions import DiagonalGaussian
from vaelab.objectives import BetaObjective
from vaelab.training import fit

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def digits():
    return torch.tensor(load_digits().images[:600] / 16, dtype=torch.float32)[:, None]


def untrained(kind="vae"):
    torch.manual_seed(0)
    return models.build(kind, SHAPE, 4, kind="mlp", channels=(16,)).train()


def trained(digits, beta, sigma=0.25):
    torch.manual_seed(0)
    model = models.vae(SHAPE, 4, kind="mlp", channels=(64,), sigma=sigma, learned=False)
    fit(model, digits, steps=400, objective=BetaObjective(beta=beta), progress=False)
    return model


@pytest.mark.parametrize("kind", ["vae", "autoencoder"])
def test_codes_of_all_pictures_in_order(digits, kind):
    model = untrained(kind)
    found = latent.codes(model, digits)
    assert found.shape == (600, 4) and not found.requires_grad and model.training
    assert_close(found, model.code(digits).detach(), atol=1e-5, rtol=1e-5)
    from_bytes = latent.codes(model, (digits * 255).round().to(torch.uint8))
    assert_close(from_bytes, found, atol=0.02, rtol=0)


def test_posteriors_and_their_price(digits):
    model = untrained()
    q = model.encode(digits)
    mean, log_variance = latent.posteriors(model, digits)
    assert_close(mean, q.mean.detach(), atol=1e-5, rtol=1e-5)
    assert_close(log_variance, q.log_variance.detach(), atol=1e-5, rtol=1e-5)
    assert_close(latent.kl_per_dimension(model, digits), q.kl_per_dimension().mean(0).detach(), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="Autoencoder has points for codes, not distributions"):
        latent.posteriors(untrained("autoencoder"), digits)


def test_a_unit_switched_off_is_not_active(digits):
    model = untrained()
    with torch.no_grad():
        last = model.encoder[-1]
        last.weight[:4] *= 10
        last.weight[2] = 0
    spread = latent.codes(model, digits).var(0)
    assert latent.active_units(model, digits).tolist() == [True, True, False, True]
    middle = float(spread.sort().values[1:3].mean())
    assert latent.active_units(model, digits, threshold=middle).sum() == 2


def test_optimal_sigma(digits):
    model = untrained("autoencoder")
    error = (model.reconstruct(digits) - digits).square().mean().sqrt()
    assert latent.optimal_sigma(model, digits) == pytest.approx(float(error.detach()), rel=1e-5)
    vae = untrained()
    noisy = latent.optimal_sigma(vae, digits)
    assert noisy == latent.optimal_sigma(vae, digits) != latent.optimal_sigma(vae, digits, seed=1)
    at_the_mean = float((vae.reconstruct(digits) - digits).square().mean().sqrt().detach())
    assert noisy > at_the_mean  # a sampled code costs something


def test_diagnosis_of_a_healthy_model(digits):
    found = latent.diagnose(trained(digits, beta=1.0), digits)
    assert found.verdict.startswith("healthy")
    assert found.active == found.dimensions == 4
    assert found.kl == pytest.approx(float(found.kl_per_dimension.sum()))
    assert found.sigma == pytest.approx(0.25) and 0.1 < found.optimal_sigma < 0.3
    assert "4 of 4" in str(found) and f"{found.kl:.2f} nats" in str(found) and "0.250" in str(found)


def test_diagnosis_of_a_collapse(digits):
    found = latent.diagnose(trained(digits, beta=100.0), digits)
    assert found.active == 0 and found.kl < 0.1
    assert found.verdict.startswith("collapsed: ") and "lower β" in found.verdict


def test_diagnosis_of_a_model_without_regularisation(digits):
    found = latent.diagnose(trained(digits, beta=1e-4), digits)
    assert found.verdict.startswith("barely regularised: behaves like an autoencoder")
    assert found.gap > 0.5


def test_half_a_collapse():
    assert latent.verdict(1, 4, 3.0, 0.1).startswith("partly collapsed: 3 of 4")
    assert latent.verdict(2, 4, 3.0, 0.1).startswith("healthy")


# -- overlap ------------------------------------------------------------------------------------------------------


def gaussians(n, d, seed):
    noise = torch.Generator().manual_seed(seed)
    return DiagonalGaussian(*torch.randn(2, n, d, generator=noise, dtype=torch.float64))


def test_overlap_is_the_integral_of_the_root():
    a, b = gaussians(3, 1, 0), gaussians(3, 1, 1)
    found = latent.bhattacharyya(a, b)
    for i in range(3):
        densities = [scipy.stats.norm(float(q.mean[i]), float(q.std[i])) for q in (a, b)]
        root = lambda z: math.sqrt(densities[0].pdf(z) * densities[1].pdf(z))  # noqa: B023
        assert float(found.coefficient[i]) == pytest.approx(scipy.integrate.quad(root, -30, 30)[0], rel=1e-6)
    assert_close(found.distance, -found.coefficient.log())


def test_overlap_adds_over_coordinates_and_pairs():
    a, b = gaussians(3, 4, 0), gaussians(5, 4, 1)
    pairs = latent.bhattacharyya(a, b, pairwise=True)
    assert pairs.distance.shape == (3, 5)
    one = DiagonalGaussian(b.mean[2:3].expand(3, 4), b.log_variance[2:3].expand(3, 4))
    assert_close(pairs.distance[:, 2], latent.bhattacharyya(a, one).distance)
    by_coordinate = [
        latent.bhattacharyya(*(DiagonalGaussian(q.mean[:, [i]], q.log_variance[:, [i]]) for q in (a, one)))
        for i in range(4)
    ]
    assert_close(pairs.distance[:, 2], sum(each.distance for each in by_coordinate))
    itself = latent.bhattacharyya(a, a, pairwise=True)
    assert_close(itself.coefficient.diagonal(), torch.ones(3).double())
    assert_close(itself.distance, itself.distance.T)
    assert itself.coefficient.max() <= 1 + 1e-12


# -- paths --------------------------------------------------------------------------------------------------------


def test_lerp():
    a, b = torch.tensor([0.0, 1.0]), torch.tensor([4.0, 3.0])
    assert_close(latent.lerp(a, b, 0.25), torch.tensor([1.0, 1.5]))
    path = latent.lerp(a, b, torch.linspace(0, 1, 5))
    assert_close(path, torch.tensor([[0.0, 1.0], [1.0, 1.5], [2.0, 2.0], [3.0, 2.5], [4.0, 3.0]]))


@pytest.mark.parametrize("d", [2, 3, 64])
def test_slerp_is_scipys_on_the_unit_sphere(d):
    rng = np.random.default_rng(d)
    a, b = (v / np.linalg.norm(v) for v in rng.normal(size=(2, d)))
    t = np.linspace(0, 1, 7)
    expected = scipy.spatial.geometric_slerp(a, b, t)
    assert_close(latent.slerp(torch.tensor(a), torch.tensor(b), torch.tensor(t)), torch.tensor(expected), atol=1e-9, rtol=0)


def test_slerp_keeps_the_length_and_the_ends():
    a, b = gaussians(2, 128, 0).mean
    path = latent.slerp(a, b, torch.linspace(0, 1, 9).double())
    assert_close(path[0], a)
    assert_close(path[-1], b)
    lengths = path.norm(dim=-1)
    assert_close(lengths, torch.linspace(float(a.norm()), float(b.norm()), 9).double())
    assert latent.lerp(a, b, 0.5).norm() < 0.8 * lengths.min()  # what slerp is for


def test_slerp_of_batches_and_where_there_is_no_circle():
    a, b = gaussians(4, 3, 0).mean, gaussians(4, 3, 1).mean
    together = latent.slerp(a, b, torch.tensor([0.3, 0.6]).double())
    assert together.shape == (2, 4, 3)
    assert_close(together[1, 2], latent.slerp(a[2], b[2], 0.6))
    assert_close(latent.slerp(a, b, 0.3), together[0])
    one = a[0]
    for other in (one, 2 * one, -one, 0 * one):
        assert_close(latent.slerp(one, other, 0.25), latent.lerp(one, other, 0.25))


def test_traverse():
    model = untrained()
    z = torch.tensor([1.0, 2.0, 3.0, 4.0])
    pictures = latent.traverse(model, z, 1, [-1.0, 2.0])
    assert_close(pictures[0], model.decode(torch.tensor([[1.0, -1.0, 3.0, 4.0]])).mean[0].detach())
    assert_close(pictures[1], model.decode(z[None]).mean[0].detach())
    assert z.tolist() == [1.0, 2.0, 3.0, 4.0] and not pictures.requires_grad
    with pytest.raises(ValueError, match="There is no coordinate 4: this latent has 4, counted from 0"):
        latent.traverse(model, z, 4, [0.0])
