"""`vaelab train`, `blend` and `sample` as a practitioner types them: what is printed, what is written, how it ends."""

import inspect
import json
import shlex

import pytest
from PIL import Image

from vaelab import augment, training
from vaelab.cli import main, parser
from vaelab.creatives import to_image
from vaelab.data import photos


@pytest.fixture(autouse=True)
def no_bar(monkeypatch):
    monkeypatch.setenv("VAELAB_PROGRESS", "0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("pictures")
    for i, patch in enumerate(photos.patches(12, 64, seed=1)):
        to_image(patch).save(place / f"ad {i:02}.png")
    return place


@pytest.fixture(scope="module")
def model(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAELAB_PROGRESS", "0")
        assert main(["train", str(folder), "--out", str(out), "--steps", "8", "--size", "32"]) == 0
    return out


def run(capsys, *words):
    """Exit code, and what stood on stdout and stderr."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    return code, *capsys.readouterr()


def test_from_a_folder_to_a_strip_and_a_sheet(folder, model, tmp_path, capsys, monkeypatch):
    """The command that a report offers works as it stands there."""
    monkeypatch.chdir(tmp_path)
    strip = ["blend", folder / "ad 00.png", folder / "ad 01.png", "--model", model, "--steps", 5]
    code, said, errors = run(capsys, *strip)
    assert code == 0 and errors == "" and said.splitlines()[-1] == "Report: strip.html"
    assert said.startswith(json.loads((tmp_path / "strip.json").read_text())["verdict"])
    assert Image.open("strip.png").format == "PNG"
    code, said, errors = run(capsys, "sample", "--model", model, "--n", 4, "--from", "prior", "--out", "s.jpg")
    assert code == 0 and errors == "" and Image.open("s.jpg").format == "JPEG" and "Report: s.html" in said
    numbers = json.loads((tmp_path / "s.json").read_text())["numbers"]
    assert numbers["origin"] == "prior" and numbers["seed"] == 0


def test_the_offered_command_can_be_typed(folder, model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = json.loads((model / "report.json").read_text())
    words = shlex.split(record["command"])
    assert words[0] == "vaelab" and words[1] in ("blend", "train")
    if words[1] == "train":
        words = [*words, "--steps", "2"]
    assert run(capsys, *words[1:])[0] == 0


def test_a_finished_model_says_so(folder, model, capsys):
    code, said, errors = run(capsys, "train", folder, "--out", model, "--size", "32")
    assert code == 0 and "is finished already, and nothing was changed: give another folder" in said and errors == ""


def test_bad_files_are_named_and_make_a_one_of_the_nought(folder, tmp_path, capsys):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for file in folder.iterdir():
        (mixed / file.name).write_bytes(file.read_bytes())
    (mixed / "empty.png").write_bytes(b"")
    (mixed / "logo.svg").write_text("<svg/>")
    code, said, errors = run(capsys, "train", mixed, "--out", tmp_path / "m", "--steps", 2, "--size", 32)
    assert code == 1 and errors == ""
    assert "left out: empty.png is empty (0 bytes): export it again." in said and "left out: logo.svg is SVG" in said


def test_an_interrupt_is_130_and_says_how_to_go_on(folder, tmp_path, capsys, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "update_average", stop)
    code, _, errors = run(capsys, "train", folder, "--out", tmp_path / "m", "--steps", 8, "--size", 32)
    assert code == 130
    assert errors == "vaelab: Stopped. Nothing was trained yet: run the same command again to go on.\n"
    monkeypatch.undo()
    assert run(capsys, "train", folder, "--out", tmp_path / "m", "--steps", 8, "--size", 32)[0] == 0


def test_made_ads_and_their_report(tmp_path, capsys, monkeypatch):
    """A file left out makes a 1; the command that the report offers is this one with another seed and folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(augment, "STEPS", 1)
    (tmp_path / "my ads").mkdir()
    for i, patch in enumerate(photos.patches(44, 32, seed=2)):
        to_image(patch).save(f"my ads/{i}.png")
    rows = "".join(f"{i}.png,{'high' if i < 21 else 'low'}\n" for i in range(45))
    (tmp_path / "labels.csv").write_text("file,label\n" + rows)
    words = ["augment", "my ads", "labels.csv", "--label", "high", "--n", "9", "--size", "32", "--out", "made"]
    words += ["--vae-steps", "1"]
    code, said, errors = run(capsys, *words)
    record = json.loads((tmp_path / "made" / "report.json").read_text())
    assert code == 1 and errors == "" and said.splitlines()[-1] == "Report: made/index.html"
    first, second = said.splitlines()[:2]
    assert first == "44 ads, 21 labelled 'high'; 24 trainings on 3 splits."
    assert second.startswith("left out: 44.png (labels.csv, line 46)")
    assert f"{record['verdict']} {record['action']}" in said and record["settings"]["noise"] == 0.5
    made = sorted(file.name for file in (tmp_path / "made" / "pictures").iterdir())
    assert made == [f"000{i}.png" for i in range(1, 10)] and record["settings"]["vae_steps"] == 1
    assert "Each VAE was trained for 1 steps" in (tmp_path / "made" / "index.html").read_text(encoding="utf-8")
    asked = vars(parser().parse_args(shlex.split(record["command"])[1:]))
    assert asked == vars(parser().parse_args(words)) | {"seed": 1, "out": "made-1"}


def test_the_command_makes_ads_as_the_function_does():
    asked = vars(parser().parse_args(["augment", "a", "l.csv", "--label", "high", "--out", "m"]))
    known = dict(inspect.signature(augment.augment).parameters)
    del known["stop"]  # for a program with a button; at a terminal it is Ctrl-C
    assert {name: asked[name] for name in known if name != "say"} | {"say": print} == {
        "folder": "a", "labels": "l.csv", "label": "high", "out": "m",
        **{name: value.default for name, value in known.items() if value.default is not value.empty},
    }  # fmt: skip


BAD = {
    "no folder": (["train", "{tmp}/none", "--out", "{tmp}/m"], "The folder {tmp}/none does not exist"),
    "a file for a folder": (["train", "{a}", "--out", "{tmp}/m"], "is a file: give the folder that holds the pictures"),
    "no pictures": (["train", "{tmp}/empty", "--out", "{tmp}/m"], "holds no pictures"),
    "an odd size": (["train", "{folder}", "--out", "{tmp}/m", "--size", "50"], "The size is 50"),
    "no time": (["train", "{folder}", "--out", "{tmp}/m", "--minutes", "0"], "Give minutes (or steps) above 0"),
    "out is a file": (["train", "{folder}", "--out", "{a}"], "is a file: give a new folder for the model"),
    "no model": (["blend", "{a}", "{b}", "--model", "{tmp}/none"], "There is no model folder {tmp}/none"),
    "not a model": (["sample", "--model", "{folder}"], "is no model"),
    "no picture": (["blend", "{a}", "{tmp}/none.png", "--model", "{model}"], "none.png does not exist"),
    "steps": (["blend", "{a}", "{b}", "--model", "{model}", "--steps", "2"], "A strip of 2 steps makes no sense"),
    "n": (["sample", "--model", "{model}", "--n", "0"], "A sheet of 0 pictures makes no sense"),
    "out is a folder": (["sample", "--model", "{model}", "--out", "{tmp}"], "is a folder: give the name of a picture"),
    "no labels": (["augment", "{folder}", "{tmp}/l.csv", "--label", "x", "--out", "{tmp}/m"], "labels file {tmp}/l"),
    "made among yours": (["augment", "{folder}", "l", "--label", "x", "--out", "{folder}/m"], "{folder}/m lies inside"),
    "ending": (["sample", "--model", "{model}", "--out", "{tmp}/a.tif"], "must end in .png, .jpg or .jpeg"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_a_two(folder, model, tmp_path, capsys, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    words, sentence = BAD[name]
    places = {"tmp": tmp_path, "folder": folder, "model": model, "a": folder / "ad 00.png", "b": folder / "ad 01.png"}
    code, said, errors = run(capsys, *(word.format(**places) for word in words))
    assert code == 2 and said == ""
    assert errors.startswith("vaelab: ") and errors.count("\n") == 1 and sentence.format(**places) in errors
    assert [file.name for file in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize("words", [["train", "x"], ["blend", "a", "b"], ["sample", "--model", "m", "--from", "space"],
                                   ["augment", "a", "l.csv", "--out", "m"]])
def test_usage_is_a_two(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2 and "usage: vaelab" in capsys.readouterr().err
