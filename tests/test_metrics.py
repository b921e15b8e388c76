import math

import pytest
import torch

from vaelab.metrics import Coherence, frechet, nearest_distance


def gaussian(n, mean, covariance, seed):
    factor = torch.linalg.cholesky(covariance)
    return (
        mean
        + torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        @ factor.T
    )


def whitened(n, d, seed):
    """A cloud whose sample mean is exactly 0 and whose sample covariance is exactly I."""
    x = gaussian(n, torch.zeros(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64), seed)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T


def test_frechet_equals_the_closed_form_for_gaussians_that_do_not_commute():
    from scipy.linalg import sqrtm

    a = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, -0.8], [-0.8, 3.0]], dtype=torch.float64)
    shift = torch.tensor([1.0, -2.0], dtype=torch.float64)
    x = whitened(50, 2, 0) @ torch.linalg.cholesky(a).T
    y = whitened(60, 2, 1) @ torch.linalg.cholesky(b).T + shift
    want = float(shift.square().sum() + a.trace() + b.trace()) - 2 * sqrtm((a @ b).numpy()).real.trace()
    got = frechet(x, y)
    assert got.value == pytest.approx(want, abs=1e-8)
    assert (got.n, got.m) == (50, 60)


def test_frechet_of_a_set_with_itself_is_zero_and_is_biased_upwards_for_few_pictures():
    x = whitened(100, 4, 2)
    assert frechet(x, x).value == pytest.approx(0, abs=1e-6)
    zero, one = torch.zeros(8, dtype=torch.float64), torch.eye(8, dtype=torch.float64)
    few = frechet(gaussian(40, zero, one, 3), gaussian(40, zero, one, 4)).value
    many = frechet(gaussian(4000, zero, one, 5), gaussian(4000, zero, one, 6)).value
    assert few > 10 * many > 0


def test_frechet_refuses_fewer_pictures_than_dimensions():
    with pytest.raises(ValueError, match="got 5 and 100"):
        frechet(torch.rand(5, 8), torch.rand(100, 8))


def test_nearest_distance_is_the_minimum_over_the_reference_whatever_the_chunk():
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [10.0, 0.0]])
    reference = torch.tensor([[0.0, 1.0], [10.0, 0.0]])
    want = torch.tensor([1.0, math.sqrt(18), 0.0])
    torch.testing.assert_close(nearest_distance(points, reference), want)
    torch.testing.assert_close(nearest_distance(points, reference, chunk=1), want)


def test_coherence_passes_its_own_quantile_of_held_out_pictures_and_rejects_what_lies_between():
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[-5.0, 0.0], [5.0, 0.0]])

    def cloud(n):
        return centres[torch.randint(2, (n,), generator=generator)] + 0.5 * torch.randn(
            n, 2, generator=generator
        )

    judge = Coherence(cloud(500), held_out := cloud(400))
    assert float(judge(held_out).float().mean()) == pytest.approx(0.95, abs=0.005)
    assert not judge(torch.zeros(1, 2)).any()
    assert float(judge(cloud(400)).float().mean()) > 0.88
