"""The pictures of the first page and of the README, drawn by what the course ships: nothing is retouched.

python book/tools/pictures.py        # writes book/assets/hero.png and book/assets/readme.png
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from vaelab import diffusion, latent, plots, pretrained, recipes
from vaelab.data import ads, journeys, prompts

ASSETS = Path(__file__).resolve().parents[1] / "assets"
GAP = 14
DETAIL = 3  # lines are drawn this many times too large, then shrunk, so that their edges are smooth
COLOURS = 256  # a palette keeps the files light

# Six ads of one summer campaign: product, palette, theme, headline, badge, face
CAMPAIGN = (
    ("can", "ocean", "summer", "short", True, False),
    ("tube", "mist", "summer", "short", False, True),
    ("bottle", "clay", "harvest", "short", False, False),
    ("carton", "ocean", "everyday", "short", False, True),
    ("jar", "cream", "summer", "short", True, False),
    ("pouch", "night", "launch", "short", False, False),
)
STEPS = 8  # of the walk from the house look to the summer campaign, and of the way out of the noise
ORDER, SEED, SHOWN = "a bottle at harvest, clay, scenic", 1, (0, 1, 2, 4, 7, 12, 24)  # of 25 steps
CELLS = (12, 8)  # columns and rows of the map
# Where the walk over the map goes: from a lime can by night round to a blueberry can by day
STOPS = torch.tensor([[-2.2, 0.3], [-0.9, -0.9], [0.6, 0.6], [2.2, -0.3], [1.1, -2.1]])
WINDOW = (-3.0, 3.0, -2.75, 1.25)  # left, right, bottom, top of the map that is shown


def main():
    for name, draw in {"hero": hero, "readme": readme}.items():
        path = ASSETS / f"{name}.png"
        dithered(draw()).save(path, optimize=True)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def hero():
    """Six ads; a walk from a house look to a campaign; noise that becomes an ad; the map of a model of two numbers, and
    what is drawn on a walk there."""
    below = map_and_walk(columns=4, rows=2, cell=45)
    large, small = ((below.width + GAP) // n - GAP for n in (len(CAMPAIGN), STEPS))
    second, third, fourth = large + GAP, large + small + 2 * GAP, large + 2 * small + 3 * GAP
    canvas = Image.new("RGB", (below.width, fourth + below.height), "white")
    paste_tiles(canvas, campaign(2 * large), (0, 0), len(CAMPAIGN), large)
    paste_tiles(canvas, season(STEPS), (0, second), STEPS, small)
    paste_tiles(canvas, out_of_the_noise(), (0, third), STEPS, small)
    canvas.paste(below, (0, fourth))
    return canvas


def readme():
    return map_and_walk(columns=3, rows=3, cell=50)


def map_and_walk(columns, rows, cell):
    """The map, its cells `cell` pixels wide, and beside it the pictures at the rings, row by row."""
    walked = walked_map(cell, columns * rows)
    side = (walked.height + GAP) // rows - GAP
    canvas = Image.new("RGB", (walked.width + columns * (GAP + side), rows * (side + GAP) - GAP), "white")
    canvas.paste(walked, (0, 0))
    paste_tiles(canvas, decode(walk(columns * rows)), (walked.width + GAP, 0), columns, side)
    return canvas


def paste_tiles(canvas, pictures, corner, columns, side):
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        canvas.paste(tile(picture, side), (corner[0] + column * (side + GAP), corner[1] + row * (side + GAP)))


def campaign(size):
    """The ads of `CAMPAIGN`, rendered: `(6, 3, size, size)`."""
    factors = [
        ads.sample_factors(
            1, seed=5 + i, product=product, palette=palette, theme=theme, background="scene", headline=headline,
            badge=badge, badge_red=True, face=face, call_to_action=True, position="right" if face else "centre",
            scale=0.58, clutter=2,
        )
        for i, (product, palette, theme, headline, badge, face) in enumerate(CAMPAIGN)
    ]  # fmt: skip
    return torch.cat([ads.render(one, size) for one in factors])


def season(n):
    """The walk of chapter 4, drawn by its model: `(n, 3, 128, 128)`."""
    ends = journeys.render(journeys.way("jar", "summer", 2), 128)
    return latent.path(recipes.shipped("vae-journey-128px"), *ends, n)


@torch.no_grad()
def out_of_the_noise():
    """What chapter 7's diffusion expects to come out of its noise, after some of 25 steps: `(8, 3, 64, 64)`."""
    vae, model = pretrained.load("kl-f4-c4-64px"), diffusion.load(pretrained.CHECKPOINTS / "ldm-ads.safetensors")
    noise = torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(SEED))
    random = torch.Generator().manual_seed(SEED)
    _, expected = diffusion.sample(model, 1, 25, prompts.prompt(ORDER), guidance=2, generator=random, keep=True)
    return diffusion.develop(vae, torch.cat([noise, expected[list(SHOWN), 0]]))


def walk(n):
    """n addresses `(n, 2)` at equal distances along a smooth curve through `STOPS`."""
    from scipy.interpolate import CubicSpline

    curve = CubicSpline(np.arange(len(STOPS)), STOPS)(np.linspace(0, len(STOPS) - 1, 400))
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    even = np.linspace(0, length[-1], n)
    return torch.tensor(np.stack([np.interp(even, length, axis) for axis in curve.T], 1), dtype=torch.float32)


@torch.no_grad()
def decode(z):
    """What the model of the small world draws at addresses `(n, 2)`: `(n, 3, 64, 64)`."""
    return recipes.shipped("vae-product-2").decode(z).mean


def walked_map(cell, rings):
    """The map inside `WINDOW`, a white line along the walk, and a ring where each picture is taken."""
    left, right, bottom, top = WINDOW
    width, height = CELLS[0] * cell, CELLS[1] * cell
    picture = map_cells().resize((DETAIL * width, DETAIL * height), Image.Resampling.LANCZOS)
    scale = torch.tensor([DETAIL * width / (right - left), -DETAIL * height / (top - bottom)])
    places = lambda n: [tuple(xy) for xy in ((walk(n) - torch.tensor([left, top])) * scale).tolist()]
    draw = ImageDraw.Draw(picture)
    draw.line(places(200), fill="white", width=4 * DETAIL, joint="curve")
    for place in places(rings):
        draw.circle(place, 8 * DETAIL, fill=plots.AMBER, outline="white", width=3 * DETAIL)
    return rounded(picture.resize((width, height), Image.Resampling.LANCZOS))


def map_cells():
    """What the model draws at the middle of each cell of the map, as one image."""
    left, right, bottom, top = WINDOW
    (columns, rows), (x, y) = CELLS, ((torch.arange(n) + 0.5) / n for n in CELLS)
    second, first = torch.meshgrid(top - y * (top - bottom), left + x * (right - left), indexing="ij")
    cells = decode(torch.stack([first, second], -1).reshape(-1, 2)).reshape(rows, columns, 3, 64, 64)
    return to_image(cells.permute(0, 3, 1, 4, 2).reshape(rows * 64, columns * 64, 3))


def tile(picture, side):
    """A picture `(3, H, W)` as a square image with rounded corners."""
    return rounded(to_image(picture.permute(1, 2, 0)).resize((side, side), Image.Resampling.LANCZOS))


def to_image(picture):
    return Image.fromarray((picture.clamp(0, 1) * 255).round().byte().numpy())


def dithered(image):
    """The image in `COLOURS` colours of its own; Pillow dithers only to a palette that it is given."""
    return image.quantize(palette=image.quantize(COLOURS, kmeans=2), dither=Image.Dither.FLOYDSTEINBERG)


def rounded(image, radius=10):
    """The image with its corners rounded, on white."""
    mask = Image.new("L", [DETAIL * length for length in image.size])
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, *mask.size), DETAIL * radius, fill=255)
    return Image.composite(
        image, Image.new("RGB", image.size, "white"), mask.resize(image.size, Image.Resampling.LANCZOS)
    )


if __name__ == "__main__":
    main()
