"""What it saves to run diffusion on latents instead of pixels, in two parts under `book/data/latent-savings/`.

    python -m benchmarks.latent_savings cost                         seconds a training step and a picture, and memory
    python -m benchmarks.latent_savings quality --size 32 --seed 0   how good each budget of steps makes the ads
    python -m benchmarks.latent_savings summary                      both in one table: book/data/latent-savings.json

The same UNet learns pixels (3, S, S) and latents of a VAE stage of factor 4, (4, S/4, S/4); the latents' bill includes
the training of the stage. A budget is a training run of its own, with its whole learning-rate schedule. How good the
pictures become does not depend on the machine, so `quality` runs wherever it is quickest, GPU included; the bill is
what those steps cost by `cost`, in processor seconds of one thread, which a busy machine changes little. Each run is
stored as soon as it is done, and a second call goes on where the first stopped.
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

RESULTS = Path(__file__).parents[1] / "book" / "data" / "latent-savings"
WIDTHS, FACTOR, CHANNELS, BATCH = (16, 24, 32), 4, 4, 32
SIZES = (32, 64, 128, 256)
MEASURED = (32, 64)  # the sizes at which quality is measured
ADS, DRAWN, STEPS, STAGE_STEPS = 4000, 5000, 20, 2000
BUDGETS = (300, 1000, 3000, 9000)
DRAWN_AT_ONCE = {"cpu": 25, "cuda": 500}  # on a CPU, 250 at once take twice as long a picture: they leave its cache


def network(space, size):
    """The UNet for pictures of `size` pixels, or for their latents."""
    shape = (3, size, size) if space == "pixel" else (CHANNELS, size // FACTOR, size // FACTOR)
    torch.manual_seed(0)
    return diffusion.Diffusion(shape, WIDTHS)


def stage(seed=0):
    """An untrained VAE stage of factor 4."""
    return recipes_kl.StageRecipe((16, 32, 32), CHANNELS).build(seed)


def watch(work):
    """Processor seconds that `work()` takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def cost(space, size, batch=4, steps=3):
    """One row: processor seconds a picture in training and in drawing (20 steps, decoding included), peak memory.

    The space "stage" is the training of the VAE stage itself.
    """
    if space == "stage":
        model, table, settings = stage1.Stage1(stage()), torch.rand(batch, 3, size, size), {"objective": stage1.Stage1Objective()}
    else:
        model, settings = network(space, size), {}
        table = torch.randn(batch, *model.shape).flatten(1)
    settings |= {"batch_size": batch, "progress": False}
    fit(model, table, steps=1, **settings)  # what is made once is not counted
    row = {"space": space, "size": size, "batch": batch}
    row["train_seconds"] = watch(lambda: fit(model, table, steps=steps, **settings)) / (steps * batch)
    if space != "stage":
        vae = stage().eval()

        def draw():
            latents = diffusion.sample(model, batch, steps=STEPS)
            return latents if space == "pixel" else diffusion.develop(vae, latents)

        row["draw_seconds"] = watch(lambda: torch.no_grad()(draw)()) / batch
    return row | {"megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def all_costs():
    """Each row in a process of its own, or the peak memory would be that of the largest so far.

    Batches of 4 at every size, and those of `quality` where quality is measured. A row that is stored is not repeated.
    """
    kinds = ("latent", "pixel", "stage")
    wanted = [(kind, size, 4) for size in SIZES for kind in kinds] + [(kind, size, BATCH) for size in MEASURED for kind in kinds]
    record = {"made_by": "python -m benchmarks.latent_savings cost", "settings": settings(), "rows": []}
    record = json.loads(path("cost").read_text()) if path("cost").exists() else record
    done = {(row["space"], row["size"], row["batch"]) for row in record["rows"]}
    for row in [row for row in wanted if row not in done]:
        options = [str(part) for pair in zip(("--space", "--size", "--batch"), row, strict=True) for part in pair]
        command = [sys.executable, "-m", "benchmarks.latent_savings", "row", *options]
        record["rows"].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(record["rows"][-1], flush=True)
        store("cost", record)


def settings():
    names = ("WIDTHS", "FACTOR", "CHANNELS", "BATCH", "ADS", "DRAWN", "STEPS", "STAGE_STEPS")
    return {name.lower(): globals()[name] for name in names}


def scale(pictures):
    """Pixels for diffusion: about mean 0 and standard deviation 1 (ads: mean .62, standard deviation .27)."""
    return (pictures - 0.62) / 0.27


def quality(size, seed, spaces=("latent", "pixel"), budgets=None):
    """The Fréchet distances that each budget buys, for one size and seed, as a list of runs in a file of its own."""
    name = f"quality-{size}-{seed}"
    record = {"made_by": f"python -m benchmarks.latent_savings quality --size {size} --seed {seed}", "runs": []}
    record = json.loads(path(name).read_text()) if path(name).exists() else record | {"settings": settings()}
    done = {(run["space"], run["steps"]) for run in record["runs"]}
    wanted = [(space, steps) for space in spaces for steps in budgets or BUDGETS if (space, steps) not in done]
    if not wanted:
        return
    train, real = (ads.render(ads.sample_factors(n, s), size) for n, s in ((ADS, 100), (DRAWN, 200)))
    target = features.describe(real)
    vae = trained_stage(train, seed) if any(space == "latent" for space, _ in wanted) else None
    if vae and "ceiling" not in record:
        record["ceiling"] = frechet(features.describe(round_trips(vae, real)), target).value
    for space, steps in wanted:
        table = (scale(train) if space == "pixel" else latents(vae, train, seed)).flatten(1)
        model = network(space, size).to(recipes_kl.gpu_or_cpu())
        options = {"batch_size": BATCH, "learning_rate": 2e-3, "ema": 0.99, "seed": seed}
        state = RESULTS / f".{name}-{space}-{steps}.state"
        fit(model, table, steps=steps, checkpoint=state, **options)
        drawn = draw(model, None if space == "pixel" else vae, seed)
        found = frechet(features.describe(drawn), target)
        record["runs"].append({"space": space, "steps": steps, "frechet": found.value, "n": found.n})
        print(size, seed, record["runs"][-1], flush=True)
        store(name, record)
        state.unlink(missing_ok=True)


def trained_stage(train, seed):
    """A VAE stage of these very pictures."""
    vae = stage(seed).to(recipes_kl.gpu_or_cpu())
    module = stage1.Stage1(vae).to(recipes_kl.gpu_or_cpu())
    options = {"batch_size": BATCH, "learning_rate": 3e-3, "ema": 0.99, "seed": seed}
    fit(module, train, steps=STAGE_STEPS, objective=stage1.Stage1Objective(), **options)
    module.finish().fit_normaliser(train[:1000].to(recipes_kl.gpu_or_cpu()))
    return vae


@torch.no_grad()
def latents(vae, pictures, seed):
    device = next(vae.parameters()).device
    noise = torch.Generator(device).manual_seed(seed)
    parts = pictures.split(250)
    return torch.cat([vae.normalise(vae.encode(part.to(device)).sample(noise)).cpu() for part in parts])


@torch.no_grad()
def round_trips(vae, pictures):
    device = next(vae.parameters()).device
    return torch.cat([vae.reconstruct(part.to(device)).clamp(0, 1).cpu() for part in pictures.split(250)])


def draw(model, vae, seed):
    """DRAWN pictures."""
    device, parts = model.signal.device, []
    noise, at_once = torch.Generator(device).manual_seed(seed), DRAWN_AT_ONCE.get(device.type, 25)
    for start in range(0, DRAWN, at_once):
        x = diffusion.sample(model, min(at_once, DRAWN - start), steps=STEPS, generator=noise)
        parts.append((diffusion.develop(vae, x) if vae else (x * 0.27 + 0.62).clamp(0, 1)).cpu())
    return torch.cat(parts)


def summary():
    """Every run with its bill in processor seconds, and its Fréchet distance in the units of chapter 5."""
    cost = json.loads(path("cost").read_text())
    unit = float(features.describe(ads.render(ads.sample_factors(770, seed=0))).square().mean())
    a_picture = {(row["space"], row["size"]): row["train_seconds"] for row in cost["rows"] if row["batch"] == BATCH}
    runs = []
    for file in sorted(RESULTS.glob("quality-*.json")):
        size, seed = (int(part) for part in file.stem.split("-")[1:])
        for run in json.loads(file.read_text())["runs"]:
            seconds = BATCH * run["steps"] * a_picture[run["space"], size]
            stage_seconds = BATCH * STAGE_STEPS * a_picture["stage", size] if run["space"] == "latent" else 0.0
            bill = {"seconds": seconds, "stage_seconds": stage_seconds}
            runs.append(run | {"size": size, "seed": seed, "frechet": run["frechet"] / unit} | bill)
    record = {"made_by": "python -m benchmarks.latent_savings cost; … quality --size 32 --seed 0, …; … summary"}
    record |= {"settings": settings(), "cost": [row for row in cost["rows"] if row["batch"] != BATCH], "quality": runs}
    record["train_seconds"] = {f"{space} {size}": seconds for (space, size), seconds in a_picture.items()}
    replace_file(RESULTS.with_suffix(".json"), (json.dumps(record, indent=1) + "\n").encode())


def path(name):
    return RESULTS / f"{name}.json"


def store(name, record):
    replace_file(path(name), (json.dumps(record, indent=1) + "\n").encode())


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latent_savings", description=__doc__)
    parser.add_argument("part", choices=("cost", "quality", "summary", "row"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--space", choices=("pixel", "latent", "stage"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, choices=SIZES, default=MEASURED[0])
    parser.add_argument("--steps", type=int, nargs="+", help="budgets of quality; default: 300 1000 3000 9000")
    asked = parser.parse_args()
    if asked.part == "quality" and (asked.space == "stage" or asked.size not in MEASURED):
        sizes = " or ".join(map(str, MEASURED))
        parser.error(f"quality is measured at --size {sizes}, and of --space pixel or latent.")
    if min(asked.steps or BUDGETS) < 1:
        parser.error("a budget of --steps is 1 or more.")
    torch.set_num_threads(1)
    if asked.part == "row":
        print(json.dumps(cost(asked.space or "latent", asked.size, asked.batch)))
    elif asked.part == "cost":
        all_costs()
    elif asked.part == "summary":
        summary()
    else:
        RESULTS.mkdir(exist_ok=True)
        quality(asked.size, asked.seed, [asked.space] if asked.space else ("latent", "pixel"), asked.steps)


if __name__ == "__main__":
    main()
