"""Shares and associations: the right number, and intervals that hold what they promise."""

import numpy as np
import pytest
import torch
from scipy.stats.contingency import association

from vaelab.metrics import wilson
from vaelab.preservation import compare_pairs, compare_shares, cramers_v


def test_a_share_that_changed_stands_out_and_the_others_do_not():
    real = torch.tensor([0] * 100 + [1] * 60 + [2] * 40)
    made = torch.tensor([0] * 150 + [1] * 92 + [2] * 8)
    found = compare_shares(real, made)
    assert found.real.tolist() == pytest.approx([0.5, 0.3, 0.2])
    assert found.difference.tolist() == pytest.approx([0.1, 0.068, -0.168])
    assert ((found.low < found.difference) & (found.difference < found.high)).all()
    assert (found.high[2] < 0) and (found.low[:2] < 0).all()


def test_the_interval_is_newcombe_s_at_bonferroni_s_confidence():
    found = compare_shares(torch.tensor([0] * 56 + [1] * 14), torch.tensor([0] * 48 + [1] * 32))
    # Newcombe 1998, table II (a): 56/70 − 48/80 = 0.2 has the 95 % interval 0.0524 to 0.3339.
    (a, b), (c, d) = wilson(0.8, 70), wilson(0.6, 80)
    assert 0.2 - ((0.8 - a) ** 2 + (d - 0.6) ** 2) ** 0.5 == pytest.approx(0.0524, abs=1e-4)
    assert 0.2 + ((b - 0.8) ** 2 + (0.6 - c) ** 2) ** 0.5 == pytest.approx(0.3339, abs=1e-4)
    (a, b), (c, d) = wilson(0.8, 70, 0.975), wilson(0.6, 80, 0.975)
    assert float(found.low[0]) == pytest.approx(-0.2 - ((0.6 - c) ** 2 + (b - 0.8) ** 2) ** 0.5)
    assert float(found.high[0]) == pytest.approx(-0.2 + ((d - 0.6) ** 2 + (0.8 - a) ** 2) ** 0.5)


@pytest.mark.parametrize("rare", [0.0, 0.01, 0.2])
def test_all_words_at_once_hold_in_95_of_100_comparisons(rare):
    random, words = np.random.default_rng(0), [rare, 0.5, 0.2, 0.3 - rare]
    holds = []
    for _ in range(400):
        real, made = (torch.tensor(random.choice(4, n, p=words)) for n in (150, 100))
        found = compare_shares(real, made)
        holds.append(bool(((found.low <= 0) & (found.high >= 0)).all()))
    assert np.mean(holds) > 0.93


def test_probabilities_and_words_that_one_side_never_shows():
    words = torch.tensor([0, 2, 1, 0])
    sure = torch.eye(4)[words]
    assert compare_shares(sure, sure[:2]).difference.tolist() == [0, -0.25, 0.25, 0]
    assert compare_shares(words, words[:2]).difference.shape == (3,)
    soft = compare_shares(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]]))
    assert soft.difference.tolist() == [0.5, -0.5] and soft.low[0] < 0


def pairs(n, together, seed):
    """Two properties of three words, the same in a share `together` of the pictures: Cramér's V is that share."""
    random = np.random.default_rng(seed)
    first, other = random.integers(3, size=(2, n))
    return np.stack([first, np.where(random.random(n) < together, first, other)], 1)


def test_cramers_v_is_scipy_s_less_its_bias():
    table = pairs(400, 0.3, 0)
    counts = np.zeros((3, 3), int)
    np.add.at(counts, tuple(table.T), 1)
    plain = association(counts, method="cramer")
    corrected = np.sqrt((2 * plain**2 - 4 / 399) / (3 - 4 / 399 - 1))
    assert cramers_v(table) == pytest.approx(corrected)
    assert cramers_v(np.array([[0, 5], [1, 7]] * 50)) == pytest.approx(1)
    assert cramers_v(np.array([[0, 1], [0, 2], [0, 1]])) == 0
    assert cramers_v(np.array([[0, 0], [1, 1], [2, 2]])) == 0  # no word comes twice: nothing can be said
    many = [cramers_v(pairs(100, 0.5, seed)) for seed in range(200)]
    assert np.mean(many) == pytest.approx(0.5, abs=0.02)


def test_pairs_that_came_apart_are_seen_and_kept_ones_are_not():
    real, kept, apart = pairs(500, 0.5, 0), pairs(400, 0.5, 1), pairs(400, 0.0, 2)
    found = compare_pairs(torch.tensor(real), kept, resamples=300)
    assert found.real.value == cramers_v(real) and found.made.value == cramers_v(kept)
    assert found.difference.value == pytest.approx(found.made.value - found.real.value)
    assert found.real.low < 0.5 < found.real.high and found.difference.low < 0 < found.difference.high
    assert compare_pairs(real, apart, resamples=300).difference.high < -0.2
    assert found == compare_pairs(real, kept, resamples=300)


def test_intervals_of_associations_hold_what_they_promise():
    found = [compare_pairs(pairs(200, 0.4, s), pairs(150, 0.4, s + 1000), resamples=150) for s in range(80)]
    for name, truth in (("real", 0.4), ("made", 0.4), ("difference", 0.0)):
        holds = np.mean([getattr(f, name).low <= truth <= getattr(f, name).high for f in found])
        assert holds > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 80)
