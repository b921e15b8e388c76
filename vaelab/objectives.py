"""What is maximised (the ELBO and its variants), and how a likelihood is estimated. Nats per picture throughout."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from vaelab.distributions import BernoulliLikelihood, DiscretizedLogisticLikelihood


class Elbo(NamedTuple):
    """The two terms of the evidence lower bound, in nats, one value a picture: `elbo = reconstruction - kl`.

    Attributes:
        reconstruction: log p(x | z) at one sampled z, `(N,)`.
        kl: KL(q(z | x) ‖ p(z)), `(N,)`.
        kl_per_dimension: the same coordinate by coordinate, `(N, d)`; None where it has no closed form.
    """

    reconstruction: torch.Tensor
    kl: torch.Tensor
    kl_per_dimension: torch.Tensor | None = None

    @property
    def value(self):
        """The ELBO, `(N,)` nats."""
        return self.reconstruction - self.kl


class IwaeBound(NamedTuple):
    """The importance-weighted bound of `k` samples, `(N,)` nats (Burda et al. 2016, eq. 8)."""

    value: torch.Tensor
    k: int


class LogLikelihood(NamedTuple):
    """An estimate of log p(x) from `k` importance samples: `(N,)` nats, with its standard error `(N,)`."""

    value: torch.Tensor
    standard_error: torch.Tensor
    k: int


class BitsPerDim(NamedTuple):
    """Bits per colour value; `(N,)`."""

    value: torch.Tensor


@dataclass(frozen=True)
class BetaObjective:
    """The training loss, −reconstruction + β · KL, averaged over the batch: the only reduction there is.

    Attributes:
        beta: the price of a nat of KL (1: the ELBO; Higgins et al. 2017).
        warmup: steps over which the price rises linearly from 0; never applied at evaluation (`step=None`).
        free_bits: the least that is charged for a coordinate, in nats: below it there is no pull towards the
            prior (Kingma et al. 2016, section C.8; their groups are single coordinates here).
        capacity: if given, the loss is β · |KL − C| of each picture, C rising to `capacity` nats over `warmup` steps
            (Burgess et al. 2018).
    """

    beta: float = 1.0
    warmup: int = 0
    free_bits: float = 0.0
    capacity: float | None = None

    def __post_init__(self):
        if self.beta < 0 or self.warmup < 0 or self.free_bits < 0 or (self.capacity or 0) < 0:
            raise ValueError(f"beta, warmup, free_bits and capacity must not be negative; got {self}.")
        if self.free_bits and self.capacity is not None:
            raise ValueError("free_bits and capacity both set a floor under the KL; choose one of them.")

    def progress(self, step):
        """How far the warm-up is at `step`, in [0, 1]; 1 at evaluation."""
        return 1.0 if step is None or not self.warmup else min(1.0, step / self.warmup)

    def price(self, terms, step=None):
        """What the KL of this batch costs, a scalar in nats."""
        if self.free_bits:
            if terms.kl_per_dimension is None:
                raise ValueError(
                    "free_bits needs the KL of every coordinate, which this prior does not give."
                )
            average = terms.kl_per_dimension.mean(0)
            return self.beta * self.progress(step) * average.clamp(min=self.free_bits).sum()
        if self.capacity is not None:
            return self.beta * (terms.kl - self.capacity * self.progress(step)).abs().mean()
        return self.beta * self.progress(step) * terms.kl.mean()

    def __call__(self, terms, step=None):
        """`Elbo` of a batch -> scalar loss in nats per picture."""
        return self.price(terms, step) - terms.reconstruction.mean()


def log_weights(model, x, k, generator=None):
    """log p(x, z) − log q(z | x) of `k` posterior samples: `(k, N)` nats."""
    if not hasattr(model, "prior"):
        raise ValueError(f"{type(model).__name__} has no prior, and so no likelihood of a picture; give a VAE.")
    posterior = model.encode(x)
    z = posterior.sample(generator, k)
    return model.decode(z).log_prob(x) + model.prior.log_prob(z) - posterior.log_prob(z)


def iwae(model, x, k, generator=None):
    """The bound itself, log of the mean weight, differentiable (its gradient is Burda et al.'s eq. 14).

    Args:
        x: pictures `(N, C, H, W)`.
        k: samples a picture, at least 1.
    """
    check_samples(k)
    value = torch.logsumexp(log_weights(model, x, k, generator), dim=0) - math.log(k)
    return IwaeBound(value, k)


@torch.no_grad()
def log_likelihood(model, x, k=500, generator=None, chunk=50):
    """Estimates log p(x) by importance sampling with exactly `k` samples, `chunk` of them at a time.

    Returns:
        LogLikelihood: per picture; the standard error is that of the log of a mean (delta method) and is
        itself an estimate. The estimate lies below log p(x) on average, the less so the larger `k`.
    """
    check_samples(k)
    sizes = [min(chunk, k - done) for done in range(0, k, chunk)]
    weights = torch.cat([log_weights(model, x, size, generator) for size in sizes])
    value = torch.logsumexp(weights, dim=0) - math.log(k)
    relative = (weights - value).exp()
    spread = relative.std(0) if k > 1 else torch.full_like(value, math.nan)
    return LogLikelihood(value, spread / math.sqrt(k), k)


def check_samples(k):
    if k < 1:
        raise ValueError(f"k is the number of samples and must be at least 1; got {k}.")


def bits_per_dim(value, shape, likelihood):
    """Converts nats per picture `(N,)` of `shape` into bits per colour value, for a likelihood that is a probability.

    A Gaussian gives a *density*, whose bits per dimension depend on the unit of the pixel: refused.
    """
    discrete = isinstance(likelihood, (DiscretizedLogisticLikelihood, BernoulliLikelihood))
    if not discrete or getattr(likelihood, "allow_grey", False):
        raise ValueError(
            f"{type(likelihood).__name__} is not a probability of these pixels, so it has no bits per dimension; "
            "train with DiscretizedLogisticLikelihood for that."
        )
    return BitsPerDim(-value / (math.prod(shape) * math.log(2)))
