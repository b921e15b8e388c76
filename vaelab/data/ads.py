"""Product ads made from named factors, with a click-through function that is known exactly.

An ad is a row of `Factors`: which product, in which brand's look, in which campaign theme, how large, where,
with which headline, badge, call to action and face. `render` draws it at any size. The probability of a click
is a logistic function of those factors (`click_probability`), so the best score any classifier could reach is
known too (`bayes_score`), and every claim about "high CTR" can be held against the truth.

Two markets. `"client"`: one client's brand book, six products and six palettes with little variation, as in a
real account. `"open"`: four brands and any colours.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from . import ad_brands

PRODUCTS = tuple(ad_brands.PRODUCTS)
BRANDS = tuple(ad_brands.BRANDS)
THEMES = ("everyday", "summer", "winter", "launch", "harvest")
PALETTES = ("amber", "clay", "cream", "ocean", "night", "mist")
BACKGROUNDS = ("flat", "gradient", "scene")
MATERIALS = ("matte", "gloss", "metal")
POSITIONS = ("centre", "left", "right")
HEADLINES = ("none", "short", "long")
FLAVOURS = ("cherry", "orange", "lime", "blueberry")
MARKETS = ("client", "open")

WORDS = {
    "product": PRODUCTS,
    "brand": BRANDS,
    "theme": THEMES,
    "palette": PALETTES,
    "background": BACKGROUNDS,
    "material": MATERIALS,
    "position": POSITIONS,
    "headline": HEADLINES,
}
FLAGS = ("badge", "badge_red", "call_to_action", "face")
WIDTHS = {"offset": 2, "background_shift": 3, "pack_shift": 3}
LARGEST_SEED = 2**31 - 1
RANGES = {
    "offset": (-0.1, 0.1),
    "background_shift": (-1, 1),
    "pack_shift": (-1, 1),
    "scale": (0.25, 0.76),
    "clutter": (0, 5),
    "skin": (0, 1),
    "button_hue": (0, 1),
    "seed": (0, LARGEST_SEED),
}

# How often each word or flag is drawn; the other words are equally likely
SHARES = {
    "background": (0.35, 0.35, 0.30),
    "position": (0.50, 0.25, 0.25),
    "headline": (0.25, 0.45, 0.30),
    "clutter": (0.34, 0.20, 0.16, 0.12, 0.10, 0.08),
}
CHANCES = {"badge": 0.42, "badge_red": 0.6, "call_to_action": 0.55, "face": 0.3}

HIGH_SHARE = 340 / 1100  # of the client's 1,100 ads, 340 are called high CTR
GAIN, BASE, TAU = 0.7, -4.4, 0.35
MEDIAN_IMPRESSIONS, IMPRESSION_SPREAD, FEWEST_IMPRESSIONS = 6000, 0.6, 300


@dataclass(frozen=True)
class Factors:
    """What n ads show: one numpy array of length n per factor.

    Factors with words (`WORDS`) are stored as int64 places in their tuple of words; `words(name)` spells them
    out. `badge`, `badge_red`, `call_to_action` and `face` are bool. `scale` is the pack's height over the
    picture's; `offset` (n, 2) its displacement right and down; `background_shift` and `pack_shift` (n, 3) what
    is added to the brand's colours in hue, saturation and value; `clutter` how many props lie about (0 to 5);
    `skin` (0 light, 1 dark) and `button_hue` the face's and the button's colour; `seed` fixes what is left.

    `factors[i]`, `factors[a:b]` and `factors[mask]` are Factors again (an integer gives length 1).
    """

    product: np.ndarray
    brand: np.ndarray
    theme: np.ndarray
    palette: np.ndarray
    background: np.ndarray
    background_shift: np.ndarray
    pack_shift: np.ndarray
    material: np.ndarray
    scale: np.ndarray
    position: np.ndarray
    offset: np.ndarray
    headline: np.ndarray
    badge: np.ndarray
    badge_red: np.ndarray
    call_to_action: np.ndarray
    button_hue: np.ndarray
    face: np.ndarray
    skin: np.ndarray
    clutter: np.ndarray
    seed: np.ndarray

    def __len__(self):
        return len(self.product)

    def __getitem__(self, index):
        if isinstance(index, (int, np.integer)):
            index = [range(len(self))[index]]
        return Factors(**{name: getattr(self, name)[index] for name in NAMES})

    def replace(self, **changes):
        """A copy with some factors set: one value for all ads or one per ad; words may be used.

        The pack's and the background's colour follow brand, product and palette.
        """
        return replace(self, **{name: _column(name, value, len(self)) for name, value in changes.items()})

    def words(self, name):
        """(n,) array of strings for a factor of `WORDS`."""
        if name not in WORDS:
            raise ValueError(f"{name!r} is not a factor with words: choose one of {', '.join(WORDS)}")
        return np.array(WORDS[name])[getattr(self, name)]

    @property
    def background_colour(self):
        """(n, 3) hue, saturation, value in [0, 1]."""
        return _shifted(ad_brands.BACKGROUNDS[self.brand, self.palette], self.background_shift)

    @property
    def pack_colour(self):
        """(n, 3) hue, saturation, value in [0, 1]."""
        return _shifted(ad_brands.PACKS[self.brand, self.product], self.pack_shift)

    @property
    def brightness(self):
        """(n,) luminance of the background, 0 to 1."""
        return ad_brands.luminance(ad_brands.rgb(self.background_colour))

    @property
    def contrast(self):
        """(n,) absolute difference of luminance between pack and background."""
        return np.abs(ad_brands.luminance(ad_brands.rgb(self.pack_colour)) - self.brightness)

    @property
    def warm(self):
        """(n,) bool: is the background's hue between red and yellow."""
        hue = self.background_colour[:, 0]
        return (hue < 0.25) | (hue > 0.85)


NAMES = tuple(field.name for field in fields(Factors))


def _shifted(base, shift):
    colour = base + shift
    return np.stack([colour[:, 0] % 1, colour[:, 1].clip(0.02, 0.95), colour[:, 2].clip(0.2, 1)], axis=1)


def _column(name, value, n):
    """One factor as a checked array of n values."""
    if name not in NAMES:
        raise ValueError(f"unknown factor {name!r}: choose from {', '.join(NAMES)}")
    if name in WORDS:
        value = _places(name, WORDS[name], value)
    value = np.asarray(value, dtype=bool if name in FLAGS else int if name in ("clutter", "seed") else None)
    try:
        value = np.broadcast_to(value, (n, WIDTHS[name]) if name in WIDTHS else (n,)).copy()
    except ValueError:
        raise ValueError(
            f"{name} has shape {value.shape}: give one value, or one for each of {n} ads"
        ) from None
    low, high = RANGES.get(name, (0, np.inf))
    if not ((value >= low) & (value <= high)).all():
        raise ValueError(
            f"{name} must lie between {low} and {high}, but got {value.min():g} to {value.max():g}"
        )
    return value


def _places(name, known, value):
    """Words of `known` (or places in it) as int64 places."""
    value = np.asarray(value)
    lookup = {word: place for place, word in enumerate(known)} | {place: place for place in range(len(known))}
    unknown = [item for item in value.ravel().tolist() if item not in lookup]
    if unknown:
        raise ValueError(f"unknown {name} {unknown[0]!r}: choose from {', '.join(known)}")
    return np.array([lookup[item] for item in value.ravel().tolist()], dtype=np.int64).reshape(value.shape)


# How far colours stray from the brand's, as standard deviations of hue, saturation and value, by market
STRAY = {
    "client": {"background": [0.012, 0.05, 0.06], "pack": [0.012, 0.04, 0.05]},
    "open": {"background": [0.05, 0.15, 0.12], "pack": [0.20, 0.12, 0.12]},
}


def sample_factors(n, seed=0, market="client", **fixed):
    """Draw the factors of n ads; `fixed` sets some of them (`product="bottle"`, `headline="none"`, ...).

    A longer sample with the same seed begins with the shorter one.
    """
    _check_count(n)
    if market not in MARKETS:
        raise ValueError(f"unknown market {market!r}: choose from {', '.join(MARKETS)}")
    draws = dict(
        zip(NAMES, np.random.default_rng(seed).spawn(len(NAMES)), strict=True)
    )  # one stream a factor
    drawn = {name: draws[name].choice(len(words), n) for name, words in WORDS.items() if name not in SHARES}
    drawn |= {name: draws[name].choice(len(p), n, p=p) for name, p in SHARES.items()}
    drawn |= {name: draws[name].random(n) < p for name, p in CHANCES.items()}
    drawn |= {
        "background_shift": draws["background_shift"].normal(0, STRAY[market]["background"], (n, 3)),
        "pack_shift": draws["pack_shift"].normal(0, STRAY[market]["pack"], (n, 3)).clip(-1, 1),
        "scale": draws["scale"].uniform(0.34, 0.74, n),
        "offset": draws["offset"].normal(0, 0.02, (n, 2)).clip(-0.05, 0.05),
        "button_hue": draws["button_hue"].random(n),
        "skin": draws["skin"].random(n),
        "seed": draws["seed"].integers(0, LARGEST_SEED, n),
    }
    if market == "client":
        hues = np.array(ad_brands.BUTTON_HUES)
        drawn["brand"] = np.zeros(n, dtype=np.int64)
        drawn["material"] = ad_brands.MATERIALS[drawn["product"]]
        drawn["button_hue"] = hues[(drawn["button_hue"] * len(hues)).astype(int)]
    return Factors(**drawn).replace(**fixed)


def visual_score(factors):
    """What the picture is worth, (n,), about zero on average over a client's ads.

    Up with contrast, size (best at a height of .66), warm and bright backgrounds, a face, a badge (a red one
    more), a call to action, an off-centre pack, a short headline; down with clutter. And together: a badge in
    clutter, a face beside a large pack, and warm on bright lose; a face in a scene, contrast on a flat ground
    and a face on a warm one gain. Brand, theme and product matter only through colours.
    """
    contrast = (factors.contrast - 0.25) / 0.18
    size = (factors.scale - 0.54) / 0.115
    bright = (factors.brightness - 0.42) / 0.20
    clutter = (factors.clutter - 1.7) / 1.6
    warm = np.where(factors.warm, 1.0, -1.0)
    face = factors.face - 0.3
    scene, flat = factors.background == 2, factors.background == 0
    alone = (
        0.40 * contrast
        + (0.25 * size - 0.12 * size**2)
        + 0.55 * warm
        + 0.25 * bright
        - 0.35 * clutter
        + 0.85 * face
        + 0.80 * (factors.badge - 0.42) * (1 + 0.8 * (factors.badge_red - 0.5))
        + 0.35 * (factors.call_to_action - 0.55)
        + 0.20 * (factors.position > 0)
        + np.array([-0.15, 0.15, -0.10])[factors.headline]
    )
    together = (
        -0.40 * (factors.badge & (clutter > 0.5))
        - 0.35 * (factors.face & (size > 0.3))
        + 0.40 * (factors.face & scene)
        + 0.25 * contrast * flat
        - 0.25 * warm * (bright > 0.6)
        + 0.35 * warm * face
    )
    return alone + together


def click_probability(factors, gain=GAIN, base=BASE):
    """(n,) probability that one impression is clicked, from the picture alone: a logistic of its score."""
    return 1 / (1 + np.exp(-(base + gain * visual_score(factors))))


def run_campaign(factors, seed=0, *, gain=GAIN, base=BASE, tau=TAU, median_impressions=MEDIAN_IMPRESSIONS):
    """Serve the ads and count: (impressions, clicks), two int64 arrays (n,).

    `tau` is the spread, on the logit, of all that the picture does not show: audience, placement, week.
    """
    luck, reach, people = np.random.default_rng([seed, 1]).spawn(3)
    n = len(factors)
    logit = base + gain * visual_score(factors) + luck.normal(0, tau, n)
    impressions = reach.lognormal(np.log(median_impressions), IMPRESSION_SPREAD, n)
    impressions = impressions.clip(FEWEST_IMPRESSIONS).astype(np.int64)
    return impressions, people.binomial(impressions, 1 / (1 + np.exp(-logit)))


def bayes_score(
    factors, cut_off, *, gain=GAIN, base=BASE, tau=TAU, median_impressions=MEDIAN_IMPRESSIONS, nodes=15
):
    """(n,) P(observed CTR >= cut_off | picture): the best score any classifier of the pictures can have.

    Integrates over what the picture does not show (`tau`), impressions (log-normal) and clicks (binomial, by
    its normal approximation), with Gauss-Hermite quadrature, on a grid of scores.
    """
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    score = visual_score(factors)
    grid = np.linspace(score.min() - 0.01, score.max() + 0.01, 200)
    p = 1 / (1 + np.exp(-(base + gain * grid[:, None, None] + tau * points[:, None])))
    shown = (median_impressions * np.exp(IMPRESSION_SPREAD * points)).clip(FEWEST_IMPRESSIONS)
    fewest_clicks = np.ceil(cut_off * shown)
    z = (p * shown - fewest_clicks + 0.5) / np.sqrt(shown * p * (1 - p))
    at_grid = torch.special.ndtr(torch.from_numpy(z)).numpy() @ weights @ weights
    return np.interp(score, grid, at_grid)


def render(factors, size=64):
    """Draw the ads: float32 tensor (n, 3, size, size) in [0, 1].

    Each ad depends on its own row only, and at another size it is the same ad. Sizes 32 to 1024.
    """
    _check_size(size)
    from .ad_drawing import draw_ad  # Pillow and the fonts are loaded only when something is drawn

    colours = ad_brands.rgb(factors.background_colour), ad_brands.rgb(factors.pack_colour)
    pictures = [draw_ad(_row(factors, i, *colours), size) for i in range(len(factors))]
    return _to_tensor(pictures)


def _row(factors, i, background_rgb, pack_rgb):
    """One ad as plain values, words spelt out."""
    row = {name: getattr(factors, name)[i] for name in NAMES}
    row |= {name: words[row[name]] for name, words in WORDS.items()}
    return row | {"background_rgb": background_rgb[i], "pack_rgb": pack_rgb[i]}


def _to_tensor(pictures):
    """uint8 (H, W, 3) arrays to a float32 tensor (n, 3, H, W)."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous().float() / 255


def badge_box(factors):
    """(n, 4) left, top, right, bottom of the badge as shares of the picture; nothing of it lies outside."""
    from .ad_drawing import badge_place

    return np.array([badge_place(position) for position in factors.words("position")])


@dataclass(frozen=True)
class AdsDataset:
    """n rendered ads and what became of them; all arrays of length n.

    `images` (n, 3, size, size); `factors`; `impressions`, `clicks` (int64); `ctr` = clicks / impressions;
    `high_ctr` (bool); `score`, the true click probability of the picture; `cut_off`, the CTR from which an ad
    is called high.
    """

    images: torch.Tensor
    factors: Factors
    impressions: np.ndarray
    clicks: np.ndarray
    ctr: np.ndarray
    high_ctr: np.ndarray
    score: np.ndarray
    cut_off: float

    def __len__(self):
        return len(self.images)


def label_high(ctr, cut_off=None):
    """Which observed CTRs (n,) are high: (bool (n,), cut-off).

    Without a cut-off the best 340/1100 are, exactly, and the last of them sets the cut-off; with one, all that
    reach it.
    """
    if cut_off is not None:
        return ctr >= cut_off, cut_off
    best = np.argsort(-ctr, kind="stable")[: max(1, round(len(ctr) * HIGH_SHARE))]
    return np.isin(np.arange(len(ctr)), best), float(ctr[best[-1]])


def make(n=1100, size=64, seed=0, market="client", cut_off=None):
    """Draw, render and serve n ads -> `AdsDataset`.

    Without `cut_off` the best 340/1100 by observed CTR are high (exactly 340 of 1,100). With the `cut_off` of
    another data set, fresh ads are labelled by the same bar.
    """
    factors = sample_factors(n, seed, market)
    impressions, clicks = run_campaign(factors, seed)
    ctr = clicks / impressions
    high, cut_off = label_high(ctr, cut_off)
    images = render(factors, size)
    return AdsDataset(images, factors, impressions, clicks, ctr, high, click_probability(factors), cut_off)


@dataclass(frozen=True)
class SmallWorld:
    """The three factors of `one_product`, arrays of length n: `flavour` (int64, places in `FLAVOURS`),
    `position` from left (0) to right (1), `light` from night (0) to day (1)."""

    flavour: np.ndarray
    position: np.ndarray
    light: np.ndarray

    def __len__(self):
        return len(self.flavour)


def one_product(n, seed=0, size=64):
    """A world small enough for a two-dimensional map: one product, three factors -> (images, SmallWorld).

    Images (n, 3, size, size). Everything else stands still: no headline, no badge, no face.
    """
    _check_count(n)
    flavour, position, light = np.random.default_rng(seed).spawn(3)
    world = SmallWorld(flavour.integers(0, len(FLAVOURS), n), position.random(n), light.random(n))
    return render_one_product(world.flavour, world.position, world.light, size), world


def render_one_product(flavour, position, light, size=64):
    """The small world's picture for given factors (broadcast together): (n, 3, size, size)."""
    _check_size(size)
    from .ad_drawing import draw_small_world

    for name, value in (("position", position), ("light", light)):
        if not ((np.asarray(value) >= 0) & (np.asarray(value) <= 1)).all():
            raise ValueError(f"{name} must lie between 0 and 1, but is {value}")
    columns = np.broadcast_arrays(_places("flavour", FLAVOURS, flavour), position, light)
    rows = zip(*(np.atleast_1d(column) for column in columns), strict=True)
    return _to_tensor([draw_small_world(int(place), x, day, size) for place, x, day in rows])


def _check_count(n):
    if not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"the number of ads must be a whole number of at least 1, but is {n!r}")


def _check_size(size):
    if not isinstance(size, (int, np.integer)) or not 32 <= size <= 1024:
        raise ValueError(f"the size of an ad must be a whole number from 32 to 1024 pixels, but is {size!r}")
