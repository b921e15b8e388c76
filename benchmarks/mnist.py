"""Binarised MNIST in a minute: how good a VAE gets, from scratch, in a training time fixed beforehand.

    python -m benchmarks.mnist --seconds 60 --threads 2

One table: −ELBO of all 10,000 test digits (binarised once, one z a digit) and the IWAE-50 bound of the first
1,000, in nats; the less, the better. Training pictures are binarised afresh in every batch (Salakhutdinov &
Murray 2008; Burda et al. 2016), without which these numbers are not comparable.
"""

import argparse
import copy
import math
import time

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import peers
from benchmarks.peers import PIXELS, SHAPE
from vaelab.data import mnist
from vaelab.distributions import LOG_2PI, BernoulliLikelihood
from vaelab.models import VAE
from vaelab.objectives import BetaObjective, iwae
from vaelab.training import evaluate, fit

LATENT = 24


def binarise(x, generator):
    """Each pixel on with its grey value as the probability (`torch.bernoulli` takes four times as long)."""
    return (torch.rand(x.shape, generator=generator) < x).float()


class Block(nn.Module):
    """x + Linear(SiLU(Linear(SiLU(x)))), the identity at first."""

    def __init__(self, width):
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x):
        return x + self.outer(F.silu(self.inner(F.silu(x))))


def residual_networks(pictures, width=512, blocks=1, latent=LATENT):
    """Encoder and decoder; the decoder begins by painting the mean picture of `pictures`."""
    up = [nn.Flatten(), nn.Linear(PIXELS, width), *(Block(width) for _ in range(blocks)), nn.SiLU()]
    down = [nn.Linear(latent, width), *(Block(width) for _ in range(blocks)), nn.SiLU()]
    last = nn.Linear(width, PIXELS)
    with torch.no_grad():
        last.bias.copy_(torch.logit(pictures.mean(0).flatten().clamp(1e-3, 1 - 1e-3)))
    return nn.Sequential(*up, nn.Linear(width, 2 * latent)), nn.Sequential(*down, last, nn.Unflatten(1, SHAPE))


class AutoregressivePrior(nn.Module):
    """A learned prior: p(z) = Π N(z_i; mean_i(z_<i), σ_i(z_<i)), all i in one masked network (Germain et al. 2015).

    Matched to the posterior it spares the encoder what N(0, I) would charge (Chen et al. 2017, section 3.2). It
    starts as N(0, I).
    """

    def __init__(self, latent=LATENT, hidden=320):
        super().__init__()
        order, degree = torch.arange(latent), torch.arange(hidden) % (latent - 1)
        self.register_buffer("see", (order[None] <= degree[:, None]).float())
        self.register_buffer("tell", (degree[None] < order[:, None]).float().repeat(2, 1))
        self.inner, self.outer = nn.Linear(latent, hidden), nn.Linear(hidden, 2 * latent)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def parameters_at(self, z):
        """Mean and log σ of every coordinate given those before it."""
        hidden = F.silu(F.linear(z, self.inner.weight * self.see, self.inner.bias))
        mean, log_sigma = F.linear(hidden, self.outer.weight * self.tell, self.outer.bias).float().chunk(2, -1)
        return mean, 3 * torch.tanh(log_sigma / 3)

    def log_prob(self, z):
        """`(…, latent)` -> `(…)` nats."""
        mean, log_sigma = self.parameters_at(z)
        return (-0.5 * ((z - mean) * torch.exp(-log_sigma)) ** 2 - log_sigma - 0.5 * LOG_2PI).sum(-1)

    def sample(self, n, generator=None, device=None):
        """`(n, latent)`, one coordinate after the other."""
        z = torch.zeros(n, self.inner.in_features, device=device)
        for i in range(z.shape[1]):
            mean, log_sigma = self.parameters_at(z)
            noise = torch.randn(n, generator=generator, device=device)
            z[:, i] = mean[:, i] + log_sigma[:, i].exp() * noise
        return z


def ours(pictures, width=512, blocks=1, latent=LATENT):
    prior = AutoregressivePrior(latent)
    return VAE(*residual_networks(pictures, width, blocks, latent), latent, BernoulliLikelihood(), prior)


SETTINGS = {"batch_size": 256, "learning_rate": 4e-3, "bf16": True, "objective": BetaObjective(warmup=300)}


def fit_for(model, pictures, seconds, **settings):
    """`fit` within so many seconds: a throw-away copy shows how many steps they hold, and is paid for."""
    settings = SETTINGS | settings | {"transform": binarise, "progress": False}
    start, probe = time.perf_counter(), copy.deepcopy(model)
    fit(probe, pictures, steps=5, **settings)
    warm, steps = time.perf_counter(), max(5, int(seconds))
    fit(probe, pictures, steps=steps, **settings)
    each = (time.perf_counter() - warm) / steps
    left = seconds - (time.perf_counter() - start)
    steps = max(1, int(0.98 * left / each))
    fit(model, pictures, steps=steps, **settings)
    return steps


def by_plain_loop(networks, latent):
    def train(pictures, seconds):
        model = peers.plain(networks(), latent)
        return model, peers.plain_loop(model, pictures, seconds=seconds, transform=binarise) * 128

    return train


def by_fit(pictures, seconds):
    model = ours(pictures)
    return model, fit_for(model, pictures, seconds) * SETTINGS["batch_size"]


ROWS = {
    "pytorch/examples, MLP 784-400-20": by_plain_loop(peers.mlp, 20),
    "plain conv VAE, 32 latents": by_plain_loop(peers.conv, 32),
    "wider MLP 784-1024-512-32": by_plain_loop(lambda: peers.mlp(32, (1024, 512)), 32),
    f"vaelab: residual MLP, {LATENT} latents, learned prior, bf16": by_fit,
}


def iwae_50(model, pictures):
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return math.fsum(float(iwae(model, x, 50, noise).value.sum()) for x in pictures.split(50)) / len(pictures)


def run(name, train, test, seconds):
    """Trains one row and measures it; its line of the table."""
    torch.manual_seed(0)
    start = time.perf_counter()
    model, pictures = ROWS[name](train, seconds)
    took = time.perf_counter() - start
    model.eval()
    elbo, bound = float(evaluate(model, test).value), iwae_50(model, test[:1000])
    size = sum(p.numel() for p in model.parameters()) / 1e6
    epochs = pictures / len(train)
    return f"{name:<58}{-elbo:>8.2f}{-bound:>9.2f}{took:>9.1f}{epochs:>8.1f}{size:>9.2f}"


def main(arguments=None):
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=60, help="training time of each row")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--only", default="", help="rows whose name contains this")
    chosen = options.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    train, test = mnist.load("train")[0], mnist.load("test")[0]
    test = binarise(test, torch.Generator().manual_seed(0))
    print(f"{'trained from scratch':<58}{'−ELBO':>8}{'IWAE-50':>9}{'seconds':>9}{'epochs':>8}{'M par.':>9}")
    for name in ROWS:
        if chosen.only in name:
            print(run(name, train, test, chosen.seconds), flush=True)


if __name__ == "__main__":
    main()
