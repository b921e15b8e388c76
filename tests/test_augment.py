"""Made ads from a labelled folder: no leak, one table however often it was stopped, a verdict that follows from it."""

import csv
import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from vaelab import augment as ours
from vaelab import augmentation, creatives, novelty, training
from vaelab.augment import gains, joined, luck, verdict
from vaelab.data import ads
from vaelab.metrics import Interval

N, SIZE, MADE, VAE_STEPS = 90, 32, 40, 4
augment = partial(ours.augment, vae_steps=VAE_STEPS)
LABEL = "high <b> & co"


def quiet(sentence):
    pass


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAELAB_PROGRESS", "0")
        patch.setattr(ours, "STEPS", 4)
        yield


def write_labels(file, rows):
    file.write_text("file,label,group\n" + "\n".join(",".join(row) for row in rows) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ninety ads in pairs, the last again in another group and under a name that is HTML; one file that is none."""
    place = tmp_path_factory.mktemp("ads & co")
    data = ads.make(N, SIZE, seed=1)
    names = [f"ad {i:02}.png" for i in range(N)] + ["<i>twin</i>.png".replace("/", "&")]
    for name, picture in zip(names, [*data.images, data.images[-1]], strict=True):
        creatives.to_image(picture).save(place / name)
    (place / "broken.jpg").write_bytes(b"no picture")
    labels = [LABEL if high else ("low", "middle")[i % 2] for i, high in enumerate(data.high_ctr)]
    rows = [[name, labels[min(i, N - 1)], f"g{i // 2}"] for i, name in enumerate(names)]
    write_labels(place.parent / "labels.csv", [*rows, ["broken.jpg", "low", "b"]])
    return place


@pytest.fixture(scope="module")
def labels(folder):
    return folder.parent / "labels.csv"


@pytest.fixture(scope="module")
def done(folder, labels, tmp_path_factory):
    """A finished experiment, made in one go: its folder and outcome."""
    out = tmp_path_factory.mktemp("out") / "made"
    return out, augment(folder, labels, LABEL, out, MADE, size=SIZE, say=quiet)


def table(file):
    with open(file, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def record(out, name="report"):
    return json.loads((out / f"{name}.json").read_text(encoding="utf-8"))


def scores(out):
    return {(run["seed"], run["arm"]): run["scores"] for run in record(out, "experiment")["runs"]}


# --- what is made --------------------------------------------------------------------------------------------------


def test_made_ads_come_from_the_wanted_ads_of_the_training_part(folder, labels, done):
    out, _ = done
    part = {row["file"]: row["part"] for row in table(out / "split.csv")}
    label = {row["file"]: row["label"] for row in table(labels)}
    rows = table(out / "provenance.csv")
    assert [row["file"] for row in rows] == [f"{i:04}.png" for i in range(1, MADE + 1)]
    assert {part[row["source"]] for row in rows} == {part[row["nearest_file"]] for row in rows} == {"train"}
    assert {label[row["source"]] for row in rows} == {LABEL} and {row["noise"] for row in rows} == {"0.5"}
    split = record(out)["split"]
    assert {name: part for part, files in split.items() for name in files} == part and len(part) == N + 1
    assert {name: len(files) / (N + 1) for name, files in split.items()} == pytest.approx(
        {"train": 0.6, "validation": 0.2, "test": 0.2}, abs=0.03
    )


def test_distances_are_those_of_the_pictures_written(folder, done):
    out, _ = done
    rows = table(out / "provenance.csv")
    made = torch.stack([creatives.read_square(out / "pictures" / row["file"], SIZE)[0] for row in rows])
    train = record(out)["split"]["train"]
    known = torch.stack([creatives.read_square(folder / name, SIZE)[0] for name in train])
    away = torch.cdist(novelty.thumbprint(made).double(), novelty.thumbprint(known).double())
    assert [float(row["nearest_distance"]) for row in rows] == pytest.approx(away.amin(1).tolist(), abs=0.01)
    found = [train.index(row["nearest_file"]) for row in rows]
    assert away[range(MADE), found].tolist() == pytest.approx(away.amin(1).tolist(), abs=0.01)
    assert len({file.name for file in (out / "pictures").iterdir()}) == MADE
    assert record(out)["made"]["near"] == int((away.amin(1) <= record(out)["made"]["threshold"]).sum())
    image = Image.open(out / "sheet.png")
    assert image.size == (8 * 128 + 7 * 5 + 128, 3 * 128 + 2 * 5)  # 128 a side, gaps of 128 // 24, a column of words


def test_what_is_handed_out_is_what_was_judged(folder, labels, done):
    """The ads that the classifier of the first split learned are the files, shrunk."""
    data, _ = ours.read_ads(folder, labels, LABEL, SIZE)
    experiment = augmentation.Experiment.from_pictures(data, seed=0, steps=4, vae_steps=4)
    experiment.context.n = MADE
    result = experiment.run(ours.arms(0.5)["noise 0.5"])
    made = [creatives.read_square(done[0] / "pictures" / f"{i:04}.png", SIZE)[0] for i in range(1, MADE + 1)]
    assert (ours.shrink(torch.stack(made)) - result.made.pictures).abs().max() <= 1 / 255
    assert result.scores == scores(done[0])[0, "noise 0.5"]
    assert {len(experiment.run(arm).made or []) for arm in ours.arms(0.5).values()} == {0, MADE}


def test_every_arm_is_judged_on_shrunken_ads(monkeypatch):
    seen, cnn = [], augmentation.classifiers.cnn
    monkeypatch.setattr(
        augmentation.classifiers, "cnn", lambda x, y, judged, **s: seen.append([x, *judged]) or cnn(x, y, judged, **s)
    )
    pictures = torch.rand(60, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    data = augmentation.Labelled(pictures, torch.arange(60) % 2)
    experiment = augmentation.Experiment.from_pictures(data, steps=1, vae_steps=1)
    for arm in ours.arms(1).values():
        experiment.run(arm)
    assert len(seen) == 7  # "threshold" is "nothing", called otherwise
    assert {tuple(x.shape[1:]) for sets in seen for x in sets} == {(3, 32, 32)}
    want = ours.shrink(experiment.train.pictures)
    assert all(torch.equal(sets[0][: len(want)], want) for sets in seen)


# --- splits --------------------------------------------------------------------------------------------------------


def test_a_group_or_an_identical_ad_never_stands_on_two_sides(folder, labels):
    data, about = ours.read_ads(folder, labels, LABEL, SIZE)
    names = {row["file"]: row["group"] for row in table(labels)}
    for seed in range(6):
        parts = augmentation.split(data.labels, data.groups, seed=seed)
        sides = [{names[data.files[i]] for i in part.tolist()} for part in parts]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        twins = [data.files.index("<i>twin<&i>.png"), data.files.index(f"ad {N - 1}.png")]
        assert len({next(i for i, part in enumerate(parts) if twin in part) for twin in twins}) == 1
    assert about["groups"] == N // 2  # g45, the twin's own, is one with its original's
    assert about["notes"] == [
        "The same as another to the last pixel, and therefore in one group with it: 1 of the ads."
    ]


def test_names_and_pixels_join_groups_also_in_a_chain():
    pictures = torch.arange(7).float().view(7, 1, 1, 1).repeat(1, 3, 2, 2)
    pictures[4], pictures[6] = pictures[0], pictures[2]
    groups, twins = joined(["a", "a", "b", "c", "d", "d", "e"], pictures)
    assert twins == 2
    together = [[i for i in range(7) if groups[i] == group] for group in groups.unique()]
    assert sorted(together) == [[0, 1, 4, 5], [2, 6], [3]]  # 0 is 4 to the pixel, and 4 shares a name with 5


# --- again ---------------------------------------------------------------------------------------------------------


def test_an_interrupted_experiment_goes_on_to_the_same_table(folder, labels, done, tmp_path, monkeypatch):
    out, run, count = tmp_path / "made", augmentation.Experiment.run, []

    def stop(experiment, arm):
        if len(count) == 10:  # within the second split
            raise KeyboardInterrupt
        count.append(arm.name)
        return run(experiment, arm)

    monkeypatch.setattr(augmentation.Experiment, "run", stop)
    with pytest.raises(
        creatives.Interrupted, match="Stopped. 10 of 24 trainings are done and kept in .*run the same command"
    ):
        augment(folder, labels, LABEL, out, MADE, size=SIZE, say=quiet)
    monkeypatch.setattr(augmentation.Experiment, "run", lambda self, arm: count.append(arm.name) or run(self, arm))
    said = []
    again = augment(folder, labels, LABEL, out, MADE, size=SIZE, say=said.append)
    wanted = round(record(out)["share"] * (N + 1))
    assert said == [f"{N + 1} ads, {wanted} labelled {LABEL!r}; 24 trainings on 3 splits, 10 of them done before."]
    assert len(count) == 24 and scores(out) == scores(done[0]) and len(scores(out)) == 24
    assert again.sentence == done[1].sentence and record(out)["arms"] == record(done[0])["arms"]
    for name in ("provenance.csv", "split.csv", "pictures/0007.png", "sheet.png"):
        assert (out / name).read_bytes() == (done[0] / name).read_bytes()


@pytest.mark.parametrize(("steps", "arms", "left"), [(2, None, 10), (6, None, 6), (None, 15, 4)])
def test_a_vae_that_was_interrupted_goes_on(folder, labels, done, tmp_path, monkeypatch, steps, arms, left):
    """Stopped at a step of the first or second VAE, or after the second but before its split is finished."""
    out, counts, add, run = tmp_path / "made", [0, 0], training.Sums.add, augmentation.Experiment.run

    def counted(place, limit, function):
        def call(*arguments):
            if counts[place] == limit:
                raise KeyboardInterrupt
            counts[place] += 1
            return function(*arguments)

        return call

    monkeypatch.setattr(training.Sums, "add", counted(0, steps, add))
    monkeypatch.setattr(augmentation.Experiment, "run", counted(1, arms, run))
    with pytest.raises(creatives.Interrupted, match="Stopped"):
        augment(folder, labels, LABEL, out, MADE, size=SIZE, say=quiet)
    assert [file.name for file in out.glob("state-*/*")] == ["vae-train.safetensors"]
    monkeypatch.setattr(augmentation.Experiment, "run", run)
    monkeypatch.setattr(training.Sums, "add", counted(0, None, add))
    counts[0] = 0
    augment(folder, labels, LABEL, out, MADE, size=SIZE, say=quiet)
    assert counts[0] == left  # of the 3 x 4 steps
    assert scores(out) == scores(done[0]) and record(out)["arms"] == record(done[0])["arms"]
    assert {file.name for file in out.iterdir()} == {file.name for file in done[0].iterdir()}
    for name in ("provenance.csv", "pictures/0007.png"):
        assert (out / name).read_bytes() == (done[0] / name).read_bytes()


def test_a_finished_experiment_is_not_run_again_but_lost_pictures_are_made_again(
    folder, labels, done, tmp_path, monkeypatch
):
    out = tmp_path / "made"
    shutil.copytree(done[0], out)
    monkeypatch.setattr(augmentation.Experiment, "run", None)
    page, picture = (out / "index.html").read_bytes(), out / "pictures" / "0003.png"
    (out / "index.html").unlink()
    assert augment(folder, labels, LABEL.upper(), out, MADE, size=SIZE, say=quiet).sentence == done[1].sentence
    assert (out / "index.html").read_bytes().replace(bytes(out), b"") == page.replace(bytes(done[0]), b"")
    before = picture.read_bytes()
    picture.unlink()
    augment(folder, labels, LABEL, out, MADE, size=SIZE, say=quiet)
    assert picture.read_bytes() == before


def test_another_seed_splits_and_makes_otherwise(folder, labels):
    data, _ = ours.read_ads(folder, labels, LABEL, SIZE)
    splits = [augmentation.split(data.labels, data.groups, seed=3 * seed + i) for seed in (0, 1) for i in range(3)]
    assert len({tuple(parts.test.tolist()) for parts in splits}) == 6


@pytest.mark.parametrize(("change", "what"), [({"n": 41}, "--n"), ({"noise": 1.0}, "noise"), ({"size": 48}, "size"),
                                              ({"seed": 1}, "seed"), ({"label": "low"}, "label"),
                                              ({"vae_steps": 5}, "--vae-steps")])  # fmt: skip
def test_other_settings_are_refused(folder, labels, done, change, what):
    before = (done[0] / "experiment.json").read_bytes()
    asked = {"label": LABEL, "n": MADE, "size": SIZE} | change
    with pytest.raises(ValueError, match=f"began with another {what}: go back to that, or give a new folder"):
        augment(folder, labels, out=done[0], say=quiet, **asked)
    assert (done[0] / "experiment.json").read_bytes() == before


def test_other_labels_are_refused(folder, labels, done, tmp_path):
    rows = [[row["file"], row["label"], row["group"]] for row in table(labels)]
    rows[0][1] = {LABEL: "low"}.get(rows[0][1], LABEL)
    write_labels(tmp_path / "labels.csv", rows)
    with pytest.raises(ValueError, match="began with another set of ads, labels or groups"):
        augment(folder, tmp_path / "labels.csv", LABEL, done[0], MADE, size=SIZE, say=quiet)


# --- bad input -----------------------------------------------------------------------------------------------------


def test_an_unknown_label_and_too_few_ads_say_what_there_is(folder, labels, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(
        ValueError, match=r"No ad is labelled 'hihg': the labels in labels.csv are '.*' \(\d+\), '.*' \(\d+\)"
    ) as told:
        augment(folder, labels, "hihg", out, MADE, size=SIZE, say=quiet)
    assert all(name in str(told.value) for name in (LABEL, "low", "middle"))
    rows = [[row["file"], "high" if i < 19 else "low", ""] for i, row in enumerate(table(labels))]
    write_labels(tmp_path / "few.csv", rows)
    with pytest.raises(ValueError, match=f"19 ads are labelled 'high' and {N + 1 - 19} are not: 20 of each are needed"):
        augment(folder, tmp_path / "few.csv", "high", out, MADE, size=SIZE, say=quiet)
    rows = [[*row[:2], row[1]] for row in rows]
    write_labels(
        tmp_path / "one.csv", [[f, "high" if i < 30 else "low", f"g{i < 30}"] for i, (f, *_) in enumerate(rows)]
    )
    with pytest.raises(ValueError, match="part lacks one class; give more pictures of each class, or smaller groups"):
        augment(folder, tmp_path / "one.csv", "high", out, MADE, size=SIZE, say=quiet)
    assert not out.exists()


def test_bad_numbers_and_places(folder, labels, tmp_path):
    def asked(out=tmp_path / "out", **change):
        return augment(folder, labels, LABEL, out, **{"n": MADE, "size": SIZE, "say": quiet} | change)

    for change, sentence in (({"n": 0}, "0 made ads make no sense: give --n from 1 to 9999"),
                             ({"noise": -1}, "A noise of -1"),
                             ({"noise": float("nan")}, "A noise of nan"), ({"size": 50}, "The size is 50"),
                             ({"seed": -1}, "The seed is -1"),
                             ({"vae_steps": 0}, "0 steps for a VAE make no sense: give --vae-steps from 1 to 100000"),
                             ({"vae_steps": 10**6}, "1000000 steps for a VAE make no sense"),
                             ({"n": 6}, "6 made ads are too few .*: give --n 7 or more")):  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            asked(**change)
    for inside in (folder, folder / "synthetic", folder / ".." / folder.name / "a" / "b"):
        with pytest.raises(
            ValueError, match="lies inside .*, so made ads would count as yours: give a folder outside it"
        ):
            asked(inside)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="mine holds other things than made ads of vaelab: give a new folder"):
        asked(tmp_path / "mine")
    with pytest.raises(NotADirectoryError, match="notes.txt is a file: give a new folder"):
        asked(tmp_path / "mine" / "notes.txt")
    for text in ("{", "[]", '{"settings": {}, "runs": "x"}', '{"settings": 1, "runs": []}'):
        (tmp_path / "mine" / "experiment.json").write_text(text)
        with pytest.raises(ValueError, match="experiment.json is damaged: delete the folder"):
            asked(tmp_path / "mine")
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["experiment.json", "mine", "notes.txt"]


def test_ads_of_all_sizes_and_kinds(folder, labels, tmp_path):
    """What can be read is made a square of RGB and told once a kind; what cannot is named, and left out."""
    mixed, rows = tmp_path / "mixed", table(labels)[:N]
    mixed.mkdir()
    shapes = [(48, 48), (400, 90), (60, 300), (20, 20), (301, 200)]
    for i, row in enumerate(rows):
        picture = Image.open(folder / row["file"]).resize(shapes[i % 5])
        picture = picture.convert(("RGB", "L", "RGBA", "P", "LA", "1")[i % 6])
        if picture.mode == "RGBA":
            picture.putalpha(128)
        picture.save(mixed / row["file"])
    whole = (mixed / "ad 00.png").read_bytes()
    (mixed / "ad 00.png").write_bytes(whole[: len(whole) // 2])
    (mixed / "ad 01.png").write_bytes(b"")
    Image.new("CMYK", (64, 64), (0, 90, 90, 0)).save(mixed / "ad 02.jpg")
    write_labels(tmp_path / "labels.csv", [[*row.values()] for row in rows] + [["ad 02.jpg", "low", "g1"]])
    out = tmp_path / "made"
    outcome = augment(mixed, tmp_path / "labels.csv", LABEL, out, 12, size=48, say=quiet, vae_steps=1)
    assert [problem.split()[1] for problem in outcome.problems] == ["00.png", "01.png"]
    told = " ".join(record(out)["left_out_or_changed"])
    assert "Smaller than 48 x 48 and therefore enlarged: 18 pictures" in told and "ransparen" in told
    assert {Image.open(file).size for file in (out / "pictures").iterdir()} == {(48, 48)}
    assert sum(map(len, record(out)["split"].values())) == N - 1


# --- what is said --------------------------------------------------------------------------------------------------


def test_gains_and_luck_by_hand():
    runs = [{"seed": seed, "arm": arm, "leaks": False, "scores": {"f1": f1, "pr_auc": pr}}
            for arm, values in {"nothing": [(0.4, 0.5), (0.5, 0.6), (0.3, 0.4)],
                                "a/a": [(0.4, 0.52), (0.5, 0.56), (0.3, 0.41)],
                                "noise 1": [(0.5, 0.53), (0.6, 0.64), (0.4, 0.45)]}.items()
            for seed, (f1, pr) in enumerate(values)]  # fmt: skip
    found = gains(runs)
    assert found["nothing"] == {
        "f1": pytest.approx(0.4),
        "pr_auc": pytest.approx(0.5),
        "f1_gain": None,
        "pr_gain": None,
    }
    half = 4.302653 * 0.01 / 3**0.5  # Student's t with 2 degrees of freedom; 0.03, 0.04, 0.05 have a spread of 0.01
    assert found["noise 1"]["pr_gain"] == pytest.approx((0.04, 0.04 - half, 0.04 + half), abs=1e-6)
    assert found["noise 1"]["f1_gain"] == pytest.approx((0.1, 0.1, 0.1)) and luck(runs) == pytest.approx(0.04)


def hand_made(tuned=0.05, f1=0.02, **pr):
    """A table of gains; each PR-AUC gain is (mean, half its interval)."""
    given = {"made": (0.01, 0.03), "flip": (0, 0.02), "copies": (0, 0.02), "weights": (0, 0.02), "both": (0, 0.02)} | pr
    arms = {
        "made": "noise 0.5",
        "flip": ours.FLIP,
        "copies": "duplicates",
        "weights": "class weights",
        "both": "both classes",
    }
    rows = {
        arms[name]: {"pr_gain": Interval(m, m - h, m + h), "f1_gain": Interval(f1, 0, 0)}
        for name, (m, h) in given.items()
    }
    return rows | {"threshold": {"pr_gain": Interval(0, 0, 0), "f1_gain": Interval(tuned, 0, 0)}}


VERDICTS = {
    "threshold": ({}, "at least as much: F1 +0.05, with made ads +0.02; in PR-AUC they change +0.010 (", "Choose the"),
    "nothing": ({"tuned": 0.0}, "luck: with the made ads PR-AUC changes by +0.010 (-0.020 to +0.040)", "Collect more"),
    "threshold worse": ({"tuned": 0.01}, "Nothing helps beyond luck", "Collect more"),
    "helps": ({"made": (0.06, 0.02)}, "gain +0.060 (+0.040 to +0.080) in PR-AUC: that is more", "Add the"),
    "no more than luck did": ({"made": (0.025, 0.01), "tuned": 0}, "Nothing helps beyond luck", "Collect"),
    "as much": ({"made": (0.06, 0.02), "flip": (0.07, 0.09)}, "but flip and shift gives as much: +0.070.", "Mirror"),
    "flip": ({"flip": (0.07, 0.02)}, "With flip and shift you gain more: +0.070 in PR-AUC; with the", "Mirror"),
    "best of the real": ({"flip": (0.09, 0.2), "copies": (0.05, 0.01)}, "plain copies you gain more: +0.050", "Repeat"),
    "both": ({"both": (0.05, 0.01)}, "With making ads of all labels you gain more", "Make ads of the other labels too"),
    "across 0": ({"made": (-0.06, 0.07)}, "-0.060 (-0.130 to +0.010), no more than luck", "Choose"),
    "harm": ({"made": (-0.06, 0.02)}, "PR-AUC loses at least 0.040; the change is -0.060 (", "Train without"),
    "little harm": ({"made": (-0.02, 0.0197)}, "PR-AUC loses at least 0.000300; the change is -0.020", "Train"),
    "harm, no tuning": ({"made": (-0.02, 0.01), "tuned": 0}, "harm here: PR-AUC loses at least 0.010;", "Train without"),
    "harm, better": ({"made": (-0.02, 0.01), "flip": (0.07, 0.02)},
                     "at least 0.010, by -0.020 (-0.030 to -0.010); with flip and shift you gain +0.070.", "Mirror"),
}  # fmt: skip


@pytest.mark.parametrize("name", VERDICTS)
def test_the_verdict_follows_from_the_table(name):
    change, says, does = VERDICTS[name]
    words, action = verdict(hand_made(**change), "noise 0.5", 0.03)
    assert says in words and action.startswith(does) and len(words.split()) <= 30
    assert ("more than luck" in words) != ("did harm here" in words)


def test_the_report_tells_the_table_and_escapes_what_is_yours(folder, done):
    out, outcome = done
    page, whole = (out / "index.html").read_text(encoding="utf-8"), record(out)
    assert outcome.report == out / "index.html" and outcome.sentence == f"{whole['verdict']} {whole['action']}"
    assert whole["verdict"] in page and "<b> & co" not in page and "high &lt;b&gt; &amp; co" in page
    assert "from 5" in page and f"of the {N + 1} ads in {folder.name.replace('&', '&amp;')}" in page
    found = gains(record(out, "experiment")["runs"])
    for row in whole["arms"]:
        want = found[row["arm"]]
        assert (row["f1"], row["pr_auc"]) == (want["f1"], want["pr_auc"])
        assert f"<td>{row['f1']:.2f}</td>" in page and f"<td>{row['pr_auc']:.2f}</td>" in page
    assert list(ours.arms(0.5)) == [run["arm"] for run in record(out, "experiment")["runs"][:8]]
    assert page.count("<tr>") == 9 and 'alt="Three rows:' in page and "The test part was used for scoring only" in page
    assert (
        len(outcome.problems) == 1
        and outcome.problems[0].startswith("broken.jpg is no picture")
        and "broken.jpg" in page
    )
    assert np.mean([s["pr_auc"] for (_, arm), s in scores(out).items() if arm == "a/a"]) == pytest.approx(
        next(row["pr_auc"] for row in whole["arms"] if row["arm"] == "a/a")
    )
