"""The aggregate posterior, its three parts, and what one batch makes of it, against cases that are known otherwise."""

import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch.testing import assert_close

from vaelab import aggregate, models
from vaelab.distributions import DiagonalGaussian


def posteriors(n, d, seed, spread=1.0):
    mean, log_variance = torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return spread * mean, log_variance - 1


def test_log_aggregate_is_a_mixture_s_log_density_whatever_the_chunk_and_far_out():
    mean, log_variance = posteriors(7, 3, 0)
    z = torch.cat([posteriors(5, 3, 1)[0], torch.full((1, 3), 200.0).double()])
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(7).double()),
        torch.distributions.Independent(torch.distributions.Normal(mean, (0.5 * log_variance).exp()), 1),
    )
    for chunk in (1, 4, 100):
        assert_close(aggregate.log_aggregate(z, mean, log_variance, chunk), mixture.log_prob(z))
    assert torch.isfinite(aggregate.log_aggregate(z, mean, log_variance)).all()


def test_the_parts_add_up_to_the_kl():
    mean, log_variance = posteriors(80, 4, 2)
    found = aggregate.decompose(mean, log_variance, samples=80)
    assert found.kl == pytest.approx(float(DiagonalGaussian(mean, log_variance).kl().mean()))
    error = math.sqrt(sum(e**2 for e in found.standard_errors))
    assert abs(sum(found[:3]) - found.kl) < 3 * error < 0.05 * found.kl
    assert 0 < found.mutual_information < math.log(80)
    assert found == aggregate.decompose(mean, log_variance, samples=80)
    assert found != aggregate.decompose(mean, log_variance, samples=80, seed=1)
    spatial = aggregate.decompose(mean.reshape(80, 1, 2, 2), log_variance.reshape(80, 1, 2, 2), samples=80)
    assert spatial == found


def test_the_parts_where_the_aggregate_is_gaussian():
    # Posterior means that lie as a Gaussian lies, N(m, A), and one variance s² for all: q(z) is N(m, A + s² I).
    n, s2 = 4000, 0.5
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.8]]).double()
    centre = torch.tensor([0.5, -0.3]).double()
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    mean = centre + noise @ torch.linalg.cholesky(covariance).T
    found = aggregate.decompose(mean, torch.full_like(mean, math.log(s2)), samples=2)

    whole = covariance + s2 * torch.eye(2)
    information = 0.5 * float(torch.logdet(whole)) - math.log(s2)
    correlation = 0.5 * float(whole.diag().log().sum() - torch.logdet(whole))
    each = 0.5 * float((centre**2 + whole.diag() - 1 - whole.diag().log()).sum())
    assert found[:3] == pytest.approx((information, correlation, each), abs=0.03)


def test_the_standard_errors_are_the_spread_over_seeds():
    mean, log_variance = posteriors(40, 3, 4, spread=2.0)  # pictures differ more than the draws of one do
    found = [aggregate.decompose(mean, log_variance, samples=3, seed=seed) for seed in range(150)]
    spread = np.std([f[:3] for f in found], axis=0)
    assert np.mean([f.standard_errors for f in found], axis=0) == pytest.approx(spread, rel=0.2)


def test_pictures_whose_clouds_do_not_touch_share_log_n_nats():
    mean = 100 * torch.arange(30.0)[:, None].expand(30, 2)
    found = aggregate.decompose(mean, torch.zeros(30, 2))
    assert found.mutual_information == pytest.approx(math.log(30))
    assert found.total_correlation == pytest.approx(math.log(30))
    with pytest.raises(ValueError, match="at least 2 samples per picture; got 1"):
        aggregate.decompose(mean, mean, samples=1)


# -- from one batch -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "n"), [(2, 2), (2, 9), (4, 100), (64, 20000)])
def test_weights_of_a_batch_sum_to_one_with_the_picture_s_own_on_the_diagonal(batch, n):
    weights = aggregate.minibatch_weights(batch, n)
    assert_close(weights.sum(1), torch.ones(batch))
    assert_close(weights.diag(), torch.full((batch,), 1 / n))
    assert (weights > 0).all() or batch == n == 2


def test_the_published_weights_put_it_in_a_column_and_a_row_above_one():
    weights = aggregate.minibatch_weights(4, 100, correct=False)
    rest, third = 97 / 300, 1 / 3
    row = [0.01, rest, third, third]
    assert_close(weights, torch.tensor([row, row, [rest, *row[1:]], row]))
    assert weights.sum(1).max() == pytest.approx(1.313, abs=1e-3)
    for batch in (1, 101):
        with pytest.raises(ValueError, match=f"at most all 100; got {batch}"):
            aggregate.minibatch_weights(batch, 100)


def test_a_batch_s_density_is_unbiased_and_the_published_one_is_not():
    mean, log_variance = posteriors(12, 2, 5, spread=2.0)
    z = DiagonalGaussian(mean, log_variance).sample(torch.Generator().manual_seed(0))
    random, draws = torch.Generator().manual_seed(1), []
    for _ in range(6000):
        # Picture 0 at a random place of a batch of 4.
        chosen = torch.cat([torch.zeros(1).long(), 1 + torch.randperm(11, generator=random)[:3]])
        chosen = chosen[torch.randperm(4, generator=random)]
        place = int((chosen == 0).nonzero())
        batch = z[chosen], mean[chosen], log_variance[chosen]
        draws.append([aggregate.log_aggregate_of_batch(*batch, 12, c)[place].exp().item() for c in (True, False)])
    draws, exact = np.array(draws), float(aggregate.log_aggregate(z[:1], mean, log_variance).exp())
    errors = draws.std(0) / math.sqrt(len(draws))
    assert abs(draws[:, 0].mean() - exact) < 3 * errors[0] < 0.1 * exact
    assert draws[:, 1].mean() - exact > 10 * errors[1]


# -- a prior that fits --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clouds():
    """Codes of three kinds, of unequal number, `(1000, 2)`."""
    random = torch.Generator().manual_seed(6)
    places = torch.tensor([[-6.0, 0.0], [0.0, 6.0], [6.0, 0.0]])
    chosen = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), 1000, replacement=True, generator=random)
    return places[chosen] + torch.randn(1000, 2, generator=random) @ torch.tensor([[1.0, 0.5], [0.0, 0.7]])


def test_a_mixture_s_log_density_is_scikit_learn_s(clouds):
    found = aggregate.fit_mixture(clouds, 3)
    theirs = GaussianMixture(3, reg_covar=1e-4, random_state=0).fit(clouds.double().numpy())
    want = torch.tensor(theirs.score_samples(clouds.double().numpy()))
    assert_close(found.log_prob(clouds).double(), want, atol=1e-3, rtol=0)
    assert found.log_prob(clouds[:6].reshape(2, 3, 2)).shape == (2, 3)
    z = clouds[:4].clone().requires_grad_()
    found.log_prob(z).sum().backward()
    assert torch.isfinite(z.grad).all() and z.grad.abs().sum() > 0


def test_a_mixture_s_draws_have_the_codes_moments(clouds):
    found = aggregate.fit_mixture(clouds, 3)
    draws = found.sample(20000, torch.Generator().manual_seed(0))
    assert_close(draws.mean(0), clouds.mean(0), atol=0.15, rtol=0)
    assert_close(torch.cov(draws.T), torch.cov(clouds.T), atol=0.5, rtol=0.05)
    shares = [float((draws[:, 0] < -3).float().mean()), float((draws[:, 0] > 3).float().mean())]
    seen = [float((clouds[:, 0] < -3).float().mean()), float((clouds[:, 0] > 3).float().mean())]
    assert shares == pytest.approx(seen, abs=0.015)
    few = found.sample(9, torch.Generator().manual_seed(0))
    assert_close(few, found.sample(9, torch.Generator().manual_seed(0)))
    corner = draws[draws[:, 0] < -3]
    assert_close(torch.cov(corner.T), torch.cov(clouds[clouds[:, 0] < -3].T), atol=0.1, rtol=0.1)


def test_the_number_of_components_is_that_under_which_left_out_codes_are_likely(clouds):
    assert len(aggregate.fit_mixture(clouds).weights) == 4  # of 1, 2, 4 …; three kinds
    one_cloud = torch.randn(150, 6, generator=torch.Generator().manual_seed(0))
    assert len(aggregate.fit_mixture(one_cloud).weights) == 1


def test_a_mixture_is_a_prior_for_a_vae_of_any_latent_shape(clouds):
    torch.manual_seed(0)
    model = models.vae((1, 8, 8), 2, kind="mlp", channels=(16,))
    model.prior = aggregate.fit_mixture(clouds, 3)
    pictures = torch.rand(5, 1, 8, 8)
    assert model.sample(3, torch.Generator().manual_seed(0)).shape == (3, 1, 8, 8)
    terms = model(pictures, generator=torch.Generator().manual_seed(0))
    q = model.encode(pictures)
    z = q.sample(torch.Generator().manual_seed(0))
    assert_close(terms.kl, q.log_prob(z) - model.prior.log_prob(z))
    spatial = aggregate.fit_mixture(clouds.reshape(1000, 1, 2, 1), 3)
    assert spatial.sample(4).shape == (4, 1, 2, 1)
    assert_close(spatial.log_prob(clouds.reshape(1000, 1, 2, 1)), model.prior.log_prob(clouds))
