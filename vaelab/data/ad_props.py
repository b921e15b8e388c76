"""Props: small things that set a theme's mood, drawn once each and then turned and scaled."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

PROPS = {
    "everyday": ("mint", "bean", "daisy"),
    "summer": ("orange", "hibiscus", "ice"),
    "winter": ("flake", "bauble", "fir"),
    "launch": ("star", "balloon", "gift"),
    "harvest": ("maple", "pumpkin", "apple"),
}
STANDING = ("pumpkin", "apple", "gift", "bean", "fir")  # on the ground; the others float or fall
W = 256


@lru_cache(512)
def sprite(kind, pixels, angle):
    """A prop as an RGBA image about `pixels` wide, turned by `angle` degrees (things that stand are only tilted)."""
    if kind in ("balloon", "bauble", *STANDING):
        angle = angle % 30 - 15
    turned = _master(kind).rotate(angle, Image.Resampling.BICUBIC)
    return turned.resize((pixels, pixels), Image.Resampling.BOX)


@lru_cache
def _master(kind):
    image = Image.new("RGBA", (W, W))
    if kind in STANDING:
        ImageDraw.Draw(image).ellipse([20, 206, 236, 252], (20, 14, 24, 90))
        image = image.filter(ImageFilter.GaussianBlur(7))
    _DRAW[kind](ImageDraw.Draw(image))
    return image


def _ring(n, radius, x=W / 2, y=W / 2, start=0.0, inner=None):
    """Points on a circle, or on a star whose inner corners lie at `inner`."""
    angle = start + np.arange(n) * 2 * np.pi / n
    r = np.full(n, radius) if inner is None else np.where(np.arange(n) % 2, inner, radius)
    return list(zip(x + r * np.sin(angle), y - r * np.cos(angle), strict=True))


def leaf(draw, foot, length, width, turn, fill):
    """A pointed leaf from its foot (x, y) in direction `turn` (0 is up, clockwise); returns its tip."""
    t = np.linspace(0, 1, 20)
    edge = width * np.sin(t * np.pi) ** 0.8
    along, across = np.concatenate([t, t[::-1]]) * length, np.concatenate([edge, -edge[::-1]])
    c, s = np.cos(turn), np.sin(turn)
    x, y = foot[0] + along * s + across * c, foot[1] - along * c + across * s
    draw.polygon(list(zip(x, y, strict=True)), fill)
    return foot[0] + length * s, foot[1] - length * c


def _leaf(draw, x, y, length, width, turn, fill, vein):
    """A leaf with its vein."""
    tip = leaf(draw, (x, y), length, width, turn, fill)
    draw.line([(x, y), (x + 0.9 * (tip[0] - x), y + 0.9 * (tip[1] - y))], vein, 4)


def _mint(draw):
    for turn, length in ((-1.0, 105), (1.0, 105), (0.0, 140)):
        _leaf(draw, 128, 190, length, 34, turn, (64, 160, 92), (38, 116, 66))


def _bean(draw):
    for x, y in ((84, 110), (170, 160)):
        draw.ellipse([x - 42, y - 56, x + 42, y + 56], (96, 56, 34))
        draw.ellipse([x - 34, y - 50, x + 10, y + 20], (122, 74, 46))
        draw.arc([x - 22, y - 52, x + 22, y + 4], 90, 270, (52, 28, 18), 8)
        draw.arc([x - 22, y - 4, x + 22, y + 52], -90, 90, (52, 28, 18), 8)


def _daisy(draw):
    for turn in np.arange(11) * 2 * np.pi / 11:
        _leaf(draw, 128, 128, 108, 22, turn, (255, 252, 244), (232, 226, 214))
    draw.ellipse([94, 94, 162, 162], (246, 190, 50))
    draw.ellipse([102, 100, 140, 136], (255, 212, 90))


def _orange(draw):
    draw.ellipse([14, 14, 242, 242], (244, 130, 22))
    draw.ellipse([26, 26, 230, 230], (255, 236, 200))
    for k in range(9):
        start = k * 40
        draw.pieslice([36, 36, 220, 220], start + 3, start + 37, (255, 168, 44))
    draw.ellipse([118, 118, 138, 138], (255, 236, 200))


def _hibiscus(draw):
    for k, turn in enumerate(np.arange(5) * 2 * np.pi / 5):
        x, y = 128 + 58 * np.sin(turn), 128 - 58 * np.cos(turn)
        draw.ellipse([x - 52, y - 52, x + 52, y + 52], ((240, 72, 110), (226, 56, 98))[k % 2])
    draw.ellipse([100, 100, 156, 156], (170, 20, 66))
    draw.line([(128, 128), (176, 74)], (255, 214, 80), 12)


def _ice(draw):
    for x, y, size in ((70, 70, 100), (118, 122, 96)):
        draw.rounded_rectangle([x - 36, y - 36, x + size, y + size], 26, (214, 240, 252, 205))
        draw.rounded_rectangle([x - 18, y - 18, x + size - 26, y + size - 26], 20, (240, 252, 255, 190))
        draw.line([(x - 14, y + 40), (x - 14, y - 10), (x + 40, y - 10)], (255, 255, 255), 9)


def _flake(draw):
    white = (255, 255, 255)
    for turn in np.arange(6) * np.pi / 3:
        tip = 128 + 112 * np.sin(turn), 128 - 112 * np.cos(turn)
        draw.line([(128, 128), tip], white, 13)
        for share, twist in ((0.5, 0.7), (0.5, -0.7), (0.78, 0.7), (0.78, -0.7)):
            x, y = 128 + (tip[0] - 128) * share, 128 + (tip[1] - 128) * share
            draw.line([(x, y), (x + 36 * np.sin(turn + twist), y - 36 * np.cos(turn + twist))], white, 11)


def _bauble(draw):
    draw.rectangle([110, 22, 146, 60], (226, 186, 92))
    draw.ellipse([34, 48, 222, 236], (196, 32, 52))
    draw.ellipse([48, 60, 190, 202], (218, 52, 68))
    draw.polygon(_ring(16, 52, 128, 146, inner=24), (255, 226, 170))
    draw.ellipse([72, 80, 108, 112], (255, 190, 190))


def _fir(draw):
    draw.line([(128, 236), (128, 30)], (104, 72, 46), 9)
    for k, y in enumerate(range(50, 216, 12)):
        for turn in (-0.95, 0.95):
            length = 38 + 5 * k
            draw.line(
                [(128, y), (128 + length * np.sin(turn), y - length * np.cos(turn) * 0.7)],
                ((38, 110, 74), (58, 138, 92))[k % 2],
                10,
            )
    for x, y in ((112, 214), (142, 222), (128, 196)):
        draw.ellipse([x - 15, y - 15, x + 15, y + 15], (206, 38, 50))


def _star(draw):
    draw.polygon(_ring(10, 118, inner=52), (252, 196, 44))
    draw.polygon(_ring(10, 84, 124, 124, inner=38), (255, 218, 96))


def _balloon(draw):
    draw.line([(128, 190), (120, 220), (134, 252)], (250, 250, 250), 4)
    draw.polygon([(128, 182), (114, 206), (142, 206)], (212, 44, 96))
    draw.ellipse([50, 8, 206, 192], (236, 66, 116))
    draw.ellipse([66, 18, 176, 150], (246, 96, 140))
    draw.ellipse([84, 36, 116, 82], (255, 196, 212))


def _gift(draw):
    draw.rectangle([40, 104, 216, 236], (72, 92, 210))
    draw.rectangle([28, 76, 228, 120], (96, 118, 232))
    draw.rectangle([108, 76, 148, 236], (255, 214, 80))
    for x in (86, 170):
        draw.ellipse([x - 42, 26, x + 42, 82], outline=(255, 214, 80), width=18)


def _maple(draw):
    draw.line([(128, 246), (128, 150)], (132, 60, 24), 9)
    for turn, length, width in (
        (0, 142, 34),
        (0.85, 128, 30),
        (-0.85, 128, 30),
        (1.75, 94, 24),
        (-1.75, 94, 24),
    ):
        _leaf(draw, 128, 168, length, width, turn, (214, 92, 30), (150, 54, 20))


def _pumpkin(draw):
    draw.rectangle([116, 36, 144, 84], (92, 118, 52))
    for x, width, fill in (
        (70, 62, (214, 104, 22)),
        (186, 62, (214, 104, 22)),
        (102, 56, (232, 124, 32)),
        (154, 56, (232, 124, 32)),
        (128, 44, (246, 146, 50)),
    ):
        draw.ellipse([x - width, 70, x + width, 226], fill)


def _apple(draw):
    draw.line([(128, 92), (140, 30)], (98, 62, 36), 11)
    _leaf(draw, 140, 62, 74, 22, 1.1, (96, 156, 62), (62, 116, 40))
    for x in (96, 160):
        draw.ellipse([x - 70, 70, x + 70, 222], (200, 40, 44))
    draw.ellipse([70, 130, 186, 234], (200, 40, 44))
    draw.ellipse([52, 92, 96, 146], (232, 110, 100))


_DRAW = {name[1:]: value for name, value in dict(globals()).items() if name[1:] in sum(PROPS.values(), ())}
