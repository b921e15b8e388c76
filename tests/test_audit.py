"""A folder of creatives through a VAE and back: what is measured, said and written, and every bad input."""

import io
import json
import os
import re
from collections import namedtuple
from html.parser import HTMLParser
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from vaelab import audit as module
from vaelab import fidelity, legibility, pretrained
from vaelab.audit import KINDS, PER_PAGE, audit, badness, crop_box, judged, small_jpeg, verdict, write_lists
from vaelab.autoencoder_kl import AutoencoderKL
from vaelab.cli import main
from vaelab.creatives import Interrupted, to_image
from vaelab.data import photos
from vaelab.data.pictures import read_picture
from vaelab.legibility import Word


@pytest.fixture(autouse=True)
def no_bar(monkeypatch):
    monkeypatch.setenv("VAELAB_PROGRESS", "0")


def quiet(sentence):
    pass


def save_vae(place, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = AutoencoderKL(block_out_channels=(4, 8, 8), norm_num_groups=4, mid_block_add_attention=False)
    vae.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    """A VAE of random weights, factor 4: nothing survives it."""
    return save_vae(tmp_path_factory.mktemp("vaes") / "random")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three patches of real photographs."""
    place = tmp_path_factory.mktemp("campaign & co")
    for i, patch in enumerate(photos.patches(3, 80, seed=1)):
        to_image(patch).save(place / f"ad {i}.png")
    return place


@pytest.fixture(scope="module")
def done(folder, vae, tmp_path_factory):
    """A finished report without words."""
    out = tmp_path_factory.mktemp("reports") / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAELAB_PROGRESS", "0")
        return out, audit(folder, out, vae, ocr=False, say=quiet)


def record_of(out):
    """The report's JSON, without how long it took."""
    whole = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    if whole["finished"]:
        assert whole.pop("seconds_per_megapixel") > 0 and all(picture.pop("seconds") >= 0 for picture in whole["pictures"])
    return whole


def pictures_of(out):
    return {picture["file"]: picture for picture in record_of(out)["pictures"]}


class Same(torch.nn.Module):
    """A VAE that keeps everything, or what `change` leaves of it."""

    factor, config, change = 4, {"latent_channels": 48}, staticmethod(lambda x: x)
    source = namedtuple("Source", "name sha256")("same", "0" * 64)

    def reconstruct(self, x, tile=None, overlap=None):
        return self.change(x)


class Fake:
    """A reader that sees SALE in every picture that is not flat, and nothing in any other."""

    def read(self, picture):
        return [Word("SALE", (10, 10, 12, 40), 0.9)] if picture.std() > 0.01 else []


def use(monkeypatch, change=lambda x: x, reader=Fake):
    model = Same()
    model.change = change
    monkeypatch.setattr(pretrained, "load", lambda *_: model)
    monkeypatch.setattr(legibility, "Reader", reader)


# --- what is measured ----------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_round_trip(folder, vae, done):
    out, outcome = done
    model, pictures = AutoencoderKL.from_pretrained(vae), pictures_of(out)
    assert sorted(pictures) == ["ad 0.png", "ad 1.png", "ad 2.png"] and outcome.problems == ()
    for name, record in pictures.items():
        x = torch.from_numpy(np.array(read_picture(folder / name))).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            y = model.reconstruct(x).clamp(0, 1)
        assert record["psnr"] == pytest.approx(float(fidelity.psnr(x, y)), abs=1e-3)
        assert record["ssim"] == pytest.approx(float(fidelity.ssim(x, y)), abs=1e-4)
        assert record["colour_shift"] == pytest.approx(float(fidelity.colour_shift(x, y)), abs=1e-3)
        expected = {s.region.box: s for s in fidelity.score_regions(x[0], y[0], fidelity.regions(x[0]))}
        assert len(expected) == len(record["regions"]) > 0
        for region in record["regions"]:
            score = expected[tuple(region["box"])]
            assert (region["kind"], region["read"]) == (score.region.kind, None)
            assert region["colour"] == pytest.approx(score.colour, abs=1e-3)


def test_the_json_says_what_made_it(done, vae):
    whole, sha = record_of(done[0]), pretrained.load(vae).source.sha256
    assert whole["made_by"] == "vaelab" and whole["finished"] is True and whole["vaelab"]
    size = sum(weight.numel() for weight in pretrained.load(vae).parameters()) * 4 / 1e6
    facts = {"name": str(vae), "sha256": sha, "shipped": False, "factor": 4, "latent_channels": 4, "megabytes": size}
    assert whole["vae"] == facts
    assert whole["mean_psnr"] == pytest.approx(np.mean([picture["psnr"] for picture in whole["pictures"]]))
    assert whole["settings"] == {"ocr": False, "whole": 128, "tile": 96, "overlap": 16}
    assert whole["thresholds"]["flat"] == ["colour", 2, 5] and whole["left_out"] == []


def test_a_large_picture_is_measured_in_strips(monkeypatch):
    """PSNR stays exact; the others are means over strips, the same for a picture that repeats itself."""
    x = photos.patches(1, 64, seed=3)
    y = (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    one = module.compare(x, y)
    monkeypatch.setattr(module, "BLOCK", 64 * 64)
    four = module.compare(x.repeat(1, 1, 4, 1), y.repeat(1, 1, 4, 1))
    for name in ("psnr", "ssim", "colour_shift"):
        assert four[name] == pytest.approx(one[name], abs=1e-4)
    assert four["detail_kept"] == pytest.approx(one["detail_kept"], abs=1e-4, nan_ok=True)


def test_large_pictures_go_through_in_tiles(folder, vae, done, tmp_path, monkeypatch):
    assert not any(picture["tiled"] for picture in pictures_of(done[0]).values())
    for name, value in {"WHOLE": 15, "TILE": 12, "OVERLAP": 4}.items():  # 60, 48 and 16 pixels of 80
        monkeypatch.setattr(module, name, value)
    audit(folder, tmp_path / "r", vae, ocr=False, say=quiet)
    record = pictures_of(tmp_path / "r")["ad 0.png"]
    x = torch.from_numpy(np.array(read_picture(folder / "ad 0.png"))).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        y = AutoencoderKL.from_pretrained(vae).reconstruct(x, 48, 16).clamp(0, 1)
    assert record["tiled"] and record["psnr"] == pytest.approx(float(fidelity.psnr(x, y)), abs=1e-3)
    assert record["psnr"] != pytest.approx(pictures_of(done[0])["ad 0.png"]["psnr"], abs=1e-4)
    assert "Pictures of more pixels than 60 × 60 go through in overlapping tiles" in (tmp_path / "r/index.html").read_text()


def test_the_shipped_vae_is_the_default_and_is_named(folder, tmp_path):
    if pretrained.DEFAULT not in pretrained.shipped():
        pytest.skip("no VAE ships yet")
    audit(folder, tmp_path / "r", ocr=False, say=quiet)
    assert record_of(tmp_path / "r")["vae"]["name"] == pretrained.DEFAULT
    assert "It is the small VAE that ships with vaelab; your generator has another one" in (tmp_path / "r/index.html").read_text()


def test_real_words_are_read_before_and_after(tmp_path, monkeypatch):
    pytest.importorskip("rapidocr")
    model = Same()
    model.change = lambda x: x.mean((2, 3), keepdim=True).expand_as(x)
    monkeypatch.setattr(pretrained, "load", lambda *_: model)
    to_image(legibility.lettering(("SUMMER SALE",), 24)).save(tmp_path / "a.png")
    outcome = audit(tmp_path, tmp_path / "r", say=quiet)
    (text,) = (r for r in pictures_of(tmp_path / "r")["a.png"]["regions"] if r["kind"] == "text")
    assert "SUMMER" in text["text"] and (text["read"], text["legible"], text["label"]) == ("", 0, "lost")
    assert "text is lost" in outcome.sentence.lower()


# --- what is said --------------------------------------------------------------------------------------------------


def region(kind, state=0, value=None, height=20):
    blank = dict.fromkeys(("psnr", "detail", "colour", "read", "legible"), None)
    return {"kind": kind, "box": [0, 0, height, 30], "text": "SALE", "state": state, "loss": value, "label": "", **blank}


@pytest.mark.parametrize(
    ("kind", "values"),
    [("text", (0.96, 0.8, 0.69)), ("face", (0.81, 0.6, 0.49)), ("edges", (0.81, 0.6, 0.49)),
     ("texture", (0.81, 0.6, 0.49)), ("flat", (1.9, 3.0, 5.1))],
)  # fmt: skip
def test_numbers_become_words_at_the_thresholds(kind, values):
    states = [judged(region(kind) | {KINDS[kind].measure: value}) for value in values]
    assert [r["state"] for r in states] == [0, 1, 2] and [r["label"] for r in states] == ["kept", "changed", "lost"]
    assert judged(region(kind))["state"] == 0  # what could not be measured is not called lost
    assert sorted(states, key=badness) == states


def test_lost_words_come_before_lost_texture_and_both_before_changed_words():
    ranked = [region("text", 2, 0, 30), region("text", 2, 0, 12), region("texture", 2, 0), region("text", 1, 0), region("flat", 0)]
    assert sorted([ranked[i] for i in (3, 0, 4, 2, 1)], key=badness, reverse=True) == ranked


def test_the_verdict_counts_pictures_that_have_such_regions():
    records = [{"regions": [region("text", 2), region("text", 0), region("flat")]}, {"regions": [region("text", 1)]},
               {"regions": [region("face", 1)]}, {"regions": []}]  # fmt: skip
    words, advice = verdict(records, True)
    assert words == "Small text is lost in 1 of 2 pictures; faces lose some detail; flat colours are safe."
    assert advice == "Set text and logos as live type over the finished picture; do not let a generator redraw them."
    assert verdict([{"regions": [region("text", 2, height=60)]}] * 3, True)[0] == "Text is lost in all 3 pictures."
    assert verdict([{"regions": [region("text", 2, height=60)]}] * 2, True)[0] == "Text is lost in both pictures."
    assert verdict([{"regions": []}], False)[0] == "Text was not looked at."
    assert verdict([{"regions": []}], True)[0] == "Nothing was found that could be judged."


def test_a_vae_that_keeps_everything_is_not_blamed(folder, tmp_path, monkeypatch):
    use(monkeypatch)
    outcome = audit(folder, tmp_path / "r", say=quiet)
    assert all(r["state"] == 0 for p in pictures_of(tmp_path / "r").values() for r in p["regions"])
    assert outcome.sentence.startswith("Text stays readable") and "Nothing is lost that this measure can see" in outcome.sentence
    assert "lost in" not in outcome.sentence
    reads = [r["read"] for p in pictures_of(tmp_path / "r").values() for r in p["regions"] if r["kind"] == "text"]
    assert reads == ["SALE"] * 3


def test_worst_pictures_come_first_with_their_worst_region(folder, tmp_path, monkeypatch):
    """Of three pictures one is wiped out: it is the first, and its card says so."""
    wiped = torch.from_numpy(np.array(read_picture(folder / "ad 1.png"))).permute(2, 0, 1)[None] / 255
    use(monkeypatch, lambda x: torch.full_like(x, 0.5) if torch.equal(x, wiped) else x)
    audit(folder, tmp_path / "r", say=quiet)
    text = (tmp_path / "r/index.html").read_text()
    assert re.findall(r"<b>(.*?\.png)</b>", text)[0] == "ad 1.png" and record_of(tmp_path / "r")["pictures"][0]["file"] == "ad 1.png"
    assert "“SALE”, a line 12 pixels high: after the VAE the reader sees nothing." in text
    assert text.index("<h1>Small text is lost in 1 of 3 pictures") < text.index("<li>")


def test_the_cost_of_reading_is_said_before_it_starts(folder, tmp_path, monkeypatch):
    use(monkeypatch)
    said = []
    monkeypatch.setattr(module, "one", lambda *_: pytest.fail(f"started with {said}") if len(said) < 2 else {"a": 0})
    monkeypatch.setattr(module, "write_report", lambda *_: None)
    audit(folder, tmp_path / "r", say=said.append)
    assert said == ["Reading words takes about 1 s a picture; --no-ocr leaves it out.", "3 pictures through same."]
    audit(folder, tmp_path / "r", ocr=False, say=said.append)
    assert said[2:] == ["3 pictures through same."]


def test_without_rapidocr_it_goes_on_and_says_so(folder, tmp_path, monkeypatch):
    def missing():
        raise ModuleNotFoundError("No module named 'rapidocr'", name="rapidocr")

    use(monkeypatch, reader=missing)
    said = []
    outcome = audit(folder, tmp_path / "r", say=said.append)
    assert "rapidocr is not installed; install it with: pip install 'vaelab[ocr]'" in said[0]
    assert outcome.sentence.startswith("Text was not looked at;") and record_of(tmp_path / "r")["settings"]["ocr"] is False


def test_a_speck_taken_for_a_letter_is_no_text(folder, tmp_path, monkeypatch):
    use(monkeypatch, reader=lambda: SimpleNamespace(read=lambda picture: [Word("i.", (10, 10, 12, 40), 0.9)]))
    audit(folder, tmp_path / "r", say=quiet)
    assert not any(r["kind"] == "text" for p in pictures_of(tmp_path / "r").values() for r in p["regions"])


# --- going on ------------------------------------------------------------------------------------------------------


def counted(monkeypatch):
    seen, real = [], module.round_trip
    monkeypatch.setattr(module, "round_trip", lambda model, x: (seen.append(x), real(model, x))[1])
    return seen


@pytest.fixture
def mine(folder, vae, tmp_path):
    """A folder and a finished report on it that a test may change."""
    place = tmp_path / "ads"
    place.mkdir()
    for file in folder.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    audit(place, tmp_path / "r", vae, ocr=False, say=quiet)
    return place, tmp_path / "r"


def test_a_second_run_does_only_what_is_missing(mine, vae, monkeypatch):
    (place, out), seen, said = mine, counted(monkeypatch), []
    before = record_of(out)
    audit(place, out, vae, ocr=False, say=said.append)
    assert seen == [] and record_of(out) == before and said == [f"3 pictures through {vae}, 3 of them done before."]
    to_image(photos.patches(5, 80, seed=1)[4]).save(place / "new.png")
    audit(place, out, vae, ocr=False, say=quiet)
    assert len(seen) == 1 and len(record_of(out)["pictures"]) == 4


def test_a_changed_file_vae_or_setting_is_done_again(mine, vae, tmp_path, monkeypatch):
    (place, out), seen = mine, counted(monkeypatch)
    before, times = pictures_of(out), (place / "ad 1.png").stat()
    to_image(photos.patches(5, 80, seed=1)[4]).save(place / "ad 1.png")
    os.utime(place / "ad 1.png", ns=(times.st_atime_ns, times.st_mtime_ns))  # a copy that keeps the date
    audit(place, out, vae, ocr=False, say=quiet)
    assert len(seen) == 1 and pictures_of(out)["ad 1.png"]["psnr"] != before["ad 1.png"]["psnr"]
    audit(place, out, save_vae(tmp_path / "other", seed=1), ocr=False, say=quiet)
    assert len(seen) == 4
    monkeypatch.setattr(legibility, "Reader", Fake)
    audit(place, out, tmp_path / "other", say=quiet)
    assert len(seen) == 7


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mark": ""}'])
def test_a_damaged_record_is_done_again(mine, vae, monkeypatch, text):
    (place, out), seen = mine, counted(monkeypatch)
    before = record_of(out)
    (module.place(out, "ad 0.png") / "picture.json").write_text(text)
    audit(place, out, vae, ocr=False, say=quiet)
    assert len(seen) == 1 and record_of(out) == before


def test_stopped_and_gone_on_with_is_the_report_in_one_go(folder, vae, done, tmp_path, monkeypatch, capsys):
    real, calls, out = module.write_picture, [], tmp_path / "r"

    def stop(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(module, "write_picture", stop)
    with pytest.raises(Interrupted, match="Stopped. 2 of 3 pictures are done and kept in .*: run the same command again"):
        audit(folder, out, vae, ocr=False, say=quiet)
    assert record_of(out) == {"made_by": "vaelab", "finished": False} and not (out / "index.html").exists()
    assert len(list(out.rglob("picture.json"))) == 2
    calls[:] = [1] * 2
    assert main(["audit", str(folder), "--out", str(out), "--vae", str(vae), "--no-ocr"]) == 130
    assert capsys.readouterr().err.startswith("vaelab: Stopped. 2 of 3 pictures are done and kept in ")
    audit(folder, out, vae, ocr=False, say=quiet)
    assert len(calls) == 4 and record_of(out) == record_of(done[0])
    assert not list(out.rglob("*.tmp"))


# --- where it is written -------------------------------------------------------------------------------------------


def test_nothing_that_vaelab_did_not_make_is_written_into(folder, vae, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other things than a report of vaelab: give a new folder"):
        audit(folder, tmp_path, vae, ocr=False, say=quiet)
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(ValueError, match="holds other things than a report"):
        audit(folder, tmp_path, vae, ocr=False, say=quiet)
    with pytest.raises(OSError, match="cannot be written .*: check the folder"):
        audit(folder, tmp_path / "notes.txt", vae, ocr=False, say=quiet)
    with pytest.raises(ValueError, match="holds other things than a report"):
        audit(folder, folder, vae, ocr=False, say=quiet)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["audit.json", "notes.txt"]
    assert (tmp_path / "audit.json").read_text() == "{}"


def test_a_report_among_the_pictures_is_not_measured_itself(mine, vae):
    place, _ = mine
    for _ in range(2):
        audit(place, place / "report", vae, ocr=False, say=quiet)
        assert len(record_of(place / "report")["pictures"]) == 3 and record_of(place / "report")["passed_over"] == []
    with pytest.raises(ValueError, match="holds no pictures but those of a report"):
        audit(place / "report", place / "report", vae, ocr=False, say=quiet)


# --- the pages -----------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


NAMES = ["<script>alert(1)<.png", "\"double\" & 'single'.png", "Grüße #1?50%.png", " two  spaces .png", "{braces}.png", "a.b.png"]


def test_pages_hold_together_whatever_the_names(folder, tmp_path, monkeypatch):
    use(monkeypatch, lambda x: 1 - x)
    (tmp_path / "ads/sub").mkdir(parents=True)
    for name in [*NAMES, f"sub/{NAMES[0]}"]:
        (tmp_path / "ads" / name).write_bytes((folder / "ad 1.png").read_bytes())
    audit(tmp_path / "ads", tmp_path / "r", say=quiet)
    pages = list((tmp_path / "r").rglob("*.html"))
    assert len(pages) == len(NAMES) + 2
    images = 0
    for page in pages:
        for tag, attributes in Tags(page.read_text(encoding="utf-8")).found:
            assert tag not in ("script", "iframe", "base") and not any(name.startswith("on") for name in attributes)
            images += tag == "img"
            assert tag != "img" or attributes["alt"].strip()
            link = attributes.get("src") or attributes.get("href") or ""
            assert ":" not in link and not link.startswith("/")  # nothing is fetched from elsewhere
            if link.startswith("#"):
                assert f'id="{link[1:]}"' in page.read_text()
            elif link:
                assert (page.parent / unquote(link)).is_file(), link
    assert images > 10 * len(NAMES)
    index = (tmp_path / "r/index.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;.png" in index and "Grüße #1?50%.png" in index and "{braces}.png" in index
    assert sorted(pictures_of(tmp_path / "r")) == sorted([*NAMES, f"sub/{NAMES[0]}"])


def test_a_page_shows_before_after_the_errors_and_crops_at_full_size(folder, done):
    out, _ = done
    here, picture = module.place(out, "ad 2.png"), pictures_of(out)["ad 2.png"]
    original = np.array(read_picture(folder / "ad 2.png"))
    for i, region in enumerate(picture["regions"][: module.SHOWN], 1):
        left, top, right, bottom = region["crop"]
        before, after = (np.array(Image.open(here / f"region-{i}-{name}.png")) for name in ("before", "after"))
        assert np.array_equal(before, original[top:bottom, left:right]) and after.shape == before.shape
        assert not np.array_equal(before, after)
    assert {Image.open(here / f"{name}.jpg").size for name in ("before", "after", "errors")} == {(80, 80)}
    page = (here / "index.html").read_text()
    assert all(f'src="{name}.jpg"' in page for name in ("before", "after", "errors")) and page.count("<section") == module.SHOWN
    assert page.count("<tr>") == 1 + len(picture["regions"])


def test_the_error_map_is_white_where_nothing_changed_and_dark_where_much_did(folder, tmp_path, monkeypatch):
    half = torch.zeros(80)
    half[40:] = 0.3
    use(monkeypatch, lambda x: torch.where(x > 0.5, x - half, x + half))
    audit(folder, tmp_path / "r", ocr=False, say=quiet)
    errors = np.array(Image.open(module.place(tmp_path / "r", "ad 0.png") / "errors.jpg")).astype(int)
    assert errors[:, :32].min() > 240 and errors[:, 48:].mean() < 100


def test_picture_files_stay_small_even_for_noise():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (800, 700, 3), dtype=np.uint8))
    data = small_jpeg(noise, module.PREVIEW)
    assert len(data) <= module.LARGEST == 300_000
    flat = small_jpeg(Image.new("RGB", (3000, 2000)), module.PREVIEW)
    assert Image.open(io.BytesIO(flat)).size == (1200, 800)
    left, top, right, bottom = crop_box((0, 0, 800, 700), noise.size)
    assert len(module.encode(noise.crop((left, top, right, bottom)), "png")) <= module.LARGEST


@pytest.mark.parametrize("box", [(0, 0, 20, 100), (990, 1900, 10, 100), (300, 100, 40, 1500), (0, 0, 1000, 2000)])
def test_a_crop_lies_in_the_picture_around_the_middle_of_its_region(box):
    left, top, right, bottom = crop_box(box, (2000, 1000))
    assert 0 <= left < right <= 2000 and 0 <= top < bottom <= 1000 and (right - left) * (bottom - top) <= module.CROP
    assert left <= box[1] + box[3] // 2 < right and top <= box[0] + box[2] // 2 < bottom
    if box[2] * box[3] < 5000:
        assert left <= box[1] and right >= box[1] + box[3] and top <= box[0] and bottom >= box[0] + box[2]


def test_many_pictures_are_spread_over_pages_of_bounded_size(done, tmp_path):
    """The first page of a thousand pictures with long names is below 5 MB, and every picture is on one page."""
    whole, (first, *_) = record_of(done[0]), record_of(done[0])["pictures"]
    whole["seconds_per_megapixel"] = 1.0
    whole["pictures"] = [first | {"file": f"{i:04}{'ü&' * 100}.png", "notes": ["Changed"]} for i in range(1000)]
    write_lists(tmp_path, whole)
    pages = [tmp_path / "index.html", *(tmp_path / f"index-{i}.html" for i in range(2, 1000 // PER_PAGE + 1))]
    assert sorted(tmp_path.iterdir()) == sorted(pages) and max(page.stat().st_size for page in pages) < 5e6
    names = [re.findall(r"<b>(\d{4})", page.read_text()) for page in pages]
    assert [name for page in names for name in page] == [f"{i:04}" for i in range(1000)]
    assert all(f'href="{page.name}"' in pages[0].read_text() for page in pages)
    whole["pictures"] = whole["pictures"][:3]
    write_lists(tmp_path, whole)
    assert list(tmp_path.iterdir()) == [tmp_path / "index.html"]  # no page of an older list stays


# --- files as people have them -------------------------------------------------------------------------------------


def awkward(place, picture):
    """Pictures that need care, each of them usable."""
    picture.convert("CMYK").save(place / "cmyk.jpg")
    Image.fromarray(np.array(picture.convert("L")).astype(np.uint16) * 257).save(place / "deep.png")
    picture.convert("P").save(place / "palette.png")
    picture.save(place / "moving.gif", save_all=True, append_images=[picture.rotate(90)])
    clear = picture.copy()
    clear.putalpha(0)
    clear.save(place / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    picture.crop((0, 0, 80, 48)).save(place / "turned.jpg", exif=exif, quality=95)


def broken(place, picture):
    """Files that cannot be used, and what is said of each."""
    picture.save(place / "whole.jpg")
    (place / "cut.jpg").write_bytes((place / "whole.jpg").read_bytes()[:900])
    (place / "whole.jpg").unlink()
    (place / "empty.png").write_bytes(b"")
    (place / "text.png").write_text("not a picture")
    (place / "logo.svg").write_text("<svg/>")
    picture.resize((20, 20)).save(place / "tiny.png")
    return {"cut.jpg": "is cut off or damaged", "empty.png": "is empty (0 bytes)", "text.png": "is no picture",
            "logo.svg": "is SVG: export it", "tiny.png": "is too small to be measured: 32 pixels"}  # fmt: skip


def test_awkward_files_are_measured_and_bad_ones_named(folder, vae, tmp_path, capsys):
    place, picture = tmp_path / "ads", Image.open(folder / "ad 0.png")
    place.mkdir()
    awkward(place, picture)
    command = ["audit", str(place), "--out", str(tmp_path / "r"), "--vae", str(vae), "--no-ocr"]
    assert main(command) == 0
    bad = broken(place, picture)
    (place / "notes.txt").write_text("not a picture, and never said to be one")
    assert main(command) == 1
    said, index = capsys.readouterr().out, (tmp_path / "r/index.html").read_text()
    for name, words in bad.items():
        assert f"left out: {name} {words}" in said and f"<li>{name} {words}" in index
    assert "notes.txt is no picture, and was passed over." in index
    found, left_out = pictures_of(tmp_path / "r"), {p["file"] for p in record_of(tmp_path / "r")["left_out"]}
    assert set(found) == {"cmyk.jpg", "deep.png", "palette.png", "moving.gif", "clear.png", "turned.jpg"} and left_out == set(bad)
    assert found["turned.jpg"]["size"] == [48, 80] and Image.open(module.place(tmp_path / "r", "turned.jpg") / "before.jpg").size == (48, 80)
    assert found["clear.png"]["notes"] == ["Transparent parts were laid on white"]
    assert np.array(Image.open(module.place(tmp_path / "r", "clear.png") / "before.jpg")).min() > 250
    assert "Transparent parts were laid on white: 1 picture (first: clear.png)." in index and "Colours are taken as sRGB" in index
    assert found["moving.gif"]["notes"] == ["Of several frames or pages the first was taken"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(mine, vae):
    place, out = mine
    (place / "ad 0.png").chmod(0)
    assert audit(place, out, vae, ocr=False, say=quiet).problems == ("ad 0.png may not be read: change its permissions.",)


BAD = {
    "no folder": (["{tmp}/none"], "The folder {tmp}/none does not exist"),
    "a file for a folder": (["{folder}/ad 0.png"], "is a file: give the folder that holds the pictures"),
    "no pictures": (["{tmp}/empty"], "holds no pictures"),
    "no VAE": (["{folder}", "--vae", "{tmp}/empty"], "holds no VAE in diffusers' format"),
    "grey": (["{folder}", "--vae", "{tmp}/grey"], "does not take colour pictures: give one with 3 channels"),
    "broken weights": (["{folder}", "--vae", "{tmp}/huge"], "gave values that are no numbers"),
    "nothing usable": (["{tmp}/bad"], "can be used: left out 1 file, the first because a.png is empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_a_two(folder, vae, tmp_path, capsys, name):
    for place in ("empty", "bad"):
        (tmp_path / place).mkdir()
    (tmp_path / "bad/a.png").write_bytes(b"")
    AutoencoderKL(1, 1, block_out_channels=(4,), norm_num_groups=4).save_pretrained(tmp_path / "grey")
    huge = AutoencoderKL.from_pretrained(vae)
    torch.nn.init.constant_(huge.decoder.conv_out.weight, float("nan"))
    huge.save_pretrained(tmp_path / "huge")
    words, sentence = BAD[name]
    words = [word.format(tmp=tmp_path, folder=folder) for word in words]
    words += [] if "--vae" in words else ["--vae", str(vae)]
    assert main(["audit", *words, "--out", str(tmp_path / "r"), "--no-ocr"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("vaelab: ") and errors.count("\n") == 1 and sentence.format(tmp=tmp_path, folder=folder) in errors


def test_where_a_report_cannot_go_is_said_before_anything_is_measured(folder, vae, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "one", lambda *_: pytest.fail("measured all the same"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="cannot be written"):
        audit(folder, tmp_path / "file" / "r", vae, ocr=False, say=quiet)
