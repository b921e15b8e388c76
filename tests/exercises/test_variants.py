"""Right answers that look unlike ours pass too: other functions, other libraries, other orders of the same work."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors

from vaelab import blend, latent, metrics
from vaelab.exercises import chapter4, chapter5


def path_with_lerp(a, b, steps):
    return torch.stack([torch.lerp(a, b, i / (steps - 1)) for i in range(steps)])


def slerp_by_rotation(a, b, t):
    """Turns a's direction towards b's within the plane of both, by a share of the angle."""
    u = a / a.norm()
    side = b - (b @ u) * u
    side = side / side.norm()
    angle = math.atan2(float(b @ side), float(b @ u))
    return (math.cos(t * angle) * u + math.sin(t * angle) * side) * torch.lerp(a.norm(), b.norm(), t)


def roughness_in_numpy(features):
    features = features.numpy()
    steps = [float(np.sqrt(((one - other) ** 2).sum())) for one, other in zip(features[1:], features[:-1], strict=True)]
    return max(steps) / (sum(steps) / len(steps))


def blend_point_in_a_loop(consistency, freshness):
    for i in range(len(consistency) - 1):
        before, after = consistency[i] - freshness[i], consistency[i + 1] - freshness[i + 1]
        if before > 0 >= after:
            return float(np.interp(0, [after, before], [i + 2, i + 1]))


def blend_point_of_the_library(consistency, freshness):
    return blend.blend_point(consistency, freshness).step


def move_by_weights(z, codes, mask, amount):
    weights = mask / mask.sum() - ~mask / (~mask).sum()
    return z + amount * weights @ codes


def neighbours_one_by_one(codes, n, noise, generator):
    rows, sources = [], []
    for i in range(n):
        sources.append(i % len(codes))
        rows.append(codes[i % len(codes)] + torch.normal(0.0, noise, codes[0].shape, generator=generator))
    return torch.stack(rows), sources


def neighbours_repeated(codes, n, noise, generator):
    source = torch.arange(len(codes)).repeat(n // len(codes) + 1)[:n]
    z = codes[source].clone()
    return [z + torch.empty_like(z).normal_(0, noise, generator=generator), source]


def ratio_in_scipy(made, training, held_out):
    n = min(len(training), len(held_out))
    return np.median([cdist(row[None], training[:n]).min() / cdist(row[None], held_out[:n]).min() for row in made])


def precision_of_sklearn(real, made, k):
    reach = NearestNeighbors(n_neighbors=k + 1).fit(real).kneighbors(real)[0][:, -1]
    return np.mean([(np.linalg.norm(real.numpy() - row.numpy(), axis=1) <= reach).any() for row in made])


def precision_of_the_library(real, made, k):
    return metrics.precision_recall(real, made, k).precision


def kid_of_sklearn(x, y):
    kernel = lambda a, b: polynomial_kernel(a, b, degree=3, coef0=1)
    within = [(k.sum() - np.diag(k).sum()) / (len(k) * (len(k) - 1)) for k in (kernel(x, x), kernel(y, y))]
    return sum(within) - 2 * kernel(x, y).mean()


VARIANTS = [
    (chapter4.path, path_with_lerp),
    (chapter4.path, lambda a, b, steps: latent.lerp(a, b, torch.linspace(0, 1, steps))),
    (chapter4.slerp, slerp_by_rotation),
    (chapter4.slerp, latent.slerp),
    (chapter4.roughness, roughness_in_numpy),
    (chapter4.blend_point, blend_point_in_a_loop),
    (chapter4.blend_point, blend_point_of_the_library),
    (chapter4.move, move_by_weights),
    (chapter4.move, lambda z, codes, mask, amount: z + amount * latent.direction(codes, mask)),
    (chapter5.neighbours, neighbours_one_by_one),
    (chapter5.neighbours, neighbours_repeated),
    (chapter5.nearest_ratio, ratio_in_scipy),
    (chapter5.precision, precision_of_sklearn),
    (chapter5.precision, precision_of_the_library),
    (chapter5.kid, kid_of_sklearn),
]


@pytest.mark.parametrize("exercise, answer", VARIANTS)
def test_a_right_answer_passes_however_it_is_written(exercise, answer):
    verdict = exercise.judge(answer)
    assert verdict.passed, verdict.message


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda codes, n, noise, generator: codes[torch.arange(n) % len(codes)], "Two things should come back"),
        (lambda codes, n, noise, generator: chapter5.neighbours.solution(codes, n, 0.1, generator), "spread 0.10; 0 and 0.3"),
        (lambda codes, n, noise, generator: chapter5.neighbours.solution(codes, n, noise, generator,
            draw=lambda n, d, generator: 12**0.5 * (torch.rand(n, d, generator=generator) - 0.5)), "hard edge"),
        (lambda codes, n, noise, generator: chapter5.neighbours.solution(codes, n, noise, generator,
            sources=lambda n, total, generator: torch.arange(n) * total // n), "not in turn"),
    ],
)  # fmt: skip
def test_other_wrong_neighbours_get_a_sentence(answer, words):
    verdict = chapter5.neighbours.judge(answer)
    assert not verdict.passed and words in verdict.message
