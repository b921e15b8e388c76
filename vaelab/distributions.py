"""Posteriors, the prior and picture likelihoods, each a log-density in nats with its constant.

Everything is computed in float32 or better, also under mixed precision: a KL in half precision overflows.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

LOG_2PI = math.log(2 * math.pi)


def full_precision(x):
    """`x` as float32 if it came in half precision, else unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def standard_noise(like, generator=None, leading=()):
    """Draws from N(0, 1) shaped `leading + like.shape`, on the device and in the dtype of `like`."""
    return torch.randn((*leading, *like.shape), generator=generator, device=like.device, dtype=like.dtype)


def check_same_shape(x, mean):
    """Refuses pictures that would only broadcast against a decoder's output."""
    if x.shape != mean.shape[mean.ndim - x.ndim :]:
        raise ValueError(
            f"The pictures are {tuple(x.shape)} and the decoder paints {tuple(mean.shape)}; "
            "give pictures of the shape that the model was built for."
        )


def sum_event(values, dims):
    """Sums the last `dims` axes; with none, returns `values` (`torch.sum` would then sum everything)."""
    return values.sum(tuple(range(-dims, 0))) if dims else values


class DiagonalGaussian:
    """N(mean, diag(exp(log_variance))), one per picture: batch `(N,)`, event = the latent's shape.

    Args:
        mean: `(N, *latent)`.
        log_variance: same shape: the logarithm of the *variance*, not of the standard deviation.
    """

    def __init__(self, mean, log_variance):
        if mean.shape != log_variance.shape:
            raise ValueError(
                f"mean {tuple(mean.shape)} and log_variance {tuple(log_variance.shape)} differ in shape; "
                "give one log-variance per latent coordinate."
            )
        self.mean = full_precision(mean)
        self.log_variance = full_precision(log_variance)
        self._event_dims = mean.ndim - 1

    @classmethod
    def from_parameters(cls, parameters, bound=14.0):
        """Splits an encoder's output `(N, 2·C, …)` into mean and log-variance.

        The log-variance passes a soft bound, `bound · tanh(raw / bound)`: `exp` cannot overflow, and unlike at a
        hard clamp the gradient fades out only far beyond the bound.
        """
        mean, raw = full_precision(parameters).chunk(2, dim=1)
        return cls(mean, bound * torch.tanh(raw / bound))

    @property
    def variance(self):
        return self.log_variance.exp()

    @property
    def std(self):
        return (0.5 * self.log_variance).exp()

    @property
    def mode(self):
        return self.mean

    def sample(self, generator=None, k=None):
        """Reparameterised draws, mean + std · ε: `(N, *latent)`, or `(k, N, *latent)` with `k`."""
        noise = standard_noise(self.mean, generator, () if k is None else (k,))
        return self.mean + self.std * noise

    def kl_per_dimension(self):
        """KL(q ‖ N(0, 1)) of every coordinate, nats, `(N, *latent)` (Kingma & Welling 2014, appendix B)."""
        return 0.5 * (self.mean**2 + self.variance - 1 - self.log_variance)

    def kl(self):
        """KL(q ‖ N(0, I)) in nats per picture, `(N,)`."""
        return sum_event(self.kl_per_dimension(), self._event_dims)

    def log_prob(self, z):
        """Log-density of `z`, `(…, N, *latent)` -> `(…, N)` nats."""
        squared = (full_precision(z) - self.mean) ** 2 / self.variance
        return sum_event(-0.5 * (squared + self.log_variance + LOG_2PI), self._event_dims)


class StandardNormal:
    """The prior N(0, I) over latents of a given shape."""

    def __init__(self, shape):
        self.shape = tuple(shape)

    def sample(self, n, generator=None, device=None):
        """`(n, *latent)`."""
        return torch.randn((n, *self.shape), generator=generator, device=device)

    def log_prob(self, z):
        """`(…, *latent)` -> `(…)` nats."""
        return sum_event(-0.5 * (full_precision(z) ** 2 + LOG_2PI), len(self.shape))


class Bernoulli:
    """Independent black-or-white pixels. `logits`: `(…, N, *picture)`."""

    def __init__(self, logits, allow_grey=False):
        self.logits = full_precision(logits)
        self.allow_grey = allow_grey

    @property
    def mean(self):
        return torch.sigmoid(self.logits)

    def log_prob(self, x):
        """Log-probability of the pictures `x` `(N, *picture)` -> `(…, N)` nats."""
        if not self.allow_grey and not bool(((x == 0) | (x == 1)).all()):
            raise ValueError(
                "A Bernoulli likelihood needs pixels that are exactly 0 or 1, and these pictures have grey ones; "
                "binarise them, or use GaussianLikelihood (allow_grey=True gives a loss, but no likelihood)."
            )
        check_same_shape(x, self.logits)
        target = full_precision(x).expand_as(self.logits)
        log_pixel = -F.binary_cross_entropy_with_logits(self.logits, target, reduction="none")
        return sum_event(log_pixel, x.ndim - 1)

    def sample(self, generator=None):
        return torch.bernoulli(self.mean, generator=generator)


class Gaussian:
    """Pixels with Gaussian error: N(mean, σ²), one σ for all. `mean`: `(…, N, *picture)`; `log_sigma`: scalar."""

    def __init__(self, mean, log_sigma):
        self.mean = full_precision(mean)
        self.log_sigma = full_precision(log_sigma)

    def log_prob(self, x):
        """Log-density of `x` `(N, *picture)` -> `(…, N)` nats, with the constant ½ log 2π per pixel."""
        check_same_shape(x, self.mean)
        squared_error = sum_event((full_precision(x) - self.mean) ** 2, x.ndim - 1)
        pixels = math.prod(x.shape[1:])
        return -0.5 * squared_error * torch.exp(-2 * self.log_sigma) - pixels * (
            self.log_sigma + 0.5 * LOG_2PI
        )

    def sample(self, generator=None):
        return self.mean + self.log_sigma.exp() * standard_noise(self.mean, generator)


class DiscretizedLogistic:
    """Probability of each of `levels` grey values: a logistic density cut into bins whose end bins are open.

    A probability and no density: bits per dimension mean something (Kingma et al. 2016 and Salimans et al. 2017
    use it so).
    """

    def __init__(self, mean, log_scale, levels=256):
        self.mean = full_precision(mean)
        self.log_scale = full_precision(log_scale)
        self.levels = levels

    def log_prob(self, x):
        """Log-probability of `x` (multiples of 1/(levels − 1)) `(N, *picture)` -> `(…, N)` nats."""
        check_same_shape(x, self.mean)
        x = full_precision(x)
        grey = x * (self.levels - 1)
        if bool(((grey - grey.round()).abs() > 1e-3).any()):
            raise ValueError(
                f"A DiscretizedLogistic of {self.levels} levels needs pixels that are multiples of "
                f"1/{self.levels - 1}, and these are not; round them, or use GaussianLikelihood."
            )
        half_bin = 0.5 / (self.levels - 1)
        inverse_scale = torch.exp(-self.log_scale)
        upper = (x + half_bin - self.mean) * inverse_scale
        lower = (x - half_bin - self.mean) * inverse_scale
        # log(S(u) - S(l)) = log S(u) + log S(-l) + log(1 - exp(l - u)): no cancellation, also far in the tails.
        width = torch.log(-torch.expm1(-2 * half_bin * inverse_scale))
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + width
        log_bin = torch.where(x < half_bin, F.logsigmoid(upper), inside)
        log_bin = torch.where(x > 1 - half_bin, F.logsigmoid(-lower), log_bin)
        return sum_event(log_bin, x.ndim - 1)

    def sample(self, generator=None):
        u = torch.rand(self.mean.shape, generator=generator, device=self.mean.device).clamp(1e-6, 1 - 1e-6)
        continuous = self.mean + self.log_scale.exp() * torch.logit(u)
        return (continuous.clamp(0, 1) * (self.levels - 1)).round() / (self.levels - 1)


class BernoulliLikelihood(nn.Module):
    """Decoder output (logits) -> `Bernoulli`."""

    def __init__(self, allow_grey=False):
        super().__init__()
        self.allow_grey = allow_grey

    def forward(self, output):
        return Bernoulli(output, self.allow_grey)


class GaussianLikelihood(nn.Module):
    """Decoder output (means) -> `Gaussian` with one σ, learned by default (Rybkin et al. 2021, "σ-VAE").

    Args:
        sigma: the start value (the value, if not learned), in units of the pixel range [0, 1].
        learned: whether log σ is a parameter, trained and saved with the model.
    """

    def __init__(self, sigma=0.1, learned=True):
        super().__init__()
        if sigma <= 0:
            raise ValueError(
                f"sigma must be above 0, and {sigma} was given; pixels lie in [0, 1], so try 0.1."
            )
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)), requires_grad=learned)

    @property
    def sigma(self):
        return float(self.log_sigma.detach().exp())

    def forward(self, output):
        return Gaussian(output, self.log_sigma)


class DiscretizedLogisticLikelihood(nn.Module):
    """Decoder output (means) -> `DiscretizedLogistic` with one learned scale."""

    def __init__(self, scale=0.05, levels=256):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.levels = levels

    def forward(self, output):
        return DiscretizedLogistic(output, self.log_scale, self.levels)
