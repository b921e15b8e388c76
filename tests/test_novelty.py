"""Copies that were planted are found, new pictures are not called copies, and what was learned by heart shows."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch.testing import assert_close

from vaelab import latent, models
from vaelab.data import ads
from vaelab.novelty import (
    EDITS,
    CopyTest,
    duplicates,
    membership,
    novelty,
    plant_copies,
    soften,
    thumbprint,
)
from vaelab.training import fit


def normal(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def archive():
    """Three sets of a client's ads: in the archive, for calibration, and never used."""
    return [ads.render(ads.sample_factors(n, seed=seed), 32) for seed, n in enumerate((250, 250, 200))]


@pytest.fixture(scope="module")
def few():
    return ads.render(ads.sample_factors(20, seed=0), 32)


# -- the description ----------------------------------------------------------------------------------------------


def test_soften_is_a_gaussian_that_keeps_the_sum_and_flat_pictures():
    dot = torch.zeros(1, 2, 21, 21)
    dot[0, 0, 10, 10] = 1
    soft = soften(dot, 1.5)
    x = torch.arange(21.0) - 10
    assert float(soft[0, 0].sum()) == pytest.approx(1, abs=1e-5) and soft[0, 1].abs().max() == 0
    for axis in (0, 1):
        assert float((soft[0, 0].sum(axis) * x**2).sum().sqrt()) == pytest.approx(1.5, rel=0.03)
    assert_close(soften(torch.full((1, 1, 9, 9), 0.3), 1.0), torch.full((1, 1, 9, 9), 0.3))


def test_thumbprints_of_any_size_do_not_see_exposure_and_see_colour(few):
    pictures, prints = few, thumbprint(few)
    assert prints.shape == (20, 768)
    spread = torch.pdist(prints).median()
    doubled = torch.nn.functional.interpolate(pictures, (64, 64), mode="nearest")
    for same in (0.8 * pictures, 0.8 * pictures + 0.1, doubled):
        assert (thumbprint(same) - prints).norm(dim=1).median() < 0.08 * spread
    assert (thumbprint(pictures[:, [2, 1, 0]]) - prints).norm(dim=1).median() > 0.2 * spread
    grey = pictures.mean(1, keepdim=True)
    assert_close(thumbprint(grey), thumbprint(grey.expand(-1, 3, -1, -1)))
    assert thumbprint(torch.rand(2, 1, 8, 8)).shape == (2, 768)
    assert thumbprint(torch.full((1, 3, 32, 32), 0.5)).abs().max() < 1e-5
    alone = torch.cat([thumbprint(picture[None]) for picture in pictures])
    assert_close(alone, prints)  # whatever stands beside it in the batch
    stripes = (torch.arange(112) % 2).float().expand(1, 3, 112, 112)
    assert thumbprint(stripes).norm() < 0.1  # stripes of one pixel are grey from afar


# -- copies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_every_edit_changes_the_picture_a_little_and_more_when_stronger(edit, few):
    picture = few[:1]
    mild, strong = (
        edit(picture, strength, torch.Generator().manual_seed(0)) - picture for strength in (0.0, 1.0)
    )
    assert mild.shape == strong.shape == picture.shape
    assert 0 < float(mild.square().mean()) < float(strong.square().mean()) < 0.1**2


def test_copies_are_even_over_their_sources_and_a_function_of_the_seed(few):
    pictures = few[:8]
    copies, sources = plant_copies(pictures, 20)
    counts = torch.bincount(sources, minlength=8)
    assert counts.min() == 2 and counts.max() == 3
    assert copies.shape == (20, 3, 32, 32) and 0 <= copies.min() and copies.max() <= 1
    distances = (copies[:, None] - pictures).square().mean((2, 3, 4))
    assert distances.argmin(1).tolist() == sources.tolist()
    assert_close(plant_copies(pictures, 20)[0], copies, atol=0, rtol=0)
    assert not torch.equal(plant_copies(pictures, 20, seed=1)[0], copies)
    assert plant_copies(torch.rand(3, 1, 8, 8), 12)[0].shape == (12, 1, 8, 8)


def test_a_copy_draws_one_or_two_different_edits_and_a_strength_for_each():
    def mark(place):
        def edit(picture, strength, random):
            picture = picture.clone()
            picture[..., place] += strength
            return picture

        return edit

    copies, _ = plant_copies(torch.zeros(5, 1, 1, 4), 600, edits=[mark(place) for place in range(4)])
    marked = copies[:, 0, 0]
    counts = (marked > 0).sum(1)
    assert set(counts.tolist()) == {1, 2}
    assert float(counts.double().mean()) == pytest.approx(1.5, abs=0.07)
    assert (marked > 0).double().mean(0).tolist() == pytest.approx([1.5 / 4] * 4, abs=0.07)
    assert float(marked[marked > 0].mean()) == pytest.approx(0.5, abs=0.04)


def test_planted_copies_of_ads_are_found_and_new_ads_are_not(archive):
    training, calibration, fresh = archive
    test = CopyTest(training, calibration)
    copies, sources = plant_copies(training, 500)
    assert float(test(copies).float().mean()) >= 0.99
    assert float((test.nearest(copies).index == sources).float().mean()) >= 0.99
    assert float(test(fresh).float().mean()) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 200)
    assert test(training).all() and test.nearest(training[:5]).distance.tolist() == [0] * 5


def test_the_promise_of_few_false_alarms_is_kept_in_95_of_100_calibrations():
    # On a line with training pictures at every integer, the distance of a new one is even on [0, ½].
    reference = torch.arange(200.0)[:, None]
    rates = []
    for seed in range(300):
        held_out = 199 * torch.rand(59, 1, generator=torch.Generator().manual_seed(seed))
        rates.append(2 * CopyTest(reference, held_out).threshold)
    assert np.mean(np.array(rates) > 0.05) == pytest.approx(0.95**59, abs=0.035)  # just within the 5 %
    assert np.mean(rates) == pytest.approx(1 / 60, abs=0.004)


def test_too_few_held_out_pictures_can_promise_nothing():
    with pytest.raises(ValueError, match="58 held-out pictures are too few to promise 5% false alarms; give at least 59"):
        CopyTest(normal(50, 3, 0), normal(58, 3, 1))
    assert CopyTest(normal(50, 3, 0), normal(59, 3, 1)).threshold > 0


def test_duplicates_are_pairs_counted_once():
    points = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 0.1], [0.0, 0.0]])
    assert duplicates(points, 0.15).tolist() == [[0, 2], [0, 3], [2, 3]]
    assert duplicates(points, 0.05).tolist() == [[0, 3]]


# -- a set of pictures --------------------------------------------------------------------------------------------


def test_new_pictures_are_as_near_to_training_as_to_held_out_ones_whatever_the_sizes():
    found = [
        novelty(cloud[:200], cloud[200:800], cloud[800:], seed=seed)
        for seed in range(40)
        for cloud in [normal(950, 5, seed)]
    ]
    ratios = np.array([f.ratio.value for f in found])
    assert ratios.mean() == pytest.approx(1, abs=3 * ratios.std() / math.sqrt(40))
    assert np.mean([f.ratio.low <= 1 <= f.ratio.high for f in found]) >= 0.92
    half = np.mean([f.ratio.high - f.ratio.low for f in found]) / 2
    assert 1.96 * ratios.std() < half < 5 * ratios.std()
    assert np.mean([f.copies for f in found]) <= 0.05
    assert found[0].own_source is None and found[0].chance is None


def test_pictures_learned_by_heart_are_told_from_new_ones():
    training, held_out = normal(300, 6, 0), normal(300, 6, 1)
    sources = torch.arange(300).flip(0)
    found = novelty(training[sources] + 0.05 * normal(300, 6, 2), training, held_out, sources)
    assert found.ratio.value < 0.15 and found.ratio.low < found.ratio.value < found.ratio.high < 0.2
    assert found.copies > 0.95 and found.own_source > 0.95
    assert found.chance == pytest.approx(1 / 300, rel=0.1)
    assert found == novelty(training[sources] + 0.05 * normal(300, 6, 2), training, held_out, sources)


def test_copies_are_told_though_there_are_many_more_training_pictures_than_held_out_ones():
    training, held_out, noise = normal(600, 6, 0), normal(80, 6, 1), normal(300, 6, 2)
    for seed in range(3):
        sources = torch.randperm(600, generator=torch.Generator().manual_seed(seed))[:300]
        assert novelty(training[sources] + 0.05 * noise, training, held_out, sources, seed).ratio.high < 0.3
    with pytest.raises(ValueError, match="None of the sources is among the 80 training pictures"):
        novelty(noise[:2], training, held_out, torch.tensor([[599], [599]]), seed=4)


def test_own_source_of_several_and_its_chance_count_popular_neighbours():
    training = torch.cat([torch.zeros(1, 2), 50 + 10 * normal(3, 2, 0)])
    made = 0.1 * normal(8, 2, 1)  # all of them nearest to picture 0
    sources = torch.tensor([[0, 1], [1, 2], [2, 0], [3, 1], [1, 3], [2, 3], [0, 3], [3, 2]])
    found = novelty(made, training, 30 * normal(60, 2, 2), sources)
    assert found.own_source == found.chance == 3 / 8
    first = novelty(made, training, 30 * normal(60, 2, 2), sources[:, 0])
    assert first.own_source == first.chance == 2 / 8
    twice = novelty(made, training, 30 * normal(60, 2, 2), sources[:, [0, 0]])
    assert twice.own_source == twice.chance == 2 / 8


def test_twins_are_pictures_not_pairs():
    training, held_out = 10 * normal(100, 3, 0), 10 * normal(100, 3, 1)
    made = 10 * normal(20, 3, 2)
    assert novelty(made, training, held_out).twins == 0
    made[1:4] = made[0]
    assert novelty(made, training, held_out).twins == pytest.approx(4 / 20)


def test_round_trips_of_training_pictures_are_no_news(archive):
    training, calibration, fresh = archive
    near = soften(training, 1.5)
    found = novelty(near[:150], training, calibration, torch.arange(150))
    assert found.own_source == 1 and found.ratio.high < 0.5 and found.copies == 1
    new = novelty(fresh[:150], training, calibration)
    assert new.ratio.low < 1 < new.ratio.high


# -- the model ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def overfitted():
    torch.manual_seed(0)
    model = models.vae((1, 4, 4), 8, kind="mlp", channels=(64,), sigma=0.1, learned=False)
    pictures = torch.rand(3, 60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    fit(model, pictures[0], steps=600, batch_size=60, learning_rate=5e-3, progress=False)
    return model, pictures


def test_a_model_that_learned_by_heart_gives_its_pictures_away(overfitted):
    model, (training, held_out, others) = overfitted
    found = membership(model, training, held_out)
    assert found.auc.low > 0.8 and found.advantage > 0.6
    neither = membership(model, others, held_out)
    assert neither.auc.low < 0.5 < neither.auc.high
    assert found == membership(model, training, held_out)


def test_membership_is_scikit_learn_s_curve_over_the_elbo(overfitted):
    model, (training, held_out, _) = overfitted
    noise = torch.Generator().manual_seed(5)
    with torch.no_grad():
        scores = torch.cat([model(side, generator=noise).value for side in (training, held_out)]).double()
    truth = np.repeat([1, 0], 60)
    found = membership(model, training, held_out, seed=5)
    assert found.auc.value == pytest.approx(roc_auc_score(truth, scores))
    mistaken, hit, _ = roc_curve(truth, scores)
    assert found.advantage == pytest.approx((hit - mistaken).max())


def test_the_auc_counts_ties_half_and_its_interval_holds_what_it_promises():
    class Score(torch.nn.Module):
        """A model whose ELBO is the picture's one value."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x, generator=None):
            from vaelab.objectives import Elbo

            return Elbo(x.flatten(1)[:, 0], torch.zeros(len(x)))

    # Of nine pairs three are right and three are ties.
    grey = [torch.tensor(values).reshape(3, 1, 1, 1) for values in ([0.2, 0.4, 0.6], [0.2, 0.4, 0.6])]
    assert membership(Score(), *grey).auc.value == pytest.approx(1 / 2)

    found = []
    for seed in range(200):
        first, second = torch.rand(2, 80, 1, 1, 1, generator=torch.Generator().manual_seed(seed))
        found.append(membership(Score(), first.sqrt(), second).auc)  # P(√u > v) = E √u = 2/3
    assert np.mean([f.value for f in found]) == pytest.approx(2 / 3, abs=0.01)
    assert np.mean([f.low <= 2 / 3 <= f.high for f in found]) == pytest.approx(0.95, abs=0.04)


def test_the_sources_of_a_neighbourhood_fit_in(overfitted):
    model, (training, held_out, _) = overfitted
    made, sources = latent.neighbourhood(model, training, 90, noise=0.1)
    found = novelty(made, training, held_out, sources)
    assert found.own_source > 0.8 > 10 * found.chance and found.ratio.high < 0.9
