"""The exercises of chapter 3, two forces: the price of an address, the likelihood, the implied σ, collapse."""

import math

import torch

from vaelab.exercises import Exercise, Mistake, seeded


def _codes(n=5, d=3, seed=0):
    """Means and log-variances of n posteriors, `(n, d)` each."""
    noise = seeded(seed)
    return torch.randn(n, d, generator=noise), torch.randn(n, d, generator=noise) - 1


def _terms(mean, log_variance):
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)


kl = Exercise(
    "3.1",
    "The price of a tidy address",
    solution=lambda mean, log_variance: _terms(mean, log_variance).sum(1),
    cases=lambda: [_codes(seed=0), _codes(4, 2, seed=1)],
    mistakes={
        "sign": Mistake(
            lambda mean, log_variance: -_terms(mean, log_variance).sum(1),
            "The sign is turned round: a price is never negative, and yours always is.",
        ),
        "missing half": Mistake(
            lambda mean, log_variance: 2 * _terms(mean, log_variance).sum(1),
            "Twice too much: the ½ belongs in front of all four terms.",
        ),
        "mean for sum": Mistake(
            lambda mean, log_variance: _terms(mean, log_variance).mean(1),
            "You averaged over the coordinates; every coordinate is paid for, so add them up.",
        ),
        "batch summed": Mistake(
            lambda mean, log_variance: _terms(mean, log_variance).sum(),
            "You added up the pictures as well: sum over the coordinates (dim=1) only, one price a picture.",
        ),
        "log-variance for sigma": Mistake(
            lambda mean, log_variance: _terms(mean, 2 * log_variance.abs().log()).sum(1),
            "You took the log-variance for σ itself; the variance is log_variance.exp().",
        ),
        "std for variance": Mistake(
            lambda mean, log_variance: (_terms(mean, log_variance) + 0.5 * ((log_variance / 2).exp() - log_variance.exp())).sum(1),
            "You added the standard deviation where the variance belongs: exp(log_variance), without the half.",
        ),
    },
    success="Your price agrees with the closed form for every picture.",
)  # fmt: skip


def _pictures():
    noise = seeded(0)
    return [
        (torch.rand(4, 1, 5, 5, generator=noise), torch.rand(4, 1, 5, 5, generator=noise), 0.2),
        (torch.rand(2, 3, 4, 4, generator=noise), torch.rand(2, 3, 4, 4, generator=noise), 0.5),
    ]


def _squared_error(x, mean):
    return ((x - mean) ** 2).flatten(1).sum(1)


_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def _likelihood(x, mean, sigma, log_of=math.log, power=2, constant=_HALF_LOG_2PI):
    pixels = x[0].numel()
    return -_squared_error(x, mean) / (2 * sigma**power) - pixels * (log_of(sigma) + constant)


likelihood = Exercise(
    "3.2",
    "How well does the drawing explain the picture?",
    solution=_likelihood,
    cases=_pictures,
    mistakes={
        "constant dropped": Mistake(
            lambda x, mean, sigma: -_squared_error(x, mean) / (2 * sigma**2),
            "Only the squared error is there. Without −D·log σ − (D/2)·log 2π it is a loss and no likelihood, and σ "
            "could not be learned: it would grow without end.",
        ),
        "without 2 pi": Mistake(
            lambda x, mean, sigma: _likelihood(x, mean, sigma, constant=0.0),
            "The ½ log 2π of every pixel is missing; two models still compare, but it is no log-density.",
        ),
        "mean over pixels": Mistake(
            lambda x, mean, sigma: _likelihood(x, mean, sigma) / x[0].numel(),
            "You averaged over the pixels. Log-densities of pixels add up; the average would weigh the price of the "
            "address D times as heavily.",
        ),
        "variance for sigma": Mistake(
            lambda x, mean, sigma: _likelihood(x, mean, sigma, log_of=lambda s: 2 * math.log(s)),
            "The constant holds log σ², twice what it should be: log σ, or ½ log σ².",
        ),
        "divided by sigma": Mistake(
            lambda x, mean, sigma: _likelihood(x, mean, sigma, power=1),
            "The squared error is divided by 2σ; it should be 2σ².",
        ),
        "a loss": Mistake(
            lambda x, mean, sigma: -_likelihood(x, mean, sigma),
            "The sign is turned round: that is the negative log-likelihood, which falls as the picture gets better.",
        ),
    },
    success="That is a log-density in nats, constant and all.",
)


implied_sigma = Exercise(
    "3.3",
    "What does a weight mean?",
    solution=lambda weight, shape: math.sqrt(weight * math.prod(shape) / 2),
    cases=lambda: [(0.00025, (3, 64, 64)), (0.01, (1, 8, 8)), (1.0, (3, 32, 16))],
    mistakes={
        "pixels forgotten": Mistake(
            lambda weight, shape: math.sqrt(weight / 2),
            "The D is missing: the squared error was averaged over D colour values, so the weight grows D-fold.",
        ),
        "variance": Mistake(
            lambda weight, shape: weight * math.prod(shape) / 2,
            "That is σ², the variance; take the root.",
        ),
        "factor two": Mistake(
            lambda weight, shape: math.sqrt(weight * math.prod(shape)),
            "A factor 2 is missing: the Gaussian divides the squared error by 2σ², not by σ².",
        ),
        "colours forgotten": Mistake(
            lambda weight, shape: math.sqrt(weight * math.prod(shape[1:]) / 2),
            "You counted height times width; a colour picture has three values a pixel, and all were averaged.",
        ),
    },
    success="Now a weight on a leaflet tells you how exact the pictures can be.",
)


def _encoded():
    """Posteriors of 200 pictures: coordinates 0 to 2 speak, 3 whispers (variance 0.0025), 4 and 5 are silent,
    and 6 pays for a narrow posterior while its mean hardly moves (variance 0.005)."""
    spread = torch.tensor([1.0, 0.8, 0.2, 0.05, 0.004, 0.001, 0.07])
    mean = spread * torch.randn(200, 7, generator=seeded(0))
    log_variance = (1.01 - spread**2).log()
    log_variance[6] = math.log(0.8)
    log_variance = log_variance.expand(200, 7)
    return [(mean, log_variance), (mean[:, 2:], log_variance[:, 2:])]


active_units = Exercise(
    "3.4",
    "Which coordinates speak?",
    solution=lambda mean, log_variance: (mean.var(0) > 0.01).sum(),
    cases=_encoded,
    mistakes={
        "wrong axis": Mistake(
            lambda mean, log_variance: (mean.var(1) > 0.01).sum(),
            "You took the variance within each picture and counted pictures; take it over the pictures (dim 0).",
        ),
        "posterior variance": Mistake(
            lambda mean, log_variance: (log_variance.exp().mean(0) > 0.01).sum(),
            "You looked at the posterior's own variance, which is largest where a coordinate says nothing; what "
            "matters is how the mean moves from picture to picture.",
        ),
        "KL for movement": Mistake(
            lambda mean, log_variance: (_terms(mean, log_variance).mean(0) > 0.01).sum(),
            "You counted by what a coordinate pays, or by how narrow its posterior is. It can pay, and be narrow, without "
            "its mean moving; take the variance of the mean.",
        ),
        "threshold on the standard deviation": Mistake(
            lambda mean, log_variance: (mean.std(0) > 0.01).sum(),
            "The threshold 0.01 is one for the variance; you compared the standard deviation with it.",
        ),
        "silent ones": Mistake(
            lambda mean, log_variance: (mean.var(0) <= 0.01).sum(),
            "You counted the silent ones.",
        ),
    },
    success="You count as Burda and colleagues do.",
)


free_bits = Exercise(
    "3.5",
    "The first nats are free",
    solution=lambda kl, free: kl.mean(0).clamp(min=free).sum(),
    cases=lambda: [(_terms(*_codes(6, 4, seed=2)), 0.5), (_terms(*_codes(3, 5, seed=3)) / 4, 0.25)],
    mistakes={
        "picture by picture": Mistake(
            lambda kl, free: kl.clamp(min=free).mean(0).sum(),
            "You set the floor for each picture and coordinate; average over the pictures first.",
        ),
        "one floor for all": Mistake(
            lambda kl, free: kl.mean(0).sum().clamp(min=free),
            "One floor under the whole sum: a single coordinate can fill it while the others stay silent.",
        ),
        "subtracted": Mistake(
            lambda kl, free: (kl.mean(0) - free).clamp(min=0).sum(),
            "You took the free nats off the bill. The gradient is the same, but this is the excess, and no longer a "
            "KL that never lies below the floor.",
        ),
        "ceiling": Mistake(
            lambda kl, free: kl.mean(0).clamp(max=free).sum(),
            "You set a ceiling: now a coordinate can be as loud as it likes for the price of the first nats.",
        ),
        "mean for sum": Mistake(
            lambda kl, free: kl.mean(0).clamp(min=free).mean(),
            "You averaged over the coordinates; each one is paid for, so add them up.",
        ),
    },
    success="A coordinate below the floor now feels no force towards silence.",
)
