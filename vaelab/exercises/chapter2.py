"""Exercises of chapter 2, From points to distributions."""

import math

import torch

from vaelab.exercises import Exercise, Mistake, seeded


def _noise_of(rows, dimensions, seed):
    return torch.randn(rows, dimensions, generator=seeded(seed))


def _sample(mean, log_variance, noise):
    return mean + torch.exp(0.5 * log_variance) * noise


sample = Exercise(
    "2.1",
    "A draw from the cloud",
    solution=_sample,
    cases=lambda: [
        (_noise_of(5, 2, 0), _noise_of(5, 2, 1) - 1, _noise_of(5, 2, 2)),
        (_noise_of(3, 4, 3), _noise_of(3, 4, 4), _noise_of(3, 4, 5)),
    ],
    mistakes={
        "log-variance for std": Mistake(
            lambda mean, log_variance, noise: mean + log_variance * noise,
            "You stretched the noise by the log-variance itself; it is a logarithm: undo it with exp first.",
        ),
        "variance for std": Mistake(
            lambda mean, log_variance, noise: mean + log_variance.exp() * noise,
            "You stretched the noise by the variance; the spread is its square root, exp(½ · log_variance).",
        ),
        "one noise for all": Mistake(
            lambda mean, log_variance, noise: mean + torch.exp(0.5 * log_variance) * noise[:1],
            "Every picture got the same noise, so all clouds are shaken in step; each row needs its own.",
        ),
        "no mean": Mistake(
            lambda mean, log_variance, noise: torch.exp(0.5 * log_variance) * noise,
            "All your clouds sit at the centre: the mean is missing.",
        ),
        "no noise": Mistake(
            lambda mean, log_variance, noise: mean,
            "That is the middle of the cloud, not a draw from it: the noise is not used.",
        ),
        "sum of mean and std": Mistake(
            lambda mean, log_variance, noise: mean + torch.exp(0.5 * log_variance) + noise,
            "The noise was added beside the spread; it has to be multiplied by it.",
        ),
    },
    success="Mean plus spread times noise: one draw from each picture's own cloud.",
)


def _distance(mean_a, variance_a, mean_b, variance_b, share=1 / 8, half=1 / 2):
    middle = (variance_a + variance_b) / 2
    apart = share * (mean_a - mean_b) ** 2 / middle
    return apart + half * torch.log(middle / (variance_a * variance_b).sqrt())


def _overlap(mean_a, variance_a, mean_b, variance_b):
    return torch.exp(-_distance(mean_a, variance_a, mean_b, variance_b).sum(1))


def _two_clouds(rows, dimensions, seed):
    """Means and variances of two batches of clouds that overlap neither wholly nor hardly."""
    a, b, c, d = (_noise_of(rows, dimensions, seed + i) for i in range(4))
    return a, (0.5 * b).exp(), c, (0.5 * d).exp()


overlap = Exercise(
    "2.2",
    "How much two clouds share",
    solution=_overlap,
    cases=lambda: [_two_clouds(6, 2, 10), _two_clouds(4, 3, 20)],
    mistakes={
        "distance": Mistake(
            lambda *clouds: _distance(*clouds).sum(1),
            "That is the Bhattacharyya distance, 0 for two equal clouds; the overlap is exp(−distance).",
        ),
        "no minus": Mistake(
            lambda *clouds: torch.exp(_distance(*clouds).sum(1)),
            "Your overlaps exceed 1: the minus in exp(−distance) is missing.",
        ),
        "no eighth": Mistake(
            lambda *clouds: torch.exp(-_distance(*clouds, share=1).sum(1)),
            "The first term lacks its ⅛: clouds one spread apart would already look like strangers.",
        ),
        "quarter for eighth": Mistake(
            lambda *clouds: torch.exp(-_distance(*clouds, share=1 / 4).sum(1)),
            "The first term has ¼ where ⅛ belongs (¼ goes with the sum of the two variances, ⅛ with their mean).",
        ),
        "no half": Mistake(
            lambda *clouds: torch.exp(-_distance(*clouds, half=1).sum(1)),
            "The logarithm lacks its ½.",
        ),
        "means only": Mistake(
            lambda *clouds: torch.exp(-_distance(*clouds, half=0).sum(1)),
            "Clouds of different size overlap less, even with one middle: the term with the logarithm is missing.",
        ),
        "mean over coordinates": Mistake(
            lambda *clouds: torch.exp(-_distance(*clouds).mean(1)),
            "You averaged over the coordinates; the distances of the coordinates add up.",
        ),
        "one number for all": Mistake(
            lambda *clouds: torch.exp(-_distance(*clouds).sum()),
            "You added up all pairs into one number; sum over the coordinates only, one overlap per pair.",
        ),
    },
    success="1 for the same cloud, 0 for clouds that share nothing.",
)

distance = Exercise(
    "2.3",
    "Where the prior's draws lie",
    solution=lambda d: math.sqrt(d),
    cases=lambda: [(16,), (128,), (512,)],
    tolerance=0.05,
    mistakes={
        "squared distance": Mistake(
            lambda d: float(d), "That is the squared distance, a sum of d squares of about 1 each; take its root."
        ),
        "one coordinate": Mistake(
            lambda d: 1.0, "1 is how far one coordinate strays; the d coordinates together go further."
        ),
        "mean size of a coordinate": Mistake(
            lambda d: math.sqrt(2 / math.pi),
            "That is the mean size of one coordinate: take the length of each row (dim=1), then the mean.",
        ),
        "the centre": Mistake(
            lambda d: 0.0,
            "0 is where the draws lie on average, left and right cancelling; how far away they are is another matter.",
        ),
        "length of all draws at once": Mistake(
            lambda d: math.sqrt(5000 * d),
            "You took the length of all 5,000 draws joined into one long row; give norm a dim=1.",
        ),
    },
    success="About √d: in many dimensions nobody lives near the centre.",
)


def _bins(z, edges):
    return torch.bucketize(z.norm(dim=1), edges, right=True) - 1


def _shares(z, coherent, edges):
    place = _bins(z, edges)
    return torch.stack([coherent[place == i].float().mean() for i in range(len(edges) - 1)])


def _counts(z, coherent, edges):
    place = _bins(z, edges)
    return torch.stack([coherent[place == i].float().sum() for i in range(len(edges) - 1)])


def _draws(n, dimensions, edges, seed):
    """Draws, a judgement on each that is harsher further out, and edges that hold them all."""
    z = _noise_of(n, dimensions, seed)
    coherent = torch.rand(n, generator=seeded(seed + 1)) < 0.9 - 0.2 * z.norm(dim=1) / math.sqrt(dimensions)
    return z, coherent, torch.tensor(edges)


share = Exercise(
    "2.4",
    "Coherent, ring by ring",
    solution=_shares,
    cases=lambda: [
        _draws(400, 2, [0.0, 0.5, 1.0, 1.5, 6.0], 30),
        _draws(300, 16, [0.0, 3.5, 4.0, 4.5, 9.0], 40),
    ],
    mistakes={
        "share of all draws": Mistake(
            lambda z, coherent, edges: _counts(z, coherent, edges) / len(z),
            "You divided by all draws; divide by the draws of that ring, or a thin ring looks bad for being thin.",
        ),
        "share of the coherent": Mistake(
            lambda z, coherent, edges: _counts(z, coherent, edges) / coherent.sum(),
            "That says where the coherent draws live; asked is how many of a ring's draws are coherent.",
        ),
        "counts": Mistake(_counts, "These are counts; divide each by the number of draws in its ring."),
        "incoherent": Mistake(
            lambda z, coherent, edges: _shares(z, ~coherent, edges),
            "These are the shares that are *not* coherent.",
        ),
        "one share for all": Mistake(
            lambda z, coherent, edges: coherent.float().mean().repeat(len(edges) - 1),
            "Every ring got the share of all draws together; pick the ring's own draws first.",
        ),
        "everything inside": Mistake(
            lambda z, coherent, edges: torch.stack(
                [coherent[z.norm(dim=1) < edge].float().mean() for edge in edges[1:]]
            ),
            "You counted everything up to the outer edge; a ring begins at its inner edge.",
        ),
    },
    success="One share per ring, each out of that ring's own draws.",
)


def _frechet(mean_a, std_a, mean_b, std_b):
    return (mean_a - mean_b) ** 2 + (std_a - std_b) ** 2


frechet = Exercise(
    "2.5",
    "A Fréchet distance by hand",
    solution=_frechet,
    cases=lambda: torch.tensor([[0.0, 1.0, 2.0, 3.0], [1.0, 0.5, -0.5, 0.8], [0.3, 2.0, 0.3, 0.6]]).unbind(),
    mistakes={
        "means only": Mistake(
            lambda mean_a, std_a, mean_b, std_b: (mean_a - mean_b) ** 2,
            "Two sets with one middle but different spread are not alike: the spreads are missing.",
        ),
        "variances": Mistake(
            lambda mean_a, std_a, mean_b, std_b: (mean_a - mean_b) ** 2 + (std_a**2 - std_b**2) ** 2,
            "You compared the variances; compare the standard deviations, their roots.",
        ),
        "no root": Mistake(
            lambda mean_a, std_a, mean_b, std_b: (
                (mean_a - mean_b) ** 2 + std_a**2 + std_b**2 - 2 * std_a**2 * std_b**2
            ),
            "In v_a + v_b − 2·√(v_a · v_b) the root is missing: the result can even fall below 0.",
        ),
        "no mixed term": Mistake(
            lambda mean_a, std_a, mean_b, std_b: (mean_a - mean_b) ** 2 + std_a**2 + std_b**2,
            "Two equal sets must be 0 apart: the mixed term −2 · std_a · std_b is missing.",
        ),
        "root of it": Mistake(
            lambda mean_a, std_a, mean_b, std_b: math.sqrt(_frechet(mean_a, std_a, mean_b, std_b)),
            "That is the root; what papers call FID is the squared distance.",
        ),
        "differences not squared": Mistake(
            lambda mean_a, std_a, mean_b, std_b: abs(mean_a - mean_b) + abs(std_a - std_b),
            "Both differences enter squared.",
        ),
    },
    success="Middles apart, squared, plus spreads apart, squared: FID is this, in many dimensions.",
)
