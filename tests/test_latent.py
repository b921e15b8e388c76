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


def test_slerp_through_codes_that_are_a_right_angle_apart():
    a, b = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 2.0])
    middle = latent.slerp(a, b, torch.tensor([0.0, 1 / 3, 0.5, 1.0]))
    third = 2 * torch.tensor([math.cos(math.pi / 6), 0, math.sin(math.pi / 6)])
    assert_close(middle, torch.stack([a, third, torch.tensor([2**0.5, 0.0, 2**0.5]), b]))


@pytest.mark.parametrize("kind", ["vae", "autoencoder"])
@pytest.mark.parametrize("way", [latent.lerp, latent.slerp])
def test_a_path_ends_at_the_round_trips_and_is_the_same_every_time(digits, kind, way):
    model = untrained(kind)
    found = latent.path(model, digits[0], digits[1], 5, way)
    assert found.shape == (5, *SHAPE) and not found.requires_grad and model.training
    ends = model.reconstruct(digits[:2]).detach()
    assert_close(found[[0, -1]], ends, atol=1e-5, rtol=1e-4)
    assert_close(latent.path(model, digits[0], digits[1], 5, way), found, atol=0, rtol=0)
    z = latent.codes(model, digits[:2])
    assert_close(found[1], model.decode(way(z[0], z[1], 0.25)[None]).mean[0].detach(), atol=1e-5, rtol=1e-4)


def test_a_path_in_a_spatial_latent_takes_the_whole_latent_for_one_vector(digits):
    class Spatial(torch.nn.Module):
        """The latent of a picture is the picture."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def code(self, x):
            return x

        def decode(self, z):
            return torch.distributions.Normal(z * self.weight, 1.0)

    a, b = digits[:2]
    found = latent.path(Spatial(), a, b, 5, latent.slerp)
    assert_close(found[2].flatten(), latent.slerp(a.flatten(), b.flatten(), 0.5))


def test_neighbours_are_round_trips_without_noise_and_come_evenly(digits):
    model = untrained()
    pictures, sources = latent.neighbourhood(model, digits[:7], 24, noise=0)
    counts = torch.bincount(sources, minlength=7)
    assert counts.min() == 3 and counts.max() == 4 and sources.tolist() != sorted(sources.tolist())
    assert_close(pictures, model.reconstruct(digits[:7])[sources].detach(), atol=1e-5, rtol=1e-4)
    again = latent.neighbourhood(model, digits[:7], 24, noise=0)
    assert_close(again[0], pictures, atol=0, rtol=0)
    assert latent.neighbourhood(model, digits[:7], 24, noise=0, seed=1)[1].tolist() != sources.tolist()
    few = latent.neighbourhood(model, digits, 50, noise=0)[1]
    assert len(few.unique()) == 50
    assert latent.draw_evenly(7, 0).tolist() == []


def test_the_noise_of_neighbours_is_in_units_of_the_latent(digits):
    class Same(torch.nn.Module):
        """Shows a code of 64 coordinates as a picture."""

        latent_shape = (64,)

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def code(self, x):
            return x.flatten(1)

        def decode(self, z):
            return torch.distributions.Normal(z.reshape(-1, *SHAPE), 1.0)

    pictures, sources = latent.neighbourhood(Same(), digits[:10], 300, noise=0.5)
    shift = pictures - digits[sources]
    assert float(shift.std()) == pytest.approx(0.5, rel=0.03) and abs(float(shift.mean())) < 0.02
    assert shift.flatten(1).unique(dim=0).shape[0] == 300  # each its own
    assert abs(float(torch.corrcoef(shift.flatten(1).T).triu(1).mean())) < 0.01


def test_a_direction_is_with_minus_without():
    z = torch.tensor([[1.0, 0.0], [3.0, 2.0], [0.0, 5.0]])
    for mask in (torch.tensor([True, True, False]), np.array([True, True, False])):
        assert_close(latent.direction(z, mask), torch.tensor([2.0, -4.0]))
    for mask in (np.zeros(3, bool), np.ones(3, bool)):
        with pytest.raises(ValueError, match=f"with and without it; here {mask.sum()} of 3 have it"):
            latent.direction(z, mask)


# -- short ways ---------------------------------------------------------------------------------------------------


class Decoder(torch.nn.Module):
    """A model of which only the decoder counts: a function of codes `(N, d)` to points, seen as pictures."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def points(self, z):
        return self.weight * self.function(z)

    def decode(self, z):
        return torch.distributions.Normal(self.points(z), 1.0)


def polar(z):
    """The plane by radius and angle."""
    return torch.stack([z[:, 0] * z[:, 1].cos(), z[:, 0] * z[:, 1].sin()], 1)


def globe(z):
    """The unit sphere by longitude and latitude."""
    return torch.stack([z[:, 0].cos() * z[:, 1].cos(), z[:, 0].sin() * z[:, 1].cos(), z[:, 1].sin()], 1)


def test_the_length_of_a_decoded_path():
    quarter = latent.lerp(torch.tensor([2.0, 0.0]), torch.tensor([2.0, math.pi / 2]), torch.linspace(0, 1, 400))
    assert latent.decoder_length(polar, quarter) == pytest.approx(math.pi, rel=1e-4)
    assert latent.decoder_length(lambda z: z, torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]])) == pytest.approx(9)


def test_the_geodesic_of_a_linear_decoder_is_the_straight_line():
    matrix, a, b = gaussians(6, 3, 0).mean, *gaussians(2, 3, 1).mean
    found = latent.geodesic(Decoder(lambda z: z @ matrix.T), a, b, 9)
    assert_close(found, latent.lerp(a, b, torch.linspace(0, 1, 9).double()), atol=1e-4, rtol=0)


def test_geodesics_and_traverses_of_a_model_in_training_are_without_dropout():
    a, b = torch.tensor([[1.0, 0.0], [2.0, 2.0]]).double()
    drop = torch.nn.Dropout(0.5)
    model = Decoder(lambda z: drop(polar(z)))
    model.drop = drop
    found = latent.geodesic(model, a, b, 11)
    ends = polar(torch.stack([a, b]))
    assert_close(polar(found), latent.lerp(*ends, torch.linspace(0, 1, 11).double()), atol=1e-3, rtol=0)
    assert_close(latent.traverse(model, a, 0, [1.0, 3.0]), torch.tensor([[1.0, 0.0], [3.0, 0.0]]).double())
    assert model.training and drop.training


def test_the_geodesic_in_polar_coordinates_is_straight_where_one_sees_it():
    a, b = torch.tensor([[1.0, 0.0], [2.0, 2.0]]).double()
    model = Decoder(polar)
    found = latent.geodesic(model, a, b, 11)
    ends = polar(torch.stack([a, b]))
    assert_close(polar(found), latent.lerp(*ends, torch.linspace(0, 1, 11).double()), atol=1e-3, rtol=0)
    assert model.weight.grad is None and not found.requires_grad


def test_the_geodesic_on_a_globe_is_the_great_circle():
    a, b = torch.tensor([[-1.0, 0.8], [1.0, 0.8]]).double()
    angle = math.acos(float((globe(a[None]) * globe(b[None])).sum()))
    model = Decoder(globe)
    straight = latent.lerp(a, b, torch.linspace(0, 1, 33).double())
    found = latent.geodesic(model, a, b, 33, iterations=300)
    assert latent.decoder_length(model.points, found) == pytest.approx(angle, rel=1e-3)
    assert latent.decoder_length(model.points, straight) > 1.05 * angle
    by_height = latent.geodesic(model, a, b, 33, features=lambda points: points[:, 2:])
    assert float(globe(by_height)[:, 2].std()) < 0.01  # a and b are equally far north: that way no feature changes


def test_the_geodesic_of_a_network_is_shorter_and_more_even_than_the_straight_line():
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 20)).double()
    with torch.no_grad():
        network[0].weight *= 4
    model = Decoder(network)
    for a, b in (gaussians(2, 2, seed).mean for seed in range(4)):
        straight = latent.lerp(a, b, torch.linspace(0, 1, 12).double())
        found = latent.geodesic(model, a, b, 12)
        assert_close(found[[0, -1]], torch.stack([a, b]))
        assert latent.decoder_length(model.points, found) <= latent.decoder_length(model.points, straight)
        steps = model.points(found).diff(dim=0).norm(dim=1)
        assert steps.max() < 1.2 * steps.mean()
