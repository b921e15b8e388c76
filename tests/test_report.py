"""A report: one screen, escaped, alone on its page, whole or not there at all."""

import errno
import json
import math
import os
from html.parser import HTMLParser

import pytest
from PIL import Image

from vaelab import report
from vaelab.report import Report, as_json, encode, replace_file
from vaelab.storage import StorageError

NASTY = '<script>alert("ad & co")</script>'


def made(**changes):
    fields = {
        "title": "A model", "verdict": "Composition and colour survive; words do not.", "alt": "Two rows of pictures.",
        "picture": Image.new("RGB", (60, 20), "red"), "caption": "Above and below.", "action": "Try a blend:",
    }  # fmt: skip
    return Report(**fields | changes)


class Page(HTMLParser):
    """Every tag with its attributes, and all text by the tag it stands in."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.inside, self.text = [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        self.text.setdefault(self.inside[-1] if self.inside else "", []).append(data)


def test_the_first_screen_is_verdict_picture_action_in_that_order():
    page = Page(made(command="vaelab blend a b", numbers={"x": ("X", 1.0, "{:.1f}")}).page())
    order = [tag for tag, _ in page.tags if tag in ("h1", "img", "code", "details")]
    assert order == ["h1", "img", "code", "details"]
    assert page.text["h1"] == ["Composition and colour survive; words do not."] and page.inside == []
    assert page.text["code"] == ["vaelab blend a b"] and page.text["td"] == ["X", "1.0"]
    [image] = [attributes for tag, attributes in page.tags if tag == "img"]
    assert image["alt"] == "Two rows of pictures." and image["src"].startswith("data:image/jpeg;base64,")
    assert ("html", {"lang": "en"}) in page.tags


def test_everything_foreign_is_escaped():
    text = made(title=NASTY, verdict=NASTY, alt=NASTY, caption=NASTY, action=NASTY, command=NASTY,
                numbers={"x": (NASTY, NASTY, "{}")}, notes={NASTY: [NASTY]}).page()  # fmt: skip
    page = Page(text)
    assert "script" not in [tag for tag, _ in page.tags] and page.text["h1"] == [NASTY]
    assert page.text["td"] == [NASTY, NASTY] and page.text["li"] == [NASTY] and page.text["summary"][1] == NASTY


def test_the_page_asks_for_nothing():
    text = made(title="x").page()
    sources = [v for _, a in Page(text).tags for name, v in a.items() if name in ("src", "href")]
    assert all(source.startswith("data:") for source in sources)
    assert "url(" not in text and "@import" not in text and "http" not in text


def test_a_verdict_is_short_and_a_picture_has_its_words():
    made(verdict="word " * 25)
    with pytest.raises(ValueError, match="at most 25 words"):
        made(verdict="word " * 26)
    with pytest.raises(ValueError, match="alt text"):
        made(alt=" ")


def test_a_name_that_is_no_text_can_be_written(tmp_path):
    made(title="ad-\udcff.png", notes={"Left out": ["ad-\udcff.png is empty."]}).write(tmp_path / "a.html")
    assert "ad-?.png" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_numbers_stand_in_the_json_and_only_named_ones_on_the_page(tmp_path):
    numbers = {"psnr": ("Fidelity", 21.25, "{:.1f} dB"), "curve": [1.0, math.nan], "step": math.inf}
    path = made(numbers=numbers, notes={"Changed": ["a.png: x."], "Nothing": []}).write(tmp_path / "strip.html")
    record = json.loads((tmp_path / "strip.json").read_text(encoding="utf-8"))
    assert record["numbers"] == {"psnr": 21.25, "curve": [1.0, None], "step": None}
    assert record["verdict"] == made().verdict and record["notes"]["Changed"] == ["a.png: x."]
    page = Page(path.read_text(encoding="utf-8"))
    assert page.text["td"] == ["Fidelity", "21.2 dB"] and page.text["summary"] == ["The numbers", "Changed"]


def test_json_is_the_same_whatever_the_order():
    assert as_json({"b": 1, "a": 2}) == as_json({"a": 2, "b": 1})


def test_pictures_are_encoded_as_they_are(tmp_path):
    image = Image.new("RGB", (8, 8), (10, 200, 30))
    for kind, off in (("png", 0), ("jpeg", 3)):
        (tmp_path / "a").write_bytes(encode(image, kind))
        read = Image.open(tmp_path / "a")
        assert read.format == kind.upper()
        assert max(abs(a - b) for a, b in zip(read.getpixel((3, 3)), (10, 200, 30), strict=True)) <= off


def test_no_space_left_leaves_the_old_file_whole_and_nothing_beside(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    replace_file(path, b"old")

    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(report.Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"report.html cannot be written \(No space left on device\): check"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old" and [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be written"):
        replace_file(tmp_path / "file" / "report.html", b"new")
