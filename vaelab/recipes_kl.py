"""How the VAE stages that ship were made: `python -m vaelab.recipes kl-f4-c4 …`, resumable, from fixed seeds.

They are small for their kind (0.2 to 0.3 M parameters, an hour of one slow core in all) and learn from cut-outs: these
networks see neighbourhoods only, so what they learn on 64 pixels serves any size.
"""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from vaelab import stage1
from vaelab.autoencoder_kl import DOWN, UP, AutoencoderKL
from vaelab.data import ads, photos
from vaelab.training import fit

CHECKPOINTS = Path(__file__).parent / "checkpoints"
# Photographs that a VAE stage learns from. The face, the pages, brick, grass and gravel are never among them.
PHOTOS = ("camera", "cat", "coffee", "coins", "rocket")
ADS, CUTS, PATCH = 3000, 4, 64


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


def held_out_ads(n=100, size=128):
    """Ads of another seed, whole, `(n, 3, size, size)`."""
    return ads.render(ads.sample_factors(n, seed=200), size)


@dataclass(frozen=True)
class StageRecipe:
    """One VAE stage: its widths (their number sets the factor), its channels, and how long."""

    widths: tuple
    channels: int
    steps: int = 4000
    objective: stage1.Stage1Objective = stage1.Stage1Objective(kl_weight=0.01)
    error: str = "l2"

    def build(self, seed=0):
        """The untrained stage, with clouds that start small: at the usual start, noise drowns the first addresses."""
        torch.manual_seed(seed)
        levels = len(self.widths)
        vae = AutoencoderKL(
            block_out_channels=self.widths,
            down_block_types=(DOWN,) * levels,
            up_block_types=(UP,) * levels,
            latent_channels=self.channels,
            norm_num_groups=8,
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


def make(name, folder=CHECKPOINTS, share=1.0):
    """Trains the stage `name` into a folder that diffusers reads too; returns its path and its held-out scores."""
    recipe, state = STAGES[name], Path(folder) / f".{name}.state"
    vae = recipe.build()
    pictures = cut_outs(share)
    stage = stage1.Stage1(vae, recipe.error)
    settings = {"batch_size": 8, "learning_rate": 3e-3, "ema": 0.999, "record_every": 100, "checkpoint": state}
    history = fit(stage, pictures, steps=math.ceil(recipe.steps * share), objective=recipe.objective, **settings)
    stage.finish().fit_normaliser(pictures[: 4 * 250].float() / 255)
    scores = held_out_scores(vae, held_out_ads())
    record = {"made_by": f"python -m vaelab.recipes {name}", "held_out": scores, "loss": history.last["loss"]}
    path = vae.save_pretrained(Path(folder) / name, half=True, record=record | {"sigma": float(vae.log_sigma.exp())})
    state.unlink(missing_ok=True)
    return path, scores


@torch.no_grad()
def held_out_scores(vae, pictures):
    """Of whole held-out ads: the round trip's mean PSNR in dB, and the KL in nats a picture."""
    errors, kls = [], []
    for batch in pictures.split(10):
        posterior = vae.encode(batch)
        errors.append((vae.paint(posterior.mean).clamp(0, 1) - batch).square().mean((1, 2, 3)))
        kls.append(posterior.kl())
    return {"psnr": float((-10 * torch.cat(errors).log10()).mean()), "kl": float(torch.cat(kls).mean())}


MAKERS = {name: partial(make, name) for name in STAGES}
