"""Rulers for sets of pictures, taken in a feature space: distance between sets, and which pictures are coherent.

`features` is any `(N, d)` description of N pictures: `vaelab.features.describe` for ads, the pixels for digits.
"""

from typing import NamedTuple

import torch


class Frechet(NamedTuple):
    """A Fréchet distance with the numbers of pictures that it rests on: it is biased upwards for small ones."""

    value: float
    n: int
    m: int


def frechet(features, others):
    """Squared Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017, eq. 6).

    Args:
        features, others: `(n, d)` and `(m, d)`, each with more pictures than dimensions.
    """
    if min(len(features), len(others)) <= features.shape[1]:
        raise ValueError(
            f"A Fréchet distance in {features.shape[1]} dimensions needs more than that many pictures on both "
            f"sides; got {len(features)} and {len(others)}."
        )
    a, b = features.double(), others.double()
    covariances = torch.cov(a.T) @ torch.cov(b.T)
    # The product of two covariances has non-negative eigenvalues; rounding may leave tiny negative ones.
    overlap = torch.linalg.eigvals(covariances).real.clamp(min=0).sqrt().sum()
    spread = torch.cov(a.T).trace() + torch.cov(b.T).trace() - 2 * overlap
    return Frechet(float((a.mean(0) - b.mean(0)).square().sum() + spread), len(a), len(b))


def nearest_distance(features, reference, chunk=1000):
    """Distance from each of `features` `(N, d)` to the nearest of `reference` `(M, d)`: `(N,)`."""
    parts = [torch.cdist(part.float(), reference.float()).min(1).values for part in features.split(chunk)]
    return torch.cat(parts)


class Coherence:
    """Judges decoded pictures: coherent means as near to a real picture as the model's own round trips are.

    The threshold comes from held-out pictures: 95 of 100 of them, encoded and decoded, lie within it of their
    nearest real training picture. So the blur that every picture of this model shares is not held against it; a
    can of a colour that nobody sells is.

    Args:
        reference: features of *real* training pictures, `(M, d)` (round trips of them make a stricter judge).
        held_out: features of the *round trips* of pictures that were not trained on, `(K, d)`.
        quantile: the share of held-out round trips that pass.
    """

    def __init__(self, reference, held_out, quantile=0.95):
        self.reference = reference
        self.threshold = float(nearest_distance(held_out, reference).quantile(quantile))

    def __call__(self, features):
        """`(N, d)` -> `(N,)` bool."""
        return nearest_distance(features, self.reference) <= self.threshold
