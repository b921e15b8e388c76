"""Draws a key visual on its way from the house look to a campaign. All five factors act by degrees."""

import numpy as np
from PIL import Image, ImageDraw

from .ad_brands import PACKS, rgb
from .ad_drawing import _canvas_size, _enlarged, _ink, _stand
from .ad_packs import draw_pack
from .ad_props import sprite
from .ad_scenes import (
    WHITE,
    B,
    X,
    Y,
    _below,
    _colour,
    _dots,
    _foliage,
    _glow,
    _over,
    _pattern_of_light,
    shadows,
    tint,
)
from .ad_type import draw_mark, write

PRODUCTS = ("bottle", "can", "carton", "jar", "tube", "pouch")
MATERIALS = dict(zip(PRODUCTS, ("gloss", "metal", "matte", "gloss", "gloss", "matte"), strict=True))
HOUSE = _colour(rgb([0.105, 0.20, 0.97]))  # the house look's paper
# The colour halfway, and the campaign's own: from paper through apricot to a summer sky, through rose to a blue hour
PALETTES = {
    "summer": (_colour(rgb([0.07, 0.34, 1.0])), _colour(rgb([0.545, 0.52, 0.92]))),
    "winter": (_colour(rgb([0.96, 0.26, 0.94])), _colour(rgb([0.625, 0.48, 0.68]))),
}
LAMPS = {"summer": np.float32([1.06, 1.0, 0.90]), "winter": np.float32([0.86, 0.92, 1.05])}
# kind, place at full size, width as a share of the picture, turn
PROPS = {
    "summer": (("hibiscus", 0.77, 0.845, 0.20, 15), ("orange", 0.60, 0.905, 0.13, 0), ("hibiscus", 0.90, 0.93, 0.13, 120)),
    "winter": (("bauble", 0.76, 0.85, 0.17, 0), ("gift", 0.90, 0.87, 0.16, 0), ("bauble", 0.615, 0.92, 0.11, 0)),
}  # fmt: skip


def draw_journey(product, theme, style, size):
    """One key visual as a uint8 array (size, size, 3); `style` as in `journeys.STYLE`."""
    palette, layout, setting, light, props = (float(share) for share in style)
    S = _canvas_size(size)
    centre, base, scale = 0.5 - 0.08 * layout, 0.90 - 0.015 * layout, 0.74 - 0.10 * layout
    colours = rgb(PACKS[0, PRODUCTS.index(product)])
    row = {"product": product, "brand": "Orrin", "material": MATERIALS[product], "pack_rgb": colours}
    pack = draw_pack(row, round(scale * S), -1)
    pack[..., :3] = (pack[..., :3] * (1 + light * (LAMPS[theme] - 1))).clip(0, 1)
    halfway, campaign = PALETTES[theme]
    colour = (1 - palette) ** 2 * HOUSE + 2 * palette * (1 - palette) * halfway + palette**2 * campaign
    scene = SCENES[theme](colour, setting, light, props)
    scene = scene * (1 - (1 - 0.35 * light) * shadows(base, centre, pack.shape[1] / S / 2, -1))
    picture = _enlarged(np.moveaxis(scene.clip(0, 1), 0, -1), S)
    _stand(picture, pack, centre, base)
    for kind, x, y, width, turn in PROPS[theme]:
        _place(picture, kind, x + 0.12 * (1 - props), y, width, turn, props)
    _sign(picture)
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))


def _place(picture, kind, x, y, width, turn, share):
    """A prop that comes in from the right, grows and becomes solid with `share`."""
    if share < 0.02:
        return
    S = picture.width
    drawn = sprite(kind, max(6, round(width * (0.45 + 0.55 * share) * S)), turn)
    solid = drawn.getchannel("A").point(lambda a: int(a * min(1, 1.6 * share)))
    picture.paste(drawn, (round(x * S - drawn.width / 2), round(y * S - drawn.height / 2)), solid)


def _sign(picture):
    """The brand's mark and name, at their place in the layout."""
    S, draw = picture.width, ImageDraw.Draw(picture)
    ink = _ink(picture, (0.05, 0.05, 0.30, 0.11))
    draw_mark(draw, "sun", 0.085 * S, 0.08 * S, 0.032 * S, ink)
    write(draw, 0.13 * S, 0.08 * S, "Orrin", ink, "geometric", 0.30 * S, 0.062 * S, "lm")


def _studio(colour, light):
    """The house look: a paper sweep in window light, which fades as the campaign's own light comes."""
    floor = tint(colour, WHITE, 0.25) * (1 - 0.10 * (Y - 0.7).clip(0))
    paper = _over(np.broadcast_to(colour, (3, B, B)), floor, _below(0.77, 0.14))
    return paper * (1 + (1 - light) * (_pattern_of_light("everyday", -1, None) - 1))


def _horizon(full, setting):
    """Where a line of the landscape stands: it rises from below the picture as the setting opens."""
    return 1.04 + (full - 1.04) * setting**0.7


def _summer(colour, setting, light, props):
    """Sun over the sea, sand in front, palm fronds from the corner."""
    picture = _studio(colour, light)
    sky = tint(colour, WHITE, 0.55) * (Y / 0.55).clip(0, 1) ** 1.5 + colour * (1 - (Y / 0.55).clip(0, 1) ** 1.5)
    picture = picture + (sky - picture) * np.float32(setting)
    x, y = 0.64, 0.70 - 0.30 * light
    gold = tint(_colour([1, 0.62, 0.32]), [1, 0.95, 0.78], light)
    picture = _over(picture, gold, light**0.7 * (0.70 * _glow(x, y, 0.22) + 0.30 * _glow(x, y, 0.55)))
    disc = ((0.095 - np.hypot(X - x, Y - y)) / 0.012 + 0.5).clip(0, 1)
    picture = _over(picture, tint(gold, WHITE, 0.35), min(1, 2.5 * light) * disc)
    sea = tint(colour * 0.74, [0.04, 0.46, 0.62], 0.45) * (1.25 - 0.5 * (Y - 0.52))
    wave = np.sin(Y * 190) * np.sin(X * 17 + Y * 37)
    sparkle = (2 * wave - 0.4).clip(0, 1) * np.exp(-(((X - x) / (0.05 + 0.6 * (Y - 0.5).clip(0))) ** 2))
    sea = _over(sea, [1, 0.97, 0.86], 0.7 * light * sparkle)
    picture = _over(picture, sea, _below(_horizon(0.56, setting), 0.012))
    shore = _horizon(0.735, setting) + 0.010 * np.sin(X * 9)
    picture = _over(picture, [1, 1, 1], 0.8 * _below(shore - 0.018, 0.012))
    sand = tint(_colour([0.95, 0.85, 0.66]), colour, 0.10) * (1.06 - 0.25 * (Y - 0.7))
    picture = _over(picture, sand, _below(shore, 0.014))
    away = round(B * (0.16 + 0.40 * (1 - props)))  # fronds come in from the right
    leaves = np.pad(_foliage("palm", 1), ((0, 0), (away, 0)))[:, :B]
    return _over(picture, _colour([0.07, 0.36, 0.27]), 0.88 * min(1, 2 * props) * leaves)


def _winter(colour, setting, light, props):
    """A blue hour over snowy hills, a low moon, snow in the air."""
    picture = _studio(colour, light)
    sky = colour * (0.86 + 0.10 * Y) + 0.30 * (tint(colour, [1.0, 0.80, 0.78], 0.8) - colour) * (Y / 0.6).clip(0, 1) ** 2
    picture = picture + (sky - picture) * np.float32(setting)
    x, y = 0.72, 0.60 - 0.36 * light
    picture = _over(picture, [1.0, 0.97, 0.90], light**0.7 * (0.55 * _glow(x, y, 0.16) + 0.25 * _glow(x, y, 0.45)))
    disc = ((0.075 - np.hypot(X - x, Y - y)) / 0.012 + 0.5).clip(0, 1)
    picture = _over(picture, [1, 0.985, 0.93], min(1, 2.5 * light) * disc)
    ridge = _horizon(0.52, setting) - 0.10 * setting * np.abs(((X * 2.1 + 0.2) % 1) - 0.5) * 2
    picture = _over(picture, tint(colour, [0.80, 0.87, 1], 0.50), _below(ridge, 0.018))
    foot, dark = _horizon(0.66, setting), 0.9 * min(1, 3 * setting)
    for at, h in ((0.50, 0.15), (0.60, 0.20), (0.68, 0.13), (0.83, 0.22), (0.93, 0.17), (0.06, 0.18), (0.16, 0.13)):
        tall = h * setting
        fir = ((0.32 * (Y - foot + tall) - np.abs(X - at) - 0.008 * np.sin((Y - foot) * 170)) / 0.012).clip(0, 1)
        picture = _over(picture, tint(colour * 0.45, [0.07, 0.26, 0.30], 0.5), dark * fir * (Y > foot - tall) * (Y < foot + 0.02))
    snow = tint(_colour([0.95, 0.97, 1.0]), colour, 0.12)
    for shade, line in ((0.93, 0.655 + 0.022 * np.sin(X * 6)), (1.0, 0.735 - 0.02 * np.sin(X * 5))):
        picture = _over(picture, snow * shade, _below(_horizon(line, setting), 0.016))
    return _over(picture, [1, 1, 1], (props * _dots(np.random.default_rng(5), 26, 0.006, 0.018, 0.9)).clip(0, 1))


SCENES = {"summer": _summer, "winter": _winter}
