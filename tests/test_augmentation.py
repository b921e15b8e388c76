import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vaelab import augmentation, classifiers, intervals, latent, novelty
from vaelab.augmentation import ARMS, Arm, Context, Experiment, Labelled, Made, split

TINY = {"n": 120, "fresh": 80, "steps": 12, "vae_steps": 12}


@pytest.fixture(scope="module")
def tiny():
    return Experiment.from_ads(3, unlabelled=30, **TINY)


def part(n, seed, groups=None):
    pictures = torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    return Labelled(pictures, torch.arange(n) % 3 == 0, groups)


# -- splitting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_a_split_keeps_groups_whole_and_classes_in_proportion(seed):
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(300), random.integers(1, 6, 300))
    labels = (random.random(len(groups)) < 0.3).astype(int)
    parts = split(labels, groups, seed=seed)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(labels)))
    seen = [set(groups[index]) for index in parts]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    for share, index in zip((0.6, 0.2, 0.2), parts, strict=True):
        assert len(index) / len(labels) == pytest.approx(share, abs=0.01)
        assert labels[index].mean() == pytest.approx(labels.mean(), abs=0.02)


def test_the_case_s_split_is_exact_and_another_seed_is_another_split():
    labels = torch.arange(1100) < 340
    parts = split(labels, None, (0.7, 0.3, 0), seed=1)
    assert [len(p) for p in parts] == [770, 330, 0] and [int(labels[p].sum()) for p in parts] == [238, 102, 0]
    assert torch.equal(parts.train, split(labels, None, (0.7, 0.3, 0), seed=1).train)
    both = np.intersect1d(parts.train, split(labels, None, (0.7, 0.3, 0), seed=2).train)
    assert len(both) == pytest.approx(770 * 0.7, abs=40)


def test_a_split_that_would_lack_a_class_is_refused():
    with pytest.raises(ValueError, match="The (validation|test) part lacks one class"):
        split(torch.arange(30) < 15, torch.arange(30) // 15)
    with pytest.raises(ValueError, match="shares that make 1"):
        split(torch.arange(30) % 2, None, (0.5, 0.2, 0.2))


# -- leaks ---------------------------------------------------------------------------------------------------------


def test_parts_that_share_a_group_or_a_picture_are_refused():
    a, b, c = (part(9, s, torch.arange(9) + 100 * s) for s in range(3))
    Experiment(a, b, c)
    for shared, names in (((a, replace(b, groups=b.groups - 100), c), "train and validation"),
                          ((a, b, replace(c, groups=c.groups - 100)), "validation and test")):  # fmt: skip
        with pytest.raises(ValueError, match=f"The {names} parts share group"):
            Experiment(*shared)
    for place, names in ((1, "train and validation"), (2, "train and test")):
        parts = [a, b, c]
        pictures = parts[place].pictures.clone()
        pictures[4] = a.pictures[7]
        parts[place] = replace(parts[place], pictures=pictures)
        with pytest.raises(ValueError, match=f"The {names} parts share an identical picture"):
            Experiment(*parts)


def planted(tiny, source, pictures=None):
    pictures = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) if pictures is None else pictures
    return Arm("planted", lambda train, context: Made(pictures, torch.ones(4).long(), source, torch.zeros(4), 0))


def test_made_pictures_must_come_from_the_training_part(tiny):
    n, right = len(tiny.train), torch.tensor([[0], [1], [2], [3]])
    assert tiny.run(planted(tiny, right)).n_made == 4
    for wrong in (n, -1):
        with pytest.raises(ValueError, match=f"a source outside the {n} training pictures"):
            tiny.run(planted(tiny, torch.tensor([[0], [1], [2], [wrong]])))
    for held_out in (tiny.validation, tiny.test):
        with pytest.raises(ValueError, match="is one of the validation or test part"):
            tiny.run(planted(tiny, right, held_out.pictures[:4]))
    with pytest.raises(ValueError, match="a row of sources and a noise each"):
        tiny.run(planted(tiny, right[:3]))


def test_unlabelled_pictures_that_are_held_out_are_refused(tiny):
    for held_out in (tiny.validation, tiny.test):
        more = torch.cat([part(20, 7).pictures, held_out.pictures[:1]])
        leaky = Experiment(tiny.train, tiny.validation, tiny.test, unlabelled=lambda more=more: more, vae_steps=2)
        with pytest.raises(ValueError, match="(validation|test) and unlabelled parts share an identical picture"):
            leaky.run("big vae: noise 1")


def test_an_arm_whose_classifier_would_leave_a_setting_aside_is_refused(tiny):
    for arm, idle in ((Arm("x", augmentation.duplicates, classifier="hog-svm"), "make"), (Arm("x", resample="smote"), "resample"),
                      (Arm("x", None, augmentation.vae_domain, "latent-svm", "flip+shift"), "domain and augment")):  # fmt: skip
        with pytest.raises(ValueError, match=f"'{arm.classifier}' does not use {idle}"):
            tiny.run(arm)
    for arm in augmentation.ARMS.values():
        augmentation.check_fits(arm)


def test_nothing_that_is_fitted_sees_a_held_out_picture(tiny, monkeypatch):
    fitted, learned = [], []
    fit, cnn = augmentation.fit, classifiers.cnn
    monkeypatch.setattr(augmentation, "fit", lambda model, x, **s: fitted.append(x) or fit(model, x, **s))
    monkeypatch.setattr(classifiers, "cnn", lambda x, y, judged, **s: learned.append((x, y)) or cnn(x, y, judged, **s))
    fresh = Experiment(tiny.train, tiny.validation, tiny.test, 3, steps=2, vae_steps=2)
    for name in ("noise 0.5", "conditional prior", "positives-only prior", "class weights"):
        fresh.run(name)
    known, high = tiny.train.pictures, tiny.train.labels == 1
    assert [len(x) for x in fitted] == [len(known), len(known), int(high.sum())]
    assert torch.equal(fitted[0], known) and torch.equal(fitted[2], known[high])
    assert torch.equal(fitted[1][:, :3], known)
    assert torch.equal(fitted[1][:, 3].amin((1, 2)), tiny.train.labels.float())  # the label that belongs to it
    for (x, y), more in zip(learned, (fresh.context.n,) * 3 + (0,), strict=True):
        assert len(x) == len(known) + more and torch.equal(x[: len(known)], known)
        assert torch.equal(y[: len(known)], tiny.train.labels) and bool((y[len(known) :] == 1).all())


def test_leaks_say_so_and_are_leaks(tiny):
    told, after, honest = tiny.as_told(0.5), tiny.split_after(0.5), tiny.run("noise 0.5")
    assert told.leaks and after.leaks and not honest.leaks
    assert all(r.arm.startswith("leaks: ") for r in (told, after)) and told.as_record()["leaks"] is True
    high, whole = len(tiny.train.of(1)), len(tiny.train) + len(tiny.validation)
    assert int((told.made.source >= len(tiny.train)).sum()) > 0.2 * len(told.made)  # sources out of the validation part
    assert len(told.made) == len(after.made) == round(600 * whole / 1100) > len(honest.made)  # word for word
    assert torch.equal(told.made.pictures, after.made.pictures)  # one VAE of all of them
    assert int(honest.made.source.max()) < len(tiny.train) and high < len(tiny.train)
    assert len(after.predictions["validation"]) == pytest.approx(0.3 * (120 + len(after.made)), abs=2)
    assert len(after.predictions["test"]) == len(tiny.test)


# -- arms ----------------------------------------------------------------------------------------------------------


def test_every_made_picture_has_a_provenance(tiny):
    n = round(600 * len(tiny.train) / 1100)
    columns = {"noise 0.5": (1, 0.5), "smote in latent": (2, 0), "conditional prior": (0, 1), "duplicates": (1, 0),
               "posterior samples": (1, None), "placebo": (1, 0.5)}  # fmt: skip
    thumbs = novelty.thumbprint(tiny.train.pictures)
    for name, (sources, noise) in columns.items():
        result = tiny.run(name)
        batch, found = result.made, result.made.provenance()
        assert len(found) == n == result.n_made and {r["seed"] for r in found} == {tiny.context.stream("made")}
        assert all(len(r["source"]) == sources for r in found) and 0 <= batch.pictures.min() <= batch.pictures.max() <= 1
        assert noise is None or {r["noise"] for r in found} == {noise}
        want = torch.cdist(novelty.thumbprint(batch.pictures).double(), thumbs.double()).amin(1)
        assert [r["nearest"] for r in found] == pytest.approx(want.tolist(), abs=1e-5)
        if sources and name != "placebo":
            assert bool((tiny.train.labels[batch.source] == 1).all())
    used = torch.bincount(tiny.run("noise 0.5").made.source[:, 0])[tiny.train.of(1)]
    assert used.max() - used.min() <= 1
    assert 0 < tiny.train.labels[tiny.run("placebo").made.source].double().mean() < 0.6


def test_duplicates_are_copies_and_noise_0_is_the_round_trip(tiny):
    copies, trips = tiny.run("duplicates").made, tiny.run("noise 0").made
    assert torch.equal(copies.pictures, tiny.train.pictures[copies.source[:, 0]]) and copies.nearest.max() == 0
    want = tiny.context.trip(tiny.train.pictures[trips.source[:, 0]])
    torch.testing.assert_close(trips.pictures, want, atol=1e-5, rtol=0)


def test_classes_of_made_pictures(tiny):
    share, n = float(tiny.train.labels.double().mean()), tiny.context.n
    mixed, more = tiny.run("both classes").made, tiny.run("with negatives").made
    assert int(mixed.labels.sum()) == round(n * share) and len(mixed) == n
    assert torch.equal(mixed.labels, tiny.train.labels[mixed.source[:, 0]])
    assert torch.equal(more.labels, tiny.train.labels[more.source[:, 0]])
    assert [int((more.labels == c).sum()) for c in (0, 1)] == [n, n] and set(more.noise[more.labels == 0].tolist()) == {0}


def test_latent_smote_is_imbalanced_learn_s_and_knows_its_ends(tiny):
    from imblearn.over_sampling import SMOTE

    context, high = tiny.context, tiny.train.of(1)
    codes = latent.codes(context.vae(), tiny.train.pictures)
    smote = SMOTE(sampling_strategy={1: len(high) + context.n}, random_state=context.stream("made"))
    new = torch.from_numpy(smote.fit_resample(codes.numpy(), tiny.train.labels.numpy())[0][len(tiny.train) :])
    batch = tiny.run("smote in latent").made
    torch.testing.assert_close(batch.pictures, latent.decoded(context.vae(), new).clamp(0, 1), atol=1e-5, rtol=0)
    a, b = (codes[batch.source[:, i]] for i in (0, 1))
    way = b - a
    along = ((new - a) * way).sum(1, keepdim=True) / way.square().sum(1, keepdim=True).clamp(min=1e-9)
    assert (a + along * way - new).norm(dim=1).max() < 1e-3 * way.norm(dim=1).mean()
    assert -1e-3 < along.min() and along.max() < 1.001 and bool((batch.source[:, 0] != batch.source[:, 1]).all())


def test_a_class_conditional_vae_hears_the_label(tiny):
    vae = tiny.context.vae("conditional")
    a, b = (vae.sample(5, label, torch.Generator().manual_seed(0)) for label in (0, 1))
    assert a.shape == (5, 3, 32, 32) and (a - b).abs().max() > 1e-4
    x = augmentation.with_label(tiny.train.pictures, tiny.train.labels)
    terms = vae(x, generator=torch.Generator().manual_seed(0))
    z = vae.encode(x).sample(torch.Generator().manual_seed(0))
    want = vae.decode(z, tiny.train.labels).log_prob(tiny.train.pictures)
    torch.testing.assert_close(terms.reconstruction, want)
    torch.testing.assert_close(terms.kl, vae.encode(x).kl())


def test_one_domain_takes_the_judged_parts_along(tiny, monkeypatch):
    seen = []
    cnn = classifiers.cnn
    monkeypatch.setattr(classifiers, "cnn", lambda x, y, judged, **s: seen.append((x, judged)) or cnn(x, y, judged, **s))
    for name in ("one domain", "one domain+duplicates", "one domain+noise 1"):
        tiny._done.pop(replace(ARMS[name], name=""), None)
        batch = tiny.run(name).made
        x, judged = seen.pop()
        for found, raw in zip(judged, (tiny.train, tiny.validation, tiny.test), strict=True):
            torch.testing.assert_close(found, tiny.context.trip(raw.pictures), atol=1e-5, rtol=0)
            assert (found - raw.pictures).abs().max() > 0.05
        torch.testing.assert_close(x[: len(tiny.train)], judged[0], atol=1e-5, rtol=0)
        if name.endswith("duplicates"):  # copies of pictures that have been through
            torch.testing.assert_close(x[len(tiny.train) :], judged[0][batch.source[:, 0]], atol=1e-5, rtol=0)
        if name.endswith("noise 1"):  # these come out of the decoder as they are
            assert torch.equal(x[len(tiny.train) :], batch.pictures)


def test_blur_and_pca_err_as_much_as_the_vae_does(tiny):
    context = Context(tiny.train, 3)
    context.trip = lambda x: x + 0.09  # a round trip as good as the case's
    blur, pca = (augmentation.error(context, d(context)) for d in (augmentation.blur_domain, augmentation.pca_domain))
    assert blur == pytest.approx(0.0081, rel=0.01)
    assert 0.9 * 0.0081 < pca <= 0.0081 * 1.0001  # one component fewer would err more


def test_class_weights_make_both_classes_count_alike(tiny, monkeypatch):
    settings = []
    cnn = classifiers.cnn
    monkeypatch.setattr(classifiers, "cnn", lambda *a, **s: settings.append(s) or cnn(*a, **s))
    fresh = Experiment(tiny.train, tiny.validation, tiny.test, 3, steps=2)
    for name in ("nothing", "class weights", "a/a"):
        fresh.run(name)
    plain, weighted, again = settings
    high = len(tiny.train.of(1))
    assert weighted["positive_weight"] * high == pytest.approx(len(tiny.train) - high)
    assert plain["positive_weight"] == 1 and weighted["seed"] == plain["seed"] != again["seed"]
    assert len({s["steps"] for s in settings}) == 1


def test_review_keeps_what_the_reader_accepts_and_chance_as_many(tiny, monkeypatch):
    monkeypatch.setattr(augmentation, "accepted", lambda x: x.mean((1, 2, 3)) > x.mean((1, 2, 3)).median())
    fresh = Experiment(tiny.train, tiny.validation, tiny.test, 3, steps=2, vae_steps=12)
    everything, kept, chance = (fresh.run(name).made for name in ("noise 1", "reviewed", "reviewed: by chance"))
    assert len(kept) == len(chance) == len(everything) // 2
    light = everything.pictures.mean((1, 2, 3))
    assert kept.pictures.mean((1, 2, 3)).min() > light.median() > chance.pictures.mean((1, 2, 3)).min()
    assert torch.equal(kept.source, everything.source[light > light.median()])


def test_the_reader_accepts_real_ads_and_no_noise(tiny):
    assert augmentation.accepted(tiny.train.pictures).double().mean() > 0.7
    assert augmentation.accepted(torch.rand(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))).double().mean() < 0.3


# -- results -------------------------------------------------------------------------------------------------------


def test_the_threshold_arm_is_nothing_at_the_validation_part_s_threshold(tiny):
    plain, tuned = tiny.run("nothing"), tiny.run("threshold")
    y, q = tiny.validation.labels.numpy(), plain.predictions["validation"]
    cut = max(np.unique(q), key=lambda t: (classifiers.f1(y, q >= t), -t))
    assert plain.scores["threshold"] == cut
    want = classifiers.f1(tiny.test.labels.numpy(), plain.predictions["test"] >= cut)
    assert tuned.scores["f1"] == plain.scores["f1_tuned"] == pytest.approx(want)
    same = set(plain.scores) - {"f1", "called", "validation_f1"}
    assert {name: tuned.scores[name] for name in same} == {name: plain.scores[name] for name in same}


def test_the_same_seed_gives_the_same_results(tiny):
    again = Experiment.from_ads(3, **TINY)
    for name in ("noise 0.5", "a/a", "hog-logistic: smote", "latent-svm: noise"):
        a, b = tiny.run(name).as_record(predictions=True), again.run(name).as_record(predictions=True)
        assert a | {"seconds": 0} == b | {"seconds": 0}
    assert tiny.run("nothing").scores != tiny.run("a/a").scores
    other = Experiment.from_ads(4, **TINY)
    assert other.run("nothing").scores != tiny.run("nothing").scores


def test_fewer_high_ads_leave_everything_else_as_it_was(tiny):
    rare = Experiment.from_ads(3, positives=10, **TINY)
    assert len(rare.train.of(1)) == 10 and len(rare.train.of(0)) == len(tiny.train.of(0))
    assert set(rare.train.groups.tolist()) < set(tiny.train.groups.tolist())
    for name in ("validation", "test"):
        assert torch.equal(getattr(rare, name).pictures, getattr(tiny, name).pictures)
    assert len(rare.factors["train"]) == len(rare.train) and rare.context.n == round(600 * len(rare.train) / 1100)
    with pytest.raises(ValueError, match="positives=500 cannot be kept"):
        Experiment.from_ads(3, positives=500, **TINY)


def test_bayes_beats_what_was_trained_and_knows_the_labels():
    experiment = Experiment.from_ads(5, n=300, fresh=300, steps=1)
    best = augmentation.bayes(experiment)
    assert best["roc_auc"] == pytest.approx(0.954, abs=0.03) and best["f1"] == pytest.approx(0.81, abs=0.07)
    assert best["roc_auc"] > experiment.run("nothing").scores["roc_auc"] + 0.1
    with pytest.raises(ValueError, match="make the Experiment with from_ads"):
        augmentation.bayes(Experiment(part(9, 0), part(9, 1), part(9, 2)))


def test_one_s_own_pictures_are_cut_in_three():
    data = part(60, 0, torch.arange(60) // 2)
    experiment = Experiment.from_pictures(data, seed=1, steps=2)
    sizes = [len(p) for p in (experiment.train, experiment.validation, experiment.test)]
    assert sizes == pytest.approx([36, 12, 12], abs=2) and sum(sizes) == 60
    assert experiment.run("nothing").n_train == sizes[0]
    with pytest.raises(ValueError, match="no unlabelled pictures"):
        experiment.run("big vae: noise 1")
    with pytest.raises(ValueError, match="no arm 'magic'"):
        experiment.run("magic")
    named = Labelled(data.pictures, data.labels, files=tuple("abc" * 20))
    assert named[torch.tensor([2, 0])].files == ("c", "a")
    with pytest.raises(ValueError, match="7 labels for 60 pictures"):
        Labelled(data.pictures, data.labels[:7])


def test_the_context_holds_nothing_that_is_held_out(tiny):
    held = {id(tiny.validation), id(tiny.test), id(tiny.validation.pictures), id(tiny.test.pictures)}
    context = Context(tiny.train, 3)
    assert not held & {id(value) for value in vars(context).values()} and context.train is tiny.train


# -- the benchmark -------------------------------------------------------------------------------------------------


def test_an_interrupted_benchmark_goes_on_to_the_same_table(tmp_path, monkeypatch):
    from benchmarks import ctr

    arms = ["nothing", "a/a", "noise 0.5", "hog-logistic: nothing", "leaks: as told 0.5"]
    settings = {"n": 60, "fresh": 40, "steps": 3, "vae_steps": 3, "unlabelled": 0}
    whole = [ctr.run(seed, arms, ["all", "8"], folder=tmp_path / "whole", **settings) for seed in (3, 4)]
    measure, measured = ctr.measure, []

    def interrupted(experiment, name):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(name)
        return measure(experiment, name)

    monkeypatch.setattr(ctr, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ctr.run(3, arms, ["all", "8"], folder=tmp_path / "cut", **settings)
    assert list(json.loads((tmp_path / "cut" / "seed-3.json").read_text())["results"]["all"]) == arms[:3]
    monkeypatch.setattr(ctr, "measure", lambda e, name: measured.append(name) or measure(e, name))
    record = ctr.run(3, arms, ["all", "8"], folder=tmp_path / "cut", **settings)
    assert measured == arms + arms  # none twice

    def timeless(record):
        return {r: {a: v | {"seconds": 0} for a, v in arms.items()} for r, arms in record["results"].items()}

    assert timeless(record) == timeless(whole[0]) and record["labels"] == whole[0]["labels"]
    assert json.loads((tmp_path / "cut" / "seed-3.json").read_text()) == record
    ctr.run(4, arms, ["all", "8"], folder=tmp_path / "cut", **settings)
    tables = [intervals.table(ctr.results("all", tmp_path / name)) for name in ("whole", "cut")]
    assert tables[0] == tables[1] and len(tables[0]) == len(arms) and tables[0][2]["pairs"] == 2
    assert "LEAKS" in ctr.as_text(tables[0]).splitlines()[-1]
    with pytest.raises(SystemExit, match="was made with"):
        ctr.run(3, arms, ["all"], folder=tmp_path / "cut", **settings | {"steps": 4})


def test_sharp_vaes_have_128_numbers_and_learn_from_the_training_part_alone(tiny, monkeypatch):
    from benchmarks import ctr

    seen, real = [], ctr.recipes_kl.train
    monkeypatch.setattr(ctr.recipes_kl, "train", lambda recipe, pictures, steps, seed: (
        seen.append((recipe, pictures)) or real(recipe, pictures, steps, seed=seed)))  # fmt: skip
    experiment = augmentation.Experiment(tiny.train, tiny.validation, tiny.test, 3, steps=2, vae_steps=4)
    made = {name: ctr.measure(experiment, name).made for name in ctr.SHARP}
    assert len(seen) == 2 and all(torch.equal(pictures, tiny.train.pictures) for _, pictures in seen)  # each stage once
    by_error, by_losses = (recipe for recipe, _ in seen)
    assert (by_error.error, by_error.objective.kl_weight, by_error.objective.adversarial_weight) == ("l2", 1.0, 0.0)
    assert (by_losses.objective.perceptual_weight, by_losses.objective.adversarial_start) == (1.0, 2)
    vae = experiment.context.vae("sharp vae")
    assert vae.code(tiny.train.pictures[:1]).numel() == augmentation.LATENT
    trips = experiment.context.trip(tiny.validation.pictures, "sharp vae")
    error = float((trips - tiny.validation.pictures).square().mean())
    assert ctr.round_trip_error(experiment, "sharp vae") == pytest.approx(error, rel=1e-6)
    sources = made["sharp vae: noise 0"].source[:5, 0]
    expected = experiment.context.trip(tiny.train.pictures[sources], "sharp vae")
    assert torch.allclose(made["sharp vae: noise 0"].pictures[:5], expected, atol=1e-5)
    halves = made["stage-1 losses: with negatives"]
    assert halves.labels.float().mean() == 0.5 and set(halves.noise.tolist()) == {0.0, 0.5}
    assert (tiny.train.labels[halves.source[:, 0]] == halves.labels).all()


@pytest.mark.parametrize(("data", "shape", "good"), [("digits", (1797, 1, 8, 8), 0.30), ("photos", (1880, 3, 32, 32), 0.32)])
def test_real_pictures_with_noisy_labels(data, shape, good):
    from benchmarks import ctr

    pictures, likely = ctr.real_pictures(data)
    assert pictures.shape == shape and float(likely.float().mean()) == pytest.approx(good, abs=0.01)
    experiment, truth = ctr.real_experiment(data, seed=5)
    assert len(experiment.train) + len(experiment.validation) == 1100 and abs(len(experiment.train) - 770) <= 2
    assert len(experiment.test) == len(pictures) - 1100
    labels, chance = (np.concatenate(column) for column in zip(*truth, strict=True))
    for p in (ctr.UNLIKELY, ctr.LIKELY):
        of_kind = labels[np.isclose(chance, p)]
        assert abs(of_kind.mean() - p) < 4 * np.sqrt(p * (1 - p) / len(of_kind))
    assert torch.equal(experiment.test.labels, torch.from_numpy(truth[2][0]))


def test_a_photograph_is_cut_without_overlap():
    from benchmarks import ctr

    picture = torch.arange(3 * 8 * 13).view(3, 8, 13)
    pieces = ctr.cut(picture, 4)
    assert pieces.shape == (6, 3, 4, 4)
    assert torch.equal(pieces[4], picture[:, 4:8, 4:8])
    assert len(pieces.unique()) == pieces.numel()


def test_a_stored_seed_is_measured_again():
    """One arm of the first seed that the book rests on, from the data on."""
    from benchmarks import ctr

    stored = ctr.read(ctr.FOLDER / "seed-1000.json")
    experiment = augmentation.Experiment.from_ads(1000)
    for arm in ("hog-logistic: nothing", "hog-logistic: smote"):
        scores = experiment.run(arm).scores
        before = stored["results"]["all"][arm]["scores"]
        assert {n: round(v, 2) for n, v in scores.items()} == pytest.approx({n: round(v, 2) for n, v in before.items()}, abs=0.011)
    assert before["called"] > 0.3 > stored["results"]["all"]["hog-logistic: nothing"]["scores"]["called"]
    assert augmentation.bayes(experiment)["pr_auc"] == pytest.approx(stored["bayes"]["pr_auc"], abs=1e-3)
