"""The ruler: one network that reads an ad's factors from its picture, and whose features measure distances.

It is trained on ads only (`python -m vaelab.recipes reader`), and nothing in the course is ever trained on it,
so that it cannot be flattered.
"""

from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from vaelab import storage
from vaelab.data import ads
from vaelab.networks import ConvEncoder

CHECKPOINT = Path(__file__).parent / "checkpoints" / "reader.safetensors"
SIZE = 64
FEATURES = 64
CHANNELS = (24, 48, 96, 128)
NUMBERS = ("scale", "contrast", "brightness", "clutter")
HEADS = {name: len(ads.WORDS[name]) for name in ("product", "theme", "background", "position", "headline")}
HEADS |= {name: 2 for name in ("badge", "call_to_action", "face")}


class FactorReader(nn.Module):
    """Pictures `(N, 3, H, W)` in [0, 1] -> features `(N, 64)`, and from them the factors of an ad."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(ConvEncoder((3, SIZE, SIZE), FEATURES, CHANNELS), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, count) for name, count in HEADS.items()})
        self.numbers = nn.Linear(FEATURES, len(NUMBERS))
        self.whole = nn.Linear(FEATURES, 2)
        # Mean and spread of the numbers in the training ads, so that the network works on standard units.
        self.register_buffer("offset", torch.zeros(len(NUMBERS)))
        self.register_buffer("spread", torch.ones(len(NUMBERS)))

    def describe(self, pictures):
        """The features `(N, 64)` that distances are taken in."""
        if pictures.shape[-2:] != (SIZE, SIZE):
            pictures = F.interpolate(pictures, (SIZE, SIZE), mode="bilinear", antialias=True)
        return self.trunk(pictures.clamp(0, 1))

    def forward(self, pictures):
        """Word factors as logits `(N, words)` each, "numbers" `(N, 4)` in standard units, "whole" `(N, 2)` as logits."""
        features = self.describe(pictures)
        words = {name: head(features) for name, head in self.heads.items()}
        return words | {"numbers": self.numbers(features), "whole": self.whole(features)}

    @torch.no_grad()
    def wholeness(self, pictures, batch_size=256):
        """Probability that each picture is one ad and not several shining through each other, `(N,)`."""
        return torch.cat([self(part)["whole"].softmax(1)[:, 1] for part in pictures.split(batch_size)])

    @torch.no_grad()
    def read(self, pictures, batch_size=256):
        """What the ads show: word factors and flags as probabilities `(N, words)`, numbers as values `(N,)`."""
        parts = [self(part) for part in pictures.split(batch_size)]
        read = {name: torch.cat([part[name] for part in parts]).softmax(1) for name in HEADS}
        values = torch.cat([part["numbers"] for part in parts]) * self.spread + self.offset
        return read | dict(zip(NUMBERS, values.T, strict=True))


def targets(factors):
    """An ad's true factors as tensors: `(N,)` int64 per word factor and flag, "numbers" `(N, 4)` as they are."""
    words = {name: torch.from_numpy(getattr(factors, name).astype("int64")) for name in HEADS}
    numbers = [torch.from_numpy(getattr(factors, name).astype("float32")) for name in NUMBERS]
    return words | {"numbers": torch.stack(numbers, 1)}


def held_out_scores(reader, pictures, factors):
    """How well the reader reads ads it never saw: accuracy per word factor and flag, R² per number."""
    truth, read = targets(factors), reader.read(pictures)
    scores = {name: float((read[name].argmax(1) == truth[name]).float().mean()) for name in HEADS}
    for i, name in enumerate(NUMBERS):
        true = truth["numbers"][:, i]
        scores[name] = float(1 - (read[name] - true).square().mean() / true.var(correction=0))
    return scores


@cache
def reader():
    """The trained reader that ships with vaelab."""
    tensors, _ = storage.read(CHECKPOINT)
    trained = FactorReader()
    trained.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return trained.eval()


def reader_scores():
    """Held-out accuracy and R² of the shipped reader, as measured when it was made."""
    return storage.read(CHECKPOINT)[1]["held_out"]


@torch.no_grad()
def describe(pictures, batch_size=256):
    """Features `(N, 64)` of ads `(N, 3, H, W)`, by the shipped reader."""
    return torch.cat([reader().describe(part) for part in pictures.split(batch_size)])
