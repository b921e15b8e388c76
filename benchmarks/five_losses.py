"""One picture, five losses, the same budget: `python -m benchmarks.five_losses`.

Each loss tunes the shipped stage kl-f8-c4 for the same number of steps (`recipes_kl.TUNING`), and so do the losses in
which something of the whole is missing (`LEFT_OUT`; those that start from nothing learn for longer). The tuned stages
land under `benchmarks/five-losses/`, which is not committed ("sharp" is the one that ships, kl-f8-c4-sharp); a stage
that is there is not tuned again, and an interrupted one goes on. They are compared on held-out ads and photographs:
`book/data/five-losses.json`; `five-losses.png`, a row of pieces a loss, the originals first and the start second; and
`losses-left-out.png`, the originals and the rows of `LEFT_OUT`. Ten minutes of one core a loss, three times that
from nothing; a GPU is used if there is one.
"""

import argparse
import json
from functools import cache
from pathlib import Path

import torch

from vaelab import fidelity, legibility, recipes_kl
from vaelab.autoencoder_kl import AutoencoderKL
from vaelab.data import photos
from vaelab.storage import replace_file

FOLDER = Path(__file__).parent / "five-losses"
DATA = Path(__file__).parents[1] / "book" / "data"
START, PIECE, LARGER = "kl-f8-c4", 128, 192  # MS-SSIM takes no picture below 176 pixels
# Top and left of a piece of each photograph; no stage has seen the first three.
PIECES = {"astronaut": (40, 150), "page": (10, 60), "brick": (200, 200), "coffee": (60, 200)}
NAMES = [*PIECES, "ad", "another ad"]


@cache
def cut_outs():
    return recipes_kl.cut_outs()


def tuned(loss, folder=FOLDER):
    """The stage tuned with a loss, from its folder or newly made; "start" and "sharp" ship."""
    ships = {"start": START, "sharp": f"{START}-sharp"}
    if loss in ships:
        return AutoencoderKL.from_pretrained(recipes_kl.CHECKPOINTS / ships[loss])
    path, recipe = folder / loss, recipes_kl.tuned(loss)
    if not path.exists():
        folder.mkdir(exist_ok=True)
        vae = recipes_kl.train(recipe, cut_outs(), recipe.steps, folder / f".{loss}.state")
        vae.save_pretrained(path, half=True, record={"loss": loss, "steps": recipe.steps})
        (folder / f".{loss}.state").unlink()
    return AutoencoderKL.from_pretrained(path)


def originals():
    """The pieces of the picture, `(6, 3, 128, 128)`."""
    pieces = [
        photos.load(names=(name,))[name][:, top : top + PIECE, left : left + PIECE]
        for name, (top, left) in PIECES.items()
    ]
    return torch.cat([torch.stack(pieces), recipes_kl.held_out_ads(3)[1:]])


@torch.no_grad()
def trips(vae, pictures):
    return torch.cat([vae.reconstruct(part) for part in pictures.split(10)]).clamp(0, 1)


@torch.no_grad()
def measured(vae, pictures):
    """Fidelity on held-out ads `(N, 3, 128, 128)`; detail is waves of 4 to 8 pixels. The KL is in nats a picture."""
    back, posterior, larger = trips(vae, pictures), vae.encode(pictures), recipes_kl.held_out_ads(30, LARGER)
    in_place, power = (ruler(pictures, back)[:, 1].nanmean() for ruler in (fidelity.detail_kept, fidelity.power_kept))
    figures = {
        "psnr": fidelity.psnr(pictures, back).mean(),
        "ssim": fidelity.ssim(pictures, back).mean(),
        "ms_ssim": fidelity.ms_ssim(larger, trips(vae, larger)).mean(),
        "detail_in_place": in_place,
        "power": power,
        "kl": posterior.kl().mean(),
        "spread": posterior.mean.std(),
        "sigma": vae.log_sigma.exp(),
        "perceptual": recipes_kl.perceptual_distance()(pictures, back).mean(),
    }
    smallest = legibility.smallest_legible(lambda x: trips(vae, x), range(10, 31)).height
    figures = {name: float(value) for name, value in figures.items()} | {"smallest_capitals": smallest}
    print(figures, flush=True)
    return figures


def main():
    argparse.ArgumentParser(prog="python -m benchmarks.five_losses", description=__doc__).parse_args()
    torch.set_num_threads(1)
    ads, pieces = recipes_kl.held_out_ads(), originals()
    record = {"made_by": "python -m benchmarks.five_losses", "steps": recipes_kl.tuned("l2").steps, "start": START}
    record |= {"n": len(ads), "pieces": NAMES}
    losses = {"five-losses": ("rows", ("start", *recipes_kl.TUNING)), "losses-left-out": ("left_out", recipes_kl.LEFT_OUT)}
    for picture, (key, names) in losses.items():
        stages = {loss: tuned(loss) for loss in names}
        record[key] = {loss: measured(vae, ads) for loss, vae in stages.items()}
        sheet(torch.stack([pieces, *(trips(vae, pieces) for vae in stages.values())])).save(DATA / f"{picture}.png", optimize=True)
    replace_file(DATA / "five-losses.json", (json.dumps(record, indent=1) + "\n").encode())


def sheet(pictures):
    """`(rows, columns, 3, H, W)` -> one PIL image without gaps."""
    from PIL import Image

    rows, columns, _, height, width = pictures.shape
    grid = pictures.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, 3)
    return Image.fromarray((255 * grid).round().byte().numpy())


if __name__ == "__main__":
    main()
