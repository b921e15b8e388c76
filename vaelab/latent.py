"""Looking at a latent space: codes, coordinates in use, a diagnosis, paths between codes, overlaps of posteriors.

A code is a picture's address. What one makes with it: `path` goes from one picture to another, `neighbourhood` makes
new pictures around those that one has, `direction` is what a group of pictures has and the others have not, and
`geodesic` is the way on which the picture changes least.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from vaelab.distributions import DiagonalGaussian
from vaelab.training import as_floats, check_pictures


@torch.no_grad()
def in_batches(model, pictures, function, batch_size=256):
    """`function(batch of pictures)` for all pictures `(N, C, H, W)`, on the model's device; a list of its answers."""
    check_pictures(pictures)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    answers = [function(as_floats(batch, device)) for batch in pictures.split(batch_size)]
    model.train(was_training)
    return answers


def codes(model, pictures):
    """The address of every picture, `(N, *latent)`: the posterior mean of a VAE, the code of an autoencoder."""
    return torch.cat(in_batches(model, pictures, model.code))


def posteriors(model, pictures):
    """Mean and log-variance of q(z | x) of every picture, each `(N, *latent)`; `DiagonalGaussian(*…)` joins them.

    Raises:
        ValueError: for an autoencoder, whose codes are points.
    """
    if not hasattr(model, "prior"):
        raise ValueError(f"{type(model).__name__} has points for codes, not distributions; give a VAE, or use codes.")
    found = in_batches(model, pictures, model.encode)
    return torch.cat([q.mean for q in found]), torch.cat([q.log_variance for q in found])


def active_units(model, pictures, threshold=0.01):
    """Which coordinates say something about the picture, `(d,)` bool: Var_x(E[z | x]) above the threshold.

    Burda, Grosse & Salakhutdinov 2016, section 5.2.
    """
    return codes(model, pictures).flatten(1).var(0) > threshold


def kl_per_dimension(model, pictures):
    """KL(q(z_i | x) ‖ N(0, 1)) averaged over the pictures, nats, `(d,)`."""
    return DiagonalGaussian(*posteriors(model, pictures)).kl_per_dimension().flatten(1).mean(0)


def optimal_sigma(model, pictures, seed=0):
    """The σ at which this model explains these pictures best, a float: √ of the mean squared error of all pixels.

    The reconstructions are those of *sampled* codes, as in the ELBO, which this σ maximises while all else stays
    (Rybkin, Daniilidis & Levine 2021, eq. 5; there per batch, here over the full set). An autoencoder has no noise.
    """
    noise = torch.Generator(next(model.parameters()).device).manual_seed(seed)

    def squared_error(x):
        q = model.encode(x)
        z = q.sample(noise) if isinstance(q, DiagonalGaussian) else q
        return (model.decode(z).mean - x).double().square().sum()

    return math.sqrt(float(sum(in_batches(model, pictures, squared_error))) / pictures.numel())


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found; `print` it.

    Attributes:
        active: coordinates in use.
        dimensions: coordinates there are.
        kl: total KL, nats per picture.
        kl_per_dimension: `(d,)` nats.
        gap: distance of all codes together from the prior, nats per coordinate in use: the KL from N(0, 1) of the
            Gaussian with the aggregate posterior's mean and variance.
        sigma: the model's σ (None if its likelihood has none).
        optimal_sigma: the σ that would explain these pictures best.
        verdict: one sentence.
    """

    active: int
    dimensions: int
    kl: float
    kl_per_dimension: torch.Tensor
    gap: float
    sigma: float | None
    optimal_sigma: float
    verdict: str

    def __str__(self):
        sigma = "none" if self.sigma is None else f"{self.sigma:.3f}"
        return (
            f"{self.verdict}\n"
            f"  coordinates in use  {self.active} of {self.dimensions}\n"
            f"  KL                  {self.kl:.2f} nats per picture\n"
            f"  gap to the prior    {self.gap:.2f} nats per coordinate in use\n"
            f"  σ of the model      {sigma} (best for these pictures: {self.optimal_sigma:.3f})"
        )


def diagnose(model, pictures, seed=0):
    """Is the latent space used, and is it tidy? A `Diagnosis` of a VAE on `pictures` `(N, C, H, W)`."""
    mean, log_variance = (values.flatten(1) for values in posteriors(model, pictures))
    per_dimension = DiagonalGaussian(mean, log_variance).kl_per_dimension().mean(0)
    active = active_units(model, pictures)
    everything = DiagonalGaussian(mean.mean(0, keepdim=True), (mean.var(0) + log_variance.exp().mean(0)).log()[None])
    gap = float(everything.kl_per_dimension()[0, active].mean()) if active.any() else 0.0
    sigma = getattr(model.likelihood, "sigma", None)
    used, kl = int(active.sum()), float(per_dimension.sum())
    return Diagnosis(
        active=used,
        dimensions=len(active),
        kl=kl,
        kl_per_dimension=per_dimension,
        gap=gap,
        sigma=sigma,
        optimal_sigma=optimal_sigma(model, pictures, seed),
        verdict=verdict(used, len(active), kl, gap),
    )


def verdict(active, dimensions, kl, gap):
    """The one sentence of a `Diagnosis`."""
    if active == 0 or kl < 0.1:
        return "collapsed: the codes say nothing about the pictures; lower β or σ, or give the KL a warm-up or free bits."
    if gap > 0.5:
        return "barely regularised: behaves like an autoencoder, prior draws miss the codes; raise β."
    if active < dimensions / 2:
        return (
            f"partly collapsed: {dimensions - active} of {dimensions} coordinates say nothing; "
            "lower β or σ for more detail, or take a smaller latent."
        )
    return "healthy: the codes are used, and together they fill the prior."


def lerp(a, b, t):
    """The straight path from `a` to `b`, each `(…, d)`; `t` a number or `(T,)` in [0, 1] -> `(…, d)` or `(T, …, d)`."""
    return a + as_steps(t, a) * (b - a)


def as_steps(t, a):
    """`t` shaped so that it multiplies vectors like `a`."""
    t = torch.as_tensor(t, dtype=a.dtype, device=a.device)
    return t.reshape(*t.shape, *[1] * a.ndim)


def slerp(a, b, t):
    """The path along the sphere: the direction turns evenly (Shoemake 1985), the length changes evenly.

    Shapes as in `lerp`, to which it falls back where `a` and `b` are parallel, opposite or zero, so that no
    great circle is singled out. For prior draws in many dimensions, whose lengths are all near √d.
    """
    straight = lerp(a, b, t)
    length_a, length_b = (v.norm(dim=-1, keepdim=True) for v in (a, b))
    unit_a, unit_b = a / length_a, b / length_b
    angle = torch.acos((unit_a * unit_b).sum(-1, keepdim=True).clamp(-1, 1))
    share = as_steps(t, a)
    direction = (torch.sin((1 - share) * angle) * unit_a + torch.sin(share * angle) * unit_b) / torch.sin(angle)
    return torch.where(torch.sin(angle) > 1e-4, direction * lerp(length_a, length_b, t), straight)


class Overlap(NamedTuple):
    """How much two distributions have in common: Bhattacharyya distance, and coefficient exp(−distance) in [0, 1]."""

    distance: torch.Tensor
    coefficient: torch.Tensor


def bhattacharyya(a, b, pairwise=False):
    """The `Overlap` ∫ √(a·b) of diagonal Gaussians of batches `(N,)`: one by one `(N,)`, or `pairwise` `(N, M)`.

    Kailath 1967, for Gaussians: ⅛ Δ² / v̄ + ½ log(v̄ / √(v_a · v_b)), summed over coordinates, v̄ the mean variance.
    """
    mean_a, log_a, mean_b, log_b = (v.flatten(1) for v in (a.mean, a.log_variance, b.mean, b.log_variance))
    if pairwise:
        mean_a, log_a = mean_a[:, None], log_a[:, None]
    log_middle = torch.logaddexp(log_a, log_b) - math.log(2)
    distance = (mean_a - mean_b).square() / (8 * log_middle.exp()) + 0.5 * (log_middle - 0.5 * (log_a + log_b))
    distance = distance.sum(-1)
    return Overlap(distance, torch.exp(-distance))


@torch.no_grad()
def traverse(model, z, dimension, values):
    """Pictures `(T, C, H, W)` of the code `z` `(d,)` with one coordinate set to each of `values` `(T,)` in turn."""
    if not -len(z) <= dimension < len(z):
        raise ValueError(f"There is no coordinate {dimension}: this latent has {len(z)}, counted from 0.")
    path = z.repeat(len(values), 1)
    path[:, dimension] = torch.as_tensor(values, dtype=z.dtype, device=z.device)
    return decoded(model, path)


@torch.no_grad()
def decoded(model, z, batch_size=256):
    """The pictures `(N, C, H, W)` at the codes `z` `(N, *latent)`."""
    was_training = model.training
    model.eval()
    pictures = torch.cat([model.decode(part).mean for part in z.split(batch_size)])
    model.train(was_training)
    return pictures


def path(model, a, b, steps, way=lerp):
    """From one picture to another: `(steps, C, H, W)`, decoded along the `way` (`lerp`, `slerp`) between their codes.

    The codes are the posterior means, not samples, so that the ends are the round trips of `a` and `b`
    `(C, H, W)`, every time.
    """
    z = codes(model, torch.stack([a, b]))
    along = way(*z.flatten(1), torch.linspace(0, 1, steps, device=z.device))
    return decoded(model, along.reshape(steps, *z.shape[1:]))


def draw_evenly(total, n, generator=None):
    """`n` of the numbers below `total` in random order, each equally often up to one: `(n,)`."""
    rounds = [torch.randperm(total, generator=generator) for _ in range(max(1, math.ceil(n / total)))]
    return torch.cat(rounds)[:n]


def neighbourhood(model, pictures, n, noise, seed=0):
    """New pictures around given ones: codes of `pictures` plus `noise` · N(0, I), decoded.

    Args:
        pictures: the sources `(N, C, H, W)`; each is used equally often, up to one.
        noise: in units of the latent, in which the prior has a spread of 1; 0 gives the round trips.

    Returns:
        The pictures `(n, C, H, W)`, and the index `(n,)` of the source of each.
    """
    random = torch.Generator().manual_seed(seed)
    sources = draw_evenly(len(pictures), n, random)
    z = codes(model, pictures)
    z = z[sources.to(z.device)]
    return decoded(model, z + noise * torch.randn(z.shape, generator=random).to(z)), sources


def direction(codes, mask):
    """What some pictures have and the others have not: the mean code of those in `mask` minus that of the rest.

    Args:
        codes: `(N, *latent)`.
        mask: `(N,)` bool, a tensor or an array.

    Returns:
        `(*latent,)`: added to a code, it moves the picture that way.
    """
    mask = torch.as_tensor(mask, dtype=torch.bool, device=codes.device)
    if mask.all() or not mask.any():
        raise ValueError(f"A direction needs pictures with and without it; here {int(mask.sum())} of {len(mask)} have it.")
    return codes[mask].mean(0) - codes[~mask].mean(0)


def decoder_length(decode, path):
    """How far the picture travels along codes `path` `(T, *latent)`: the sum of its steps, a float.

    Args:
        decode: codes `(T, *latent)` -> pictures or features `(T, …)`; distances are taken in what it gives.
    """
    with torch.no_grad():
        return float(decode(path).flatten(1).diff(dim=0).norm(dim=1).sum())


def geodesic(model, a, b, steps=16, iterations=100, features=None):
    """The way between two codes on which the picture changes least, `(steps, *latent)`; decode it to see it.

    Starts on the straight line and moves the points between until the energy, Σ ‖g(zₜ₊₁) − g(zₜ)‖², is least, g being
    the decoder (Shao, Kumar & Fletcher 2018, section 3; the metric is Arvanitidis et al.'s 2018). Such a way is short,
    and the picture changes evenly along it.

    Args:
        a, b: codes `(*latent,)`.
        iterations: at most so many steps of L-BFGS.
        features: pictures -> `(N, d)`, if the change is to be measured there and not in pixels.
    """
    between = lerp(a, b, torch.linspace(0, 1, steps)[1:-1]).detach().requires_grad_()
    optimizer = torch.optim.LBFGS([between], max_iter=iterations, line_search_fn="strong_wolfe")

    def whole():
        return torch.cat([a[None], between, b[None]])

    def energy():
        pictures = model.decode(whole()).mean
        seen = pictures if features is None else features(pictures)
        value = seen.flatten(1).diff(dim=0).square().sum()
        (between.grad,) = torch.autograd.grad(value, between)  # leaves the model's own gradients alone
        return value

    was_training = model.training
    model.eval()
    optimizer.step(energy)
    model.train(was_training)
    return whole().detach()
