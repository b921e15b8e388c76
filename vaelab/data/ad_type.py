"""Type and logo marks: the typefaces that come with the package, and text fitted to a box."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONTS = Path(__file__).parent / "fonts"
FILES = {path.stem: path for path in FONTS.glob("*.?tf")}


@lru_cache(4096)
def font(typeface, pixels):
    """A typeface at a whole number of pixels."""
    return ImageFont.truetype(FILES[typeface], max(4, int(pixels)), layout_engine=ImageFont.Layout.BASIC)


@lru_cache(4096)
def _ink_size(typeface, text):
    """Width and height at 100 pixels, from ascender to baseline or descender as the lines need."""
    canvas = ImageDraw.Draw(Image.new("L", (1, 1)))
    left, top, right, bottom = canvas.multiline_textbbox((0, 0), text, font(typeface, 100), spacing=20)
    return right - left, bottom - top


def fitted_font(typeface, text, width, height):
    """The largest font in which `text` fits into width x height pixels."""
    wide, high = _ink_size(typeface, text)
    return font(typeface, 100 * min(width / wide, height / high))


def write(draw, x, y, text, fill, typeface, width, height, anchor="mm"):
    """Text of one or two lines as large as fits into width x height pixels."""
    face = fitted_font(typeface, text, width, height)
    align = {"l": "left", "m": "center", "r": "right"}[anchor[0]]
    draw.text((x, y), text, fill, font=face, anchor=anchor, align=align, spacing=0.2 * face.size)


def draw_mark(draw, mark, x, y, radius, fill):
    """A brand's logo mark, centred at (x, y)."""
    angle = np.linspace(0, np.pi, 25)
    if mark == "sun":
        arc = [(x - radius * 0.62 * np.cos(a), y + radius * (0.45 - 0.62 * np.sin(a))) for a in angle]
        draw.polygon(arc, fill)
        for a in angle[2:-1:5]:
            ray = [(x - radius * k * np.cos(a), y + radius * (0.45 - k * np.sin(a))) for k in (0.8, 1.15)]
            draw.line(ray, fill, max(1, round(radius * 0.14)))
    elif mark == "leaf":
        t = np.linspace(-1, 1, 25)
        for turn, size in ((0.55, 1.0), (-0.75, 0.62)):  # two leaves from one foot
            c, s = np.cos(turn) * size * radius, np.sin(turn) * size * radius
            along, across = np.concatenate([t, t[::-1]]) + 1, np.concatenate([1 - t**2, t**2 - 1]) * 0.42
            points = zip(x + along * s + across * c, y + radius - along * c + across * s, strict=True)
            draw.polygon(list(points), fill)
    elif mark == "drop":
        a = np.linspace(0, 2 * np.pi, 40)
        points = zip(0.62 * np.sin(a) * np.sin(a / 2), -np.cos(a), strict=True)
        draw.polygon([(x + radius * px, y - radius * -py) for px, py in points], fill)
    else:
        points = [(0.25, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.25, 1), (0.6, -0.2), (0.05, -0.2)]
        draw.polygon([(x + radius * px, y + radius * py) for px, py in points], fill)
