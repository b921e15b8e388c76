"""Rulers for sets of pictures, taken in a feature space: are made pictures like the real ones, and are they varied?

`features` is any `(N, d)` description of N pictures: `vaelab.features.describe` for ads, the pixels for digits. No
one ruler sees everything. How far apart are two sets: `frechet`, and for small sets `kid`. Can a simple judge tell
them apart at all: `two_sample_accuracy`. Are the made ones good, and do they cover all that there is:
`precision_recall`. Do codes fill the prior: `mmd`. Does a path between two pictures move evenly: `smoothness`.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch


class Interval(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(share, n, confidence=0.95):
    """The interval of a share seen in `n` cases, (low, high): honest also near 0 and 1 (Wilson 1927).

    `share` is a number or a tensor.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return middle - half, middle + half


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


class UnbiasedFrechet(NamedTuple):
    """Fréchet distances at several numbers of pictures, and where they lead for infinitely many.

    Attributes:
        sizes: numbers of pictures taken from both sides.
        values: the distance at each, the mean over the repeats.
        limit: the value at 1/N = 0 of the straight line through them.
    """

    sizes: tuple
    values: tuple
    limit: float


def subset(features, n, random):
    """`n` of the features, in random order."""
    return features[torch.randperm(len(features), generator=random)[:n]]


def frechet_without_bias(features, others, sizes=None, repeats=5, seed=0):
    """The Fréchet distance without its bias: measured at several N, and followed along 1/N to 0.

    Few pictures make two sets look farther apart than they are, by an amount that goes with 1/N (Chong & Forsyth
    2020, section 3). Both sides are cut to the same N here, so that the line takes the bias of both away. The limit
    may come out slightly below 0 where there is no distance.

    Args:
        features, others: `(n, d)` and `(m, d)`.
        sizes: the N, all above d; default eight, from a quarter of the smaller side (or 3 d if that is more) to all.
        repeats: random subsets at each N.
    """
    most, random = min(len(features), len(others)), torch.Generator().manual_seed(seed)
    if sizes is None:
        fewest = min(most, max(3 * features.shape[1], most // 4))
        sizes = np.linspace(fewest, most, 8).astype(int).tolist()
    if max(sizes) > most or len(set(sizes)) < 2:
        raise ValueError(f"A line in 1/N needs two sizes of at most {most} pictures; got {list(sizes)}.")
    values = []
    for n in sizes:
        pairs = [(subset(features, n, random), subset(others, n, random)) for _ in range(repeats)]
        values.append(float(np.mean([frechet(*pair).value for pair in pairs])))
    return UnbiasedFrechet(tuple(sizes), tuple(values), float(np.polyfit(1 / np.array(sizes), values, 1)[1]))


def squared_mmd(within_a, within_b, between):
    """Unbiased MMD² from kernel values `(n, n)`, `(m, m)` and `(n, m)` (Gretton et al. 2012, eq. 3).

    A picture is never compared with itself, which is why the result is right on average, and may be below 0.
    """
    sides = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (within_a, within_b)]
    return sum(sides) - 2 * between.mean()


class Kid(NamedTuple):
    """A kernel distance and its standard error; of two sets of one kind it is 0 on average, and may be negative."""

    value: float
    standard_error: float


def kid(features, others, subsets=10, size=None, seed=0):
    """Kernel distance (Bińkowski et al. 2018): unbiased MMD² with the kernel (x·y / d + 1)³, for any number of pictures.

    The mean over `subsets` of `size` pictures a side. They share no picture, so that their spread gives an honest
    standard error; by default they use all that the smaller side has.
    """
    most = min(len(features), len(others)) // subsets
    size = most if size is None else size
    if subsets < 2 or not 2 <= size <= most:
        raise ValueError(
            f"{subsets} subsets of {size} pictures that share none cannot be cut from {len(features)} and "
            f"{len(others)}; there must be two subsets, of two pictures, at least."
        )
    random = torch.Generator().manual_seed(seed)
    sides = (subset(side.double(), subsets * size, random).split(size) for side in (features, others))
    values = []
    for a, b in zip(*sides, strict=True):
        pairs = (a, a), (b, b), (a, b)
        values.append(float(squared_mmd(*((x @ y.T / x.shape[1] + 1) ** 3 for x, y in pairs))))
    return Kid(float(np.mean(values)), float(np.std(values, ddof=1) / subsets**0.5))


class Mmd(NamedTuple):
    """Unbiased MMD² of two sets, how often chance alone gives as much, and the kernel's width it was taken at."""

    value: float
    p_value: float
    bandwidth: float


def mmd(a, b, permutations=200, seed=0, bandwidth=None):
    """Are two clouds of points draws from one distribution? For codes against draws from the prior.

    Unbiased MMD² with the kernel exp(−‖x − y‖² / 2h²) (Gretton et al. 2012), h the median distance unless
    `bandwidth` is given; the p-value from shuffling which point belongs to which cloud: a small one says no.

    Args:
        a, b: `(n, *latent)` and `(m, *latent)`.
    """
    n, both = len(a), torch.cat([a, b]).flatten(1).double()
    distances = torch.cdist(both, both)
    if bandwidth is None:
        bandwidth = float(distances[*torch.triu_indices(len(both), len(both), 1)].median())
    kernel = torch.exp(-distances.square() / (2 * bandwidth**2))
    random = torch.Generator().manual_seed(seed)

    def value(order):
        first, second = kernel[order[:n]], kernel[order[n:]]
        return float(squared_mmd(first[:, order[:n]], second[:, order[n:]], first[:, order[n:]]))

    seen = value(torch.arange(len(both)))
    shuffled = [value(torch.randperm(len(both), generator=random)) for _ in range(permutations)]
    at_least = sum(other >= seen for other in shuffled)
    return Mmd(seen, (1 + at_least) / (1 + permutations), bandwidth)


class PrecisionRecall(NamedTuple):
    """How many made pictures are like real ones, how much of what is real is made; and both, robust to outliers.

    Attributes:
        precision: share of made pictures that lie within reach of some real one.
        recall: share of real pictures that lie within reach of some made one.
        density: how many real pictures reach a made one, over k: not fooled by one stray real picture; may exceed 1.
        coverage: share of real pictures that reach some made one: not fooled by stray made pictures.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall(real, made, k=3):
    """Quality and variety apart, a `PrecisionRecall` of features `(n, d)` and `(m, d)`.

    A picture reaches as far as the `k`-th nearest picture of its own set. Precision and recall as in Kynkäänniemi
    et al. 2019, density and coverage as in Naeem et al. 2020; all depend on the numbers of pictures and on `k`.
    """
    real, made = real.double(), made.double()
    if min(len(real), len(made)) <= k:
        raise ValueError(f"Reaching the {k} nearest needs more than {k} pictures; got {len(real)} and {len(made)}.")
    # The nearest of all is the picture itself, so that the k-th neighbour comes at place k + 1.
    reach_real, reach_made = (torch.cdist(x, x).kthvalue(k + 1).values for x in (real, made))
    between = torch.cdist(real, made)
    by_real, by_made = between <= reach_real[:, None], between <= reach_made
    shares = by_real.any(0), by_made.any(1), by_real.sum(0) / k, by_real.any(1)
    return PrecisionRecall(*(float(share.double().mean()) for share in shares))


def two_sample_accuracy(real, made, seed=0):
    """How well a simple judge tells made pictures from real ones: an `Interval`, ½ where it cannot.

    A logistic regression learns from the features of one half of the pictures; the value is the share of the other
    half that it puts on the right side (Lopez-Paz & Oquab 2017, section 3). Judging each picture once, by a judge
    that never saw it, makes Wilson's interval honest, which it is not under cross-validation. The larger set is cut to
    the size of the smaller one. A simple judge that fails proves no likeness; one that succeeds proves a difference.
    """
    from sklearn.linear_model import LogisticRegression

    n, random = min(len(real), len(made)), torch.Generator().manual_seed(seed)
    features = torch.cat([subset(side.flatten(1), n, random) for side in (real, made)]).double()
    features = ((features - features.mean(0)) / features.std(0).clamp(min=1e-12)).numpy()
    truth, learned = np.repeat([0, 1], n), np.arange(2 * n) % n < n // 2
    judge = LogisticRegression(max_iter=1000).fit(features[learned], truth[learned])
    right = judge.score(features[~learned], truth[~learned])
    return Interval(float(right), *map(float, wilson(right, (~learned).sum())))


class Nearest(NamedTuple):
    """The nearest of a reference: its distance and its index, each `(N,)`."""

    distance: torch.Tensor
    index: torch.Tensor


def nearest(features, reference, chunk=1000):
    """Which of `reference` `(M, d)` is nearest to each of `features` `(N, d)`, and how far it is: a `Nearest`."""
    features, reference = features.float(), reference.float()
    index = torch.cat([torch.cdist(part, reference).argmin(1) for part in features.split(chunk)])
    # Taken anew, because a distance from products of matrices is not 0 between equal pictures.
    return Nearest((features - reference[index]).norm(dim=1), index)


def nearest_distance(features, reference, chunk=1000):
    """Distance from each of `features` `(N, d)` to the nearest of `reference` `(M, d)`: `(N,)`."""
    return nearest(features, reference, chunk).distance


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


class Smoothness(NamedTuple):
    """How evenly pictures change along paths, one value a path `(P,)`.

    Attributes:
        ratio: the largest step over the mean step; 1 on a perfectly even path.
        jumps: how many steps are more than three times the median step.
        nearest: how far the path strays from the nearest reference picture, at worst; None without a reference.
    """

    ratio: torch.Tensor
    jumps: torch.Tensor
    nearest: torch.Tensor | None


def smoothness(paths, reference=None):
    """The `Smoothness` of `paths` `(P, T, d)`: the features of the T pictures along each of P paths.

    Args:
        reference: features of real pictures `(M, d)`.
    """
    steps = paths.diff(dim=1).norm(dim=2)
    mean, middle = steps.mean(1), steps.quantile(0.5, dim=1, keepdim=True)
    ratio = torch.where(mean > 0, steps.amax(1) / mean, 1.0)  # a path that stands still is even
    strays = None
    if reference is not None:
        strays = nearest_distance(paths.flatten(0, 1), reference).reshape(paths.shape[:2]).amax(1)
    return Smoothness(ratio, (steps > 3 * middle).sum(1), strays)
