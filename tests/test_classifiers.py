import numpy as np
import pytest
import torch
from sklearn import metrics

from vaelab import classifiers
from vaelab.classifiers import best_threshold, calibration_error, cnn, f1, linear, scored


def blobs(n=60, seed=0, size=32):
    """Pictures whose label is their brightness."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3 == 0
    return 0.3 * torch.rand(n, 3, size, size, generator=random) + 0.5 * labels.view(-1, 1, 1, 1), labels.long()


def rows(n=90, d=6, seed=0):
    random = np.random.default_rng(seed)
    labels = (np.arange(n) % 3 == 0).astype(int)
    return random.normal(size=(n, d)) + labels[:, None], labels


def test_a_cnn_learns_and_the_same_seed_is_the_same_network():
    x, y = blobs()
    new, truth = blobs(seed=1)
    state = torch.random.get_rng_state()
    first = cnn(x, y, [x, new], steps=60, seed=3)
    assert torch.equal(state, torch.random.get_rng_state())
    assert metrics.roc_auc_score(truth, first[1]) > 0.95 and [len(p) for p in first] == [60, 60]
    torch.manual_seed(99)
    again, other = cnn(x, y, [new], steps=60, seed=3)[0], cnn(x, y, [new], steps=60, seed=4)[0]
    assert (again == first[1]).all() and np.abs(other - again).max() > 1e-4


@pytest.mark.parametrize("settings", [{"augment": "flip+shift"}, {"norm": "group"}, {"positive_weight": 5.0}])
def test_every_setting_changes_the_network(settings):
    x, y = blobs()
    plain, changed = cnn(x, y, [x], steps=8)[0], cnn(x, y, [x], steps=8, **settings)[0]
    assert np.abs(plain - changed).max() > 1e-4
    if "positive_weight" in settings:
        assert changed.mean() > plain.mean() + 0.02


def test_flip_and_shift_moves_and_mirrors_and_does_nothing_else():
    x = torch.arange(32.0).expand(40, 1, 32, 32) / 32
    moved = classifiers.flip_and_shift(x, torch.Generator().manual_seed(0))
    steps = moved[:, 0, 0, 4:-4].diff(dim=1)
    rising, falling = (steps > 0).all(1), (steps < 0).all(1)
    assert (rising | falling).all() and 8 < int(rising.sum()) < 32
    for picture in moved[rising]:
        assert torch.equal(picture, moved[rising][0])  # one shift a batch
    middles = set()
    for seed in range(60):
        row = classifiers.flip_and_shift(x, torch.Generator().manual_seed(seed))[:, 0, 0]
        middles |= {round(32 * float(v)) for v in row[row[:, 17] > row[:, 16], 16]}
    assert middles == {14, 15, 16, 17, 18}  # up to a sixteenth of the width, both ways


def test_smote_in_the_pipeline_is_imbalanced_learn_s_own_sample_for_sample():
    from imblearn.over_sampling import SMOTE
    from sklearn.preprocessing import StandardScaler

    x, y = rows()
    made = classifiers.pipeline("logistic", "smote", n=25, positives=30, seed=7).fit(x, y)
    scaled = StandardScaler().fit_transform(x)
    want = SMOTE(sampling_strategy={1: 55}, random_state=7).fit_resample(scaled, y)
    found = made.named_steps["resample"].fit_resample(scaled, y)
    assert (found[0] == want[0]).all() and (found[1] == want[1]).all() and want[1].sum() == 55
    judge = type(made.named_steps["judge"])(C=0.01, max_iter=1000).fit(*want)
    assert made.predict_proba(x) == pytest.approx(judge.predict_proba(scaled), abs=1e-12)
    assert linear(x, y, [x], resample="smote", n=25, seed=7)[0] == pytest.approx(made.predict_proba(x)[:, 1], abs=1e-9)


def test_scaling_sees_the_rows_before_resampling_and_judging_adds_none():
    x, y = rows()
    for kind in ("duplicates", "smote", "noise"):
        made = classifiers.pipeline("logistic", kind, n=40, positives=30, seed=1).fit(x, y)
        assert made.named_steps["scale"].mean_ == pytest.approx(x.mean(0), abs=1e-12)
        assert made.decision_function(x).shape == (90,)


@pytest.mark.parametrize("kind", ["duplicates", "smote", "noise"])
def test_resampling_adds_as_many_positives_as_it_says(kind):
    x, y = rows()
    step = classifiers.pipeline("svm", kind, n=40, positives=30, seed=1).named_steps["resample"]
    more, labels = step.fit_resample(x, y)
    assert len(more) == 130 and labels.sum() == 70 and (more[:90] == x).all() and (labels[:90] == y).all()
    gap = np.linalg.norm(more[90:, None] - x[y == 1], axis=2).min(1)
    assert (gap == 0).all() if kind == "duplicates" else (gap > 0).mean() > 0.9


def test_balancing_and_resampling_move_the_judge_towards_calling_more():
    x, y = rows(d=2)
    called = {name: (linear(x, y, [x], **s)[0] > 0.5).mean() for name, s in
              {"plain": {}, "balanced": {"balanced": True}, "more": {"resample": "duplicates", "n": 30}}.items()}  # fmt: skip
    assert called["plain"] + 0.05 < min(called["balanced"], called["more"])


def test_an_svm_s_half_is_its_boundary():
    x, y = rows()
    judge = classifiers.pipeline("svm").fit(x, y)
    assert ((linear(x, y, [x], kind="svm")[0] > 0.5) == judge.predict(x)).all() and 0 < judge.predict(x).mean() < 1


def test_hog_and_colours_describe_at_any_size():
    x, _ = blobs(4)
    small, large = classifiers.hog_colours(x), classifiers.hog_colours(torch.nn.functional.interpolate(x, (64, 64)))
    assert small.shape == large.shape == (4, 360)
    assert small[:, 288:312].sum(1) == pytest.approx(3, abs=1e-5)  # each colour's histogram is a share
    assert small[:, 312:] == pytest.approx(large[:, 312:], abs=1e-5)
    assert small[:, 312:].reshape(4, 3, 4, 4).mean((2, 3)) == pytest.approx(x.mean((2, 3)).numpy(), abs=1e-5)


def noisy(n=200, seed=0, grid=20):
    random = np.random.default_rng(seed)
    labels = random.random(n) < 0.3
    return labels.astype(int), np.round(np.clip(0.3 * labels + random.normal(0.35, 0.2, n), 0, 1) * grid) / grid  # many ties


def test_scores_are_scikit_learn_s():
    train, validation, test = noisy(150, 0), noisy(120, 1), noisy(200, 2)
    found = scored(train, validation, test)
    (seen, q), (y, p) = validation, test
    want = {
        "f1": metrics.f1_score(y, p >= 0.5), "f1_tuned": metrics.f1_score(y, p >= found["threshold"]),
        "pr_auc": metrics.average_precision_score(y, p), "roc_auc": metrics.roc_auc_score(y, p),
        "brier": metrics.brier_score_loss(y, p), "called": (p >= 0.5).mean(),
        "validation_f1": metrics.f1_score(seen, q >= 0.5), "train_pr_auc": metrics.average_precision_score(*train),
        "validation_pr_auc": metrics.average_precision_score(seen, q),
        "validation_f1_tuned": max(metrics.f1_score(seen, q >= t) for t in np.unique(q)),
    }  # fmt: skip
    assert {name: found[name] for name in want} == pytest.approx(want, abs=1e-9)
    assert found.keys() - want.keys() == {"threshold", "calibration_error"}
    tuned = scored(train, validation, test, tuned=True)
    assert tuned["f1"] == found["f1_tuned"] != found["f1"] and tuned["called"] == (p >= found["threshold"]).mean()


def test_the_threshold_is_that_of_brute_force_on_the_validation_part():
    for seed in range(30):
        y, p = noisy(60, seed)
        scores = {t: metrics.f1_score(y, p >= t) for t in np.unique(p)}
        best = max(scores.values())
        assert best_threshold(y, p) == min(t for t, score in scores.items() if score > best - 1e-12)
        assert scored(noisy(50, 99), (y, p), noisy(70, seed + 100))["threshold"] == best_threshold(y, p)


def test_calibration_error_and_f1_by_hand():
    # Bins .2–.3 and .9–1: |½ − .25| · 4/6 + |½ − .95| · 2/6
    y, p = [0, 1, 0, 1, 1, 0], [0.22, 0.28, 0.25, 0.25, 0.9, 1.0]
    assert calibration_error(y, p) == pytest.approx(0.25 * 4 / 6 + 0.45 * 2 / 6)
    assert f1([1, 1, 0, 0], [True, False, True, False]) == 0.5 and f1([0, 0], [False, False]) == 0
    share = np.mean(y)
    assert classifiers.all_positive_f1(share) == pytest.approx(f1(y, np.ones(6, dtype=bool)))
    assert classifiers.all_positive_f1(340 / 1100) == pytest.approx(0.472, abs=5e-4)


def test_what_makes_no_sense_is_refused():
    x, y = blobs(9)
    for labels in (y[:5], torch.ones(9), torch.tensor([0, 1, 2] * 3)):
        with pytest.raises(ValueError, match="9 pictures need as many labels, 0 or 1 and some of both"):
            cnn(x, labels, [x], steps=1)
    with pytest.raises(ValueError, match="augment is one of .* got 'mixup'"):
        cnn(x, y, [x], steps=1, augment="mixup")
    with pytest.raises(ValueError, match="no linear judge 'forest'"):
        linear(*rows(), [], kind="forest")
    with pytest.raises(ValueError, match="no resampling 'adasyn'"):
        linear(*rows(), [], resample="adasyn")
