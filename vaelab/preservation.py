"""Are the statistics kept? Do made pictures show each thing as often as the real ones do, and the same things together?

A generator may paint good pictures and still forget the pouches, or put every badge on a bottle. `compare_shares` asks
it of one property, word by word; `compare_pairs` of two properties together. Both read tables of what the pictures
show (`vaelab.features`), which a person could have filled in.
"""

from typing import NamedTuple

import numpy as np
import torch

from vaelab.metrics import Interval, wilson


class Shares(NamedTuple):
    """How often each word is shown, `(K,)` each, and the difference, made minus real, with its interval.

    The intervals hold for all words at once, with 95 % confidence: one that leaves out 0 is a word whose share changed.
    """

    real: torch.Tensor
    made: torch.Tensor
    difference: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor


def compare_shares(real, made):
    """The `Shares` of one property in two sets.

    The interval of a difference is Newcombe's (1998, method 10), from Wilson's intervals, at Bonferroni's confidence.

    Args:
        real, made: which word each picture shows, `(N,)` ints from 0; or probabilities of the words, `(N, K)`.
    """
    words = max(int(side.max()) + 1 if side.ndim == 1 else side.shape[1] for side in (real, made))
    tables = [torch.eye(words)[side] if side.ndim == 1 else side for side in (real, made)]
    a, b = (table.double().mean(0) for table in tables)
    confidence = 1 - 0.05 / words
    (low_a, high_a), (low_b, high_b) = (
        wilson(share, len(table), confidence) for share, table in zip((a, b), tables, strict=True)
    )
    low = b - a - ((b - low_b).square() + (high_a - a).square()).sqrt()
    high = b - a + ((high_b - b).square() + (a - low_a).square()).sqrt()
    return Shares(a, b, b - a, low, high)


def cramers_v(pairs):
    """How strongly two properties go together, 0 (not at all) to 1, without its bias upwards (Bergsma 2013).

    Args:
        pairs: `(N, 2)` ints, a NumPy array: the word of either property.
    """
    (_, rows), (_, columns) = (np.unique(column, return_inverse=True) for column in pairs.T)
    n, (r, c) = len(pairs), (rows.max() + 1, columns.max() + 1)
    if min(r, c) == 1 or max(r, c) == n:  # one word for all, or one for each
        return 0.0
    table = np.bincount(rows * c + columns, minlength=r * c).reshape(r, c) / n
    expected = table.sum(1, keepdims=True) * table.sum(0)
    strength = ((table - expected) ** 2 / expected).sum() - (r - 1) * (c - 1) / (n - 1)
    return float(np.sqrt(max(0.0, strength) / (min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1)))


class Pairs(NamedTuple):
    """Cramér's V of two properties in the real and in the made pictures, and the difference, made minus real."""

    real: Interval
    made: Interval
    difference: Interval


def compare_pairs(real, made, resamples=1000, seed=0):
    """Do two properties still go together as they did? The `Pairs` of two tables `(N, 2)` of ints.

    The intervals are bootstraps.
    """
    random, sides = np.random.default_rng(seed), [np.asarray(side) for side in (real, made)]
    seen = [cramers_v(side) for side in sides]
    drawn = [[cramers_v(random.choice(side, len(side))) for side in sides] for _ in range(resamples)]
    every = np.array([seen, *drawn])
    every = np.column_stack([every, every[:, 1] - every[:, 0]])
    bounds = np.quantile(every[1:], [0.025, 0.975], axis=0)
    return Pairs(*(Interval(*map(float, (value, *bound))) for value, bound in zip(every[0], bounds.T, strict=True)))
