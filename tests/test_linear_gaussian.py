"""The one case where everything is known: a linear VAE is probabilistic PCA.

x = W z + μ + ε, ε ~ N(0, σ²): the likelihood N(μ, W Wᵀ + σ² I) and the posterior are Gaussians (Tipping & Bishop 1999;
Lucas et al. 2019 for the VAE's side of it). With orthogonal columns of W the posterior is diagonal, so ours can be it.
"""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from sklearn.decomposition import PCA
from torch import nn
from torch.testing import assert_close

from vaelab import latent
from vaelab.distributions import DiagonalGaussian, GaussianLikelihood
from vaelab.models import VAE
from vaelab.objectives import iwae, log_likelihood, log_weights
from vaelab.training import evaluate, fit

D, K, SIGMA = 8, 3, 0.4
SHAPE = (D,)  # vectors will do here


class LinearEncoder(nn.Module):
    """Mean linear in x, one log-variance for all x: the exact posterior's form."""

    def __init__(self, pixels, dimensions):
        super().__init__()
        self.mean = nn.Linear(pixels, dimensions)
        self.raw = nn.Parameter(torch.zeros(dimensions))

    def forward(self, x):
        mean = self.mean(x.flatten(1))
        return torch.cat([mean, self.raw.expand_as(mean)], 1)


def linear_vae(dimensions=K, **likelihood):
    decoder = nn.Sequential(nn.Linear(dimensions, D), nn.Unflatten(1, SHAPE))
    return VAE(LinearEncoder(D, dimensions), decoder, dimensions, GaussianLikelihood(**likelihood))


def known_model(seed=0):
    """A float64 model with known W, μ, σ and the exact posterior; returns it with the exact density."""
    rng = np.random.default_rng(seed)
    basis = scipy.linalg.orth(rng.normal(size=(D, K)))
    weight, mean = basis * np.array([2.0, 1.0, 0.5]), rng.normal(size=D)
    precision = weight.T @ weight + SIGMA**2 * np.eye(K)
    projection = np.linalg.solve(precision, weight.T)
    log_variance = np.log(SIGMA**2 / np.diag(precision))
    model = linear_vae(sigma=SIGMA).double()
    with torch.no_grad():
        model.likelihood.log_sigma.fill_(math.log(SIGMA))
        model.decoder[0].weight.copy_(torch.tensor(weight))
        model.decoder[0].bias.copy_(torch.tensor(mean))
        model.encoder.mean.weight.copy_(torch.tensor(projection))
        model.encoder.mean.bias.copy_(torch.tensor(-projection @ mean))
        model.encoder.raw.copy_(torch.tensor(14 * np.arctanh(log_variance / 14)))  # undoes the soft bound
    exact = scipy.stats.multivariate_normal(mean, weight @ weight.T + SIGMA**2 * np.eye(D))
    x = torch.tensor(exact.rvs(6, random_state=seed)).reshape(-1, *SHAPE)
    return model, x, torch.tensor(exact.logpdf(x.flatten(1).numpy()))


def spoil(model):
    """Moves the posterior off the true one: mean by 0.8 standard deviations, these by a factor e^0.2."""
    with torch.no_grad():
        bounded = 14 * torch.tanh(model.encoder.raw / 14)
        model.encoder.mean.bias += 0.8 * (0.5 * bounded).exp()
        bounded += 0.4
        model.encoder.raw.copy_(14 * torch.atanh(bounded / 14))
    return model


def expected_elbo(model, x):
    """E over q, exactly: log p(x | z) is quadratic in z, so mean ± √k · std along each axis gives the expectation."""
    q = model.encode(x)
    step = math.sqrt(K) * torch.eye(K).double()
    z = q.mean + q.std * torch.cat([step, -step])[:, None]
    return model.decode(z).log_prob(x).mean(0) - q.kl()


def test_elbo_is_the_likelihood_at_the_true_posterior():
    model, x, exact = known_model()
    assert_close(expected_elbo(model, x), exact, atol=1e-9, rtol=0)


def test_elbo_falls_short_by_the_divergence_from_the_true_posterior():
    model, x, exact = known_model()
    true = model.encode(x)
    spoil(model)
    q = model.encode(x)
    a, b = (torch.distributions.Normal(p.mean, p.std) for p in (q, true))
    shortfall = torch.distributions.kl_divergence(a, b).sum(1).detach()
    assert shortfall.min() > 0.5
    assert_close(expected_elbo(model, x), exact - shortfall, atol=1e-9, rtol=0)


def test_forward_is_an_unbiased_draw_of_it():
    model, x, _ = known_model()
    spoil(model)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        draws = torch.stack([model(x, generator=noise).value for _ in range(2_000)])
        error = draws.std(0) / math.sqrt(len(draws))
        assert ((draws.mean(0) - expected_elbo(model, x)).abs() < 4 * error).all()


def test_float32_agrees():
    model, x, exact = known_model()
    elbo = log_likelihood(model.float(), x.float(), k=3, generator=torch.Generator().manual_seed(0))
    assert_close(elbo.value.double(), exact, atol=1e-3, rtol=0)


def test_at_the_true_posterior_one_sample_is_enough():
    model, x, exact = known_model()
    estimate = log_likelihood(model, x, k=7, generator=torch.Generator().manual_seed(0))
    assert_close(estimate.value, exact, atol=1e-9, rtol=0)
    assert estimate.standard_error.max() < 1e-9
    assert_close(iwae(model, x, 1, torch.Generator().manual_seed(1)).value.detach(), exact, atol=1e-9, rtol=0)


def test_bounds_rise_to_the_likelihood():
    model, x, exact = known_model()
    spoil(model)
    noise = torch.Generator().manual_seed(3)
    means, errors = [float(expected_elbo(model, x).detach().mean())], [0.0]
    with torch.no_grad():
        for k, repeats in ((1, 4_000), (5, 2_000), (50, 1_000)):
            values = torch.stack([iwae(model, x, k, noise).value.mean() for _ in range(repeats)])
            means.append(float(values.mean()))
            errors.append(float(values.std()) / math.sqrt(repeats))
    elbo, one, five, fifty = means
    assert abs(one - elbo) < 4 * errors[1]  # IWAE of one sample is the ELBO
    assert elbo + 0.2 < five and five + 0.05 < fifty
    assert fifty < float(exact.mean()) + 3 * errors[3]
    assert float(exact.mean()) - fifty < 0.1


def test_log_likelihood_finds_the_exact_value_from_a_wrong_posterior():
    model, x, exact = known_model()
    spoil(model)
    estimate = log_likelihood(model, x, k=20_000, generator=torch.Generator().manual_seed(0), chunk=5_000)
    assert ((estimate.value - exact).abs() < 4 * estimate.standard_error).all()
    assert estimate.standard_error.max() < 0.05


def test_the_standard_error_is_the_spread_over_repeats():
    model, x, _ = known_model()
    spoil(model)
    noise = torch.Generator().manual_seed(0)
    repeats = [log_likelihood(model, x[:2], k=200, generator=noise, chunk=200) for _ in range(300)]
    spread = torch.stack([r.value for r in repeats]).std(0)
    reported = torch.stack([r.standard_error for r in repeats]).mean(0)
    assert_close(reported, spread, rtol=0.25, atol=0)


@pytest.mark.parametrize("k", [1, 7, 150])
def test_log_likelihood_decodes_exactly_k_samples(k):
    model, x, _ = known_model()
    rows = []
    model.decoder.register_forward_hook(lambda module, given, output: rows.append(len(output)))
    estimate = log_likelihood(model, x, k=k, generator=torch.Generator().manual_seed(0))
    assert sum(rows) == k * len(x) and estimate.k == k
    assert max(rows) <= 50 * len(x)
    assert torch.isnan(estimate.standard_error).all() == (k == 1)


def test_iwae_value_and_gradient():
    model, x, _ = known_model()
    spoil(model)
    bound = iwae(model, x, 5, torch.Generator().manual_seed(0))
    parameters = list(model.parameters())
    ours = torch.autograd.grad(bound.value.sum(), parameters)
    weights = log_weights(model, x, 5, torch.Generator().manual_seed(0))
    share = weights.exp() / weights.exp().sum(0)  # float64 bears it here
    assert_close(bound.value, weights.exp().mean(0).log(), atol=1e-10, rtol=0)
    by_hand = torch.autograd.grad((share.detach() * weights).sum(), parameters)  # Burda et al. 2016, eq. 14
    for a, b in zip(ours, by_hand, strict=True):
        assert_close(a, b, atol=1e-9, rtol=1e-9)
    surrogate = (share * weights).sum(0)  # right gradient, wrong number
    assert (surrogate - bound.value).max() > 0.1


def test_log_weights_by_hand():
    model, x, _ = known_model()
    spoil(model)
    q = model.encode(x)
    z = q.sample(torch.Generator().manual_seed(0), 4)
    flat = model.decode(z).mean.flatten(2)
    parts = [
        torch.distributions.Normal(flat, SIGMA).log_prob(x.flatten(1)).sum(-1),
        torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1),
        -torch.distributions.Normal(q.mean, q.std).log_prob(z).sum(-1),
    ]
    assert_close(log_weights(model, x, 4, torch.Generator().manual_seed(0)), sum(parts), atol=1e-9, rtol=0)


def test_tiny_weights_stay_finite_in_float32():
    model, x, _ = known_model()
    spoil(model)
    far = x + 14.0
    double = log_likelihood(model, far, k=20, generator=torch.Generator().manual_seed(0))
    assert double.value.max() < -500
    noise = torch.Generator().manual_seed(0)
    single = log_likelihood(model.float(), far.float(), k=20, generator=noise)
    assert torch.isfinite(single.value).all() and torch.isfinite(single.standard_error).all()
    assert torch.isfinite(iwae(model, far.float(), 5, noise).value).all()


# -- training finds what is known ---------------------------------------------------------------------------------


def data(n=400, seed=0):
    """Vectors of rank 3 and noise, with eigenvalues well apart."""
    rng = np.random.default_rng(seed)
    basis = scipy.linalg.orth(rng.normal(size=(D, D)))
    scale = np.array([2.0, 1.4, 1.0, 0.3, 0.3, 0.3, 0.3, 0.3])
    return torch.tensor((rng.normal(size=(n, D)) * scale) @ basis.T, dtype=torch.float32)


def trained(x, steps=800, **likelihood):
    torch.manual_seed(0)
    model = linear_vae(**likelihood)
    fit(model, x, steps=steps, batch_size=len(x), learning_rate=0.02, progress=False, record_every=steps)
    return model


@pytest.fixture(scope="module")
def learned():
    x = data()
    return x, trained(x, sigma=1.0), PCA(K).fit(x.flatten(1).double().numpy())


def test_training_reaches_pca(learned):
    x, model, pca = learned
    best = pca.score(x.flatten(1).numpy())
    elbo = np.mean([float(evaluate(model, x, seed=seed).value) for seed in range(20)])
    likelihood = float(log_likelihood(model, x, 100, torch.Generator().manual_seed(0)).value.mean())
    assert abs(elbo - best) < 0.05
    assert abs(likelihood - best) < 0.05


def test_training_finds_the_noise_and_the_subspace(learned):
    _, model, pca = learned
    # scikit-learn's noise_variance_ divides by n - 1: a quarter of a percent is beside the point
    assert model.likelihood.sigma**2 == pytest.approx(pca.noise_variance_, rel=0.03)
    angles = scipy.linalg.subspace_angles(model.decoder[0].weight.detach().numpy(), pca.components_.T)
    assert np.degrees(angles.max()) < 2


def test_optimal_sigma_is_the_learned_one(learned):
    x, model, _ = learned
    assert latent.optimal_sigma(model, x) == pytest.approx(model.likelihood.sigma, rel=0.02)


@pytest.mark.parametrize("sigma", [0.7, 1.2, 1.7, 2.5])
def test_units_collapse_one_by_one_at_the_eigenvalues(sigma):
    x = data()
    model = trained(x, sigma=sigma, learned=False)
    eigenvalues = np.linalg.eigvalsh(np.cov(x.flatten(1).numpy().T, bias=True))[::-1][:K]
    above = eigenvalues[eigenvalues > sigma**2]
    model.encoder, model.decoder = in_principal_axes(model)
    assert int(latent.active_units(model, x, threshold=0.05).sum()) == len(above)
    # and what the codes cost is known to the nat: ½ log(eigenvalue / σ²) each
    kl = float(latent.kl_per_dimension(model, x).sum())
    assert kl == pytest.approx(0.5 * np.log(above / sigma**2).sum(), abs=0.1)


def in_principal_axes(model):
    """Turns the latent so that W's columns are orthogonal: the diagonal posterior wants it, training only nearly."""
    with torch.no_grad():
        _, _, turn = torch.linalg.svd(model.decoder[0].weight, full_matrices=False)
        model.decoder[0].weight.copy_(model.decoder[0].weight @ turn.T)
        model.encoder.mean.weight.copy_(turn @ model.encoder.mean.weight)
        model.encoder.mean.bias.copy_(turn @ model.encoder.mean.bias)
    return model.encoder, model.decoder


def test_gaussian_posteriors_join(learned):
    x, model, _ = learned
    joined = DiagonalGaussian(*latent.posteriors(model, x))
    assert_close(joined.kl(), model.encode(x).kl(), atol=1e-4, rtol=1e-4)
