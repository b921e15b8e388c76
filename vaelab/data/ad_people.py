"""A friendly illustrated person: flat shapes, smiling eyes, many kinds of skin and hair."""

import numpy as np
from PIL import ImageDraw

from .ad_brands import luminance

SKINS = np.array(
    [[250, 219, 194], [238, 190, 152], [205, 146, 104], [156, 102, 68], [104, 66, 46]], dtype=float
)
HAIR = ((44, 30, 30), (92, 54, 34), (150, 86, 44), (218, 168, 88), (170, 74, 40), (176, 172, 172))
SHIRTS = ((34, 96, 110), (232, 112, 84), (240, 190, 70), (98, 82, 150), (66, 128, 92), (238, 232, 220))
STYLES = ("bob", "bun", "short", "curls", "scarf", "long")


def draw_person(picture, place, skin, side, rng):
    """Draw head and shoulders; `place` is the centre of the head as shares of the picture, `skin` 0 to 1.

    The light comes from `side` (-1 left, 1 right).
    """
    S = picture.width
    draw = ImageDraw.Draw(picture)
    x, y, r = place[0] * S, place[1] * S, 0.105 * S
    tone = np.array([np.interp(skin * 4, range(5), SKINS[:, c]) for c in range(3)])
    hair = HAIR[rng.integers(0, 2 if skin > 0.6 else len(HAIR))]
    if abs(luminance(np.array(hair)) - luminance(tone)) < 45:  # hair that stands out from the skin
        hair = HAIR[1] if skin < 0.6 else HAIR[0]
    shirt, style = SHIRTS[rng.integers(len(SHIRTS))], STYLES[rng.integers(len(STYLES))]
    lips, glasses = rng.random() < 0.5, rng.random() < 0.2

    def disc(cx, cy, rx, ry, fill):
        draw.ellipse(
            [x + (cx - rx) * r, y + (cy - ry) * r, x + (cx + rx) * r, y + (cy + ry) * r], fill=_ints(fill)
        )

    def arc(cx, cy, rx, ry, start, end, fill, width):
        box = [x + (cx - rx) * r, y + (cy - ry) * r, x + (cx + rx) * r, y + (cy + ry) * r]
        draw.arc(box, start, end, fill=_ints(fill), width=max(1, round(width * r)))

    _hair_behind(style, disc, hair, shirt)
    for shift, grow, shade in ((0, 1, 0.88), (0.10 * side, 0.93, 1.0)):
        fill = np.array(shirt) * shade
        disc(shift, 2.75, 1.55 * grow, 1.25 * grow, fill)
        edges = [x + (shift - 1.55 * grow) * r, x + (shift + 1.55 * grow) * r]
        draw.rectangle([edges[0], y + 2.75 * r, edges[1], S], fill=_ints(fill))
    disc(0, 1.62, 0.52, 0.30, tone * 0.86)
    draw.rectangle([x - 0.33 * r, y + 0.7 * r, x + 0.33 * r, y + 1.62 * r], fill=_ints(tone * 0.86))
    for ear in (-0.84, 0.84):
        disc(ear, 0.12, 0.16, 0.22, tone * 0.92)
    disc(0, 0, 0.84, 1.08, tone * 0.93)
    disc(0.06 * side, -0.03, 0.77, 1.02, tone)
    for cheek in (-0.47, 0.47):
        disc(cheek, 0.36, 0.19, 0.14, tone * 0.8 + np.array([58, 14, 20]) * 0.9)
    ink = tone * 0.22
    for eye in (-0.34, 0.34):
        arc(eye, 0.10, 0.17, 0.17, 200, 340, ink, 0.085)
        arc(eye, -0.20, 0.20, 0.13, 205, 335, np.array(hair) * 0.8, 0.07)
        if glasses:
            arc(eye, 0.05, 0.28, 0.27, 0, 360, (40, 36, 44), 0.06)
    arc(0.02, 0.24, 0.10, 0.13, 20, 160, tone * 0.74, 0.07)
    mouth = [x - 0.34 * r, y + 0.24 * r, x + 0.34 * r, y + 0.78 * r]
    draw.chord(
        mouth,
        8,
        172,
        fill=(255, 250, 244),
        outline=_ints((186, 62, 70) if lips else tone * 0.5),
        width=max(1, round(0.055 * r)),
    )
    _hair_before(style, draw, disc, x, y, r, hair, shirt)


def _hair_behind(style, disc, hair, shirt):
    if style == "bob":
        disc(0, 0.08, 1.10, 1.28, hair)
    elif style == "bun":
        disc(0, -1.32, 0.42, 0.40, hair)
        disc(0, -0.14, 0.96, 1.10, hair)
    elif style == "curls":
        for a in np.linspace(-2.5, 2.5, 11):
            disc(1.0 * np.sin(a), -0.28 - 0.92 * np.cos(a), 0.44, 0.44, hair)
    elif style == "long":
        disc(0, 0.0, 1.06, 1.24, hair)
        disc(0, 1.1, 1.12, 1.0, hair)
    elif style == "scarf":
        disc(0, 0.05, 1.04, 1.28, np.array(shirt) * 0.86)
    else:
        disc(0, -0.20, 0.93, 1.04, hair)


def _hair_before(style, draw, disc, x, y, r, hair, shirt):
    """The fringe: a cap over the forehead, cut by the style."""
    fill = _ints(np.array(shirt) * 0.86 if style == "scarf" else hair)
    box = [x - 0.90 * r, y - 1.14 * r, x + 0.90 * r, y + 0.62 * r]
    start, end = {"bob": (188, 352), "scarf": (196, 344), "bun": (200, 340)}.get(style, (194, 346))
    draw.chord(box, start, end, fill=fill)
    if style in ("bob", "long"):
        draw.pieslice([x - 0.92 * r, y - 1.16 * r, x + 0.92 * r, y + 0.5 * r], 180, 236, fill=fill)


def _ints(colour):
    return tuple(int(min(255, max(0, share))) for share in colour)
