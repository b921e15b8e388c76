"""Are these pictures new? Copies of training pictures found, and whether a model has learned its pictures by heart.

A generator can look inventive and yet hand back what it was trained on, a little blurred. Three questions, three
rulers. Is one picture a copy: `CopyTest`, whose threshold is set so that at most 5 of 100 new pictures are called
copies. Is a set as new as new pictures would be: `novelty`. Can the model itself be asked which pictures it was
trained on: `membership`. Pictures are compared by `thumbprint`, a description in which a re-saved, re-cut or
re-coloured copy stays near its original. All need held-out pictures: from the same source, never trained on.
"""

import io
import math
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from vaelab.latent import draw_evenly, in_batches
from vaelab.metrics import Interval, nearest, subset

SIZE = 16
GROUPS = 10
# Brightness, red against blue, green against both; the colours count less, because they are what editing changes.
COLOURS = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.35, 0.0, -0.35], [-0.175, 0.35, -0.175]])


def soften(pictures, sigma):
    """Gaussian blur of `(N, C, H, W)`, sigma in pixels."""
    radius = math.ceil(3 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma).square())
    weights = (weights / weights.sum()).to(pictures).expand(pictures.shape[1], 1, 1, -1)
    padded = F.pad(pictures, [radius] * 4, mode="replicate")
    rows = F.conv2d(padded, weights, groups=len(weights))
    return F.conv2d(rows, weights.mT, groups=len(weights))


def thumbprint(pictures):
    """A description `(N, 768)` of pictures `(N, C, H, W)` of any size: near for near-duplicates.

    A soft 16×16 thumbnail, less its mean brightness and over its contrast, so that saving, scaling, a small crop, a
    blur or another exposure change it little. Distances are root mean squares, in units of the picture's contrast.
    """
    thumbnails = F.interpolate(pictures.float(), (SIZE, SIZE), mode="bilinear", antialias=True)
    thumbnails = soften(thumbnails.expand(-1, 3, -1, -1), 0.7)
    colours = torch.einsum("oc,nchw->nohw", COLOURS.to(thumbnails), thumbnails)
    brightness = colours[:, :1]
    # The 0.05 keeps an empty picture's noise small.
    contrast = brightness.std((2, 3), keepdim=True) + 0.05
    brightness -= brightness.mean((2, 3), keepdim=True)
    return (colours / contrast).flatten(1) / math.sqrt(colours[0].numel())


def as_features(pictures):
    """Pictures `(N, C, H, W)` by their thumbprints; features `(N, d)` as they are."""
    return thumbprint(pictures) if pictures.ndim == 4 else pictures


# -- copies to find -----------------------------------------------------------------------------------------------
# Each edit takes one picture `(1, C, H, W)`, how strong to be, in [0, 1], and a random generator.


def resave(picture, strength, random):
    """Saves as JPEG at a quality of 75 to 30."""
    from PIL import Image

    file, pixels = io.BytesIO(), (picture[0].expand(3, -1, -1) * 255).round().byte()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=round(75 - 45 * strength))
    saved = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255
    return saved[None, : picture.shape[1]]


def shrink(picture, strength, random):
    """Scales down to 70 to 40 % and up again."""
    small = [math.ceil(side * (0.7 - 0.3 * strength)) for side in picture.shape[2:]]
    small = F.interpolate(picture, small, mode="bilinear", antialias=True)
    return F.interpolate(small, picture.shape[2:], mode="bilinear", antialias=True)


def expose(picture, strength, random):
    """Brightness up or down by up to 12 %, black level by up to 0.04."""
    gain, lift = torch.rand(2, generator=random) * 2 - 1
    return picture * (1 + 0.12 * strength * gain.sign()) + 0.04 * lift


def crop(picture, strength, random):
    """Cuts 2 to 4 % off the width and the height, anywhere, and scales up again."""
    cut = 0.02 + 0.02 * strength
    shift = cut * (torch.rand(2, 1, generator=random) * 2 - 1)
    grid = F.affine_grid(torch.cat([(1 - cut) * torch.eye(2), shift], 1)[None], picture.shape, align_corners=False)
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)


def blur(picture, strength, random):
    """A blur of 1 to 2.5 % of the picture's width."""
    return soften(picture, picture.shape[-1] * (0.01 + 0.015 * strength))


def grain(picture, strength, random):
    """Noise of a spread of 0.01 to 0.05."""
    return picture + (0.01 + 0.04 * strength) * torch.randn(picture.shape, generator=random)


EDITS = (resave, shrink, expose, crop, blur, grain)


def plant_copies(pictures, n, seed=0, edits=EDITS):
    """Slightly edited copies, to see whether a test finds them: pictures `(n, C, H, W)` and their sources `(n,)`.

    Each copy draws one or two of the `edits`; every picture is copied equally often, up to one.
    """
    random = torch.Generator().manual_seed(seed)
    sources = draw_evenly(len(pictures), n, random)
    copies = []
    for source in sources:
        copy, count = pictures[source][None].float(), int(torch.randint(1, 3, (1,), generator=random))
        for place in torch.randperm(len(edits), generator=random)[:count]:
            copy = edits[place](copy, float(torch.rand(1, generator=random)), random).clamp(0, 1)
        copies.append(copy)
    return torch.cat(copies), sources


# -- finding them -------------------------------------------------------------------------------------------------


class CopyTest:
    """Tells copies of training pictures from new ones: a copy lies nearer to its original than new pictures do.

    The threshold comes from held-out pictures, which are new for sure: with 95 % confidence at most `false_alarms` of
    such pictures lie within it of a training picture. That confidence takes 59 held-out pictures for 5 %.

    Args:
        training, held_out: pictures `(N, C, H, W)`, compared by `thumbprint`; or features of your own `(N, d)`.
    """

    def __init__(self, training, held_out, false_alarms=0.05):
        from scipy.stats import binom

        self.reference = as_features(training)
        distances = self.nearest(held_out).distance.sort().values
        # The share of new pictures below the k-th smallest distance of n is Beta(k, n + 1 − k).
        place = int(binom.ppf(0.05, len(distances), false_alarms))
        if place == 0:
            raise ValueError(
                f"{len(distances)} held-out pictures are too few to promise {false_alarms:.0%} false alarms; give "
                f"at least {math.ceil(math.log(0.05) / math.log(1 - false_alarms))}."
            )
        self.threshold = float(distances[place - 1])

    def nearest(self, pictures):
        """The nearest training picture of each: a `Nearest`, distance and index `(N,)`."""
        return nearest(as_features(pictures), self.reference)

    def __call__(self, pictures):
        """Which of `pictures` `(N, C, H, W)` (or features) are copies, `(N,)` bool."""
        return self.nearest(pictures).distance <= self.threshold


def duplicates(features, threshold):
    """Pairs within a set that are nearer than `threshold`: indices `(P, 2)`, the smaller first."""
    features = as_features(features).double()
    return (torch.cdist(features, features) <= threshold).triu(1).nonzero()


class Novelty(NamedTuple):
    """How new a set of made pictures is. Of truly new ones, up to 5 % are called copies.

    Attributes:
        ratio: distance to the nearest training picture over that to the nearest held-out one, the median: 1 for new
            pictures, far below 1 for pictures learned by heart.
        own_source: share whose nearest training picture is the one that they were made from (None without sources).
        chance: the share that shuffled sources would have.
        copies: share that a `CopyTest` calls copies of training pictures.
        twins: share that has a twin within the set, as near as a copy.
    """

    ratio: Interval
    own_source: float | None
    chance: float | None
    copies: float
    twins: float


def novelty(made, training, held_out, sources=None, seed=0):
    """The `Novelty` of made pictures, against those that the model was trained on and those that it never saw.

    For the ratio both references are cut to the same size: among more pictures the nearest one is nearer, so with
    unequal sizes the ratio would not be 1 even for new pictures. Its interval is a jackknife that leaves out a tenth of
    all three sets at a time, because made pictures share their neighbours; it errs on the wide side.

    Where sources are given, the ratio takes only pictures with a source among the training pictures that were kept:
    a copy whose original has been cut away is no nearer to the others than anything new.

    Args:
        made, training, held_out: pictures, or features of your own `(M, d)`, `(N, d)`, `(K, d)`.
        sources: index of the training picture that each was made from, `(M,)`, or of several, `(M, s)`.
    """
    made, training, held_out = (as_features(side) for side in (made, training, held_out))
    size, random = min(len(training), len(held_out)), torch.Generator().manual_seed(seed)
    kept, judged = torch.randperm(len(training), generator=random)[:size], made
    if sources is not None:
        sources = torch.as_tensor(sources).reshape(len(made), -1)
        judged = made[torch.isin(sources, kept).any(1)]
    if not len(judged):
        raise ValueError(f"None of the sources is among the {size} training pictures that are compared: make more pictures.")
    distances = [torch.cdist(judged, side) for side in (training[kept], subset(held_out, size, random))]
    rows, columns = torch.randperm(len(judged), generator=random) % GROUPS, torch.arange(size) % GROUPS

    def log_ratio(left_out):
        near, far = (d[rows != left_out][:, columns != left_out].amin(1).clamp(min=1e-12) for d in distances)
        return float((near / far).median().log())

    value = log_ratio(-1)
    spread = math.sqrt((GROUPS - 1) * np.var([log_ratio(group) for group in range(GROUPS)]))
    ratio = (math.exp(value + t * spread) for t in (0, -2.26, 2.26))  # Student's t for 10 groups
    test = CopyTest(training, held_out)
    index, own, chance = test.nearest(made).index, None, None
    if sources is not None:
        own = float((index[:, None] == sources).any(1).float().mean())
        # A source that stands twice in a row counts once.
        places = torch.stack([torch.arange(len(made))[:, None].expand_as(sources), sources], 2)
        once = places.flatten(0, 1).unique(dim=0)[:, 1]
        used = [torch.bincount(v, minlength=len(training)) / len(made) for v in (index, once)]
        chance = float(used[0] @ used[1])
    twins = len(duplicates(made, test.threshold).unique()) / len(made)
    return Novelty(Interval(*ratio), own, chance, float(test(made).float().mean()), twins)


class Membership(NamedTuple):
    """Whether a model gives away what it was trained on.

    Attributes:
        auc: how often a training picture scores above a held-out one; ½ if nothing leaks.
        advantage: share of training pictures found minus share of others taken for them, at the best threshold; it is
            chosen on these very pictures, so a little above 0 means nothing.
    """

    auc: Interval
    advantage: float


def membership(model, training, held_out, seed=0):
    """Asks a model which pictures it knows: those whose ELBO is high (Yeom et al. 2018). A `Membership`.

    The interval of the AUC is DeLong's (1988).
    """
    random = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    known, new = (
        torch.cat(in_batches(model, side, lambda x: model(x, generator=random).value)).double()
        for side in (training, held_out)
    )
    above = (known[:, None] > new).double() + 0.5 * (known[:, None] == new)
    error = (above.mean(1).var() / len(known) + above.mean(0).var() / len(new)).sqrt()
    auc, half = float(above.mean()), 1.96 * float(error)
    thresholds = torch.cat([known, new])
    found, mistaken = ((side >= thresholds[:, None]).double().mean(1) for side in (known, new))
    return Membership(Interval(auc, max(0.0, auc - half), min(1.0, auc + half)), float((found - mistaken).max()))
