"""The reader's own folder: pictures in every state people have them, and every bad input by its sentence."""

import errno
import io
import os
import struct
import unicodedata
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from vaelab.data import pictures
from vaelab.data.folder import load, read_picture
from vaelab.data.pictures import PictureError, square

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def rgb(file):
    return np.array(read_picture(file)).astype(int)


def plain(file, colour=RED, size=(32, 32)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file)


def quarters():
    """Red top left, green top right, blue bottom left, white bottom right."""
    picture = Image.new("RGB", (32, 32), WHITE)
    for colour, corner in ((RED, (0, 0)), (GREEN, (16, 0)), (BLUE, (0, 16))):
        picture.paste(colour, (*corner, corner[0] + 16, corner[1] + 16))
    return picture


def corners(values):
    """Top left, top right, bottom left, bottom right."""
    return [tuple(values[y, x].tolist()) for y, x in ((2, 2), (2, -3), (-3, 2), (-3, -3))]


def png(width, height, depth=8, colour_type=2, rows=b""):
    """A PNG written by hand: Pillow cannot write 16-bit colour, nor a picture too large to exist."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def quietly(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load(*args, **kwargs)


def said(*args, **kwargs):
    """The data set and the sentences of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load(*args, **kwargs)
    return data, [str(warning.message) for warning in caught]


# --- one picture -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_red_stays_red(tmp_path, suffix):
    file = tmp_path / f"red.{suffix}"
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(file, quality=95)
    assert np.abs(rgb(file) - RED).max() <= 6


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.repeat(np.linspace(0, 65535, 32, dtype=np.uint16)[None], 32, axis=0)
    for suffix in ("png", "tif"):
        Image.fromarray(values).save(tmp_path / f"ramp.{suffix}")
        picture = rgb(tmp_path / f"ramp.{suffix}")
        assert np.abs(picture[0, :, 1] - values[0] / 257).max() <= 0.5


def test_16_bit_colour_and_its_transparency(tmp_path):
    (tmp_path / "rgb.png").write_bytes(png(8, 8, 16, 2, (b"\0" + struct.pack(">HHH", 32768, 65535, 0) * 8) * 8))
    assert np.abs(rgb(tmp_path / "rgb.png") - (127.5, 255, 0)).max() <= 0.5
    half = (b"\0" + struct.pack(">HHHH", 0, 0, 0, 32768) * 8) * 8
    (tmp_path / "rgba.png").write_bytes(png(8, 8, 16, 6, half))
    assert np.abs(rgb(tmp_path / "rgba.png") - 127.5).max() <= 0.5


def test_floating_point_grey(tmp_path):
    Image.fromarray(np.full((8, 8), 0.25, np.float32)).save(tmp_path / "quarter.tif")
    assert (rgb(tmp_path / "quarter.tif") == 64).all()
    Image.fromarray(np.full((8, 8), 7.0, np.float32)).save(tmp_path / "hdr.tif")
    with pytest.raises(PictureError, match="hdr.tif holds numbers outside 0 to 1"):
        read_picture(tmp_path / "hdr.tif")


@pytest.mark.parametrize("mode, value", [("L", 100), ("1", 1), ("LA", (100, 255))])
def test_grey_becomes_three_equal_channels(tmp_path, mode, value):
    Image.new(mode, (8, 8), value).save(tmp_path / "grey.png")
    assert (rgb(tmp_path / "grey.png") == (255 if mode == "1" else 100)).all()


def test_palette_keeps_its_colours(tmp_path):
    quarters().convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    assert corners(rgb(tmp_path / "palette.png")) == [RED, GREEN, BLUE, WHITE]


def test_transparency_is_laid_on_white(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(tmp_path / "half.webp", lossless=True)
    Image.new("LA", (8, 8), (0, 0)).save(tmp_path / "grey.png")
    assert (rgb(tmp_path / "clear.png") == 255).all() and (rgb(tmp_path / "grey.png") == 255).all()
    assert np.abs(rgb(tmp_path / "half.webp") - (255, 127, 127)).max() <= 1


def test_one_transparent_colour_of_palette_or_rgb(tmp_path):
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 255, 0, 255, 0, 0])
    picture.paste(0, (0, 0, 4, 8))
    picture.save(tmp_path / "logo.gif", transparency=0)
    assert corners(rgb(tmp_path / "logo.gif")) == [WHITE, RED, WHITE, RED]
    Image.new("RGB", (8, 8), GREEN).save(tmp_path / "keyed.png", transparency=GREEN)
    assert (rgb(tmp_path / "keyed.png") == 255).all()


@pytest.mark.parametrize(
    "orientation, expected",
    [
        (1, [RED, GREEN, BLUE, WHITE]),
        (2, [GREEN, RED, WHITE, BLUE]),
        (3, [WHITE, BLUE, GREEN, RED]),
        (6, [BLUE, RED, WHITE, GREEN]),  # the camera was turned: rotate a quarter clockwise
        (8, [GREEN, WHITE, RED, BLUE]),
    ],
)
def test_exif_orientation_is_honoured(tmp_path, orientation, expected):
    exif = Image.Exif()
    exif[0x0112] = orientation
    quarters().save(tmp_path / "phone.jpg", exif=exif, quality=100, subsampling=0)
    found = np.array(corners(rgb(tmp_path / "phone.jpg")))
    assert np.abs(found - np.array(expected)).max() <= 6


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    for name in ("a.gif", "a.png", "a.webp", "a.tif"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        notes = set()
        picture = np.array(pictures.read_picture(tmp_path / name, notes=notes)).astype(int)
        assert np.abs(picture - RED).max() <= 1 and notes == {pictures.ANIMATED}


def test_colour_profile_is_honoured(tmp_path):
    """A profile whose red and blue change places turns red into blue; a damaged one is passed over."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    for mode, colour in (("RGB", RED), ("RGBA", (*RED, 255))):
        Image.new(mode, (8, 8), colour).save(tmp_path / "swapped.png", icc_profile=swapped)
        assert np.abs(rgb(tmp_path / "swapped.png") - BLUE).max() <= 2
    picture = Image.new("RGB", (8, 8), (120, 130, 140))
    picture.save(tmp_path / "broken.png", icc_profile=b"no profile at all")
    picture.save(tmp_path / "srgb.png", icc_profile=srgb)
    for name in ("broken.png", "srgb.png"):
        assert (rgb(tmp_path / name) == (120, 130, 140)).all()


def test_draft_reads_a_large_jpeg_smaller_but_large_enough(tmp_path):
    Image.new("RGB", (1600, 800), GREEN).save(tmp_path / "large.jpg")
    picture = pictures.read_picture(tmp_path / "large.jpg", draft=128)
    assert picture.size == (400, 200) and read_picture(tmp_path / "large.jpg").size == (1600, 800)


def test_crop_takes_the_centre_and_pad_shows_everything_on_white():
    wide = Image.new("RGB", (96, 32), GREEN)
    wide.paste(RED, (0, 0, 32, 32))
    wide.paste(BLUE, (64, 0, 96, 32))
    assert (np.array(square(wide, 32)) == GREEN).all()
    padded = np.array(square(wide, 48, "pad")).astype(int)
    assert (padded[:16] == 255).all() and (padded[32:] == 255).all()
    assert [tuple(padded[24, x].tolist()) for x in (4, 24, 44)] == [RED, GREEN, BLUE]
    assert square(Image.new("RGB", (4000, 8)), 16, "pad").size == (16, 16)


# --- bad pictures: one sentence each, the good one is loaded -----------------------------------------------


def cut(data, share):
    return data[: int(len(data) * share)]


def encoded(kind):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, kind)
    return stream.getvalue()


BAD = {
    "empty.png": (b"", "empty.png is empty (0 bytes): export it again."),
    "letter.jpg": (
        b"Dear client, " * 40,
        "letter.jpg is no picture that can be read here, or is damaged: save it as PNG or JPEG in an editor.",
    ),
    "cut.png": (cut(encoded("PNG"), 0.5), "cut.png is cut off or damaged: copy or export it again."),
    "cut.jpg": (cut(encoded("JPEG"), 0.5), "cut.jpg is cut off or damaged: copy or export it again."),
    "cut.tif": (cut(encoded("BMP"), 0.5), "cut.tif is cut off or damaged: copy or export it again."),
    "pixel.png": (
        png(1, 1, rows=b"\0\0\0\0"),
        "pixel.png is too small (1 x 1): 8 pixels a side are needed.",
    ),
    "huge.png": (png(30000, 30000), "huge.png is too large: scale it below 100 million pixels."),
    "large.png": (
        png(12000, 9000),
        "large.png is too large (12000 x 9000): scale it below 100 million pixels.",
    ),
    "phone.HEIC": (b"anything", "phone.HEIC is HEIC: export it as PNG or JPEG."),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gets_its_own_sentence_and_the_rest_goes_on(tmp_path, name):
    content, sentence = BAD[name]
    (tmp_path / name).write_bytes(content)
    plain(tmp_path / "good.png", GREEN)
    data, warned = said(tmp_path, size=16)
    assert data.problems == [(name, sentence)]
    assert data.files == ["good.png"] and data.labels is None and data.groups is None
    assert torch.equal(data.images[0], torch.tensor(GREEN).div(255)[:, None, None].expand(3, 16, 16))
    assert warned == [f"Left out, see .problems: 1 file, the first because {sentence}"]


def test_all_bad_files_at_once(tmp_path):
    for name, (content, _) in BAD.items():
        (tmp_path / name).write_bytes(content)
    plain(tmp_path / "good.png")
    data = quietly(tmp_path, size=16)
    assert sorted(data.problems) == sorted((name, sentence) for name, (_, sentence) in BAD.items())
    assert data.files == ["good.png"] and data.images.shape == (1, 3, 16, 16)


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    (tmp_path / "huge.png").write_bytes(png(30000, 30000))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as some programs set it
    monkeypatch.setattr(pictures, "_decode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(PictureError, match=r"huge.png is too large \(30000 x 30000\): scale it below 100"):
        read_picture(tmp_path / "huge.png")


def test_permission_and_broken_link(tmp_path, monkeypatch):
    plain(tmp_path / "good.png")
    plain(tmp_path / "locked.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    real = open

    def guarded(file, *args, **kwargs):
        if str(file).endswith("locked.png"):
            raise PermissionError(13, "Permission denied")
        return real(file, *args, **kwargs)

    monkeypatch.setattr("builtins.open", guarded)
    assert quietly(tmp_path, size=16).problems == [
        ("gone.png", "gone.png does not exist: check the name, or the link it is."),
        ("locked.png", "locked.png may not be read: change its permissions."),
    ]


def test_the_folder_itself(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist: check the path"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no pictures: put PNG or JPEG files there"):
        load(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match="a.png is a file: give the folder"):
        load(tmp_path / "a.png")
    with pytest.raises(ValueError, match="can be used: left out 1 file, the first because a.png is empty"):
        load(tmp_path)


def test_wrong_options(tmp_path):
    with pytest.raises(ValueError, match="size is 0: give a whole number"):
        load(tmp_path, size=0)
    with pytest.raises(ValueError, match="fit is 'stretch': give 'crop' or 'pad'"):
        load(tmp_path, fit="stretch")


# --- the folder --------------------------------------------------------------------------------------------


def test_sub_folders_in_order_hidden_and_other_files_skipped(tmp_path):
    for name in ("b.PNG", "été/a photo 1.png", "a/z.webp", ".hidden/x.png", "__MACOSX/x.png", "._b.png"):
        plain(tmp_path / name, size=(16, 16)) if name != "._b.png" else (tmp_path / name).write_bytes(b"junk")
    (tmp_path / "read me.txt").write_text("hello")
    (tmp_path / "folder.png").mkdir()
    data = quietly(tmp_path, size=16)
    assert data.files == ["a/z.webp", "b.PNG", "été/a photo 1.png"] and len(data) == 3 and not data.problems


def test_values_follow_the_files(tmp_path):
    colours = [(10, 20, 30), (250, 240, 230), (0, 128, 255)]
    for index, colour in enumerate(colours):
        plain(tmp_path / f"{index}.png", colour, (40, 64))
    data = load(tmp_path, size=32)
    assert data.images.dtype == torch.float32 and data.images.shape == (3, 3, 32, 32)
    torch.testing.assert_close(data.images.mean(dim=(2, 3)), torch.tensor(colours) / 255)


def test_each_change_is_said_once_a_load(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGBA", (32, 32), (ord(name[0]), 0, 0, 0 if name == "a.png" else 100)).save(tmp_path / name)
    frames = [Image.new("RGB", (32, 32), colour) for colour in (RED, GREEN)]
    frames[0].save(tmp_path / "d.gif", save_all=True, append_images=frames[1:])
    Image.new("CMYK", (32, 32), (0, 0, 200, 0)).save(tmp_path / "e.tif")
    plain(tmp_path / "f.png", BLUE, (12, 12))
    data, warned = said(tmp_path, size=16)
    assert warned == data.notes and sorted(data.notes) == [
        f"{pictures.PLAIN_CMYK}: 1 picture (first: e.tif).",
        "Of several frames or pages the first was taken: 1 picture (first: d.gif).",
        "Smaller than 16 x 16 and therefore enlarged: 1 picture (first: f.png).",
        "Transparent parts were laid on white: 3 pictures (first: a.png).",
    ]


def test_identical_pictures_are_named(tmp_path):
    plain(tmp_path / "one.png", RED)
    plain(tmp_path / "other.png", RED)
    plain(tmp_path / "third.png", BLUE)
    data, warned = said(tmp_path, size=16)
    assert len(data) == 3 and warned == [
        "The same as another, so give both the same group: 1 picture (first: other.png and one.png)."
    ]


# --- labels ------------------------------------------------------------------------------------------------


@pytest.fixture
def ads(tmp_path):
    """Four pictures in ads/, a function that writes labels.csv and one that loads both."""
    for index, name in enumerate(("a.png", "b.png", "c.png", "d.png")):
        plain(tmp_path / "ads" / name, (60 * index, 0, 0))

    def labelled(text, encoding="utf-8", **options):
        (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
        return quietly(tmp_path / "ads", size=16, labels=tmp_path / "labels.csv", **options)

    labelled.folder = tmp_path / "ads"
    return labelled


FULL = "file,label,group\na.png,low,x\nb.png,high,x\nc.png,high,y\nd.png,low,\n"


def test_labels_classes_and_groups(ads):
    data = ads(FULL)
    assert data.files == ["a.png", "b.png", "c.png", "d.png"] and not data.problems and not data.notes
    assert data.classes == ("high", "low") and data.labels.tolist() == [1, 0, 0, 1]
    assert data.groups == ["x", "x", "y", "d.png"] and data.labels.dtype == torch.int64
    assert ads(FULL, classes=("low", "high")).labels.tolist() == [0, 1, 1, 0]
    assert ads(FULL.replace(",group", "").replace(",x", "").replace(",y", "")).groups is None


@pytest.mark.parametrize(
    "text, encoding",
    [
        (FULL.replace(",", ";"), "utf-8-sig"),  # Excel in most of Europe, with a byte order mark
        (FULL.replace(",", "\t").replace("\n", "\r\n"), "utf-8"),
        (FULL.replace("file,label,group", " File , LABEL ,Group"), "utf-8-sig"),
        (FULL.replace("a.png", '" a.png "').replace("low", "low ").replace("high,x", "HIGH,x"), "utf-8"),
        (FULL.replace("b.png", "B.PNG").replace("c.png", ".\\c.png") + "\n\n", "utf-8"),
    ],
)
def test_csv_as_people_have_it(ads, text, encoding):
    data = ads(text, encoding)
    assert not data.problems and data.labels.tolist() == [1, 0, 0, 1]
    assert data.groups == ["x", "x", "y", "d.png"]


def test_names_with_accents_spaces_and_folders(ads):
    decomposed = unicodedata.normalize("NFD", "été 1, grand.png")
    plain(ads.folder / "summer" / decomposed)
    plain(ads.folder / "winter" / "e.png", BLUE)
    text = 'file,label\n"summer/été 1, grand.png",high\ne.png,low\n'  # a bare name is enough if only one fits
    data = ads(text)
    assert data.files == [f"summer/{decomposed}", "winter/e.png"] and data.labels.tolist() == [0, 1]
    assert data.notes == ["Without a usable line in labels.csv and therefore left out: 4 pictures (first: a.png)."]


def test_a_bare_name_that_fits_two_files_is_not_guessed(ads):
    plain(ads.folder / "summer" / "e.png", BLUE)
    plain(ads.folder / "winter" / "e.png", GREEN)
    data = ads(FULL + "e.png,low,\n")
    assert data.problems == [
        ("e.png", "e.png (labels.csv, line 6) is not among the pictures of the folder: check the spelling.")
    ]


ROWS = {
    "missing file": ("z.png,low,", "z.png", "is not among the pictures of the folder: check the spelling."),
    "no file": (",low,", "", "names no file: fill it in or delete the line."),
    "no label": ("d.png,,", "d.png", "has no label: fill it in."),
    "listed twice": ("a.png,low,", "a.png", "is listed twice: the first, line 2, was kept."),
    "two labels": ("a.png,high,", "a.png", "is labelled 'high', but 'low' in line 2: keep one."),
    "unknown label": ("d.png,hihg,", "d.png", "has the unknown label 'hihg': use high or low."),
}


@pytest.mark.parametrize("fault", ROWS)
def test_a_bad_line_gets_its_own_sentence_and_the_rest_goes_on(ads, fault):
    line, file, sentence = ROWS[fault]
    plain(ads.folder / "0.png", (1, 2, 3))
    data = ads(FULL.replace("d.png,low,", "0.png,low,") + line + "\n", classes=("high", "low"))
    assert data.problems == [(file, f"{file} (labels.csv, line 6) {sentence}".lstrip())]
    kept = ["0.png", "a.png", "b.png", "c.png"]
    if fault == "two labels":  # nobody knows which is right
        kept.remove("a.png")
    assert data.files == kept and data.labels.tolist() == [1, 1, 0, 0][-len(kept) :]


def test_a_label_that_occurs_once_is_pointed_out(ads):
    data = ads(FULL.replace("d.png,low", "d.png,hihg"))
    assert data.classes == ("high", "hihg", "low")
    assert data.notes == ["Used only once in labels.csv, so check the spelling: hihg, low."]


def test_a_labelled_file_that_is_damaged_has_one_problem(ads):
    (ads.folder / "e.png").write_bytes(b"")
    (ads.folder / "f.heic").write_bytes(b"x")
    data = ads(FULL + "e.png,low,\nf.heic,low,\n")
    assert sorted(file for file, _ in data.problems) == ["e.png", "f.heic"]
    assert data.labels.tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    "text, encoding, sentence",
    [
        (FULL.replace("low", "high"), "utf-8", "gives every usable picture the label 'high': two different"),
        ("picture,ctr\na.png,1\n", "utf-8", "starts with 'picture,ctr': its first line must be file,label"),
        ("a.png,high\nb.png,low\n", "utf-8", "starts with 'a.png,high': its first line must be file,label"),
        ("", "utf-8", "starts with '': its first line must be file,label"),
        ("file,label\n", "utf-8", "holds no line after its first: add one line per picture"),
        (FULL.replace("a.png", "été.png"), "cp1252", "is not UTF-8: save it again as 'CSV UTF-8'"),
        (FULL, "utf-16", "is not UTF-8: save it again as 'CSV UTF-8'"),
        ('file,label\n"a.png,high\n' + "b.png,low\n" * 20000, "utf-8", "is no CSV that can be read"),
        ("file,label\nz.png,high\n", "utf-8", "can be used: left out 1 file, the first because z.png .labels.csv, line 2. is not"),
    ],
)
def test_a_csv_that_cannot_be_used(ads, text, encoding, sentence):
    with pytest.raises(ValueError, match=sentence):
        ads(text, encoding)


def test_a_csv_that_is_not_there(ads, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.csv does not exist: check the path"):
        load(ads.folder, labels=tmp_path / "none.csv")


def test_only_one_full_size_picture_is_held(tmp_path, monkeypatch):
    """What is kept of a picture is its small square, never the picture."""
    import weakref

    for index in range(6):
        plain(tmp_path / f"{index}.png", (index, 0, 0), (300, 300))
    alive, most, real = [], [], pictures.read_picture

    def watched(*args, **kwargs):
        picture = real(*args, **kwargs)
        alive.append(weakref.ref(picture))
        most.append(sum(reference() is not None for reference in alive))
        return picture

    monkeypatch.setattr(pictures, "read_picture", watched)
    assert len(quietly(tmp_path, size=16)) == 6 and max(most) <= 2


def test_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    plain(tmp_path / "open.png")
    real = os.scandir

    def scandir(place):
        if Path(place).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    data = quietly(tmp_path, size=16)
    assert data.files == ["open.png"]
    assert [p.sentence for p in data.problems] == [
        "closed cannot be opened (Permission denied): check who may read this folder."
    ]
