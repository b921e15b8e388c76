"""Key visuals on their way to a campaign: determinism, what each factor changes, the true way, bad input."""

import numpy as np
import pytest
import torch

from vaelab.data import journeys


def house(product="jar", theme="summer"):
    return journeys.way(product, theme, steps=2)[0]


def test_the_same_seed_gives_the_same_pictures_and_a_longer_sample_begins_with_the_shorter():
    few, many = journeys.sample(4, seed=3), journeys.sample(9, seed=3)
    assert np.array_equal(few.style, many.style[:4]) and np.array_equal(few.product, many.product[:4])
    assert torch.equal(journeys.render(few, 32), journeys.render(many[:4], 32))
    assert not np.array_equal(journeys.sample(4, seed=4).style, few.style)


def test_pictures_are_float_in_the_unit_range_at_any_size_and_the_same_picture():
    one = journeys.sample(3, seed=1)
    small, large = journeys.render(one, 64), journeys.render(one, 128)
    assert small.shape == (3, 3, 64, 64) and small.dtype == torch.float32
    assert 0 <= small.min() and small.max() <= 1
    shrunk = torch.nn.functional.avg_pool2d(large, 2)
    assert (shrunk - small).abs().mean() < 0.02


def test_places_on_the_way_are_spread_evenly_and_factors_stray_from_them():
    style = journeys.sample(4000, seed=0).style
    assert style.min() == 0 and style.max() == 1
    assert abs(style.mean() - 0.5) < 0.02
    correlation = np.corrcoef(style.T)[np.triu_indices(5, 1)]
    assert (correlation > 0.6).all() and (correlation < 0.95).all()  # together, but not in lockstep
    ends = journeys.sample(400, seed=0, ends_only=True).style
    assert set(np.unique(ends)) == {0.0, 1.0} and (ends.std(1) == 0).all()


@pytest.mark.parametrize("theme", journeys.THEMES)
@pytest.mark.parametrize("factor", journeys.STYLE)
def test_each_factor_changes_the_picture_by_degrees(factor, theme):
    style = np.full((3, 5), 0.5)
    style[:, journeys.STYLE.index(factor)] = 0.3, 0.5, 0.7
    low, middle, high = journeys.render(house(theme=theme)[[0, 0, 0]].replace(style=style), 64)
    near, far = (middle - low).abs().mean(), (high - low).abs().mean()
    assert 0.001 < near < far < 0.15


def test_the_house_look_is_the_same_for_both_themes_and_the_campaigns_differ():
    summer, winter = (journeys.render(journeys.way("can", theme, 2), 64) for theme in journeys.THEMES)
    assert (summer[0] - winter[0]).abs().max() < 1e-6
    assert (summer[1] - winter[1]).abs().mean() > 0.15


def test_the_true_way_moves_all_factors_evenly_and_keeps_the_product():
    walk = journeys.way("tube", "winter", steps=5)
    assert np.allclose(walk.style, np.linspace(0, 1, 5)[:, None].repeat(5, 1))
    assert len(set(walk.product)) == 1
    steps = journeys.render(walk, 64).diff(dim=0).flatten(1).norm(dim=1)
    assert steps.max() < 2.5 * steps.min()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="unknown theme 'spring'"):
        house().replace(theme="spring")
    with pytest.raises(ValueError, match="between 0"):
        house().replace(style=1.5)
    with pytest.raises(ValueError, match="unknown product"):
        journeys.way("shoe", "summer")
    with pytest.raises(ValueError, match="32 to 1024"):
        journeys.render(house(), 8)
