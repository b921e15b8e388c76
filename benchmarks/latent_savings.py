"""What it saves to run diffusion on latents instead of pixels: `book/data/latent-savings.json`, made in two parts.

    python -m benchmarks.latent_savings cost             seconds a training step and a picture, and memory, by size
    python -m benchmarks.latent_savings quality --seed 0 core-seconds until ads of 32 px are as good as …; 1 and 2 next

The same UNet learns pixels (3, S, S) and latents of a VAE stage of factor 4, (4, S/4, S/4); the latents' bill includes
the training of the stage. A budget is a training run of its own, with its whole learning-rate schedule: the curve
shows the best that each budget buys. Seconds are processor seconds of one thread, so that a busy machine changes
little. Each run is stored as soon as it is done, and a second call goes on where the first stopped.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from vaelab import diffusion, features, recipes_kl, stage1
from vaelab.data import ads
from vaelab.metrics import frechet
from vaelab.storage import replace_file
from vaelab.training import fit

RESULTS = Path(__file__).parents[1] / "book" / "data" / "latent-savings.json"
WIDTHS, FACTOR, CHANNELS, BATCH = (16, 24, 32), 4, 4, 32
SIZES = (32, 64, 128, 256)
PIXELS = 32  # the size at which quality is measured
ADS, DRAWN, STEPS, STAGE_STEPS = 4000, 2000, 20, 1500
BUDGETS = {"pixel": (150, 300, 600, 1200), "latent": (300, 600, 1200, 2400, 4800)}


def network(space, size):
    """The UNet for pictures of `size` pixels, or for their latents."""
    shape = (3, size, size) if space == "pixel" else (CHANNELS, size // FACTOR, size // FACTOR)
    torch.manual_seed(0)
    return diffusion.Diffusion(shape, WIDTHS)


def stage(seed=0):
    """An untrained VAE stage of factor 4."""
    recipe = recipes_kl.StageRecipe((16, 32, 32), CHANNELS)
    return recipe.build(seed)


def watch(work):
    """Processor seconds that `work()` takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def cost(space, size, batch=4, steps=3):
    """One row: processor seconds a picture in training and in drawing (20 steps, decoding included), peak memory."""
    model = network(space, size)
    table = torch.randn(batch, *model.shape).flatten(1)
    settings = {"batch_size": batch, "progress": False}
    fit(model, table, steps=1, **settings)  # what is made once is not counted
    training = watch(lambda: fit(model, table, steps=steps, **settings)) / (steps * batch)
    vae = stage().eval()

    def draw():
        latents = diffusion.sample(model, batch, steps=STEPS)
        return latents if space == "pixel" else diffusion.develop(vae, latents)

    drawing = watch(lambda: torch.no_grad()(draw)()) / batch
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"space": space, "size": size, "train_seconds": training, "draw_seconds": drawing, "megabytes": memory}


def all_costs(record):
    """Each row in a process of its own, or the peak memory would be that of the largest so far."""
    record["cost"] = []
    for size in SIZES:
        for space in ("latent", "pixel"):
            command = [sys.executable, "-m", "benchmarks.latent_savings", "row", "--space", space, "--size", str(size)]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            record["cost"].append(row)
            print(row, flush=True)
            store(record)


def scale(pictures):
    """Pixels for diffusion: about mean 0 and standard deviation 1 (ads: mean .62, standard deviation .27)."""
    return (pictures - 0.62) / 0.27


def quality(record, seed):
    """The Fréchet distances that each budget buys, for one seed."""
    train, real = (ads.render(ads.sample_factors(n, s), PIXELS) for n, s in ((ADS, 100), (DRAWN, 200)))
    target = features.describe(real)
    runs = record.setdefault("quality", [])
    done = {(run["space"], run["seed"], run["steps"]) for run in runs}
    vae, bill = None, 0.0
    for space in ("latent", "pixel"):
        for steps in BUDGETS[space]:
            if (space, seed, steps) in done:
                continue
            if space == "latent" and vae is None:
                vae, bill = trained_stage(train, seed)
                ceiling = frechet(features.describe(round_trips(vae, real)), target).value
            run = {"space": space, "seed": seed, "steps": steps}
            table = (scale(train) if space == "pixel" else latents(vae, train, seed)).flatten(1)
            model = network(space, PIXELS)
            settings = {"batch_size": BATCH, "learning_rate": 2e-3, "ema": 0.99, "seed": seed, "progress": False}
            run["seconds"] = watch(lambda: fit(model, table, steps=steps, **settings)) + (bill if space == "latent" else 0)  # noqa: B023
            with torch.no_grad():
                drawn = draw(model, None if space == "pixel" else vae, seed)
            run |= {"frechet": frechet(features.describe(drawn), target).value, "n": len(drawn)}
            run |= {"stage_seconds": bill, "ceiling": ceiling} if space == "latent" else {}
            runs.append(run)
            print(run, flush=True)
            store(record)


def trained_stage(train, seed):
    """A VAE stage of these very pictures, and the processor seconds it took."""
    vae = stage(seed)
    module = stage1.Stage1(vae)
    settings = {"batch_size": 16, "learning_rate": 3e-3, "ema": 0.99, "seed": seed, "progress": False}
    seconds = watch(lambda: fit(module, train, steps=STAGE_STEPS, objective=stage1.Stage1Objective(), **settings))
    module.finish().fit_normaliser(train[:1000])
    return vae, seconds


@torch.no_grad()
def latents(vae, pictures, seed):
    noise = torch.Generator().manual_seed(seed)
    return torch.cat([vae.normalise(vae.encode(batch).sample(noise)) for batch in pictures.split(250)])


@torch.no_grad()
def round_trips(vae, pictures):
    return torch.cat([vae.reconstruct(batch).clamp(0, 1) for batch in pictures.split(250)])


def draw(model, vae, seed):
    """DRAWN pictures."""
    noise, parts = torch.Generator().manual_seed(seed), []
    for _ in range(DRAWN // 250):
        x = diffusion.sample(model, 250, steps=STEPS, generator=noise)
        parts.append(diffusion.develop(vae, x) if vae else (x * 0.27 + 0.62).clamp(0, 1))
    return torch.cat(parts)


def store(record):
    replace_file(RESULTS, (json.dumps(record, indent=1) + "\n").encode())


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latent_savings", description=__doc__)
    parser.add_argument("part", choices=("cost", "quality", "row"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--space", choices=("pixel", "latent"), default="latent")
    parser.add_argument("--size", type=int, default=PIXELS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.part == "row":
        print(json.dumps(cost(asked.space, asked.size)))
        return
    settings = {"widths": WIDTHS, "factor": FACTOR, "channels": CHANNELS, "batch": BATCH, "drawing_steps": STEPS}
    settings |= {"ads": ADS, "drawn": DRAWN, "pixels": PIXELS, "stage_steps": STAGE_STEPS}
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    record |= {"made_by": "python -m benchmarks.latent_savings cost; … quality --seed 0, 1, 2", "settings": settings}
    if asked.part == "cost":
        all_costs(record)
    else:
        quality(record, asked.seed)


if __name__ == "__main__":
    main()
