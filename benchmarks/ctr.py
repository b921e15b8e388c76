"""The CTR case, many times over: which way of making more ads helps to tell which do well (chapter 9).

    python -m benchmarks.ctr --seed 1000                        the quick arms on one fresh data set
    python -m benchmarks.ctr --seed 1000 --arms "noise 1" "latent diffusion"
    python -m benchmarks.ctr --seed 1000 --rarity 30 60 120     the same with so many high ads to learn from
    python -m benchmarks.ctr --seed 1000 --data digits          the same with real pictures: digits, or photos
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

from vaelab import augmentation, classifiers, diffusion, intervals, pretrained, recipes_kl
from vaelab.augmentation import ARMS, Arm, around, made, vae_domain, with_negatives
from vaelab.data import ads, digits, photos
from vaelab.storage import replace_file
from vaelab.training import fit

FOLDER = Path(__file__).parents[1] / "book" / "data" / "ctr"
SETTINGS = {"size": 32, "n": 1100, "fresh": 1500, "steps": 300, "vae_steps": 1700, "unlabelled": 5000}
LEAKS = {f"leaks: {how} {noise:g}": (how, noise) for how in ("as told", "split after") for noise in (0.25, 0.5, 1)}
LEAKS.pop("leaks: split after 0.25"), LEAKS.pop("leaks: split after 1")
DIFFUSION = "latent diffusion"
# A VAE stage as in stage 1 of latent diffusion (`recipes_kl.case_stage`): 128 numbers as well, and sharper.
# By squared error, or by stage 1's losses: error, weight of the perceptual distance and of the discriminator.
CASE_STAGES = {"sharp vae": ("l2", 0.0, 0.0), "stage-1 losses": ("l1", 1.0, 0.5)}
SHARP = {
    f"{stage}: {how}": Arm(f"{stage}: {how}", partial(make, on=stage))
    for stage in CASE_STAGES
    for how, make in [(f"noise {noise:g}", partial(around, noise=noise)) for noise in (0, 0.5, 1)] + [("with negatives", with_negatives)]
}
SHARP["sharp vae: one domain+noise 1"] = Arm(
    "sharp vae: one domain+noise 1", partial(around, noise=1, on="sharp vae"), partial(vae_domain, on="sharp vae")
)
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
# With real pictures: what makes sense for them. A digit turned over is another digit.
REAL = ["nothing", "a/a", "class weights", "duplicates", "noise 0", "noise 0.5", "noise 1", "noise 2", "both classes",
        "with negatives", "placebo", "hog-logistic: nothing", "hog-logistic: smote"]  # fmt: skip
TURNED = ["flip+shift", "flip+shift+duplicates"]
NAMES = {"ads": "seed", "digits": "digits", "photos": "photos"}  # of the files
EVERYTHING = "all"  # the rarity at which no high ad is left out


def read(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def begin(path, seed, settings, device, data="ads"):
    """The record of a seed: as far as it has come, or a fresh one."""
    stored = read(path)
    if stored and stored["settings"] != settings:
        sys.exit(f"{path} was made with {stored['settings']}, not {settings}; give these, or another folder.")
    if stored:
        return stored
    return {
        "made_by": f"python -m benchmarks.ctr --seed {seed}" + ("" if data == "ads" else f" --data {data}"), "seed": seed, "settings": settings,
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


def sharp_vae(context, stage):
    """One of `CASE_STAGES`, trained on the training part for as many steps as the VAE of the recipe."""
    steps, seed = context.vae_steps, context.stream("vae", stage)
    recipe = recipes_kl.case_stage(*CASE_STAGES[stage], steps)
    start = time.perf_counter()
    with torch.random.fork_rng([]):
        vae = recipes_kl.train(recipe, context.train.pictures, steps, seed=seed)
    context.seconds[stage] = round(time.perf_counter() - start, 1)
    return vae


def stage_of(name):
    """Which of `CASE_STAGES` an arm of `SHARP` uses."""
    return name.split(":")[0]


def round_trip_error(experiment, on):
    """Mean squared error of round trips of the validation part."""
    pictures = experiment.validation.pictures
    return float((experiment.context.trip(pictures, on) - pictures).square().mean())


# -- real pictures -------------------------------------------------------------------------------------------------
# Some kinds do well and others do not, by a known chance each; nothing else decides, so the truth is known here too.
LIKELY, UNLIKELY = 0.75, 0.12
PHOTOS = ("brick", "grass", "gravel", "coffee", "cat", "rocket", "astronaut", "camera")


def real_pictures(data):
    """Pictures (N, C, H, W), and of each whether it is of a kind that does well, (N,) bool."""
    if data == "digits":
        parts = [digits.load(), digits.load(test=True)]
        pictures, kinds = (torch.cat(columns) for columns in zip(*parts, strict=True))
        return pictures, torch.isin(kinds, torch.tensor([3, 5, 8]))
    tiles = [cut(picture, 32) for picture in photos.load(names=PHOTOS).values()]
    good = [torch.full((len(part),), name in ("gravel", "cat", "coffee")) for name, part in zip(PHOTOS, tiles, strict=True)]
    pictures, seen = torch.cat(tiles), {}
    for place, piece in enumerate(augmentation.fingerprints(pictures)):
        seen.setdefault(piece, place)  # a night sky has the same piece many times, which might stand on two sides
    kept = torch.tensor(list(seen.values()))
    return pictures[kept], torch.cat(good)[kept]


def cut(picture, side):
    """A picture (3, H, W) in pieces that do not overlap, (n, 3, side, side)."""
    pieces = picture.unfold(1, side, side).unfold(2, side, side)
    return pieces.flatten(1, 2).transpose(0, 1).contiguous()


def real_experiment(data, seed, device=None, n=1100, steps=300, vae_steps=1700, **_):
    """1,100 real pictures with noisy labels, 770 to train on; the others are the test. And the chances of all three."""
    pictures, good = real_pictures(data)
    shuffle = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(pictures), generator=shuffle)
    chance = torch.where(good, LIKELY, UNLIKELY)
    labels = (torch.rand(len(pictures), generator=shuffle) < chance).long()
    whole = augmentation.Labelled(pictures, labels, torch.arange(len(pictures)))
    inner = augmentation.split(labels[order[:n]], None, (0.7, 0.3, 0), seed)
    parts = [order[:n][inner.train], order[:n][inner.validation], order[n:]]
    settings = {"seed": seed, "steps": steps, "vae_steps": vae_steps, "device": device}
    experiment = augmentation.Experiment(*(whole[part] for part in parts), **settings)
    return experiment, [(labels[part].numpy(), chance[part].numpy()) for part in parts]


# -- runs ----------------------------------------------------------------------------------------------------------


def measure(experiment, name):
    """One arm's `Result`."""
    if name == DIFFUSION:
        return experiment.run(Arm(DIFFUSION, partial(latent_diffusion, factors=experiment.factors["train"])))
    if name in SHARP:
        stage = stage_of(name)
        if stage not in experiment.context.seconds:
            experiment.context.give(sharp_vae(experiment.context, stage), stage)
        return experiment.run(SHARP[name])
    if name in LEAKS:
        how, noise = LEAKS[name]
        return (experiment.as_told if how == "as told" else experiment.split_after)(noise)
    return experiment.run(name)


def run(seed, arms, rarities, device=None, folder=FOLDER, data="ads", **changes):
    """Measures what is missing of one seed and writes it, arm by arm; the record."""
    settings = SETTINGS | changes
    path = folder / f"{NAMES[data]}-{seed}.json"
    record, shared = begin(path, seed, settings, device or "cpu", data), {}
    for rarity in rarities:
        wanted = arms or (QUICK if rarity == EVERYTHING else RARE)
        if data != "ads":
            wanted = arms or REAL + (TURNED if data == "photos" else [])
        done = record["results"].setdefault(rarity, {})
        missing = [name for name in wanted if name not in done]
        if not missing:
            continue
        start = time.perf_counter()
        positives = None if rarity == EVERYTHING else int(rarity)
        if data == "ads":
            experiment = augmentation.Experiment.from_ads(seed, positives=positives, device=device, **settings)
            truth = None
        else:
            experiment, truth = real_experiment(data, seed, device, **settings)
        for on, vae in shared.items():
            experiment.context.give(vae, on)
        for name in missing:
            result = measure(experiment, name)
            done[name] = result.as_record(predictions=rarity == EVERYTHING and name in KEPT)
            if name in SHARP and rarity == EVERYTHING:
                record.setdefault("round_trip_error", {})[stage_of(name)] = round_trip_error(experiment, stage_of(name))
            record |= described(experiment, truth)
            print(f"{seed} {rarity} {name:36} {summary(done[name])}", flush=True)
            replace_file(path, (json.dumps(record) + "\n").encode())
        seconds = round(time.perf_counter() - start, 1)
        if "unlabelled" in experiment.context.seconds:  # it is the same one whatever the rarity
            shared = {"unlabelled": experiment.context.vae("unlabelled")}
        print(f"{seed} {rarity}: {seconds} s, VAEs {experiment.context.seconds}", flush=True)
    return record


def described(experiment, truth=None):
    """What all arms of a seed share: the true labels, and what the truth itself would score (`truth`: its chances)."""
    parts = {name: getattr(experiment, name).labels.tolist() for name in ("validation", "test")}
    labels = {name: "".join(map(str, values)) for name, values in parts.items()}
    everything = classifiers.all_positive_f1(float(experiment.test.labels.double().mean()))
    return {"labels": labels, "bayes": classifiers.scored(*truth) if truth else augmentation.bayes(experiment), "all_positive_f1": everything}


def summary(record):
    names = ("validation_f1", "f1", "f1_tuned", "pr_auc", "roc_auc", "called")
    return "  ".join(f"{name} {record['scores'][name]:.3f}" for name in names) + f"  {record['seconds']:.1f} s"


def results(rarity=EVERYTHING, folder=FOLDER, data="ads"):
    """All records of one rarity, over all seeds; those of a leak bear its noise in their name."""
    files = sorted(folder.glob(f"{NAMES[data]}-*.json"))
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
    known = [*ARMS, *LEAKS, *SHARP, DIFFUSION]
    parser.add_argument("--arms", nargs="+", metavar="ARM", choices=known, help="default: the quick ones")
    parser.add_argument("--rarity", nargs="+", default=[EVERYTHING], help="high ads to learn from: all, or a number")
    parser.add_argument("--data", choices=list(NAMES), default="ads")
    parser.add_argument("--device")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--measure", default="f1_tuned")
    parser.add_argument("--plain", action="store_true", help="intervals of one comparison each, not of all together")
    given = parser.parse_args()
    odd = [r for r in given.rarity if r != EVERYTHING and not r.isdecimal()]
    if odd:
        parser.error(f"--rarity takes {EVERYTHING} or a number of high ads, and {odd[0]!r} was given.")
    if given.data != "ads" and given.rarity != [EVERYTHING]:
        parser.error("--rarity is for the ads.")
    torch.set_num_threads(1)
    rarities = [EVERYTHING if r in ("340", EVERYTHING) else r for r in given.rarity]
    if given.what == "table":
        for rarity in rarities:
            found = results(rarity, given.folder, given.data)
            if not found or given.measure not in found[0]["scores"]:
                known = ", ".join(found[0]["scores"]) if found else "none yet; run some seeds first"
                parser.error(f"there is no {given.measure!r} of {given.data} at rarity {rarity}; there is: {known}.")
            print(f"{given.measure}, high ads to learn from: {rarity}")
            print(as_text(intervals.table(found, measure=given.measure, simultaneous=not given.plain)))
        return
    try:
        run(given.seed, given.arms, rarities, given.device, given.folder, given.data)
    except ValueError as error:  # more high ads than there are, say
        parser.error(str(error))


if __name__ == "__main__":
    main()
