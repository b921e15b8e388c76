"""The photographs are scikit-image's own, to the pixel, and their cards say where they come from."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from vaelab.data import photos

skimage = pytest.importorskip("skimage")


@pytest.mark.parametrize("name", photos.PHOTOS)
def test_equals_scikit_image_and_the_checksum(name):
    import skimage.data

    expected = getattr(skimage.data, name)()
    expected = expected if expected.ndim == 3 else np.stack([expected] * 3, axis=-1)
    photo = photos.load(names=(name,))[name]
    assert np.array_equal((photo * 255).round().permute(1, 2, 0).numpy(), expected)
    file = Path(skimage.__file__).parent / "data" / photos.PHOTOS[name].file
    assert hashlib.sha256(file.read_bytes()).hexdigest() == photos.PHOTOS[name].sha256


def test_all_at_one_size():
    pictures = photos.load(size=32)
    assert list(pictures) == list(photos.PHOTOS)
    assert all(picture.shape == (3, 32, 32) and picture.dtype == torch.float32 for picture in pictures.values())
    middle = photos.load(names="coffee")["coffee"][:, :, 100:500].mean()
    assert abs(pictures["coffee"].mean() - middle) < 0.005  # the centre square, not the whole width


def test_regions_show_what_their_names_say():
    red, green, blue = photos.region("coffee", "cup").mean(dim=(1, 2))
    assert red > 1.5 * green > 1.5 * blue
    headline, small = photos.region("page", "headline"), photos.region("page", "small print")
    assert headline.shape == (3, 34, 300) and small.shape == (3, 100, 384)
    for name, photo in photos.PHOTOS.items():
        for part, (_, _, height, width) in photo.regions.items():
            assert photos.region(name, part).shape == (3, height, width)


def test_the_face_is_where_a_face_detector_sees_it():
    import skimage.data
    from skimage.feature import Cascade

    finder = Cascade(skimage.data.lbp_frontal_face_cascade_filename())
    (seen,) = finder.detect_multi_scale(skimage.data.astronaut(), 1.2, 1, (60, 60), (200, 200))
    top, left, height, width = photos.PHOTOS["astronaut"].regions["face"]
    middle = seen["r"] + seen["height"] / 2, seen["c"] + seen["width"] / 2
    assert abs(middle[0] - (top + height / 2)) < 10 and abs(middle[1] - (left + width / 2)) < 10


def test_patches_are_cut_from_the_photographs_at_their_scale():
    cut = photos.patches(8, size=24, seed=3, names=("text",))
    places = photos.load(names=("text",))["text"][0].unfold(0, 24, 1).unfold(1, 24, 1)
    for patch in cut:
        assert (places == patch[0]).all(dim=(2, 3)).any()


def test_patches_follow_their_seed():
    first = photos.patches(12, 48, seed=0)
    assert first.shape == (12, 3, 48, 48)
    assert torch.equal(first, photos.patches(12, 48, seed=0))
    assert not torch.equal(first, photos.patches(12, 48, seed=1))
    assert torch.equal(first[:5], photos.patches(5, 48, seed=0))


def test_patches_too_large():
    with pytest.raises(ValueError, match="page is smaller than 256 x 256: leave it out"):
        photos.patches(2, 256, names=("page", "brick"))
    with pytest.raises(ValueError, match="No photograph is as large as 600 x 600"):
        photos.patches(2, 600)
    assert photos.patches(2, 300).shape == (2, 3, 300, 300)  # the small ones are left out by themselves


def test_unknown_names():
    with pytest.raises(ValueError, match="no photograph 'lena': choose from astronaut, camera"):
        photos.load(names=("lena",))
    with pytest.raises(ValueError, match="cat has no region 'tail': choose from .'eyes'"):
        photos.region("cat", "tail")


def test_a_missing_package_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "skimage", None)
    photos._read.cache_clear()
    with pytest.raises(ImportError, match="vaelab.data.photos needs scikit-image: install it with `pip install"):
        photos.load()


def test_the_data_card_says_what_the_code_says():
    card = (Path(__file__).parents[2] / "book" / "data-cards.md").read_text(encoding="utf-8")
    for name, photo in photos.PHOTOS.items():
        (row,) = [line for line in card.splitlines() if line.startswith(f"| `{name}` ")]
        assert photo.kind in row and row.endswith(f"| {photo.licence} |")
        assert all(part in row for part in photo.source.split(", http"))
        assert f"{photo.sha256}  {photo.file}\n" in card
