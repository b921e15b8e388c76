"""Where a blend is in balance: how near each step still is to the brand, how near it is already to the campaign."""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

GRID = 4  # a picture is compared in 4 x 4 patches
CELLS = 4  # and its layout in 4 x 4 cells a patch
LINES, MARKS = 8, 48  # of the sliced Wasserstein distance: lines through colour space, marks on each
SAME = 1e-4  # two pictures nearer than that, in a criterion's own unit, do not differ in it


class BlendPoint(NamedTuple):
    """The step at which brand and campaign are in balance, counted from 1; 5 % to 95 % of the replicates lie in
    [low, high]. All three are NaN where there is no such step; then `reason` says why.
    """

    step: float
    low: float
    high: float
    steps: int
    reason: str = ""

    @property
    def found(self):
        return not self.reason

    def __str__(self):
        if not self.found:
            return f"no balance in {self.steps} steps: {self.reason}"
        first, last = (round(value) for value in (self.low, self.high))
        span = f"{first}" if first == last else f"{first} to {last}"
        return f"step {span} of {self.steps}"


class LookCurves(NamedTuple):
    """How near the steps of a blend are to its two ends, by what a picture looks like.

    Attributes:
        consistency: nearness to the brand, `(R, T)` in [0, 1]: R replicates of T steps.
        freshness: nearness to the campaign, likewise.
        criteria: name -> `(2, T)`, the two curves of each criterion on the whole picture; NaN where the two ends
            do not differ in it.
    """

    consistency: np.ndarray
    freshness: np.ndarray
    criteria: dict


def blend_point(consistency, freshness, balance=0.5):
    """The first step at which `balance` · freshness reaches (1 − `balance`) · consistency: a `BlendPoint`.

    Between steps both curves are straight. Replicates with a missing value are left out; the step is that of the
    mean curves, and a replicate that never crosses counts as its nearer end.

    Args:
        consistency: how near each step is to the brand, `(T,)`, or `(R, T)` for R replicates; falls.
        freshness: how near each step is to the campaign, likewise; rises.
        balance: 0.5 is where the curves cross; towards 1 the point stays near the brand, towards 0 it goes on to
            the campaign.
    """
    if not 0 <= balance <= 1:
        raise ValueError(f"balance is {balance}: give a number from 0 (all campaign) to 1 (all brand).")
    brand, campaign = as_replicates(consistency), as_replicates(freshness)
    if brand.shape != campaign.shape or brand.shape[1] < 2:
        raise ValueError(
            f"The curves have the shapes {brand.shape} and {campaign.shape}: give both the same, of two steps or more."
        )
    surplus = balance * campaign - (1 - balance) * brand
    steps, surplus = surplus.shape[1], surplus[np.isfinite(surplus).all(1)]
    if not len(surplus):
        return BlendPoint(*[np.nan] * 3, steps, "the two ends do not differ in anything that was measured.")
    step = first_crossing(surplus.mean(0))
    if not 1 <= step <= steps:
        heavier, lighter = ("campaign", "brand") if step < 1 else ("brand", "campaign")
        return BlendPoint(*[np.nan] * 3, steps, f"the {heavier} outweighs the {lighter} at every one of them.")
    crossings = np.clip([first_crossing(row) for row in surplus], 1, steps)
    low, high = np.quantile(crossings, [0.05, 0.95])
    return BlendPoint(step, float(low), float(high), steps)


def as_replicates(curve):
    """A curve `(T,)`, or several `(R, T)`, as `(R, T)` float64; a missing value or replicate (None) becomes NaN."""
    if isinstance(curve, torch.Tensor):
        curve = curve.detach().cpu().numpy()
    lengths = {len(row) for row in curve if np.ndim(row) == 1}
    if lengths:
        curve = [np.full(max(lengths), np.nan) if row is None else row for row in curve]
    return np.atleast_2d(np.asarray(curve, dtype=np.float64))


def first_crossing(surplus):
    """Where `surplus` `(T,)` first rises to 0, counted from 1; −inf if it starts above, inf if it stays below.

    Where it rests at 0 for several steps, the middle of them: so a path read backwards has its point mirrored.
    """
    reached = np.flatnonzero(surplus >= 0)
    if not len(reached):
        return np.inf
    first = int(reached[0])
    if surplus[first] == 0:
        rest = int(np.argmax(np.append(surplus[first:], 1) != 0))
        return first + (rest - 1) / 2 + 1
    if first == 0:
        return -np.inf
    before, there = surplus[first - 1], surplus[first]
    return float(first + before / (before - there))  # `first` counts from 0, so it is the step before, from 1


@torch.no_grad()
def look_curves(pictures, brand_picture, campaign_picture, seed=0, replicates=200):
    """`LookCurves` of the steps `pictures` `(T, C, H, W)` of any blend, with no knowledge of what they show.

    Each criterion measures a step's distance to each end, as a share of how far the ends lie apart; nearness is
    1 minus that, and at least 0. `palette`: sliced Wasserstein distance of the colours, in CIELAB, wherever they
    stand. `layout`: where light and dark stand. `edges`: what runs in which direction, and where. `detail`: how
    much of it there is at three scales, and where. A replicate draws criteria and patches anew, with replacement.

    Args:
        brand_picture, campaign_picture: what nearness is measured to, `(C, H, W)`: the blend's own ends, usually.
    """
    seen = torch.cat([pictures, brand_picture[None], campaign_picture[None]]).float().clamp(0, 1)
    if seen.ndim != 4 or min(seen.shape[-2:]) < 4 * GRID:
        raise ValueError(f"Pictures {tuple(seen.shape[1:])} cannot be compared: {4 * GRID} pixels a side are needed.")
    seen = seen.expand(-1, 3, -1, -1).double()
    described = {name: describe(seen) for name, describe in CRITERIA.items()}
    names, patches = list(CRITERIA), GRID * GRID
    whole = {name: nearness(described[name], np.ones(patches) / patches, name) for name in names}
    random, drawn = np.random.default_rng(seed), []
    for _ in range(replicates):
        weights = random.multinomial(patches, np.ones(patches) / patches) / patches
        chosen = random.choice(len(names), len(names))
        curves = np.stack([nearness(described[names[k]], weights, names[k]) for k in chosen])
        known = curves[np.isfinite(curves).all((1, 2))]
        drawn.append(known.mean(0) if len(known) else np.full(curves.shape[1:], np.nan))
    drawn = np.stack(drawn)
    return LookCurves(drawn[:, 0], drawn[:, 1], whole)


def nearness(values, weights, name):
    """Both curves of a criterion, `(2, T)`: nearness of T steps to the brand and to the campaign.

    Args:
        values: descriptions `(T + 2, patches, numbers)`; the last two are the brand's and the campaign's.
        weights: of the patches; they add up to 1.
    """
    if name == "palette":  # colours may stand anywhere: patches are pooled first
        pooled = np.einsum("tpn,p->tn", values, weights)
        distance = np.abs(pooled[:, None] - pooled[None, -2:]).mean(-1)
    else:  # each patch is compared with the same patch
        distance = np.sqrt(((values[:, None] - values[None, -2:]) ** 2).mean(-1) @ weights)
    apart = distance[-2, 1]
    if apart < SAME:
        return np.full((2, len(values) - 2), np.nan)
    return np.clip(1 - distance[:-2].T / apart, 0, 1)


# --- descriptions: pictures (N, 3, H, W) -> (N, patches, numbers) --------------------------------------------------


def palette(pictures):
    """For every patch the share of pixels below each mark along some lines through colour space: what a sliced
    Wasserstein distance compares (in one dimension it is the area between two such curves)."""
    from skimage.color import rgb2lab

    small = F.interpolate(pictures, (8 * GRID, 8 * GRID), mode="area")
    colours = torch.from_numpy(rgb2lab(small.permute(0, 2, 3, 1).numpy())) / 100
    lines = torch.randn(LINES, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    along = (colours @ F.normalize(lines, dim=1).T).permute(0, 3, 1, 2)
    marks = torch.linspace(-1.2, 1.2, MARKS, dtype=torch.float64)
    step = float(marks[1] - marks[0])
    # A soft step between marks, so that a small change of colour shows as a small difference.
    below = ((marks[:, None, None] - along[:, :, None]) / step + 0.5).clamp(0, 1)
    return in_patches(below.flatten(1, 2), GRID)[..., 0]


def layout(pictures):
    """Lightness of small cells, without the picture's mean."""
    light = lightness(pictures)
    return in_patches(light - light.mean((-2, -1), keepdim=True), GRID * CELLS, CELLS)[:, :, 0]


def edges(pictures):
    """How much lightness changes across, down and along both diagonals."""
    light = F.pad(lightness(pictures), [1] * 4, mode="replicate")
    across = light[..., 1:-1, 2:] - light[..., 1:-1, :-2]
    down = light[..., 2:, 1:-1] - light[..., :-2, 1:-1]
    changes = torch.cat([across, down, (across + down) / 2**0.5, (across - down) / 2**0.5], 1).abs()
    return in_patches(changes, GRID)[..., 0]


def detail(pictures):
    """How strong detail is at three scales: mean size of what blurring takes away."""
    light, bands = lightness(pictures), []
    for width in (3, 5, 9):
        blurred = F.avg_pool2d(F.pad(light, [width // 2] * 4, mode="replicate"), width, stride=1)
        bands.append((light - blurred).abs())
        light = blurred
    return in_patches(torch.cat(bands, 1), GRID)[..., 0]


CRITERIA = {"palette": palette, "layout": layout, "edges": edges, "detail": detail}


def lightness(pictures):
    """Rec. 601 luma of gamma-coded pictures, `(N, 1, H, W)`: what an eye takes for light and dark."""
    return (pictures * pictures.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def in_patches(maps, grid, cells=1):
    """Means of maps `(N, K, H, W)` on a lattice, as numpy: `(N, patches, K, cells²)`."""
    means = F.adaptive_avg_pool2d(maps, grid)
    n, k = means.shape[:2]
    side = grid // cells
    means = means.reshape(n, k, side, cells, side, cells).permute(0, 2, 4, 1, 3, 5)
    return means.reshape(n, side * side, k, cells * cells).numpy()
