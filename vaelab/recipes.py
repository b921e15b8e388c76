"""How every shipped checkpoint is made: `python -m vaelab.recipes NAME …` (or `all`), resumable, from fixed seeds.

A chapter trains what takes seconds; what takes minutes is made here once, and the chapter loads it.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from vaelab import augmentation, features, models, recipes_kl, storage
from vaelab.data import ads, digits, journeys
from vaelab.objectives import BetaObjective
from vaelab.storage import CHECKPOINTS
from vaelab.training import evaluate, fit

ADS, PRODUCT_VIEWS = 4000, 2500


def ad_pictures(share=1.0):
    """The client's archive for training: 4,000 ads at 64 px, `(N, 3, 64, 64)`."""
    return ads.render(ads.sample_factors(math.ceil(ADS * share), seed=100))


def held_out_ads(n=500):
    return ads.render(ads.sample_factors(n, seed=200))


def product_pictures(share=1.0, seed=100):
    """The small world: a can of soda in four flavours, by day and by night; nothing else varies."""
    flavour, light = np.random.default_rng(seed).spawn(2)
    n = math.ceil(PRODUCT_VIEWS * share)
    return ads.render_one_product(flavour.integers(0, len(ads.FLAVOURS), n), np.full(n, 0.5), light.random(n))


def held_out_product(n=500):
    return product_pictures(n / PRODUCT_VIEWS, seed=200)


def digit_pictures(share=1.0):
    """scikit-learn's training digits, 8×8; all of them at every scale."""
    return digits.load()[0]


def held_out_digits():
    return digits.load(test=True)[0]


@dataclass(frozen=True)
class Recipe:
    """One checkpoint: which model (arguments of `models.build`), on which pictures, for how long."""

    model: dict
    pictures: Callable
    held_out: Callable
    steps: int
    objective: BetaObjective = field(default_factory=BetaObjective)
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0


def on_product(model, beta=1.0):
    """Two coordinates. On 12,288 colour values a KL at its true price is a whisper, so the VAE gets a β."""
    settings = {"model": model, "shape": (3, 64, 64), "latent": 2, "channels": (16, 32, 48, 64)}
    return Recipe(settings, product_pictures, held_out_product, 2500, BetaObjective(beta), learning_rate=3e-3)


def on_digits(model, beta=1.0, **options):
    settings = {"model": model, "shape": (1, 8, 8), "latent": 2, "kind": "mlp", "channels": (128, 64)} | options
    return Recipe(
        settings, digit_pictures, held_out_digits, 4000, BetaObjective(beta, warmup=1000), batch_size=64
    )


def style_pictures(share=1.0, seed=100):
    """Key visuals: every product of the client in every theme and palette, in the middle, without words or props."""
    fixed = {"scale": 0.62, "position": "centre", "offset": 0.0, "background": "scene", "headline": "none"}
    fixed |= {"badge": False, "face": False, "call_to_action": False, "clutter": 0}
    return ads.render(ads.sample_factors(math.ceil(ADS * share), seed, **fixed))


def held_out_styles(n=500):
    return style_pictures(n / ADS, seed=200)


def journey_pictures(share=1.0, size=64, seed=100, n=ADS, ends_only=False):
    """Key visuals on their way to a campaign; `ends_only`: finished ones alone, without what lies between."""
    return journeys.render(journeys.sample(math.ceil(n * share), seed, ends_only), size)


def held_out_journeys(n=300, size=64):
    return journey_pictures(size=size, seed=200, n=n)


def case_pictures(share=1.0, part=slice(None, 770), n=1100):
    """The training part of the click case, 770 of its 1,100 ads (drawn in random order, so the first ones will do)."""
    return ads.render(ads.sample_factors(n, seed=0)[part][: math.ceil(770 * share)])


def held_out_case():
    return case_pictures(part=slice(770, None))


def on_journeys(model, beta=1.0, ends_only=False):
    settings = {"model": model, "shape": (3, 64, 64), "latent": 8, "channels": (16, 32, 64, 64)}
    pictures = partial(journey_pictures, ends_only=ends_only)
    return Recipe(settings, pictures, held_out_journeys, 2500, BetaObjective(beta, warmup=300))


def large_journeys():
    """The strip that a creative director is shown: 128 px, and time."""
    settings = {"model": "vae", "shape": (3, 128, 128), "latent": 8, "channels": (16, 32, 64, 96, 128)}
    pictures, held_out = partial(journey_pictures, size=128, n=5000), partial(held_out_journeys, size=128)
    return Recipe(settings, pictures, held_out, 8000, BetaObjective(warmup=300))


def on_ads(model, latent):
    settings = {"model": model, "shape": (3, 64, 64), "latent": latent, "channels": (16, 32, 64, 64)}
    return Recipe(settings, ad_pictures, held_out_ads, 2500, BetaObjective(warmup=600))


RECIPES = {
    "ae-product-2": on_product("autoencoder"),
    "vae-product-2": on_product("vae", beta=30.0),
    "ae-digits-2": on_digits("autoencoder"),
    "vae-digits-2": on_digits("vae"),
    "vae-digits-2-loose": on_digits("vae", beta=0.1, sigma=0.1, learned=False),
    "vae-digits-2-tight": on_digits("vae", beta=10.0, sigma=0.1, learned=False),
    "vae-ads-2": on_ads("vae", 2),
    "vae-ads-16": on_ads("vae", 16),
    "vae-ads-128": on_ads("vae", 128),
    "ae-ads-128": on_ads("autoencoder", 128),
    "vae-style-32": replace(on_ads("vae", 32), pictures=style_pictures, held_out=held_out_styles),
    "vae-journey-128px": large_journeys(),
    "ae-journey": on_journeys("autoencoder"),
    "vae-journey": on_journeys("vae"),
    "vae-journey-beta-10": on_journeys("vae", 10.0),
    "vae-journey-beta-100": on_journeys("vae", 100.0),
    "vae-journey-ends": on_journeys("vae", ends_only=True),
    "vae-case-32px": Recipe(
        {"model": "vae", "shape": (3, 32, 32), "latent": augmentation.LATENT, "channels": augmentation.WIDTHS},
        recipes_kl.click_case, partial(recipes_kl.click_case, part="validation"), 1700, BetaObjective(warmup=425),
        batch_size=16,
    ),
    "vae-case-128": replace(on_ads("vae", 128), pictures=case_pictures, held_out=held_out_case),
}


def shipped(name):
    """The model `name` as it comes with vaelab."""
    return models.load(CHECKPOINTS / f"{name}.safetensors")


def make(name, folder=CHECKPOINTS, share=1.0):
    """Trains the model `name` and writes it to `folder`; `share` shortens pictures and steps alike (for tests)."""
    recipe = RECIPES[name]
    torch.manual_seed(recipe.seed)
    model = models.build(**recipe.model)
    state = Path(folder) / f".{name}.state"
    fit(
        model,
        recipe.pictures(share),
        steps=math.ceil(recipe.steps * share),
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        objective=recipe.objective,
        ema=0.99,
        seed=recipe.seed,
        checkpoint=state,
    )
    scores = held_out_scores(model, recipe.held_out())
    record = {"config": model.config, "beta": recipe.objective.beta, "held_out": scores}
    record["made_by"] = f"python -m vaelab.recipes {name}"
    path = storage.write(Path(folder) / f"{name}.safetensors", storage.to_half(model.state_dict()), record)
    state.unlink(missing_ok=True)
    return path, scores


def held_out_scores(model, pictures):
    """Nats per held-out picture, and the mean squared error of the round trip."""
    elbo = evaluate(model, pictures)
    with torch.no_grad():
        error = F.mse_loss(model.reconstruct(pictures), pictures)
    return {"elbo": float(elbo.value), "kl": float(elbo.kl), "mean_squared_error": float(error)}


def make_reader(folder=CHECKPOINTS, share=1.0, seed=0):
    """Trains the reader of ads, on fresh ads of both markets."""
    count = math.ceil(8000 * share)
    factors = [ads.sample_factors(count, 300, "client"), ads.sample_factors(count // 4, 301, "open")]
    pictures = torch.cat([ads.render(part) for part in factors])
    truth = [features.targets(part) for part in factors]
    truth = {name: torch.cat([part[name] for part in truth]) for name in truth[0]}
    fresh = ads.sample_factors(1000, 302, "client")
    return _make_reader("reader", pictures, truth, ads.render(fresh), features.targets(fresh), folder, share, seed)


def make_journey_reader(folder=CHECKPOINTS, share=1.0, seed=0):
    """Trains the reader of key visuals on their way to a campaign, on fresh ones."""
    known, fresh = journeys.sample(math.ceil(6000 * share), 300), journeys.sample(1000, 302)
    pictures, truth = (journeys.render(known, 64), features.journey_targets(known))
    test, answers = (journeys.render(fresh, 64), features.journey_targets(fresh))
    return _make_reader("journey-reader", pictures, truth, test, answers, folder, share, seed)


def _make_reader(name, pictures, truth, held_out, answers, folder, share, seed):
    """Trains a reader on pictures, half of them blurred, scores it on held-out ones, and writes it."""
    torch.manual_seed(seed)
    reader = features.FactorReader(*features.FACTORS.get(name, features.FACTORS["reader"]))
    reader.offset.copy_(truth["numbers"].mean(0))
    reader.spread.copy_(truth["numbers"].std(0))
    train_reader(reader, pictures, truth, math.ceil(2500 * share))
    scores = features.held_out_scores(reader, held_out, answers)
    record = {"made_by": f"python -m vaelab.recipes {name}", "held_out": scores}
    path = storage.write(Path(folder) / f"{name}.safetensors", storage.to_half(reader.state_dict()), record)
    return path, scores


def make_perceptual(folder=CHECKPOINTS, share=1.0):
    """Trains the network whose features stage 1 is charged by: as the reader of ads, on other ads, from another seed."""
    known, fresh = (ads.sample_factors(math.ceil(n), seed) for n, seed in ((3000 * share, 400), (500, 402)))
    pictures, answers = (ads.render(known), features.targets(known)), (ads.render(fresh), features.targets(fresh))
    return _make_reader("perceptual", *pictures, *answers, folder, 0.3 * share, seed=1)


READERS = {"reader": make_reader, "journey-reader": make_journey_reader}


def train_reader(reader, pictures, truth, steps, batch_size=64):
    """Cross-entropy for words and for whole or broken, squared error in standard units for numbers."""
    from tqdm import trange

    optimizer = torch.optim.AdamW(reader.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in trange(steps, unit="step", leave=False):
        batch = torch.randint(len(pictures), (batch_size,))
        shown = torch.cat([pictures[batch], double_exposed(pictures[batch])[: batch_size // 2]])
        answer = reader(roughen(shown))
        whole = (torch.arange(len(shown)) < batch_size).long()
        loss = F.cross_entropy(answer.pop("whole"), whole)
        standard = (truth["numbers"][batch] - reader.offset) / reader.spread
        loss = loss + F.mse_loss(answer.pop("numbers")[:batch_size], standard)
        loss = loss + sum(
            F.cross_entropy(logits[:batch_size], truth[name][batch]) for name, logits in answer.items()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    reader.eval()


def double_exposed(pictures):
    """Broken pictures: each ad shows through another one, or two, in soft random patches."""
    mixed = pictures
    for rounds in (1, 2):
        size = int(torch.randint(2, 9, ()))
        mask = F.interpolate(
            torch.rand(len(pictures), 1, size, size), pictures.shape[-2:], mode="bicubic"
        ).clamp(0, 1)
        blend = mask * mixed + (1 - mask) * pictures.roll(rounds, 0)
        mixed = torch.where(torch.rand(len(pictures), 1, 1, 1) < 1 / rounds, blend, mixed)
    return mixed


def roughen(pictures):
    """Every other picture blurred as by a VAE, by going down to 1/2, 1/3 or 1/6 of the size and back; some noise."""
    scale = (1 / 2, 1 / 3, 1 / 6)[int(torch.randint(3, ()))]
    small = F.interpolate(pictures[::2], scale_factor=scale, mode="bilinear", antialias=True)
    rough = pictures.clone()
    rough[::2] = F.interpolate(small, pictures.shape[-2:], mode="bicubic")
    return (rough + 0.02 * torch.randn_like(rough)).clamp(0, 1)


def main():
    parser = argparse.ArgumentParser(prog="python -m vaelab.recipes", description=__doc__)
    makers = READERS | {"perceptual": make_perceptual} | {name: partial(make, name) for name in RECIPES} | recipes_kl.MAKERS
    parser.add_argument("names", nargs="+", choices=[*makers, "all"], metavar="NAME")
    names = parser.parse_args().names
    torch.set_num_threads(1)  # the figures then do not depend on how many cores there are
    for name in makers if "all" in names else names:
        path, scores = makers[name]()
        size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))
        print(path.name, f"{size / 1e6:.2f} MB", {k: round(v, 4) for k, v in scores.items()}, flush=True)


if __name__ == "__main__":
    main()
