"""One ad, drawn from back to front: backdrop, person, props, pack, headline, logo, button, badge."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from .ad_brands import BRANDS, CALLS, OFFERS, PRODUCTS, luminance, rgb
from .ad_packs import draw_pack
from .ad_people import draw_person
from .ad_props import PROPS, STANDING, sprite
from .ad_scenes import backdrop, evening
from .ad_type import draw_mark, write

BASE = 0.875  # where the pack stands
CENTRES = {"centre": 0.5, "left": 0.32, "right": 0.68}
BADGE_RADIUS = 0.125
# Layout grids: left and right end of the button, and of the logo
GRIDS = {
    "centred": ((0.31, 0.69), (0.05, 0.27)),
    "left": ((0.05, 0.43), (0.73, 0.95)),
    "framed": ((0.31, 0.69), (0.06, 0.27)),
    "band": ((0.58, 0.95), (0.05, 0.33)),
}
FOOT = (0.908, 0.978)  # top and bottom of the button
DARK, LIGHT = (24, 22, 34), (255, 253, 248)
FLAVOUR_COLOURS = np.array([[0.84, 0.12, 0.20], [0.96, 0.56, 0.10], [0.36, 0.72, 0.26], [0.32, 0.30, 0.76]])


def draw_ad(row, size):
    """One ad as a uint8 array (size, size, 3); `row` is one row of Factors as plain values, words spelt out."""
    S = _canvas_size(size)
    streams = np.random.default_rng(int(row["seed"])).spawn(4)  # backdrop, person, props, words: independent
    side = -1 if int(row["seed"]) % 2 else 1
    centre, base = CENTRES[row["position"]] + row["offset"][0], BASE + 0.5 * row["offset"][1]
    pack = draw_pack(row, max(8, round(row["scale"] * S)), side)
    half_width = pack.shape[1] / S / 2
    picture = _enlarged(backdrop(row, base, centre, half_width, side, streams[0]), S)
    if row["face"]:
        draw_person(picture, _person_place(row["position"]), row["skin"], side, streams[1])
    _props(picture, row, centre, half_width, streams[2])
    draw = ImageDraw.Draw(picture)
    _stationery(draw, row, S)
    _stand(picture, pack, centre, base)
    _words(picture, draw, row, base - row["scale"], streams[3])
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))


def draw_small_world(flavour, position, light, size):
    """The one-product world: a can on a shore, its flavour, its place from left to right, and the hour."""
    S = _canvas_size(size)
    centre, base = 0.24 + 0.52 * position, 0.91
    row = {"product": "can", "brand": "Orrin", "material": "metal", "pack_rgb": FLAVOUR_COLOURS[flavour]}
    pack = draw_pack(row, round(0.76 * S), -1)
    scene, lamp = evening(light, centre, base, pack.shape[1] / S / 2)
    pack[..., :3] *= lamp
    picture = _enlarged(scene, S)
    _stand(picture, pack, centre, base)
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))


def _canvas_size(size):
    """Everything is drawn two or three times as large and averaged, so that edges are smooth."""
    return size * (3 if size <= 128 else 2)


def _enlarged(scene, S):
    """A backdrop as an image of S x S pixels."""
    return Image.fromarray((scene * 255).astype(np.uint8)).resize((S, S), Image.Resampling.BICUBIC)


def _stand(picture, pack, centre, base):
    """Put the pack on its place."""
    S = picture.width
    place = round(centre * S - pack.shape[1] / 2), round((base + 0.012) * S) - pack.shape[0]
    pixels = (pack * 255).astype(np.uint8)
    picture.paste(Image.fromarray(pixels[..., :3]), place, Image.fromarray(pixels[..., 3]))


def _person_place(position):
    """Centre of the head: beside the pack, away from the badge."""
    return {"centre": 0.17, "left": 0.79, "right": 0.21}[position], 0.55


def badge_place(position):
    """Left, top, right, bottom of the badge for a position of the pack."""
    x, y = (0.16 if position == "right" else 0.84), 0.285
    edge = BADGE_RADIUS + 0.008
    return x - edge, y - edge, x + edge, y + edge


def _props(picture, row, centre, half_width, rng):
    """Strew the theme's props where they hide nothing."""
    S = picture.width
    x, y = _person_place(row["position"])
    taken = [(centre - half_width, 0, centre + half_width, 1), badge_place(row["position"])]
    taken += [(0, 0, 1, 0.20), (0, 0.89, 1, 1), (x - 0.17, y - 0.2, x + 0.17, 1)]
    kinds, spins, sizes = rng.integers(0, 3, 5), rng.integers(0, 24, 5), rng.uniform(0.09, 0.15, 5)
    spots = rng.uniform(0.07, 0.93, (5, 14, 2))
    for k in range(row["clutter"]):
        kind = PROPS[row["theme"]][kinds[k]]
        if kind in STANDING:
            spots[k, :, 1] = 0.80 + 0.05 * spots[k, :, 1]
        rooms = [_room(spot, sizes[k], taken) for spot in spots[k].tolist()]
        x, y = spots[k, int(np.argmax(rooms))]
        half = sizes[k] / 2
        taken.append((x - half, y - half, x + half, y + half))
        drawn = sprite(kind, max(4, round(sizes[k] * S)), int(spins[k]) * 15)
        picture.paste(drawn, (round(x * S - drawn.width / 2), round(y * S - drawn.height / 2)), drawn)


def _room(spot, size, taken):
    """How far a prop at `spot` keeps from what is taken: negative where it overlaps."""
    x, y = spot
    return min(max(a - x, x - c, b - y, y - d) for a, b, c, d in taken) - size / 2


def _stationery(draw, row, S):
    """What the brand's layout prints on every ad: a frame or a band."""
    grid = BRANDS[row["brand"]][3]
    if grid == "framed":
        ink = DARK if luminance(row["background_rgb"]) > 0.55 else LIGHT
        draw.rectangle(
            [S * 0.022, S * 0.022, S * 0.978, S * 0.978], outline=ink, width=max(1, round(S * 0.006))
        )
    elif grid == "band":
        draw.rectangle([0, S * 0.882, S, S], fill=_ints(np.asarray(row["background_rgb"]) * 45 + 18))


def _words(picture, draw, row, pack_top, rng):
    """Headline, logo, button and badge, in the brand's layout."""
    S = picture.width
    which = rng.integers(0, 2**20, 3)
    typeface, _, mark, grid = BRANDS[row["brand"]]
    button, logo = GRIDS[grid]
    if row["headline"] != "none":
        lines = PRODUCTS[row["product"]][1 if row["headline"] == "short" else 2]
        _headline(picture, draw, lines[which[0] % len(lines)], row, pack_top)
    ink = _ink(picture, (logo[0], 0.92, logo[1], 0.965))
    draw_mark(draw, mark, (logo[0] + 0.022) * S, 0.943 * S, 0.022 * S, ink)
    write(
        draw,
        (logo[0] + 0.055) * S,
        0.943 * S,
        row["brand"],
        ink,
        typeface,
        (logo[1] - logo[0]) * S,
        0.042 * S,
        "lm",
    )
    if row["call_to_action"]:
        _button(draw, CALLS[which[1] % len(CALLS)], row["button_hue"], button, S)
    if row["badge"]:
        _badge(picture, row, OFFERS[which[2] % len(OFFERS)])


def _ink(picture, box):
    """Dark or light, whichever stands out from that part of the picture."""
    S = picture.width
    part = picture.crop([round(edge * S) for edge in box]).resize((8, 8), Image.Resampling.BOX)
    return DARK if luminance(np.asarray(part, dtype=float) / 255).mean() > 0.55 else LIGHT


def _headline(picture, draw, text, row, pack_top):
    """One line above the pack; two lines beside the badge's place where a small pack leaves room."""
    S = picture.width
    typeface, _, _, grid = BRANDS[row["brand"]]
    short = row["headline"] == "short"
    left, top, right, bottom = (0.055, 0.042, 0.945, min(0.150 if short else 0.120, pack_top - 0.015))
    anchor = "lm" if grid == "left" else "mm"
    if row["scale"] < 0.55 and not short:
        text, bottom = text.replace("/", "\n"), 0.235
        left, right, anchor = (0.055, 0.68, "lm") if row["position"] != "right" else (0.32, 0.945, "rm")
    x = {"l": left, "m": (left + right) / 2, "r": right}[anchor[0]]
    size = (right - left) * S, (bottom - top) * S
    ink = _ink(picture, (left, top, right, bottom))
    write(draw, x * S, (top + bottom) / 2 * S, text.replace("/", " "), ink, typeface, *size, anchor)


def _button(draw, text, hue, ends, S):
    """The call to action, in a colour that carries white type."""
    colour = rgb([hue, 0.80, 0.78])
    colour = colour * min(1, 0.36 / luminance(colour))
    left, top, right, bottom = ends[0] * S, FOOT[0] * S, ends[1] * S, FOOT[1] * S
    for shift, shade in ((0.006 * S, 0.6), (0, 1)):
        draw.rounded_rectangle(
            [left, top + shift, right, bottom + shift], (bottom - top) / 2, _ints(colour * 255 * shade)
        )
    middle = (left + right) / 2, (top + bottom) / 2
    write(draw, *middle, text, LIGHT, "geometric", (right - left) * 0.76, (bottom - top) * 0.62)


def _badge(picture, row, text):
    """The price badge: a red or yellow star with the offer."""
    S = picture.width
    left, top, right, bottom = badge_place(row["position"])
    star = _badge_sprite(bool(row["badge_red"]), text, round(2 * BADGE_RADIUS * S))
    x, y = (left + right) / 2 * S, (top + bottom) / 2 * S
    picture.paste(star, (round(x - star.width / 2), round(y - star.height / 2)), star)


@lru_cache(64)
def _badge_sprite(red, text, size):
    """The badge as an RGBA image."""
    w = size * 2
    angle = np.arange(40) * np.pi / 20
    radius = np.where(np.arange(40) % 2, 0.5, 0.44) * w
    outline = list(zip(w / 2 + radius * np.cos(angle), w / 2 + radius * np.sin(angle), strict=True))
    fill, ink = ((214, 28, 44), LIGHT) if red else ((252, 206, 48), (40, 26, 30))
    star = Image.new("RGBA", (w, w), (*fill, 0))
    draw = ImageDraw.Draw(star)
    draw.polygon(outline, (*fill, 255))
    draw.ellipse([w * 0.09, w * 0.09, w * 0.91, w * 0.91], outline=(*ink, 255), width=round(w * 0.012))
    write(draw, w / 2, w / 2, text.replace("/", "\n"), (*ink, 255), "geometric", w * 0.70, w * 0.42)
    return star.resize((size, size), Image.Resampling.BOX)


def _ints(colour):
    return tuple(int(share) for share in colour)
