import math

import numpy as np
import pytest
import torch

from vaelab.metrics import (
    Coherence,
    frechet,
    frechet_without_bias,
    kid,
    mmd,
    nearest,
    nearest_distance,
    precision_recall,
    smoothness,
    squared_mmd,
    two_sample_accuracy,
    wilson,
)


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


def normal(n, d, seed, shift=0.0):
    return shift + torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_nearest_finds_a_copy_at_distance_zero_and_says_which_it_is():
    reference = 100 + normal(300, 50, 0).float()
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    for chunk in (7, 1000):
        found = nearest(reference[order], reference, chunk)
        assert found.index.tolist() == order.tolist() and found.distance.tolist() == [0] * 300


def test_frechet_without_bias_is_the_straight_line_in_one_over_n():
    x, y = normal(200, 3, 0), normal(150, 3, 1)
    found = frechet_without_bias(x, y, sizes=(50, 100, 150), repeats=2)
    assert found.sizes == (50, 100, 150) and found.values[0] > found.values[2]
    slope = np.cov(1 / np.array(found.sizes), found.values)[0, 1] / np.var(1 / np.array(found.sizes), ddof=1)
    assert found.limit == pytest.approx(np.mean(found.values) - slope * np.mean(1 / np.array(found.sizes)))
    assert found == frechet_without_bias(x, y, sizes=(50, 100, 150), repeats=2)
    assert found != frechet_without_bias(x, y, sizes=(50, 100, 150), repeats=2, seed=1)


@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_the_limit_of_the_frechet_distance_has_no_bias_where_the_distance_has(shift):
    truth = 8 * shift**2
    found = [
        frechet_without_bias(normal(300, 8, s), normal(300, 8, s + 100, shift), repeats=3) for s in range(30)
    ]
    limits, largest = np.array([f.limit for f in found]), np.array([f.values[-1] for f in found])
    error = limits.std(ddof=1) / math.sqrt(30)
    assert abs(limits.mean() - truth) < 3 * error
    assert largest.mean() - truth > 5 * error
    assert found[0].sizes[0] >= 75 and found[0].sizes[-1] == 300


def test_frechet_without_bias_refuses_sizes_that_make_no_line():
    x = normal(100, 3, 0)
    for sizes in ((50, 101), (50, 50)):
        with pytest.raises(ValueError, match="two sizes of at most 100 pictures"):
            frechet_without_bias(x, x, sizes=sizes)


def test_kid_equals_a_computation_by_hand():
    a, b = [[1.0, 0.0], [0.0, 2.0]], [[1.0, 1.0], [2.0, 0.0]]

    def kernel(x, y):
        return (sum(p * q for p, q in zip(x, y, strict=True)) / 2 + 1) ** 3

    between = sum(kernel(x, y) for x in a for y in b) / 4
    want = kernel(*a) + kernel(*b) - 2 * between  # two pictures a side: one pair within each
    # Two subsets of two that share no picture: doubled clouds give the same value twice only if none is drawn twice.
    found = [kid(torch.tensor(a * 2), torch.tensor(b * 2), subsets=2, size=2, seed=s) for s in range(40)]
    assert any(f.value == pytest.approx(want) and f.standard_error == pytest.approx(0) for f in found)
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert float(squared_mmd(values, 2 * values, values)) == pytest.approx(2.5 + 5 - 5)


def test_kid_is_unbiased_and_its_standard_error_is_that_of_its_values():
    # Where the sets differ, subsets that shared pictures would agree too well.
    for shift in (0.5, 0.0):
        found = [kid(normal(60, 5, s), normal(60, 5, s + 500, shift), subsets=5) for s in range(200)]
        values = np.array([f.value for f in found])
        assert math.sqrt(np.mean([f.standard_error**2 for f in found])) == pytest.approx(values.std(), rel=0.15)
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(200)
    assert (values < 0).mean() > 0.3
    assert kid(normal(200, 5, 0), normal(200, 5, 1, 1.0)).value > 10 * values.std()


def test_kid_refuses_subsets_that_would_share_pictures():
    with pytest.raises(ValueError, match="10 subsets of 7 pictures that share none cannot be cut from 60 and 80"):
        kid(normal(60, 2, 0), normal(80, 2, 1), size=7)


def test_mmd_equals_the_closed_form_for_two_gaussians():
    d, width, shift, scale = 3, 1.5, 0.5, 1.4

    def kernel(variance, distance):  # E exp(−‖x − y‖² / 2h²) where x − y is normal with that variance
        h = width**2
        return (h / (h + variance)) ** (d / 2) * math.exp(-d * distance**2 / (2 * (h + variance)))

    truth = kernel(2, 0) + kernel(2 * scale**2, 0) - 2 * kernel(1 + scale**2, shift)
    values = np.array(
        [
            mmd(normal(50, d, s), shift + scale * normal(70, d, s + 500), 0, bandwidth=width).value
            for s in range(200)
        ]
    )
    assert abs(values.mean() - truth) < 3 * values.std() / math.sqrt(200) < 0.2 * truth


def test_mmd_s_p_value_is_uniform_without_a_difference_and_small_with_one():
    p = np.array([mmd(normal(40, 3, s), normal(40, 3, s + 500), 60).p_value for s in range(100)])
    assert abs(p.mean() - 0.5) < 3 * math.sqrt(1 / 12 / 100)
    assert abs((p < 0.25).mean() - 0.25) < 3 * math.sqrt(0.25 * 0.75 / 100)
    assert mmd(normal(60, 3, 0), normal(60, 3, 1, 0.8), 200).p_value == pytest.approx(1 / 201)


def test_mmd_s_width_is_the_median_distance_and_spatial_latents_are_points():
    a, b = normal(20, 4, 0), normal(30, 4, 1)
    found = mmd(a, b, 5)
    assert found.bandwidth == pytest.approx(float(torch.pdist(torch.cat([a, b])).median()))
    assert found == mmd(a.reshape(20, 1, 2, 2), b.reshape(30, 1, 2, 2), 5)


def test_precision_and_recall_of_clouds_that_one_knows():
    x = normal(300, 2, 0)
    assert precision_recall(x, x)[:2] == (1, 1) and precision_recall(x, x).coverage == 1
    assert precision_recall(x, x + 100) == (0, 0, 0, 0)
    same = precision_recall(normal(1000, 2, 1), normal(1000, 2, 2))
    assert same.density == pytest.approx(1, abs=0.1)
    # Real pictures are of two kinds, equally often; all that is made is of the first.
    kinds = torch.cat([normal(300, 2, 3), normal(300, 2, 4, 50.0)])
    one = precision_recall(kinds, normal(300, 2, 5))
    assert one.precision > 0.9 and one.recall == pytest.approx(0.5, abs=0.05) and one.coverage < 0.5


def test_density_is_not_fooled_by_a_stray_real_picture_nor_coverage_by_stray_made_ones():
    crowd, strays = normal(300, 2, 6), torch.tensor([[30.0, 0.0], [0.0, 30.0], [-30.0, 0.0]]).double()
    real = torch.cat([crowd, strays])
    made = normal(300, 2, 7, 12.0)  # bad pictures, on the way to the strays, whose reach is long
    found = precision_recall(real, made)
    assert found.precision > 0.9 and found.density < 0.8
    swapped = precision_recall(made, real)
    assert swapped.recall > 0.9 and swapped.coverage == 0


def test_precision_and_recall_follow_their_definitions():
    real, made, k = normal(12, 2, 8).numpy(), normal(9, 2, 9, 0.5).numpy(), 2
    reach = [
        [sorted(np.linalg.norm(x - y) for j, y in enumerate(side) if j != i)[k - 1] for i, x in enumerate(side)]
        for side in (real, made)
    ]
    between = np.linalg.norm(real[:, None] - made, axis=2)
    within_real, within_made = between <= np.array(reach[0])[:, None], between <= np.array(reach[1])
    want = (
        within_real.any(0).mean(), within_made.any(1).mean(), within_real.sum() / (k * 9), within_real.any(1).mean()
    )  # fmt: skip
    assert precision_recall(torch.tensor(real), torch.tensor(made), k) == pytest.approx(want)
    with pytest.raises(ValueError, match="needs more than 9 pictures; got 12 and 9"):
        precision_recall(torch.tensor(real), torch.tensor(made), 9)


def test_wilson_s_bounds_solve_its_equation_and_are_no_point_at_zero():
    # The two bounds are where a score test of the share just fails: |share − p| = z √(p (1 − p) / n).
    for share, n in ((0.3, 50), (0.0, 20), (1.0, 20)):
        for bound in wilson(share, n):
            assert abs(share - bound) == pytest.approx(1.959964 * math.sqrt(max(0, bound * (1 - bound)) / n), abs=1e-6)
    assert wilson(0.0, 20)[1] > 0.1 and wilson(0.5, 100, 0.99)[1] > wilson(0.5, 100)[1]


def test_a_judge_is_at_chance_without_a_difference_and_its_interval_says_so():
    found = [two_sample_accuracy(normal(120, 6, s), normal(150, 6, s + 500), s) for s in range(100)]
    covers = np.mean([f.low <= 0.5 <= f.high for f in found])
    assert covers > 0.9
    assert np.mean([f.value for f in found]) == pytest.approx(0.5, abs=0.02)
    low, high = wilson(found[0].value, 120)
    assert found[0][1:] == pytest.approx((low, high))


def test_a_judge_sees_a_shift_in_any_unit():
    real, made = normal(200, 4, 0), normal(200, 4, 1, 1.0)
    found = two_sample_accuracy(real, made)
    assert found.value == pytest.approx(0.841, abs=0.06)  # Φ(1): half of the distance 2 between the means
    assert two_sample_accuracy(1e-4 * real, 1e-4 * made).value == found.value


def test_smoothness_of_even_and_uneven_paths():
    t = torch.linspace(0, 1, 9).double()
    even = torch.stack([t, 2 * t], 1)
    jump = even.clone()
    jump[5:] += 10
    still = torch.zeros(9, 2).double()
    found = smoothness(torch.stack([even, jump, still]), reference=even[:1])
    steps = torch.tensor([1.0, 2.0]).double().norm() / 8
    leap = torch.tensor([10 + 1 / 8, 10 + 2 / 8]).double().norm()
    assert found.ratio.tolist() == pytest.approx([1, float(leap / ((7 * steps + leap) / 8)), 1])
    assert found.jumps.tolist() == [0, 1, 0]
    far = torch.tensor([11.0, 12.0]).norm()
    assert found.nearest.tolist() == pytest.approx([math.sqrt(5), float(far), 0])
    assert smoothness(even[None]).nearest is None
    leaps = even.clone()
    for place in (2, 4, 6):
        leaps[place:] += 10
    # Three of eight steps are leaps: three times the mean step is more than a leap, three times the median is not.
    assert smoothness(leaps[None]).jumps.tolist() == [3]
