"""What a round trip keeps of a picture, measured whole and by region.

`a` is always the original and `b` what came back: two batches `(N, C, H, W)` of one size in [0, 1]. No figure sees
everything. PSNR and SSIM are what papers quote; `detail_kept` says whether the fine structure is still the same one;
`colour_shift` whether the colours are; the scores by region whether the words, the face and the pack survived.
"""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional as F

from vaelab.legibility import character_accuracy, grey

FINE_DETAIL = 1 / 8  # cycles a pixel: structure finer than 8 pixels from one stripe to the next
NOTHING = (0.01 / 255) ** 2  # mean square of a hundredth of a grey level: less energy than this is none
PLAIN = 0.01**2  # mean squared slope, in grey values a pixel, below which a patch counts as flat
KINDS = ("text", "face", "texture", "edges", "flat")


def _same_size(a, b):
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(
            f"Two batches (N, C, H, W) of one size are compared; got {tuple(a.shape)} and {tuple(b.shape)}."
        )


def _large_enough(a, n, ruler):
    high, wide = a.shape[2:]
    if min(high, wide) < n:
        raise ValueError(f"{ruler} needs pictures of {n} x {n} pixels at least; these are {high} x {wide}.")


def psnr(a, b):
    """Peak signal-to-noise ratio of each picture, `(N,)` in dB: −10·log₁₀ of the mean squared error; inf if equal."""
    _same_size(a, b)
    return -10 * (a - b).double().square().flatten(1).mean(1).log10().float()


def ssim(a, b):
    """Structural similarity of each picture, `(N,)`, 1 if equal (Wang et al. 2004: Gaussian window of σ 1.5).

    Averaged, as in the paper, over the places where the whole window of 11 x 11 pixels lies inside the picture.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure as similarity

    _same_size(a, b)
    _large_enough(a, 11, "SSIM")
    _, places = similarity(b, a, data_range=1.0, reduction="none", return_full_image=True)
    return places[..., 5:-5, 5:-5].mean((1, 2, 3))


def ms_ssim(a, b):
    """Structural similarity at five scales, `(N,)`, 1 if equal (Wang et al. 2003), for pictures of 176 pixels and more."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as similarity

    _same_size(a, b)
    _large_enough(a, 176, "MS-SSIM")
    return similarity(b, a, data_range=1.0, reduction="none").reshape(-1)


def colour_shift(a, b):
    """How far the colours moved, pixel by pixel: mean ΔE of each picture, `(N,)`.

    ΔE is CIEDE2000 (CIE 142-2001), for pictures in sRGB: 1 is about what an eye can just see, side by side.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    _same_size(a, b)
    a, b = (rgb2lab(x.double().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()) for x in (a, b))
    return torch.from_numpy(deltaE_ciede2000(a, b)).mean((1, 2)).float()


def average_colour_shift(a, b):
    """How far each picture's average colour moved, `(N,)` as ΔE: a brand colour that drifts, whatever the grain.

    The average is that of the pixel values, as an eyedropper takes it.
    """
    return colour_shift(a.mean((2, 3), keepdim=True), b.mean((2, 3), keepdim=True))


def _energies(a, b, edges):
    """For each band, mean squares `(N, bands)` in grey: of `a`, of `b`, and what they share in phase, Re⟨A·B*⟩.

    A Hann window keeps the picture's borders out; `edges` are (low, high) in cycles a pixel.
    """
    high, wide = a.shape[2:]
    hann = [torch.hann_window(n + 2, periodic=False, dtype=torch.float64)[1:-1] for n in (high, wide)]
    window = torch.outer(*hann)
    spectra = []
    for picture in (grey(a).double(), grey(b).double()):
        average = (picture * window).sum((1, 2), keepdim=True) / window.sum()
        spectra.append(torch.fft.fft2((picture - average) * window))
    first, second = spectra
    frequency = torch.hypot(torch.fft.fftfreq(high)[:, None], torch.fft.fftfreq(wide)[None])
    bands = torch.stack([(frequency >= low) & (frequency < top) for low, top in edges]).double()
    products = (first.abs().square(), second.abs().square(), (first * second.conj()).real)
    return [torch.einsum("nhw,bhw->nb", p, bands) / (high * wide * window.square().sum()) for p in products]


def _ratio(part, whole):
    return torch.where(whole > NOTHING, part / whole, torch.nan).float()


def octaves(bands):
    """Bands of spatial frequency, each half as high as the one before: [(1/4, ∞), (1/8, 1/4), …] in cycles a pixel."""
    return [(2.0 ** -(i + 2), 2.0 ** -(i + 1) if i else math.inf) for i in range(bands)]


def detail_kept(a, b, bands=6):
    """The share of the original's detail that is still there and in its place, `(N, bands)`, finest octave first.

    Re⟨A·B*⟩ / ⟨|A|²⟩ over the Fourier coefficients A, B of the grey pictures in each of the `octaves`: 1 if equal,
    about 0 if the detail is gone or if there is other detail of the same strength. NaN where there was none.
    """
    _same_size(a, b)
    before, _, shared = _energies(a, b, octaves(bands))
    return _ratio(shared, before)


def power_kept(a, b, bands=6):
    """Power in each octave after over power before, ⟨|B|²⟩ / ⟨|A|²⟩, `(N, bands)`, finest first.

    Beside `detail_kept` it tells what became of lost detail: near 0 it is gone, near 1 something invented stands there.
    """
    _same_size(a, b)
    before, after, _ = _energies(a, b, octaves(bands))
    return _ratio(after, before)


def error_map(a, b):
    """Where it went wrong: the absolute error, averaged over colours and 3 x 3 neighbours, `(N, H, W)`."""
    _same_size(a, b)
    return F.avg_pool2d((a - b).abs().mean(1, keepdim=True), 3, 1, 1, count_include_pad=False)[:, 0]


def seam(picture, period, offset=0):
    """Can one see the tiles? The mean jump across the tiles' borders over that between other neighbours, `(N,)`.

    1: no seam. Above 1: a step one can see. Below 1: smeared borders. Borders lie before the rows and columns
    `offset`, `offset + period`, …. Measure the difference to the original as well: its own edges then do not count.

    Args:
        picture: `(N, C, H, W)`, of any range.
    """
    on, others = [], []
    for axis in (2, 3):
        jumps = picture.double().diff(dim=axis).abs().transpose(2, axis).mean((1, 3))  # (N, lines)
        border = (torch.arange(1, jumps.shape[1] + 1) - offset) % period == 0
        on.append(jumps[:, border])
        others.append(jumps[:, ~border])
    on, others = torch.cat(on, 1), torch.cat(others, 1)
    if not (on.shape[1] and others.shape[1]):
        raise ValueError(
            f"No border of tiles of {period} pixels can be told from other lines in {tuple(picture.shape)}."
        )
    tiny = 1e-12  # nothing jumps anywhere: no seam, 1
    return ((on.mean(1) + tiny) / (others.mean(1) + tiny)).float()


class Region(NamedTuple):
    """A part of a picture that a client looks at. `box` is (top, left, height, width) in pixels."""

    kind: str
    box: tuple[int, int, int, int]
    text: str = ""


def _apart(box, boxes):
    """Does a box overlap none of the others?"""
    top, left, height, width = box
    return all(
        top + height <= t or t + h <= top or left + width <= x or x + w <= left for t, x, h, w in boxes
    )


def faces(picture):
    """Boxes of the faces seen from the front in one picture `(3, H, W)`, by skimage's cascade of local patterns.

    It misses faces below 24 pixels or 1/8 of the picture, and turned ones, and sees one in a pattern now and then. It
    finds blurred faces too: so it says where a face is, not how good.
    """
    import skimage
    from skimage.feature import Cascade

    trained = Path(skimage.__file__).parent / "data" / "lbpcascade_frontalface_opencv.xml"
    pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    least, most = max(24, min(picture.shape[1:]) // 8), min(picture.shape[1:])
    if most < least:
        return []
    found = Cascade(str(trained)).detect_multi_scale(pixels, 1.2, 1, (least, least), (most, most))
    return [(int(f["r"]), int(f["c"]), int(f["height"]), int(f["width"])) for f in found]


def _blocks(picture):
    """Square blocks of 1/8 of the shorter side, 16 pixels at least: boxes, and how busy each is, as (along, across).

    They are the eigenvalues of the block's structure tensor (Förstner & Gülch 1987): the mean squared slope in the
    direction that has most of it, and at right angles to that. A straight edge has only the first.
    """
    side = max(16, min(picture.shape[1:]) // 8)
    if min(picture.shape[1:]) < side:
        return [], torch.zeros(2, 0)
    y, x = torch.gradient(grey(picture).double())
    yy, xx, xy = F.avg_pool2d(torch.stack([y * y, x * x, y * x])[:, None], side)[:, 0]
    spread = torch.hypot((yy - xx) / 2, xy)
    boxes = [(i * side, j * side, side, side) for i in range(yy.shape[0]) for j in range(yy.shape[1])]
    return boxes, torch.stack([(yy + xx) / 2 + spread, (yy + xx) / 2 - spread]).flatten(1)


def _best_blocks(picture, taken, count):
    """Up to `count` blocks of each kind that overlap nothing taken: texture, edges, and flat ones of several colours."""
    boxes, (along, across) = _blocks(picture)
    flat, straight = along + across < PLAIN, across < along / 4
    ranks = {
        "texture": (across, ~flat & ~straight),
        "edges": (along - across, ~flat & straight),
        "flat": (-along - across, flat),
    }
    found = []
    for kind, (rank, fits) in ranks.items():
        colours, before = [], len(found)
        for i in rank.argsort(descending=True, stable=True).tolist():
            box = boxes[i]
            colour = _cut(picture, box).mean((1, 2))
            new = kind != "flat" or all((colour - c).norm() > 0.1 for c in colours)
            if len(found) - before < count and fits[i] and new and _apart(box, taken):
                found.append(Region(kind, box))
                colours.append(colour)
    return found


def _cut(picture, box):
    top, left, height, width = box
    return picture[..., top : top + height, left : left + width]


def regions(picture, reader=None, count=3):
    """What to look at in one picture `(3, H, W)`: a list of `Region`.

    Lines of text, if there is a reader; faces; and from its blocks, where neither is, up to `count` each of the
    busiest, of those with the strongest straight edge, and of the flattest, each of another colour.
    """
    found = [Region("text", word.box, word.text) for word in (reader.read(picture) if reader else [])]
    found += [Region("face", box) for box in faces(picture) if _apart(box, [text.box for text in found])]
    return found + _best_blocks(picture, [region.box for region in found], count)


class RegionScore(NamedTuple):
    """What the round trip kept of one region.

    Attributes:
        psnr: in dB.
        detail: share of the fine detail (above 1/8 cycle a pixel) kept in phase; NaN where there was none.
        colour: ΔE of the average colour.
        read: the text that the reader sees there now; None for other kinds and without a reader.
    """

    region: Region
    psnr: float
    detail: float
    colour: float
    read: str | None

    @property
    def legible(self):
        """Share of the characters read as they were before; None if nothing was read."""
        return None if self.read is None else character_accuracy(self.region.text, self.read)


def text_in(box, words):
    """The words whose middle lies in the box, joined."""
    top, left, height, width = box
    middles = [(w.text, w.box[0] + w.box[2] / 2, w.box[1] + w.box[3] / 2) for w in words]
    return " ".join(t for t, y, x in middles if top <= y <= top + height and left <= x <= left + width)


def score_regions(original, reconstruction, found, reader=None):
    """A `RegionScore` for each of the regions found in the original; both pictures are `(3, H, W)`.

    The reader reads the whole reconstruction once, as it read the original.
    """
    _same_size(original[None], reconstruction[None])
    texts = reader is not None and any(region.kind == "text" for region in found)
    words, scores = reader.read(reconstruction) if texts else [], []
    for region in found:
        a, b = (_cut(picture, region.box)[None] for picture in (original, reconstruction))
        if not a.numel():
            raise ValueError(
                f"The region {region.box} lies outside of a picture of {original.shape[1]} x {original.shape[2]} pixels."
            )
        before, _, shared = _energies(a, b, [(FINE_DETAIL, math.inf)])
        values = psnr(a, b), _ratio(shared, before), average_colour_shift(a, b)
        read = text_in(region.box, words) if texts and region.kind == "text" else None
        scores.append(RegionScore(region, *(float(value) for value in values), read))
    return scores
