"""What can be read: by hand-counted edits, letters of known height, and blurs that are known to be too strong."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vaelab.data import photos
from vaelab.legibility import (
    INK,
    PACK,
    TYPEFACES,
    WORDS,
    Reader,
    Word,
    character_accuracy,
    edit_distance,
    grey,
    letter_sheet,
    lettering,
    logo_match,
    reading_order,
    recognise_typeface,
    smallest_legible,
)


def blur(pictures, factor):
    """Averages of factor x factor pixels, painted large again."""
    return F.interpolate(F.avg_pool2d(pictures, factor, ceil_mode=True), pictures.shape[2:], mode="bilinear")


def test_edit_distance_by_hand():
    for a, b, count in [
        ("kitten", "sitting", 3),
        ("", "abc", 3),
        ("abc", "", 3),
        ("abc", "abc", 0),
        ("ab", "ba", 2),
    ]:
        assert edit_distance(a, b) == count
    assert edit_distance("SATURDAY", "SUNDAY") == 3


def test_character_accuracy_folds_spaces_and_case_only():
    assert character_accuracy("50% OFF", "50%off") == 1
    assert character_accuracy("50% OFF", "50% 0FF") == pytest.approx(5 / 6)
    assert character_accuracy("SALE", "") == 0 and character_accuracy("SALE", "quite another text") == 0
    assert character_accuracy("SALE", "SALES") == pytest.approx(3 / 4)
    with pytest.raises(ValueError, match="expected text is empty"):
        character_accuracy(" ", "SALE")


def test_reading_order_is_by_rows_then_from_left_to_right():
    words = [
        Word("right", (11, 80, 20, 30), 1),
        Word("low", (40, 5, 20, 30), 1),
        Word("left", (13, 5, 20, 30), 1),
    ]
    assert [word.text for word in reading_order(words)] == ["left", "right", "low"]
    assert reading_order([]) == []


@pytest.mark.parametrize("typeface", ["geometric", "serif", "DejaVuSans", "STIXGeneral"])
@pytest.mark.parametrize("height", [5, 12, 30])
def test_capitals_have_the_height_they_say(typeface, height):
    picture = lettering(["H"], height, typeface)
    cover = (picture[0] - PACK[0]) / (INK[0] - PACK[0])
    assert cover.amax() == pytest.approx(1, abs=0.35) and cover.amin() == pytest.approx(0, abs=1e-6)
    # The strokes of the H stand from its foot to its top: covered rows, counted in parts, are its height.
    rows = cover.amax(1)
    stem = (rows / rows[height + height // 4]).clamp(max=1)
    assert float(stem.sum()) == pytest.approx(height, abs=0.3)
    assert stem[2 * height :].sum() < 0.3 and stem[:height].sum() < 0.3


def test_a_sheet_holds_its_words_and_is_the_same_every_time():
    sheets = letter_sheet([5, 30])
    assert [sheet.height for sheet in sheets] == [5, 30] and sheets[0].words == WORDS
    for sheet in sheets:
        assert sheet.picture.shape[0] == 3 and sheet.picture.shape[1] == sheet.picture.shape[2]
        assert sheet.picture.shape[1] % 64 == 0 and 0 <= sheet.picture.min() and sheet.picture.max() <= 1
        edge = torch.cat([sheet.picture[:, -4:].flatten(1), sheet.picture[:, :, -4:].flatten(1)], 1)
        assert torch.equal(edge, torch.tensor(PACK)[:, None].expand_as(edge))  # nothing is cut off
    assert torch.equal(sheets[1].picture, letter_sheet([30])[0].picture)
    assert len({name: lettering(["SALE 3"], 12, name).numpy().tobytes() for name in TYPEFACES}.keys()) == 8
    with pytest.raises(ValueError, match="There is no typeface 'arial': choose from condensed, geometric"):
        lettering(["SALE"], 12, "arial")


class Sharp:
    """Reads everything on pictures whose darkest pixel is dark enough, nothing on others."""

    def __init__(self, least):
        self.least = least

    def read(self, picture):
        dark = picture.min() < self.least
        return [Word(text, (20 * i, 0, 10, 50), 1) for i, text in enumerate(WORDS)] if dark else []


def test_the_smallest_legible_height_holds_at_and_above():
    def fade(pictures):
        """Sheets below 10 pixels, and the one at 12, lose their ink."""
        return pictures if fade.height in (10, 11, 13, 14, 15) else pictures.clamp(min=0.6)

    heights = iter(range(8, 16))

    def round_trip(pictures):
        fade.height = next(heights)
        return fade(pictures)

    found = smallest_legible(round_trip, range(8, 16), Sharp(0.5))
    assert found.height == 13 and found.untouched_height == 8
    assert found.curve == {h: float(h in (10, 11, 13, 14, 15)) for h in range(8, 16)}
    assert set(found.untouched_curve.values()) == {1.0}
    nothing = smallest_legible(torch.ones_like, [20, 10], Sharp(0.5))
    assert nothing.height is None and nothing.curve == {10: 0, 20: 0} and nothing.untouched_height == 10
    with pytest.raises(ValueError, match="The round trip gave .* keep the size"):
        smallest_legible(lambda pictures: pictures[..., :-1], [10], Sharp(0.5))


def test_the_level_is_the_share_of_characters():
    class Forgetful:
        def read(self, picture):
            return [
                Word(text, (20 * i, 0, 10, 50), 1) for i, text in enumerate(WORDS[1:])
            ]  # all but the first line

    share = 1 - len("SUMMERSALE") / len("".join(WORDS).replace(" ", ""))
    for level, height in ((share - 1e-9, 9), (share + 1e-9, None)):
        found = smallest_legible(lambda x: x, [9, 10], Forgetful(), level)
        assert found.height == height and found.curve[9] == pytest.approx(share)


@pytest.mark.parametrize("height", [8, 16])
def test_untouched_typefaces_are_recognised_and_blurred_ones_are_not(height):
    pytest.importorskip("skimage")
    text = "SUMMER SALE"
    pictures = {name: lettering([text], height, name) for name in TYPEFACES}
    assert {name: recognise_typeface(picture, text, height) for name, picture in pictures.items()} == {
        name: name for name in TYPEFACES
    }
    placed = F.pad(
        1 - pictures["serif"], (7, 40, 11, 5), value=0.1
    )  # light on dark, somewhere in a larger crop
    assert recognise_typeface(placed, text, height) == "serif"
    lost = {name: blur(picture[None], 2 * height)[0] for name, picture in pictures.items()}
    assert sum(recognise_typeface(picture, text, height) == name for name, picture in lost.items()) <= 3


def test_a_logo_is_matched_by_its_edges():
    pytest.importorskip("skimage")
    logo = photos.region("astronaut", "badge")
    assert logo_match(logo, logo) == pytest.approx(1)
    assert logo_match(logo, 0.5 * logo + 0.3) == pytest.approx(
        1, abs=1e-6
    )  # fainter, and every edge in its place
    assert logo_match(logo, 1 - logo) == pytest.approx(-1)
    assert abs(logo_match(logo, torch.rand(logo.shape, generator=torch.Generator().manual_seed(0)))) < 0.05
    values = [logo_match(logo, blur(logo[None], factor)[0]) for factor in (2, 4, 8)]
    assert 1 > values[0] > values[1] > values[2] > 0
    assert np.isnan(logo_match(logo, torch.zeros_like(logo)))


def test_grey_is_pillow_s():
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(pixels).convert("L")) / 255
    ours = grey(torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)
    assert np.abs(ours.numpy() - expected).max() < 1.1 / 255
    assert grey(torch.rand(2, 1, 4, 5)).shape == (2, 4, 5)


@pytest.fixture(scope="module")
def reader():
    pytest.importorskip("rapidocr")
    return Reader()


def test_the_reader_reads_lines_where_they_are(reader, capfd):
    sheet = letter_sheet([12])[0]
    words = reader.read(sheet.picture)
    assert [word.text for word in words] == list(WORDS)
    for i, word in enumerate(words):  # the i-th line stands on row 24 + 22.8 i
        top, left, height, _ = word.box
        assert top <= 12 + 22.8 * i + 2 and top + height >= 24 + 22.8 * i - 2 and height < 24
        assert abs(left - 12) < 8 and word.confidence > 0.8
    assert reader.read(torch.full((3, 64, 64), 0.5)) == []
    assert capfd.readouterr() == ("", "")


def test_small_letters_are_read_and_a_blur_raises_the_limit(reader):
    found = smallest_legible(lambda pictures: blur(pictures, 4), [6, 24], reader)
    assert found.untouched_height == 6 and found.untouched_curve[6] > 0.95
    assert found.height == 24 and found.curve[6] < 0.5
