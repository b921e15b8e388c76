"""One ad, drawn from back to front: backdrop, person, props, pack, headline, button, badge."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from .ad_brands import BRANDS, CALLS, OFFERS, PRODUCTS, luminance, rgb
from .ad_packs import draw_pack
from .ad_people import draw_person
from .ad_props import PROPS, sprite
from .ad_scenes import backdrop, evening
from .ad_type import fitted_font

BASE = 0.875  # where the pack stands
CENTRES = {"centre": 0.5, "left": 0.32, "right": 0.68}
BADGE_RADIUS = 0.125
BUTTON = (0.30, 0.905, 0.70, 0.978)
DARK, LIGHT = (24, 22, 34), (255, 253, 248)


def draw_ad(row, size):
    """One ad as a uint8 array (size, size, 3); `row` is one row of Factors as plain values, words spelt out."""
    scale = 3 if size <= 128 else 2
    S = size * scale
    streams = np.random.default_rng(int(row["seed"])).spawn(4)  # backdrop, person, props, words: independent
    side = -1 if int(row["seed"]) % 2 else 1
    centre, base = CENTRES[row["position"]] + row["offset"][0], BASE + 0.5 * row["offset"][1]
    pack = draw_pack(row, max(8, round(row["scale"] * S)), side)
    half_width = pack.shape[1] / S / 2
    scene = backdrop(row, base, centre, half_width, side, streams[0])
    picture = Image.fromarray((scene * 255).astype(np.uint8)).resize((S, S), Image.Resampling.BICUBIC)
    if row["face"]:
        draw_person(picture, _person_place(row), row["skin"], streams[1])
    _props(picture, row, centre, half_width, streams[2])
    left, top = round((centre - half_width) * S), round(base * S) - pack.shape[0] + round(0.012 * S)
    _paste(picture, pack, left, top)
    _words(picture, row, S, base - row["scale"], streams[3])
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))


FLAVOUR_COLOURS = np.array([[0.84, 0.12, 0.20], [0.96, 0.56, 0.10], [0.36, 0.72, 0.26], [0.32, 0.30, 0.76]])


def draw_small_world(flavour, position, light, size):
    """The one-product world: a can on a shore, its flavour, its place from left to right, and the hour."""
    S = size * (3 if size <= 128 else 2)
    centre, base = 0.25 + 0.5 * position, 0.90
    row = {"product": "can", "brand": "Orrin", "material": "metal", "pack_rgb": FLAVOUR_COLOURS[flavour]}
    pack = draw_pack(row, round(0.68 * S), -1)
    scene, lamp = evening(light, centre, base, pack.shape[1] / S / 2)
    pack[..., :3] *= lamp
    picture = Image.fromarray((scene * 255).astype(np.uint8)).resize((S, S), Image.Resampling.BICUBIC)
    _paste(
        picture,
        pack,
        round(centre * S - pack.shape[1] / 2),
        round(base * S) - pack.shape[0] + round(0.012 * S),
    )
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))


def _paste(picture, rgba, left, top):
    """Lay a float picture with opacity on an image."""
    pixels = (rgba * 255).astype(np.uint8)
    picture.paste(Image.fromarray(pixels[..., :3]), (left, top), Image.fromarray(pixels[..., 3]))


def _person_place(row):
    """Centre of the head: beside the pack, away from the badge."""
    return {"centre": 0.17, "left": 0.79, "right": 0.21}[row["position"]], 0.55


def badge_place(position):
    """Left, top, right, bottom of the badge for a position of the pack."""
    x, y = (0.84 if position != "right" else 0.16), 0.285
    edge = BADGE_RADIUS + 0.008
    return x - edge, y - edge, x + edge, y + edge


def _props(picture, row, centre, half_width, rng):
    """Strew the theme's props where they hide nothing."""
    S = picture.width
    taken = [
        (centre - half_width, 0, centre + half_width, 1),
        badge_place(row["position"]),
        BUTTON,
        (0, 0, 1, 0.17),
    ]
    x, y = _person_place(row)
    taken.append((x - 0.17, y - 0.2, x + 0.17, 1))
    for kind, spin, size, spots in zip(
        rng.integers(0, 3, 5),
        rng.random(5),
        rng.uniform(0.085, 0.145, 5),
        rng.random((5, 14, 2)),
        strict=True,
    ):
        if row["clutter"] <= 0:
            break
        row = row | {"clutter": row["clutter"] - 1}
        spots = 0.07 + 0.86 * spots
        spot = max(spots.tolist(), key=lambda spot: _room(spot, size, taken))
        taken.append((spot[0] - size / 2, spot[1] - size / 2, spot[0] + size / 2, spot[1] + size / 2))
        drawn = sprite(PROPS[row["theme"]][kind], max(4, round(size * S)), round(spin * 24) * 15)
        place = round(spot[0] * S - drawn.width / 2), round(spot[1] * S - drawn.height / 2)
        picture.paste(drawn, place, drawn)


def _room(spot, size, taken):
    """How far a prop at `spot` keeps from what is taken: negative where it overlaps."""
    x, y = spot
    return min(max(a - x, x - c, b - y, y - d) - size / 2 for a, b, c, d in taken)


def _words(picture, row, S, pack_top, rng):
    """Headline, logo, button and badge, in the brand's layout."""
    typeface, _, _mark, grid = BRANDS[row["brand"]]
    draw = ImageDraw.Draw(picture)
    which = rng.integers(0, 2**20, 4)
    if grid == "framed":
        draw.rectangle(
            [S * 0.022, S * 0.022, S * 0.978, S * 0.978],
            outline=_ink(picture, (0, 0, 1, 1)),
            width=max(1, round(S * 0.006)),
        )
    if row["headline"] != "none":
        lines = PRODUCTS[row["product"]][1 if row["headline"] == "short" else 2]
        _headline(picture, draw, lines[which[0] % len(lines)], typeface, grid, row, pack_top)
    if row["call_to_action"]:
        _button(draw, CALLS[which[1] % len(CALLS)], row["button_hue"], S)
    if row["badge"]:
        _badge(picture, row, OFFERS[which[2] % len(OFFERS)])


def _ink(picture, box):
    """Dark or light, whichever stands out from that part of the picture."""
    S = picture.width
    part = picture.crop([round(edge * S) for edge in box]).resize((8, 8), Image.Resampling.BOX)
    return DARK if luminance(np.asarray(part, dtype=float) / 255).mean() > 0.52 else LIGHT


def _headline(picture, draw, text, typeface, grid, row, pack_top):
    """The headline in the free band above the pack."""
    S = picture.width
    depth = 0.125 if row["headline"] == "short" else 0.085
    box = (0.06, 0.045, 0.94, 0.045 + depth)
    face = fitted_font(typeface, text, (box[2] - box[0]) * S, depth * 0.82 * S)
    ink = _ink(picture, box)
    x, anchor = {"left": (box[0], "lm")}.get(grid, (0.5, "mm"))
    draw.text((x * S, (box[1] + depth / 2) * S), text, ink, font=face, anchor=anchor)


def _button(draw, text, hue, S):
    """The call to action."""
    colour = _rgb8(rgb([hue, 0.78, 0.74]))
    left, top, right, bottom = (edge * S for edge in BUTTON)
    draw.rounded_rectangle([left, top, right, bottom], radius=(bottom - top) / 2, fill=colour)
    face = fitted_font("geometric", text, (right - left) * 0.72, (bottom - top) * 0.50)
    draw.text(((left + right) / 2, (top + bottom) / 2), text, LIGHT, font=face, anchor="mm")


def _badge(picture, row, text):
    """The price badge: a red or yellow star with the offer."""
    S = picture.width
    left, top, right, bottom = badge_place(row["position"])
    star = _badge_sprite(bool(row["badge_red"]), text, round(2 * BADGE_RADIUS * S))
    x, y = (left + right) / 2 * S, (top + bottom) / 2 * S
    picture.paste(star, (round(x - star.width / 2), round(y - star.height / 2)), star)


@lru_cache(64)
def _badge_sprite(red, text, size):
    k = 4 if size < 200 else 2
    w = size * k
    angle = np.arange(40) * np.pi / 20
    radius = np.where(np.arange(40) % 2, 0.5, 0.435) * w
    outline = list(zip(w / 2 + radius * np.cos(angle), w / 2 + radius * np.sin(angle), strict=True))
    fill, ink = ((214, 28, 44), LIGHT) if red else ((252, 206, 48), (40, 26, 30))
    star = Image.new("RGBA", (w, w), (*fill, 0))
    draw = ImageDraw.Draw(star)
    draw.polygon(outline, (*fill, 255))
    draw.ellipse([w * 0.10, w * 0.10, w * 0.90, w * 0.90], outline=(*ink, 170), width=round(w * 0.012))
    draw.text(
        (w / 2, w / 2),
        text,
        (*ink, 255),
        font=fitted_font("geometric", text, w * 0.68, w * 0.34),
        anchor="mm",
    )
    return star.resize((size, size), Image.Resampling.BOX)


def _rgb8(colour):
    return tuple(int(255 * share) for share in colour)
