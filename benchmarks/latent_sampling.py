"""What latent diffusion draws, held against chapter 5's rulers: `book/data/latent-sampling.json`.

    python -m benchmarks.latent_sampling             400 pictures a row, by steps, guidance and where the latents come from
    python -m benchmarks.latent_sampling --rows NAME …  these rows again

All rows are compared with the same 400 ads that no network has seen; the told ones are told what these show. Whether
they are copies is asked of all ads that stage 2 learned from, against as many that it did not. "Another
theme": the ads with the theme of another 400, by words, or halfway to these on the way between two latents. Each row is
stored as soon as it is done; a second call goes on where the first stopped, and begins anew if a checkpoint
changed. 20 minutes of one thread.
"""

import argparse
import hashlib
import json
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F
from tqdm import trange

from vaelab import diffusion, features, metrics, novelty, preservation, pretrained, recipes_kl
from vaelab.data import ads, prompts
from vaelab.recipes import shipped

RESULTS = Path(__file__).parents[1] / "book" / "data" / "latent-sampling.json"
STAGE, MODEL, N, BATCH = "kl-f4-c4-64px", "ldm-ads.safetensors", 400, 25
SEEDS = {"real": 700, "other": 701, "held_out": 702, "archive": 100, "palettes": 800, "noise": 0}
ARCHIVE, FITTED = recipes_kl.DIFFUSION_ADS, 2000  # ads that stage 2 learned from, and of these: for the Gaussian
SHAPE = (4, 16, 16)  # of the latents
KEPT = 24  # pictures of each row whose words are stored, for the chapter to compare with
DRAWN = {
    **{f"{steps} steps": {"steps": steps} for steps in (5, 10, 20, 50)},
    **{f"guidance {g}": {"steps": 20, "guidance": float(g)} for g in (2, 4)},
    "told nothing": {"steps": 20, "told": False},
    "another theme, by words": {"steps": 20},
}
CHAPTER5, CHAPTER4 = "vae-case-128", "vae-ads-128"  # their codes are addresses, not maps
HALFWAY = ("another theme, halfway", "another theme, halfway in chapter 4")
MADE = ("other real ads", "round trips", "N(0, I)", "one Gaussian", "chapter 5", *DRAWN, *HALFWAY)
THEME = 1  # its place among the words
SPREAD = tuple(f"spread {g}" for g in (0, 1, 2, 4))  # four prompts of two words, 50 seeds each
SHORT = ("a can in summer", "a jar in winter", "a bottle at harvest", "a tube for everyday")
FIXED = ("position", "headline", "badge", "call_to_action", "face")  # what no prompt can ask for


@cache
def stage():
    return pretrained.load(STAGE)


@cache
def model():
    return diffusion.load(pretrained.CHECKPOINTS / MODEL)


@cache
def factors(name):
    count = {"archive": ARCHIVE, "held_out": ARCHIVE, "palettes": 600}.get(name, N)
    return ads.sample_factors(count, SEEDS[name])


@cache
def pictures(name):
    return ads.render(factors(name))


@torch.no_grad()
def draw(n=N, words=None, steps=20, guidance=1.0):
    """`n` ads from noise, in batches that each have a seed of their own, so that a part can be drawn again."""
    drawn = []
    for start in trange(0, n, BATCH, leave=False):
        noise = torch.Generator().manual_seed(SEEDS["noise"] + start)
        said = None if words is None else words[start : start + BATCH]
        drawn.append(
            diffusion.paint(
                stage(),
                model(),
                min(BATCH, n - start),
                steps=steps,
                words=said,
                guidance=guidance,
                generator=noise,
            )
        )
    return torch.cat(drawn)


@torch.no_grad()
def in_batches(function, values):
    return torch.cat([function(part) for part in values.split(BATCH)])


@torch.no_grad()
def made(name):
    """The pictures of one row."""
    if name in DRAWN:
        settings = dict(DRAWN[name])
        return draw(words=asked_for(name) if settings.pop("told", True) else None, **settings)
    if name in HALFWAY:
        return halfway(stage() if name == HALFWAY[0] else shipped(CHAPTER4))
    if name == "chapter 5":
        return shipped(CHAPTER5).sample(N, torch.Generator().manual_seed(SEEDS["noise"]))
    if name == "other real ads":
        return pictures("other")
    if name == "round trips":
        return in_batches(stage().reconstruct, pictures("other")).clamp(0, 1)
    noise = torch.randn(N, *SHAPE, generator=torch.Generator().manual_seed(SEEDS["noise"]))
    raw = noise if name == "N(0, I)" else one_gaussian(noise)
    return in_batches(stage().paint, raw).clamp(0, 1)


def asked_for(name):
    """The words `(N, 4)` that the pictures of a row are to show: those of the real ads, or another's theme."""
    words = prompts.words_of(factors("real"))
    if name.startswith("another theme"):
        words[:, THEME] = prompts.words_of(factors("other"))[:, THEME]
    return words


def halfway(vae):
    """The middle of the way between the codes of each ad and of the one with the other theme, decoded."""
    codes = [in_batches(lambda x: vae.encode(x).mean, pictures(name)) for name in ("real", "other")]
    return in_batches(lambda z: vae.decode(z).mean, sum(codes) / 2).clamp(0, 1)


def one_gaussian(noise):
    """Draws of the Gaussian with mean and covariance of the latents of 2,000 archive ads."""
    codes = in_batches(stage().code, pictures("archive")[:FITTED]).flatten(1).double()
    values, axes = torch.linalg.eigh(torch.cov(codes.T))
    draws = noise.flatten(1).double() * values.clamp(min=0).sqrt() @ axes.T + codes.mean(0)
    return draws.float().view_as(noise)


@cache
def palette_judge():
    """Reads the palette off a 4×4 thumbnail, which the factor reader cannot do."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return LinearDiscriminantAnalysis().fit(thumbnail(pictures("palettes")), factors("palettes").palette)


def thumbnail(x):
    """Colours of a 4×4 thumbnail, and of the middle of the upper edge."""
    edge = x[:, :, : x.shape[-1] // 16].flatten(2).median(2).values
    return torch.cat([F.adaptive_avg_pool2d(x, 4).flatten(1), edge], 1).numpy()


def obtained(x):
    """The words of the prompt that pictures show, as judges read them, `(N, 4)`, counted from 1."""
    read = features.reader().read(x)
    palette = torch.from_numpy(palette_judge().predict(thumbnail(x)))
    return (
        torch.stack(
            [read["product"].argmax(1), read["theme"].argmax(1), palette, read["background"].argmax(1)], 1
        )
        + 1
    )


def changed_words(x, real):
    """For how many words of the factors that no prompt asks for the share has changed for sure."""
    a, b = features.reader().read(real), features.reader().read(x)
    shares = [preservation.compare_shares(a[name].argmax(1), b[name].argmax(1)) for name in FIXED]
    return sum(int(((s.low > 0) | (s.high < 0)).sum()) for s in shares), sum(len(s.low) for s in shares)


@cache
def thumbprints(name):
    return novelty.as_features(pictures(name))


def described(x):
    """What the reader sees, in units that make chapter 5's archive 1 in size: its rulers have these units too."""
    return features.describe(x) / unit()


@cache
def unit():
    return features.describe(ads.render(ads.sample_factors(770, seed=0))).square().mean().sqrt()


def measured(name):
    """One row: how far from real ads, how new, and whether the words were heard."""
    x, real = made(name), pictures("real")
    seen, target = described(x), described(real)
    distance, near = (
        metrics.frechet_without_bias(target, seen, seed=0),
        metrics.precision_recall(target, seen),
    )
    kernel = metrics.kid(target, seen)
    new = novelty.novelty(x, thumbprints("archive"), thumbprints("held_out"))
    words, asked = obtained(x), asked_for(name)
    changed, of = changed_words(x, real)
    return {
        "name": name, "n": len(x), "frechet": metrics.frechet(target, seen).value, "frechet_limit": distance.limit,
        "kid": kernel.value, "kid_error": kernel.standard_error, "precision": near.precision, "recall": near.recall,
        "ratio": list(new.ratio), "copies": new.copies, "changed_words": changed, "of_words": of,
        "heard": (words == asked).double().mean(0).tolist(), "whole": float((features.reader().wholeness(x) > 0.5).double().mean()),
        "read": words[:KEPT].tolist(),
    }  # fmt: skip


def spread(name):
    """Four short prompts with 50 seeds each: how often they are heard, and how varied the answers are (0: real ads)."""
    guidance = float(name.split()[1])
    found = {"name": name, "guidance": guidance, "heard": [], "variety": []}
    for text in SHORT:
        words = prompts.prompt(text)
        wanted = {"product": int(words[0]) - 1, "theme": int(words[1]) - 1}
        real, other = (ads.render(ads.sample_factors(50, seed, **wanted)) for seed in (703, 704))
        x = draw(50, words.expand(50, -1), 20, guidance) if guidance else other
        heard = (obtained(x) == words)[:, words > 0].all(1)
        found["heard"].append(float(heard.double().mean()))
        found["variety"].append(variety(x) / variety(real))
    return found | {"prompts": list(SHORT), "n": 50}


def variety(x):
    """The mean distance between two of the pictures, in what the reader sees."""
    return float(torch.pdist(described(x)).mean())


def digest(name):
    """Of the checkpoints that a row depends on: a row of another is made again."""
    alone = {"chapter 5": CHAPTER5, HALFWAY[1]: CHAPTER4}
    if name in alone:
        return hashlib.sha256((pretrained.CHECKPOINTS / f"{alone[name]}.safetensors").read_bytes()).hexdigest()[:16]
    files = [pretrained.CHECKPOINTS / STAGE / pretrained.WEIGHTS]
    files += [pretrained.CHECKPOINTS / MODEL] if name in DRAWN or name in SPREAD[1:] else []
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latent_sampling", description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=[*MADE, *SPREAD], default=[])
    asked = parser.parse_args().rows
    torch.set_num_threads(1)
    record = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"rows": {}}
    record |= {"made_by": "python -m benchmarks.latent_sampling", "seeds": SEEDS}
    for name in asked or [*MADE, *SPREAD]:
        own = digest(name)
        if name in asked or record["rows"].get(name, {}).get("checkpoints") != own:
            row = spread(name) if name in SPREAD else measured(name)
            record["rows"][name] = {"checkpoints": own} | row
            print({key: value for key, value in row.items() if key != "read"}, flush=True)
            aside = RESULTS.with_suffix(".tmp")
            aside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            aside.replace(RESULTS)


if __name__ == "__main__":
    main()
