"""The MNIST reader on small files of the same format; on the real ones where VAELAB_DATA points at them."""

import gzip
import hashlib
import os
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from vaelab.data import mnist

IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
TARGETS = np.array([7, 2, 1, 0, 9], dtype=np.uint8)


def idx(array):
    head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(head + array.tobytes(), mtime=0)


def put(folder, name, array):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(idx(array))
    return hashlib.sha256(idx(array)).hexdigest()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Five digits at VAELAB_DATA, known as the "reordered" edition; returns their folder."""
    folder = tmp_path / "mnist"
    for name, array in ((IMAGES, PIXELS), (LABELS, TARGETS)):
        monkeypatch.setitem(mnist.EDITIONS["reordered"], name, put(folder, name, array))
    monkeypatch.setenv("VAELAB_DATA", str(tmp_path))
    return folder


def test_reads_idx_files(small):
    images, labels = mnist.load("test")
    assert images.shape == (5, 1, 28, 28) and images.dtype == torch.float32 and labels.dtype == torch.int64
    assert np.array_equal((images[:, 0] * 255).round().numpy(), PIXELS)
    assert labels.tolist() == TARGETS.tolist()


def test_a_damaged_file_is_named(small):
    content = bytearray((small / LABELS).read_bytes())
    content[-1] ^= 1
    (small / LABELS).write_bytes(content)
    with pytest.raises(ValueError, match=f"{LABELS} is damaged or another file .unknown checksum.: delete it"):
        mnist.load("test")


def test_two_editions_are_never_mixed(small, monkeypatch):
    """Pictures in one order and labels in another would load without a word and be wrong throughout."""
    monkeypatch.setitem(mnist.EDITIONS["published"], LABELS, put(small, LABELS, TARGETS[::-1].copy()))
    with pytest.raises(ValueError, match="are of two editions: take both from the same place"):
        mnist.load("test")


def pooch_that(retrieve, cache):
    module = types.ModuleType("pooch")
    module.retrieve, module.os_cache = retrieve, lambda name: cache / name
    return module


def test_without_network_one_sentence_says_what_to_do(tmp_path, monkeypatch):
    asked = []

    def offline(url, *_):
        asked.append(url)
        raise ConnectionError("no route")

    monkeypatch.delenv("VAELAB_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", pooch_that(offline, tmp_path))
    with pytest.raises(OSError, match="train-images.* not be downloaded .ConnectionError.: put .* VAELAB_DATA"):
        mnist.load()
    assert asked == [mirror + "train-images-idx3-ubyte.gz" for mirror in mnist.MIRRORS]


def test_downloads_through_pooch_with_the_published_checksum(tmp_path, monkeypatch):
    def fetch(url, known_hash, name, path):
        digest = put(path, name, PIXELS if name == IMAGES else TARGETS)
        assert known_hash == "sha256:" + mnist.EDITIONS["published"][name] == "sha256:" + digest
        return str(path / name)

    for name, array in ((IMAGES, PIXELS), (LABELS, TARGETS)):
        monkeypatch.setitem(mnist.EDITIONS["published"], name, hashlib.sha256(idx(array)).hexdigest())
    monkeypatch.setenv("VAELAB_DATA", str(tmp_path / "elsewhere"))  # set, but the files are not there
    monkeypatch.setitem(sys.modules, "pooch", pooch_that(fetch, tmp_path))
    assert mnist.load("test")[1].tolist() == TARGETS.tolist()


def test_wrong_split():
    with pytest.raises(ValueError, match="split is 'valid': give 'train' or 'test'"):
        mnist.load("valid")


def test_every_edition_knows_all_four_files():
    assert [len(set(files.values())) for files in mnist.EDITIONS.values()] == [4, 4]
    assert len({tuple(files) for files in mnist.EDITIONS.values()}) == 1


@pytest.mark.skipif(not os.environ.get("VAELAB_DATA"), reason="set VAELAB_DATA to test on the real files")
def test_the_real_files():
    images, labels = mnist.load("test")
    assert images.shape == (10000, 1, 28, 28)
    assert labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert abs(images.mean().item() - 0.1325) < 1e-4
    # Labels belong to their pictures: ones are thin, zeros are wide.
    ink = images.sum(dim=(1, 2, 3))
    assert ink[labels == 0].mean() > 1.8 * ink[labels == 1].mean()


def test_the_data_card_lists_both_editions():
    card = (Path(__file__).parents[2] / "book" / "data-cards.md").read_text(encoding="utf-8")
    for files in mnist.EDITIONS.values():
        assert all(f"{digest}  {name}\n" in card for name, digest in files.items())
