"""Backdrops: a setting, its light and its shadows, made small and enlarged, so that they look out of focus.

A picture here is float32 (3, B, B) on a grid of B = 128, a colour (3, 1, 1), a coverage (B, B); x and y run from
0 to 1, y down. (Channels come first because numpy is several times quicker so.)
"""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .ad_props import leaf

B = 128
Y, X = ((np.mgrid[0:B, 0:B] + 0.5) / B).astype(np.float32)
# where fronds and branches start, their direction and length
FRONDS = {
    "palm": ((-0.06, 0.10, -0.05, 0.62), (-0.05, 0.34, 0.05, 0.50), (0.16, -0.08, 0.55, 0.50)),
    "branch": ((-0.05, 0.06, 0.10, 0.70), (0.10, -0.08, 0.60, 0.55), (-0.05, 0.42, -0.15, 0.45)),
}
WHITE = np.float32([1, 0.99, 0.96]).reshape(3, 1, 1)


def backdrop(row, base, centre, half_width, side, rng):
    """The picture behind the pack, (B, B, 3) in [0, 1].

    The pack stands at (centre, base) and is 2 half_width wide; the light comes from `side` (-1 left, 1 right).
    """
    colour = _colour(row["background_rgb"])
    if row["background"] == "scene":
        picture = SCENES[row["theme"]](colour, side, rng)
    else:
        picture = _studio(colour, row["background"] == "gradient", base, centre, side, rng)
        picture = picture * _pattern_of_light(row["theme"], side, rng)
    picture = picture * (1 - shadows(base, centre, half_width, side))
    return np.moveaxis(picture.clip(0, 1), 0, -1)


def shadows(base, centre, half_width, side):
    """How dark the pack's shadow makes the ground, (B, B) in [0, 1): contact and cast."""
    x, y = X[:1], Y[:, :1]
    far = centre - side * half_width * 0.9
    near = np.exp(-(((x - centre) / (half_width * 1.05)) ** 4)) * np.exp(-(((y - base) / 0.016) ** 2))
    cast = np.exp(-(((x - far) / (half_width * 1.7)) ** 2)) * np.exp(-(((y - base + 0.012) / 0.032) ** 2))
    return 0.55 * near + 0.34 * cast * (1 - near)


def _colour(rgb):
    """Red, green, blue as (3, 1, 1); pictures stay as they are."""
    rgb = np.asarray(rgb, dtype=np.float32)
    return rgb.reshape(3, 1, 1) if rgb.ndim == 1 else rgb


def tint(colour, towards, share):
    """Blend two colours."""
    return colour + (_colour(towards) - colour) * np.float32(share)


def _glow(x, y, radius, power=2):
    """A soft round light, 1 at its centre."""
    return np.exp(-((((X - x) ** 2 + (Y - y) ** 2) / radius**2) ** (power / 2)))


def _over(picture, colour, cover):
    """Lay a colour over a picture by coverage (B, B)."""
    return picture + (_colour(colour) - picture) * cover


def _below(line, softness=0.012):
    """Coverage of everything under a line y(x)."""
    return ((Y - line) / softness + 0.5).clip(0, 1)


def _studio(colour, gradient, base, centre, side, rng):
    """A paper sweep, plain or with a light behind the pack."""
    floor = tint(colour, [1, 1, 1], 0.10) * (1 - 0.10 * (Y - 0.7).clip(0))
    picture = _over(np.broadcast_to(colour, (3, B, B)), floor, _below(base - 0.13, 0.14))
    if gradient:
        fall = 0.74 + 0.40 * (0.5 + 0.5 * side * (X - 0.5) * 1.6 + 0.35 * (0.6 - Y))
        picture = picture * fall
        picture = _over(picture, tint(colour, WHITE, 0.75), 0.62 * _glow(centre, base - 0.36, 0.36))
        picture = _over(
            picture,
            tint(colour, WHITE, 0.55),
            0.5 * _below(base - 0.13, 0.02) * _glow(centre, base, 0.6),
        )
    return picture


def _pattern_of_light(theme, side, rng):
    """What the theme's light draws on a studio wall, (B, B) about 1."""
    x = X if side < 0 else 1 - X
    if theme == "everyday":  # a window
        u, v = x * 1.0 + Y * 0.45 - 0.30, Y * 1.0 - x * 0.18
        pane = _soft_box(u, 0.05, 0.29) + _soft_box(u, 0.33, 0.57)
        return 0.93 + 0.13 * pane * (_soft_box(v, -0.1, 0.28) + _soft_box(v, 0.32, 0.75))
    if theme == "summer":  # palm fronds
        return 1.04 - 0.20 * _foliage("palm", side)
    if theme == "winter":  # snowfall
        return 1 + _dots(rng, 26, 0.006, 0.020, 0.32)
    if theme == "launch":  # two beams
        beams = sum(_beam(a, b) for a, b in ((0.12, 0.5), (0.88, 0.5)))
        return 0.90 + 0.20 * beams
    return 1.05 - 0.18 * _foliage("branch", side)  # low sun through a branch


@lru_cache
def _foliage(kind, side):
    """The soft shadow of leaves reaching in from the lamp's side, (B, B) in [0, 1]."""
    k = 4
    picture = Image.new("L", (B * k, B * k))
    draw = ImageDraw.Draw(picture)
    for x, y, turn, length in FRONDS[kind]:
        t = np.linspace(0.08, 1, 12 if kind == "palm" else 8)
        bend = turn + 0.5 * t
        stem = np.stack([x + length * t * np.cos(bend), y + length * t * np.sin(bend)], axis=1)
        draw.line([tuple(point * B * k) for point in stem], 255, round(0.007 * B * k))
        for point, angle, share in zip(stem, bend, t, strict=True):
            for lean in (-1, 1):
                long, wide = (0.25 * np.sin(0.5 + 2.4 * share), 0.021) if kind == "palm" else (0.12, 0.030)
                direction = angle + lean * (0.95 - 0.35 * share)
                leaf(draw, point * B * k, long * B * k, wide * B * k, direction + np.pi / 2, 255)
    picture = picture.filter(ImageFilter.GaussianBlur(0.9 * k)).resize((B, B), Image.Resampling.BOX)
    shadow = np.asarray(picture, dtype=np.float32) / 255
    return shadow if side < 0 else shadow[:, ::-1]


def _soft_box(u, low, high):
    return ((u - low) / 0.02 + 0.5).clip(0, 1) * ((high - u) / 0.02 + 0.5).clip(0, 1)


@lru_cache
def _beam(start, end):
    """A cone of light from the top at x = start to the ground at x = end, (B, B)."""
    centre = start + (end - start) * Y
    width = 0.03 + 0.20 * Y
    return np.exp(-(((X - centre) / width) ** 4)) * (1 - 0.5 * Y)


def _dots(rng, n, small, large, strength):
    """Round out-of-focus spots, (B, B)."""
    spots = np.zeros((B, B), dtype=np.float32)
    for x, y, size, power in rng.random((4, n), dtype=np.float32).T.tolist():
        radius = small + (large - small) * size**2
        reach = int(radius * B) + 2
        i, j = int(y * B), int(x * B)
        part = np.s_[max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1]
        distance = np.hypot(X[part] - x, Y[part] - y)
        spots[part] += (0.35 + 0.65 * power) * ((radius - distance) / 0.008 + 0.5).clip(0, 1)
    return strength * spots


def _everyday(colour, side, rng):
    """A kitchen counter by the window, lights far behind."""
    picture = colour * (0.86 + 0.24 * (0.5 + side * (X - 0.5)))
    u = X if side > 0 else 1 - X
    window = _soft_box(u, 0.62, 0.97) * _soft_box(Y, -0.2, 0.46)
    bars = 1 - 0.8 * (np.exp(-(((u - 0.795) / 0.014) ** 2)) + np.exp(-(((Y - 0.2) / 0.014) ** 2))).clip(0, 1)
    picture = _over(picture, tint(colour, WHITE, 0.80), 0.75 * window * bars)
    shelf = _soft_box(u, 0.0, 0.36) * _soft_box(Y, 0.375, 0.40)
    picture = _over(picture, colour * 0.62, shelf)
    for x, h, hue in ((0.05, 0.14, 0.85), (0.14, 0.10, 1.15), (0.23, 0.17, 0.72), (0.31, 0.08, 1.05)):
        picture = _over(
            picture,
            (colour * hue).clip(0, 1),
            0.8 * _soft_box(u, x - 0.035, x + 0.035) * _soft_box(Y, 0.375 - h, 0.375),
        )
    wood = tint(_colour([0.66, 0.46, 0.30]), colour, 0.25)
    grain = 1 + 0.05 * np.sin(Y * 210 + 3 * np.sin(X * 5)) + 0.22 * (0.95 - Y)
    return _over(picture, wood * grain, _below(0.735, 0.014))


def _summer(colour, side, rng):
    """Sun, sea and sand."""
    x = 0.5 + 0.30 * side
    sky = (
        tint(colour, WHITE, 0.10)
        + (tint(colour, WHITE, 0.55) - tint(colour, WHITE, 0.10)) * (Y / 0.55).clip(0, 1) ** 2
    )
    sky = _over(sky, [1, 0.96, 0.80], 0.75 * _glow(x, 0.30, 0.20) + 0.25 * _glow(x, 0.30, 0.5))
    sky = _over(sky, [1, 0.98, 0.88], ((0.075 - np.hypot(X - x, Y - 0.30)) / 0.01 + 0.5).clip(0, 1))
    sea = tint(colour * 0.72, [0.05, 0.45, 0.60], 0.35) * (1.25 - 0.5 * (Y - 0.52))
    wave = np.sin(Y * 230 + 2 * np.sin(X * 7 + Y * 11)) * np.sin(X * 21 + Y * 47)
    sparkle = (2 * wave - 0.4).clip(0, 1) * np.exp(-(((X - x) / (0.04 + 0.6 * (Y - 0.5).clip(0))) ** 2))
    sea = _over(sea, [1, 0.97, 0.86], 0.75 * sparkle)
    picture = _over(sky, sea, _below(0.53, 0.01))
    shore = 0.715 + 0.012 * np.sin(X * 11 + side)
    picture = _over(picture, [1, 1, 1], 0.75 * _below(shore - 0.016, 0.01))
    sand = tint(_colour([0.94, 0.83, 0.62]), colour, 0.18) * (1.06 - 0.25 * (Y - 0.7))
    return _over(picture, sand, _below(shore, 0.012))


def _hills(picture, colours, lines, softness=0.012):
    for colour, line in zip(colours, lines, strict=True):
        picture = _over(picture, colour, _below(line, softness))
    return picture


def _winter(colour, side, rng):
    """Snowy hills, firs, and snow in the air."""
    picture = tint(colour, WHITE, 0.05) + (tint(colour, WHITE, 0.45) - colour) * (Y / 0.6).clip(0, 1) ** 1.5
    ridge = 0.50 - 0.10 * np.abs(((X * 2.3 + 0.25 * side) % 1) - 0.5) * 2
    picture = _hills(picture, [tint(colour, [0.86, 0.92, 1], 0.62)], [ridge], 0.02)
    for x in np.sort(rng.random(9)):
        h, foot = 0.10 + 0.12 * rng.random(), 0.635
        fir = ((0.30 * (Y - foot + h) - np.abs(X - x) - 0.008 * np.sin((Y - foot) * 190)) / 0.01).clip(
            0, 1
        ) * (Y < foot)
        picture = _over(picture, tint(colour * 0.42, [0.08, 0.28, 0.30], 0.45), 0.85 * fir * (Y > foot - h))
    snow = tint(_colour([0.95, 0.97, 1.0]), colour, 0.12)
    picture = _hills(
        picture,
        [snow * 0.92, snow],
        [0.62 + 0.03 * np.sin(X * 6 + side), 0.70 - 0.025 * np.sin(X * 5)],
        0.015,
    )
    return _over(picture, [1, 1, 1], _dots(rng, 34, 0.004, 0.016, 0.9).clip(0, 1))


def _launch(colour, side, rng):
    """A stage with spotlights and glitter."""
    picture = colour * (1.08 - 0.45 * np.abs(X - 0.5) * 2) * (1 - 0.06 * np.cos(X * 95))
    for start, end in ((0.08, 0.42), (0.5, 0.5), (0.92, 0.58)):
        picture = _over(picture, tint(colour, WHITE, 0.80), 0.36 * _beam(start, end))
    stage = tint(colour * 0.70, [0.20, 0.10, 0.30], 0.25)
    picture = _over(picture, stage, _below(0.715, 0.01))
    picture = _over(
        picture,
        tint(colour, WHITE, 0.75),
        0.70 * np.exp(-(((X - 0.5) / 0.42) ** 4) - ((Y - 0.84) / 0.10) ** 4),
    )
    for gold in ([1, 0.85, 0.40], [1, 0.60, 0.75], [0.70, 0.90, 1]):
        picture = _over(picture, gold, (_dots(rng, 9, 0.006, 0.022, 0.75) * (Y < 0.70)).clip(0, 1))
    return picture


def _harvest(colour, side, rng):
    """Low sun over fields, a wooden table in front."""
    x = 0.5 - 0.28 * side
    sky = (
        tint(colour, WHITE, 0.08)
        + (tint(colour, [1, 0.86, 0.62], 0.60) - colour) * (Y / 0.55).clip(0, 1) ** 2
    )
    sky = _over(sky, [1, 0.93, 0.72], 0.80 * _glow(x, 0.40, 0.16) + 0.25 * _glow(x, 0.40, 0.45))
    fields = [
        tint(colour * 0.92, [0.72, 0.52, 0.28], 0.45),
        tint(colour * 0.75, [0.66, 0.40, 0.16], 0.55),
        tint(colour * 0.6, [0.48, 0.34, 0.14], 0.6),
    ]
    lines = [0.47 + 0.04 * np.sin(X * 5 + 1), 0.54 + 0.035 * np.sin(X * 6 + 3), 0.62 + 0.025 * np.sin(X * 7)]
    picture = _hills(sky, fields, lines)
    picture = picture * (1 + 0.06 * np.sin((X - 0.5) / (Y - 0.30).clip(0.05) * 22) * _below(0.60))
    plank = tint(_colour([0.52, 0.33, 0.20]), colour, 0.18)
    groove = (
        1
        - 0.35 * np.exp(-(((((X - 0.5) / (Y - 0.2) * 7) % 1 - 0.5) / 0.045) ** 2))
        + 0.05 * np.sin(Y * 170 + 9 * X)
    )
    picture = _over(picture, plank * (groove * (1.25 - 0.3 * Y)), _below(0.735, 0.012))
    return _over(picture, [1, 0.86, 0.50], (_dots(rng, 10, 0.010, 0.030, 0.30) * (Y < 0.72)).clip(0, 0.5))


SCENES = {"everyday": _everyday, "summer": _summer, "winter": _winter, "launch": _launch, "harvest": _harvest}

# The small world's sky, horizon and ground at night, at dusk and by day
SKY = np.float32([
    [[.07, .09, .24], [.20, .20, .42], [.13, .14, .30]],
    [[.52, .30, .50], [.98, .62, .42], [.52, .34, .42]],
    [[.36, .68, .92], [.90, .95, .94], [.93, .82, .64]],
])  # fmt: skip


def evening(light, centre, base, half_width):
    """The small world's backdrop: a sun that sets behind a shore, (B, B, 3), and the colour of its light, (3,)."""
    above, horizon, ground = (
        _colour([np.interp(2 * light, range(3), SKY[:, part, c]) for c in range(3)]) for part in range(3)
    )
    picture = above + (horizon - above) * (Y / 0.66).clip(0, 1) ** 1.4
    height = 0.84 - 0.62 * light
    sun = tint(_colour([1, 0.80, 0.50]), [1, 0.97, 0.82], light)
    picture = _over(picture, sun, 0.5 * _glow(0.5, height, 0.30) * light**0.5)
    picture = _over(picture, sun, ((0.13 - np.hypot(X - 0.5, Y - height)) / 0.014 + 0.5).clip(0, 1))
    picture = _over(picture, ground * (1.05 - 0.3 * (Y - 0.7)), _below(0.68, 0.014))
    lamp = 0.45 + 0.55 * tint(horizon, [1, 1, 1], 0.45 * light)
    picture = picture * (1 - shadows(base, centre, half_width, -1))
    return np.moveaxis(picture.clip(0, 1), 0, -1), lamp.ravel()
