"""`vaelab check` and the `vaelab` command: every trouble ends in one line that says what to do."""

import os
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from vaelab import __version__, check, cli


def test_lines_of_a_sound_machine(capsys, monkeypatch):
    monkeypatch.setattr(check, "browser", lambda: None)
    assert check.report(seconds=0.1) == 0  # a missing browser is no failure
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("OK  ", "--  ")) for line in lines)
    [browser] = [line for line in lines if "browser" in line]
    assert browser.startswith("--") and "apt install chromium" in browser
    assert any("training: loss" in line and line.startswith("OK") for line in lines)


def test_something_needed_is_missing(capsys, monkeypatch):
    found = [check.Line(True, "a"), check.Line(False, "b: get b", needed=True), check.Line(False, "c: get c")]
    monkeypatch.setattr(check, "findings", lambda seconds: iter(found))
    assert check.report() == 1
    assert capsys.readouterr().out == "OK  a\n--  b: get b\n--  c: get c\n"


def test_training_line_reports_a_loss_that_does_not_fall(monkeypatch):
    from vaelab.training import History

    monkeypatch.setattr("vaelab.training.fit", lambda *a, **k: History([{"loss": 5.0}, {"loss": 5.0}]))
    line = check.training(0.1)
    assert not line.ok and line.needed and "should fall" in line.text


@pytest.mark.parametrize(
    ("text", "words"), [("numpy>=99", "wanted: >=99"), ("no-such-package-here>=1", "missing (wanted: >=1)")]
)
def test_wrong_and_missing_packages_are_named(text, words):
    line = check.compared(
        "the library", [Requirement("torch>=2"), Requirement(text)], "pip install x", needed=True
    )
    assert not line.ok and words in line.text and "pip install x" in line.text and "torch" not in line.text


def test_python_and_disk(monkeypatch):
    monkeypatch.setattr(check.sys, "version_info", (3, 9, 1))
    assert not check.python_version().ok and "3.11" in check.python_version().text
    assert check.disk(needed_mb=1).ok
    assert not check.disk(needed_mb=10**12).ok and "make room" in check.disk(needed_mb=10**12).text


def test_more_threads_than_cores(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 4096)
    assert not check.threads().ok and "OMP_NUM_THREADS=" in check.threads().text


def test_pictures_are_pictures():
    pictures = check.pictures(64)
    assert pictures.shape == (64, 3, 32, 32) and 0 <= pictures.min() and pictures.max() == 1
    assert (pictures == check.pictures(64)).all()
    background = (pictures == 1).all(dim=1).float().mean().item()
    assert background == pytest.approx(1 - 113 / 1024, abs=0.01)  # a disc of radius 6 covers 113 of 1024


def test_a_browser_on_the_path_is_found(tmp_path, monkeypatch):
    name = tmp_path / "google-chrome"
    name.write_text("#!/bin/sh\n")
    name.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check.browser() == str(name)


def raising(error):
    def run(arguments):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("The picture\n a.png is empty."), 2, "vaelab: The picture a.png is empty.\n"),
        (FileNotFoundError("no folder x"), 2, "vaelab: no folder x\n"),
        (KeyboardInterrupt(), 130, ""),
        (ModuleNotFoundError("No module named 'sklearn.svm'", name="sklearn.svm"), 2,
         "vaelab: `check` needs scikit-learn; install it with: pip install 'vaelab[tools]'\n"),
        (ImportError("Reading photos needs scikit-image: install it with `pip install scikit-image`."), 2,
         "vaelab: Reading photos needs scikit-image: install it with `pip install scikit-image`.\n"),
    ],
)  # fmt: skip
def test_troubles_become_one_line(monkeypatch, capsys, error, code, said):
    monkeypatch.setattr(cli, "check", raising(error))
    assert cli.main(["check"]) == code
    assert capsys.readouterr().err == said


def test_our_own_bugs_stay_loud(monkeypatch):
    monkeypatch.setattr(cli, "check", raising(ModuleNotFoundError("no vaelab.x", name="vaelab.x")))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["check"])


def test_version_and_usage():
    def vaelab(*words):
        command = [sys.executable, "-m", "vaelab.cli", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)

    assert vaelab("--version").stdout == f"vaelab {__version__}\n"
    assert vaelab().returncode == 2 and "COMMAND" in vaelab().stderr
    assert vaelab("no-such-command").returncode == 2
