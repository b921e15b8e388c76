"""A folder of real pictures: trained on, stopped and gone on with, blended, sampled; and every bad input."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from vaelab import creatives, models, storage, training
from vaelab.creatives import Interrupted, blend, load, sample, train
from vaelab.data import photos
from vaelab.novelty import plant_copies, resave, thumbprint

STEPS, SIZE = 12, 32


def quiet(sentence):
    pass


def write(picture, file, side=None):
    creatives.to_image(picture, side).save(file)


@pytest.fixture(scope="module", autouse=True)
def no_bar():
    os.environ["VAELAB_PROGRESS"] = "0"
    yield
    del os.environ["VAELAB_PROGRESS"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty patches of real photographs, one of them twice, and one file that is none."""
    place = tmp_path_factory.mktemp("campaign & co")
    for i, patch in enumerate(photos.patches(20, 64, seed=1)):
        write(patch, place / f"ad {i:02}.png")
    write(photos.patches(20, 64, seed=1)[3], place / "twin.png")
    (place / "broken.jpg").write_bytes(b"no picture")
    return place


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A finished model folder, made in one go."""
    out = tmp_path_factory.mktemp("models") / "model"
    outcome = train(folder, out, size=SIZE, steps=STEPS, say=quiet)
    return out, outcome


def record_of(file):
    return json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))


# --- training ------------------------------------------------------------------------------------------------------


def test_a_training_leaves_a_whole_model(trained):
    out, outcome = trained
    names = {"model.safetensors", "pictures.safetensors", "report.html", "report.json", "training.json"}
    assert {file.name for file in out.iterdir()} == names and outcome.report == out / "report.html"
    assert len(outcome.problems) == 1 and outcome.problems[0].startswith("broken.jpg is no picture")
    settings = json.loads((out / "training.json").read_text())
    assert (settings["steps"], settings["size"], settings["pictures"]) == (STEPS, SIZE, 20)  # the twin counts once


def test_codes_and_thumbnails_are_those_of_the_pictures(folder, trained):
    ours = load(trained[0])
    pictures, data = creatives.usable_pictures(folder, SIZE)
    assert "twin.png" not in data.files and len(data.files) == 20
    with torch.no_grad():
        assert torch.allclose(ours.codes, ours.model.code(pictures), atol=1e-5)
    assert torch.equal(ours.thumbnails, (pictures * 255).round().byte())
    assert ours.held_out.sum() == 2 and torch.equal(ours.held_out, creatives.held_out(20, 0))
    blurred = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(pictures, [2] * 4, mode="replicate"), 5, 1)
    assert ours.fine == pytest.approx(float((pictures - blurred).square().mean().sqrt()))


def test_the_report_measures_what_it_says(folder, trained):
    out, _ = trained
    ours, numbers = load(out), record_of(out / "report.html")["numbers"]
    pictures, _ = creatives.usable_pictures(folder, SIZE)
    real = pictures[ours.held_out]
    with torch.no_grad():
        trips = ours.model.reconstruct(real).clamp(0, 1)
    expected = [10 * np.log10(1 / float(((a - b) ** 2).mean())) for a, b in zip(real, trips, strict=True)]
    assert numbers["psnr"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert numbers["psnr_worst"] == pytest.approx(min(expected), abs=1e-3)
    assert numbers["held_out"] == 2 and 0 <= numbers["detail_kept"] <= 1


def test_the_verdict_is_honest_about_few_pictures(trained):
    verdict = record_of(trained[1].report)["verdict"]
    assert "With 20 pictures, results stay close to them, and soft." in verdict and len(verdict.split()) <= 25


@pytest.mark.parametrize("decibels", [10, 17, 22, 40])
@pytest.mark.parametrize("detail", [0.1, 0.9])
def test_every_verdict_fits(decibels, detail):
    sentence = creatives.survives(decibels, detail)
    assert len((sentence + " With 99 pictures, results stay close to them, and soft.").split()) <= 25


def test_a_finished_model_is_left_alone(folder, trained):
    out, _ = trained
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    outcome = train(folder, out, size=SIZE, steps=STEPS, say=quiet)
    assert outcome.sentence == f"{out} is finished already, and nothing was changed: give another folder to train anew."
    for changed in ({"size": 64}, {"size": SIZE, "steps": 3}, {"size": SIZE, "seed": 1}):
        with pytest.raises(ValueError, match=f"began with another {list(changed)[-1]}"):
            train(folder, out, say=quiet, **changed)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def interrupt_after(monkeypatch, steps):
    done, real = [], training.update_average

    def counted(*arguments):
        real(*arguments)
        done.append(1)
        if len(done) == steps:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "update_average", counted)


@pytest.mark.parametrize("stop", [1, 7])
def test_stopped_and_gone_on_with_is_bit_for_bit_the_model_in_one_go(folder, trained, tmp_path, monkeypatch, stop):
    out, said = tmp_path / "model", []
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="Stopped.*run the same command again"):
        interrupt_after(patch, stop)
        train(folder, out, size=SIZE, steps=STEPS, say=quiet)
    assert (out / "training.json").exists() and not (out / "model.safetensors").exists()
    with pytest.raises(ValueError, match="is not finished: run its `vaelab train` command again"):
        load(out)
    torch.manual_seed(99)
    train(folder, out, size=SIZE, minutes=3, say=said.append)  # steps were fixed when it began
    assert "12 steps" in said[0] and said[0].endswith("It goes on where it was stopped.") == (stop > 1)
    whole, resumed = load(trained[0]), load(out)
    for (name, a), b in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert torch.equal(whole.codes, resumed.codes)
    first, second = (record_of(place / "report.html")["numbers"] for place in (trained[0], out))
    assert first == second and not (out / "state.safetensors").exists()


@pytest.fixture
def begun(folder, tmp_path, monkeypatch):
    """A training that was stopped after a few steps."""
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_after(patch, 3)
        train(folder, tmp_path / "begun", size=SIZE, steps=STEPS, say=quiet)
    return tmp_path / "begun"


@pytest.mark.parametrize(
    ("change", "words"),
    [({"size": 48}, "another size"), ({"steps": 99}, "another steps"), ({"seed": 5}, "another seed")],
)
def test_other_settings_do_not_go_on(folder, begun, change, words):
    with pytest.raises(ValueError, match=f"{words}: go back to that, or train into a new folder"):
        train(folder, begun, **{"size": SIZE, "steps": STEPS} | change, say=quiet)


def test_a_changed_folder_does_not_go_on(folder, begun, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for i, patch in enumerate(photos.patches(20, 64, seed=2)):
        write(patch, other / f"{i}.png")
    with pytest.raises(ValueError, match="another set of pictures"):
        train(other, begun, size=SIZE, say=quiet)
    (other / "0.png").unlink()
    with pytest.raises(ValueError, match="another number of pictures"):
        train(other, begun, size=SIZE, say=quiet)


def test_a_damaged_beginning_is_said(folder, begun):
    (begun / "training.json").write_text('{"size": 3')
    with pytest.raises(ValueError, match=r"training.json is damaged: delete the folder"):
        train(folder, begun, size=SIZE, say=quiet)


def test_minutes_become_steps(folder, tmp_path, monkeypatch):
    """A clock that advances by one second a step: a minute affords 57 steps, the rest is for tests and states."""
    ticks, now = [], [0.0]
    real = training.update_average
    monkeypatch.setattr(training, "update_average", lambda *a: (now.__setitem__(0, now[0] + 1.0), real(*a)))
    monkeypatch.setattr(creatives.time, "perf_counter", lambda: now[0])
    train(folder, tmp_path / "m", minutes=1, size=SIZE, say=ticks.append)
    assert json.loads((tmp_path / "m" / "training.json").read_text())["steps"] == 57 and "57 steps" in ticks[0]


def test_trying_steps_leaves_no_trace(folder, trained, tmp_path, monkeypatch):
    real = creatives.affordable
    monkeypatch.setattr(creatives, "affordable", lambda *a: real(*a) and STEPS)
    train(folder, tmp_path / "m", size=SIZE, say=quiet)
    a, b = (load(place).model.state_dict() for place in (trained[0], tmp_path / "m"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_callers_random_numbers_are_left_alone(folder, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train(folder, tmp_path / "m", size=SIZE, steps=2, say=quiet)
    assert torch.equal(torch.rand(2), expected)


def test_too_few_pictures(tmp_path):
    for i, patch in enumerate(photos.patches(7, 32, seed=1)):
        write(patch, tmp_path / f"{i}.png")
        write(patch, tmp_path / f"{i} again.png")
    with pytest.raises(ValueError, match="holds 7 different pictures that can be used: 8 are needed at least"):
        train(tmp_path, tmp_path / "model", say=quiet)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"size": 50}, "multiple of 16"), ({"size": 16}, "from 32 to 256"), ({"minutes": 0}, "above 0"),
     ({"minutes": float("nan")}, "above 0"), ({"steps": 0}, "above 0")],
)  # fmt: skip
def test_settings_that_make_no_sense(folder, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        train(folder, tmp_path / "m", **options, say=quiet)


def test_where_a_model_cannot_go_is_said_before_training(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(creatives, "run", lambda *a: pytest.fail("trained all the same"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="is a file: give a new folder"):
        train(folder, tmp_path / "file", size=SIZE, steps=2, say=quiet)
    with pytest.raises(OSError, match="cannot be written"):
        train(folder, tmp_path / "file" / "model", size=SIZE, steps=2, say=quiet)
    with pytest.raises(ValueError, match="holds other things than a model"):
        train(folder, folder, size=SIZE, steps=2, say=quiet)


def test_no_space_left_for_the_state(folder, tmp_path, monkeypatch):
    """What was stored before stays whole, and the training goes on from there once there is room."""
    out, real, calls = tmp_path / "m", os.replace, []

    def full(source, target):
        if str(target).endswith("state.safetensors"):
            calls.append(target)
            if len(calls) == 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left.*check the folder"):
        patch.setattr(os, "replace", full)
        train(folder, out, size=SIZE, steps=STEPS, say=quiet)
    assert storage.read(out / "state.safetensors")[1]["step"] == 2
    assert sorted(file.name for file in out.iterdir()) == ["state.safetensors", "training.json"]
    train(folder, out, size=SIZE, steps=STEPS, say=quiet)
    assert load(out).settings["steps"] == STEPS


def test_a_training_that_runs_off_ends_in_a_sentence(folder, tmp_path, monkeypatch):
    def diverged(*arguments, **settings):
        raise training.TrainingDiverged("The loss at step 3 is nan.")

    monkeypatch.setattr(creatives, "fit", diverged)
    with pytest.raises(ValueError, match="ran off: take another --seed"):
        train(folder, tmp_path / "m", size=SIZE, steps=STEPS, say=quiet)


@pytest.mark.parametrize("size", creatives.SIZES)
def test_there_is_a_network_for_every_size(size):
    settings = creatives.network(50, size)
    model = models.vae((3, size, size), **settings)
    with torch.no_grad():
        assert model.reconstruct(torch.zeros(1, 3, size, size)).shape == (1, 3, size, size)


def test_jitter_moves_but_never_mirrors():
    """Words at the left stay at the left; a picture symmetric in nothing is nearest to itself, not to its mirror."""
    picture = photos.load(64, names=("coffee",))["coffee"][None].expand(40, -1, -1, -1)
    moved = creatives.jitter(picture, torch.Generator().manual_seed(0))
    assert not torch.equal(moved, picture) and moved.min() >= 0 and moved.max() <= 1
    to_itself, to_mirror = ((moved - other).square().mean((1, 2, 3)) for other in (picture, picture.flip(3)))
    assert (to_itself < to_mirror).all()
    assert torch.equal(moved, creatives.jitter(picture, torch.Generator().manual_seed(0)))


def test_still_improving_counts_decibels():
    """0.3 dB over the last third is going on, 0.2 dB is not, and neither is a curve past its best."""
    numbers = 1000

    def curve(*decibels):
        nats = numbers * np.log(10) / 20 * np.array(decibels)
        return training.History([{"validation": float(value)} for value in nats])

    assert creatives.still_improving(curve(0, 5, 10, 10.1, 10.2, 10.3, 10.4, 10.5, 10.7), numbers)
    assert not creatives.still_improving(curve(0, 5, 10, 10.1, 10.2, 10.3, 10.4, 10.45, 10.5), numbers)
    assert not creatives.still_improving(curve(0, 5, 10, 10.1, 10.2, 10.3, 10.9, 11.0, 10.9), numbers)


def test_detail_kept_is_a_share_of_what_is_right():
    real = photos.patches(4, 64, seed=0)
    assert creatives.detail_kept(real, real) == 1
    flat = real.mean((2, 3), keepdim=True).expand_as(real)
    assert creatives.detail_kept(real, flat) == pytest.approx(0, abs=1e-6)
    half = real - 0.5 * creatives.fine(real)  # twice through a blur is not once: nearly a quarter is wrong
    assert 0.6 < creatives.detail_kept(real, half) < 0.85
    wrong = real.flip(0)  # just as sharp, and all of it wrong
    assert creatives.detail_kept(real, wrong) == 0


# --- a model folder ------------------------------------------------------------------------------------------------


def test_what_is_no_model(trained, tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="There is no model folder .*: make it with `vaelab train"):
        load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is no model: give the folder"):
        load(folder)
    half = tmp_path / "half"
    half.mkdir()
    for file in trained[0].iterdir():
        (half / file.name).write_bytes(file.read_bytes())
    (half / "model.safetensors").write_bytes((trained[0] / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match="half is damaged: delete it and train again"):
        load(half)
    (half / "model.safetensors").write_bytes((trained[0] / "model.safetensors").read_bytes())
    settings = json.loads((half / "training.json").read_text())
    (half / "training.json").write_text(json.dumps(settings | {"size": 64}))
    with pytest.raises(ValueError, match="half does not hold together"):
        load(half)
    (half / "training.json").write_text(json.dumps(settings | {"size": "large"}))
    with pytest.raises(ValueError, match="training.json is damaged"):
        load(half)


def test_a_finished_model_without_its_report_and_a_damaged_state_say_what_to_do(folder, trained, begun, tmp_path):
    shutil.copytree(trained[0], tmp_path / "bare")
    (tmp_path / "bare" / "report.html").unlink()
    with pytest.raises(FileNotFoundError, match="can be used, but its report is gone"):
        train(folder, tmp_path / "bare", size=SIZE, steps=STEPS, say=quiet)
    (begun / "state.safetensors").write_bytes(b"half a state")
    with pytest.raises(ValueError, match="is damaged: delete it, and the training starts anew"):
        train(folder, begun, size=SIZE, steps=STEPS, say=quiet)


# --- blending ------------------------------------------------------------------------------------------------------


def pixels(file):
    return np.array(Image.open(file).convert("RGB")).astype(int)


def test_a_strip_shows_the_decoded_path(folder, trained, tmp_path):
    """Cut out of the PNG, every step is the decoded point of the straight path, enlarged."""
    outcome = blend(folder / "ad 00.png", folder / "ad 01.png", trained[0], tmp_path / "strip.png", steps=5)
    strip, ours = pixels(tmp_path / "strip.png"), load(trained[0])
    gap = 128 // 24
    assert strip.shape == (128, 5 * 128 + 4 * gap, 3) and (strip[:, 128 : 128 + gap] == 255).all()
    ends = torch.stack([creatives.read_square(folder / f"ad 0{i}.png", SIZE)[0] for i in (0, 1)])
    with torch.no_grad():
        a, b = ours.model.code(ends)
        for i in range(5):
            expected = ours.model.decode(torch.lerp(a, b, i / 4)[None]).mean[0]
            cut = strip[:, i * (128 + gap) : i * (128 + gap) + 128]
            assert np.array_equal(cut, np.array(creatives.to_image(expected, 128)))
    assert outcome.report == tmp_path / "strip.html" and outcome.report.exists()
    assert outcome.sentence.startswith(record_of(outcome.report)["verdict"])


def test_the_strips_numbers_are_right(folder, trained, tmp_path):
    files = folder / "ad 00.png", folder / "ad 05.png"
    there = record_of(blend(*files, trained[0], tmp_path / "a.png", steps=7).report)["numbers"]
    back = record_of(blend(*files[::-1], trained[0], tmp_path / "b.png", steps=7).report)["numbers"]
    assert there["step"] + back["step"] == pytest.approx(8, abs=1e-3)
    assert there["consistency"] == pytest.approx(back["freshness"][::-1], abs=1e-4)
    assert there["consistency"][0] == 1 and there["freshness"][-1] == 1
    ours = load(trained[0])
    pair = torch.stack([creatives.read_square(file, SIZE)[0] for file in files])
    with torch.no_grad():
        codes = ours.model.code(pair)
        a, b = ours.model.decode(codes).mean.clamp(0, 1)
        middle = ours.model.decode(codes.mean(0)[None]).mean.clamp(0, 1)[0]
    beyond = (middle - (a + b) / 2).square().mean().sqrt() / (a - b).square().mean().sqrt()
    assert there["beyond_cross_fade"] == pytest.approx(float(beyond), rel=1e-3)
    assert there["psnr_first"] == pytest.approx(float(-10 * (pair[0] - a).square().mean().log10()), abs=1e-3)


class Fade(torch.nn.Module):
    """A model that is the identity: codes are pixels, so its blends are cross-fades."""

    def code(self, x):
        return x.flatten(1)

    def reconstruct(self, x):
        return x

    def decode(self, z):
        self.mean = z.reshape(-1, 3, SIZE, SIZE)
        return self

    def parameters(self, recurse=True):
        return iter([torch.zeros(1)])


def strip_of(model, ends, steps=9):
    trained = creatives.Creatives(None, model, {"size": SIZE}, None, None, None, 1.0)
    path = torch.stack([torch.lerp(*ends, float(t)) for t in np.linspace(0, 1, steps)])
    return creatives.blend_report(trained, ends, path, ["a <b>.png", "b.png"], [], 0)


def test_a_cross_fade_is_called_one():
    report = strip_of(Fade(), photos.patches(2, SIZE, seed=4))
    assert "hardly more than a cross-fade" in report.verdict and report.numbers["beyond_cross_fade"][1] == 0
    assert "mood" not in report.verdict and report.verdict.startswith("Balance at step ")
    assert report.picture.height > 128 and len(report.verdict.split()) <= 25


def test_two_equal_ends_have_no_balance():
    same = photos.patches(1, SIZE, seed=4).repeat(2, 1, 1, 1)
    report = strip_of(Fade(), same)
    assert report.verdict == "The model sees hardly any difference between the two."
    assert "Choose two that differ more" in report.action


def test_the_longest_verdict_of_a_blend_fits(monkeypatch):
    monkeypatch.setattr(creatives, "MOOD", 999.0)
    report = strip_of(Fade(), photos.patches(2, SIZE, seed=4), steps=33)
    assert "a mood" in report.verdict and "cross-fade" in report.verdict
    assert "Here are 11 of 33 steps." in report.caption and report.picture.width < 11 * 140


def test_a_long_strip_shows_some_of_its_steps_and_both_ends():
    assert creatives.shown_steps(9) == list(range(1, 10))
    for steps in (12, 20, 33):
        shown = creatives.shown_steps(steps)
        assert len(shown) == 11 and (shown[0], shown[-1]) == (1, steps)
        assert max(np.diff(shown)) - min(np.diff(shown)) <= 1


def test_files_of_any_kind_and_shape_are_fit_and_said(folder, trained, tmp_path):
    wide, tall = tmp_path / "wide.jpg", tmp_path / "tall.png"
    Image.new("CMYK", (300, 80), (0, 200, 200, 0)).save(wide)
    Image.new("RGBA", (50, 90), (0, 0, 255, 128)).save(tall)
    record = record_of(blend(wide, tall, trained[0], tmp_path / "s.jpg", steps=3).report)
    told = record["notes"]["Changed"]
    assert "wide.jpg: Only its centre square was taken." in told
    assert any(line.startswith("tall.png: Transparent parts") for line in told)
    assert Image.open(tmp_path / "s.jpg").format == "JPEG"


def test_bad_blends(folder, trained, tmp_path):
    a, b, out = folder / "ad 00.png", folder / "ad 01.png", tmp_path / "strip.png"
    for steps in (2, 34):
        with pytest.raises(ValueError, match="give 3 to 33"):
            blend(a, b, trained[0], out, steps)
    with pytest.raises(OSError, match="missing.png does not exist"):
        blend(a, tmp_path / "missing.png", trained[0], out)
    with pytest.raises(OSError, match="broken.jpg is no picture"):
        blend(folder / "broken.jpg", b, trained[0], out)
    with pytest.raises(OSError, match="is a folder: give the name of a picture file"):
        blend(a, b, trained[0], tmp_path)
    with pytest.raises(ValueError, match=r"must end in .png, .jpg or .jpeg"):
        blend(a, b, trained[0], tmp_path / "strip.gif")
    with pytest.raises(ValueError, match="one of your own pictures and would be lost"):
        blend(a, b, trained[0], folder / ".." / folder.name / "ad 00.png")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="cannot be written"):
        blend(a, b, trained[0], tmp_path / "file" / "strip.png")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file"]


# --- sampling ------------------------------------------------------------------------------------------------------


def test_a_sheet_and_its_numbers(trained, tmp_path):
    outcome = sample(trained[0], tmp_path / "sheet.png", n=10)
    image = Image.open(tmp_path / "sheet.png")
    assert image.size == (4 * 256 + 3 * 10, 3 * 256 + 2 * 10)
    numbers = record_of(outcome.report)["numbers"]
    assert numbers["new"] == 10 - len({*numbers["copies"], *numbers["repetitions"]})
    assert numbers["false_alarms"] == pytest.approx(2 / 21)
    again, other = (record_of(sample(trained[0], tmp_path / "x.png", n=10, seed=s).report)["numbers"] for s in (0, 1))
    assert again == numbers and other != numbers
    sample(trained[0], tmp_path / "same.png", n=10)
    assert (tmp_path / "same.png").read_bytes() == (tmp_path / "sheet.png").read_bytes()


def test_codes_and_prior_draw_from_different_places(trained):
    ours = load(trained[0])
    ours = ours._replace(codes=ours.codes + 7)
    near = creatives.near_codes(ours, 500, torch.Generator().manual_seed(0))
    kept = ours.codes[~ours.held_out]
    assert (near.mean(0) - kept.mean(0)).abs().max() < 4 * kept.std() / 500**0.5 + 0.2
    assert creatives.from_prior(ours, 500, torch.Generator().manual_seed(0)).mean().abs() < 0.05


def test_many_codes_get_a_mixture():
    """Two far clusters: one Gaussian would put half of its draws between them."""
    centre = torch.where(torch.arange(400) % 2 == 0, 5.0, -5.0)[:, None]
    codes = centre + 0.3 * torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    ours = creatives.Creatives(None, None, {}, codes, None, torch.zeros(400, dtype=torch.bool), 1.0)
    drawn = creatives.near_codes(ours, 200, torch.Generator().manual_seed(1))
    assert ((drawn.abs() > 3).all(1)).float().mean() > 0.95


def test_copies_are_framed_and_counted(trained, tmp_path):
    """Training pictures handed back as samples are suspected, all of them; far ones are not."""
    ours = load(trained[0])
    known = ours.thumbnails[~ours.held_out].float()[:5] / 255
    fresh = photos.patches(40, SIZE, seed=77)
    report = creatives.sample_report(ours, torch.cat([known, fresh]), 7, 64, "codes", 0)
    assert set(report.numbers["copies"]) >= {0, 1, 2, 3, 4}
    assert len(report.numbers["copies"]) <= 5 + 0.25 * 40
    frame = np.array(report.picture)[1, 1]
    assert tuple(frame.tolist()) == (217, 144, 47) and "before anyone sees them" in report.action
    twice = creatives.sample_report(ours, torch.cat([fresh[:3], fresh[:3]]), 3, 64, "codes", 0)
    assert set(twice.numbers["repetitions"]) >= {3, 4, 5}


@pytest.mark.parametrize("n", [20, 59, 300])
def test_new_pictures_are_suspected_as_seldom_as_promised(n):
    """Over 200 folders, new pictures lie within the threshold in the promised share, on average."""
    random, promised, found = torch.Generator().manual_seed(n), [], []
    for _ in range(200):
        known = torch.randn(n, 6, generator=random)
        threshold, share = creatives.copy_threshold(known)
        new = torch.randn(200, 6, generator=random)
        promised.append(share)
        found.append(float((torch.cdist(new, known).amin(1) <= threshold).float().mean()))
    assert np.mean(found) == pytest.approx(np.mean(promised), rel=0.2)
    assert max(promised) == pytest.approx(2 / 21 if n == 20 else 0.05, abs=0.02)


def test_a_folder_of_one_motif_saved_again_and_again_gives_nothing_new(trained):
    ours = load(trained[0])
    one = ours.thumbnails[:1].float() / 255
    again = plant_copies(one, 12, seed=1, edits=(resave,))[0]
    motifs, near = creatives.different(thumbprint(again), again)
    assert len(motifs) <= 2 and near > 0
    alike = ours._replace(thumbnails=(again * 255).round().byte(), held_out=torch.zeros(12, dtype=bool))
    report = creatives.sample_report(alike, again[:4], 2, 64, "codes", 0)
    assert report.numbers["copies"] == [0, 1, 2, 3] and "nothing on this sheet can be called new" in report.verdict
    every = ours.thumbnails.float() / 255  # in two encodings each, they are as many motifs as before
    both = torch.cat([every, plant_copies(every, len(every), seed=2, edits=(resave,))[0]])
    assert len(creatives.different(thumbprint(both), both)[0]) <= len(creatives.different(thumbprint(every), every)[0]) + 1


def test_nothing_that_vaelab_did_not_make_is_written_over(trained, tmp_path):
    for name, file in (("mine.png", "mine.png"), ("index.png", "index.html"), ("notes.png", "notes.json")):
        (tmp_path / file).write_bytes(b"mine")
        with pytest.raises(ValueError, match=f"{file} exists already and was not made by vaelab"):
            sample(trained[0], tmp_path / name, n=2)
        assert (tmp_path / file).read_bytes() == b"mine"
    with pytest.raises(ValueError, match="among the model's own files"):
        sample(trained[0], trained[0] / "report.png", n=2)
    sample(trained[0], tmp_path / "sheet.png", n=2)
    first = (tmp_path / "sheet.png").read_bytes()
    sample(trained[0], tmp_path / "sheet.png", n=2, seed=1)  # one's own may be
    assert (tmp_path / "sheet.png").read_bytes() != first


def test_bad_samples(trained, tmp_path):
    for n in (0, 401):
        with pytest.raises(ValueError, match="give 1 to 400"):
            sample(trained[0], tmp_path / "s.png", n=n)
    with pytest.raises(ValueError, match="There is no origin 'space'"):
        sample(trained[0], tmp_path / "s.png", origin="space")
    with pytest.raises(ValueError, match="must end in"):
        sample(trained[0], tmp_path / "sheet")


def test_no_space_left_leaves_the_old_sheet_whole(trained, tmp_path, monkeypatch):
    out = tmp_path / "sheet.png"
    sample(trained[0], out, n=2)
    before = out.read_bytes()

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="sheet.png cannot be written .No space left on device.: check the folder"):
        sample(trained[0], out, n=2, seed=5)
    assert out.read_bytes() == before and len(list(tmp_path.iterdir())) == 3
