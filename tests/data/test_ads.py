"""The procedural ads: labels, the click function, and drawing that follows the factors."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from vaelab.data import ads
from vaelab.data.ad_packs import draw_pack


@pytest.fixture(scope="module")
def data():
    return ads.make(55, size=32, seed=0)


@pytest.fixture(scope="module")
def many():
    """40,000 ads that are served but not drawn: factors, CTR, cut-off."""
    factors = ads.sample_factors(40_000, seed=7)
    impressions, clicks = ads.run_campaign(factors, seed=7)
    ctr = clicks / impressions
    return factors, ctr, np.sort(ctr)[-round(40_000 * 340 / 1100)]


def plain(n=1, **fixed):
    """Ads without anything that hides the pack or moves the words."""
    defaults = {"badge": False, "face": False, "call_to_action": False, "headline": "none", "clutter": 0}
    return ads.sample_factors(n, seed=4, **(defaults | {"offset": 0.0, "position": "centre"} | fixed))


def changed(before, after):
    """(size, size) bool: which pixels of two single pictures differ."""
    return (before != after).any(dim=1)[0].numpy()


# labels and the market


@pytest.mark.parametrize("seed", range(5))
def test_340_of_1100_are_high(seed):
    impressions, clicks = ads.run_campaign(ads.sample_factors(1100, seed), seed)
    high, cut_off = ads.label_high(clicks / impressions)
    assert high.sum() == 340
    assert (clicks / impressions)[high].min() == cut_off >= (clicks / impressions)[~high].max()


def test_ties_at_the_cut_off_do_not_change_the_number():
    high, cut_off = ads.label_high(np.full(1100, 0.02))
    assert high.sum() == 340 and cut_off == 0.02


def test_ctr_is_clicks_over_impressions(data):
    np.testing.assert_array_equal(data.ctr, data.clicks / data.impressions)
    assert (data.clicks <= data.impressions).all() and data.impressions.min() >= 300
    np.testing.assert_array_equal(data.score, ads.click_probability(data.factors))
    assert data.high_ctr.sum() == round(55 * 340 / 1100) == 17
    assert 5700 < np.median(ads.run_campaign(ads.sample_factors(5000), seed=0)[0]) < 6300


def test_fresh_ads_are_held_to_the_same_cut_off(data):
    fresh = ads.make(20, size=32, seed=1, cut_off=data.cut_off)
    np.testing.assert_array_equal(fresh.high_ctr, fresh.ctr >= data.cut_off)
    assert fresh.cut_off == data.cut_off
    assert not (fresh.factors.seed[:, None] == data.factors.seed).any()  # none is an old one


def test_calibration(many):
    factors, ctr, cut_off = many
    high, best = ctr >= cut_off, ads.bayes_score(factors, cut_off)
    assert average_precision_score(high, best) == pytest.approx(0.91, abs=0.01)
    assert roc_auc_score(high, best) == pytest.approx(0.953, abs=0.006)
    f1 = 2 * (high & (best >= 0.5)).sum() / (high.sum() + (best >= 0.5).sum())
    assert f1 == pytest.approx(0.81, abs=0.015)
    assert np.median(ctr) == pytest.approx(0.0133, abs=0.0008)
    assert cut_off == pytest.approx(0.021, abs=0.001)


def test_bayes_score_is_a_probability_that_comes_true(many):
    factors, ctr, cut_off = many
    best = ads.bayes_score(factors, cut_off)
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        group = (best >= low) & (best < low + 0.2)
        assert (ctr[group] >= cut_off).mean() == pytest.approx(best[group].mean(), abs=0.02)


def test_click_probability_is_the_mean_ctr_without_hidden_influence():
    factors = ads.sample_factors(4000, seed=2)
    impressions, clicks = ads.run_campaign(factors, seed=2, tau=0.0)
    expected = (impressions * ads.click_probability(factors)).sum()
    assert abs(clicks.sum() - expected) < 4 * np.sqrt(expected)


def test_marginals_follow_the_brand_book(many):
    factors = many[0]
    for name in ("product", "theme", "palette"):
        counts = np.bincount(getattr(factors, name)) / len(factors)
        np.testing.assert_allclose(counts, 1 / len(counts), atol=0.01)
    shares = {"badge": 0.42, "badge_red": 0.6, "call_to_action": 0.55, "face": 0.3, "warm": 0.5}
    for name, share in shares.items():
        assert getattr(factors, name).mean() == pytest.approx(share, abs=0.01)
    np.testing.assert_allclose(np.bincount(factors.headline) / len(factors), [0.25, 0.45, 0.30], atol=0.01)
    np.testing.assert_allclose(np.bincount(factors.position) / len(factors), [0.5, 0.25, 0.25], atol=0.01)
    assert set(factors.words("brand")) == {"Orrin"}
    assert set(ads.sample_factors(200, market="open").words("brand")) == set(ads.BRANDS)


def rises(**steps):
    """Does the score change by a positive amount from the first to the second value, for every ad?"""
    base = ads.sample_factors(500, seed=3, face=False, badge=False, clutter=0).replace(scale=0.5)
    name, (before, after) = next(iter(steps.items()))
    return np.diff([ads.visual_score(base.replace(**{name: value})) for value in (before, after)], axis=0)[0]


@pytest.mark.parametrize(
    "step",
    [
        {"face": (False, True)},
        {"badge": (False, True)},
        {"call_to_action": (False, True)},
        {"scale": (0.4, 0.6)},
        {"clutter": (5, 0)},
        {"headline": ("none", "short")},
        {"position": ("centre", "left")},
    ],
    ids=lambda step: next(iter(step)),
)
def test_score_rises(step):
    assert (rises(**step) > 0).all()


def test_a_red_badge_is_worth_more_and_contrast_helps():
    with_badge = ads.sample_factors(500, seed=3, badge=True)
    red, yellow = (ads.visual_score(with_badge.replace(badge_red=value)) for value in (True, False))
    np.testing.assert_allclose(red - yellow, 0.8 * 0.58 * 0.8)
    dark = plain(palette="night", background_shift=0.0)
    pale, deep = (dark.replace(pack_shift=[[0, 0, value]]) for value in (0.2, -0.2))
    assert pale.contrast > deep.contrast and ads.visual_score(pale) > ads.visual_score(deep)


def test_brand_and_theme_alone_do_not_move_the_score():
    factors = ads.sample_factors(300, seed=5)
    score = ads.visual_score(factors)
    np.testing.assert_array_equal(ads.visual_score(factors.replace(theme="launch")), score)
    colours = {"background_shift": 0.0, "pack_shift": 0.0}
    moved = factors.replace(brand="Brask", **colours)
    assert (moved.words("product") == factors.words("product")).all()
    assert not np.allclose(moved.pack_colour, factors.pack_colour)


# drawing


def test_same_seed_same_bytes_and_rows_are_drawn_alone():
    factors = ads.sample_factors(12, seed=9, market="open")
    images = ads.render(factors, 48)
    assert images.dtype == torch.float32 and images.shape == (12, 3, 48, 48)
    assert 0 <= images.min() and images.max() <= 1
    assert torch.equal(images, ads.render(ads.sample_factors(12, seed=9, market="open"), 48))
    assert torch.equal(ads.render(factors[3:5], 48), images[3:5])
    mask = factors.theme == factors.theme[0]
    assert torch.equal(ads.render(factors[mask], 48), images[mask])
    assert torch.equal(ads.render(factors[-1], 48), images[-1:])


def test_a_longer_sample_begins_with_the_shorter():
    short, long = ads.sample_factors(20, seed=6), ads.sample_factors(300, seed=6)
    for name in ads.NAMES:
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name)[:20])


def test_another_size_is_the_same_ad():
    factors = ads.sample_factors(8, seed=1, market="open")
    small = ads.render(factors, 64)
    large = torch.nn.functional.avg_pool2d(ads.render(factors, 256), 4)
    own = (large - small).abs().mean(dim=(1, 2, 3))
    other = (large - small.roll(1, 0)).abs().mean(dim=(1, 2, 3))
    assert own.max() < 0.02 and other.min() > 3 * own.max()


@pytest.mark.parametrize("position", ads.POSITIONS)
def test_a_badge_changes_its_box_only(position):
    without = plain(position=position, clutter=4, face=True, headline="long", call_to_action=True)
    size = 96
    difference = changed(ads.render(without, size), ads.render(without.replace(badge=True), size))
    left, top, right, bottom = ads.badge_box(without)[0] * size
    rows, columns = np.nonzero(difference)
    assert (
        rows.min() >= top - 1
        and rows.max() <= bottom
        and columns.min() >= left - 1
        and columns.max() <= right
    )
    assert difference.sum() > 0.6 * (right - left) * (bottom - top)


def test_other_factors_change_their_own_place():
    base, size = plain(scale=0.5), 96
    picture = ads.render(base, size)
    button = changed(picture, ads.render(base.replace(call_to_action=True), size))
    assert button[: int(0.9 * size)].sum() == 0 and button.sum() > 0.03 * size**2
    headline = changed(picture, ads.render(base.replace(headline="short"), size))
    assert headline[int(0.16 * size) :].sum() == 0 and headline.sum() > 50
    face = changed(picture, ads.render(base.replace(face=True), size))
    assert face[: int(0.35 * size)].sum() == 0 and face[:, int(0.40 * size) :].sum() == 0 and face.sum() > 500


def test_the_picture_shows_its_brightness_and_warmth():
    factors = plain(60)
    images = ads.render(factors, 32)
    red, green, blue = images[:, :, 4:22, :4].mean(dim=(2, 3)).numpy().T
    seen = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    assert np.corrcoef(seen, factors.brightness)[0, 1] > 0.9
    assert ((red > blue) == factors.warm).mean() > 0.95


def test_theme_changes_the_setting_and_keeps_the_pack():
    base = plain(scale=0.6, product="can", background="scene")
    pictures = [ads.render(base.replace(theme=theme), 96) for theme in ads.THEMES]
    for one, two in itertools.pairwise(pictures):
        different = changed(one, two)
        assert different[40:78, 42:54].sum() == 0  # the middle of the pack
        assert different[:, :20].mean() > 0.9


def test_brand_changes_the_label_and_keeps_the_outline():
    base = plain(scale=0.6, product="bottle", background="flat", theme="launch", background_shift=0.0)
    orrin, brask = (ads.render(base.replace(brand=brand), 96) for brand in ("Orrin", "Brask"))
    assert changed(orrin, brask)[60:80, 42:54].mean() > 0.5
    row = {"product": "bottle", "material": "gloss", "pack_rgb": np.array([0.2, 0.5, 0.3])}
    outlines = [draw_pack(row | {"brand": brand}, 90, side=1)[..., 3] for brand in ads.BRANDS]
    assert all((outline == outlines[0]).all() for outline in outlines)
    widths = (outlines[0] > 0.5).sum(axis=1)
    assert widths[20] < 0.5 * widths[60]  # a neck and a body


def test_flavour_shows_in_the_pack():
    for flavour, channel in (("cherry", 0), ("lime", 1), ("blueberry", 2)):
        picture = ads.render_one_product(flavour, 0.5, 1.0, 64)[0]
        assert picture[:, 40:50, 28:36].mean(dim=(1, 2)).argmax() == channel


# the small world


def test_small_world_factors_do_what_they_say():
    images, world = ads.one_product(40, seed=0, size=32)
    assert images.shape == (40, 3, 32, 32) and len(world) == 40
    assert torch.equal(images, ads.render_one_product(world.flavour, world.position, world.light, 32))
    place = np.linspace(0, 1, 5)
    night = ads.render_one_product("cherry", place, 0.9, 64)
    empty = night.median(dim=0).values
    centres = [
        ((picture - empty).abs().sum(0).sum(0) * torch.arange(64)).sum() / (picture - empty).abs().sum()
        for picture in night
    ]
    assert centres[0] < 32 < centres[-1]
    brightness = ads.render_one_product("lime", 0.5, place, 32).mean(dim=(1, 2, 3))
    assert (brightness.diff() > 0).all()


# bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ads.sample_factors(0), "at least 1"),
        (lambda: ads.sample_factors(2.5), "whole number"),
        (lambda: ads.sample_factors(3, market="closed"), "client, open"),
        (lambda: ads.sample_factors(3, product="barrel"), "'barrel'.*bottle, can, carton, jar, tube, pouch"),
        (lambda: ads.sample_factors(3, theme=9), "unknown theme 9"),
        (lambda: ads.sample_factors(3, colour="red"), "unknown factor 'colour'"),
        (lambda: ads.sample_factors(3, scale=2.0), "scale must lie between"),
        (lambda: ads.sample_factors(3, scale=[0.5, 0.6]), "each of 3 ads"),
        (lambda: ads.sample_factors(3).words("scale"), "not a factor with words"),
        (lambda: ads.render(ads.sample_factors(1), 16), "32 to 1024"),
        (lambda: ads.one_product(-1), "at least 1"),
        (lambda: ads.render_one_product("mango", 0.5, 0.5), "cherry, orange, lime, blueberry"),
        (lambda: ads.render_one_product("lime", 1.5, 0.5), "position"),
    ],
)
def test_bad_arguments_get_one_clear_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
