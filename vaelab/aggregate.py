"""All addresses together: the aggregate posterior q(z), the mean of the posteriors of all pictures.

Every picture of a VAE has a small cloud of addresses; q(z) is all clouds on one map. The KL that training pays falls
into three parts (Hoffman & Johnson 2016; Chen et al. 2018, eq. 2), and `decompose` says what each costs: how much an
address says about its picture, how much the coordinates depend on each other, and how far each coordinate alone is
from the prior. Only the last two mean that draws from the prior miss the map. `fit_mixture` gives a prior that does
not miss it. Everything is in nats.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from vaelab.distributions import LOG_2PI, DiagonalGaussian, StandardNormal


def log_densities(z, mean, log_variance):
    """log q(z | x) of every `z` `(M, d)` under every posterior `(N, d)`, coordinate by coordinate: `(M, N, d)`."""
    return -0.5 * ((z[:, None] - mean).square() / log_variance.exp() + log_variance + LOG_2PI)


def log_aggregate(z, mean, log_variance, chunk=100):
    """log q(z) `(M,)` of `z` `(M, d)`: the log of the mean density of *all* posteriors `(N, d)`, exact."""
    return aggregate_terms(z, mean, log_variance, chunk)[0]


def aggregate_terms(z, mean, log_variance, chunk=100):
    """log q(z) and log Π q(z_i), the second as if coordinates were independent; each `(M,)`."""
    joint, apart = [], []
    for part in z.split(chunk):
        each = log_densities(part, mean, log_variance)
        joint.append(each.sum(2).logsumexp(1) - math.log(len(mean)))
        apart.append((each.logsumexp(1) - math.log(len(mean))).sum(1))
    return torch.cat(joint), torch.cat(apart)


class Decomposition(NamedTuple):
    """Where the KL goes, in nats per picture; the first three add up to `kl`, within their errors.

    Attributes:
        mutual_information: what an address says about which picture it belongs to; at most log N of N pictures.
        total_correlation: how much the coordinates depend on each other.
        dimension_kl: how far each coordinate alone is from N(0, 1), summed.
        kl: the mean KL of the pictures, in closed form.
        standard_errors: of the first three, from the draws of z.
    """

    mutual_information: float
    total_correlation: float
    dimension_kl: float
    kl: float
    standard_errors: tuple


def decompose(mean, log_variance, samples=4, seed=0):
    """The `Decomposition` of the posteriors `(N, *latent)` of all pictures, with exact sums over all of them.

    Args:
        samples: draws of z per picture, at least 2.
    """
    if samples < 2:
        raise ValueError(f"A standard error needs at least 2 samples per picture; got {samples}.")
    mean, log_variance = mean.flatten(1).double(), log_variance.flatten(1).double()
    q = DiagonalGaussian(mean, log_variance)
    z = q.sample(torch.Generator(mean.device).manual_seed(seed), samples)
    joint, apart = (v.reshape(samples, -1) for v in aggregate_terms(z.flatten(0, 1), mean, log_variance))
    prior = StandardNormal(mean.shape[1:]).log_prob(z)
    terms = torch.stack([q.log_prob(z) - joint, joint - apart, apart - prior])
    # Every picture has the same number of draws, so that only the spread within a picture is left to chance.
    errors = (terms.var(1).mean(1) / (samples * len(mean))).sqrt()
    return Decomposition(*terms.mean((1, 2)).tolist(), float(q.kl().mean()), tuple(errors.tolist()))


def minibatch_weights(batch, n, correct=True):
    """Weights `(batch, batch)` with which one batch of `n` pictures stands for all of them in q(z).

    Row i belongs to the z of picture i: its own posterior is one of `n`, the others stand for the rest, and every
    row sums to 1 (minibatch-stratified sampling, Chen et al. 2018, appendix C.2).

    Args:
        correct: False gives the weights of the code that was published and is copied widely, to show what it costs:
            there 1/n stands in the first *column*, not on the diagonal, and one row sums to more than 1.
    """
    if not 2 <= batch <= n:
        raise ValueError(f"A batch has at least 2 pictures and at most all {n}; got {batch}.")
    rest = (n - batch + 1) / (n * (batch - 1))
    weights = torch.full((batch, batch), 1 / (batch - 1))
    stride = batch + 1 if correct else batch
    weights.view(-1)[::stride] = 1 / n
    weights.view(-1)[1::stride] = rest
    weights[-1 if correct else batch - 2, 0] = rest
    return weights


def log_aggregate_of_batch(z, mean, log_variance, n, correct=True):
    """log q(z) `(B,)` as estimated from one batch: `z` `(B, d)` drawn from the batch's posteriors `(B, d)`, one each."""
    weights = minibatch_weights(len(z), n, correct).to(z)
    return (log_densities(z, mean, log_variance).sum(2) + weights.log()).logsumexp(1)


class Mixture:
    """A mixture of Gaussians over latents, which can be the `prior` of a VAE.

    Args:
        weights: `(K,)`, of sum 1.
        means: `(K, d)`.
        factors: lower Cholesky factors of the covariances, `(K, d, d)`.
        shape: of a latent, of d coordinates in all.
    """

    def __init__(self, weights, means, factors, shape):
        self.weights, self.means, self.factors, self.shape = weights, means, factors, tuple(shape)

    def sample(self, n, generator=None, device=None):
        """`(n, *latent)`: every draw chooses its component by weight."""
        weights, means, factors = (v.to(device) for v in (self.weights, self.means, self.factors))
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, means.shape[1], 1, generator=generator, device=device)
        return (means[chosen] + (factors[chosen] @ noise)[..., 0]).reshape(n, *self.shape)

    def log_prob(self, z):
        """`(…, *latent)` -> `(…)` nats."""
        weights, means, factors = (v.to(z) for v in (self.weights, self.means, self.factors))
        flat = z.reshape(*z.shape[: z.ndim - len(self.shape)], 1, -1)
        components = torch.distributions.MultivariateNormal(means, scale_tril=factors)
        return (components.log_prob(flat) + weights.log()).logsumexp(-1)


def fit_mixture(codes, components=None, seed=0):
    """A `Mixture` of Gaussians with full covariances, fitted to codes `(N, *latent)`.

    Args:
        components: how many; None takes, of 1, 2, 4 … 32, the number under which a fifth of the codes, left out of
            the fit, is most likely, and fits it to all.
    """
    from sklearn.mixture import GaussianMixture

    points = codes.flatten(1).double().cpu().numpy()

    def fitted(count, points):
        return GaussianMixture(count, reg_covar=1e-4, random_state=seed).fit(points)

    if components is None:
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed)).numpy()
        held_out, rest = points[order[: len(points) // 5]], points[order[len(points) // 5 :]]
        counts = [count for count in (1, 2, 4, 8, 16, 32) if count <= len(rest)]
        components = max(counts, key=lambda count: fitted(count, rest).score(held_out))
    found = fitted(components, points)
    fields = found.weights_, found.means_, np.linalg.cholesky(found.covariances_)
    return Mixture(*(torch.tensor(values, dtype=torch.float32) for values in fields), codes.shape[1:])
