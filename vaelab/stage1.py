"""Stage 1 of latent diffusion: how the field trains the VAE stage (Rombach et al. 2022, section 3.1 and appendix G).

`Stage1(vae, …)` goes into `training.fit` with a `Stage1Objective`: one optimiser for the VAE, the learned log σ² and
the discriminator, so resuming, averaging and progress are `fit`'s. The VAE is what remains: save `stage1.vae`.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F


class Stage1Terms(NamedTuple):
    """What one batch costs, one value a picture, `(N,)`.

    Attributes:
        reconstruction: log p(x | z) under the learned σ, nats.
        kl: KL(q(z | x) ‖ N(0, I)), nats.
        perceptual: distance of the features, on the scale of the error (see `Stage1`), nats; 0 without a net.
        adversarial: what a painting pays for not being taken for real; 0 without a discriminator.
        discrimination: the discriminator's own hinge loss.
    """

    reconstruction: torch.Tensor
    kl: torch.Tensor
    perceptual: torch.Tensor
    adversarial: torch.Tensor
    discrimination: torch.Tensor
    kl_per_dimension = None  # `evaluate` asks for it


@dataclass(frozen=True)
class Stage1Objective:
    """`Stage1Terms`, step -> loss. Weights as in LDM's `LPIPSWithDiscriminator`, but on true nats a picture.

    Attributes:
        kl_weight: the tiny price of the KL: so little that N(0, I) is no longer what the latents look like.
        perceptual_weight, adversarial_weight: 0 leaves the term out.
        adversarial_start: the step from which the discriminator learns and is listened to.
    """

    kl_weight: float = 1e-2
    perceptual_weight: float = 0.0
    adversarial_weight: float = 0.0
    adversarial_start: int = 0

    def __call__(self, terms, step=None):
        loss = -terms.reconstruction + self.kl_weight * terms.kl + self.perceptual_weight * terms.perceptual
        if step is None or step >= self.adversarial_start:
            loss = loss + self.adversarial_weight * terms.adversarial + terms.discrimination
        return loss.mean()


class Stage1(nn.Module):
    """A VAE stage with what it is trained by.

    Args:
        vae: the `AutoencoderKL` to train.
        error: "l2" (a Gaussian with learned σ) or "l1" (a Laplace density of the same standard deviation).
        perceptual: a `PerceptualDistance`, frozen; the distance is charged once for every colour value and divided
            by 2σ², as if it were added to each squared error (LDM does so by broadcasting and does not say it).
        discriminator: a `PatchDiscriminator`; it learns from the same batches, in the same step.
        sigma: a number fixes σ there instead of learning it.
        adaptive: False leaves the adversarial term as the discriminator says it, without `adaptive_weight`.
    """

    def __init__(self, vae, error="l2", perceptual=None, discriminator=None, sigma=None, adaptive=True):
        super().__init__()
        if error not in ("l1", "l2"):
            raise ValueError(f"error is 'l1' or 'l2', and {error!r} was given.")
        if sigma is not None and not sigma > 0:
            raise ValueError(f"sigma is the width of a density and lies above 0; {sigma!r} was given.")
        self.vae, self.error, self.perceptual, self.discriminator = vae, error, perceptual, discriminator
        self.adaptive = adaptive
        log_sigma = vae.log_sigma.detach() if sigma is None else torch.full_like(vae.log_sigma, math.log(sigma))
        self.log_variance = nn.Parameter(2 * log_sigma, requires_grad=sigma is None)  # so the optimiser has it
        if perceptual is not None:
            perceptual.requires_grad_(False)

    def log_density(self, x, painted):
        """log p(x | z), `(N,)` nats, constant included, in float32."""
        error, pixels = (x.float() - painted.float()).flatten(1), math.prod(x.shape[1:])
        if self.error == "l2":
            squared = 0.5 * error.square().sum(1) * torch.exp(-self.log_variance)
            return -squared - 0.5 * pixels * (self.log_variance + math.log(2 * math.pi))
        scale = torch.exp(0.5 * self.log_variance) / math.sqrt(2)
        return -error.abs().sum(1) / scale - pixels * torch.log(2 * scale)

    def forward(self, x, generator=None):
        """Pictures `(N, C, H, W)` in [0, 1] -> `Stage1Terms`."""
        posterior = self.vae.encode(x)
        painted = self.vae.paint(posterior.sample(generator))
        reconstruction, zeros = self.log_density(x, painted), x.new_zeros(len(x))
        perceptual = adversarial = discrimination = zeros
        if self.perceptual is not None:
            weight = math.prod(x.shape[1:]) * 0.5 * torch.exp(-self.log_variance)
            perceptual = weight * self.perceptual(painted, x)
        if self.discriminator is not None:
            frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
            adversarial = -torch.func.functional_call(self.discriminator, frozen, (painted,))
            if self.adaptive:
                adversarial = adversarial * self.adaptive_weight(reconstruction - perceptual, adversarial)
            real, fake = self.discriminator(x), self.discriminator(painted.detach())
            discrimination = 0.5 * (F.relu(1 - real) + F.relu(1 + fake))
        return Stage1Terms(
            reconstruction, posterior.kl(), *(t.flatten(1).mean(1) if t.ndim > 1 else t for t in (perceptual, adversarial, discrimination))
        )

    def adaptive_weight(self, gain, adversarial):
        """‖∇ error‖ / ‖∇ adversarial‖ at the decoder's last layer (Esser et al. 2021, eq. 7): equal pulls; no gradient."""
        if not adversarial.requires_grad:
            return 0.0
        last = self.vae.decoder.conv_out.weight
        pulls = [torch.autograd.grad(term.mean(), last, retain_graph=True)[0].norm() for term in (gain, adversarial)]
        return (pulls[0] / (pulls[1] + 1e-4)).clamp(0, 1e6).detach()

    @torch.no_grad()
    def finish(self):
        """The trained VAE, with the learned σ as the width of its `decode`."""
        self.vae.log_sigma.copy_(self.log_variance / 2)
        return self.vae.eval()


class PerceptualDistance(nn.Module):
    """How far two pictures are apart in the features of a network (Zhang et al. 2018, without learned weights).

    Args:
        layers: an iterable of modules; the output of each activation is compared, each place's features scaled to
            length 1. Any picture size.
    """

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, a, b):
        """`(N, C, H, W)` twice -> `(N,)`, 0 for equal pictures; gradients flow into both."""
        total = 0.0
        for layer in self.layers:
            a, b = layer(a), layer(b)
            if isinstance(layer, nn.SiLU):
                total = total + (unit(a) - unit(b)).square().sum(1).mean((1, 2))
        return total


def unit(features):
    """Features `(N, C, H, W)` scaled to length 1 at every place."""
    return features / (features.square().sum(1, keepdim=True) + 1e-8).sqrt()


def PatchDiscriminator(channels=3, widths=(16, 32, 64)):
    """Pictures -> one number a patch, above 0 where it looks real `(N, 1, h, w)` (Isola et al. 2017, "PatchGAN")."""
    layers, before = [], channels
    for width in widths:
        layers += [nn.Conv2d(before, width, 4, stride=2, padding=1)]
        layers += [nn.GroupNorm(8, width)] if before != channels else []
        layers += [nn.LeakyReLU(0.2)]
        before = width
    return nn.Sequential(*layers, nn.Conv2d(before, 1, 4, padding=1))
