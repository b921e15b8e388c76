"""A friendly illustrated person: flat shapes, smiling eyes, many kinds of skin and hair."""

import numpy as np
from PIL import ImageDraw

from .ad_brands import luminance

SKINS = np.array(
    [[250, 219, 194], [238, 190, 152], [205, 146, 104], [156, 102, 68], [104, 66, 46]], dtype=float
)
HAIR = np.array([[44, 30, 30], [92, 54, 34], [150, 86, 44], [218, 168, 88], [170, 74, 40], [176, 172, 172]])
SHIRTS = np.array(
    [[34, 96, 110], [232, 112, 84], [240, 190, 70], [98, 82, 150], [66, 128, 92], [238, 232, 220]]
)
STYLES = ("bob", "bun", "short", "curls", "scarf", "long")


class _Pen:
    """Draws in units of the head: (0, 0) is its centre, y down, its half height about 1."""

    def __init__(self, picture, place):
        self.draw = ImageDraw.Draw(picture)
        self.x, self.y, self.unit = place[0] * picture.width, place[1] * picture.width, 0.105 * picture.width

    def box(self, cx, cy, rx, ry):
        """Left, top, right, bottom in pixels."""
        x, y, unit = self.x, self.y, self.unit
        return [x + (cx - rx) * unit, y + (cy - ry) * unit, x + (cx + rx) * unit, y + (cy + ry) * unit]

    def disc(self, cx, cy, rx, ry, fill):
        self.draw.ellipse(self.box(cx, cy, rx, ry), _ints(fill))

    def block(self, cx, cy, rx, ry, fill):
        self.draw.rectangle(self.box(cx, cy, rx, ry), _ints(fill))

    def arc(self, cx, cy, rx, ry, start, end, fill, width):
        self.draw.arc(self.box(cx, cy, rx, ry), start, end, _ints(fill), max(1, round(width * self.unit)))

    def chord(self, cx, cy, rx, ry, start, end, fill, edge=None, width=0.0):
        self.draw.chord(
            self.box(cx, cy, rx, ry), start, end, _ints(fill), edge, max(1, round(width * self.unit))
        )


def draw_person(picture, place, skin, side, rng):
    """Draw head and shoulders on an image; `place` is the head's centre as shares of the picture, `skin` 0 to 1.

    The light comes from `side` (-1 left, 1 right).
    """
    tone = np.array([np.interp(skin * 4, range(5), SKINS[:, c]) for c in range(3)])
    hair = HAIR[rng.integers(0, 2 if skin > 0.6 else len(HAIR))]
    if abs(luminance(hair) - luminance(tone)) < 45:  # hair has to stand out from the skin
        hair = HAIR[1] if skin < 0.6 else HAIR[0]
    shirt, style = SHIRTS[rng.integers(len(SHIRTS))], STYLES[rng.integers(len(STYLES))]
    lips, glasses = rng.random() < 0.5, rng.random() < 0.2
    cover = shirt * 0.86 if style == "scarf" else hair
    pen = _Pen(picture, place)
    _hair_behind(pen, style, cover)
    _body(pen, tone, shirt, side)
    _face(pen, tone, hair, side, lips, glasses)
    _hair_before(pen, style, cover)


def _body(pen, tone, shirt, side):
    """Shoulders down to below the picture's edge, and the neck."""
    for shift, grow, shade in ((0, 1, 0.88), (0.10 * side, 0.93, 1.0)):
        pen.disc(shift, 2.75, 1.55 * grow, 1.25 * grow, shirt * shade)
        pen.block(shift, 5.25, 1.55 * grow, 2.5, shirt * shade)
    pen.disc(0, 1.62, 0.52, 0.30, tone * 0.86)
    pen.block(0, 1.16, 0.33, 0.46, tone * 0.86)


def _face(pen, tone, hair, side, lips, glasses):
    """A round face with smiling eyes."""
    for ear in (-0.84, 0.84):
        pen.disc(ear, 0.12, 0.16, 0.22, tone * 0.92)
    pen.disc(0, 0, 0.84, 1.08, tone * 0.93)
    pen.disc(0.06 * side, -0.03, 0.77, 1.02, tone)
    for eye in (-0.34, 0.34):
        pen.disc(1.4 * eye, 0.36, 0.19, 0.14, tone * 0.8 + [52, 13, 18])
        pen.arc(eye, 0.10, 0.17, 0.17, 200, 340, tone * 0.22, 0.085)
        pen.arc(eye, -0.20, 0.20, 0.13, 205, 335, hair * 0.8, 0.07)
        if glasses:
            pen.arc(eye, 0.05, 0.28, 0.27, 0, 360, (40, 36, 44), 0.06)
    pen.arc(0.02, 0.24, 0.10, 0.13, 20, 160, tone * 0.74, 0.07)
    mouth = _ints((186, 62, 70) if lips else tone * 0.5)
    pen.chord(0, 0.51, 0.34, 0.27, 8, 172, (255, 250, 244), mouth, 0.055)


def _hair_behind(pen, style, cover):
    if style == "bob":
        pen.disc(0, 0.08, 1.10, 1.28, cover)
    elif style == "bun":
        pen.disc(0, -1.32, 0.42, 0.40, cover)
        pen.disc(0, -0.14, 0.96, 1.10, cover)
    elif style == "curls":
        for a in np.linspace(-2.5, 2.5, 11):
            pen.disc(np.sin(a), -0.28 - 0.92 * np.cos(a), 0.44, 0.44, cover)
    elif style == "long":
        pen.disc(0, 0.0, 1.06, 1.24, cover)
        pen.disc(0, 1.1, 1.12, 1.0, cover)
    elif style == "scarf":
        pen.disc(0, 0.05, 1.04, 1.28, cover)
    else:
        pen.disc(0, -0.20, 0.93, 1.04, cover)


def _hair_before(pen, style, cover):
    """The fringe: a cap over the forehead, cut by the style."""
    start, end = {"bob": (188, 352), "scarf": (196, 344), "bun": (200, 340)}.get(style, (194, 346))
    pen.chord(0, -0.26, 0.90, 0.88, start, end, cover)
    if style in ("bob", "long"):
        pen.draw.pieslice(pen.box(0, -0.33, 0.92, 0.83), 180, 236, _ints(cover))


def _ints(colour):
    return tuple(int(min(255, max(0, share))) for share in colour)
