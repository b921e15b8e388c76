"""scikit-learn's 1,797 handwritten digits, 8 x 8: real handwriting that needs no download."""

import numpy as np
import torch
from torch import Tensor

from . import need


def load(test: bool = False) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 8, 8) float32 in [0, 1] and labels (N,) int64: 1,442 to train on, 355 to test on.

    The split is the same on every machine and holds a fifth of each digit back (rounded down).
    The same thirteen people wrote both parts, so the test says nothing about a new hand.
    Needs scikit-learn. Source: Alpaydin and Kaynak (1998), UCI; the values 0 to 16 are divided by 16.
    """
    data = need("sklearn.datasets", "scikit-learn", "vaelab.data.digits").load_digits()
    rows = _split(data.target, test)
    images = torch.from_numpy(data.images[rows]).float().div_(16).unsqueeze(1)
    return images, torch.from_numpy(data.target[rows]).long()


def _split(labels: np.ndarray, test: bool) -> np.ndarray:
    """Row numbers, in order. RandomState, because NumPy promises its stream will never change."""
    random = np.random.RandomState(0)
    rows = []
    for digit in range(10):
        mine = random.permutation(np.flatnonzero(labels == digit))
        held_out = len(mine) // 5
        rows.append(mine[:held_out] if test else mine[held_out:])
    return np.sort(np.concatenate(rows))
