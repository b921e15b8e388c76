"""The CTR case, many times over: which way of making more ads helps to tell which do well (chapter 9).

    python -m benchmarks.ctr --seed 1000                        the quick arms on one fresh data set
    python -m benchmarks.ctr --seed 1000 --arms "noise 1" "latent diffusion"
    python -m benchmarks.ctr --seed 1000 --rarity 30 60 120     the same with so many high ads to learn from
    python -m benchmarks.ctr table [--measure f1] [--rarity 30] the joint table of all seeds

One file a seed, `book/data/ctr/seed-1000.json`, written anew after every arm: an interrupted run goes on where it was,
and a finished arm is not repeated. Seeds are independent, so run as many side by side as there are processor cores; one
process takes one thread. `--device cuda` puts classifiers and VAEs on a GPU. The seeds of the book are 1000 to 1019.
"""

import argparse
import json
import platform
import sys
import time
from functools import partial
from importlib import metadata
from pathlib import Path

import torch

from vaelab import augmentation, classifiers, diffusion, intervals, pretrained
from vaelab.augmentation import ARMS, Arm, made
from vaelab.data import ads
from vaelab.storage import replace_file
from vaelab.training import fit

FOLDER = Path(__file__).parents[1] / "book" / "data" / "ctr"
SETTINGS = {"size": 32, "n": 1100, "fresh": 1500, "steps": 300, "vae_steps": 1700, "unlabelled": 5000}
LEAKS = {f"leaks: {how} {noise:g}": (how, noise) for how in ("as told", "split after") for noise in (0.25, 0.5, 1)}
LEAKS.pop("leaks: split after 0.25"), LEAKS.pop("leaks: split after 1")
DIFFUSION = "latent diffusion"
QUICK = [name for name in ARMS if not name.startswith("big vae")] + list(LEAKS)
# With few high ads: what there is to compare, no more
RARE = ["nothing", "a/a", "threshold", "class weights", "duplicates", "flip+shift", "flip+shift+duplicates",
        "noise 0.5", "noise 1", "smote in latent", "with negatives",
        "one domain", "one domain+duplicates", "one domain+noise 1",
        "hog-logistic: nothing", "hog-logistic: class weights", "hog-logistic: smote"]  # fmt: skip
# Whose predictions are kept, to study thresholds and luck without training again
KEPT = ["nothing", "a/a", "class weights", "duplicates", "flip+shift+duplicates", "noise 0.5", "one domain+noise 1",
        "hog-logistic: nothing", "hog-logistic: class weights", "hog-logistic: smote"]  # fmt: skip
PACKAGES = ("vaelab", "torch", "numpy", "scikit-learn", "scikit-image", "imbalanced-learn")
EVERYTHING = "all"  # the rarity at which no high ad is left out


def read(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def begin(path, seed, settings, device):
    """The record of a seed: as far as it has come, or a fresh one."""
    stored = read(path)
    if stored and stored["settings"] != settings:
        sys.exit(f"{path} was made with {stored['settings']}, not {settings}; give these, or another folder.")
    if stored:
        return stored
    return {
        "made_by": f"python -m benchmarks.ctr --seed {seed}", "seed": seed, "settings": settings,
        "versions": {name: metadata.version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "device": str(device), "results": {},
    }  # fmt: skip


def latent_diffusion(train, context, factors, steps=3000, size=64):
    """High ads by a diffusion model that is told the label, on the latents of a shipped stage at 64 px."""
    pictures, seed = ads.render(factors, size), context.stream("made")
    stage = pretrained.load("kl-f4-c4-64px").to(context.device)
    stage.fit_normaliser(pictures.to(context.device))
    with torch.no_grad():
        z = torch.cat([stage.normalise(stage.code(x.to(context.device))).cpu() for x in pictures.split(50)])
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = diffusion.Diffusion(tuple(z.shape[1:]), vocabulary={"ctr": ("low", "high")})
    rows = diffusion.rows(z, train.labels[:, None] + 1)
    fit(model, rows, steps=steps, batch_size=32, ema=0.99, seed=seed, progress=False)
    model, noise, drawn = model.to(context.device).eval(), torch.Generator(context.device).manual_seed(seed), []
    for start in range(0, context.n, 50):
        n = min(50, context.n - start)
        drawn.append(diffusion.paint(stage, model, n, words=torch.tensor([2]), steps=20, generator=noise).cpu())
    shape = train.pictures.shape[2:]
    small = torch.nn.functional.interpolate(torch.cat(drawn), shape, mode="bilinear", antialias=True)
    return made(small, 1, torch.zeros(context.n, 0).long(), 1, seed)


def measure(experiment, name):
    """One arm's `Result`."""
    if name == DIFFUSION:
        return experiment.run(Arm(DIFFUSION, partial(latent_diffusion, factors=experiment.factors["train"])))
    if name in LEAKS:
        how, noise = LEAKS[name]
        return (experiment.as_told if how == "as told" else experiment.split_after)(noise)
    return experiment.run(name)


def run(seed, arms, rarities, device=None, folder=FOLDER, **changes):
    """Measures what is missing of one seed and writes it, arm by arm; the record."""
    settings = SETTINGS | changes
    path = folder / f"seed-{seed}.json"
    record = begin(path, seed, settings, device or "cpu")
    for rarity in rarities:
        wanted = arms or (QUICK if rarity == EVERYTHING else RARE)
        done = record["results"].setdefault(rarity, {})
        missing = [name for name in wanted if name not in done]
        if not missing:
            continue
        start = time.perf_counter()
        positives = None if rarity == EVERYTHING else int(rarity)
        experiment = augmentation.Experiment.from_ads(seed, positives=positives, device=device, **settings)
        for name in missing:
            result = measure(experiment, name)
            done[name] = result.as_record(predictions=rarity == EVERYTHING and name in KEPT)
            record |= described(experiment)
            print(f"{seed} {rarity} {name:36} {summary(done[name])}", flush=True)
            replace_file(path, (json.dumps(record) + "\n").encode())
        seconds = round(time.perf_counter() - start, 1)
        print(f"{seed} {rarity}: {seconds} s, VAEs {experiment.context.seconds}", flush=True)
    return record


def described(experiment):
    """What all arms of a seed share: the true labels, and what the truth itself would score."""
    parts = {name: getattr(experiment, name).labels.tolist() for name in ("validation", "test")}
    labels = {name: "".join(map(str, values)) for name, values in parts.items()}
    everything = classifiers.all_positive_f1(float(experiment.test.labels.double().mean()))
    return {"labels": labels, "bayes": augmentation.bayes(experiment), "all_positive_f1": everything}


def summary(record):
    names = ("validation_f1", "f1", "f1_tuned", "pr_auc", "roc_auc", "called")
    return "  ".join(f"{name} {record['scores'][name]:.3f}" for name in names) + f"  {record['seconds']:.1f} s"


def results(rarity=EVERYTHING, folder=FOLDER):
    """All records of one rarity, over all seeds; those of a leak bear its noise in their name."""
    files = sorted(folder.glob("seed-*.json"))
    return [r for file in files for r in read(file)["results"].get(rarity, {}).values()]


def as_text(rows):
    """A table as lines of text."""
    lines = [f"{'arm':38} {'n':>3}  mean ± sd        difference [interval]    p (Holm)"]
    for row in rows:
        spread = "" if row["sd"] is None else f" ± {row['sd']:.3f}"
        line = f"{row['arm']:38} {row['n']:3}  {row['mean']:.3f}{spread}"
        if "difference" in row:
            d = row["difference"]
            line = f"{line:58} {d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}] {row['p']:.3f}  {intervals.verdict(d)}"
        lines.append(line + ("  LEAKS" if row["leaks"] else ""))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("run", "table"), default="run")
    parser.add_argument("--seed", type=int, default=1000)
    known = [*ARMS, *LEAKS, DIFFUSION]
    parser.add_argument("--arms", nargs="+", metavar="ARM", choices=known, help="default: the quick ones")
    parser.add_argument("--rarity", nargs="+", default=[EVERYTHING], help="high ads to learn from: all, or a number")
    parser.add_argument("--device")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--measure", default="f1_tuned")
    parser.add_argument("--plain", action="store_true", help="intervals of one comparison each, not of all together")
    given = parser.parse_args()
    odd = [r for r in given.rarity if r != EVERYTHING and not r.isdecimal()]
    if odd:
        parser.error(f"--rarity takes {EVERYTHING} or a number of high ads, and {odd[0]!r} was given.")
    torch.set_num_threads(1)
    rarities = [EVERYTHING if r in ("340", EVERYTHING) else r for r in given.rarity]
    if given.what == "table":
        for rarity in rarities:
            found = results(rarity, given.folder)
            print(f"{given.measure}, high ads to learn from: {rarity}")
            print(as_text(intervals.table(found, measure=given.measure, simultaneous=not given.plain)))
        return
    try:
        run(given.seed, given.arms, rarities, given.device, given.folder)
    except ValueError as error:  # more high ads than there are, say
        parser.error(str(error))


if __name__ == "__main__":
    main()
