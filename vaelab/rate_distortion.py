"""One small VAE at several prices: `python -m vaelab.rate_distortion` makes book/data/rate-distortion.json.

σ is held at 0.1 so that β alone sets the price; what the other ways of setting it come to, chapter 3 measures.
"""

import json
from pathlib import Path

import torch

from vaelab import models
from vaelab.data import digits
from vaelab.latent import diagnose
from vaelab.metrics import frechet
from vaelab.objectives import BetaObjective
from vaelab.training import evaluate, fit

BETAS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
SEEDS = (0, 1, 2)
SIGMA, LATENT, STEPS = 0.1, 16, 1500
RESULTS = Path(__file__).parents[1] / "book" / "data" / "rate-distortion.json"


def train(beta=1.0, seed=0, steps=STEPS, latent=LATENT, sigma=SIGMA, learned=False, **objective):
    """A VAE of the 1,442 training digits; `objective`: more arguments of `BetaObjective`."""
    torch.manual_seed(seed)
    vae = models.vae((1, 8, 8), latent, kind="mlp", channels=(128, 64), sigma=sigma, learned=learned)
    fit(vae, digits.load()[0], steps=steps, batch_size=128, learning_rate=5e-3, seed=seed, progress=False,
        objective=BetaObjective(beta, **objective))  # fmt: skip
    return vae


def measure(vae, seed=0):
    """Where a VAE of digits stands, a dict: rate (nats), distortion (mean squared error of a pixel, sampled codes),
    both on the 355 held-out digits; coordinates in use; Fréchet distance of 1,442 samples to the training digits."""
    held_out, pictures = digits.load(test=True)[0], digits.load()[0]
    found = diagnose(vae, held_out)
    with torch.no_grad():
        samples = vae.sample(len(pictures), torch.Generator().manual_seed(seed)).clamp(0, 1)
    return {
        "rate": float(evaluate(vae, held_out).kl),
        "distortion": found.optimal_sigma**2,
        "active": found.active,
        "gap": found.gap,
        "frechet": frechet(samples.flatten(1), pictures.flatten(1)).value,
    }


@torch.no_grad()
def pictures(vae, count=8, seed=0):
    """Round trips of the first held-out digits and samples, as grey levels from 0 to 16 (JSON has no pictures)."""
    shown = {
        "reconstruction": vae.reconstruct(digits.load(test=True)[0][:count]),
        "sample": vae.sample(count, torch.Generator().manual_seed(seed)),
    }
    return {name: (16 * images.clamp(0, 1)).round().int().flatten(1).tolist() for name, images in shown.items()}


def main():
    points, shown = [], {}
    for beta in BETAS:
        for seed in SEEDS:
            vae = train(beta, seed)
            points.append({"beta": beta, "seed": seed} | {k: round(v, 5) for k, v in measure(vae).items()})
            print(points[-1], flush=True)
            if seed == SEEDS[0]:
                shown[str(beta)] = pictures(vae)
    record = {"made_by": "python -m vaelab.rate_distortion", "sigma": SIGMA, "latent": LATENT, "steps": STEPS}
    RESULTS.write_text(json.dumps(record | {"points": points, "pictures": shown}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
