"""The blend point: exact on curves we know, in the middle of a fade, mirrored with its ends, honest about doubt."""

import math

import numpy as np
import pytest
import torch

from vaelab.blend import CRITERIA, BlendPoint, blend_point, look_curves, nearness
from vaelab.data import ads, photos

T = 9
SHARE = np.linspace(0, 1, T)


def fade(a, b, steps=T):
    return torch.stack([torch.lerp(a, b, float(t)) for t in np.linspace(0, 1, steps)])


def flat(colour, size=32):
    return torch.tensor(colour, dtype=torch.float32)[:, None, None].expand(3, size, size)


@pytest.fixture(scope="module")
def pair():
    return ads.render(ads.sample_factors(2, seed=5), 64)


# --- the point -----------------------------------------------------------------------------------------------------


def test_straight_curves_cross_in_the_middle():
    assert blend_point(1 - SHARE, SHARE) == BlendPoint(5.0, 5.0, 5.0, T)


@pytest.mark.parametrize("balance", [0.2, 0.35, 0.5, 0.8, 0.9])
def test_known_curves_cross_where_they_should(balance):
    """b·t² = (1 − b)(1 − t²) at t = √(1 − b); on 2,001 steps straight pieces are as good as the parabola."""
    t = np.linspace(0, 1, 2001)
    point = blend_point(1 - t**2, t**2, balance)
    assert (point.step - 1) / 2000 == pytest.approx(math.sqrt(1 - balance), abs=1e-6)


def test_between_two_steps_it_is_linear():
    """c: 1, 0.8, 0; f: 0, 0.2, 1: the surplus goes from −0.6 to 1, so the crossing is 0.6 / 1.6 of a step on."""
    point = blend_point([1.0, 0.8, 0.0], [0.0, 0.2, 1.0])
    assert point.step == pytest.approx(2 + 0.6 / 1.6)


def test_balance_moves_the_point_monotonically_from_campaign_to_brand():
    found = [blend_point(1 - SHARE, SHARE, balance).step for balance in np.linspace(0, 1, 11)]
    assert found == pytest.approx(np.linspace(T, 1, 11))


def test_the_first_of_several_crossings_counts():
    assert blend_point([1, 0, 1, 0], [0, 1, 0, 1]).step == 1.5


def test_replicates_make_an_interval_that_covers():
    """Crossings are drawn from N(5, 0.8²): the interval is theirs, from the 5 % to the 95 % point."""
    true = np.random.default_rng(0).normal(5, 0.8, 2000)
    t = np.arange(1, T + 1)
    freshness = 0.5 + 0.05 * (t - true[:, None])
    point = blend_point(1 - freshness, freshness)
    assert point.step == pytest.approx(true.mean(), abs=1e-6)
    assert (point.low, point.high) == pytest.approx(tuple(np.quantile(true, [0.05, 0.95])), abs=1e-6)
    assert point.high - point.low == pytest.approx(2 * 1.645 * 0.8, rel=0.1)
    assert str(point) == "step 4 to 6 of 9"


def test_a_replicate_that_never_crosses_counts_as_its_nearer_end():
    late, early = np.full(T, 0.2), np.full(T, 0.8)
    freshness = np.stack([SHARE] * 4 + [late] * 3 + [early] * 3)
    point = blend_point(1 - freshness, freshness)
    assert point.found and (point.low, point.high) == (1, T)


def test_missing_replicates_are_left_out():
    whole = np.stack([SHARE, SHARE**2])
    holed = [SHARE, None, SHARE**2, np.full(T, np.nan), [*SHARE[:-1], None]]
    other = [1 - SHARE, 1 - SHARE, 1 - SHARE**2, 1 - SHARE, 1 - SHARE]
    assert blend_point(other, holed) == blend_point(1 - whole, whole)
    tensor = torch.from_numpy(whole)
    assert blend_point(1 - tensor, tensor) == blend_point(1 - whole, whole)


@pytest.mark.parametrize(
    ("consistency", "freshness", "words"),
    [
        (np.full(T, 0.9), SHARE / 2, "the brand outweighs the campaign"),
        (SHARE * 0, 0.2 + SHARE / 2, "the campaign outweighs the brand"),
        (np.full(T, np.nan), SHARE, "do not differ"),
    ],
)
def test_no_crossing_is_said_in_words(consistency, freshness, words):
    point = blend_point(consistency, freshness)
    assert not point.found and math.isnan(point.step) and math.isnan(point.low)
    assert words in str(point) and "9 steps" in str(point)


def test_bad_input():
    with pytest.raises(ValueError, match="balance is 1.5"):
        blend_point(1 - SHARE, SHARE, 1.5)
    with pytest.raises(ValueError, match="give both the same"):
        blend_point(SHARE[:4], SHARE)
    with pytest.raises(ValueError, match="16 pixels a side"):
        look_curves(torch.zeros(3, 3, 8, 8), torch.zeros(3, 8, 8), torch.zeros(3, 8, 8))


# --- curves of pictures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colours", [((0.2, 0.3, 0.4), (0.8, 0.7, 0.6)), ((0.9, 0.6, 0.2), (0.2, 0.5, 0.5))])
def test_a_fade_between_two_flat_colours_crosses_in_the_middle(colours):
    a, b = (flat(colour) for colour in colours)
    curves = look_curves(fade(a, b), a, b)
    assert np.isnan(curves.criteria["layout"]).all() and np.isnan(curves.criteria["edges"]).all()
    point = blend_point(curves.consistency, curves.freshness)
    assert point.step == pytest.approx(5, abs=0.5)  # CIELAB is not quite as even as gamma-coded RGB


def test_ends_are_ends_and_nearness_is_a_share(pair):
    curves = look_curves(fade(*pair), *pair)
    assert curves.consistency.shape == curves.freshness.shape == (200, T)
    assert (curves.consistency[:, 0] == 1).all() and (curves.freshness[:, -1] == 1).all()
    assert (curves.consistency[:, -1] == 0).all() and (curves.freshness[:, 0] == 0).all()
    assert 0 <= curves.consistency.min() and curves.freshness.max() <= 1
    assert set(curves.criteria) == set(CRITERIA)


def test_layout_falls_linearly_in_a_fade(pair):
    """The distance of a·(1 − t) + b·t to a is t times that of b, in anything linear in the pixels."""
    brand, campaign = look_curves(fade(*pair), *pair).criteria["layout"]
    assert brand == pytest.approx(1 - SHARE, abs=1e-5) and campaign == pytest.approx(SHARE, abs=1e-5)


def test_nearness_is_a_share_of_how_far_the_ends_lie_apart_wherever_the_path_begins_and_stops(pair):
    """A path from 0 to 1 between ends at ¼ and ¾, and one from ¼ to ¾ between ends at 0 and 1."""
    path = fade(*pair)
    for first, last in ((0.25, 0.75), (0.0, 1.0)):
        ends = (torch.lerp(*pair, end) for end in (first, last))
        inside = path if first else path[2:-2]
        share = (SHARE if first else SHARE[2:-2])[None]
        want = 1 - abs(share - np.array([[first], [last]])) / (last - first)
        assert look_curves(inside, *ends).criteria["layout"] == pytest.approx(want.clip(0), abs=1e-5)


def test_a_criterion_weighs_the_drawn_patches():
    values = np.array([[[0.2], [0.6]], [[0.0], [0.0]], [[1.0], [1.0]]])  # one step, the brand, the campaign
    for weights, near in (
        ((1, 0), (0.8, 0.2)),
        ((0, 1), (0.4, 0.6)),
        ((0.5, 0.5), (1 - 0.2**0.5, 1 - 0.4**0.5)),
    ):
        assert nearness(values, np.array(weights), "layout")[:, 0] == pytest.approx(near)
    assert nearness(values, np.array([0.25, 0.75]), "palette")[:, 0] == pytest.approx((0.5, 0.5))


def test_replicates_draw_patches_with_replacement():
    """Half of the step is the campaign: of 16 drawn patches a binomial number. Flat ends differ in their palette only."""
    a, b = flat((0.2, 0.3, 0.4)), flat((0.8, 0.7, 0.6))
    step = a.clone()
    step[..., :16] = b[..., :16]
    freshness = look_curves(step[None], a, b, replicates=600).freshness[:, 0]
    freshness = freshness[np.isfinite(freshness)]
    assert 16 * freshness == pytest.approx((16 * freshness).round(), abs=1e-6)
    assert freshness.mean() == pytest.approx(0.5, abs=0.02) and freshness.std() == pytest.approx(
        0.125, rel=0.1
    )


def test_swapping_the_ends_mirrors_the_point(pair):
    a, b = pair
    path = torch.stack([torch.lerp(a, b, float(t) ** 2) for t in np.linspace(0, 1, 11)])
    there, back = look_curves(path, a, b), look_curves(path.flip(0), b, a)
    assert np.allclose(there.consistency, back.freshness[:, ::-1])
    first, second = (blend_point(curves.consistency, curves.freshness) for curves in (there, back))
    assert first.step + second.step == pytest.approx(12)
    assert (first.low + second.high, first.high + second.low) == pytest.approx((12, 12))


def test_a_path_that_lingers_at_the_brand_has_a_later_point(pair):
    """The same fade, run through slowly at first: its balance comes later, by the time it was slowed down."""
    steady = look_curves(fade(*pair, 17), *pair)
    slow = torch.stack([torch.lerp(*pair, float(t) ** 2) for t in np.linspace(0, 1, 17)])
    late = look_curves(slow, *pair)
    share = (blend_point(*steady[:2]).step - 1) / 16
    assert (blend_point(*late[:2]).step - 1) / 16 == pytest.approx(math.sqrt(share), abs=0.02)


def test_each_criterion_sees_its_own_and_nothing_else():
    grain = photos.patches(1, 64, seed=3, names=("grass",))[0]
    turned = grain.rot90(1, (1, 2))
    curves = look_curves(torch.stack([grain, turned]), grain, turned).criteria
    assert np.isnan(curves["palette"]).all()  # the same colours elsewhere are the same palette
    assert curves["layout"][0].tolist() == [1, 0]
    shifted = (grain * 0.9) + torch.tensor([0.08, 0.0, 0.0])[:, None, None]
    curves = look_curves(torch.stack([grain, shifted]), grain, shifted).criteria
    assert curves["palette"][0].tolist() == [1, 0]


def test_identical_ends_have_no_point():
    grey = torch.full((3, 32, 32), 0.5)
    curves = look_curves(grey.expand(5, -1, -1, -1), grey, grey)
    assert "do not differ" in str(blend_point(curves.consistency, curves.freshness))


def test_same_seed_same_curves_and_grey_pictures_work(pair):
    grey = fade(*pair).mean(1, keepdim=True)
    one, again, other = (look_curves(grey, grey[0], grey[-1], seed) for seed in (1, 1, 2))
    assert np.array_equal(one.consistency, again.consistency)
    assert not np.array_equal(one.consistency, other.consistency)
