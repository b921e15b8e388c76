import math

import numpy as np
import pytest

from vaelab.intervals import holm, p_value, paired, table, together, verdict
from vaelab.metrics import Interval


def test_paired_is_student_s_interval():
    from scipy.stats import ttest_1samp

    for n, seed in ((2, 0), (5, 1), (20, 2)):
        gains = np.random.default_rng(seed).normal(0.02, 0.05, n)
        for confidence in (0.95, 0.8):
            found, want = paired(gains, confidence), ttest_1samp(gains, 0)
            low, high = want.confidence_interval(confidence)
            assert found == pytest.approx((gains.mean(), low, high), abs=1e-9)
        assert p_value(gains) == pytest.approx(want.pvalue, abs=1e-9)
    assert p_value([0.0, 0.0]) == 1 and p_value([0.1, 0.1]) == 0


def test_paired_covers_zero_as_often_as_it_says():
    """2,000 sets of eight runs without a difference."""
    sets = np.random.default_rng(0).normal(0, 0.02, (2000, 8))
    covered = [found.low <= 0 <= found.high for found in map(paired, sets)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)
    low = np.mean([p_value(gains) < 0.05 for gains in sets])
    assert low == pytest.approx(1 - np.mean(covered), abs=1e-9)


def test_one_run_has_no_interval():
    for gains in ([0.1], [], [0.1, math.nan]):
        with pytest.raises(ValueError, match="needs the finite differences of at least 2 runs"):
            paired(gains)


def test_holm_by_hand():
    # Sorted .005 .01 .03 .04: times 4, 3, 2, 1 are .02 .03 .06 .04, and none may fall below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]).tolist() == [1, 1] and holm([]).tolist() == []


def test_holm_and_the_intervals_of_a_family_hold_together():
    """In 1,000 families of ten comparisons without a difference, about 5 % have any at all."""
    families = np.random.default_rng(1).normal(0, 1, (1000, 10, 6))
    any_holm = np.mean([holm([p_value(g) for g in family]).min() < 0.05 for family in families])
    any_interval = np.mean([any(not i.low <= 0 <= i.high for i in together(family)) for family in families])
    any_single = np.mean([min(p_value(g) for g in family) < 0.05 for family in families])
    assert 0.03 < any_holm < 0.07 and any_interval == any_holm and any_single > 0.3


def test_verdicts():
    assert verdict(Interval(0.05, 0.02, 0.08)) == "a win of at least +0.020"
    assert verdict(Interval(-0.05, -0.08, -0.02)) == "a loss of at least 0.020"
    assert verdict(Interval(0.01, -0.02, 0.04)) == "no win shown; gains above +0.040 are excluded"
    assert verdict(Interval(0.04, 0.0, 0.08)).startswith("no win")


def record(arm, seed, value, leaks=False):
    return {"arm": arm, "leaks": leaks, "seed": seed, "scores": {"f1": value}}


def test_a_table_pairs_by_seed_and_takes_each_judge_s_own_reference():
    base = {1: 0.5, 2: 0.6, 3: 0.7}
    found = [record("nothing", s, v) for s, v in base.items()]
    found += [record("more", s, base.get(s, 0.9) + 0.01 * s) for s in (4, 3, 2)]  # seed 4 has no partner
    found += [record("hog: nothing", s, 0.1 * s) for s in (1, 2)] + [record("hog: smote", s, 0.2 * s) for s in (1, 2)]
    found += [record("leaks: more", 1, 0.9, leaks=True)]
    rows = {row["arm"]: row for row in table(found, measure="f1", simultaneous=False)}
    assert rows["nothing"]["mean"] == pytest.approx(0.6) and rows["nothing"]["sd"] == pytest.approx(0.1)
    assert "difference" not in rows["nothing"] and "difference" not in rows["hog: nothing"]
    assert rows["more"]["n"] == 3 and rows["more"]["pairs"] == 2
    assert rows["more"]["difference"] == pytest.approx(paired([0.03, 0.02]))
    assert rows["hog: smote"]["difference"] == pytest.approx(paired([0.1, 0.2]))
    assert rows["leaks: more"]["leaks"] and rows["leaks: more"]["sd"] is None and "pairs" not in rows["leaks: more"]
    p = holm([p_value([0.03, 0.02]), p_value([0.1, 0.2])])
    assert [rows["more"]["p"], rows["hog: smote"]["p"]] == pytest.approx(p.tolist())
    wide = {row["arm"]: row for row in table(found, measure="f1")}
    assert wide["more"]["difference"] == pytest.approx(paired([0.03, 0.02], 0.975))
