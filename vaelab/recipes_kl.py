"""How the parts of latent diffusion that ship were made: `python -m vaelab.recipes kl-f4-c4 …`, from fixed seeds.

They are small for their kind (0.2 to 0.9 M parameters). A stage takes half an hour of one slow core, and learns from
cut-outs: these networks see neighbourhoods only, so what they learn on 64 pixels serves any size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from vaelab import augmentation, diffusion, features, stage1, storage
from vaelab.autoencoder_kl import DOWN, UP, AutoencoderKL, ResnetBlock
from vaelab.data import ads, photos, prompts
from vaelab.muon import Muon
from vaelab.storage import CHECKPOINTS
from vaelab.training import adamw, evaluate, fit

# Photographs that a VAE stage learns from. The face, the pages, brick, grass and gravel are never among them.
PHOTOS = ("camera", "cat", "coffee", "coins", "rocket")
ADS, CUTS, PATCH, WHOLE_ADS = 3000, 4, 64, 4000
DIFFUSION_ADS, DIFFUSION_STEPS, DIFFUSION_BATCH = 12000, 4500, 256


def cut_outs(share=1.0, seed=100):
    """What a VAE stage learns from: 12,000 pieces of ads of 128 px, 3,000 of photographs; `(N, 3, 64, 64)` uint8."""
    count = math.ceil(ADS * share)
    pictures = (255 * ads.render(ads.sample_factors(count, seed), 2 * PATCH)).round().byte()
    corners = torch.randint(PATCH + 1, (CUTS, count, 2), generator=torch.Generator().manual_seed(seed)).tolist()
    pieces = [
        picture[:, top : top + PATCH, left : left + PATCH]
        for places in corners
        for picture, (top, left) in zip(pictures, places, strict=True)
    ]
    real = (255 * photos.patches(count, PATCH, seed, PHOTOS)).round().byte()
    return torch.cat([torch.stack(pieces), real])


def held_out_ads(n=100, size=2 * PATCH):
    """Ads of another seed, whole, `(n, 3, size, size)`."""
    return ads.render(ads.sample_factors(n, seed=200), size)


def whole_ads(share=1.0, size=PATCH):
    """Ads, whole: what the stage of the small latent diffusion is tuned on."""
    return (255 * ads.render(ads.sample_factors(math.ceil(WHOLE_ADS * share), 100), size)).round().byte()


def click_case(share=1.0, part="train"):
    """One part of data set 1000 of `benchmarks.ctr`, 32 px, in [0, 1]: what chapter 9 does live."""
    experiment = augmentation.Experiment.from_ads(1000, fresh=50)  # its training part does not depend on the test ads
    return getattr(experiment, part).pictures[: math.ceil(770 * share)]


def click_case_bytes(share=1.0):
    return (255 * click_case(share)).round().byte()


@dataclass(frozen=True)
class StageRecipe:
    """One VAE stage: its widths (their number sets the factor), its channels, what it is trained by, and how long.

    `start`: the stage whose weights it begins with; such a one is tuned, as SD's ft-MSE was from SD's first VAE.
    """

    widths: tuple
    channels: int
    steps: int = 3000
    objective: stage1.Stage1Objective = field(default_factory=stage1.Stage1Objective)  # KL at 0.01
    error: str = "l2"
    start: str = ""
    optimizer: Callable = Muon
    learning_rate: float = 0.02
    batch_size: int = 8
    sigma: float | None = None  # a number: fixed there
    adaptive: bool = True  # the weight of the discriminator
    pictures: Callable = cut_outs
    size: int = 2 * PATCH  # of the held-out ads

    def build(self, seed=0):
        """The untrained stage, with clouds that start small: at the usual start, noise drowns the first addresses.

        One group in its norms: with eight, brightness gets lost, and it learns slowly.
        """
        torch.manual_seed(seed)
        levels = len(self.widths)
        vae = AutoencoderKL(
            block_out_channels=self.widths,
            down_block_types=(DOWN,) * levels,
            up_block_types=(UP,) * levels,
            latent_channels=self.channels,
            norm_num_groups=1,
            sample_size=2 * PATCH,
            use_quant_conv=False,
            use_post_quant_conv=False,
            mid_block_add_attention=False,
        )
        with torch.no_grad():
            vae.encoder.conv_out.weight[self.channels :] *= 0.1
            vae.encoder.conv_out.bias[self.channels :] = -8.0
        return vae


STAGES = {
    "kl-f4-c4": StageRecipe((16, 32, 32), 4),
    "kl-f4-c16": StageRecipe((16, 32, 32), 16),
    "kl-f8-c4": StageRecipe((16, 32, 32, 32), 4),
    "kl-f8-c16": StageRecipe((16, 32, 32, 32), 16),
}
# kl-f8-c4 tuned on with other losses, each for the same number of steps; only "sharp" ships, and by it the others are
# described. In `LEFT_OUT` something of what makes "sharp" work is missing; what starts from nothing learns for longer.
PLAIN = {"perceptual": 0.0, "adversarial": 0.0}
FROM_NOTHING = {"start": "", "steps": 1500, "optimizer": Muon, "learning_rate": 0.02}
TUNING = {
    "l2": PLAIN | {"error": "l2"},
    "l1": PLAIN,
    "perceptual": {"adversarial": 0.0},
    "adversarial": {"perceptual": 0.0},
    "sharp": {},
}
LEFT_OUT = {
    "fixed sigma": {"sigma": 1.0},
    "no kl": {"kl": 0.0},
    "fixed weight, small": {"adaptive": False},
    "fixed weight, large": {"adaptive": False, "adversarial": 5e5},
    "from nothing, late": FROM_NOTHING | {"adversarial_start": 750},
    "from nothing, at once": FROM_NOTHING | {"adversarial_start": 0},
}


def tuned(loss):
    """The recipe of kl-f8-c4 tuned with another loss, one of `TUNING` or `LEFT_OUT`."""
    return _tuned(**(TUNING | LEFT_OUT)[loss])


def _tuned(kl=0.01, perceptual=1.0, adversarial=0.5, adversarial_start=100, **settings):
    settings = {"steps": 500, "start": "kl-f8-c4", "optimizer": adamw, "learning_rate": 1e-3, "error": "l1"} | settings
    objective = stage1.Stage1Objective(kl, perceptual, adversarial, adversarial_start)
    return replace(STAGES["kl-f8-c4"], objective=objective, **settings)


STAGES["kl-f8-c4-sharp"] = tuned("sharp")
STAGES["kl-f4-c4-64px"] = replace(
    STAGES["kl-f4-c4"], steps=1500, error="l1", start="kl-f4-c4", learning_rate=0.01, pictures=whole_ads, size=PATCH
)


def case_stage(error="l2", perceptual=0.0, adversarial=0.0, steps=1700):
    """A sharp VAE for the click case: a code of 4 × 4 places with 8 numbers for 32 px, and the KL at its true price."""
    objective = stage1.Stage1Objective(1.0, perceptual, adversarial, adversarial_start=steps // 2)
    return StageRecipe((16, 32, 32, 32), 8, steps, objective, error, batch_size=16, pictures=click_case_bytes, size=32)


STAGES["kl-case-32px"] = case_stage()


def make(name, folder=CHECKPOINTS, share=1.0):
    """Trains the stage `name` into a folder that diffusers reads too; returns its path and its held-out scores."""
    recipe, state, pictures = STAGES[name], Path(folder) / f".{name}.state", STAGES[name].pictures(share)
    vae = train(recipe, pictures, math.ceil(recipe.steps * share), state)
    vae.fit_normaliser(pictures[:1000].float() / 255)
    scores = held_out_scores(vae, held_out_ads(size=recipe.size))
    record = {"made_by": f"python -m vaelab.recipes {name}", "held_out": scores, "sigma": float(vae.log_sigma.exp())}
    path = vae.save_pretrained(Path(folder) / name, half=True, record=record)
    state.unlink(missing_ok=True)
    return path, scores


def train(recipe, pictures, steps, state=None, seed=0):
    """The trained stage of a recipe, from its start or from nothing."""
    vae = AutoencoderKL.from_pretrained(CHECKPOINTS / recipe.start) if recipe.start else resting(recipe.build(seed))
    torch.manual_seed(seed)
    weights = recipe.objective
    stage = stage1.Stage1(
        vae,
        recipe.error,
        perceptual_distance() if weights.perceptual_weight else None,
        stage1.PatchDiscriminator() if weights.adversarial_weight else None,
        recipe.sigma,
        recipe.adaptive,
    )
    settings = {"batch_size": recipe.batch_size, "learning_rate": recipe.learning_rate, "ema": 0.999}
    settings |= {"record_every": 100, "optimizer": recipe.optimizer, "objective": weights, "seed": seed}
    fit(stage, pictures, steps=steps, checkpoint=state, **settings)
    return stage.finish()


def resting(vae):
    """The stage with every block at nought, so that what comes in goes out: it learns sooner (Zhang et al. 2019)."""
    for module in vae.modules():
        if isinstance(module, ResnetBlock):
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
    return vae


@torch.no_grad()
def held_out_scores(vae, pictures):
    """Of whole held-out ads: the round trip's mean PSNR in dB, and the KL in nats a picture."""
    errors, kls = [], []
    for batch in pictures.split(10):
        posterior = vae.encode(batch)
        errors.append((vae.paint(posterior.mean).clamp(0, 1) - batch).square().mean((1, 2, 3)))
        kls.append(posterior.kl())
    return {"psnr": float((-10 * torch.cat(errors).log10()).mean()), "kl": float(torch.cat(kls).mean())}


def perceptual_distance():
    """The distance that stage 1 is charged by, in a network of its own: no ruler of the course shares its weights."""
    network = features.FactorReader()
    network.load_state_dict(storage.read(CHECKPOINTS / "perceptual.safetensors")[0])
    return stage1.PerceptualDistance([layer for layer in network.trunk[0] if not isinstance(layer, nn.Flatten | nn.Linear)])


def diffusion_rows(vae, factors):
    """What stage 2 learns from: the latents of ads of 64 px, one draw from each posterior, and what each shows."""
    device = next(vae.parameters()).device
    draws, parts = torch.Generator(device).manual_seed(0), [factors[i : i + 50] for i in range(0, len(factors), 50)]
    latents = [vae.normalise(vae.encode(ads.render(part).to(device)).sample(draws)).cpu() for part in parts]
    return diffusion.rows(torch.cat(latents), prompts.words_of(factors))


def gpu_or_cpu():
    """The device that training will be on."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def new_diffusion(seed=0):
    """The untrained diffusion of ads of 64 px."""
    torch.manual_seed(seed)
    return diffusion.Diffusion((4, 16, 16), (32, 48, 64), vocabulary=prompts.VOCABULARY)


def make_diffusion(name="ldm-ads", folder=CHECKPOINTS, share=1.0, stage="kl-f4-c4-64px"):
    """Trains the latent diffusion of ads, told what they show; its score is the mean squared error of v, held out.

    Seven minutes of a GPU, as the file that ships, or some two hours of one core; an interrupted run goes on.
    """
    vae, state = AutoencoderKL.from_pretrained(CHECKPOINTS / stage).to(gpu_or_cpu()), Path(folder) / f".{name}.state"
    with torch.no_grad():
        latents = diffusion_rows(vae, ads.sample_factors(math.ceil(DIFFUSION_ADS * share), seed=100))
        held_out = diffusion_rows(vae, ads.sample_factors(300, seed=200))
    model = new_diffusion()
    settings = {"batch_size": DIFFUSION_BATCH, "learning_rate": 0.02, "ema": 0.999, "record_every": 100, "checkpoint": state}
    fit(model, latents, steps=math.ceil(DIFFUSION_STEPS * share), optimizer=Muon, **settings)
    scores = {"error": -float(evaluate(model, held_out).reconstruction)}
    record = {"made_by": f"python -m vaelab.recipes {name}", "held_out": scores, "stage": stage}
    path = diffusion.save(model, Path(folder) / f"{name}.safetensors", half=True, record=record)
    state.unlink(missing_ok=True)
    return path, scores


MAKERS = {name: partial(make, name) for name in STAGES} | {"ldm-ads": make_diffusion}
