"""Every density against torch.distributions or scipy, in nats."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import distributions as td
from torch.testing import assert_close

from vaelab.distributions import (
    Bernoulli,
    BernoulliLikelihood,
    DiagonalGaussian,
    DiscretizedLogistic,
    DiscretizedLogisticLikelihood,
    Gaussian,
    GaussianLikelihood,
    StandardNormal,
)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def posterior(*shape):
    return DiagonalGaussian(draw(*shape, seed=1), draw(*shape, seed=2))


def reference(q):
    return td.Independent(td.Normal(q.mean, (0.5 * q.log_variance).exp()), q.mean.ndim - 1)


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3, 3), (6, 1)])
def test_kl_is_that_of_torch(shape):
    q = posterior(*shape)
    prior = td.Independent(td.Normal(torch.zeros(shape).double(), 1.0), len(shape) - 1)
    expected = td.kl_divergence(reference(q), prior)
    assert expected.shape == (shape[0],)
    assert_close(q.kl(), expected, rtol=1e-12, atol=1e-12)
    assert_close(q.kl_per_dimension().flatten(1).sum(1), expected, rtol=1e-12, atol=1e-12)


def test_kl_by_hand():
    q = DiagonalGaussian(torch.tensor([[3.0]]), torch.tensor([[math.log(4.0)]]))
    assert float(q.kl()) == pytest.approx(0.5 * (9 + 4 - 1 - math.log(4)), abs=1e-6)
    assert float(DiagonalGaussian(torch.zeros(1, 7), torch.zeros(1, 7)).kl()) == 0.0


@pytest.mark.parametrize("log_variance", [-30.0, -1e-4, 0.0, 1e-4, 20.0])
def test_kl_at_extreme_variances(log_variance):
    mean = torch.tensor([[0.5]])
    q = DiagonalGaussian(mean, torch.full_like(mean, log_variance))
    expected = 0.5 * (0.25 + math.exp(log_variance) - 1 - log_variance)
    assert float(q.kl()) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_kl_gradient():
    mean, log_variance = draw(3, 4, seed=3).requires_grad_(), draw(3, 4, seed=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, v: DiagonalGaussian(m, v).kl(), (mean, log_variance))


def test_sampling_gradient():
    mean, log_variance = draw(2, 3, seed=3).requires_grad_(), draw(2, 3, seed=4).requires_grad_()

    def same_noise(m, v):
        return DiagonalGaussian(m, v).sample(torch.Generator().manual_seed(7))

    assert torch.autograd.gradcheck(same_noise, (mean, log_variance))


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3, 3)])
def test_posterior_log_prob(shape):
    q = posterior(*shape)
    z = draw(7, *shape, seed=5)
    assert_close(q.log_prob(z), reference(q).log_prob(z), rtol=1e-10, atol=1e-10)
    assert_close(q.log_prob(z[0]), reference(q).log_prob(z[0]), rtol=1e-10, atol=1e-10)


def test_log_prob_minus_prior_is_the_kl_on_average():
    q = posterior(1, 4)
    z = q.sample(torch.Generator().manual_seed(0), k=20_000)
    ratio = q.log_prob(z) - StandardNormal((4,)).log_prob(z)
    error = float(ratio.std()) / math.sqrt(len(z))
    assert abs(float(ratio.mean() - q.kl())) < 3 * error


def test_samples_have_the_mean_and_the_standard_deviation():
    n = 40_000
    q = DiagonalGaussian(torch.tensor([[1.0, -2.0]]).repeat(n, 1), torch.tensor([[2.0, -2.0]]).repeat(n, 1))
    z = q.sample(torch.Generator().manual_seed(1))
    assert_close(z.mean(0), torch.tensor([1.0, -2.0]), atol=0.05, rtol=0)
    assert_close(z.std(0), torch.tensor([math.e, 1 / math.e]), atol=0, rtol=0.02)
    assert_close(q.std[0], torch.tensor([math.e, 1 / math.e]))
    assert_close(q.variance[0], torch.tensor([math.exp(2), math.exp(-2)]))


def test_every_picture_and_coordinate_gets_its_own_noise():
    q = DiagonalGaussian(torch.zeros(2_000, 2), torch.zeros(2_000, 2))
    z = q.sample(torch.Generator().manual_seed(2))
    together = np.corrcoef(np.stack([z[:-1, 0], z[1:, 0], z[:-1, 1]]))
    assert np.abs(together - np.eye(3)).max() < 0.08  # 3.5 standard errors
    many = q.sample(torch.Generator().manual_seed(2), k=3)
    assert many.shape == (3, 2_000, 2)
    assert abs(np.corrcoef(many[0].flatten(), many[1].flatten())[0, 1]) < 0.06


def test_sampling_repeats_with_the_generator_only():
    q = posterior(3, 2)
    first, again, other = (q.sample(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(q.mode, q.mean)


def test_encoder_output_is_log_variance_softly_bounded():
    parameters = torch.tensor([[1.0, 2.0, 0.3, -0.3]])
    q = DiagonalGaussian.from_parameters(parameters)
    assert_close(q.mean, torch.tensor([[1.0, 2.0]]))
    assert_close(q.log_variance, torch.tensor([[0.3, -0.3]]), atol=1e-4, rtol=0)
    extreme = DiagonalGaussian.from_parameters(torch.tensor([[0.0, 0.0, 1e6, -1e6]]))
    assert extreme.log_variance.abs().max() <= 14
    assert torch.isfinite(extreme.kl()).all()


@pytest.mark.parametrize("raw", [-40.0, 40.0])
def test_the_bound_keeps_a_gradient(raw):
    parameters = torch.tensor([[0.0, raw]], requires_grad=True)
    DiagonalGaussian.from_parameters(parameters).kl().sum().backward()
    assert abs(float(parameters.grad[0, 1])) > 1e-3


def test_half_precision_is_computed_in_full():
    for dtype in (torch.float16, torch.bfloat16):
        q = DiagonalGaussian.from_parameters(torch.tensor([[100.0, 20.0]], dtype=dtype))
        assert q.kl().dtype == torch.float32
        expected = 0.5 * (1e4 + math.exp(14 * math.tanh(20 / 14)) - 1 - 14 * math.tanh(20 / 14))
        assert float(q.kl()) == pytest.approx(expected, rel=1e-4)  # 2.5e5: float16 ends at 65,504
        assert Gaussian(torch.zeros(1, 4, dtype=dtype), torch.tensor(0.0)).log_prob(torch.zeros(1, 4)).dtype == (
            torch.float32
        )


def test_mean_and_log_variance_must_match():
    with pytest.raises(ValueError, match=r"mean \(2, 3\) and log_variance \(2, 4\)"):
        DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 4))


def test_prior():
    prior, z = StandardNormal((2, 3)), draw(5, 4, 2, 3, seed=6)
    assert_close(prior.log_prob(z), td.Normal(0.0, 1.0).log_prob(z).sum((-2, -1)), rtol=1e-12, atol=1e-12)
    drawn = prior.sample(20_000, torch.Generator().manual_seed(0))
    assert drawn.shape == (20_000, 2, 3)
    assert drawn.mean(0).abs().max() < 0.03 and (drawn.std(0) - 1).abs().max() < 0.03


# -- picture likelihoods ------------------------------------------------------------------------------------------


def test_gaussian_with_its_constant():
    mean, x = draw(3, 1, 4, 4, seed=1), draw(3, 1, 4, 4, seed=2)
    for sigma in (0.03, 0.1, 1.0, 5.0):
        ours = Gaussian(mean, torch.tensor(math.log(sigma)).double()).log_prob(x)
        assert_close(ours, td.Normal(mean, sigma).log_prob(x).sum((1, 2, 3)), rtol=1e-6, atol=1e-6)
        scipys = scipy.stats.norm.logpdf(x.numpy(), mean.numpy(), sigma).sum((1, 2, 3))
        assert_close(ours, torch.tensor(scipys), rtol=1e-6, atol=1e-6)


def test_gaussian_constant_by_hand():
    x = torch.zeros(1, 1, 28, 28)
    value = float(Gaussian(x, torch.tensor(0.0)).log_prob(x))
    assert value == pytest.approx(-784 / 2 * math.log(2 * math.pi), rel=1e-6)  # 720 nats


def test_gaussian_gradient_and_sigma():
    likelihood = GaussianLikelihood(sigma=0.2).double()
    mean, x = draw(2, 1, 3, 3, seed=1).requires_grad_(), draw(2, 1, 3, 3, seed=2)
    assert likelihood.sigma == pytest.approx(0.2)
    assert torch.autograd.gradcheck(lambda m, s: Gaussian(m, s).log_prob(x), (mean, likelihood.log_sigma))
    # At the best σ, the root of the mean squared error, the gradient is zero.
    best = (mean.detach() - x).square().mean().sqrt().log().requires_grad_()
    Gaussian(mean.detach(), best).log_prob(x).sum().backward()
    assert abs(float(best.grad)) < 1e-10
    assert not GaussianLikelihood(learned=False).log_sigma.requires_grad
    assert GaussianLikelihood().log_sigma.requires_grad
    with pytest.raises(ValueError, match="sigma must be above 0, and -1 was given"):
        GaussianLikelihood(-1)


def test_likelihoods_take_samples_of_samples():
    mean, x = draw(5, 3, 1, 2, 2, seed=1), torch.zeros(3, 1, 2, 2).double()
    sigma = torch.tensor(-1.0).double()
    for each in (Gaussian(mean, sigma), Bernoulli(mean), DiscretizedLogistic(mean, sigma)):
        one_by_one = torch.stack([type(each)(m, *([] if isinstance(each, Bernoulli) else [sigma])).log_prob(x) for m in mean])
        assert one_by_one.shape == (5, 3)
        assert_close(each.log_prob(x), one_by_one)


def test_gaussian_samples():
    drawn = Gaussian(torch.full((1, 50_000), 0.3), torch.tensor(math.log(0.05))).sample(torch.Generator().manual_seed(0))
    assert float(drawn.mean()) == pytest.approx(0.3, abs=1e-3)
    assert float(drawn.std()) == pytest.approx(0.05, rel=0.02)


def test_bernoulli():
    logits = 5 * draw(4, 1, 3, 3, seed=1)
    x = (draw(4, 1, 3, 3, seed=2) > 0).double()
    ours = Bernoulli(logits).log_prob(x)
    assert_close(ours, td.Bernoulli(logits=logits).log_prob(x).sum((1, 2, 3)), rtol=1e-12, atol=1e-12)
    scipys = scipy.stats.bernoulli.logpmf(x.numpy(), torch.sigmoid(logits).numpy()).sum((1, 2, 3))
    assert_close(ours, torch.tensor(scipys), rtol=1e-8, atol=1e-8)
    wrong_for_sure = Bernoulli(torch.full((1, 2), 1e4)).log_prob(torch.zeros(1, 2))
    assert float(wrong_for_sure) == -2e4
    assert_close(Bernoulli(logits).mean, torch.sigmoid(logits))
    drawn = Bernoulli(torch.full((1, 50_000), 1.0)).sample(torch.Generator().manual_seed(0))
    assert float(drawn.mean()) == pytest.approx(1 / (1 + math.exp(-1)), abs=0.008)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}


def test_bernoulli_refuses_grey():
    grey = torch.tensor([[0.0, 0.5, 1.0]])
    with pytest.raises(ValueError, match="exactly 0 or 1, and these pictures have grey ones; binarise"):
        BernoulliLikelihood()(torch.zeros(1, 3)).log_prob(grey)
    loss = BernoulliLikelihood(allow_grey=True)(torch.zeros(1, 3)).log_prob(grey)
    assert float(loss) == pytest.approx(-3 * math.log(2))


LEVELS = torch.arange(256, dtype=torch.float64) / 255


@pytest.mark.parametrize("mean", [-0.3, 0.0, 0.5, 0.9137, 1.0, 2.0])
@pytest.mark.parametrize("scale", [1e-3, 0.02, 0.5, 20.0])
def test_discretised_logistic_sums_to_one(mean, scale):
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        level = LEVELS.to(dtype)[:, None]
        pixel = DiscretizedLogistic(torch.full_like(level, mean), torch.tensor(math.log(scale), dtype=dtype))
        assert float(pixel.log_prob(level).exp().sum()) == pytest.approx(1.0, abs=tolerance)


@pytest.mark.parametrize("scale", [0.01, 0.1, 1.0])
def test_discretised_logistic_is_a_difference_of_scipys_cdf(scale):
    mean = 0.37
    upper = scipy.stats.logistic.cdf(LEVELS.numpy() + 0.5 / 255, mean, scale)
    lower = scipy.stats.logistic.cdf(LEVELS.numpy() - 0.5 / 255, mean, scale)
    upper[-1], lower[0] = 1.0, 0.0
    level = LEVELS[:, None]
    ours = DiscretizedLogistic(torch.full_like(level, mean), torch.tensor(math.log(scale)).double()).log_prob(level)
    # The differences cancel in the tails; where they do not, they are exact.
    safe = upper - lower > 1e-8
    assert safe.sum() > 50
    assert_close(ours[safe].exp(), torch.tensor(upper - lower)[safe], rtol=2e-6, atol=0)


def test_discretised_logistic_far_in_the_tails():
    for dtype in (torch.float32, torch.float64):
        level = LEVELS.to(dtype)[:, None]
        mean = torch.full_like(level, 0.0).requires_grad_()
        value = DiscretizedLogistic(mean, torch.tensor(math.log(1e-4), dtype=dtype)).log_prob(level)
        assert torch.isfinite(value).all()
        assert float(value[254].detach()) == pytest.approx(-(254 - 0.5) / 255 / 1e-4, rel=1e-3)
        value.sum().backward()
        assert torch.isfinite(mean.grad).all()


def test_discretised_logistic_samples_follow_it():
    n = 100_000
    pixel = DiscretizedLogistic(torch.full((n, 1), 0.2), torch.tensor(math.log(0.1)), levels=8)
    drawn = (pixel.sample(torch.Generator().manual_seed(0)) * 7).round().long().flatten()
    share = torch.bincount(drawn, minlength=8) / n
    level = torch.arange(8)[:, None] / 7
    expected = DiscretizedLogistic(torch.full((8, 1), 0.2), torch.tensor(math.log(0.1)), levels=8).log_prob(level).exp()
    assert_close(share, expected, atol=0.006, rtol=0)


def test_discretised_logistic_wants_grey_levels():
    with pytest.raises(ValueError, match="256 levels needs pixels that are multiples of 1/255"):
        DiscretizedLogisticLikelihood()(torch.zeros(1, 3)).log_prob(torch.tensor([[0.0, 0.0301, 1.0]]))


def test_pictures_that_would_only_broadcast_are_refused():
    colour, grey = torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)
    for likelihood in (GaussianLikelihood(), BernoulliLikelihood(), DiscretizedLogisticLikelihood()):
        with pytest.raises(ValueError, match=r"pictures are \(2, 1, 4, 4\) and the decoder paints \(2, 3, 4, 4\)"):
            likelihood(colour).log_prob(grey)
