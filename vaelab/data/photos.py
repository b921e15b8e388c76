"""Real photographs that come inside scikit-image: a face, printed pages, objects, textures. No download."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import need

Box = tuple[int, int, int, int]  # top, left, height, width, in pixels of the original


@dataclass(frozen=True)
class Photo:
    """Where a photograph comes from. Source and licence are as scikit-image 0.26 documents them."""

    file: str
    kind: str  # person, animal, object, scene, texture or text
    licence: str
    source: str
    sha256: str
    regions: dict[str, Box] = field(default_factory=dict)


PHOTOS = {
    "astronaut": Photo(
        "astronaut.png",
        "person",
        "public domain",
        "NASA, portrait of Eileen Collins, https://flic.kr/p/r9qvLn",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        {"face": (60, 165, 120, 110), "badge": (340, 130, 90, 85)},
    ),
    "camera": Photo(
        "camera.png",
        "person",
        "CC0",
        "Lav Varshney",
        "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
        {"face": (70, 190, 130, 130)},
    ),
    "cat": Photo(
        "chelsea.png",
        "animal",
        "CC0",
        "Stefan van der Walt",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        {"eyes": (70, 115, 120, 230)},
    ),
    "coffee": Photo(
        "coffee.png",
        "object",
        "CC0",
        "Rachel Michetti, courtesy of Pikolo Espresso Bar",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        {"cup": (15, 165, 225, 250), "wood": (300, 450, 100, 150)},
    ),
    "rocket": Photo(
        "rocket.jpg",
        "scene",
        "public domain",
        "SpaceX, launch of DSCOVR, https://www.flickr.com/photos/spacexphotos/16511594820/",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        {"rocket": (120, 290, 285, 65)},
    ),
    "coins": Photo(
        "coins.png",
        "object",
        "no known copyright restrictions",
        "Brooklyn Museum, https://www.brooklynmuseum.org/opencollection/archives/image/51611",
        "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
    ),
    "brick": Photo(
        "brick.png",
        "texture",
        "CC0",
        "CC0Textures, https://cc0textures.com/view.php?tex=Bricks25",
        "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    ),
    "grass": Photo(
        "grass.png",
        "texture",
        "CC0",
        "linolafett, https://www.deviantart.com/linolafett/art/Grass-01-434853879",
        "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    ),
    "gravel": Photo(
        "gravel.png",
        "texture",
        "CC0",
        "CC0Textures, https://cc0textures.com/view.php?tex=Gravel04",
        "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
    ),
    "page": Photo(
        "page.png",
        "text",
        "not stated for this file",
        "scikit-image, a scanned page (of its own tutorial, by the words on it)",
        "341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3",
        {"headline": (4, 0, 34, 300), "small print": (45, 0, 100, 384)},
    ),
    "text": Photo(
        "text.png",
        "text",
        "public domain",
        "Wikipedia, https://en.wikipedia.org/wiki/File:Corner.png",
        "bd84aa3a6e3c9887850d45d606c96b2e59433fbef50338570b63c319e668e6d1",
    ),
}


def load(size: int | None = None, names: tuple[str, ...] | None = None) -> dict[str, Tensor]:
    """The photographs by name, each (3, H, W) float32 in [0, 1]; grey ones repeat their one channel.

    size: cut out the centre square and scale it to size x size; None keeps the original.
    names: some of `PHOTOS` (default: all). Needs scikit-image. Raises: ImportError, ValueError, OSError.
    """
    return {name: _tensor(_read(name), size) for name in _names(names)}


def region(name: str, part: str) -> Tensor:
    """One named part of a photograph, such as ("astronaut", "face"): (3, height, width) at full size."""
    (name,) = _names((name,))
    if part not in PHOTOS[name].regions:
        raise ValueError(f"{name} has no region {part!r}: choose from {list(PHOTOS[name].regions)}.")
    top, left, height, width = PHOTOS[name].regions[part]
    return _tensor(_read(name), None)[:, top : top + height, left : left + width].contiguous()


def patches(n: int, size: int = 64, seed: int = 0, names: tuple[str, ...] | None = None) -> Tensor:
    """n random cut-outs at the original scale, (n, 3, size, size) float32 in [0, 1].

    The photograph is drawn first, each with the same chance, then the place. Cut-outs of one photograph
    overlap: to test on pictures never seen, give training and test different `names`.
    Raises: ValueError if a photograph is smaller than `size`.
    """
    photos = load(names=names)
    small = [name for name, photo in photos.items() if min(photo.shape[1:]) < size]
    if names is None:
        photos = {name: photo for name, photo in photos.items() if name not in small}
    elif small:
        raise ValueError(f"{', '.join(small)} is smaller than {size} x {size}: leave it out of `names`.")
    if not photos:
        raise ValueError(f"No photograph is as large as {size} x {size}: ask for a smaller size.")
    random = np.random.default_rng(seed)
    pool = list(photos.values())
    return torch.stack([_cut(pool[random.integers(len(pool))], size, random) for _ in range(n)])


def _cut(photo: Tensor, size: int, random: np.random.Generator) -> Tensor:
    top = random.integers(photo.shape[1] - size + 1)
    left = random.integers(photo.shape[2] - size + 1)
    return photo[:, top : top + size, left : left + size]


def _names(names: tuple[str, ...] | None) -> tuple[str, ...]:
    if isinstance(names, str):
        names = (names,)
    for name in names or ():
        if name not in PHOTOS:
            raise ValueError(f"There is no photograph {name!r}: choose from {', '.join(PHOTOS)}.")
    return tuple(PHOTOS if names is None else names)


@cache
def _read(name: str):
    """The PIL image as it is stored; colour profiles are left alone, so it equals skimage.data's array."""
    from PIL import Image

    skimage = need("skimage", "scikit-image", "vaelab.data.photos")
    file = Path(skimage.__file__).parent / "data" / PHOTOS[name].file
    if not file.is_file():
        raise OSError(f"{file} is missing: install scikit-image again (`pip install --force-reinstall`).")
    return Image.open(file).convert("RGB")


def _tensor(picture, size: int | None) -> Tensor:
    from .pictures import square

    picture = picture if size is None else square(picture, size)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().div_(255).contiguous()
