"""Key visuals on their way from the house look to a campaign: one client, six products, two themes, five factors.

In the archive of `ads` a theme is either there or not. Here it comes gradually, as in a brand's own season: the
palette turns, the pack leaves the middle, the studio opens on a landscape, the light changes, props arrive. Each of
the five runs from 0 (house look) to 1 (campaign) on its own, so every picture's true place on the way is known.
"""

from dataclasses import dataclass, replace

import numpy as np

from .ads import PRODUCTS, _check_count, _check_size, _places, _to_tensor

THEMES = ("summer", "winter")
BRAND_SIDE = ("palette", "layout")
CAMPAIGN_SIDE = ("setting", "light", "props")
STYLE = BRAND_SIDE + CAMPAIGN_SIDE
STRAY = 0.16  # how far each factor strays from the ad's own place on the way


@dataclass(frozen=True)
class Journeys:
    """n key visuals: `product` and `theme` (n,) int64, places in `PRODUCTS` and `THEMES`; `style` (n, 5) in [0, 1],
    one column for each of `STYLE`. `journeys[i]` and `[mask]` are Journeys again."""

    product: np.ndarray
    theme: np.ndarray
    style: np.ndarray

    def __len__(self):
        return len(self.product)

    def __getitem__(self, index):
        if isinstance(index, (int, np.integer)):
            index = [range(len(self))[index]]
        return Journeys(self.product[index], self.theme[index], self.style[index])

    def replace(self, product=None, theme=None, style=None):
        """A copy with a product, a theme (words or places) or the style set, for all of them or one by one."""
        n, changes = len(self), {}
        if product is not None:
            changes["product"] = np.broadcast_to(_places("product", PRODUCTS, product), n).copy()
        if theme is not None:
            changes["theme"] = np.broadcast_to(_places("theme", THEMES, theme), n).copy()
        if style is not None:
            changes["style"] = np.broadcast_to(np.asarray(style, dtype=float), (n, len(STYLE))).copy()
            if not ((changes["style"] >= 0) & (changes["style"] <= 1)).all():
                raise ValueError(f"style must lie between 0 (house look) and 1 (campaign), but is {style}.")
        return replace(self, **changes)


def sample(n, seed=0, ends_only=False):
    """Draw n key visuals. Each has a place on the way, any being equally likely, from which its five factors stray.

    ends_only: an archive of finished pictures alone, house look or campaign and nothing in between.
    """
    _check_count(n)
    product, theme, place, stray = np.random.default_rng(seed).spawn(4)
    where = place.random((n, 1))
    if ends_only:
        where = np.round(where)
    style = where if ends_only else where + stray.normal(0, STRAY, (n, len(STYLE)))
    return Journeys(
        product.integers(0, len(PRODUCTS), n),
        theme.integers(0, len(THEMES), n),
        np.broadcast_to(style, (n, len(STYLE))).clip(0, 1),
    )


def way(product, theme, steps=9):
    """The true way: one product from the house look to a theme in `steps` even steps of all five factors at once."""
    one = sample(1).replace(product, theme)
    return one[np.zeros(steps, dtype=int)].replace(style=np.linspace(0, 1, steps)[:, None])


def render(journeys, size=128):
    """Draw them: float32 tensor (n, 3, size, size) in [0, 1]. At another size it is the same picture."""
    _check_size(size)
    from .journey_drawing import draw_journey

    rows = zip(journeys.product, journeys.theme, journeys.style, strict=True)
    return _to_tensor([draw_journey(PRODUCTS[p], THEMES[t], style, size) for p, t, style in rows])
