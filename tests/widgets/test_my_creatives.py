"""My creatives, driven as a reader does: files in, buttons pressed, sentences and reports out, never a traceback."""

import csv
import datetime
import html
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

import vaelab.widgets.creatives as app_module
from vaelab import augment, augmentation, creatives, training
from vaelab.creatives import to_image
from vaelab.data import ads, photos
from vaelab.report import encode
from vaelab.widgets.creatives import MyCreatives


@pytest.fixture(scope="module", autouse=True)
def notebook():
    """As in a notebook: there an Output widget would swallow what goes wrong."""
    from IPython.core.interactiveshell import InteractiveShell

    is_mine = not InteractiveShell.initialized()
    InteractiveShell.instance()
    yield
    if is_mine:
        InteractiveShell.clear_instance()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("VAELAB_PROGRESS", "0")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def pictures():
    return photos.patches(12, 64, seed=1)


@pytest.fixture
def folder(tmp_path, pictures):
    place = tmp_path / "campaign"
    place.mkdir()
    for i, picture in enumerate(pictures):
        to_image(picture).save(place / f"ad {i:02}.png")
    return place


@pytest.fixture
def app(folder, monkeypatch):
    """The app with its folder chosen; a training takes a few steps."""
    monkeypatch.setattr(creatives, "affordable", lambda *arguments: 6)
    app = MyCreatives()
    app.size.options, app.size.value = [32, 64], 32
    app.folder.value = str(folder)
    return app


def said(app):
    return html.unescape(app.said.value.removeprefix('<p role="status"><b>').removesuffix("</b></p>"))


def press_train(app):
    app.buttons["Train"].click()
    app.worker.join(timeout=60)
    assert not app.worker.is_alive() and app.stop.disabled


def test_the_whole_way(app, folder):
    assert said(app) == f"12 pictures in {folder}. Next: train."
    assert app.folder.layout.display != "none" and app.bar.layout.display == "none"
    assert (app.a.label, app.b.label) == ("ad 00.png", "ad 01.png")
    press_train(app)
    assert "With 12 pictures, results stay close to them" in said(app) and (folder.parent / "my-model").is_dir()
    report = (folder.parent / "my-model" / "report.html").read_text()
    assert f'srcdoc="{html.escape(report)}"' in app.shown.value and 'title="report"' in app.shown.value
    app.b.value = str(folder / "ad 07.png")
    app.buttons["Blend"].click()
    assert "From ad 00.png to ad 07.png in 9 steps" in app.shown.value
    app.n.value, app.origin.value = 4, "prior"
    app.buttons["Sample"].click()
    assert "of 4 are new" in said(app)
    assert Image.open("my-model-sheet.png").size == (2 * 256 + 10, 2 * 256 + 10)
    press_train(app)
    assert "is finished already" in said(app)


def test_the_buttons_make_what_the_commands_make(app, folder, tmp_path):
    press_train(app)
    creatives.train(folder, tmp_path / "other", size=32, steps=6, say=lambda sentence: None)
    a, b = (creatives.load(tmp_path / name).model.state_dict() for name in ("my-model", "other"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    app.buttons["Blend"].click()
    creatives.blend(app.a.value, app.b.value, "other", "other.png")
    assert (tmp_path / "my-model-strip.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_uploads_land_in_a_folder_of_their_own(app, pictures, tmp_path):
    names = ["../sneaky.png", "C:\\photos\\b.png", "c.png"]
    app.upload.value = tuple(
        {"name": name, "type": "image/png", "size": 1, "content": memoryview(encode(to_image(p), "png")),
         "last_modified": datetime.datetime(2024, 1, 1)}
        for name, p in zip(names, pictures, strict=False)
    )  # fmt: skip
    assert sorted(file.name for file in (tmp_path / "my-pictures").iterdir()) == ["b.png", "c.png", "sneaky.png"]
    assert app.folder.value == "my-pictures" and said(app) == "3 pictures in my-pictures. Next: train."
    assert not (tmp_path / "sneaky.png").exists()
    press_train(app)
    assert "3 different pictures that can be used: 8 are needed" in said(app)


def test_previews_show_the_chosen_pictures(app, folder):
    app.a.value = str(folder / "ad 05.png")
    expected = to_image(creatives.read_square(folder / "ad 05.png", 160)[0])
    assert app.previews[app.a].value == encode(expected, "png") and app.previews[app.a].layout.display == ""


def test_troubles_are_sentences(app, folder, tmp_path, monkeypatch):
    app.buttons["Blend"].click()
    assert said(app).startswith("There is no model folder my-model")
    app.folder.value = str(tmp_path / "<none>")
    assert said(app) == f"There are no pictures in {tmp_path / '<none>'}." and "<none>" not in app.said.value
    press_train(app)
    assert "does not exist: check the path" in said(app)
    app.buttons["Blend"].click()
    assert said(app).startswith("There are no pictures to choose from")
    app.folder.value = " "
    press_train(app)
    assert said(app).startswith("There are no pictures yet")
    (folder / "ad 00.png").write_bytes(b"broken")
    app.folder.value = str(folder)
    app.a.value = str(folder / "ad 01.png")
    app.a.value = str(folder / "ad 00.png")
    assert "ad 00.png is no picture" in said(app)
    monkeypatch.setattr(creatives, "sample", lambda *arguments: 1 / 0)
    app.buttons["Sample"].click()
    assert "should not (ZeroDivisionError" in said(app)
    assert not any(button.disabled for button in app.buttons.values())


def test_an_interrupt_is_a_sentence_and_the_next_press_goes_on(app, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(training, "update_average", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        press_train(app)
        assert said(app).startswith("Stopped.") and "again to go on" in said(app)
    press_train(app)
    assert "results stay close" in said(app)


def test_stop_ends_the_training_between_two_steps_and_the_next_press_goes_on(app, monkeypatch, folder):
    steps, real = [], training.update_average

    def stopping_after_three(*arguments):
        real(*arguments)
        steps.append(1)
        if len(steps) == 3:
            assert not app.stop.disabled and app.buttons["Train"].disabled
            assert app.bar.value == pytest.approx(2 / 6) and app.bar.description == "33%"
            app.stop.click()

    monkeypatch.setattr(training, "update_average", stopping_after_three)
    press_train(app)
    assert said(app).startswith("Stopped. What was trained is kept") and len(steps) == 3
    assert not (folder.parent / "my-model" / "model.safetensors").exists()
    press_train(app)
    assert "results stay close" in said(app) and len(steps) <= 3 + 6


def test_what_a_cell_shows_is_the_same_every_time():
    first, second = (MyCreatives()._repr_mimebundle_() for _ in range(2))
    assert first["text/plain"] == second["text/plain"] == "MyCreatives()" == repr(MyCreatives())
    assert "application/vnd.jupyter.widget-view+json" in first


@pytest.fixture
def labelled(tmp_path, monkeypatch):
    """An app whose folder holds sixty ads, every other one labelled high; its trainings take two steps."""
    monkeypatch.setattr(augment, "STEPS", 2)
    monkeypatch.setattr(augment, "augment", partial(augment.augment, size=32, vae_steps=2))
    folder = tmp_path / "ads"
    folder.mkdir()
    for i, picture in enumerate(ads.render(ads.sample_factors(60, seed=1), 32)):
        to_image(picture).save(folder / f"{i:02}.png")
    rows = "".join(f"{i:02}.png,{('low', 'high')[i % 2]}\n" for i in range(60))
    (tmp_path / "labels.csv").write_text("file,label\n" + rows)
    app = MyCreatives()
    app.folder.value, app.labels.value, app.count.value = str(folder), str(tmp_path / "labels.csv"), 60
    return app


def press_augment(app):
    app.buttons["Augment"].click()
    app.worker.join(timeout=60)
    assert not app.worker.is_alive() and app.stop.disabled and not app.buttons["Augment"].disabled


def test_made_ads_and_their_review(labelled, tmp_path):
    press_augment(labelled)
    made = tmp_path / "my-made-ads"
    assert len(list((made / "pictures").glob("*.png"))) == 60 and "PR-AUC" in said(labelled)
    shown = html.unescape(labelled.shown.value)
    assert "<style>" in shown and 'src="data:image/png;base64,' in shown and "style.css" not in shown
    labelled.buttons["Review"].click()
    (tool,) = labelled.review_box.children
    assert said(labelled).startswith("40 made ads, spread over all") and labelled.shown.value == ""
    assert tool.names[:4] == ["0001.png", "0002.png", "0004.png", "0005.png"]  # two of every three
    tool.decide("0004.png", "accept")
    labelled.buttons["Review"].click()  # goes on
    assert labelled.review_box.children[0].decisions["0004.png"]["verdict"] == "accept"


def test_a_review_shows_each_made_ad_beside_its_source(labelled, tmp_path, monkeypatch):
    press_augment(labelled)
    monkeypatch.setattr(app_module, "Review", lambda *given: given)
    made, _, sources, names = app_module.review("my-made-ads", tmp_path / "ads")
    with open("my-made-ads/provenance.csv", newline="") as lines:
        source = {row["file"]: row["source"] for row in csv.DictReader(lines)}
    for name, one, other in zip(names, made, sources, strict=True):
        for path, picture in ((f"my-made-ads/pictures/{name}", one), (tmp_path / "ads" / source[name], other)):
            assert np.array_equal(np.asarray(Image.open(path)), (255 * picture).round().byte().permute(1, 2, 0))


def test_stop_ends_the_making_after_a_training_and_the_next_press_goes_on(labelled, monkeypatch):
    runs, real = [], augmentation.Experiment.run

    def stopping_after_three(self, arm):
        runs.append(arm.name)
        if len(runs) == 3:
            assert not labelled.stop.disabled and labelled.bar.value == pytest.approx(2 / 24)
            labelled.stop.click()
        return real(self, arm)

    monkeypatch.setattr(augmentation.Experiment, "run", stopping_after_three)
    press_augment(labelled)
    assert said(labelled).startswith("Stopped. 3 of 24 trainings are done") and len(runs) == 3
    press_augment(labelled)
    assert "PR-AUC" in said(labelled) and len(runs) == 24


def test_troubles_of_making_more_are_sentences(labelled):
    labelled.buttons["Review"].click()
    assert said(labelled).startswith("There are no made ads in my-made-ads")
    labelled.label.value = "hihg"
    press_augment(labelled)
    assert "'hihg'" in said(labelled) and "'high' (30)" in said(labelled)
    labelled.labels.value = " "
    press_augment(labelled)
    assert said(labelled).startswith("There are no labels yet")
    labelled.folder.value = ""
    press_augment(labelled)
    assert said(labelled).startswith("There are no pictures yet")
