"""The loss, its variants, and what is refused."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from vaelab import models
from vaelab.distributions import BernoulliLikelihood, DiscretizedLogisticLikelihood, GaussianLikelihood
from vaelab.objectives import BetaObjective, Elbo, bits_per_dim, iwae, log_likelihood

TERMS = Elbo(torch.tensor([-10.0, -20.0]), torch.tensor([3.0, 5.0]), torch.tensor([[1.0, 2.0], [4.0, 1.0]]))


def test_the_loss_is_the_negative_elbo_in_nats_per_picture():
    assert_close(TERMS.value, torch.tensor([-13.0, -25.0]))
    assert float(BetaObjective()(TERMS)) == pytest.approx(19.0)  # the mean of 13 and 25
    assert float(BetaObjective(beta=4)(TERMS)) == pytest.approx(15 + 4 * 4)
    assert float(BetaObjective(beta=0)(TERMS)) == pytest.approx(15)


def test_warmup_rises_linearly_and_is_off_at_evaluation():
    objective = BetaObjective(beta=2, warmup=10)
    assert [objective.progress(step) for step in (0, 5, 10, 500, None)] == [0.0, 0.5, 1.0, 1.0, 1.0]
    assert float(objective(TERMS, 0)) == pytest.approx(15)
    assert float(objective(TERMS, 5)) == pytest.approx(15 + 4)
    assert float(objective(TERMS)) == float(objective(TERMS, 10)) == pytest.approx(15 + 8)
    assert BetaObjective().progress(0) == 1.0


def test_the_objective_keeps_no_count():
    objective = BetaObjective(capacity=3.0, warmup=10)
    first = float(objective(TERMS, 5))
    for _ in range(20):
        objective(TERMS)  # evaluating in between must not move the schedule
    assert float(objective(TERMS, 5)) == first


def test_capacity():
    objective = BetaObjective(beta=10, capacity=4.0, warmup=10)
    assert float(objective(TERMS, 10)) == pytest.approx(15 + 10 * 1.0)  # |3 − 4| and |5 − 4|
    assert float(objective(TERMS, 5)) == pytest.approx(15 + 10 * 2.0)  # |3 − 2| and |5 − 2|
    assert float(objective(TERMS)) == float(objective(TERMS, 10))


def test_free_bits_value_and_gradient():
    per_dimension = torch.tensor([[0.1, 2.0, 0.9], [1.5, 3.0, 0.1]], requires_grad=True)
    terms = Elbo(torch.zeros(2), per_dimension.sum(1), per_dimension)
    loss = BetaObjective(beta=2, free_bits=1.0)(terms)
    assert float(loss.detach()) == pytest.approx(2 * (1.0 + 2.5 + 1.0))
    (gradient,) = torch.autograd.grad(loss, per_dimension)
    # the first coordinate is above the floor in one picture, not on average: the batch is what counts
    assert torch.equal(gradient, torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))  # exactly 0 below the floor


def test_free_bits_of_nothing_is_the_elbo():
    tiny = replace(BetaObjective(), free_bits=1e-9)
    assert float(tiny(TERMS)) == pytest.approx(float(BetaObjective()(TERMS)), rel=1e-6)


def test_every_hyperparameter_changes_the_loss():
    base = BetaObjective(beta=1.0)
    for change in ({"beta": 1.5}, {"warmup": 100}, {"free_bits": 2.6}, {"capacity": 1.0}):
        assert float(replace(base, **change)(TERMS, 7)) != float(base(TERMS, 7)), change


def test_what_an_objective_refuses():
    for wrong in ({"beta": -1}, {"warmup": -1}, {"free_bits": -1.0}, {"capacity": -1.0}):
        with pytest.raises(ValueError, match="must not be negative; got BetaObjective"):
            BetaObjective(**wrong)
    with pytest.raises(ValueError, match="choose one of them"):
        BetaObjective(free_bits=1.0, capacity=1.0)
    with pytest.raises(ValueError, match="free_bits needs the KL of every coordinate"):
        BetaObjective(free_bits=1.0)(Elbo(torch.zeros(2), torch.zeros(2)))


def test_twice_the_batch_is_the_mean_of_two_halves():
    torch.manual_seed(0)
    model = models.vae((1, 4, 4), 2, kind="mlp", channels=(8,)).double()
    x = torch.rand(8, 1, 4, 4).double()
    for objective in (BetaObjective(), BetaObjective(beta=3), BetaObjective(capacity=0.1)):

        def loss(terms, objective=objective):
            return torch.autograd.grad(objective(terms), model.likelihood.log_sigma, retain_graph=True)[0]

        whole = model(x, generator=torch.Generator().manual_seed(0))
        halves = [Elbo(*(t[part] for t in whole)) for part in (slice(0, 4), slice(4, 8))]
        assert_close(objective(whole), (objective(halves[0]) + objective(halves[1])) / 2)
        assert_close(loss(whole), (loss(halves[0]) + loss(halves[1])) / 2)


def test_bits_per_dim():
    shape = (3, 4, 4)
    nats = torch.tensor([-48 * math.log(256.0)])  # every value equally likely: 8 bits
    assert_close(bits_per_dim(nats, shape, DiscretizedLogisticLikelihood()).value, torch.tensor([8.0]))
    assert_close(bits_per_dim(nats, shape, BernoulliLikelihood()).value, torch.tensor([8.0]))
    for density in (GaussianLikelihood(), BernoulliLikelihood(allow_grey=True)):
        with pytest.raises(ValueError, match=f"{type(density).__name__} is not a probability of these pixels"):
            bits_per_dim(nats, shape, density)


def test_what_the_bounds_refuse():
    x = torch.zeros(1, 1, 4, 4)
    vae = models.vae((1, 4, 4), 2, kind="mlp", channels=(8,))
    for bound in (iwae, log_likelihood):
        with pytest.raises(ValueError, match="must be at least 1; got 0"):
            bound(vae, x, 0)
        with pytest.raises(ValueError, match="Autoencoder has no prior, and so no likelihood"):
            bound(models.autoencoder((1, 4, 4), 2, kind="mlp", channels=(8,)), x, 5)


def test_one_importance_sample_is_the_elbo_with_the_same_noise():
    torch.manual_seed(0)
    model = models.vae((1, 4, 4), 2, kind="mlp", channels=(8,), sigma=0.3).double()
    x = torch.rand(5, 1, 4, 4).double()
    terms = model(x, generator=torch.Generator().manual_seed(3))
    q = model.encode(x)
    z = q.sample(torch.Generator().manual_seed(3))
    one = iwae(model, x, 1, torch.Generator().manual_seed(3)).value
    assert_close(one, terms.reconstruction - (q.log_prob(z) - model.prior.log_prob(z)))
