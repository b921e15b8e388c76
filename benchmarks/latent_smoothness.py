"""Does a smooth latent space help generation? `python -m benchmarks.latent_smoothness --weight 0.01 --seed 0`

The shipped stage kl-f4-c4, tuned on ads of 32 px with four prices of the KL, from none (an autoencoder) to ten times
the ELBO's; on the latents of each the same UNet, with the same budget. Stored under `book/data/latent-smoothness/`, one
file a price and seed: how true the round trip is, how far the numbers run ("spread"), how even a path between two ads,
how good decoded noise N(0, I) is, as it is ("prior") and stretched to each channel's mean and spread ("noise"), and how
good the ads that the latent diffusion draws. A file that is there is not made again.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from vaelab import diffusion, features, recipes_kl, stage1
from vaelab.data import ads
from vaelab.metrics import frechet, smoothness
from vaelab.storage import replace_file
from vaelab.training import fit

RESULTS = Path(__file__).parents[1] / "book" / "data" / "latent-smoothness"
WEIGHTS = (0.0, 0.01, 1.0, 10.0)
SIZE, STAGE_STEPS, STEPS, BATCH, DRAWN, PATHS = 32, 1500, 3000, 32, 2000, 200


def stage(weight, pictures, seed):
    """A VAE stage trained with that price of the KL, on the device that is there."""
    recipe = replace(recipes_kl.STAGES["kl-f4-c4-64px"], steps=STAGE_STEPS, objective=stage1.Stage1Objective(weight))
    vae = recipes_kl.train(recipe, pictures, STAGE_STEPS, seed=seed).to(recipes_kl.gpu_or_cpu())
    vae.fit_normaliser(pictures[:1000].to(vae.log_sigma.device).float() / 255, per_channel=True)
    return vae


@torch.no_grad()
def in_parts(function, pictures, device):
    return torch.cat([function(part.to(device)).cpu() for part in pictures.split(250)])


def measure(weight, seed):
    """One record: the stage's figures, and the Fréchet distance of what diffusion draws from its latents."""
    start = time.monotonic()
    pictures, real = recipes_kl.whole_ads(size=SIZE), ads.render(ads.sample_factors(DRAWN, 200), SIZE)
    vae = stage(weight, pictures, seed)
    device, target = vae.log_sigma.device, features.describe(real)
    trips = in_parts(lambda x: vae.reconstruct(x).clamp(0, 1), real, device)
    with torch.no_grad():
        posterior = vae.encode(real[:500].to(device))
    noise = torch.Generator(device).manual_seed(seed)

    def draws(x):
        return vae.normalise(vae.encode(x).sample(noise))

    latents = in_parts(lambda x: draws(x.float() / 255), pictures, device)
    blank = torch.randn((DRAWN, *latents.shape[1:]), generator=torch.Generator().manual_seed(seed))
    record = {"weight": weight, "seed": seed, "kl": float(posterior.kl().mean())}
    record["psnr"] = float((-10 * (trips - real).square().mean((1, 2, 3)).log10()).mean())
    spread = torch.tensor(vae.config["latents_std"], device=device)
    record["spread"] = float(spread.mean())
    record["cloud"] = float((posterior.variance.mean((0, 2, 3)).sqrt() / spread).mean())  # a cloud's width in all latents'
    record["evenness"] = evenness(vae, real, device)
    for name, decode in (("prior", lambda z: vae.paint(z).clamp(0, 1)), ("noise", lambda z: diffusion.develop(vae, z))):
        record[name] = frechet(features.describe(in_parts(decode, blank, device)), target).value
    record["ceiling"] = frechet(features.describe(trips), target).value
    record["frechet"] = frechet(features.describe(drawn(vae, latents, seed)), target).value
    return record | {"n": DRAWN, "minutes": (time.monotonic() - start) / 60}


@torch.no_grad()
def evenness(vae, real, device):
    """The largest step over the mean step on straight ways of 11 pictures between two ads, the mean over PATHS ways."""
    z = torch.cat([vae.code(part.to(device)) for part in real[: 2 * PATHS].split(100)])
    t = torch.linspace(0, 1, 11, device=device).view(1, -1, 1, 1, 1)
    ways = ((1 - t) * z[:PATHS, None] + t * z[PATHS:, None]).flatten(0, 1)
    shown = in_parts(lambda part: vae.decode(part).mean.clamp(0, 1), ways, device)
    return float(smoothness(features.describe(shown).view(PATHS, 11, -1)).ratio.mean())


def drawn(vae, latents, seed):
    """What the latent diffusion of these latents draws, DRAWN pictures."""
    device = vae.log_sigma.device
    torch.manual_seed(0)
    model = diffusion.Diffusion(tuple(latents.shape[1:]), (32, 48, 64)).to(device)
    fit(model, latents.flatten(1), steps=STEPS, batch_size=BATCH, learning_rate=2e-3, ema=0.999, seed=seed)
    noise = torch.Generator(device).manual_seed(seed)
    parts = [diffusion.paint(vae, model, 250, steps=20, generator=noise).cpu() for _ in range(DRAWN // 250)]
    return torch.cat(parts)


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latent_smoothness", description=__doc__)
    parser.add_argument("--weight", type=float, choices=WEIGHTS, nargs="+", default=WEIGHTS)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    for weight in asked.weight:
        path = RESULTS / f"weight-{weight:g}-seed-{asked.seed}.json"
        if path.exists():
            continue
        record = {"made_by": f"python -m benchmarks.latent_smoothness --weight {weight:g} --seed {asked.seed}"}
        record |= measure(weight, asked.seed)
        print(record, flush=True)
        replace_file(path, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
