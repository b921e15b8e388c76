"""The 8 x 8 digits and their fixed split."""

import hashlib

import pytest
import torch

from vaelab.data import digits

datasets = pytest.importorskip("sklearn.datasets")


def rows(images):
    return sorted((images * 16).round().byte().flatten(1).tolist())


def test_both_parts_together_are_the_whole():
    (train, y_train), (test, y_test) = digits.load(), digits.load(test=True)
    assert train.shape == (1442, 1, 8, 8) and test.shape == (355, 1, 8, 8)
    whole = datasets.load_digits()
    assert rows(torch.cat([train, test])) == sorted(whole.data.astype(int).tolist())
    expected = torch.from_numpy(whole.target).bincount()
    assert torch.equal(y_train.bincount() + y_test.bincount(), expected)
    assert torch.equal(y_test.bincount(), expected // 5)


def test_labels_stay_with_their_images():
    whole = datasets.load_digits()
    label = {tuple(row): target for row, target in zip(whole.data.tolist(), whole.target, strict=True)}
    images, labels = digits.load(test=True)
    values = (images * 16).flatten(1).tolist()
    assert [label[tuple(row)] for row in values] == labels.tolist()


def test_range_and_type():
    images, labels = digits.load()
    assert images.dtype == torch.float32 and labels.dtype == torch.int64
    assert images.min() == 0 and images.max() == 1


def test_the_split_is_the_same_everywhere():
    chosen = digits._split(datasets.load_digits().target, test=True)
    assert chosen[:5].tolist() == [3, 7, 13, 19, 36]
    assert hashlib.sha256(chosen.astype("<i8").tobytes()).hexdigest().startswith("e2d6dd55cff9cca4")
