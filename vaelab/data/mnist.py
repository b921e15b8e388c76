"""MNIST: 70,000 handwritten digits, 28 x 28. For benchmarks; the only data set that may be downloaded."""

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import need

PREFIX = {"train": "train", "test": "t10k"}
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")

# sha256 of each file, by edition. "published": the archives of LeCun, Cortes and Burges, as the mirrors give
# them. "reordered": the same pictures and labels in another order. Pictures of one edition must never meet
# labels of the other: everything would load, and every label would be wrong.
EDITIONS = {
    "published": {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    "reordered": {
        "train-images-idx3-ubyte.gz": "1dd907511cfe0e8895bcb9244f0be575b0b98f874dd31f56b1cafe1b8d5d008f",
        "train-labels-idx1-ubyte.gz": "fc3986620d55e44e30a5694be3df7829ad98d89f69e2ca652ba4016951ca0e86",
        "t10k-images-idx3-ubyte.gz": "c08ae3c185973152ce0755edb4a1fecdeeda99ba0d22ee1a3159da475a5a8a26",
        "t10k-labels-idx1-ubyte.gz": "2ba9f250aa15a68ff627f30d1a8e75f49683308d56ad99b4ffc086c1b5936b40",
    },
}


def load(split: str = "train") -> tuple[Tensor, Tensor]:
    """Images (N, 1, 28, 28) float32 in [0, 1] and labels (N,) int64; N = 60,000 ("train") or 10,000 ("test").

    `$VAELAB_DATA/mnist/*.gz` is used where it exists, otherwise the files are fetched once with pooch.
    Raises: ValueError for a damaged file or files of two editions; OSError where there is no network.
    """
    if split not in PREFIX:
        raise ValueError(f"split is {split!r}: give 'train' or 'test'.")
    images = _find(f"{PREFIX[split]}-images-idx3-ubyte.gz")
    labels = _find(f"{PREFIX[split]}-labels-idx1-ubyte.gz")
    if _edition(images) != _edition(labels):
        raise ValueError(f"{images} and {labels} are of two editions: take both from the same place.")
    pixels = torch.from_numpy(_read_idx(images)).unsqueeze(1).float().div_(255)
    return pixels, torch.from_numpy(_read_idx(labels)).long()


def _find(name: str) -> Path:
    own = os.environ.get("VAELAB_DATA")
    if own and (Path(own) / "mnist" / name).is_file():
        return Path(own) / "mnist" / name
    return _download(name)


def _download(name: str) -> Path:
    pooch = need("pooch", "pooch", "Downloading MNIST")
    known = "sha256:" + EDITIONS["published"][name]
    for mirror in MIRRORS:
        try:
            return Path(pooch.retrieve(mirror + name, known, name, pooch.os_cache("vaelab") / "mnist"))
        except (OSError, ValueError) as error:  # no network; or a proxy's page in place of the file
            reason = error
    raise OSError(
        f"{name} is not here and could not be downloaded ({type(reason).__name__}): put the four MNIST .gz"
        " files into a folder mnist/ and set VAELAB_DATA to the folder above it."
    ) from reason


def _edition(file: Path) -> str:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for edition, files in EDITIONS.items():
        if files[file.name] == digest:
            return edition
    raise ValueError(f"{file} is damaged or another file (unknown checksum): delete it and fetch it again.")


def _read_idx(file: Path) -> np.ndarray:
    """IDX: two zero bytes, the type (8 = uint8), the number of axes, their lengths (big-endian), the values."""
    content = gzip.decompress(file.read_bytes())
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()
