"""Can it still be read? Words found by text recognition, letters of a known height, typefaces and logos.

A reader here is any object with `read(picture) -> list[Word]`; `Reader` is the one that we use.
"""

import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from vaelab.data import ad_type

WORDS = ("SUMMER SALE", "FRESH TASTE", "ORDER TODAY", "NEW FLAVOUR", "BEST PRICE", "MADE BY HAND", "BUY 3 GET 2",
         "JUST 24 KCAL")  # fmt: skip
TYPEFACES = ("condensed", "geometric", "rounded", "serif", "script", "DejaVuSans", "STIXGeneral", "cmtt10")
INK, PACK = (0.16, 0.13, 0.20), (0.94, 0.88, 0.77)
FINE = 8  # letters are drawn 8 times as large and averaged down: soft edges, and heights exact to 1/8 pixel


class Word(NamedTuple):
    """Text found in a picture: usually a line. `box` is (top, left, height, width) in pixels, confidence 0 to 1."""

    text: str
    box: tuple[int, int, int, int]
    confidence: float


class Reader:
    """Text recognition by RapidOCR 3 (`pip install vaelab[ocr]`), whose models come inside its package.

    It takes 0.3 to 1 s a picture on one core, the longer the more lines there are. Make one reader and keep it.
    Raises: ModuleNotFoundError without rapidocr.
    """

    def __init__(self):
        from rapidocr import RapidOCR

        threads = torch.get_num_threads()
        # The search for text works at 480 pixels or more. No text stands upside down, so nothing asks whether it does.
        settings = {"Global.log_level": "critical", "Global.use_cls": False, "Det.limit_side_len": 480}
        settings |= {
            f"EngineConfig.onnxruntime.{kind}_op_num_threads": threads for kind in ("intra", "inter")
        }
        self.engine = RapidOCR(params=settings)

    def read(self, picture):
        """The words in one picture `(3, H, W)`, in reading order; what it is less than half sure of is left out.

        Pictures below 512 pixels are enlarged first, so that small letters are found; boxes count the pixels given.
        """
        short, long = sorted(picture.shape[1:])
        scale = max(1, min(math.ceil(512 / short), 2000 // long))
        large = F.interpolate(picture[None].float(), scale_factor=scale, mode="bicubic")[0].clamp(0, 1)
        seen = self.engine((large * 255).round().byte().permute(1, 2, 0).numpy()[:, :, ::-1])
        if seen.txts is None:
            return []
        corners = np.asarray(seen.boxes) / scale  # (lines, 4, 2) as x, y
        low, high = np.floor(corners.min(1)).astype(int).clip(0), np.ceil(corners.max(1)).astype(int)
        boxes = [(int(y), int(x), int(b - y), int(r - x)) for (x, y), (r, b) in zip(low, high, strict=True)]
        return reading_order([Word(*w) for w in zip(seen.txts, boxes, map(float, seen.scores), strict=True)])


def reading_order(words):
    """Words from top to bottom and, where one's middle lies beside another, from left to right."""
    rows = []
    for word in sorted(words, key=lambda w: w.box[0] + w.box[2] / 2):
        first = rows[-1][0] if rows else word
        if rows and word.box[0] + word.box[2] / 2 < first.box[0] + first.box[2]:
            rows[-1].append(word)
        else:
            rows.append([word])
    return [word for row in rows for word in sorted(row, key=lambda w: w.box[1])]


def edit_distance(a, b):
    """How many characters must be put in, taken out or changed to make `a` into `b` (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def character_accuracy(expected, seen):
    """1 − edit distance / expected length, at least 0; spaces and upper or lower case do not count.

    Raises: ValueError if nothing is expected.
    """
    expected, seen = ("".join(text.split()).casefold() for text in (expected, seen))
    if not expected:
        raise ValueError("The expected text is empty: an accuracy needs one character at least.")
    return max(0.0, 1 - edit_distance(expected, seen) / len(expected))


@lru_cache(64)
def _capitals(typeface, height):
    """The font whose capital H is `height` pixels high. Names are ours or, beyond them, matplotlib's."""
    from PIL import ImageFont

    file = ad_type.FILES.get(typeface)
    if file is None:
        import matplotlib

        file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{typeface}.ttf"
    if not file.is_file():
        raise ValueError(f"There is no typeface {typeface!r}: choose from {', '.join(TYPEFACES)}.")
    basic = ImageFont.Layout.BASIC
    _, top, _, bottom = ImageFont.truetype(file, 1000, layout_engine=basic).getbbox("H")
    return ImageFont.truetype(file, 1000 * height / (bottom - top), layout_engine=basic)


def lettering(lines, height, typeface="geometric", side=None):
    """Dark lines of text on a light pack colour, `(3, H, W)`, whose capitals are `height` pixels high.

    A margin of `height` runs around the text; or the picture is `side` x `side` pixels, the text at its top left.
    """
    from PIL import Image, ImageDraw

    font, pitch = _capitals(typeface, FINE * height), round(1.9 * FINE * height)
    wide = math.ceil(max(map(font.getlength, lines)) / FINE) + 2 * height
    high = math.ceil(pitch * (len(lines) - 1) / FINE) + 3 * height
    high, wide = (side, side) if side else (high, wide)
    canvas = Image.new("L", (FINE * wide, FINE * high), 0)
    for i, line in enumerate(lines):
        place = FINE * height, 2 * FINE * height + i * pitch  # the foot of the line's first letter
        ImageDraw.Draw(canvas).text(place, line, 255, font=font, anchor="ls")
    cover = torch.from_numpy(np.array(canvas.reduce(FINE))).float() / 255
    ink, pack = (torch.tensor(colour)[:, None, None] for colour in (INK, PACK))
    return pack + cover * (ink - pack)


class Sheet(NamedTuple):
    """A test picture `(3, S, S)`, the words on it, and the height of their capitals in pixels."""

    picture: torch.Tensor
    words: tuple[str, ...]
    height: int


def letter_sheet(heights, words=WORDS, typeface="geometric"):
    """One `Sheet` a height: the words, a line each, dark on a light pack colour; always the same pixels.

    The height is that of the capitals, so write the words in capitals and digits. The sheets are squares whose side
    is a multiple of 64 pixels, so that every VAE takes them.
    """
    sheets = []
    for height in heights:
        least = max(lettering(words, height, typeface).shape[1:])
        picture = lettering(words, height, typeface, 64 * math.ceil(least / 64))
        sheets.append(Sheet(picture, tuple(words), height))
    return sheets


class Legibility(NamedTuple):
    """From which height of capitals on words can be read, in pixels: after a round trip, and untouched.

    Attributes:
        height: the smallest height at and above which the level is reached; None if it never is.
        curve: height -> share of the characters read after the round trip.
        untouched_height, untouched_curve: the same before it. The reader's own limit: no VAE can look better.
    """

    height: int | None
    curve: dict[int, float]
    untouched_height: int | None
    untouched_curve: dict[int, float]


def smallest_legible(round_trip, heights=range(5, 31), reader=None, level=0.95, typeface="geometric"):
    """How small may letters be? Sheets of every height go through `round_trip` and are read: a `Legibility`.

    With all 26 heights and `Reader` it takes about 40 s on one core, beside the round trips. A limit equal to the
    smallest height asked for may lie below it.

    Args:
        round_trip: a function of pictures `(N, 3, H, W)` that gives as many of the same size.
        level: share of the characters that must be read.
    """
    reader = reader or Reader()
    curve, untouched = {}, {}
    for sheet in letter_sheet(sorted(heights), typeface=typeface):
        with torch.no_grad():
            back = round_trip(sheet.picture[None])
        if back.shape[1:] != sheet.picture.shape:
            raise ValueError(
                f"The round trip gave {tuple(back.shape)} for {(1, *sheet.picture.shape)}: keep the size."
            )
        for shares, picture in ((untouched, sheet.picture), (curve, back[0])):
            seen = " ".join(word.text for word in reader.read(picture))
            shares[sheet.height] = character_accuracy(" ".join(sheet.words), seen)
    return Legibility(_limit(curve, level), curve, _limit(untouched, level), untouched)


def _limit(curve, level):
    """The smallest height from which on every height reaches the level."""
    reached = None
    for height in sorted(curve, reverse=True):
        if curve[height] < level:
            break
        reached = height
    return reached


def grey(pictures):
    """The brightness of pictures `(..., C, H, W)` as `(..., H, W)`: BT.601's weights of red, green and blue."""
    if pictures.shape[-3] == 1:
        return pictures.squeeze(-3)
    return torch.einsum("...chw,c->...hw", pictures, pictures.new_tensor([0.299, 0.587, 0.114]))


def recognise_typeface(picture, text, height, typefaces=TYPEFACES):
    """Which typeface is it? The one whose rendering of `text` fits a place of the picture best.

    It always names one, by the normalised correlation of brightness (light letters on dark count too).

    Args:
        picture: `(3, H, W)`, a crop around the text.
        height: of its capitals, in pixels.
    """
    from skimage.feature import match_template

    seen, fit = grey(picture).numpy(), {}
    for typeface in typefaces:
        letters = grey(lettering([text], height, typeface)).numpy()
        room = [(0, max(0, need - have)) for need, have in zip(letters.shape, seen.shape, strict=True)]
        fit[typeface] = np.abs(match_template(np.pad(seen, room, mode="edge"), letters)).max()
    return max(fit, key=fit.get)


def logo_match(original, reconstruction):
    """Are the edges of a logo where they were? 1 for the same ones, about 0 for unrelated ones.

    The normalised correlation of the brightness gradients of two crops `(3, H, W)`, so that a mere change of colour
    does not count; NaN where one of them has no edge at all.
    """
    a, b = (torch.cat([grey(crop).double().diff(dim=axis).flatten() for axis in (0, 1)])
            for crop in (original, reconstruction))  # fmt: skip
    return float(a @ b / (a.norm() * b.norm()))
